//! Files of a server of the test's own, as good or as bad as the test wants it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ff_core::files::sha256;
use ff_hub::address::{RemoteFile, fetch};
use ff_hub::{Error, Transfer};
use fs_err as fs;
use tempfile::TempDir;

const LEN: usize = 300_000;
const CUT: usize = 100_000;

/// Bytes that do not repeat soon.
fn file() -> Vec<u8> {
    (0..LEN as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// How a server behaves.
#[derive(Clone)]
struct Behaviour {
    file: Vec<u8>,
    /// Bytes after which it breaks the connection.
    cut_after: usize,
    /// A status that it answers everything with, if not the file.
    status: Option<&'static str>,
    /// Whether it keeps connections open when it has nothing more to say.
    silent: bool,
    /// Whether it always sends the whole file.
    ignores_ranges: bool,
    /// Where in the file it begins, whatever it is asked for.
    wrong_range: bool,
    /// Whether it says how long the file is.
    says_length: bool,
    /// The server that it sends everybody on to.
    moved_to: Option<String>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            file: file(),
            cut_after: usize::MAX,
            status: None,
            silent: false,
            ignores_ranges: false,
            wrong_range: false,
            says_length: true,
            moved_to: None,
        }
    }
}

struct Server {
    address: String,
    behaviour: Arc<Mutex<Behaviour>>,
    /// The path of every request, and the first byte that it asks for.
    requests: Arc<Mutex<Vec<(String, usize)>>>,
    dir: TempDir,
}

impl Server {
    /// Serves until the process ends.
    fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let behaviour = Arc::new(Mutex::new(behaviour));
        let requests = Arc::<Mutex<Vec<(String, usize)>>>::default();
        let (dir, answers, log) =
            (tempfile::tempdir().unwrap(), Arc::clone(&behaviour), Arc::clone(&requests));
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let (stream, behaviour) = (stream.unwrap(), answers.lock().unwrap().clone());
                // A client that hangs up is no concern of the server's.
                let _ = answer(stream.try_clone().unwrap(), &behaviour, &log);
                if behaviour.silent {
                    open.push(stream);
                }
            }
        });
        Self { address, behaviour, requests, dir }
    }

    fn become_(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// First bytes that were asked for.
    fn starts(&self) -> Vec<usize> {
        self.requests.lock().unwrap().iter().map(|r| r.1).collect()
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("deep/model.bin")
    }

    /// Bytes that an unfinished transfer has left.
    fn part(&self) -> Option<Vec<u8>> {
        fs::read(self.dir.path().join("deep/model.bin.part")).ok()
    }

    fn fetch_known(&self, bytes: Option<u64>, progress: &mut dyn FnMut(Transfer)) -> Result<(), String> {
        let address = format!("{}/releases/model.bin", self.address);
        let wanted = RemoteFile { address: &address, bytes, sha256: &sha256(&file()) };
        // Nobody waits so long but for a server that is silent by design.
        let timeout = if self.behaviour.lock().unwrap().silent { 1 } else { 60 };
        fetch(wanted, &self.path(), Duration::from_secs(timeout), progress).map_err(|error| {
            assert!(matches!(&error, Error::Download { what, .. } if *what == address), "{error:?}");
            error.to_string()
        })
    }

    fn fetch(&self) -> Result<(), String> {
        self.fetch_known(None, &mut |_| {})
    }

    #[track_caller]
    fn assert_fetched(&self) {
        self.fetch().unwrap();
        assert!(fs::read(self.path()).unwrap() == file());
        assert_eq!(self.part(), None);
    }

    #[track_caller]
    fn assert_says(&self, expected: &[&str]) {
        let message = self.fetch().unwrap_err();
        for part in expected {
            assert!(message.contains(part), "{part:?} is missing in {message}");
        }
        assert!(!self.path().exists(), "nothing under the file's name");
    }
}

