//! What ff-train reads.

use std::path::Path;

use ff_train::run::checkpoint::Checkpoint;
use ff_train::{ConfigBuilder, Preset};

/// The `state.json` of a checkpoint.
pub fn checkpoint_state(bytes: &[u8]) {
    in_file("state.json", bytes, |path| {
        let folder = path.parent().expect("the file lies in a folder");
        let checkpoint = Checkpoint::open(folder).expect("there is a state.json");
        let _ = checkpoint.state().map_err(has_cause);
        let _ = checkpoint.verify().map_err(has_cause);
    });
}

/// A configuration. One that is taken is written and read again the same.
pub fn config(bytes: &[u8]) {
    in_file("config.toml", bytes, |path| {
        let config =
            ConfigBuilder::new(Preset::Sample, Path::new("")).file(path).and_then(ConfigBuilder::resolve);
        match config {
            Ok(config) => {
                let text = config.to_toml();
                fs_err::write(path, &text).expect("a temporary file");
                let again = ff_train::Config::read(path).expect("what was read can be written");
                assert_eq!(again.to_toml(), text);
            }
            Err(error) => has_cause(error),
        }
    });
}

fn has_cause(error: impl std::fmt::Display) {
    assert!(!error.to_string().trim().is_empty());
}

/// Calls `read` with a file of this content.
fn in_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    thread_local!(static DIR: tempfile::TempDir = tempfile::tempdir().expect("a temporary folder"));
    DIR.with(|dir| {
        let path = dir.path().join(name);
        fs_err::write(&path, bytes).expect("a temporary file");
        read(&path);
    });
}
