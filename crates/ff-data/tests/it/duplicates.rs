//! What the search for duplicates finds of changes that were planted, and what it takes for one that is none.

use std::{collections::BTreeMap, path::PathBuf};

use ff_data::{
    ImageRules, ImageSize, RgbImage, decode,
    duplicates::{Duplicates, Facing, Fingerprint, HashFile, NearPair, scan},
    resize,
};
use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::support::{sample, sample_splits};

const WORKERS: usize = 2;

fn jpeg(image: &RgbImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let size = (image.width as u32, image.height as u32);
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
    encoder.encode(&image.pixels, size.0, size.1, ExtendedColorType::Rgb8).unwrap();
    bytes
}

fn resized(image: &RgbImage, side: usize) -> RgbImage {
    resize(image, ImageSize { width: side, height: side })
}

fn mirrored(image: &RgbImage) -> RgbImage {
    let rows = image.pixels.chunks_exact(3 * image.width);
    let pixels = rows.flat_map(|row| row.chunks_exact(3).rev().flatten().copied()).collect();
    RgbImage { pixels, ..*image }
}

fn brightened(image: &RgbImage, factor: f64) -> RgbImage {
    let brighter = |&value: &u8| (f64::from(value) * factor).min(255.0) as u8;
    RgbImage { pixels: image.pixels.iter().map(brighter).collect(), ..*image }
}

/// A window with a share less along each side, at a place that is drawn, brought back to the old size.
fn cropped(image: &RgbImage, less: f64, rng: &mut ChaCha8Rng) -> RgbImage {
    let side = (image.width as f64 * (1.0 - less)).round() as usize;
    let mut place = || rng.next_u32() as usize % (image.width - side + 1);
    let (left, top) = (place(), place());
    let rows = image.pixels.chunks_exact(3 * image.width).skip(top).take(side);
    let pixels = rows.flat_map(|row| &row[3 * left..3 * (left + side)]).copied().collect();
    resized(&RgbImage { width: side, height: side, pixels }, image.width)
}

/// Every kind of change, of an image and its file's bytes.
fn changes(bytes: &[u8], rng: &mut ChaCha8Rng) -> Vec<(&'static str, Vec<u8>)> {
    let image = decode(bytes).unwrap();
    let bright = brightened(&image, 1.2);
    vec![
        ("copy", bytes.to_vec()),
        ("JPEG quality 60", jpeg(&image, 60)),
        ("JPEG quality 30", jpeg(&image, 30)),
        ("half the size", jpeg(&resized(&image, 112), 90)),
        ("300 pixels", jpeg(&resized(&image, 300), 90)),
        ("mirrored", jpeg(&mirrored(&image), 90)),
        ("20 % brighter", jpeg(&bright, 90)),
        ("40 % brighter", jpeg(&brightened(&image, 1.4), 90)),
        ("crop by 4 %", jpeg(&cropped(&image, 0.04, rng), 90)),
        ("crop by 8 %", jpeg(&cropped(&image, 0.08, rng), 90)),
        ("crop by 6 %, brighter", jpeg(&cropped(&bright, 0.06, rng), 90)),
        ("crop by 4 %, mirrored", jpeg(&mirrored(&cropped(&image, 0.04, rng)), 90)),
    ]
}

/// Recall in per cent that the guide states for each kind of change.
const STATED: [(&str, u32); 12] = [
    ("copy", 100),
    ("JPEG quality 60", 100),
    ("JPEG quality 30", 100),
    ("half the size", 100),
    ("300 pixels", 100),
    ("mirrored", 100),
    ("20 % brighter", 100),
    ("40 % brighter", 98),
    ("crop by 4 %", 99),
    ("crop by 4 %, mirrored", 98),
    ("crop by 6 %, brighter", 89),
    ("crop by 8 %", 65),
];

fn sample_files() -> Vec<String> {
    let splits = sample_splits();
    let rows = [splits.train, splits.val, splits.test];
    rows.iter().flat_map(|split| split.rows().iter().map(|row| row.file.clone())).collect()
}

fn fingerprint(bytes: &[u8]) -> Option<Fingerprint> {
    Some(Fingerprint::new(bytes).unwrap())
}

/// The table of the guide: all 799 faces, and of every fourth one each kind of change.
#[test]
fn planted_changes_are_found_as_the_guide_states() {
    let files: Vec<Vec<u8>> =
        sample_files().iter().map(|file| fs_err::read(sample().join("images").join(file)).unwrap()).collect();
    let mut images: Vec<(usize, &str, Option<Fingerprint>)> =
        files.iter().enumerate().map(|(i, bytes)| (i, "", fingerprint(bytes))).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for original in (0..files.len()).step_by(4) {
        for (kind, bytes) in changes(&files[original], &mut rng) {
            images.push((original, kind, fingerprint(&bytes)));
        }
    }
    let fingerprints: Vec<_> = images.iter().map(|(_, _, fingerprint)| fingerprint.clone()).collect();
    let duplicates = Duplicates::find(&fingerprints, WORKERS, |_| {});

    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for group in &duplicates.exact {
        assert!(group.iter().all(|&i| images[i].0 == images[group[0]].0), "only copies have the same bytes");
        *found.entry("copy").or_default() += group.len() - 1;
    }
    let mut wrong = 0;
    for pair in &duplicates.near {
        let ((original, kind, _), (other, other_kind, _)) = (&images[pair.a], &images[pair.b]);
        wrong += usize::from(original != other);
        if original == other && kind.is_empty() {
            *found.entry(other_kind).or_default() += 1;
            assert_eq!(pair.facing == Facing::Mirrored, other_kind.contains("mirrored"), "{other_kind}");
        }
    }
    assert_eq!(wrong, 0, "of {} pairs", duplicates.near.len());
    let mut similarities: Vec<f32> = duplicates.near.iter().map(|pair| pair.similarity).collect();
    similarities.sort_by(f32::total_cmp);
    println!(
        "{} pairs, one in a hundred below {:.2}",
        similarities.len(),
        similarities[similarities.len() / 100]
    );
    let planted = files.len().div_ceil(4);
    for (kind, stated) in STATED {
        let recall = 100.0 * found[kind] as f64 / planted as f64;
        println!("{kind}: {recall:.1} %");
        assert!(recall >= f64::from(stated), "{kind}: expected {stated} %, found {recall:.1} %");
    }
    assert_eq!(found.len(), STATED.len());
}

