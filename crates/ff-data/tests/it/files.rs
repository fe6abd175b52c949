//! Files that change, vanish, cannot be opened or bring the program down; and the check of all files before a run.

use std::{path::Path, sync::Arc};

use ff_core::Schema;
use ff_data::{
    Batch, CacheSpec, Dataset, FaceBox, FileCheck, ImageInput, ImageRules, Loader, LoaderConfig, Mode,
    OnBadImage, Scratch, Splits, audit::Audit, check_files,
};

use crate::support::{Fixture, planted, sample, sample_dataset, sample_splits, with_faults};

/// Some faces of the sample under short names, with what else is planted.
fn dataset(dir: &Path, faces: usize, others: &[(&str, &[u8])]) -> Dataset {
    let splits = sample_splits();
    let rows = splits.train.rows().iter().take(faces);
    let faces: Vec<(String, Vec<u8>)> = rows
        .enumerate()
        .map(|(i, row)| (format!("{i}.jpg"), fs_err::read(sample().join("images").join(&row.file)).unwrap()))
        .collect();
    let faces = faces.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    let files: Vec<(&str, &[u8])> = faces.chain(others.iter().copied()).collect();
    let (manifest, encoders) = planted(dir, &files);
    Dataset::open(manifest, dir, &encoders, Mode::Eval).unwrap()
}

fn loader(dataset: Dataset, policy: OnBadImage) -> Loader {
    let config = LoaderConfig::eval(4).with_workers(3).with_on_bad_image(policy);
    Loader::new(Arc::new(dataset), config).unwrap()
}

fn images(loader: &mut Loader, epoch: u64) -> Result<usize, String> {
    let batches =
        loader.epoch(epoch, 0).map(|batch| batch.map(|batch| batch.len()).map_err(|e| e.to_string()));
    batches.sum()
}

fn check(datasets: &[&Dataset], policy: OnBadImage) -> Result<FileCheck, String> {
    check_files(datasets, policy, 3, |_| {}).map_err(|error| error.to_string())
}

/// A bad validation image used to show at the end of the first epoch.
#[test]
fn all_bad_files_of_all_splits_are_told_before_anything_is_done() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let train = dataset(
        a.path(),
        70,
        &[("text.jpg", b"no face"), ("small.png", &Fixture::images().bytes("rgba.png"))],
    );
    let val = dataset(b.path(), 5, &[("empty.jpg", b""), ("gone.jpg", b"")]);
    fs_err::remove_file(b.path().join("gone.jpg")).unwrap();
    let message = check(&[&train, &val], OnBadImage::Fail).unwrap_err();
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines[0], "3 of 79 images cannot be used:");
    assert_eq!(lines.len(), 4, "{message}");
    for (line, part) in lines[1..].iter().zip(["text.jpg: expected a JPEG", "empty.jpg: ", "gone.jpg: "]) {
        assert!(line.contains(part) && line.contains("planted.csv line "), "{line} lacks {part}");
    }
    let check = check(&[&train, &val], OnBadImage::Skip).unwrap();
    assert_eq!((check.files, check.bad.len()), (79, 3));
    assert_eq!(
        check_files(&[&dataset(a.path(), 70, &[])], OnBadImage::Fail, 1, |_| {}).unwrap().bad,
        [""; 0]
    );
}

#[test]
fn twenty_bad_files_are_named_and_all_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..30).map(|i| format!("bad{i}.jpg")).collect();
    let bad: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"bad"[..])).collect();
    let message = check(&[&dataset(dir.path(), 2, &bad)], OnBadImage::Fail).unwrap_err();
    assert!(message.starts_with("30 of 32 images cannot be used:"), "{message}");
    assert!(message.ends_with("\n  and 10 more") && message.lines().count() == 22, "{message}");
    // Nothing would be left of this split.
    let message = check(&[&dataset(dir.path(), 0, &bad)], OnBadImage::Skip).unwrap_err();
    assert!(message.starts_with("30 of 30 images cannot be used:"), "{message}");
}

