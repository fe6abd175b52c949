//! Where a server listens, who may talk to it, and for how long.

use std::fmt;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Where a server listens, who may talk to it, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 is any free one.
    pub address: SocketAddr,
    /// What every client must send. None is needed where only this machine can reach the address.
    pub token: Option<Token>,
    /// Names that clients may call this machine by, beside those of its loopback and the address itself.
    pub hosts: Vec<String>,
    /// Connections at once; further ones wait.
    pub max_connections: usize,
    /// How long the head of a request may take, and how long a connection may be idle.
    pub header_timeout: Duration,
    /// How long an answer may take to be taken; of a stream of events, each part that is not taken at once.
    pub write_timeout: Duration,
    /// How long requests that have begun may take when the server is asked to stop.
    pub shutdown_timeout: Duration,
}

impl Default for Options {
    /// 127.0.0.1:8080 for this machine alone.
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            token: None,
            hosts: Vec::new(),
            max_connections: 256,
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}

impl Options {
    /// # Errors
    /// The address can be reached from elsewhere, and there is no token.
    pub fn check(&self) -> Result<()> {
        match self.address.ip().is_loopback() || self.token.is_some() {
            true => Ok(()),
            false => Err(Error::OpenToAll { address: self.address }),
        }
    }
}

/// A secret that clients send, kept as its hash.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// The shortest token: 16 characters of a random text are beyond guessing over a network.
const MIN_TOKEN: usize = 16;
/// The longest.
const MAX_TOKEN: usize = 1024;

impl Token {
    /// The token that a file's first line holds.
    ///
    /// # Errors
    /// The file cannot be read, or its first line is no token: 16 to 1024 visible ASCII characters.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs_err::read_to_string(path)?;
        let token = text.lines().next().unwrap_or_default().trim();
        let bad = |message| Error::BadToken { path: path.to_owned(), message };
        if !(MIN_TOKEN..=MAX_TOKEN).contains(&token.len()) {
            let found = token.len();
            return Err(bad(format!(
                "expected a token of {MIN_TOKEN} to {MAX_TOKEN} characters in the first line, found {found}"
            )));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad("expected a token of visible ASCII characters, found others".to_owned()));
        }
        Ok(Self::new(token))
    }

    /// A token that is known already.
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether it is this one, in a time that does not tell how much of it was right.
    pub fn is(&self, said: &[u8]) -> bool {
        let said: [u8; 32] = Sha256::digest(said).into();
        let differences = self.0.iter().zip(said).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
        differences == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_alone() {
        let token = Token::new("a long enough one");
        assert!(token.is(b"a long enough one"));
        for other in ["", "a", "a long enough on", "a long enough one ", "A long enough one"] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)", "it is in no log");
    }

    #[test]
    fn a_file_without_a_token_says_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for (text, said) in [
            ("", "expected a token of 16 to 1024 characters in the first line, found 0"),
            ("short\n0123456789abcdef\n", "found 5"),
            ("0123456789 abcdef", "expected a token of visible ASCII characters"),
        ] {
            fs_err::write(&path, text).unwrap();
            let error = Token::read(&path).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("token: "), "{error}");
        }
        fs_err::write(&path, "0123456789abcdef\r\nwhat it is for\n").unwrap();
        assert!(Token::read(&path).unwrap().is(b"0123456789abcdef"));
    }
}
