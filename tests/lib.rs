//! What the workspace's tests share: the sample, and the optional test data.
//!
//! `FAIRFACE_TEST_DATA` names a folder with `weights/` and `golden/`; tests that need it say what they skip without it.

#![expect(clippy::print_stderr, reason = "a test says what it skips")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

/// A file of the optional test data, or `None` after saying that `test` is skipped.
///
/// # Panics
/// The variable is set but the file is not there.
pub fn test_data(test: &str, file: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("FAIRFACE_TEST_DATA") else {
        eprintln!("{test}: skipped, FAIRFACE_TEST_DATA is not set ({file} is needed)");
        return None;
    };
    let path = Path::new(&root).join(file);
    assert!(path.is_file(), "FAIRFACE_TEST_DATA is set, but {} is not there", path.display());
    Some(path)
}

/// The tensors of a safetensors file by name.
pub fn tensors(path: &Path) -> HashMap<String, Tensor> {
    let bytes = fs_err::read(path).expect("test data is readable");
    candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).expect("test data is safetensors")
}

/// `|actual - expected| / |expected|` in the l2 norm.
pub fn relative_error(actual: &Tensor, expected: &Tensor) -> f64 {
    let values = |t: &Tensor| t.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("f32 tensors");
    let (actual, expected) = (values(actual), values(expected));
    assert_eq!(actual.len(), expected.len(), "as many values");
    let square = |x: f64| x * x;
    let difference: f64 = actual.iter().zip(&expected).map(|(a, e)| square(f64::from(a - e))).sum();
    let norm: f64 = expected.iter().map(|&e| square(f64::from(e))).sum();
    (difference / norm).sqrt()
}

/// The smallest cosine between rows of two (n, width) tensors; NaN if there is one.
pub fn smallest_cosine(actual: &Tensor, expected: &Tensor) -> f64 {
    let rows = |t: &Tensor| t.to_vec2::<f32>().expect("rows of f32");
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
    let cosine = |(a, b): (&Vec<f32>, &Vec<f32>)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let (actual, expected) = (rows(actual), rows(expected));
    let cosines = actual.iter().zip(&expected).map(cosine);
    cosines.fold(f64::INFINITY, |least, x| if x < least || x.is_nan() { x } else { least })
}
