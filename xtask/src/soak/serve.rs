//! `cargo xtask soak serve [--requests N]`: a server under load, beside the network alone.
//!
//! Trains one step on the sample for a model, measures `bench infer --batch-size 16`, and then has 1, 16 and 192
//! clients send the sample's crops to `serve` on this machine, the last three times what there is room for. Then come
//! N requests of 16 clients with two more that leave, send half a body, lie about lengths and send bombs, while memory,
//! open files and threads are looked at. Clients share the processors with the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fs_err as fs;
use serde_json::Value;

use super::process::{MEMORY_GROWTH, Process, terminate};

/// How long each load is measured.
const MEASURED: Duration = Duration::from_secs(20);
/// Images that the server takes in, its default.
const QUEUE: usize = 64;
const CROP: &str = "/v1/faces?faces=crop";

/// Runs it; whether all stayed flat and everybody was answered.
pub fn soak(requests: u64) -> std::io::Result<bool> {
    let folder = std::env::temp_dir().join(format!("fairface-soak-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let flat = serve_and_load(&folder, requests);
    fs::remove_dir_all(&folder)?;
    flat
}

fn serve_and_load(folder: &Path, requests: u64) -> std::io::Result<bool> {
    let run = folder.join("run");
    let bench = json(Command::new(std::env::current_exe()?).args([
        "bench",
        "infer",
        "--batch-size",
        "16",
        "--steps",
        "20",
        "--json",
        "--quiet",
    ]))?;
    let alone = bench["images_per_s"].as_f64().unwrap_or(0.0);
    println!("bench infer --batch-size 16: {alone:.1} images/s");
    let mut train = Command::new(std::env::current_exe()?);
    train.args([
        "train",
        "--quiet",
        "--json",
        "--init",
        "random",
        "--epochs",
        "1",
        "--max-steps",
        "1",
        "--run-dir",
    ]);
    json(train.arg(&run))?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", "--quiet", "--address", "127.0.0.1:0", "--checkpoint", "last", "--run"])
        .arg(&run)
        .stdout(Stdio::piped())
        .spawn()?;
    let loads = load(&mut child, alone, requests);
    let code = terminate(&mut child)?;
    println!("ended with exit code {code:?}");
    Ok(loads? && code == Some(0))
}

/// What a command prints as one JSON object.
fn json(command: &mut Command) -> std::io::Result<Value> {
    let output = command.stderr(Stdio::inherit()).output()?;
    serde_json::from_slice(&output.stdout).map_err(std::io::Error::other)
}

fn load(child: &mut Child, alone: f64, requests: u64) -> std::io::Result<bool> {
    let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("no stdout"))?;
    let mut url = String::new();
    BufReader::new(stdout).read_line(&mut url)?;
    let address = url.trim().trim_start_matches("http://").trim_end_matches('/');
    let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/sample/images/val");
    let mut crops = Vec::new();
    for entry in fs::read_dir(root)?.take(64) {
        crops.push(request(&fs::read(entry?.path())?));
    }
    println!(
        "{:<24} {:>10} {:>8} {:>8} {:>8} {:>8}",
        "clients", "answers/s", "of bench", "p50 ms", "p99 ms", "429"
    );
    let mut unanswered = 0;
    for clients in [1, 16, 3 * QUEUE] {
        let end = Instant::now() + MEASURED;
        let (answers, seconds) = drive(address, &crops, clients, |_| Instant::now() < end);
        answers.print(&clients.to_string(), seconds, alone);
        unanswered += answers.other;
    }
    let (done, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut looks = Vec::new();
    let (answers, seconds) = thread::scope(|scope| {
        for seed in 0..2 {
            let (crops, over) = (&crops, &over);
            scope.spawn(move || hostile(address, &crops[seed], over));
        }
        let steady =
            scope.spawn(|| drive(address, &crops, 16, |_| done.fetch_add(1, Ordering::Relaxed) < requests));
        while !steady.is_finished() {
            looks.extend(Process::look(child));
            thread::sleep(Duration::from_millis(250));
        }
        over.store(true, Ordering::Relaxed);
        steady.join().unwrap_or_default()
    });
    answers.print("16, and two hostile", seconds, alone);
    Ok(judge(&looks) && unanswered + answers.other == 0)
}

/// A crop as a request on a connection that stays.
fn request(crop: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {CROP} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
        crop.len()
    );
    [head.as_bytes(), crop].concat()
}

/// What clients were answered.
#[derive(Debug, Default)]
struct Answers {
    /// Milliseconds of those that were answered.
    ms: Vec<f64>,
    refused: u64,
    other: u64,
}

impl Answers {
    fn print(&self, clients: &str, seconds: f64, alone: f64) {
        let mut ms = self.ms.clone();
        ms.sort_by(f64::total_cmp);
        let quantile =
            |q: f64| ms.get(((ms.len().max(1) - 1) as f64 * q) as usize).copied().unwrap_or(f64::NAN);
        let rate = ms.len() as f64 / seconds;
        println!(
            "{clients:<24} {rate:>10.1} {:>8.2} {:>8.1} {:>8.1} {:>8}",
            rate / alone,
            quantile(0.5),
            quantile(0.99),
            self.refused
        );
        if self.other > 0 {
            println!("{} requests had no answer, or another one", self.other);
        }
    }
}

/// Clients that send one crop after the other as long as `goes_on`, and the seconds that it took.
fn drive(
    address: SocketAddr,
    crops: &[Vec<u8>],
    clients: usize,
    goes_on: impl Fn(usize) -> bool + Sync,
) -> (Answers, f64) {
    let begun = Instant::now();
    let mut all = Answers::default();
    thread::scope(|scope| {
        let goes_on = &goes_on;
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                scope.spawn(move || {
                    let (mut answers, mut stream) = (Answers::default(), None);
                    for turn in client.. {
                        if !goes_on(client) {
                            break;
                        }
                        let sent = Instant::now();
                        match ask(address, &mut stream, &crops[turn % crops.len()]) {
                            Ok(200) => answers.ms.push(sent.elapsed().as_secs_f64() * 1e3),
                            Ok(429) => {
                                answers.refused += 1;
                                thread::sleep(Duration::from_millis(50));
                            }
                            _ => {
                                answers.other += 1;
                                stream = None;
                            }
                        }
                    }
                    answers
                })
            })
            .collect();
        for thread in threads {
            let Answers { ms, refused, other } = thread.join().unwrap_or_default();
            all.ms.extend(ms);
            all.refused += refused;
            all.other += other;
        }
    });
    (all, begun.elapsed().as_secs_f64())
}

