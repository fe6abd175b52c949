//! `soak ranks`: SIGKILL of either rank of an MPI job at moments that are drawn, then all of them again.
//!
//! One process trains on the bundled sample, which gives the bytes and the time that it takes. Then, as often as asked, two
//! ranks begin anew under `mpirun`, one of them is killed within that time, and ranks go on to the end, now two, now one,
//! now four: the checkpoint must have the same bytes each time. Linux only (`/proc`).

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ff_core::random::{Purpose, below, generator};
use fs_err as fs;

const RECIPE: &str = "[optimizer]\nema_decay = 0.9\nclip_norm = 1.0\n[run]\ncheckpoint_steps = 4\n";
/// Every file of a checkpoint.
const FILES: [&str; 4] = ["model.safetensors", "model_ema.safetensors", "state.safetensors", "state.json"];
const SETTINGS: [&str; 18] = [
    "--init",
    "random",
    "--backbone",
    "resnet18",
    "--image-size",
    "64",
    "--batch-size",
    "4",
    "--accumulate",
    "4",
    "--threads",
    "1",
    "--workers",
    "1",
    "--max-steps",
    "30",
    "--timeout",
    "120",
];
/// The rank's own variable by the launcher: Open MPI's, and that of MPICH and what is like it.
const RANK: [&str; 2] = ["OMPI_COMM_WORLD_RANK=", "PMI_RANK="];

/// Kills so many; whether the bytes were the same after each.
pub fn soak(kills: u32) -> std::io::Result<bool> {
    let folder = std::env::temp_dir().join(format!("fairface-soak-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let result = kill(&folder, kills);
    fs::remove_dir_all(&folder)?;
    result
}

fn kill(folder: &Path, kills: u32) -> std::io::Result<bool> {
    fs::write(folder.join("recipe.toml"), RECIPE)?;
    let whole = folder.join("whole");
    let begun = Instant::now();
    check(train(folder, 1, &whole)?.wait()?)?;
    let whole_ms = u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX);
    println!("one process, {whole_ms} ms");
    let mut random = generator(Purpose::Order, 19, 0, 0);
    let (mut done, mut same, mut round) = (0, 0, 0);
    while done < kills {
        round += 1;
        let run = folder.join(format!("run-{round}"));
        let (moment, rank) = (below(&mut random, whole_ms), below(&mut random, 2));
        let mut job = train(folder, 2, &run)?;
        std::thread::sleep(Duration::from_millis(moment.into()));
        let Some(process) = process_of(&run, rank) else {
            // It had not begun, or was over.
            job.wait()?;
            remove(&run)?;
            continue;
        };
        Command::new("kill").args(["-KILL", &process.to_string()]).status()?;
        let ended = Instant::now();
        if job.wait()?.success() {
            remove(&run)?;
            continue;
        }
        let ended = ended.elapsed();
        done += 1;
        // mpirun does not wait for those that it has killed: the run is free when they are gone.
        if let Ok(lock) = fs::File::open(run.join("run.lock")) {
            lock.file().lock()?;
        }
        let (reached, goes_on) = (steps(&run), [2, 1, 4][done as usize % 3]);
        check(train(folder, goes_on, &run)?.wait()?)?;
        let bytes = |run: &Path, name: &str| fs::read(run.join("checkpoints/last").join(name));
        let differs = FILES.into_iter().find(|name| bytes(&run, name).ok() != bytes(&whole, name).ok());
        println!(
            "kill {done}: rank {rank} after {moment} ms at step {reached}, job over in {:.1} s, went on as {goes_on}: {}",
            ended.as_secs_f64(),
            differs.map_or_else(|| "the same bytes".to_owned(), |name| format!("{name} DIFFERS"))
        );
        same += u32::from(differs.is_none());
        remove(&run)?;
    }
    println!("{kills} kills, the same final bytes after {same}");
    Ok(same == kills)
}

/// Begins a run, or goes on with it, as so many ranks.
fn train(folder: &Path, n: usize, run: &Path) -> std::io::Result<Child> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(if n > 1 { Path::new("mpirun") } else { &program });
    if n > 1 {
        // Open MPI takes no more ranks than there are cores, and no root, unless it is told to.
        command
            .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
            .env("OMPI_MCA_hwloc_base_binding_policy", "none");
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command.args(["-n", &n.to_string()]).arg(&program);
    }
    command.args(["train", "--quiet"]);
    if run.join("config.toml").exists() {
        command.arg("--resume");
    } else {
        command.arg("--config").arg(folder.join("recipe.toml")).args(SETTINGS);
    }
    command.arg("--run-dir").arg(run).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

/// Removes a folder that need not be there.
fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn check(status: ExitStatus) -> std::io::Result<()> {
    match status.code() {
        Some(0) => Ok(()),
        _ => Err(std::io::Error::other(format!(
            "expected a run to come to its end, found {status}: is this program built with the feature mpi?"
        ))),
    }
}

/// The process that is this rank of a job over `run`.
fn process_of(run: &Path, rank: u32) -> Option<u32> {
    let run = run.to_string_lossy();
    let has = |path: &Path, wanted: &dyn Fn(&str) -> bool| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.split(|&byte| byte == 0).any(|text| std::str::from_utf8(text).is_ok_and(wanted))
    };
    let is_it = |process: &Path| {
        has(&process.join("cmdline"), &|argument| argument == run)
            && has(&process.join("environ"), &|variable| {
                RANK.iter().any(|name| variable.strip_prefix(name) == Some(rank.to_string().as_str()))
            })
    };
    let mut processes = fs::read_dir("/proc").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let found = processes.find(|process| is_it(process))?;
    found.file_name()?.to_str()?.parse().ok()
}

/// The step of the last checkpoint.
fn steps(run: &Path) -> u64 {
    let text = fs::read_to_string(run.join("checkpoints/last/state.json")).unwrap_or_default();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    state["position"]["step"].as_u64().unwrap_or(0)
}
