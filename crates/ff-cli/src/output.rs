//! What people see: logs, tables and progress bars on stderr, results on stdout.
//!
//! Invariant: no reader that leaves and no disk that fills up ends the work. Everything that is printed goes through
//! here, output that fails is dropped, and [`finish`] says in the end what became of stdout. Nothing else in the
//! workspace prints; clippy sees to that.

use std::fmt::Arguments;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
pub use ff_report::numbers::{fixed, grouped, percent, points};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// How much is said on stderr beside errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// What is found, chosen and done.
    Normal,
    /// Warnings.
    Quiet,
}

static QUIET: AtomicBool = AtomicBool::new(false);

/// Whether only warnings and errors are wanted.
pub fn quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Which rank this is of those that train together.
static RANK: AtomicUsize = AtomicUsize::new(0);

/// Which rank this is: the first alone prints results, the others say who they are when they warn.
pub fn rank() -> usize {
    RANK.load(Ordering::Relaxed)
}

/// Says which rank this is.
pub fn init_rank(rank: usize) {
    RANK.store(rank, Ordering::Relaxed);
}

/// Prints a line on stderr, unless only warnings are wanted.
macro_rules! note {
    ($($text:tt)*) => {
        if !crate::output::quiet() {
            crate::output::stderr_line(format_args!($($text)*));
        }
    };
}
pub(crate) use note;

/// Prints a line on stderr whatever is wanted: errors, and what somebody has to do next.
macro_rules! alert {
    ($($text:tt)*) => { crate::output::stderr_line(format_args!($($text)*)) };
}
pub(crate) use alert;

/// Prints a line of the result on stdout.
macro_rules! say {
    ($($text:tt)*) => { crate::output::stdout_line(format_args!($($text)*)) };
}
pub(crate) use say;

/// How stdout has taken results so far.
enum Stdout {
    Open,
    /// Its reader has gone, as `head` does: it has seen enough.
    Closed,
    /// It cannot be written to, as on a full disk.
    Failed(io::Error),
}

static STDOUT: Mutex<Stdout> = Mutex::new(Stdout::Open);

fn stdout() -> MutexGuard<'static, Stdout> {
    STDOUT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes results to stdout, at once. It breaks off when nobody can read them any more.
pub fn write_stdout(bytes: &[u8]) -> ControlFlow<()> {
    let mut stdout = stdout();
    // A result with a hole in it is worse than one that ends early.
    if !matches!(*stdout, Stdout::Open) || rank() > 0 {
        return ControlFlow::Break(());
    }
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            *stdout = Stdout::after(error);
            ControlFlow::Break(())
        }
    }
}

/// Prints a line on stdout.
pub fn stdout_line(text: Arguments) {
    let _ = write_stdout(format!("{text}\n").as_bytes());
}

/// Prints a line on stderr, in one piece.
pub fn stderr_line(text: Arguments) {
    let _ = Stderr.write(format!("{text}\n").as_bytes());
}

/// Prints one JSON object on stdout.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    let _ = write_stdout(&bytes);
    Ok(())
}

/// Prints what the parser of arguments has to say: help on stdout, errors on stderr.
pub fn print_usage(usage: &clap::Error) {
    if rank() > 0 {
        // Help is the first one's to print, and not every launcher has ended this one by now.
        if usage.use_stderr() {
            alert!("{}", usage.render().to_string().lines().next().unwrap_or_default());
        }
        return;
    }
    if let Err(error) = usage.print()
        && !usage.use_stderr()
    {
        *stdout() = Stdout::after(error);
    }
}

/// Says what became of stdout: an error if results could not be written though somebody wants them.
pub fn finish() -> io::Result<()> {
    match std::mem::replace(&mut *stdout(), Stdout::Closed) {
        Stdout::Open | Stdout::Closed => Ok(()),
        Stdout::Failed(error) => Err(error),
    }
}

impl Stdout {
    fn after(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Failed(error) }
    }
}

/// Stderr, where what cannot be written is dropped.
#[derive(Clone, Copy)]
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        let _ = match rank() {
            0 => stderr.write_all(bytes),
            // In one piece: launchers mix what ranks write.
            rank => stderr.write_all(&[format!("rank {rank}: ").as_bytes(), bytes].concat()),
        };
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends `tracing` events to stderr; `RUST_LOG` chooses which, by default `info`, or `warn` when quiet.
pub fn init_logging(verbosity: Verbosity) {
    QUIET.store(verbosity == Verbosity::Quiet, Ordering::Relaxed);
    let level = if quiet() { "warn" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let format = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Stderr);
    // A second call in one process changes nothing.
    let _ = format.with_target(false).without_time().with_ansi(on_terminal()).try_init();
}

/// Has a panic, which is a bug wherever it comes from, say so in one line; with `RUST_BACKTRACE` also how it came to
/// it.
pub fn init_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = ff_core::text::panic_message(panic.payload());
        let place = panic.location().map_or(String::new(), |place| format!(" ({place})"));
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => String::new(),
        };
        alert!("error: this is a bug in fairface: {message}{place}{backtrace}");
    }));
}

/// Whether somebody watches stderr and wants to see progress.
pub fn on_terminal() -> bool {
    io::stderr().is_terminal() && !quiet()
}

/// A progress bar on a terminal; elsewhere nothing.
pub fn progress(total: u64, template: &str) -> ProgressBar {
    let target = if on_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template(template).expect("templates are valid").progress_chars("=> ");
    ProgressBar::with_draw_target(Some(total), target).with_style(style)
}

/// Rows of text as columns: the first column to the left, the others to the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| match i {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(header.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let text =
            table(&["name", "n"], &[vec!["a".into(), "1,234".into()], vec!["longer".into(), "5".into()]]);
        assert_eq!(text, "name        n\na       1,234\nlonger      5");
    }
}
