//! Files at plain addresses, as those of a release on GitHub.
//!
//! An address announces no hash, so whoever asks has to know it: what arrives is summed up on the way, and bears the
//! file's name only when the sum is right. Until then it is `NAME.part`, which the next attempt continues, in the same
//! process or in another; a server that cannot continue begins again. Redirects are followed, from https to https only.
//! Proxies are those that the environment names. `FAIRFACE_MIRROR` replaces `https://github.com`.

use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ff_core::files::Sha256Sum;
use fs_err as fs;
use ureq::http::header::{CONTENT_RANGE, RANGE};
use ureq::{Agent, Body};

use crate::explain::{Server, breaks_off, sends_too_much};
use crate::{Error, MAX_DOWNLOAD, RETRIES, Result, Transfer};

/// A file at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteFile<'a> {
    /// Where it is, with `https://` or `http://`.
    pub address: &'a str,
    /// Its length, where that is known.
    pub bytes: Option<u64>,
    /// Its SHA-256 in lowercase hexadecimal.
    pub sha256: &'a str,
}

/// Where releases lie, and the variable that names a mirror.
const RELEASES: &str = "https://github.com";
const MIRROR: &str = "FAIRFACE_MIRROR";
/// Between two attempts: a server that restarts needs a moment.
const PAUSE: Duration = Duration::from_millis(300);
/// Bytes that are taken off the network at once.
const PIECE: usize = 1 << 16;

/// Gets a file to `path`; one that is there already and is the right one is left alone. Nothing is waited for longer
/// than `timeout`.
///
/// # Errors
/// [`Error::Download`] says what to do: offline, no such file, another file, a break. What has arrived stays as
/// `NAME.part`, unless it is wrong. [`Error::Io`] if it cannot be written.
pub fn fetch(
    wanted: RemoteFile<'_>,
    path: &Path,
    timeout: Duration,
    progress: &mut dyn FnMut(Transfer),
) -> Result<()> {
    let address = mirrored(wanted.address, std::env::var(MIRROR).ok());
    let failed = |reason: String| Error::Download { what: address.clone(), reason };
    if is_there(path, wanted.sha256)? {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut part = Part::open(path)?
        .ok_or_else(|| failed(format!("another process is getting it to {}; wait for it", path.display())))?;
    // Another process may have finished it in the meantime.
    if is_there(path, wanted.sha256)? {
        return part.remove();
    }
    let found = match part.sum.hex() {
        whole if whole == wanted.sha256 => whole,
        _ => {
            let download = Download { wanted, address: &address, timeout };
            download.run(&mut part, progress).map_err(|failure| match failure {
                Failure::Io(error) => Error::Io(error),
                failure => failed(download.explain(&failure)),
            })?;
            part.sum.hex()
        }
    };
    if found != wanted.sha256 {
        part.remove()?;
        return Err(failed(format!(
            "expected SHA-256 {}, found {found}: damaged on the way or another file, and deleted; run it again",
            wanted.sha256
        )));
    }
    part.finish(path)
}

/// An address, or what stands for it on a mirror.
fn mirrored(address: &str, mirror: Option<String>) -> String {
    let mirror = mirror.as_deref().map(|mirror| mirror.trim().trim_end_matches('/'));
    match (address.strip_prefix(RELEASES), mirror.filter(|mirror| !mirror.is_empty())) {
        (Some(rest), Some(mirror)) => format!("{mirror}{rest}"),
        _ => address.to_owned(),
    }
}

/// Whether the file is there already; one of this name that is another is none.
fn is_there(path: &Path, sha256: &str) -> Result<bool> {
    match fs::File::open(path) {
        Ok(mut file) => Ok(sum_of(&mut file)?.0.hex() == sha256),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The sum and the length of what is left of a file.
fn sum_of(file: &mut impl Read) -> Result<(Sha256Sum, u64)> {
    let (mut sum, mut len, mut piece) = (Sha256Sum::default(), 0, vec![0; PIECE]);
    loop {
        let n = file.read(&mut piece)?;
        if n == 0 {
            return Ok((sum, len));
        }
        sum.update(&piece[..n]);
        len += n as u64;
    }
}

/// What has arrived of a file, and nobody else's as long as this lives.
struct Part {
    path: PathBuf,
    file: fs::File,
    sum: Sha256Sum,
    len: u64,
}

impl Part {
    /// `None` while another process has it.
    fn open(whole: &Path) -> Result<Option<Self>> {
        let mut path = whole.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let mut file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            Err(std::fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        let (sum, len) = sum_of(&mut file)?;
        Ok(Some(Self { path, file, sum, len }))
    }

    fn write(&mut self, piece: &[u8]) -> std::io::Result<()> {
        self.file.write_all(piece)?;
        self.sum.update(piece);
        self.len += piece.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.sum, self.len) = (Sha256Sum::default(), 0);
        Ok(())
    }

    fn remove(self) -> Result<()> {
        Ok(fs::remove_file(&self.path)?)
    }

    fn finish(self, path: &Path) -> Result<()> {
        self.file.sync_all()?;
        Ok(fs::rename(&self.path, path)?)
    }
}

/// Why a file did not arrive.
enum Failure {
    /// It may go on where it stopped.
    Broken(String),
    Request(ureq::Error),
    Silent,
    TooLong(u64),
    OtherLength(u64),
    Io(std::io::Error),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(_) => Self::Silent,
            error => Self::Request(error),
        }
    }
}

/// A file that is on its way.
struct Download<'a> {
    wanted: RemoteFile<'a>,
    address: &'a str,
    timeout: Duration,
}

