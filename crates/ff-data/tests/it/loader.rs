//! Batches depend on (seed, epoch, batch index) only; memory is bounded; errors and shutdown are clean.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ff_core::{PerTask, Schema, Task, UNKNOWN};
use ff_data::{
    Augment, Batch, BatchImages, Dataset, EpochOrder, Error, LastBatch, Layout, Loader, LoaderConfig,
    Manifest, Memory, Mode, OnBadImage, Scratch, SlotMemory, transforms,
};
use proptest::prelude::*;

use crate::support::{Fixture, fairface, planted, sample, sample_dataset, sample_inputs, sample_splits};

const TRAIN: fn() -> Mode = || Mode::train(Augment::Balanced, 7);

type Contents = (usize, Vec<u32>, Vec<String>, PerTask<Vec<u32>>, Vec<f32>);

fn contents(batch: Result<Batch, Error>) -> Contents {
    let Batch { images, targets, files, sample_indices, batch_idx, .. } = batch.unwrap();
    let BatchImages::Planes(images) = images else { panic!("planes were asked for") };
    (batch_idx, sample_indices, files, targets, images.to_vec())
}

fn epoch(mode: Mode, n: usize, config: LoaderConfig, epoch: u64, first_batch: usize) -> Vec<Contents> {
    let mut loader = Loader::new(Arc::new(sample_dataset(n, mode)), config).unwrap();
    loader.epoch(epoch, first_batch).map(contents).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn order_is_a_permutation(n in 0..2000usize, seed: u64, epoch in 0..100u64) {
        let order = EpochOrder::shuffled(n, seed, epoch);
        prop_assert_eq!(&order, &EpochOrder::shuffled(n, seed, epoch));
        let mut sorted = order.indices().to_vec();
        sorted.sort_unstable();
        let identity = EpochOrder::identity(n);
        prop_assert_eq!(&sorted[..], identity.indices());
        if n > 20 {
            prop_assert_ne!(&order, &identity);
            prop_assert_ne!(&order, &EpochOrder::shuffled(n, seed, epoch + 1));
            prop_assert_ne!(&order, &EpochOrder::shuffled(n, seed.wrapping_add(1), epoch));
        }
    }

    #[test]
    fn batches_cover_the_order(n in 1..500usize, batch_size in 1..64usize) {
        let order = EpochOrder::shuffled(n, 3, 1);
        let batches = LoaderConfig::eval(batch_size).n_batches(n);
        let joined: Vec<u32> = (0..batches).flat_map(|i| order.batch(i, batch_size)).copied().collect();
        prop_assert_eq!(&joined[..], order.indices());
        prop_assert!(order.batch(batches, batch_size).is_empty());
        prop_assert_eq!(LoaderConfig::train(batch_size).n_batches(n), n / batch_size);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Worker count, queue depth and the place where an epoch is entered change nothing.
    #[test]
    fn batches_do_not_depend_on_how_they_are_made(
        workers in prop::sample::select(vec![1usize, 2, 5]),
        prefetch in 1..5usize,
        first_batch in 0..5usize,
        epoch_idx in 0..3u64,
    ) {
        let config = LoaderConfig::train(8);
        let whole = epoch(TRAIN(), 43, config.with_workers(1), epoch_idx, 0);
        prop_assert_eq!(whole.len(), 5);
        let resumed = epoch(TRAIN(), 43, config.with_workers(workers).with_prefetch(prefetch), epoch_idx, first_batch);
        prop_assert_eq!(&resumed[..], &whole[first_batch..]);
    }
}

#[test]
fn one_two_and_five_workers_give_equal_batches() {
    let run = |workers| epoch(TRAIN(), 43, LoaderConfig::train(8).with_workers(workers), 1, 0);
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

/// The loader adds nothing to what [`Dataset::load`] gives.
#[test]
fn a_batch_is_its_samples() {
    let dataset = Arc::new(sample_dataset(20, TRAIN()));
    let mut loader = Loader::new(Arc::clone(&dataset), LoaderConfig::train(6)).unwrap();
    let mut scratch = Scratch::default();
    let mut image = vec![0.0; dataset.image_len()];
    let mut n_batches = 0;
    for (batch_idx, batch) in loader.epoch(2, 0).enumerate() {
        let batch = batch.unwrap();
        assert_eq!(
            (batch.shape, batch.batch_idx, batch.epoch, batch.len()),
            ([6, 3, 224, 224], batch_idx, 2, 6)
        );
        assert_eq!(batch.sample_indices, dataset.order(2).batch(batch_idx, 6));
        for (position, &sample_idx) in batch.sample_indices.iter().enumerate() {
            let sample_idx = sample_idx as usize;
            dataset.load(2, sample_idx, &mut scratch, &mut image).unwrap();
            assert_eq!(batch.planes()[position * image.len()..][..image.len()], image);
            assert_eq!(batch.files[position], dataset.manifest().rows()[sample_idx].file);
            for (task, targets) in batch.targets.iter() {
                assert_eq!(targets[position], dataset.targets()[task][sample_idx]);
            }
        }
        n_batches += 1;
    }
    assert_eq!(n_batches, 3, "20 samples: three batches of six, two samples left out");
}

#[test]
fn evaluation_keeps_order_and_the_last_samples() {
    let batches = epoch(Mode::Eval, 20, LoaderConfig::eval(6), 0, 0);
    let indices: Vec<u32> = batches.iter().flat_map(|batch| batch.1.clone()).collect();
    assert_eq!(indices, (0..20).collect::<Vec<u32>>());
    assert_eq!(batches.len(), 4);
    assert_eq!(batches[3].4.len(), 2 * 3 * 224 * 224);
    assert_eq!(batches, epoch(Mode::Eval, 20, LoaderConfig::eval(6), 5, 0), "no epoch differs from another");
}

#[test]
fn epochs_and_seeds_differ() {
    let run = |seed, at| epoch(Mode::train(Augment::Fast, seed), 16, LoaderConfig::train(16), at, 0);
    let first = run(1, 0);
    for other in [run(1, 1), run(2, 0)] {
        assert_ne!(first[0].1, other[0].1);
        assert_ne!(first[0].4, other[0].4);
    }
}

#[test]
fn slots_are_used_again() {
    let config = LoaderConfig::eval(2).with_prefetch(2);
    let mut loader = Loader::new(Arc::new(sample_dataset(60, Mode::Eval)), config).unwrap();
    for at in 0..2 {
        assert_eq!(loader.epoch(at, 0).map(Result::unwrap).count(), 30);
    }
    assert!(loader.slots_made() <= 3, "{} slots for 60 batches", loader.slots_made());
    assert!(loader.wait() > Duration::ZERO);
}

/// A consumer that keeps everything gets everything, and no deadlock.
#[test]
fn batches_can_all_be_kept() {
    let config = LoaderConfig::eval(2).with_prefetch(1);
    let mut loader = Loader::new(Arc::new(sample_dataset(20, Mode::Eval)), config).unwrap();
    let kept: Vec<Batch> = loader.epoch(0, 0).map(Result::unwrap).collect();
    assert_eq!(kept.len(), 10);
    drop(loader);
    assert_eq!(kept[9].planes().len(), 2 * 3 * 224 * 224, "batches outlive their loader");
}

#[test]
fn an_epoch_can_be_left_and_another_begun() {
    let mut loader = Loader::new(Arc::new(sample_dataset(43, TRAIN())), LoaderConfig::train(4)).unwrap();
    for at in 0..5 {
        let batch = loader.epoch(at, 2).next().unwrap().unwrap();
        assert_eq!((batch.epoch, batch.batch_idx), (at, 2));
    }
    assert_eq!(loader.epoch(9, loader.n_batches()).count(), 0, "beyond the end there is nothing");
    drop(loader.epoch(9, 0));
}

/// The error comes in its turn, names the first bad image of its batch, and ends the epoch.
/// As a rank reads its own; and a disk that is slow would have nothing of the others' read ahead.
#[test]
fn batches_of_ones_own_are_those_of_the_epoch_and_no_other_file_is_touched() {
    let (places, config) = ([1, 4, 6], LoaderConfig::train(2).with_workers(3));
    let jpeg = Fixture::images().bytes("rgb.jpg");
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..16).map(|i| format!("{i}.jpg")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &jpeg[..])).collect();
    let (manifest, encoders) = planted(dir.path(), &files);
    let dataset = Dataset::open(manifest, dir.path(), &encoders, TRAIN()).unwrap();
    let mut loader = Loader::new(Arc::new(dataset), config).unwrap();
    let whole: Vec<Contents> = loader.epoch(3, 0).map(contents).collect();
    for (at, (_, _, files, ..)) in whole.iter().enumerate() {
        if !places.contains(&at) {
            files.iter().for_each(|file| fs_err::remove_file(dir.path().join(file)).unwrap());
        }
    }
    let own: Vec<Contents> = loader.batches(3, places).map(contents).collect();
    assert_eq!(own, places.map(|place| whole[place].clone()));
    assert_eq!(loader.batches(3, []).count(), 0);
}

