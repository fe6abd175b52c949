//! The cache changes how fast pixels come and never which; damage of any kind is noticed.

use std::{path::Path, path::PathBuf, sync::Arc};

use ff_data::{Augment, Batch, CacheSpec, Dataset, ImageInput, ImageSize, Loader, LoaderConfig, Mode};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::{Fixture, planted, sample_dataset};

fn dataset(spec: &CacheSpec) -> Arc<Dataset> {
    let size = ImageSize { width: 40, height: 30 };
    let dataset = sample_dataset(24, Mode::train(Augment::Fast, 3)).with_size(size);
    Arc::new(dataset.with_cache(spec).unwrap())
}

fn values(dataset: &Arc<Dataset>, epoch: u64, workers: usize) -> Vec<f32> {
    let config = LoaderConfig::train(8).with_workers(workers);
    let mut loader = Loader::new(Arc::clone(dataset), config).unwrap();
    let batches = loader.epoch(epoch, 0).map(Result::unwrap);
    batches.flat_map(|batch: Batch| batch.planes().to_vec()).collect()
}

fn kept(dataset: &Dataset) -> usize {
    dataset.cache().unwrap().kept()
}

fn only_file(dir: &Path) -> PathBuf {
    let files: Vec<_> = fs_err::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn batches_do_not_depend_on_the_cache_or_the_workers() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dataset(&CacheSpec::None);
    assert!(plain.cache().is_none());
    for spec in [CacheSpec::Memory, CacheSpec::Disk(dir.path().to_owned())] {
        let cached = dataset(&spec);
        assert_eq!((kept(&cached), cached.cache().unwrap().bytes()), (0, 24 * 40 * 30 * 3));
        for (epoch, workers) in [(0, 2), (1, 1), (2, 5)] {
            assert!(values(&cached, epoch, workers) == values(&plain, epoch, 1), "{spec:?}, epoch {epoch}");
            assert_eq!(kept(&cached), 24);
        }
    }
    let later = dataset(&CacheSpec::Disk(dir.path().to_owned()));
    assert_eq!(kept(&later), 24, "a later run finds them");
    assert!(values(&later, 1, 2) == values(&plain, 1, 1));
}

/// Killed while writing, cut short, bits flipped, whole stretches overwritten: at worst images are decoded again.
#[test]
fn a_damaged_file_never_gives_wrong_pixels() {
    let dir = tempfile::tempdir().unwrap();
    let spec = CacheSpec::Disk(dir.path().to_owned());
    let expected = values(&dataset(&CacheSpec::None), 4, 1);
    values(&dataset(&spec), 0, 2);
    let path = only_file(dir.path());
    let whole = fs_err::read(&path).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for round in 0..60 {
        let mut bytes = whole.clone();
        // Every other time near the beginning, where the header and the index are.
        let end = if round % 2 == 0 { bytes.len() } else { 300 };
        let at = rng.next_u32() as usize % end;
        match round % 3 {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << (rng.next_u32() % 8),
            _ => {
                let until = (at + 5000).min(bytes.len());
                bytes[at..until].fill(0xff);
            }
        }
        fs_err::write(&path, &bytes).unwrap();
        let damaged = dataset(&spec);
        assert!(values(&damaged, 4, 2) == expected, "round {round}, byte {at}");
        drop(damaged);
        assert!(values(&dataset(&spec), 4, 2) == expected, "round {round}: after mending");
        let mended = fs_err::read(&path).unwrap();
        // Header and index, then nothing up to the next page, then the images.
        for part in [0..40 + 24 * 8, 4096..whole.len()] {
            assert!(
                mended[part.clone()] == whole[part.clone()],
                "round {round}: bytes {part:?} stay damaged"
            );
        }
    }
}

/// So nobody gets pixels of a file as it used to be.
#[test]
fn another_list_or_a_changed_file_has_another_cache() {
    let dir = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let fixture = Fixture::images();
    let (manifest, encoders) = planted(dir.path(), &[("a.jpg", &fixture.bytes("rgb.jpg"))]);
    let open = || {
        let dataset = Dataset::open(manifest.clone(), dir.path(), &encoders, Mode::Eval).unwrap();
        Arc::new(dataset.with_cache(&CacheSpec::Disk(cache.path().to_owned())).unwrap())
    };
    let values = |dataset: &Arc<Dataset>| {
        let mut loader = Loader::new(Arc::clone(dataset), LoaderConfig::eval(1)).unwrap();
        loader.epoch(0, 0).next().unwrap().unwrap().planes().to_vec()
    };
    let first = values(&open());
    assert!(kept(&open()) == 1 && values(&open()) == first);
    fs_err::write(dir.path().join("a.jpg"), fixture.bytes("exif6.jpg")).unwrap();
    assert_eq!(kept(&open()), 0);
    assert!(values(&open()) != first);
}

#[test]
fn what_has_no_room_is_refused() {
    let huge = ImageSize { width: 1 << 20, height: 1 << 20 };
    let dir = tempfile::tempdir().unwrap();
    for spec in [CacheSpec::Memory, CacheSpec::Disk(dir.path().to_owned())] {
        let dataset = sample_dataset(20, Mode::Eval).with_size(huge);
        let message = dataset.with_cache(&spec).unwrap_err().to_string();
        assert!(message.starts_with("cache of 62914560 MiB: expected room"), "{message}");
    }
    assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
}

/// The name that a cache of version 0.1 had: later versions use it again.
#[test]
fn caches_of_version_0_1_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jpg");
    fs_err::write(&path, Fixture::images().bytes("rgb.jpg")).unwrap();
    let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    fs_err::File::options().write(true).open(&path).unwrap().file().set_modified(modified).unwrap();
    let input = ImageInput { name: "a.jpg".into(), ..ImageInput::new(path) };
    let cache = tempfile::tempdir().unwrap();
    let spec = CacheSpec::Disk(cache.path().to_owned());
    Dataset::unlabelled(vec![input]).unwrap().with_cache(&spec).unwrap();
    assert_eq!(only_file(cache.path()).file_name().unwrap(), "7aab544f7683ec54.ffcache");
}
