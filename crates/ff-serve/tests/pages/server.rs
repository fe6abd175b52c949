//! A server on a port of its own, and a client that says exactly what it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use ff_serve::{Options, Router, Shutdown, serve};

/// What a test waits for an answer at most, before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    pub address: SocketAddr,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(routes: impl FnOnce(&Shutdown) -> ff_serve::Result<Router>) -> Self {
        let shutdown = Shutdown::new();
        let routes = routes(&shutdown).unwrap();
        let options = Options { address: "127.0.0.1:0".parse().unwrap(), ..Options::default() };
        let (told, hears) = mpsc::channel();
        let of_server = shutdown.clone();
        let thread = std::thread::spawn(move || {
            serve(&options, routes, &of_server, |address| told.send(address).unwrap()).unwrap();
        });
        Self { address: hears.recv_timeout(PATIENCE).unwrap(), shutdown, thread: Some(thread) }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    /// Posts a form.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], fields: &[(&str, &str)]) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let headers = [&[("content-type", "application/x-www-form-urlencoded")], headers].concat();
        self.send("POST", path, &headers, &form)
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = self.connect(method, path, headers, body);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).unwrap(), 0, "a whole head, found {head:?}");
        }
        let mut body = Vec::new();
        stream.read_to_end(&mut body).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body }
    }

    /// Sends a request, whose answer is still to come.
    pub fn connect(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (host, length) = (self.address, body.len());
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        )
        .unwrap();
        BufReader::new(stream)
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) {
        self.shutdown.begin();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.begin();
        // A test that has failed already is not made to fail twice.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// What a problem says.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        problem["detail"].as_str().unwrap().to_owned()
    }

    /// A page.
    #[track_caller]
    pub fn page(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text());
        assert!(
            self.head.contains("content-security-policy: default-src 'none'; script-src 'self'"),
            "{}",
            self.head
        );
        let text = self.text();
        assert!(!text.contains("style=\"") && !text.contains("<script>"), "nothing that the policy refuses");
        text
    }
}

/// Server-sent events, one by one.
pub struct Events(BufReader<TcpStream>);

#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: String,
    pub id: Option<u64>,
    pub data: String,
}

impl Events {
    pub fn of(server: &Server, path: &str, last: Option<u64>) -> Self {
        let last = last.map(|id| id.to_string());
        let headers: Vec<(&str, &str)> = last.iter().map(|id| ("last-event-id", id.as_str())).collect();
        let mut stream = server.connect("GET", path, &headers, "");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).unwrap(), 0, "a whole head, found {head:?}");
        }
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        Self(stream)
    }

    /// The next event; `None` where the stream ends. Chunks hold whole events, as they are sent one by one.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            let mut size = String::new();
            self.0.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            self.0.read_exact(&mut chunk).unwrap();
            let chunk = String::from_utf8(chunk).unwrap();
            if size == 0 {
                return None;
            }
            let field = |name: &str| chunk.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            // What only keeps the connection open has no event.
            if let Some(kind) = field("event:") {
                let id = field("id:").map(|id| id.parse().unwrap());
                return Some(Event { kind: kind.to_owned(), id, data: field("data:").unwrap().to_owned() });
            }
        }
    }
}