#[test]
fn a_broken_image_surfaces_at_its_batch() {
    let jpeg = Fixture::images().bytes("rgb.jpg");
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..20).map(|i| format!("{i}.jpg")).collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &jpeg[..])).collect();
    (files[10].1, files[11].1, files[17].1) = (b"text", b"text too", b"more text");
    let (manifest, encoders) = planted(dir.path(), &files);
    for workers in [1, 2, 5] {
        let dataset = Dataset::open(manifest.clone(), dir.path(), &encoders, Mode::Eval).unwrap();
        let mut loader = Loader::new(Arc::new(dataset), LoaderConfig::eval(4).with_workers(workers)).unwrap();
        let results: Vec<_> = loader.epoch(0, 0).collect();
        assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
        let message = results[2].as_ref().unwrap_err().to_string();
        assert!(message.contains("10.jpg") && message.contains("planted.csv line 12,"), "{message}");
        assert_eq!(loader.epoch(0, 0).filter(Result::is_ok).count(), 2, "the loader lives on");
    }
}

#[test]
fn datasets_are_checked_when_opened() {
    let splits = sample_splits();
    let open =
        |manifest: &Manifest, root| Dataset::open(manifest.clone(), root, &splits.encoders, Mode::Eval);
    let message = open(&splits.val, sample().join("nowhere")).unwrap_err().to_string();
    assert!(message.starts_with("images folder not found"), "{message}");

    let message = open(&splits.val, sample()).unwrap_err().to_string();
    for part in [&splits.val.rows()[0].file, "ff_val.csv line 2", "images folder"] {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }

    let unseen = fairface("odd.csv", b"file,age,gender,race\na.jpg,0-2,Male,Martian\n").unwrap();
    let message = open(&unseen, sample().join("images")).unwrap_err().to_string();
    assert!(
        message.starts_with("odd.csv:2: race label \"Martian\" is not in the training split"),
        "{message}"
    );

    let empty = fairface("empty.csv", b"file,age,gender,race\n").unwrap();
    assert!(matches!(open(&empty, sample().join("images")), Err(Error::NoRows { .. })));
}

