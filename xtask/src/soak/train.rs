//! `soak train`: whether memory, open files and speed stay as they are in a long run.
//!
//! Trains on the bundled sample in a process of its own, epoch after epoch in a temporary folder, and looks at that
//! process every few seconds (`/proc`, so Linux only). The first tenth is warm-up; after it the first third of the
//! looks is held against the last. Speed is told a wall second and a CPU second: the latter bears other work on the
//! machine. Ctrl-C ends it early, with what it has. Exit code 1 when something grows or slows down.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fs_err as fs;

use super::process::{MEMORY_GROWTH, Process, terminate};

const BETWEEN_LOOKS: Duration = Duration::from_secs(5);
/// What images a CPU second may fall to.
const SPEED_LEFT: f64 = 0.9;

/// The process at one moment.
#[derive(Debug, Clone, Copy)]
struct Look {
    wall_s: f64,
    process: Process,
    images: u64,
}

/// Trains for so many minutes; whether all stays as it is.
pub fn soak(minutes: f64) -> std::io::Result<bool> {
    let folder = std::env::temp_dir().join(format!("fairface-soak-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let looks = watch(&folder, minutes);
    fs::remove_dir_all(&folder)?;
    Ok(judge(&looks?))
}

/// Trains in `folder` for so long, and gives what was seen every few seconds.
fn watch(folder: &Path, minutes: f64) -> std::io::Result<Vec<Look>> {
    let stop = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&stop);
    ctrlc::set_handler(move || handler.store(true, Ordering::Relaxed)).map_err(std::io::Error::other)?;
    let run = folder.join("run");
    let mut child = Command::new(std::env::current_exe()?)
        .args(["train", "--quiet", "--init", "random", "--epochs", "1000000", "--run-dir"])
        .arg(&run)
        .stdout(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    let mut looks = Vec::new();
    let ended = loop {
        if stop.load(Ordering::Relaxed) || begun.elapsed().as_secs_f64() > 60.0 * minutes {
            break terminate(&mut child)?;
        }
        if let Some(status) = child.try_wait()? {
            break status.code();
        }
        looks.extend(look(&child, &run, begun));
        std::thread::sleep(BETWEEN_LOOKS);
    };
    match ended {
        Some(130) => Ok(looks),
        code => {
            Err(std::io::Error::other(format!("expected exit code 130 when asked to stop, found {code:?}")))
        }
    }
}

/// `None` before the first step, and where the process has just ended.
fn look(child: &Child, run: &Path, begun: Instant) -> Option<Look> {
    let process = Process::look(child)?;
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).ok()?;
    let images = metrics.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let images = images.filter(|record| record["kind"] == "step").filter_map(|r| r["images"].as_u64()).sum();
    Some(Look { wall_s: begun.elapsed().as_secs_f64(), process, images })
}

/// Prints what was seen; whether all of it is flat.
fn judge(looks: &[Look]) -> bool {
    let warm = &looks[looks.len() / 10..];
    let third = warm.len() / 3;
    if third < 2 {
        println!("too short to judge: {} looks", looks.len());
        return false;
    }
    let (first, last) = (&warm[..third], &warm[warm.len() - third..]);
    let most = |part: &[Look], of: fn(&Look) -> f64| part.iter().map(of).fold(0.0, f64::max);
    let rate = |part: &[Look], of: fn(&Look) -> f64| {
        let (from, to) = (&part[0], &part[part.len() - 1]);
        (to.images - from.images) as f64 / (of(to) - of(from))
    };
    let minutes = looks[looks.len() - 1].wall_s / 60.0;
    println!("{minutes:.1} minutes, {} looks, {} images", looks.len(), looks[looks.len() - 1].images);
    println!("{:<24} {:>12} {:>12} {:>8}", "", "first third", "last third", "");
    let mut flat = true;
    let mut row = |name: &str, first: f64, last: f64, holds: bool| {
        flat &= holds;
        println!("{name:<24} {first:>12.2} {last:>12.2} {:>8}", if holds { "flat" } else { "NOT FLAT" });
    };
    let memory = [first, last].map(|part| most(part, |look| look.process.rss_mib));
    row("memory, MiB, most", memory[0], memory[1], memory[1] <= MEMORY_GROWTH * memory[0]);
    // A leak raises the least; the most is how many images and pages happened to be open at a look.
    let least = |part: &[Look]| part.iter().map(|look| look.process.handles).min().unwrap_or(0) as f64;
    let handles = [first, last].map(least);
    row("open files, least", handles[0], handles[1], handles[1] <= handles[0]);
    let threads = [first, last].map(|part| most(part, |look| look.process.threads as f64));
    row("threads, most", threads[0], threads[1], threads[1] <= threads[0]);
    let cpu = [first, last].map(|part| rate(part, |look| look.process.cpu_s));
    row("images a CPU second", cpu[0], cpu[1], cpu[1] >= SPEED_LEFT * cpu[0]);
    let wall = [first, last].map(|part| rate(part, |look| look.wall_s));
    println!("{:<24} {:>12.2} {:>12.2}", "images a wall second", wall[0], wall[1]);
    flat
}
