//! What tells one data set's decoded images from another's: the files' names, lengths, modification times and faces, in
//! order, the image size and how images are read. Caches on disks are found again by it, so its words stay as they are.

use std::time::UNIX_EPOCH;

use super::Dataset;
use crate::{
    cache::Checksum,
    decode::Decoding,
    error::{Error, Result},
};

/// A file that is not there counts as empty: whether it is an error is for the loader to say.
pub(super) fn identity(dataset: &Dataset) -> Result<u64> {
    let mut sum = Checksum::new(0);
    let size = dataset.size();
    sum.words(&[size.width as u64, size.height as u64, dataset.len() as u64]);
    // Damaged images have pixels under lenient rules only.
    sum.words(&[u64::from(dataset.rules().decoding == Decoding::Strict), dataset.face_padding().to_bits()]);
    sum.bytes(dataset.images_root().as_os_str().as_encoded_bytes());
    for sample_idx in 0..dataset.len() {
        let path = dataset.image_path(sample_idx);
        sum.bytes(dataset.manifest().rows()[sample_idx].file.as_bytes());
        if let Some(face) = dataset.face(sample_idx) {
            sum.words(&[face.x, face.y, face.width, face.height].map(f64::to_bits));
        }
        let modified = |metadata: &std::fs::Metadata| {
            let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some(since.as_nanos() as u64)
        };
        match fs_err::metadata(&path) {
            Ok(metadata) => sum.words(&[metadata.len(), modified(&metadata).unwrap_or(0)]),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => sum.words(&[0, 0]),
            Err(error) => return Err(Error::Io(error)),
        }
    }
    Ok(sum.finish())
}
