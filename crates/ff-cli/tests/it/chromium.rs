//! A headless browser: Chromium, or what the variable `FAIRFACE_CHROMIUM` names.

use std::path::Path;
use std::process::Command;

/// A headless browser.
pub struct Chromium {
    program: String,
}

/// What the browser made of a page.
pub struct Shown {
    /// The document after it was loaded.
    pub dom: String,
    /// What the console says, refusals of the content security policy among it.
    pub console: Vec<String>,
}

impl Chromium {
    /// `None`, with a message, where there is no browser.
    pub fn find() -> Option<Self> {
        let named = std::env::var("FAIRFACE_CHROMIUM").ok();
        let programs =
            named.into_iter().chain(["chromium", "chromium-browser", "google-chrome"].map(str::to_owned));
        let runs = |program: &String| {
            Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        let found = programs.into_iter().find(runs);
        if found.is_none() {
            eprintln!("skipped: no Chromium; FAIRFACE_CHROMIUM names one");
        }
        found.map(|program| Self { program })
    }

    /// Opens a file.
    pub fn open(&self, page: &Path) -> Shown {
        let profile = tempfile::tempdir().unwrap();
        let output = Command::new(&self.program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            // The browser has no errand of its own in any network.
            .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let stderr = String::from_utf8_lossy(&output.stderr);
        let console = stderr.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
        Shown { dom: String::from_utf8(output.stdout).unwrap(), console }
    }
}
