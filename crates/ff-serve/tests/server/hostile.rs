//! Clients that lie, dawdle, leave, or should not be here. After each the server answers the next.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use axum::response::sse::{Event, Sse};
use axum::routing::get as gets;
use ff_serve::{Options, Router, Token};
use futures_util::stream::iter;

use crate::client::{PATIENCE, Reply, get, open, post, request};
use crate::place::{Place, Setup, face};

const CROP: &str = "/v1/faces?faces=crop";

/// Asserts that a usual request is answered.
#[track_caller]
fn assert_well(place: &Place) {
    assert_eq!(place.post(CROP, &face()).status, 200);
}

/// What comes until the server closes the connection.
fn until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    all
}

#[test]
fn bodies_that_are_none_are_told_why() {
    let place = Setup::default().start();
    place.post(CROP, b"").assert_problem(422, "");
    place.post(CROP, b"no image at all").assert_problem(422, "");
    let mut cut = face();
    cut.truncate(cut.len() / 2);
    place.post(CROP, &cut).assert_problem(422, "");
    post(place.address, CROP, "text/html", b"<p>").assert_problem(415, "found \"text/html\"");
    post(place.address, CROP, "application/x-www-form-urlencoded", b"url=http://x").assert_problem(415, "");
    post(place.address, CROP, "multipart/form-data", b"--x").assert_problem(400, "boundary");
    post(place.address, CROP, "multipart/form-data; boundary=x", b"--y")
        .assert_problem(400, "form: expected");
    let packed = request("POST", CROP, &[("Content-Encoding", "gzip")], b"\x1f\x8b");
    Reply::read(open(place.address, &packed)).assert_problem(415, "Content-Encoding");
    place
        .post("/v1/faces?faces=crop&image=%2Fetc%2Fpasswd", &face())
        .assert_problem(400, "expected one of faces");
    place.get("/etc/passwd").assert_problem(404, "/etc/passwd");
    place.get("/v1/faces").assert_problem(405, "GET");
    assert_well(&place);
    place.stop();
}

#[test]
fn bombs_take_no_memory() {
    let place = Setup::default().start();
    // A PNG of 33 bytes that claims 60,000 x 60,000 pixels, and a BMP that does.
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend([60_000u32.to_be_bytes(), 60_000u32.to_be_bytes()].concat());
    png.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
    for target in [CROP, "/v1/faces"] {
        let reply = place.post(target, &png);
        assert_eq!(reply.status, 422, "{}", reply.text());
    }
    // A photo that is sound and larger than this server's limit of a megapixel.
    let mut bmp = b"BM".to_vec();
    let header: [u32; 13] = [54, 0, 54, 40, 20_000, 20_000, 1 | 24 << 16, 0, 0, 2835, 2835, 0, 0];
    bmp.extend(header.iter().flat_map(|word| word.to_le_bytes()));
    place.post(CROP, &bmp).assert_problem(422, "expected 1 to 1000000 pixels");
    assert_well(&place);
    place.stop();
}

