//! How ranks that no MPI has brought together find each other, and hear of one that has gone.
//!
//! The first rank listens until all others have come, gives each of them the word that it has made, and keeps their
//! connections. Nothing travels on them afterwards but a farewell: a connection that ends without one is that of a rank
//! that has gone, however it ended, and the first rank tells the others which. Nobody is authenticated, as nobody is by
//! the libraries that ranks talk through: the port is for the job's own network.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use super::launcher::{MeetingPoint, Place};
use crate::{Error, Result};

/// What the first rank gives the others.
pub type Word = [u8; 128];

/// How a connection of a rank begins, before its number and how many it knows of.
const HELLO: &[u8; 8] = b"ffranks1";
/// Bytes of a notice: what it is, and of which rank.
const NOTICE: usize = 5;
const COME: u8 = b'c';
const REFUSED: u8 = b'r';
const FAREWELL: u8 = b'f';
const GONE: u8 = b'g';
/// Between two tries, and two looks.
const BETWEEN_TRIES: Duration = Duration::from_millis(20);
/// How long somebody who has connected may take to say who it is.
const HELLO_TAKES: Duration = Duration::from_secs(5);

/// Connections with the others: the first rank's with each, another one's with the first.
pub struct Links {
    rank: usize,
    links: Vec<Link>,
    lost: Option<usize>,
}

struct Link {
    rank: usize,
    socket: TcpStream,
    /// Of a notice that has not come whole.
    heard: Vec<u8>,
}

impl Links {
    /// Meets all ranks of the job, and gives what `make` makes on the first.
    ///
    /// # Errors
    /// [`Error::Rendezvous`]: ranks do not come before `timeout` is over, or not those that were expected; what `make`
    /// returns.
    pub fn meet(
        place: &Place,
        at: &MeetingPoint,
        timeout: Duration,
        make: impl FnOnce() -> Result<Word>,
    ) -> Result<(Self, Word)> {
        let meeting = Meeting { place, at, deadline: Instant::now() + timeout };
        if place.rank == 0 { meeting.receive(make) } else { meeting.come() }
    }

    /// Which rank has gone without a farewell, if one has.
    pub fn lost(&mut self) -> Option<usize> {
        if self.lost.is_some() {
            return self.lost;
        }
        let mut lost = None;
        self.links.retain_mut(|link| match link.hear() {
            Heard::Nothing => true,
            Heard::Farewell => false,
            Heard::Gone(rank) => {
                lost = lost.or(Some(rank));
                false
            }
        });
        self.lost = lost;
        if let (Some(lost), 0) = (lost, self.rank) {
            // Who does not hear of it has gone, too.
            self.links.iter_mut().for_each(|link| drop(link.socket.write_all(&notice(GONE, lost))));
        }
        lost
    }

    /// Goes, with a word.
    pub fn farewell(mut self) {
        self.links.iter_mut().for_each(|link| drop(link.socket.write_all(&notice(FAREWELL, self.rank))));
    }
}

enum Heard {
    Nothing,
    Farewell,
    Gone(usize),
}

impl Link {
    fn hear(&mut self) -> Heard {
        let mut bytes = [0; NOTICE];
        while self.heard.len() < NOTICE {
            match self.socket.read(&mut bytes[self.heard.len()..]) {
                Ok(0) => return Heard::Gone(self.rank),
                Ok(n) => self.heard.extend(&bytes[self.heard.len()..][..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Heard::Nothing,
                Err(_) => return Heard::Gone(self.rank),
            }
        }
        let notice = std::mem::take(&mut self.heard);
        match notice[0] {
            FAREWELL => Heard::Farewell,
            _ => Heard::Gone(number(&notice[1..])),
        }
    }
}

fn notice(kind: u8, rank: usize) -> [u8; NOTICE] {
    let mut notice = [kind; NOTICE];
    notice[1..].copy_from_slice(&(rank as u32).to_le_bytes());
    notice
}

fn number(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes.try_into().expect("four bytes")) as usize
}

struct Meeting<'a> {
    place: &'a Place,
    at: &'a MeetingPoint,
    deadline: Instant,
}

