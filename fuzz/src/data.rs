//! What ff-data reads.

use std::path::{Path, PathBuf};

use ff_core::bins::Bin;
use ff_core::{Encoders, LabelEncoder, Order, Schema, Task};
use ff_data::duplicates::HashFile;
use ff_data::fairface::FaceFile;
use ff_data::{CacheSpec, Dataset, Decisions, FaceBox, ImageInput, ImageSize, Manifest, Scratch, decode};

/// A split CSV. What is read is written and read again the same.
pub fn split_csv(bytes: &[u8]) {
    let schema = Schema::fairface();
    match Manifest::parse("split.csv", bytes, &schema) {
        Ok(manifest) => {
            let (columns, rows) = (manifest.extra_columns().to_vec(), manifest.rows().to_vec());
            let again =
                Manifest::new("again.csv", &schema, columns, rows).expect("what was read can be written");
            assert_eq!(again.extra_columns(), manifest.extra_columns());
            assert_eq!(again.len(), manifest.len());
            for (a, b) in again.rows().iter().zip(manifest.rows()) {
                assert_eq!((&a.file, &a.labels, &a.extra), (&b.file, &b.labels, &b.extra));
            }
            let _ = manifest.fit_encoders().map_err(has_cause);
        }
        Err(error) => has_cause(error),
    }
}

/// Decisions about faces. What is read is written and read again the same, and taken to a split or refused.
pub fn decisions(bytes: &[u8]) {
    let schema = Schema::fairface();
    match Decisions::parse("decisions.csv", bytes, &schema) {
        Ok(decisions) => {
            let again = Decisions::parse("again.csv", decisions.to_csv().as_bytes(), &schema);
            let again = again.expect("what was read can be written");
            assert_eq!(again.rows().len(), decisions.rows().len());
            for (a, b) in again.rows().iter().zip(decisions.rows()) {
                assert_eq!((&a.file, &a.decision), (&b.file, &b.decision));
            }
            let split = b"file,age,gender,race\na.jpg,0-2,Male,White\nb.jpg,3-9,Female,Black\n";
            let mut manifest = Manifest::parse("split.csv", split, &schema).expect("a split");
            let _ = decisions.apply(&mut [&mut manifest]).map_err(has_cause);
            assert!(manifest.len() <= 2);
        }
        Err(error) => has_cause(error),
    }
}

/// A CSV of images to predict.
pub fn inputs_csv(bytes: &[u8]) {
    in_file("inputs.csv", bytes, |path| {
        let argument = path.to_str().expect("a temporary name is text");
        let _ = ImageInput::expand(argument, Path::new("images"), &mut std::io::empty()).map_err(has_cause);
    });
}

/// An image of any format.
pub fn image(bytes: &[u8]) {
    match decode(bytes) {
        Ok(image) => assert_eq!(image.pixels.len(), 3 * image.width * image.height),
        Err(error) => has_cause(error),
    }
}

/// A file of fingerprints.
pub fn hash_file(bytes: &[u8]) {
    in_file("hashes.bin", bytes, |path| {
        let _ = HashFile::open(path).map_err(has_cause);
    });
}

/// Face boxes, bins, schemas and encoders, as text.
pub fn labels(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = text.parse::<FaceBox>().map_err(has_cause);
    let _ = text.parse::<Bin>().map_err(has_cause);
    let _ = serde_json::from_str::<Schema>(&text).map_err(has_cause);
    let _ = serde_json::from_str::<Encoders>(&text).map_err(has_cause);
    let labels: Vec<String> = text.split(',').map(str::to_owned).collect();
    for order in [Order::Auto, Order::Ordered, Order::List(labels.clone())] {
        let task = Task::new("age").with_order(order);
        let _ = LabelEncoder::from_sorted(task, labels.clone()).map_err(has_cause);
    }
}

/// Damage to a disk cache: how many bytes of it are left (two bytes), then patches of three bytes: where, and what is
/// added there. Every image still comes as it was decoded.
pub fn disk_cache(bytes: &[u8]) {
    thread_local!(static CACHED: Cached = Cached::new());
    CACHED.with(|cached| {
        let mut file = cached.file.clone();
        if let Some(len) = bytes.first_chunk() {
            file.truncate(file.len().min(usize::from(u16::from_le_bytes(*len))));
        }
        for patch in bytes.get(2..).unwrap_or_default().chunks_exact(3) {
            // Header and index lie at the beginning, the images on the next page.
            let place = usize::from(u16::from_le_bytes([patch[0], patch[1]]));
            if let Some(byte) = file.get_mut(place) {
                *byte = byte.wrapping_add(patch[2]);
            }
        }
        fs_err::write(&cached.path, &file).expect("a temporary file");
        assert!(cached.pixels() == cached.pixels, "damage to a cache changes no pixel");
    });
}

/// Two images and the file of their cache.
struct Cached {
    dir: tempfile::TempDir,
    path: PathBuf,
    file: Vec<u8>,
    pixels: Vec<u8>,
}

impl Cached {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (name, seed) in [("a.bmp", 1), ("b.bmp", 2)] {
            fs_err::write(dir.path().join(name), bitmap(seed)).expect("a temporary file");
        }
        let mut cached = Self { dir, path: PathBuf::new(), file: Vec::new(), pixels: Vec::new() };
        cached.pixels = cached.pixels();
        let files = fs_err::read_dir(cached.dir.path().join("cache")).expect("the cache was made");
        cached.path = files.last().expect("the cache was made").expect("the cache was made").path();
        cached.file = fs_err::read(&cached.path).expect("the cache was made");
        cached
    }

    fn pixels(&self) -> Vec<u8> {
        let inputs = ["a.bmp", "b.bmp"].map(|name| ImageInput::new(self.dir.path().join(name)));
        let cache = CacheSpec::Disk(self.dir.path().join("cache"));
        let dataset = Dataset::unlabelled(inputs.into()).expect("two images");
        let dataset = dataset.with_size(ImageSize { width: 8, height: 6 });
        let dataset = dataset.with_cache(&cache).expect("a damaged cache is made again");
        let mut scratch = Scratch::default();
        let mut pixels = vec![0; 2 * dataset.image_len()];
        for (sample_idx, image) in pixels.chunks_exact_mut(dataset.image_len()).enumerate() {
            dataset.load_pixels(sample_idx, &mut scratch, image).expect("the images are sound");
        }
        pixels
    }
}

/// A bitmap of 8 x 8 pixels.
fn bitmap(seed: u8) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = b"BM".to_vec();
    // Its length, nothing, where pixels begin; the header's length, width, height, planes and bits a pixel, the rest.
    file.extend(words(&[54 + 192, 0, 54, 40, 8, 8, 1 | 24 << 16, 0, 192, 2835, 2835, 0, 0]));
    file.extend((0..192u8).map(|i| i.wrapping_mul(31).wrapping_add(seed)));
    file
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

/// A Parquet file of faces.
pub fn face_parquet(bytes: &[u8]) {
    in_file("faces.parquet", bytes, |path| {
        let Ok(file) = FaceFile::open(path).map_err(has_cause) else { return };
        match file.labels(u64::MAX) {
            Ok(rows) => assert_eq!(rows.len() as u64, file.n_rows()),
            Err(error) => has_cause(error),
        }
        let _ = file.images(u64::MAX, &mut |_, _| Ok(())).map_err(has_cause);
    });
}