#[test]
fn lengths_that_lie_are_refused() {
    let place = Setup { timeout: Duration::from_secs(30), ..Setup::default() }.start();
    place.post(CROP, &vec![0; (1 << 20) + 1]).assert_problem(413, "at most 1048576 bytes, found 1048577");
    let head = |headers: &str| {
        format!("POST {CROP} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
    };
    // A length far beyond the limit, and nothing more of it.
    let reply = Reply::read(open(place.address, head("Content-Length: 99999999999\r\n").as_bytes()));
    reply.assert_problem(413, "found 99999999999");
    let mut chunked = head("Transfer-Encoding: chunked\r\n").into_bytes();
    for _ in 0..17 {
        chunked.extend(b"10000\r\n");
        chunked.extend(vec![0; 0x10000]);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    Reply::read(open(place.address, &chunked)).assert_problem(413, "found more");
    for lie in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: five\r\n",
        "Content-Length: 99999999999999999999999999\r\n",
    ] {
        let said = until_closed(open(place.address, (head(lie) + "12345").as_bytes()));
        assert!(said.starts_with(b"HTTP/1.1 400"), "{lie}: {:?}", String::from_utf8_lossy(&said));
    }
    let broken = head("Transfer-Encoding: chunked\r\n") + "zz\r\n12345\r\n";
    Reply::read(open(place.address, broken.as_bytes())).assert_problem(400, "the body breaks off");
    // Shorter than what follows: the rest is no request, and the connection ends.
    let face = face();
    let mut short = head(&format!("Content-Length: {}\r\n", face.len() - 100)).into_bytes();
    short.extend(&face);
    Reply::read(open(place.address, &short)).assert_problem(422, "");
    assert_well(&place);
    place.stop();
}

#[test]
fn half_a_body_is_a_408_or_nobodys_business() {
    let place = Setup { timeout: Duration::from_millis(400), ..Setup::default() }.start();
    let head = format!("POST {CROP} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n0123456789");
    let waits = open(place.address, head.as_bytes());
    Reply::read(waits).assert_problem(408, "found 10 bytes of it");
    for _ in 0..20 {
        drop(open(place.address, head.as_bytes()));
    }
    place.until(|place| place.get("/v2/health/live").status == 200);
    place.stop();
}

#[test]
fn slow_heads_and_idle_connections_end() {
    let options = Options { header_timeout: Duration::from_millis(200), ..Setup::default().options };
    let place = Setup { options, ..Setup::default() }.start();
    for begun in ["", "GET", "GET / HTTP/1.1\r\nHost: local", "\x16\x03\x01\x02\0"] {
        let _ = until_closed(open(place.address, begun.as_bytes()));
    }
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let said = until_closed(open(place.address, long.as_bytes()));
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 431"), "{:?}", String::from_utf8_lossy(&said));
    assert_well(&place);
    place.stop();
}

/// More than sockets hold.
const LARGE: usize = 64 << 20;

/// A server with one place, whose answers have to be taken within so long.
fn with_large_answers(write_timeout: Duration) -> Place {
    let options = Options { max_connections: 1, write_timeout, ..Setup::default().options };
    let event = || Ok::<_, Infallible>(Event::default().data("x".repeat(LARGE)));
    let more = Router::new()
        .route("/large", gets(async || vec![b'x'; LARGE]))
        .route("/events", gets(async move || Sse::new(iter([event()]))));
    Setup { options, more, ..Setup::default() }.start()
}

#[test]
fn an_answer_that_is_not_taken_is_given_up() {
    let place = with_large_answers(Duration::from_millis(300));
    for target in ["/large", "/events"] {
        let never_reads = open(place.address, &request("GET", target, &[], b""));
        // It is answered when there is a place again.
        assert_eq!(place.get("/v2/health/live").status, 200);
        let came = until_closed(never_reads).len();
        assert!(came < LARGE, "{target}: {came}");
    }
    // Whoever reads a little now and then has no more time than others.
    let mut drips = open(place.address, &request("GET", "/large", &[], b""));
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let dripping = scope.spawn(|| {
            let mut came = 0;
            while let Ok(n @ 1..) = drips.read(&mut [0; 1024]) {
                came += n;
                if !enough.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            came
        });
        assert_eq!(place.get("/v2/health/live").status, 200);
        enough.store(true, Ordering::Relaxed);
        assert!(dripping.join().unwrap() < LARGE);
    });
    assert_well(&place);
    place.stop();
}