#[test]
fn what_is_in_the_cache_need_only_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let data = Arc::new(dataset(dir.path(), 6, &[]).with_cache(&CacheSpec::Memory).unwrap());
    let mut loader = Loader::new(Arc::clone(&data), LoaderConfig::eval(4)).unwrap();
    assert_eq!(images(&mut loader, 0), Ok(6));
    fs_err::write(dir.path().join("2.jpg"), "changed").unwrap();
    assert!(check(&[&data], OnBadImage::Fail).is_ok());
    assert!(check(&[&dataset(dir.path(), 0, &[("2.jpg", b"changed")])], OnBadImage::Fail).is_err());
    fs_err::remove_file(dir.path().join("2.jpg")).unwrap();
    assert!(check(&[&data], OnBadImage::Fail).unwrap_err().contains("2.jpg"));
}

#[test]
fn an_image_that_changes_or_vanishes_in_mid_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut loader = loader(dataset(dir.path(), 9, &[]), OnBadImage::Fail);
    assert_eq!(images(&mut loader, 0), Ok(9));
    fs_err::write(dir.path().join("7.jpg"), "no face any more").unwrap();
    let message = images(&mut loader, 1).unwrap_err();
    assert!(
        message.contains("7.jpg: expected a JPEG") && message.contains("planted.csv line 9,"),
        "{message}"
    );
    fs_err::remove_file(dir.path().join("5.jpg")).unwrap();
    let message = images(&mut loader, 2).unwrap_err();
    assert!(message.contains("5.jpg") && message.contains("planted.csv line 7,"), "{message}");
}

/// Opening a pipe waits for somebody who writes, and reading a device may never end.
#[cfg(unix)]
#[test]
fn pipes_and_devices_as_images_hang_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), 3, &[("pipe.jpg", b""), ("endless.jpg", b"")]);
    for name in ["pipe.jpg", "endless.jpg"] {
        fs_err::remove_file(dir.path().join(name)).unwrap();
    }
    assert!(
        std::process::Command::new("mkfifo").arg(dir.path().join("pipe.jpg")).status().unwrap().success()
    );
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("endless.jpg")).unwrap();
    let found = check(&[&data], OnBadImage::Skip).unwrap();
    assert_eq!(found.bad.len(), 2, "{found:?}");
    let mut loader = loader(data, OnBadImage::Skip);
    assert_eq!(images(&mut loader, 0), Ok(3));
    assert!(loader.skipped().values().all(|reason| reason.contains("found a pipe, socket or device")));
}

/// They used to be skipped as bad images, one after the other.
#[test]
fn too_many_open_files_are_no_bad_images() {
    if !with_faults("files::too_many_open_files_are_no_bad_images", "emfile@read:5.jpg#1+") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(dir.path(), 9, &[]);
    let says = |message: String| {
        assert!(message.contains("5.jpg") && message.contains("Too many open files"), "{message}");
    };
    says(check(&[&data], OnBadImage::Skip).unwrap_err());
    says(images(&mut loader(data, OnBadImage::Skip), 0).unwrap_err());

    let csv = dir.path().join("planted.csv");
    for name in ["ff_train.csv", "ff_val.csv", "ff_test.csv"] {
        fs_err::copy(&csv, dir.path().join(name)).unwrap();
    }
    let splits = Splits::read(dir.path(), &Schema::fairface()).unwrap();
    says(
        Audit::new(&splits, dir.path(), &ImageRules::default(), 3, None, |_, _| {}).unwrap_err().to_string(),
    );
}