#[test]
fn groups_are_joined_and_copies_dropped() {
    let near = |a, b| NearPair { a, b, similarity: 0.9, facing: Facing::Same };
    let mut duplicates =
        Duplicates { exact: vec![vec![1, 4], vec![3, 8, 9]], near: vec![near(0, 3), near(1, 6), near(5, 6)] };
    assert_eq!(duplicates.groups(), [vec![0, 3, 8, 9], vec![1, 4, 5, 6]]);
    assert_eq!(duplicates.drop_copies(10), [0, 1, 2, 3, 5, 6, 7]);
    assert_eq!(duplicates.near, [near(0, 3), near(1, 5), near(4, 5)]);
    assert_eq!(duplicates.groups(), [vec![0, 3], vec![1, 4, 5]]);
}

/// Files of the sample in a folder of their own, and a path for their hashes.
struct Folder {
    dir: TempDir,
    files: Vec<String>,
}

impl Folder {
    fn new(n: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<String> = (0..n).map(|i| format!("{i}.jpg")).collect();
        for (file, from) in files.iter().zip(sample_files()) {
            fs_err::copy(sample().join("images").join(from), dir.path().join(file)).unwrap();
        }
        Folder { dir, files }
    }

    fn hashes(&self) -> PathBuf {
        self.dir.path().join("hashes.bin")
    }

    fn scan(&self) -> Vec<Fingerprint> {
        let files: Vec<&str> = self.files.iter().map(String::as_str).collect();
        let hashes = HashFile::open(self.hashes()).unwrap();
        let found =
            scan(self.dir.path(), &files, &ImageRules::default(), WORKERS, Some(hashes), |_| {}).unwrap();
        found.into_iter().map(Result::unwrap).collect()
    }

    fn known(&self) -> usize {
        HashFile::open(self.hashes()).unwrap().len()
    }
}

/// As after a kill in the middle of a write, or damage by whatever else.
#[test]
fn a_cut_or_damaged_hash_file_costs_time_and_nothing_else() {
    let folder = Folder::new(12);
    let expected = folder.scan();
    assert_eq!(folder.known(), 12);
    let whole = fs_err::read(folder.hashes()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for round in 0..40 {
        let mut bytes = whole.clone();
        // Behind the first eight bytes: without them it is no hash file, and refused.
        let at = 8 + rng.next_u32() as usize % (bytes.len() - 8);
        match round % 2 {
            0 => bytes.truncate(at),
            _ => bytes[at] ^= 1 << (rng.next_u32() % 8),
        }
        fs_err::write(folder.hashes(), &bytes).unwrap();
        let known = folder.known();
        // A record is its checksum, the length of its name, four words, a SHA-256, a thumbnail and its name.
        let sound = at.saturating_sub(8) / (16 + 32 + 32 + 1024 + "0.jpg".len());
        assert!(known <= 12 && known + 1 >= sound.min(12), "round {round}, byte {at}: {known} known");
        assert!(folder.scan() == expected, "round {round}, byte {at}");
        assert_eq!(folder.known(), 12, "round {round}, byte {at}: what was lost is there again");
    }
}

#[test]
fn known_files_are_not_read_again_and_changed_ones_are() {
    let folder = Folder::new(4);
    let before = folder.scan();
    let path = folder.dir.path().join("2.jpg");
    let (len, modified) = {
        let metadata = fs_err::metadata(&path).unwrap();
        (metadata.len() as usize, metadata.modified().unwrap())
    };
    // Same length and time: what is known stands for it, however wrong.
    fs_err::write(&path, vec![0; len]).unwrap();
    fs_err::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert!(folder.scan() == before);
    fs_err::copy(folder.dir.path().join("3.jpg"), &path).unwrap();
    let after = folder.scan();
    assert!(after[2] == after[3] && after[2] != before[2]);
}

/// Progress that stops in the middle stands for a kill.
#[test]
fn a_scan_that_was_stopped_goes_on_where_it_was() {
    let folder = Folder::new(30);
    let files: Vec<&str> = folder.files.iter().map(String::as_str).collect();
    let killed = std::panic::catch_unwind(|| {
        let hashes = HashFile::open(folder.hashes()).unwrap();
        let stop = |done| assert!(done < 10, "stopped");
        scan(folder.dir.path(), &files, &ImageRules::default(), WORKERS, Some(hashes), stop).map(|_| ())
    });
    assert!(killed.is_err());
    assert_eq!(folder.known(), 10);
    let mut first = None;
    let hashes = HashFile::open(folder.hashes()).unwrap();
    scan(folder.dir.path(), &files, &ImageRules::default(), WORKERS, Some(hashes), |done| {
        first.get_or_insert(done);
    })
    .unwrap();
    assert_eq!((first, folder.known()), (Some(10), 30));
}
