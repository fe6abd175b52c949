//! What people see: logs, tables and progress bars on stderr, results on stdout.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
pub use ff_train::report::numbers::{grouped, percent};
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

/// Prints a line on stderr, unless only warnings are wanted.
macro_rules! note {
    ($($text:tt)*) => {
        if !crate::output::quiet() {
            eprintln!($($text)*);
        }
    };
}
pub(crate) use note;

/// Prints a line of the result on stdout.
macro_rules! say {
    ($($text:tt)*) => { crate::output::line(format_args!($($text)*)) };
}
pub(crate) use say;

/// Prints a line on stdout. A reader that has gone, as `head` does, has seen enough: that is no error.
///
/// # Panics
/// Stdout cannot be written to for another reason, as a full disk.
pub fn line(text: std::fmt::Arguments) {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => panic!("cannot write to stdout: {e}"),
        _ => {}
    }
}

/// Sends `tracing` events to stderr; `RUST_LOG` chooses which, by default `info`, or `warn` when quiet.
pub fn init_logging(verbosity: Verbosity) {
    QUIET.store(verbosity == Verbosity::Quiet, Ordering::Relaxed);
    let level = if quiet() { "warn" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let format = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call in one process changes nothing.
    let _ = format.with_target(false).without_time().with_ansi(on_terminal()).try_init();
}

/// Whether somebody watches stderr and wants to see progress.
pub fn on_terminal() -> bool {
    std::io::stderr().is_terminal() && !quiet()
}

/// Prints one JSON object on stdout.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, value)?;
    Ok(writeln!(stdout)?)
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