#[test]
fn a_worker_that_panics_ends_its_epoch_by_name_and_no_later_one() {
    if !with_faults("files::a_worker_that_panics_ends_its_epoch_by_name_and_no_later_one", "panic@read:5.jpg")
    {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut loader = loader(dataset(dir.path(), 9, &[]), OnBadImage::Skip);
    let message = images(&mut loader, 0).unwrap_err();
    assert!(message.contains("5.jpg: worker panicked: a test asked for it"), "{message}");
    assert_eq!(images(&mut loader, 1), Ok(9));
    assert!(loader.skipped().is_empty());
}

/// A full disk, or a broken one, takes the cache away and not the images.
#[test]
fn a_cache_that_cannot_be_written_changes_no_pixel() {
    let test = "files::a_cache_that_cannot_be_written_changes_no_pixel";
    if !with_faults(test, "enospc@write:full/#3+; eio@write:broken/#1+") {
        return;
    }
    let values = |dataset: Dataset| -> Vec<f32> {
        let mut loader = Loader::new(Arc::new(dataset), LoaderConfig::eval(8)).unwrap();
        loader.epoch(0, 0).map(Result::unwrap).flat_map(|batch: Batch| batch.planes().to_vec()).collect()
    };
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let spec = CacheSpec::Disk(dir.path().join(name));
        sample_dataset(24, Mode::Eval).with_cache(&spec).unwrap()
    };
    let expected = values(sample_dataset(24, Mode::Eval));
    for (name, kept, reason) in [("full", 2, "No space left"), ("broken", 0, "Input/output error")] {
        let data = Arc::new(open(name));
        let mut loader = Loader::new(Arc::clone(&data), LoaderConfig::eval(8)).unwrap();
        let found: Vec<f32> =
            loader.epoch(0, 0).map(Result::unwrap).flat_map(|b| b.planes().to_vec()).collect();
        assert!(found == expected, "{name}");
        let cache = data.cache().unwrap();
        let error = cache.write_error().unwrap();
        assert!(error.contains(name) && error.contains(reason), "{error}");
        assert_eq!(cache.kept(), kept, "{name}");
        assert!(values(open(name)) == expected, "{name}, next start");
    }
}

/// `predict` cut the faces out, `train` and `evaluate` took whole photos.
#[test]
fn labelled_rows_have_their_boxes_cut_out_too() {
    let dir = tempfile::tempdir().unwrap();
    let face = fs_err::read(sample().join("images").join(&sample_splits().train.rows()[0].file)).unwrap();
    fs_err::write(dir.path().join("a.jpg"), &face).unwrap();
    let open = |header: &str, rows: &[&str]| {
        let lines: String = rows.iter().map(|row| format!("a.jpg,20-29,Female,Black,{row}\n")).collect();
        let csv = dir.path().join("faces.csv");
        fs_err::write(&csv, format!("file,age,gender,race,{header}\n{lines}")).unwrap();
        let manifest = ff_data::Manifest::read(csv, &Schema::fairface()).unwrap();
        let encoders = manifest.fit_encoders().unwrap();
        Dataset::open(manifest, dir.path(), &encoders, Mode::Eval)
    };
    let mut scratch = Scratch::default();
    let data = open("w,x,note,y,h", &["100,60,a,50,110", ",,b,,"]).unwrap();
    let face = FaceBox::new(60.0, 50.0, 100.0, 110.0).unwrap();
    assert_eq!((data.face(0), data.face(1)), (Some(face), None));
    let input = ImageInput { face: Some(face), ..ImageInput::new(dir.path().join("a.jpg")) };
    let predicted = Dataset::unlabelled(vec![input]).unwrap();
    let expected = predicted.read_rgb(0, &mut Scratch::default()).unwrap().clone();
    assert_eq!(*data.read_rgb(0, &mut scratch).unwrap(), expected);
    assert_ne!(*data.read_rgb(1, &mut scratch).unwrap(), expected);

    let message = |header, row| open(header, &[row]).unwrap_err().to_string();
    let bad = message("x,y,w,h", "1,2,three,4");
    assert!(bad.ends_with("faces.csv:2: expected x,y,w,h in pixels, found \"1,2,three,4\""), "{bad}");
    assert!(message("x,y,w,h", "1,2,0,4").contains("faces.csv:2: expected a width and height above 0"));
    let bad = message("x,y,w,height", "1,2,3,4");
    assert!(bad.ends_with("faces.csv: expected the columns x, y, w, h, found x, y, w, height"), "{bad}");
    assert!(open("w,h", &["300,400"]).is_ok(), "the size of a photo, say");

    let cache = tempfile::tempdir().unwrap();
    let spec = CacheSpec::Disk(cache.path().to_owned());
    let kept = |data: Dataset| {
        let data = Arc::new(data.with_cache(&spec).unwrap());
        let kept = data.cache().unwrap().kept();
        images(&mut Loader::new(data, LoaderConfig::eval(1)).unwrap(), 0).unwrap();
        kept
    };
    let at = |row: &str| open("x,y,w,h", &[row]).unwrap();
    assert_eq!([kept(at("60,50,100,110")), kept(at("60,50,100,110")), kept(at("60,50,100,111"))], [0, 1, 0]);
    assert_eq!(kept(at("60,50,100,110").with_face_padding(0.5)), 0);
}
