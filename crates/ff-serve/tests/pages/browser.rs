//! The pages in a headless Chromium: keys decide, records arrive, and nothing is complained of or fetched elsewhere.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ff_core::files::append;
use ff_serve::{Router, audit_routes, runs_routes};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::audit::Place;
use crate::server::Server;

/// A browser that is told what to do over a pair of pipes (Chrome DevTools Protocol), with one page open.
struct Browser {
    process: Child,
    commands: fs_err::File,
    messages: Receiver<Value>,
    session: Option<String>,
    sent: u64,
    /// What was said without being asked.
    events: Vec<Value>,
    _dir: TempDir,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Browser {
    /// `None`, with a message, where there is no browser.
    fn start() -> Option<Self> {
        let named = std::env::var("FAIRFACE_CHROMIUM").ok();
        let programs =
            named.into_iter().chain(["chromium", "chromium-browser", "google-chrome"].map(str::to_owned));
        let runs = |program: &String| {
            Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        let Some(program) = programs.into_iter().find(runs) else {
            eprintln!("skipped: no Chromium; FAIRFACE_CHROMIUM names one");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let [to, from] = ["to", "from"].map(|name| dir.path().join(name));
        assert!(Command::new("mkfifo").args([&to, &from]).status().unwrap().success());
        // It reads commands from descriptor 3 and writes to 4, which a shell can give it.
        let process = Command::new("bash")
            .args(["-c", r#"exec "$@" 3<"$TO" 4>"$FROM" 2>"$LOG""#, "browser", &program])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
            .env("TO", &to)
            .env("FROM", &from)
            .env("LOG", dir.path().join("log"))
            .spawn()
            .unwrap();
        let commands = fs_err::OpenOptions::new().write(true).open(&to).unwrap();
        let mut answers = BufReader::new(fs_err::File::open(&from).unwrap());
        let (told, messages) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while answers.read_until(0, &mut message).is_ok_and(|n| n > 0) {
                message.pop();
                if told.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let mut browser =
            Self { process, commands, messages, session: None, sent: 0, events: Vec::new(), _dir: dir };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.ask("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Sends a command and waits for its answer.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let mut command = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).unwrap();
        loop {
            let message = self.messages.recv_timeout(PATIENCE).unwrap();
            if message["id"] == self.sent {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn open(&mut self, url: &str) {
        self.ask("Page.navigate", json!({ "url": url }));
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'");
    }

    fn value(&mut self, expression: &str) -> Value {
        let answer = self.ask("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    #[track_caller]
    fn until(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.value(expression) != true {
            assert!(begun.elapsed() < PATIENCE, "{expression}: {}", self.value("document.body.innerText"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.ask("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "text": key }));
        }
    }

    /// Fails if anything was complained of, or asked for elsewhere.
    #[track_caller]
    fn is_content(&mut self, own: &str) {
        self.value("1");
        for event in &self.events {
            let method = event["method"].as_str().unwrap_or_default();
            let bad = ["Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"];
            assert!(!bad.contains(&method), "{event}");
            if method == "Network.requestWillBeSent" {
                let url = event["params"]["request"]["url"].as_str().unwrap();
                assert!(url.starts_with(own) || url == "data:,", "{url}");
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // By its own id; its helpers end with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The state of the page's faces, as it stands there.
const STATES: &str =
    "[...document.querySelectorAll('li[data-decision]')].map(li => li.dataset.decision).join()";

#[test]
fn keys_decide_and_go_to_the_next_face() {
    let Some(mut browser) = Browser::start() else { return };
    let place = Place::new();
    let server = place.serve();
    let own = format!("http://{}/", server.address);
    browser.open(&format!("{own}audit?kind=sample&task=gender&sort=file"));
    assert_eq!(browser.value("document.querySelectorAll('li[data-decision]').length"), 4);
    browser
        .until("[...document.images].slice(0, 2).every(image => image.complete && image.naturalWidth > 0)");
    for key in ["n", "k"] {
        browser.press(key);
    }
    browser.until(&format!("{STATES} === 'keep,,,'"));
    browser.until("document.activeElement.id === 'face-2'");
    browser.press("d");
    browser.until(&format!("{STATES} === 'keep,drop,,'"));
    browser.until("document.activeElement.id === 'face-3'");
    // The third is f3, whose suggested label is chosen already.
    browser.press("r");
    browser.until(&format!("{STATES} === 'keep,drop,relabel,'"));
    let files =
        browser.value("[...document.querySelectorAll('li code')].map(code => code.textContent).join('|')");
    let files: Vec<String> = files.as_str().unwrap().split('|').map(str::to_owned).collect();
    assert_eq!(files.iter().filter(|file| file.starts_with("f3")).count(), 1, "{files:?}");
    assert_eq!(place.decided()[0], format!("{},keep,gender,", files[0]));
    assert_eq!(
        place.decided()[1..],
        [format!("{},drop,,", files[1]), format!("{},relabel,gender,Female", files[2])]
    );
    browser.press("p");
    browser.press("u");
    browser.until(&format!("{STATES} === 'keep,drop,,'"));
    assert_eq!(place.decided().len(), 2);
    // A new page shows what is decided.
    browser.open(&format!("{own}audit?kind=sample&task=gender&sort=file&page=1"));
    browser.until(&format!("{STATES} === 'keep,drop,,'"));
    browser.is_content(&own);
}

#[test]
fn a_run_that_is_trained_is_followed_on_its_page() {
    let Some(mut browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    crate::runs::run(dir.path(), "one", 2);
    let lock = std::fs::File::create(dir.path().join("one/run.lock")).unwrap();
    lock.try_lock().unwrap();
    let place = Place::new();
    let both = |shutdown: &ff_serve::Shutdown| -> ff_serve::Result<Router> {
        Ok(runs_routes(dir.path(), shutdown)?.merge(audit_routes(&place.files())?))
    };
    let server = Server::start(both);
    let own = format!("http://{}/", server.address);
    browser.open(&format!("{own}runs/compare?run=one"));
    browser.until("document.querySelector('.status').textContent === 'is being trained'");
    let metrics = Path::new("one/metrics.jsonl");
    let record = fs_err::read_to_string(dir.path().join(metrics)).unwrap();
    let third = record.lines().next().unwrap().replace("\"step\":1", "\"step\":3").replace("2.5", "1.25");
    append(&dir.path().join(metrics), &format!("{third}\n")).unwrap();
    browser.until("document.querySelector('.status').textContent === 'epoch 1, step 3, loss 1.250'");
    browser.until("document.getElementById('charts').textContent.includes('step 3: loss 1.25')");
    drop(lock);
    browser.until("document.querySelector('.status').textContent.endsWith('(ended)')");
    browser.is_content(&own);
}
