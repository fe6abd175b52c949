//! What ONNX Runtime, OpenCV and dlib computed, where it is at hand (`FAIRFACE_TEST_DATA`).

use std::path::PathBuf;

use safetensors::SafeTensors;

use crate::tensors;

pub(crate) struct Golden {
    root: PathBuf,
    values: Vec<u8>,
}

impl Golden {
    /// `None`, and a word about it, where the data are not there.
    pub fn open() -> Option<Self> {
        let root = std::env::var_os("FAIRFACE_TEST_DATA").map(PathBuf::from);
        let Some(root) = root.filter(|root| root.join("faces/golden_faces.safetensors").is_file()) else {
            eprintln!("skipped: no golden faces (FAIRFACE_TEST_DATA)");
            return None;
        };
        let values = fs_err::read(root.join("faces/golden_faces.safetensors")).unwrap();
        Some(Golden { root, values })
    }

    pub fn bytes(&self, file: &str) -> Vec<u8> {
        fs_err::read(self.root.join(file)).unwrap()
    }

    pub fn floats(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        tensors::floats(&SafeTensors::deserialize(&self.values).unwrap(), name, shape).unwrap()
    }

    pub fn pixels(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.values).unwrap().tensor(name).unwrap().data().to_vec()
    }

    /// Rows of 15: box, five points, score.
    pub fn faces(&self, case: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.values).unwrap();
        let name = format!("{case}.dets");
        let shape = file.tensor(&name).unwrap().shape().to_vec();
        tensors::floats(&file, &name, &shape).unwrap()
    }

    /// Whole numbers.
    pub fn integers(&self, name: &str) -> Vec<i32> {
        let file = SafeTensors::deserialize(&self.values).unwrap();
        let bytes = file.tensor(name).unwrap().data();
        bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
}

/// A photo of the repository: width, height, pixels.
pub(crate) fn photo(file: &str) -> (usize, usize, Vec<u8>) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/photos").join(file);
    let image = image::load_from_memory(&fs_err::read(path).unwrap()).unwrap().to_rgb8();
    (image.width() as usize, image.height() as usize, image.into_raw())
}
