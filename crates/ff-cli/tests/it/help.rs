//! What `--help` teaches, kept as files: a change of it shows in the diff. `UPDATE_HELP=1` writes them anew.

use std::path::Path;
use std::process::Command;

use fs_err as fs;

#[test]
fn every_command_teaches_what_its_file_says() {
    let update = std::env::var_os("UPDATE_HELP").is_some();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/help");
    let check = |command: &[&str]| {
        let name = if command.is_empty() { "fairface".to_owned() } else { command.join("-") };
        let (help, path) = (help(command), folder.join(name + ".txt"));
        if update {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &help).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap();
        assert!(help == expected, "{} differs; UPDATE_HELP=1 writes it anew. Found:\n{help}", path.display());
        help
    };
    for command in commands(&check(&[])) {
        for nested in commands(&check(&[command])) {
            check(&[command, nested]);
        }
    }
}

/// The commands that the help lists, whichever they are.
fn commands(help: &str) -> impl Iterator<Item = &str> {
    let list =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let named = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    named.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help")
}

fn help(command: &[&str]) -> String {
    // Environment variables that flags read would show as their values.
    let mut fairface = Command::new(env!("CARGO_BIN_EXE_fairface"));
    let output = fairface.args(command).arg("--help").env("COLUMNS", "100").output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}
