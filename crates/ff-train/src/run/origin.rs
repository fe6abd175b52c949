//! Which commit the program is of.

use std::path::Path;
use std::process::Command;

/// The commit that the program was built from, if that is known: what the build was told in `FAIRFACE_COMMIT`, or, for
/// a program that lies in its own repository, what is checked out there. The current folder's repository may be
/// anything.
pub(super) fn commit() -> Option<String> {
    if let Some(commit) = option_env!("FAIRFACE_COMMIT") {
        return Some(commit.to_owned());
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?.canonicalize().ok()?;
    let program = std::env::current_exe().ok()?.canonicalize().ok()?;
    if !(program.starts_with(&repository) && repository.join(".git").exists()) {
        return None;
    }
    let output = Command::new("git").arg("-C").arg(repository).args(["rev-parse", "HEAD"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