fn answer(
    mut stream: TcpStream,
    behaviour: &Behaviour,
    requests: &Mutex<Vec<(String, usize)>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap()?;
    let headers: Vec<String> = lines.map(|line| line.unwrap()).take_while(|line| !line.is_empty()).collect();
    let asked = headers.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let start = value.strip_prefix("bytes=")?.strip_suffix('-')?;
        name.eq_ignore_ascii_case("range").then(|| start.parse::<usize>().unwrap())
    });
    let path = first.split(' ').nth(1).unwrap().to_owned();
    requests.lock().unwrap().push((path.clone(), asked.unwrap_or(0)));
    if let Some(status) = behaviour.status {
        return write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if let Some(server) = &behaviour.moved_to {
        let headers = "Content-Length: 0\r\nConnection: close\r\n\r\n";
        return write!(stream, "HTTP/1.1 302 Found\r\nLocation: {server}/storage{path}\r\n{headers}");
    }
    if behaviour.cut_after == 0 {
        return Ok(());
    }
    let (file, start) = (&behaviour.file, asked.filter(|_| !behaviour.ignores_ranges));
    match start {
        Some(start) if start >= file.len() => {
            return write!(stream, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n");
        }
        Some(start) => {
            let start = if behaviour.wrong_range { start + 1 } else { start };
            let (last, len) = (file.len() - 1, file.len());
            write!(stream, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{last}/{len}\r\n")?;
        }
        None => write!(stream, "HTTP/1.1 200 OK\r\n")?,
    }
    let rest = &file[start.unwrap_or(0)..];
    if behaviour.says_length {
        write!(stream, "Content-Length: {}\r\n", rest.len())?;
    }
    write!(stream, "Connection: close\r\n\r\n")?;
    stream.write_all(&rest[..rest.len().min(behaviour.cut_after)])
}

#[test]
fn a_file_arrives_through_redirects_and_is_fetched_once() {
    let server = Server::start(Behaviour::default());
    let front = Server::start(Behaviour { moved_to: Some(server.address.clone()), ..Behaviour::default() });
    let mut progress = Vec::new();
    front.fetch_known(Some(LEN as u64), &mut |transfer| progress.push(transfer)).unwrap();
    assert_eq!(progress.last(), Some(&Transfer { done: LEN as u64, total: LEN as u64 }));
    assert!(progress.windows(2).all(|pair| pair[0].done < pair[1].done));
    front.assert_fetched();
    assert_eq!(*server.requests.lock().unwrap(), [("/storage/releases/model.bin".to_owned(), 0)]);

    // Another file under its name is not taken for it.
    fs::write(front.path(), "another").unwrap();
    front.assert_fetched();
    assert_eq!(server.starts(), [0, 0]);
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped_through_redirects_too() {
    let server = Server::start(Behaviour { cut_after: CUT, ..Behaviour::default() });
    let front = Server::start(Behaviour { moved_to: Some(server.address.clone()), ..Behaviour::default() });
    front.assert_fetched();
    assert_eq!(server.starts(), [0, CUT, 2 * CUT]);

    // Broken more often than it is taken up: the next call goes on.
    let server = Server::start(Behaviour { cut_after: CUT / 10, ..Behaviour::default() });
    server.assert_says(&["the connection broke again and again", "run it again"]);
    let arrived = server.starts().len() * (CUT / 10);
    assert!(server.part().unwrap() == file()[..arrived], "what arrived is kept");
    server.become_(Behaviour::default());
    server.assert_fetched();
    assert_eq!(server.starts().last(), Some(&arrived));
}

#[test]
fn what_cannot_be_continued_begins_again() {
    // A server that knows no ranges.
    let server = Server::start(Behaviour { cut_after: CUT, ignores_ranges: true, ..Behaviour::default() });
    server.assert_says(&["the connection broke again and again"]);
    assert_eq!(server.part().unwrap().len(), CUT, "each attempt begins again");
    server.become_(Behaviour { ignores_ranges: true, ..Behaviour::default() });
    server.assert_fetched();

    // One that answers with another range than it was asked for.
    let server = Server::start(Behaviour { cut_after: CUT, wrong_range: true, ..Behaviour::default() });
    server.assert_says(&["the connection broke again and again"]);
    server.become_(Behaviour::default());
    server.assert_fetched();

    // A part that is longer than the file.
    let server = Server::start(Behaviour::default());
    fs::create_dir_all(server.path().parent().unwrap()).unwrap();
    fs::write(server.dir.path().join("deep/model.bin.part"), vec![7; LEN + 1]).unwrap();
    server.assert_fetched();
    assert_eq!(server.starts(), [LEN + 1, 0]);

    // A part that is whole, as after a kill at the last moment.
    let server = Server::start(Behaviour::default());
    fs::create_dir_all(server.path().parent().unwrap()).unwrap();
    fs::write(server.dir.path().join("deep/model.bin.part"), file()).unwrap();
    server.assert_fetched();
    assert!(server.starts().is_empty());
}

#[test]
fn another_file_is_deleted_and_refused() {
    let mut other = file();
    other[LEN / 2] ^= 1;
    let server = Server::start(Behaviour { file: other.clone(), ..Behaviour::default() });
    server.assert_says(&[
        &format!("expected SHA-256 {}, found {}", sha256(&file()), sha256(&other)),
        "deleted; run it again",
    ]);
    assert_eq!(server.part(), None);
    server.become_(Behaviour::default());
    server.assert_fetched();

    // The beginning of another file, continued by the right one.
    let server = Server::start(Behaviour::default());
    fs::create_dir_all(server.path().parent().unwrap()).unwrap();
    fs::write(server.dir.path().join("deep/model.bin.part"), &other[..LEN - 1]).unwrap();
    server.assert_says(&["expected SHA-256"]);
    server.assert_fetched();

    // Without a length, a break looks like the end.
    let quiet = Behaviour { says_length: false, cut_after: CUT, ..Behaviour::default() };
    let server = Server::start(quiet.clone());
    server.assert_says(&["expected SHA-256"]);
    server.become_(Behaviour { cut_after: usize::MAX, ..quiet });
    server.assert_fetched();
}

#[test]
fn a_file_of_another_length_is_refused_before_or_while_it_comes() {
    let server = Server::start(Behaviour::default());
    let known = |bytes: usize| server.fetch_known(Some(bytes as u64), &mut |_| {}).unwrap_err();
    assert!(known(LEN - 1).contains(&format!("expected a file of {} bytes, found one of {LEN}", LEN - 1)));
    assert_eq!(server.part().unwrap().len(), 0, "nothing was taken");
    server.become_(Behaviour { says_length: false, ..Behaviour::default() });
    let message = known(CUT);
    assert!(message.contains(&format!("expected a file of at most {CUT} bytes")), "{message}");
    assert_eq!(server.part().unwrap().len(), 0, "an endless file does not fill the disk");
}

#[test]
fn a_silent_server_is_given_up_and_what_came_is_kept() {
    for cut_after in [0, CUT] {
        let server = Server::start(Behaviour { cut_after, silent: true, ..Behaviour::default() });
        let host = server.address.strip_prefix("http://").unwrap().to_owned();
        let given_up = || {
            server.assert_says(&[
                &format!("nothing came from {host} for 1 s; run it again, it goes on where it stopped"),
                "FAIRFACE_MIRROR",
            ]);
            let arrived = server.part().unwrap().len();
            // A machine so busy that nothing came within the second is asked again.
            (arrived > 0 || cut_after == 0).then_some(arrived)
        };
        let arrived = (0..5).find_map(|_| given_up()).expect("what had arrived is kept");
        assert!(server.part().unwrap() == file()[..arrived]);
        server.become_(Behaviour::default());
        server.assert_fetched();
        assert_eq!(server.starts().last(), Some(&arrived));
    }
}

#[test]
fn refusals_and_a_missing_network_say_what_to_do() {
    let server = Server::start(Behaviour::default());
    for (status, expected) in [
        ("404 Not Found", &["has no such file (404)", "FAIRFACE_MIRROR"][..]),
        ("403 Forbidden", &["refuses (403)"]),
        ("503 Service Unavailable", &["answered 503", "later"]),
    ] {
        server.become_(Behaviour { status: Some(status), ..Behaviour::default() });
        let n_requests = server.starts().len();
        server.assert_says(expected);
        assert_eq!(server.starts().len(), n_requests + 1, "a refusal is not asked for again");
    }
    // In circles.
    server.become_(Behaviour { moved_to: Some(server.address.clone()), ..Behaviour::default() });
    server.assert_says(&["cannot be reached", "redirect"]);
    // A port that nobody listens on.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    server.become_(Behaviour { moved_to: Some(format!("http://{gone}")), ..Behaviour::default() });
    server.assert_says(&["cannot be reached", "FAIRFACE_MIRROR can name a mirror"]);
}

#[test]
fn two_at_once_do_not_write_into_one_file() {
    let server = Server::start(Behaviour::default());
    fs::create_dir_all(server.path().parent().unwrap()).unwrap();
    let other = fs::File::create(server.dir.path().join("deep/model.bin.part")).unwrap();
    other.lock().unwrap();
    server.assert_says(&["another process is getting it", "wait for it"]);
    assert!(server.starts().is_empty());
    drop(other);
    server.assert_fetched();
}
