//! A headless browser that is told what to do: Chromium's debugging protocol over two pipes.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::find_chromium;

/// A browser with one page.
pub struct Browser {
    child: Child,
    say: fs_err::File,
    hear: BufReader<fs_err::File>,
    session: String,
    next: u64,
    /// What has happened and nobody has looked at.
    pub events: VecDeque<Value>,
    _profile: TempDir,
}

impl Browser {
    /// `None`, with a message, where there is no browser.
    pub fn start() -> Option<Self> {
        let program = find_chromium::find()?;
        let profile = tempfile::tempdir().unwrap();
        let pipe = |name: &str| {
            let path = profile.path().join(name);
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            path
        };
        let (say, hear) = (pipe("say"), pipe("hear"));
        let flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync \
                     --disable-background-networking --disable-component-update --remote-debugging-pipe \
                     --use-fake-device-for-media-stream --use-fake-ui-for-media-stream --window-size=1280,1400";
        // The browser has no errand of its own in any network: no name leads anywhere.
        let script = format!(
            "exec '{program}' {flags} '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1' \
             '--user-data-dir={}' about:blank 3<'{}' 4>'{}'",
            profile.path().join("profile").display(),
            say.display(),
            hear.display()
        );
        let child = Command::new("sh")
            .args(["-c", &script])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let say = fs_err::OpenOptions::new().write(true).open(say).unwrap();
        let hear = BufReader::new(fs_err::File::open(hear).unwrap());
        let mut browser = Self {
            child,
            say,
            hear,
            session: String::new(),
            next: 0,
            events: VecDeque::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Network", "Log", "DOM"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Calls a method and waits for what it gives; events that come meanwhile are kept.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.say.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut bytes = Vec::new();
            self.hear.read_until(0, &mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(0), "the browser has gone");
            let said: Value = serde_json::from_slice(&bytes).unwrap();
            if said["id"] == self.next {
                assert!(said.get("error").is_none(), "{method}: {said}");
                return said["result"].clone();
            }
            self.events.push_back(said);
        }
    }

    /// The value of an expression on the page, a promise's when it is kept.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let said = self.call("Runtime.evaluate", params);
        assert!(said.get("exceptionDetails").is_none(), "{expression}: {said}");
        said["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        let begun = std::time::Instant::now();
        while self.value(expression) != true {
            let page = self.value("document.body.innerText");
            assert!(begun.elapsed() < crate::client::PATIENCE, "not so: {expression} on {page}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let code = match key {
                "Tab" => 9,
                "Enter" => 13,
                "ArrowLeft" => 37,
                "ArrowRight" => 39,
                _ => 0,
            };
            let params = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Has a field of files hold these, as if a person had chosen them.
    pub fn choose(&mut self, field: &str, files: &[&Path]) {
        let root = self.call("DOM.getDocument", json!({}))["root"]["nodeId"].clone();
        let node = self.call("DOM.querySelector", json!({ "nodeId": root, "selector": field }));
        let files: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
        self.call("DOM.setFileInputFiles", json!({ "nodeId": node["nodeId"], "files": files }));
    }

    /// Errors and warnings of the console, and exceptions.
    pub fn complaints(&self) -> Vec<&Value> {
        let is_complaint = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] != "log",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] != "info",
            _ => false,
        };
        self.events.iter().filter(is_complaint).collect()
    }

    /// The addresses that were asked for.
    pub fn addresses(&self) -> Vec<&str> {
        let asked = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        asked.filter_map(|event| event["params"]["request"]["url"].as_str()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