/// It takes 5 s: longer than a client has for an ordinary answer, which is more than any thread is kept waiting.
#[test]
fn a_stream_of_events_goes_on_as_long_as_something_of_it_is_taken() {
    let place = with_large_answers(Duration::from_secs(3));
    let mut stream = open(place.address, &request("GET", "/events", &[], b""));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (begun, mut came, mut piece) = (Instant::now(), Vec::new(), vec![0; 64 << 10]);
    while let n @ 1.. = stream.read(&mut piece).unwrap() {
        came.extend_from_slice(&piece[..n]);
        if begun.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(came.len() > LARGE && came.ends_with(b"\r\n0\r\n\r\n"), "all of it: {}", came.len());
    place.stop();
}

#[test]
fn more_connections_than_allowed_wait() {
    let options = Options {
        max_connections: 2,
        header_timeout: Duration::from_millis(300),
        ..Setup::default().options
    };
    let place = Setup { options, ..Setup::default() }.start();
    let idle: Vec<_> = (0..2).map(|_| open(place.address, b"")).collect();
    // It is answered when the idle ones have been ended.
    assert_eq!(place.get("/v2/health/live").status, 200);
    idle.into_iter().for_each(|idle| assert!(until_closed(idle).is_empty()));
    place.stop();
}

#[test]
fn strangers_stay_outside() {
    let options = Options { token: Some(Token::new("0123456789abcdef")), ..Setup::default().options };
    let place = Setup { options, ..Setup::default() }.start();
    for target in ["/", "/page.js", "/v1/model", "/metrics", "/openapi.json", "/nowhere"] {
        let reply = get(place.address, target);
        reply.assert_problem(401, "found none");
        assert!(reply.head.contains("Basic realm") && reply.head.contains("Bearer"), "{}", reply.head);
    }
    assert_eq!(get(place.address, "/v2/health/live").status, 200);
    assert_eq!(get(place.address, "/v2/health/ready").status, 200);
    let with = |name: &str, value: &str| {
        Reply::read(open(place.address, &request("GET", "/v1/model", &[(name, value)], b"")))
    };
    with("Authorization", "Bearer 0123456789abcdeg").assert_problem(401, "found another");
    assert_eq!(with("Authorization", "Bearer 0123456789abcdef").status, 200);
    with("Host", "evil.example").assert_problem(403, "evil.example");
    let across = [("Origin", "https://evil.example"), ("Authorization", "Bearer 0123456789abcdef")];
    Reply::read(open(place.address, &request("POST", CROP, &across, &face())))
        .assert_problem(403, "evil.example");
    let reply = with("Origin", "https://evil.example");
    assert_eq!(reply.header("access-control-allow-origin"), None);
    place.stop();
}

#[test]
fn an_address_that_others_reach_needs_a_token() {
    let options = Options { address: "0.0.0.0:0".parse().unwrap(), ..Options::default() };
    let error = ff_serve::serve(&options, Router::new(), &ff_serve::Shutdown::new(), |_| {}).unwrap_err();
    assert!(error.to_string().contains("expected a token"), "{error}");
}

#[test]
fn a_crowd_of_hostile_clients_leaves_the_server_well() {
    let place = Setup { timeout: Duration::from_secs(2), ..Setup::default() }.start();
    let (address, face) = (place.address, face());
    thread::scope(|scope| {
        for client in 0..6 {
            let face = &face;
            scope.spawn(move || {
                for turn in 0..10 {
                    let usual = request("POST", CROP, &[("Content-Type", "image/jpeg")], face);
                    match (client + turn) % 5 {
                        0 => assert!([200, 429].contains(&Reply::read(open(address, &usual)).status)),
                        // It leaves in the middle of its body, or before the answer.
                        1 => drop(open(address, &usual[..usual.len() / 2])),
                        2 => drop(open(address, &usual)),
                        3 => drop(open(address, b"\0\0\0\0")),
                        _ => {
                            let mut stream = open(address, &usual);
                            let _ = stream.write_all(b"GET /");
                            let _ = until_closed(stream);
                        }
                    }
                }
            });
        }
    });
    place.until(|place| place.figure("images_in_house") == 0.0);
    assert_well(&place);
    place.stop();
}
