//! Where test data lie, and how fixtures are read.

use std::path::{Path, PathBuf};

use ff_core::{Encoders, Schema};
use ff_data::{Dataset, ImageInput, Manifest, Mode, RgbImage, Splits};
use safetensors::{Dtype, SafeTensors};

/// The bundled sample.
pub fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample")
}

pub fn sample_splits() -> Splits {
    Splits::read(sample().join("splits"), &Schema::fairface()).unwrap()
}

/// A CSV of FairFace's tasks.
pub fn fairface(path: &str, csv: &[u8]) -> ff_data::Result<Manifest> {
    Manifest::parse(path, csv, &Schema::fairface())
}

/// Labels that are known.
pub fn known<const N: usize>(labels: [&str; N]) -> Vec<Option<String>> {
    labels.map(|label| Some(label.to_owned())).into()
}

/// The first `n` training faces of the sample.
pub fn sample_dataset(n: usize, mode: Mode) -> Dataset {
    let splits = sample_splits();
    let rows = splits.train.rows()[..n].to_vec();
    let columns = splits.train.extra_columns().to_vec();
    let manifest = Manifest::new("first.csv", splits.train.schema(), columns, rows).unwrap();
    Dataset::open(manifest, sample().join("images"), &splits.encoders, mode).unwrap()
}

/// The first `n` validation faces of the sample as images without labels, named as their CSV names them.
pub fn sample_inputs(n: usize) -> Vec<ImageInput> {
    let files = sample_splits().val.rows()[..n].iter().map(|row| row.file.clone()).collect::<Vec<_>>();
    let input =
        |name: String| ImageInput { path: sample().join("images").join(&name), ..ImageInput::new(name) };
    files.into_iter().map(input).collect()
}

/// A CSV with one face per file, in a folder with those files; encoders fitted on it.
pub fn planted(dir: &Path, files: &[(&str, &[u8])]) -> (Manifest, Encoders) {
    let mut csv = "file,age,gender,race\n".to_owned();
    for (name, bytes) in files {
        fs_err::write(dir.join(name), bytes).unwrap();
        csv += &format!("{name},20-29,Female,Black\n");
    }
    let path = dir.join("planted.csv");
    fs_err::write(&path, csv).unwrap();
    let manifest = Manifest::read(path, &Schema::fairface()).unwrap();
    let encoders = manifest.fit_encoders().unwrap();
    (manifest, encoders)
}

/// Named tensors made by the script beside the fixture.
pub struct Fixture(Vec<u8>);

impl Fixture {
    pub fn read(path: impl AsRef<Path>) -> Self {
        Fixture(fs_err::read(path.as_ref()).unwrap())
    }

    /// `tests/fixtures/images.safetensors`.
    pub fn images() -> Self {
        Self::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images.safetensors"))
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        self.tensors().names().into_iter().map(|name| name.to_owned()).collect()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.tensors().tensor(name).unwrap().data().to_vec()
    }

    /// An (H,W,3) u8 tensor.
    pub fn image(&self, name: &str) -> RgbImage {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).unwrap();
        let &[height, width, 3] = tensor.shape() else { panic!("{name}: {:?}", tensor.shape()) };
        assert_eq!(tensor.dtype(), Dtype::U8);
        RgbImage { width, height, pixels: tensor.data().to_vec() }
    }

    pub fn f32s(&self, name: &str) -> Vec<f32> {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::F32);
        let values = tensor.data().chunks_exact(4);
        values.map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
    }
}

/// A file of the golden data that the environment variable FAIRFACE_TEST_DATA points at; `None`, said on stderr, where
/// it is not at hand.
pub fn golden(file: &str) -> Option<Fixture> {
    let root = std::env::var_os("FAIRFACE_TEST_DATA").map(PathBuf::from);
    let path = root.map(|root| root.join("golden").join(file)).filter(|path| path.is_file());
    if path.is_none() {
        eprintln!("skipped: FAIRFACE_TEST_DATA names no folder with golden/{file}");
    }
    path.map(Fixture::read)
}

/// Largest difference and mean difference of two images' bytes.
pub fn difference(a: &RgbImage, b: &RgbImage) -> (u8, f64) {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let differences = || a.pixels.iter().zip(&b.pixels).map(|(&a, &b)| a.abs_diff(b));
    let total: f64 = differences().map(f64::from).sum();
    (differences().max().unwrap_or(0), total / a.pixels.len() as f64)
}

/// For a test that wants faults in every thread: the first time runs it again in a process of its own with these faults
/// and is false; in there it is true.
pub fn with_faults(test: &str, rules: &str) -> bool {
    if std::env::var_os(ff_core::fault::VARIABLE).is_some() {
        return true;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let output =
        child.args(["--exact", test, "--nocapture"]).env(ff_core::fault::VARIABLE, rules).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{test} with {rules}:\n{text}");
    false
}
