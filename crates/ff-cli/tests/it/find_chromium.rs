//! Where a headless browser is: Chromium, or what the variable `FAIRFACE_CHROMIUM` names.

use std::process::Command;

/// The program; `None`, with a message, where there is none.
pub fn find() -> Option<String> {
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
    found
}
