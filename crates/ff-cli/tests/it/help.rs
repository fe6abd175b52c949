//! What `--help` teaches, kept as files: a change of it shows in the diff. `UPDATE_HELP=1` writes them anew.

use std::path::Path;
use std::process::Command;

use fs_err as fs;

const COMMANDS: [&str; 14] = [
    "split",
    "audit",
    "train",
    "evaluate",
    "report",
    "predict",
    "embed",
    "weights",
    "export",
    "sanity",
    "summary",
    "bench",
    "completions",
    "man",
];

#[test]
fn every_command_teaches_what_its_file_says() {
    let update = std::env::var_os("UPDATE_HELP").is_some();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/help");
    for command in std::iter::once("").chain(COMMANDS) {
        let args: Vec<&str> = [command, "--help"].into_iter().filter(|arg| !arg.is_empty()).collect();
        // Environment variables that flags read would show as their values.
        let output =
            Command::new(env!("CARGO_BIN_EXE_fairface")).args(args).env("COLUMNS", "100").output().unwrap();
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout).unwrap();
        let path =
            folder.join(if command.is_empty() { "fairface.txt".into() } else { format!("{command}.txt") });
        if update {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &help).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap();
        assert!(help == expected, "{} differs; UPDATE_HELP=1 writes it anew. Found:\n{help}", path.display());
    }
}