impl Meeting<'_> {
    fn failed(&self, message: String) -> Error {
        Error::Rendezvous { rank: self.place.rank, at: self.at.to_string(), message }
    }

    fn is_over(&self) -> bool {
        Instant::now() > self.deadline
    }

    /// The first rank's part.
    fn receive(&self, make: impl FnOnce() -> Result<Word>) -> Result<(Links, Word)> {
        let MeetingPoint { host, port } = self.at;
        // A name that is not this machine's own, behind a translation of addresses: then whoever comes to the port.
        let listener = TcpListener::bind((host.as_str(), *port))
            .or_else(|_| TcpListener::bind(("::", *port)))
            .or_else(|_| TcpListener::bind(("0.0.0.0", *port)))
            .map_err(|e| self.failed(format!("expected a port to listen on, found {e}")))?;
        listener.set_nonblocking(true)?;
        let size = self.place.size;
        let mut others: Vec<Option<TcpStream>> = (1..size).map(|_| None).collect();
        while others.iter().any(Option::is_none) {
            match listener.accept() {
                Ok((socket, _)) => self.take_in(socket, &mut others)?,
                Err(_) if !self.is_over() => thread::sleep(BETWEEN_TRIES),
                Err(_) => {
                    let missing = (1..size).filter(|rank| others[rank - 1].is_none());
                    let missing: Vec<String> = missing.map(|rank| rank.to_string()).collect();
                    let message =
                        format!("expected {size} ranks, and these have not come: {}", missing.join(", "));
                    return Err(self.failed(message));
                }
            }
        }
        let word = make()?;
        let mut links = Vec::new();
        for (rank, mut socket) in (1..).zip(others.into_iter().flatten()) {
            let gone = |e| self.failed(format!("rank {rank} has gone: {e}"));
            let said = socket.write_all(&notice(COME, 0)).and_then(|()| socket.write_all(&word));
            said.and_then(|()| socket.set_nonblocking(true)).map_err(gone)?;
            links.push(Link { rank, socket, heard: Vec::new() });
        }
        Ok((Links { rank: 0, links, lost: None }, word))
    }

    /// Somebody who has come: a rank, or a stranger, who is sent away.
    fn take_in(&self, mut socket: TcpStream, others: &mut [Option<TcpStream>]) -> Result<()> {
        let mut hello = [0; HELLO.len() + 8];
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(HELLO_TAKES))?;
        if socket.read_exact(&mut hello).is_err() || !hello.starts_with(HELLO) {
            return Ok(());
        }
        let (rank, size) = (number(&hello[8..12]), number(&hello[12..]));
        let expected = self.place.size;
        let message = match others.get_mut(rank.wrapping_sub(1)) {
            Some(other) if size == expected && other.is_none() => {
                *other = Some(socket);
                return Ok(());
            }
            Some(_) if size == expected => format!("expected one rank {rank}, found two"),
            _ => format!("expected ranks of a job of {expected}, found rank {rank} of {size}"),
        };
        // It hears the same from there.
        drop(socket.write_all(&notice(REFUSED, size)));
        Err(self.failed(message))
    }

    /// The others' part.
    fn come(&self) -> Result<(Links, Word)> {
        let Place { rank, size, .. } = *self.place;
        let mut socket = self.connect()?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        socket.set_read_timeout(Some(left.max(BETWEEN_TRIES)))?;
        let mut hello = HELLO.to_vec();
        hello.extend([rank, size].iter().flat_map(|&number| (number as u32).to_le_bytes()));
        let (mut said, mut word) = ([0; NOTICE], [0; 128]);
        let heard = socket.write_all(&hello).and_then(|()| socket.read_exact(&mut said));
        heard.map_err(|e| self.failed(format!("expected rank 0 to answer, found {e}")))?;
        if said[0] != COME {
            let message = format!("rank 0 expects other ranks than rank {rank} of {size}");
            return Err(self.failed(message));
        }
        socket
            .read_exact(&mut word)
            .and_then(|()| socket.set_nonblocking(true))
            .map_err(|e| self.failed(format!("rank 0 has gone: {e}")))?;
        let link = Link { rank: 0, socket, heard: Vec::new() };
        Ok((Links { rank, links: vec![link], lost: None }, word))
    }

    fn connect(&self) -> Result<TcpStream> {
        let MeetingPoint { host, port } = self.at;
        loop {
            // Names may be known later than machines are up.
            let addresses = (host.as_str(), *port).to_socket_addrs().map(Vec::from_iter);
            let found = addresses.and_then(|addresses| TcpStream::connect(&*addresses));
            match found {
                Ok(socket) => return Ok(socket),
                Err(_) if !self.is_over() => thread::sleep(BETWEEN_TRIES),
                Err(e) => return Err(self.failed(format!("expected rank 0 to listen there, found {e}"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For what is not stuck on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(300);

    /// A port that nobody has, most likely for a while.
    fn meeting_point() -> MeetingPoint {
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        MeetingPoint { host: "127.0.0.1".to_owned(), port: free.port() }
    }

    fn place(rank: usize, size: usize) -> Place {
        Place { launcher: "torchrun", rank, size, local_rank: Some(rank) }
    }

    fn meet(at: &MeetingPoint, rank: usize, size: usize, timeout: Duration) -> Result<(Links, Word)> {
        Links::meet(&place(rank, size), at, timeout, || Ok([7; 128]))
    }

    fn all_meet(size: usize) -> Vec<Links> {
        let at = meeting_point();
        thread::scope(|scope| {
            let at = &at;
            let threads: Vec<_> =
                (0..size).rev().map(|rank| scope.spawn(move || meet(at, rank, size, PATIENCE))).collect();
            let met = threads.into_iter().rev().map(|thread| thread.join().unwrap().unwrap());
            met.map(|(links, word)| {
                assert_eq!(word, [7; 128]);
                links
            })
            .collect()
        })
    }

    fn lost(links: &mut Links) -> usize {
        loop {
            match links.lost() {
                Some(rank) => return rank,
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    #[test]
    fn a_rank_that_goes_is_named_to_all_others() {
        let mut all = all_meet(4);
        assert!(all.iter_mut().all(|links| links.lost().is_none()));
        drop(all.remove(2));
        for links in &mut all {
            assert_eq!(lost(links), 2);
        }
    }

    #[test]
    fn the_first_one_is_missed_by_all() {
        let mut all = all_meet(3);
        drop(all.remove(0));
        assert!(all.iter_mut().all(|links| lost(links) == 0));
    }

    #[test]
    fn who_says_farewell_is_not_missed() {
        let mut all = all_meet(3);
        all.remove(1).farewell();
        let last = all.pop().unwrap();
        // What was said before this end was heard.
        drop(last);
        assert_eq!(lost(&mut all[0]), 2);
    }

    #[test]
    fn strangers_are_sent_away_and_ranks_that_do_not_come_are_named() {
        let at = meeting_point();
        let soon = Duration::from_millis(300);
        let found = thread::scope(|scope| {
            let first = scope.spawn(|| meet(&at, 0, 4, PATIENCE));
            let mut stranger = loop {
                if let Ok(socket) = TcpStream::connect((at.host.as_str(), at.port)) {
                    break socket;
                }
            };
            stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            // It closes the connection, with or without what it has not read.
            assert!(!matches!(stranger.read(&mut [0]), Ok(1)));
            let wrong = meet(&at, 1, 2, PATIENCE).err().unwrap();
            (first.join().unwrap().err().unwrap().to_string(), wrong.to_string())
        });
        let expected = format!("rank 0 at {at}: expected ranks of a job of 4, found rank 1 of 2");
        assert_eq!(found, (expected, format!("rank 1 at {at}: rank 0 expects other ranks than rank 1 of 2")));
        let missing = meet(&meeting_point(), 0, 3, soon).err().unwrap().to_string();
        assert!(missing.ends_with("expected 3 ranks, and these have not come: 1, 2"), "{missing}");
        let alone = meet(&meeting_point(), 1, 3, soon).err().unwrap().to_string();
        assert!(alone.contains("expected rank 0 to listen there"), "{alone}");
    }
}