/// A task whose column is called otherwise, one label that is not known, and encoders in an order of their own.
#[test]
fn a_batch_has_the_targets_of_the_encoders_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let face = Fixture::images().bytes("rgb.jpg");
    ["a.jpg", "b.jpg", "c.jpg"].iter().for_each(|name| fs_err::write(dir.path().join(name), &face).unwrap());
    let schema =
        Schema::new(vec![Task::new("glasses"), Task::new("emotion").with_column("Expression")]).unwrap();
    let csv = b"file,Expression,glasses\na.jpg,smile,yes\nb.jpg, ,no\nc.jpg,anger,\n";
    let manifest = Manifest::parse("faces.csv", csv, &schema).unwrap();
    let encoders = manifest.fit_encoders().unwrap();
    let dataset = Dataset::open(manifest, dir.path(), &encoders, Mode::Eval).unwrap();
    let mut loader = Loader::new(Arc::new(dataset), LoaderConfig::eval(2).with_workers(1)).unwrap();
    let targets: Vec<_> = loader.epoch(0, 0).map(|batch| batch.unwrap().targets).collect();
    assert_eq!(targets[0].names().map(|name| name.as_str()).collect::<Vec<_>>(), ["glasses", "emotion"]);
    assert_eq!((&targets[0]["glasses"], &targets[0]["emotion"]), (&vec![1, 0], &vec![1, UNKNOWN]));
    assert_eq!((&targets[1]["glasses"], &targets[1]["emotion"]), (&vec![UNKNOWN], &vec![0]));

    let other = fairface("other.csv", b"file,age,gender,race\na.jpg,0-2,F,Black\n").unwrap();
    let message = Dataset::open(other, dir.path(), &encoders, Mode::Eval).unwrap_err().to_string();
    assert_eq!(message, "other.csv: expected a task: age, gender or race, found \"glasses\"");
}