impl Download<'_> {
    fn run(&self, part: &mut Part, progress: &mut dyn FnMut(Transfer)) -> Result<(), Failure> {
        let agent: Agent = Agent::config_builder()
            .https_only(self.address.starts_with("https://"))
            .accept_encoding("identity")
            .timeout_resolve(Some(self.timeout))
            .timeout_connect(Some(self.timeout))
            .timeout_per_read(Some(self.timeout))
            .build()
            .into();
        let mut last = match self.attempt(&agent, part, progress) {
            Err(Failure::Broken(reason)) => reason,
            ended => return ended,
        };
        for _ in 0..RETRIES {
            std::thread::sleep(PAUSE);
            last = match self.attempt(&agent, part, progress) {
                Err(Failure::Broken(reason)) => reason,
                // A server that was there a moment ago.
                Err(Failure::Request(error)) if !matches!(error, ureq::Error::StatusCode(_)) => {
                    error.to_string()
                }
                ended => return ended,
            };
        }
        Err(Failure::Broken(last))
    }

    /// One request, and what comes of it into the part.
    fn attempt(
        &self,
        agent: &Agent,
        part: &mut Part,
        progress: &mut dyn FnMut(Transfer),
    ) -> Result<(), Failure> {
        let mut request = agent.get(self.address);
        if part.len > 0 {
            request = request.header(RANGE, format!("bytes={}-", part.len));
        }
        let answer = match request.call() {
            // There is nothing after what has arrived, and yet it is not the file.
            Err(ureq::Error::StatusCode(416)) if part.len > 0 => {
                part.restart()?;
                return Err(Failure::Broken("a range that there is not (416)".to_owned()));
            }
            answer => answer?,
        };
        let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
        match answer.status().as_u16() {
            206 if range.is_some_and(|range| range.starts_with(&format!("bytes {}-", part.len))) => {}
            206 => {
                let reason = format!("an answer from another place, {}", range.unwrap_or("not named"));
                part.restart()?;
                return Err(Failure::Broken(reason));
            }
            _ => part.restart()?,
        }
        self.take(answer.into_body(), part, progress)
    }

    fn take(&self, body: Body, part: &mut Part, progress: &mut dyn FnMut(Transfer)) -> Result<(), Failure> {
        let total = body.content_length().map(|rest| part.len + rest);
        let limit = self.wanted.bytes.unwrap_or(MAX_DOWNLOAD);
        match (total, self.wanted.bytes) {
            (Some(total), Some(bytes)) if total != bytes => return Err(Failure::OtherLength(total)),
            (Some(total), None) if total > limit => return Err(Failure::TooLong(total)),
            _ => {}
        }
        let total = total.or(self.wanted.bytes);
        let (mut body, mut piece) = (body.into_reader(), vec![0; PIECE]);
        loop {
            let n = match body.read(&mut piece) {
                Ok(n) => n,
                Err(error) => match ureq::Error::from(error) {
                    ureq::Error::Timeout(_) => return Err(Failure::Silent),
                    error => return Err(Failure::Broken(error.to_string())),
                },
            };
            if n == 0 {
                break;
            }
            part.write(&piece[..n])?;
            if part.len > limit {
                let found = part.len;
                part.restart()?;
                return Err(Failure::TooLong(found));
            }
            progress(Transfer { done: part.len, total: total.unwrap_or(part.len) });
        }
        match total {
            Some(total) if part.len < total => {
                Err(Failure::Broken(format!("the end after {} of {total} bytes", part.len)))
            }
            _ => Ok(()),
        }
    }

    fn explain(&self, failure: &Failure) -> String {
        let host = self.address.split("://").last().and_then(|rest| rest.split('/').next());
        let server = Server { name: host.unwrap_or_default(), mirror: MIRROR };
        match failure {
            Failure::Broken(last) => breaks_off(last),
            Failure::Request(ureq::Error::StatusCode(status @ (404 | 410))) => {
                format!("{} has no such file ({status}); {MIRROR} can name a mirror", server.name)
            }
            Failure::Request(ureq::Error::StatusCode(status @ (401 | 403))) => {
                format!("{} refuses ({status}); {MIRROR} can name a mirror", server.name)
            }
            Failure::Request(error) => server.failed(error),
            Failure::Silent => server.is_silent(self.timeout),
            Failure::TooLong(found) => sends_too_much(self.wanted.bytes.unwrap_or(MAX_DOWNLOAD), *found),
            Failure::OtherLength(found) => format!(
                "expected a file of {} bytes, found one of {found}: another file",
                self.wanted.bytes.unwrap_or_default()
            ),
            Failure::Io(error) => error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_stands_for_the_server_of_releases_only() {
        let mirror = |text: &str| Some(text.to_owned());
        for (address, named, expected) in [
            ("https://github.com/a/b", mirror("http://localhost:1/x/"), "http://localhost:1/x/a/b"),
            ("https://github.com/a/b", mirror(" "), "https://github.com/a/b"),
            ("https://github.com/a/b", None, "https://github.com/a/b"),
            ("https://example.org/a/b", mirror("http://localhost:1"), "https://example.org/a/b"),
        ] {
            assert_eq!(mirrored(address, named), expected);
        }
    }
}
