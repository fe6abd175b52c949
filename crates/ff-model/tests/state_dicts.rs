//! PyTorch state dicts, new and old, read without PyTorch. The files are made by `state_dicts/make.py`.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

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

const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// A file of the older format around a state dict and what comes after it: a list of storages, then these.
fn legacy(state_dict: &[u8], rest: &[u8]) -> Vec<u8> {
    [LEGACY, b"\x80\x02N.\x80\x02N.\x80\x02", state_dict, b".\x80\x02", rest].concat()
}

fn string(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A tensor of `n` floats from the storage `s`, as an entry of the dictionary on the stack.
fn tensor(name: &str, n: u32) -> Vec<u8> {
    let int = |n: u32| [b"J", &n.to_le_bytes()[..]].concat();
    let class = &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..];
    let storage = [string("storage"), b"ctorch\nFloatStorage\n".to_vec(), string("s"), string("cpu"), int(n)];
    let place = [b"tQ".to_vec(), int(0), int(n), b"\x85".to_vec(), int(1), b"\x85\x89NtRs".to_vec()];
    [string(name), class.to_vec(), storage.concat(), place.concat()].concat()
}

#[track_caller]
fn assert_says(bytes: &[u8], expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.pth");
    fs_err::write(&path, bytes).unwrap();
    let message = read_tensors(&path).unwrap_err().to_string();
    let whole = format!("{}: not a readable PyTorch state dict: {expected}", path.display());
    assert_eq!(message, whole);
}

/// Each overflowed the stack or took gigabytes while it was read or dropped.
#[test]
fn nested_doubled_and_endless_pickles_are_refused_in_little_memory() {
    const NO_STATE_DICT: &str =
        "expected a state dict, found no tensors by name; save model.state_dict() instead of the model";
    let nested = legacy(&[&b")"[..], &[0x85; 1_000_000]].concat(), b"].");
    assert_says(&nested, NO_STATE_DICT);
    // Two of the last object, a hundred times: 2^100 in the end.
    let doubled = legacy(&[&b")q\x00"[..], &b"h\x00h\x00\x86q\x00".repeat(100)].concat(), b"].");
    assert!(doubled.len() < 800);
    assert_says(&doubled, NO_STATE_DICT);
    let remembered = legacy(&[&b")"[..], &b"r\xff\xff\xff\xff".repeat(1000)].concat(), b"].");
    assert_says(&remembered, NO_STATE_DICT);
    let endless = legacy(&[b'N'; 1 << 20], b"].");
    assert_says(&endless, "expected a pickle of at most 1048576 operations, found more");
    let text = legacy(b"X\xff\xff\xff\xff", b"");
    assert_says(&text, "expected a string of at most 65536 bytes, found 4294967295 (byte 2 of a pickle)");
}

#[test]
fn tensors_and_storages_are_no_larger_than_the_file() {
    let listed = [b"]", &string("s")[..], b"a."].concat();
    let storage = |n: u64, bytes: usize| [&listed[..], &n.to_le_bytes(), &vec![0; bytes][..]].concat();
    let one = [b"}", &tensor("a", 1000)[..]].concat();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("good.pth");
    fs_err::write(&path, legacy(&one, &storage(1000, 4000))).unwrap();
    assert_eq!(read_tensors(&path).unwrap()["a"].dims(), [1000]);

    assert_says(
        &legacy(&one, &storage(1 << 50, 4000)),
        "the file ends early: expected 4503599627370496 more bytes, found 4000",
    );
    assert_says(&legacy(&one, &storage(10, 4000)), "a: expected 4000 bytes of storage, found 40");
    let many = (0..50).map(|i| tensor(&i.to_string(), 1000)).collect::<Vec<_>>().concat();
    let many = legacy(&[b"}", &many[..]].concat(), &storage(1000, 4000));
    let expected = format!("expected tensors of the file's {} bytes together, found more at 2", many.len());
    assert_says(&many, &expected);
}

/// The first entry of the directory is data.pkl's.
#[test]
fn damaged_and_compressed_archives_are_refused() {
    let archive = fs_err::read(file("zip.pth")).unwrap();
    let entry = archive.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    let with = |place: usize, bytes: &[u8]| {
        let mut damaged = archive.clone();
        damaged[place..place + bytes.len()].copy_from_slice(bytes);
        damaged
    };
    assert_says(
        &with(entry + 10, &[8]),
        "zip/data.pkl: expected a stored entry, as torch.save writes it, found method 8, flags 0x808",
    );
    let huge = 0xffff_fff0u32.to_le_bytes();
    assert_says(
        &with(entry + 20, &[huge, huge].concat()),
        "zip/data.pkl: expected entries of the archive's 2293 bytes together, found more",
    );
    assert_says(
        &with(entry + 42, &huge),
        "zip/data.pkl: expected 418 bytes at 4294967280, found the archive's end",
    );
    assert_says(&archive[..archive.len() - 1], "the archive's directory is missing: the file is cut off");
    assert_says(&with(entry, b"?"), "the archive's directory is damaged at entry 0 of 10");
    // In the first storage: 0 and 0.125.
    let storage = archive.windows(8).position(|bytes| bytes == [0, 0, 0, 0, 0, 0, 0, 0x3e_u8]).unwrap();
    let mut damaged = archive.clone();
    damaged[storage] ^= 1;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.pth");
    fs_err::write(&path, damaged).unwrap();
    let message = read_tensors(&path).unwrap_err().to_string();
    assert!(message.contains("zip/data/0: expected CRC-32") && message.ends_with(": damaged"), "{message}");
}
