//! One process of a comparison: waited for up to a deadline, and what it answered.
//!
//! Invariant: whatever a process does, crash, hang, print nonsense, becomes a [`Failure`] that says so with the end of
//! its stderr, and nothing of it goes on running.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fs_err as fs;
use serde::{Deserialize, Serialize};

/// How often a process is looked at: a twenty-thousandth of a core, however short its work.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of a stderr that are shown.
const STDERR_LINES: usize = 20;

/// What a bench of ours or a peer's script prints.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Answer {
    /// The median over its steps.
    pub ms_per_batch: f64,
    pub peak_rss_mib: Option<u64>,
    /// Of its logits from ours, over the largest of ours.
    pub difference: Option<f64>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub message: String,
    /// The end of what it wrote to stderr.
    pub stderr: String,
}

/// How processes are run.
pub struct Runner<'a> {
    /// A folder for what they print.
    pub folder: &'a Path,
    pub deadline: Duration,
    /// Whether the user wants an end.
    pub stop: &'a AtomicBool,
}

impl Runner<'_> {
    /// Runs it, and gives what it wrote to stdout.
    pub fn output(&self, command: &mut Command) -> Result<String, Failure> {
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| self.folder.join(name));
        let failure = |message: String| Failure { message, stderr: end_of(&stderr) };
        let file = |path| fs::File::create(path).map(|file| Stdio::from(file.into_file()));
        let started = file(&stdout).and_then(|out| {
            command.stdin(Stdio::null()).stdout(out).stderr(file(&stderr)?);
            in_a_group_of_its_own(command).spawn()
        });
        let mut child = started.map_err(|e| failure(format!("cannot be started: {e}")))?;
        let status = self.wait(&mut child).map_err(&failure)?;
        match status.code() {
            Some(0) => {
                let bytes = fs::read(&stdout).map_err(|e| failure(e.to_string()))?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            _ => Err(failure(format!("ended with {status}"))),
        }
    }

    /// Runs it, and gives what it answered.
    pub fn answer(&self, command: &mut Command) -> Result<Answer, Failure> {
        let stdout = self.output(command)?;
        parse(&stdout).map_err(|message| Failure { message, stderr: end_of(&self.folder.join("stderr")) })
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus, String> {
        let clock = Instant::now();
        let why = loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if self.stop.load(Ordering::Relaxed) => break "stopped by Ctrl-C".to_owned(),
                Ok(None) if clock.elapsed() >= self.deadline => {
                    break format!("expected an end within {} s, and ended it", self.deadline.as_secs());
                }
                Ok(None) => std::thread::sleep(LOOK_EVERY),
                Err(e) => break format!("cannot be waited for: {e}"),
            }
        };
        end_group(child);
        let _ = child.wait();
        Err(why)
    }
}

/// A terminal's Ctrl-C is ours alone, and what the process starts ends with it.
#[cfg(unix)]
fn in_a_group_of_its_own(command: &mut Command) -> &mut Command {
    std::os::unix::process::CommandExt::process_group(command, 0)
}

#[cfg(unix)]
fn end_group(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

#[cfg(not(unix))]
fn in_a_group_of_its_own(command: &mut Command) -> &mut Command {
    command
}

#[cfg(not(unix))]
fn end_group(child: &mut Child) {
    let _ = child.kill();
}

/// An answer is all that was printed, as by our benches, or the last line, as libraries print too.
fn parse(stdout: &str) -> Result<Answer, String> {
    let last = stdout.trim().lines().next_back().unwrap_or_default();
    let parsed = serde_json::from_str(stdout).or_else(|_| serde_json::from_str::<Answer>(last));
    match parsed {
        Ok(answer) if answer.ms_per_batch.is_finite() && answer.ms_per_batch > 0.0 => Ok(answer),
        Ok(answer) => Err(format!("expected ms_per_batch above 0, found {}", answer.ms_per_batch)),
        Err(_) => {
            let found: String = last.chars().take(100).collect();
            Err(format!(
                "expected a JSON object with ms_per_batch as the last line of its stdout, found `{found}`"
            ))
        }
    }
}

/// The last lines of a file.
fn end_of(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(STDERR_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_whole_stdout_or_its_last_line() {
        let of_peer =
            parse("a library says hello\n{\"ms_per_batch\": 12.5, \"difference\": 1e-6}\n").unwrap();
        assert_eq!(of_peer, Answer { ms_per_batch: 12.5, peak_rss_mib: None, difference: Some(1e-6) });
        let of_ours =
            parse("{\n  \"stage\": \"infer\",\n  \"ms_per_batch\": 3,\n  \"peak_rss_mib\": 300\n}\n");
        assert_eq!(of_ours.unwrap(), Answer { ms_per_batch: 3.0, peak_rss_mib: Some(300), difference: None });
        for (stdout, found) in [
            ("", "found ``"),
            ("{\"ms_per_batch\": 1}\nbye", "found `bye`"),
            ("{\"images_per_s\": 1}", "found `{\"images_per_s\": 1}`"),
            ("{\"ms_per_batch\": 0}", "expected ms_per_batch above 0, found 0"),
            ("{\"ms_per_batch\": NaN}", "found `{\"ms_per_batch\": NaN}`"),
        ] {
            let message = parse(stdout).unwrap_err();
            assert!(message.contains(found), "{stdout:?}: {message}");
        }
    }
}