/// Sends a request and gives the status of its answer, which is read to its end.
fn ask(
    address: SocketAddr,
    stream: &mut Option<BufReader<TcpStream>>,
    request: &[u8],
) -> std::io::Result<u16> {
    let stream = match stream {
        Some(stream) => stream,
        None => stream.insert(BufReader::new(TcpStream::connect(address)?)),
    };
    stream.get_mut().write_all(request)?;
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(code) = line.strip_prefix("http/1.1 ") {
            status = code.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0);
        } else if let Some(n) = line.strip_prefix("content-length:") {
            length = n.trim().parse().map_err(std::io::Error::other)?;
        } else if line.is_empty() {
            break;
        }
    }
    std::io::copy(&mut stream.take(length), &mut std::io::sink())?;
    Ok(status)
}

/// Requests that break off, lie and weigh more than they say, one kind after the other.
fn hostile(address: SocketAddr, usual: &[u8], over: &AtomicBool) {
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bomb.extend([60_000u32.to_be_bytes(), 60_000u32.to_be_bytes()].concat());
    bomb.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
    let long = format!("POST {CROP} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n");
    let kinds: [&[u8]; 5] =
        [usual, &usual[..usual.len() / 2], long.as_bytes(), &request(&bomb), b"\x16\x03\x01 no HTTP\r\n\r\n"];
    for turn in 0.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(mut stream) = TcpStream::connect(address) {
            let _ = stream.write_all(kinds[turn % kinds.len()]);
            if turn % 3 == 0 {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let _ = stream.read(&mut [0; 1024]);
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Prints what was seen; whether the last third is like the first.
fn judge(looks: &[Process]) -> bool {
    let warm = &looks[looks.len() / 10..];
    let third = warm.len() / 3;
    if third < 2 {
        println!("too short to judge: {} looks", looks.len());
        return false;
    }
    let most = |part: &[Process], of: fn(&Process) -> f64| part.iter().map(of).fold(0.0, f64::max);
    let mut flat = true;
    println!("{:<24} {:>12} {:>12}", "", "first third", "last third");
    let mut row = |name: &str, of: fn(&Process) -> f64, growth: f64| {
        let (first, last) = (most(&warm[..third], of), most(&warm[warm.len() - third..], of));
        let holds = last <= first * growth;
        flat &= holds;
        println!("{name:<24} {first:>12.1} {last:>12.1} {:>8}", if holds { "flat" } else { "NOT FLAT" });
    };
    row("memory, MiB, most", |look| look.rss_mib, MEMORY_GROWTH);
    // Hostile clients come and go: at most so many connections more.
    row("open files, most", |look| look.handles as f64, 2.0);
    row("threads, most", |look| look.threads as f64, 1.0);
    flat
}