#[test]
fn images_without_labels_make_batches_without_targets() {
    let inputs = sample_inputs(5);
    let files: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
    let dataset = Dataset::unlabelled(inputs).unwrap();
    let mut loader = Loader::new(Arc::new(dataset), LoaderConfig::eval(3)).unwrap();
    let batches: Vec<Batch> = loader.epoch(0, 0).map(Result::unwrap).collect();
    assert_eq!(
        batches.iter().flat_map(|batch| &batch.files).collect::<Vec<_>>(),
        files.iter().collect::<Vec<_>>()
    );
    assert!(batches.iter().all(|batch| batch.targets.is_empty()));
    assert!(matches!(Dataset::unlabelled(Vec::new()), Err(Error::NoRows { .. })));
}

/// A worker that outlives its loader would hold the dataset, and still be making the images of the epoch that was left.
#[test]
fn threads_are_joined_when_the_loader_is_dropped() {
    for workers in [1, 3] {
        let dataset = Arc::new(sample_dataset(43, TRAIN()));
        let config = LoaderConfig::train(4).with_workers(workers);
        let mut loader = Loader::new(Arc::clone(&dataset), config).unwrap();
        drop(loader.epoch(0, 0).next());
        drop(loader.epoch(1, 0));
        drop(loader);
        assert_eq!(Arc::strong_count(&dataset), 1, "with {workers} workers");
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let new = |mode, config| {
        let loader = Loader::new(Arc::new(sample_dataset(10, mode)), config);
        loader.err().expect("expected an error").to_string()
    };
    assert_eq!(new(Mode::Eval, LoaderConfig::eval(0)), "expected a batch size of at least 1, found 0");
    let none = LoaderConfig::eval(1).with_workers(0);
    assert_eq!(new(Mode::Eval, none), "expected a worker count of at least 1, found 0");
    let large = new(TRAIN(), LoaderConfig::train(11));
    assert_eq!(large, "first.csv: expected rows for at least one batch of 11, found 10 rows");
    let dropping = LoaderConfig { last_batch: LastBatch::Drop, ..LoaderConfig::eval(4) };
    assert!(new(Mode::Eval, dropping).contains("every sample"));
}

/// Skipping is deterministic: batches are shorter by their bad images, one of nothing else is left out, the rest stay.
#[test]
fn bad_images_can_be_skipped() {
    let jpeg = Fixture::images().bytes("rgb.jpg");
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..20).map(|i| format!("{i}.jpg")).collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &jpeg[..])).collect();
    for bad in [5, 8, 9, 10, 11, 13] {
        files[bad].1 = b"text";
    }
    let (manifest, encoders) = planted(dir.path(), &files);
    for workers in [1, 2, 5] {
        let dataset = Dataset::open(manifest.clone(), dir.path(), &encoders, Mode::Eval).unwrap();
        let config = LoaderConfig::eval(4).with_workers(workers).with_on_bad_image(OnBadImage::Skip);
        let mut loader = Loader::new(Arc::new(dataset), config).unwrap();
        for at in 0..2 {
            let batches: Vec<Batch> = loader.epoch(at, 0).map(Result::unwrap).collect();
            let indices: Vec<&[u32]> = batches.iter().map(|batch| &batch.sample_indices[..]).collect();
            let expected: [&[u32]; 4] = [&[0, 1, 2, 3], &[4, 6, 7], &[12, 14, 15], &[16, 17, 18, 19]];
            assert_eq!(indices, expected);
            let places: Vec<usize> = batches.iter().map(|batch| batch.batch_idx).collect();
            assert_eq!(places, [0, 1, 3, 4]);
            let image = &batches[0].planes()[..3 * 224 * 224];
            for batch in &batches {
                assert_eq!(batch.shape[0], batch.len());
                assert_eq!((batch.targets["age"].len(), batch.files.len()), (batch.len(), batch.len()));
                assert!(
                    batch.planes().chunks(image.len()).all(|other| other == image),
                    "no hole in the batch"
                );
            }
        }
        let config = LoaderConfig { last_batch: LastBatch::Drop, ..config };
        let mode = Mode::train(Augment::Fastest, 1);
        let nothing =
            Manifest::new("bad.csv", manifest.schema(), vec![], manifest.rows()[8..12].to_vec()).unwrap();
        let dataset = Dataset::open(nothing, dir.path(), &encoders, mode).unwrap();
        let mut training = Loader::new(Arc::new(dataset), config).unwrap();
        let error = training.epoch(0, 0).next().unwrap().unwrap_err();
        assert!(matches!(error, Error::Image { .. }), "a full batch of bad images is an error: {error}");
        let skipped: Vec<u32> = loader.skipped().keys().copied().collect();
        assert_eq!(skipped, [5, 8, 9, 10, 11, 13]);
        assert!(loader.skipped()[&5].contains("5.jpg"), "{}", loader.skipped()[&5]);
    }
}

