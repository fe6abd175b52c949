//! Disks that fail, images that go, workers that panic: nothing earlier is lost, the cause is named, the next start
//! works.

use std::process::Command;

use ff_train::run::{CheckpointName, RunDir};
use fs_err as fs;

use super::{
    TENSORS, assert_same_as_whole, checkpoints, fresh, go_on, place, resume, start_and_wait, with_fault,
};
use crate::workplace::{Workplace, assert_exit, sample, stderr};

/// Every kind of write that a checkpoint is made of fails once. All start from the same step, as none gets beyond it.
#[test]
fn a_disk_that_fails_at_any_write_of_a_checkpoint_costs_nothing_earlier() {
    let place = place();
    assert_exit(&place.run(&[&fresh(&place, "run")[..], &["--max-steps", "2"]].concat()), 0);
    let onwards = [&resume("run")[..], &["--max-steps", "3"]].concat();
    for (fault, cause) in [
        ("enospc@create:checkpoints/step-3", "step-3"),
        ("enospc@write:model.safetensors", "model.safetensors"),
        ("eio@write:state.safetensors", "state.safetensors"),
        ("eio@sync:model_ema", "model_ema.safetensors"),
        ("enospc@write:state.json", "state.json"),
        ("eio@rename:checkpoints/step-3", "step-3"),
        ("enospc@link:model.safetensors", "model.safetensors"),
        ("eio@rename:checkpoints/last", "last"),
        ("enospc@write:metrics.jsonl", "metrics.jsonl"),
        ("enospc@write:run.json", "run.json"),
        ("eio@write:config.toml", "config.toml"),
    ] {
        let failed = with_fault(&place, &onwards, fault);
        assert_exit(&failed, 1);
        let message = stderr(&failed);
        let error = message.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        let system = if fault.starts_with("eio") { "Input/output error" } else { "No space left on device" };
        assert!(error.contains(cause) && error.contains(system), "{fault}: {message}");
        let run = RunDir::open(&place.path("run")).unwrap();
        for which in [CheckpointName::Last, CheckpointName::Best] {
            let checkpoint = run.open_checkpoint(which).unwrap();
            checkpoint.verify().unwrap_or_else(|e| panic!("{fault}: {e}"));
            assert_eq!(checkpoint.state().unwrap().position.step, 2, "{fault}");
        }
    }
    assert_exit(&place.run(&[&resume("run")[..], &["--max-steps", "6"]].concat()), 0);
    assert_same_as_whole(&place, "run");
    assert_eq!(checkpoints(&place, "run"), ["best", "last", "step-5", "step-6"], "nothing is left over");
}

/// A limit on the size of a file stands for the full disk: the second checkpoint fits, the optimiser's state does not.
#[test]
fn a_full_disk_costs_no_earlier_checkpoint() {
    let place = place();
    assert_exit(&place.run(&[&fresh(&place, "run")[..], &["--max-steps", "2"]].concat()), 0);
    let program = env!("CARGO_BIN_EXE_fairface");
    let script =
        format!("trap '' XFSZ; ulimit -f 200000; exec {program} train --resume --run-dir run --max-steps 6");
    let full = Command::new("sh").args(["-c", &script]).current_dir(place.path("")).output().unwrap();
    assert_exit(&full, 1);
    assert!(stderr(&full).contains("state.safetensors"), "{}", stderr(&full));
    assert_eq!(checkpoints(&place, "run"), ["best", "last", "step-1", "step-2"], "the room is given back");
    assert_exit(&place.run(&[&resume("run")[..], &["--max-steps", "6"]].concat()), 0);
    assert_same_as_whole(&place, "run");
}

