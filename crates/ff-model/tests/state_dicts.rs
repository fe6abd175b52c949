//! PyTorch state dicts, new and old, read without PyTorch. The files are made by `state_dicts/make.py`.

use std::path::{Path, PathBuf};

use candle_core::DType;
use ff_model::weights::read_tensors;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/state_dicts").join(name)
}

#[test]
fn both_formats_give_the_same_tensors_wherever_the_state_dict_lies() {
    for name in ["zip.pth", "legacy.pth", "older.pth", "nested_zip.pth", "nested_legacy.pth"] {
        let tensors = read_tensors(&file(name)).unwrap();
        // `module.`, which DataParallel puts before every name, is dropped.
        assert_eq!(tensors.keys().collect::<Vec<_>>(), ["a.bias", "a.weight", "b.weight", "n"], "{name}");
        let weight: Vec<Vec<f32>> = tensors["a.weight"].to_vec2().unwrap();
        assert_eq!(weight[2], [1.0, 1.125, 1.25, 1.375], "{name}");
        // A view that begins inside its storage.
        assert_eq!(tensors["a.bias"].to_vec1::<f32>().unwrap(), [2.0, 3.0, 4.0], "{name}");
        assert_eq!(tensors["b.weight"].dtype(), DType::F16, "{name}");
        assert_eq!(tensors["n"].to_scalar::<i64>().unwrap(), 7, "{name}");
    }
}

/// The pickle asks to open a file for writing, as an attacker would ask for more.
#[test]
fn nothing_that_a_pickle_asks_for_is_called() {
    let tensors = read_tensors(&file("evil.pth")).unwrap();
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["a.weight"]);
    assert!(!Path::new("fairface-was-here").exists());
}

#[test]
fn files_that_are_no_state_dict_say_what_to_do_or_where_they_end() {
    let message = read_tensors(&file("module.pth")).unwrap_err().to_string();
    assert!(message.contains("save model.state_dict() instead of the model"), "{message}");

    let bytes = fs_err::read(file("legacy.pth")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.pth");
    // Wherever a file is cut, and whatever byte is damaged: an error or tensors, never a crash.
    for end in 15..bytes.len() {
        fs_err::write(&path, &bytes[..end]).unwrap();
        assert!(read_tensors(&path).is_err(), "cut at {end}");
    }
    for i in 15..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[i] ^= 0x24;
        fs_err::write(&path, &damaged).unwrap();
        let _ = read_tensors(&path);
    }
}