/// The pixels of a batch and its draws make the planes of the other layout.
#[test]
fn pixels_and_their_draws_make_the_planes() {
    let dataset = Arc::new(sample_dataset(12, TRAIN()));
    let config = LoaderConfig::train(6);
    let planes: Vec<Batch> = {
        let mut loader = Loader::new(Arc::clone(&dataset), config).unwrap();
        loader.epoch(3, 0).map(Result::unwrap).collect()
    };
    let mut loader = Loader::new(Arc::clone(&dataset), config.with_layout(Layout::Pixels)).unwrap();
    let mut image = vec![0.0; dataset.image_len()];
    for (batch, planes) in loader.epoch(3, 0).map(Result::unwrap).zip(&planes) {
        assert_eq!((batch.shape, batch.pixels().len()), ([6, 224, 224, 3], 6 * image.len()));
        for (i, params) in batch.augment.iter().enumerate() {
            let pixels = &batch.pixels()[i * image.len()..][..image.len()];
            transforms::augment_into(params, pixels, dataset.size(), &mut image, &mut Vec::new());
            assert_eq!(image, planes.planes()[i * image.len()..][..image.len()]);
        }
    }
}

/// Whoever allocates the slots, batches are the same, and each slot is allocated once.
#[test]
fn pixels_do_not_depend_on_whose_memory_they_are_in() {
    /// More than was asked for, and not clean.
    struct Strange(AtomicUsize);

    impl SlotMemory for Strange {
        fn allocate(&self, len: usize) -> Memory<u8> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::new(vec![0xa5; len + 7])
        }
    }

    let pixels = |loader: &mut Loader| -> Vec<Vec<u8>> {
        loader.epoch(1, 0).map(|batch| batch.unwrap().pixels().to_vec()).collect()
    };
    let dataset = Arc::new(sample_dataset(20, TRAIN()));
    let config = LoaderConfig::train(4).with_prefetch(1).with_layout(Layout::Pixels);
    let plain = pixels(&mut Loader::new(Arc::clone(&dataset), config).unwrap());
    let memory = Arc::new(Strange(AtomicUsize::new(0)));
    let mut loader = Loader::with_memory(memory.clone(), dataset, config).unwrap();
    assert_eq!(pixels(&mut loader), plain);
    assert!(memory.0.load(Ordering::Relaxed) == loader.slots_made() && loader.slots_made() <= 2);
}

/// A slot goes where it is needed by itself, and its memory comes back from there.
#[test]
fn a_slot_of_pixels_can_be_sent_away() {
    let config = LoaderConfig::train(4).with_prefetch(1).with_layout(Layout::Pixels);
    let mut loader = Loader::new(Arc::new(sample_dataset(20, TRAIN())), config).unwrap();
    for batch in loader.epoch(0, 0) {
        let BatchImages::Pixels(slot) = batch.unwrap().images else { panic!("pixels were asked for") };
        let bytes: Box<dyn std::ops::Deref<Target = [u8]> + Send> = Box::new(slot);
        let n = std::thread::spawn(move || bytes.len()).join().unwrap();
        assert_eq!(n, 4 * 224 * 224 * 3);
    }
    assert!(loader.slots_made() <= 2);
}

/// Ten times the ring and more streams through the ring's memory.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_the_rings_however_much_streams_through() {
    let peak = || {
        let status = fs_err::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() >> 10
    };
    // Slots of 38 MiB: beside them the memory of other tests is small.
    let config = LoaderConfig::eval(64).with_prefetch(2).with_workers(2);
    let dataset = Arc::new(sample_dataset(599, Mode::Eval));
    let mut loader = Loader::new(Arc::clone(&dataset), config).unwrap();
    assert_eq!(loader.epoch(0, 0).map(Result::unwrap).count(), 10);
    let before = peak();
    for at in 1..4 {
        assert_eq!(loader.epoch(at, 0).map(Result::unwrap).count(), 10);
    }
    // How many an epoch takes depends on who is slow: the ring is the limit.
    assert!(loader.slots_made() <= 3, "{} slots", loader.slots_made());
    assert!(peak() < before + 100, "peak memory grew from {before} to {} MiB", peak());
    assert!(loader.times().images >= 3 * 599);
}