#[test]
fn a_damaged_checkpoint_is_refused_and_the_previous_one_goes_on() {
    let place = place();
    let args = [&fresh(&place, "run")[..], &["--max-steps", "4"]].concat();
    assert_exit(&place.run(&args), 0);

    // One bit, which no other check would see.
    let damage = |name: &str| {
        let path = place.path("run/checkpoints/last").join(name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    for name in TENSORS {
        damage(name);
        let refused = place.run(&[&resume("run")[..], &["--max-steps", "6"]].concat());
        assert_exit(&refused, 1);
        let message = stderr(&refused);
        assert!(message.contains(&format!("last/{name}: expected SHA-256")), "{message}");
        assert!(message.contains("resume from the checkpoint step-3"), "{message}");
        damage(name);
    }

    damage("model_ema.safetensors");
    let evaluated = place.run(&["evaluate", "--run", "run", "--checkpoint", "last"]);
    assert_exit(&evaluated, 1);
    assert!(stderr(&evaluated).contains("model_ema.safetensors: expected SHA-256"), "{}", stderr(&evaluated));

    let args = [&resume("run")[..], &["--max-steps", "6", "--checkpoint", "step-3"]].concat();
    assert_exit(&place.run(&args), 0);
    assert_same_as_whole(&place, "run");
}

/// The training images of a workplace, where they can be removed.
fn own_images(place: &Workplace) -> Vec<String> {
    let mut files = Vec::new();
    for split in ["train", "val", "test"] {
        let text = fs::read_to_string(place.path(&format!("splits/ff_{split}.csv"))).unwrap();
        for row in text.lines().skip(1) {
            let file = row.split(',').next().unwrap();
            let to = place.path("images").join(file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(sample().join("images").join(file), to).unwrap();
            if split == "train" {
                files.push(file.to_owned());
            }
        }
    }
    files
}

/// The first epoch's images are read ahead; the second epoch misses one, or finds another thing in its place.
#[test]
fn an_image_that_goes_in_mid_run_is_named_and_the_run_goes_on_when_it_is_back() {
    let place = place();
    let file = own_images(&place).swap_remove(3);
    let image = place.path("images").join(&file);
    let bytes = fs::read(&image).unwrap();
    let args = ["train", "--splits", "splits", "--images", "images", "--workers", "2", "--batch-size", "4"];
    let args = [&args[..], &["--config", "recipe.toml", "--run-dir", "run"]].concat();
    let waiting = start_and_wait(&place, &args, "wait@evaluate");
    fs::remove_file(&image).unwrap();
    let (code, message) = waiting.go_on();
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains(&file), "{message}");

    fs::write(&image, &bytes[..bytes.len() / 3]).unwrap();
    let broken = place.run(&resume("run"));
    assert_exit(&broken, 1);
    assert!(stderr(&broken).contains(&file), "{}", stderr(&broken));
    fs::write(&image, bytes).unwrap();
    go_on(&place, "run");
    assert_same_as_whole(&place, "run");
}

#[test]
fn a_worker_that_panics_ends_the_run_by_name_and_leaves_what_it_had() {
    let place = place();
    let args = fresh(&place, "run");
    // 13 files are looked at first; the first epoch reads 8, its validations 5 each: this is the second epoch's.
    let panicked = with_fault(&place, &args, "panic@read:images#34");
    assert_exit(&panicked, 1);
    let message = stderr(&panicked);
    assert!(message.contains("panicked") && message.contains(".jpg"), "{message}");
    assert!(!message.contains("RUST_BACKTRACE=full"), "{message}");
    go_on(&place, "run");
    assert_same_as_whole(&place, "run");
}

/// The folder could neither go on nor begin again: there was no checkpoint, and there was a configuration.
#[test]
fn a_run_whose_first_image_is_broken_goes_on_when_it_is_mended() {
    let place = place();
    let file = own_images(&place).swap_remove(0);
    let image = place.path("images").join(&file);
    let bytes = fs::read(&image).unwrap();
    fs::write(&image, "no image").unwrap();
    let args = ["train", "--splits", "splits", "--images", "images", "--workers", "2", "--batch-size", "4"];
    let args = [&args[..], &["--config", "recipe.toml", "--run-dir", "run"]].concat();
    let broken = place.run(&args);
    assert_exit(&broken, 1);
    assert!(stderr(&broken).contains(&file), "{}", stderr(&broken));
    fs::write(&image, bytes).unwrap();
    // Where it stopped before a folder was made, it begins.
    if place.path("run/config.toml").exists() {
        go_on(&place, "run")
    } else {
        assert_exit(&place.run(&args), 0)
    }
    assert_same_as_whole(&place, "run");
}
