//! A headless browser that opens a file.

use std::path::Path;
use std::process::Command;

use crate::find_chromium;

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
        find_chromium::find().map(|program| Self { program })
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
