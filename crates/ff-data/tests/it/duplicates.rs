//! What the search for duplicates finds of changes that were planted, and what it takes for one that is none.

use std::{collections::BTreeMap, f64::consts::TAU, path::PathBuf};

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

/// Grey from left to right over so many values: an image of nothing, twice, once in other bytes.
#[test]
fn images_of_next_to_nothing_are_no_near_duplicates() {
    for (values, expected) in [(8, 0), (80, 1)] {
        let grey = |i: usize| [(80 + i % 64 * values / 64) as u8; 3];
        let fade = RgbImage { width: 64, height: 64, pixels: (0..64 * 64).flat_map(grey).collect() };
        let images = [jpeg(&fade, 95), jpeg(&fade, 90)].map(|bytes| fingerprint(&bytes));
        let found = Duplicates::find(&images, WORKERS, |_| {});
        assert_eq!((found.exact.len(), found.near.len()), (0, expected), "{values} values");
    }
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

/// The side of a dark face before a plain ground, 224 x 224: an outline with strong contrast that is a little different
/// from person to person, and faint features that are each person's own.
fn profile_on_plain_ground(features: f64, person: u64) -> RgbImage {
    const SIDE: usize = 224;
    const SKIN: f64 = 50.0;
    const GROUND: f64 = 225.0;
    let mut rng = ChaCha8Rng::seed_from_u64(person);
    let mut uniform =
        |low: f64, high: f64| low + (high - low) * f64::from(rng.next_u32()) / f64::from(u32::MAX);
    let bends: Vec<[f64; 2]> = (0..4).map(|_| [uniform(-0.01, 0.01), uniform(0.0, TAU)]).collect();
    // Place, size and strength.
    let spots: Vec<[f64; 4]> = (0..40)
        .map(|_| [uniform(-0.5, 0.3), uniform(-0.5, 0.5), uniform(0.03, 0.06), uniform(-1.0, 1.0)])
        .collect();
    let mut pixels = Vec::with_capacity(3 * SIDE * SIDE);
    for i in 0..SIDE * SIDE {
        let [x, y] = [i % SIDE, i / SIDE].map(|at| at as f64 / SIDE as f64 - 0.5);
        let bend: f64 =
            bends.iter().zip(1..).map(|([by, phase], k)| by * (6.0 * f64::from(k) * y + phase).sin()).sum();
        let outline = 0.25 - 0.5 * y * y + bend;
        let spot = |[at_x, at_y, size, strength]: &[f64; 4]| {
            let distance = ((x - at_x) / size).hypot((y - at_y) / size);
            strength * (-0.5 * distance * distance).exp()
        };
        let face = SKIN + features * spots.iter().map(spot).sum::<f64>();
        let inside = (0.5 + (outline - x) * SIDE as f64 / 3.0).clamp(0.0, 1.0);
        let value = GROUND + (face - GROUND) * inside + uniform(-2.0, 2.0);
        pixels.extend([value.clamp(0.0, 255.0) as u8; 3]);
    }
    RgbImage { width: SIDE, height: SIDE, pixels }
}

/// They were called the same: the outline's contrast drowned the faces in the correlation.
#[test]
fn dark_profiles_on_a_plain_ground_are_not_the_same_and_their_copies_are() {
    const PERSONS: usize = 24;
    let mut fingerprints = Vec::new();
    for person in 0..PERSONS {
        // From dark faces to what is hardly more than a silhouette.
        let features = [40.0, 24.0, 16.0][person % 3];
        let image = profile_on_plain_ground(features, person as u64);
        fingerprints.push(fingerprint(&jpeg(&image, 95)));
        fingerprints.push(fingerprint(&jpeg(&resized(&brightened(&image, 0.6), 160), 60)));
    }
    let duplicates = Duplicates::find(&fingerprints, WORKERS, |_| {});
    let found: Vec<(usize, usize)> = duplicates.near.iter().map(|pair| (pair.a, pair.b)).collect();
    let planted: Vec<(usize, usize)> = (0..PERSONS).map(|person| (2 * person, 2 * person + 1)).collect();
    assert_eq!(found, planted);
}

/// Photos that are dark or flat have little detail, and still are found.
#[test]
fn dark_and_flat_copies_are_found() {
    let mut fingerprints = Vec::new();
    for file in sample_files().iter().step_by(8) {
        let bytes = fs_err::read(sample().join("images").join(file)).unwrap();
        let image = decode(&bytes).unwrap();
        let flat = RgbImage { pixels: image.pixels.iter().map(|&value| 90 + value / 4).collect(), ..image };
        fingerprints.push(fingerprint(&bytes));
        fingerprints.push(fingerprint(&jpeg(&brightened(&image, 0.25), 60)));
        fingerprints.push(fingerprint(&jpeg(&flat, 60)));
    }
    let duplicates = Duplicates::find(&fingerprints, WORKERS, |_| {});
    let found: Vec<(usize, usize)> = duplicates.near.iter().map(|pair| (pair.a, pair.b)).collect();
    let planted = (0..fingerprints.len()).step_by(3).flat_map(|i| [(i, i + 1), (i, i + 2), (i + 1, i + 2)]);
    assert_eq!(found, planted.collect::<Vec<_>>());
}

/// Real pairs with a person's verdict, where they are at hand: `data/fairface-men/near_duplicates.csv`.
#[test]
fn fairfaces_right_pairs_are_found_and_its_wrong_ones_are_not() {
    let root =
        std::env::var_os("FAIRFACE_TEST_DATA").map(|root| PathBuf::from(root).join("data/fairface-men"));
    let Some(root) = root.filter(|root| root.join("near_duplicates.csv").is_file()) else {
        eprintln!("skipped: FAIRFACE_TEST_DATA names no folder with data/fairface-men/near_duplicates.csv");
        return;
    };
    // A row names two files that look the same, and exact copies of theirs.
    let rows = csv::Reader::from_path(root.join("near_duplicates.csv")).unwrap().into_records();
    let rows: Vec<csv::StringRecord> = rows.map(Result::unwrap).collect();
    let mut files: Vec<&str> = rows.iter().flat_map(|row| row[2].split(' ')).collect();
    // As FairFace lists them, by number: which of two is the first makes a small difference.
    files.sort_by_key(|file| (file.starts_with("val"), file.len(), *file));
    files.dedup();
    let fingerprints = scan(&root, &files, &ImageRules::default(), WORKERS, None, |_| {}).unwrap();
    let fingerprints: Vec<_> = fingerprints.into_iter().map(|made| Some(made.unwrap())).collect();
    let duplicates = Duplicates::find(&fingerprints, WORKERS, |_| {});

    let verdict = |verdict: &str| -> Vec<Vec<usize>> {
        let rows = rows.iter().filter(|row| &row[1] == verdict);
        let place = |file: &str| files.iter().position(|other| *other == file).unwrap();
        rows.map(|row| row[2].split(' ').map(place).collect()).collect()
    };
    let (right, wrong) = (verdict("True"), verdict("False"));
    let found =
        |row: &Vec<usize>| duplicates.near.iter().any(|pair| row.contains(&pair.a) && row.contains(&pair.b));
    let names = |rows: Vec<&Vec<usize>>| -> Vec<Vec<&str>> {
        rows.iter().map(|row| row.iter().map(|&i| files[i]).collect()).collect()
    };
    let missed = names(right.iter().filter(|row| !found(row)).collect());
    let false_alarms = names(wrong.iter().filter(|row| found(row)).collect());
    println!(
        "{} right rows, missed {missed:?}; {} wrong ones, found {false_alarms:?}",
        right.len(),
        wrong.len()
    );
    assert!(right.len() > 200 && wrong.len() > 3, "{} right, {} wrong", right.len(), wrong.len());
    assert!(missed.is_empty() && false_alarms.is_empty(), "missed {missed:?}, false alarms {false_alarms:?}");
    let same = Duplicates { exact: right, near: Vec::new() }.groups();
    for pair in &duplicates.near {
        let known = same.iter().any(|group| group.contains(&pair.a) && group.contains(&pair.b));
        assert!(known, "{} and {} are in no group of right pairs", files[pair.a], files[pair.b]);
    }
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
