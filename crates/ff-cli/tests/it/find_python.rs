//! A Python with other people's programs, for tests that hold ours against them; the files that need one include this.

use std::process::Command;

/// `python3`, or what `FAIRFACE_PYTHON` names, if it has these modules; or `None` after saying that `test` is skipped.
pub fn python(test: &str, modules: &str) -> Option<String> {
    let python = std::env::var("FAIRFACE_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("{test}: skipped, {python} lacks one of {modules} (FAIRFACE_PYTHON may name another)");
    None
}
