//! Image files on the disk: read within limits, in one place.

use std::path::Path;

use ff_core::{
    fault::{Point, reach_path},
    files::read_within,
};
use fs_err::File;

use crate::{
    decode::{ImageRules, header_is_enough, header_size},
    error::{Error, Result},
};

/// Reads an image file into memory that is used again.
///
/// # Errors
/// It is not there, is no regular file or longer than the rules allow, or cannot be read.
pub(crate) fn read(path: &Path, rules: &ImageRules, bytes: &mut Vec<u8>) -> Result<()> {
    read_within(path, rules.max_file, bytes).map_err(|error| without_path(error, path))
}

/// Looks at a file's kind, length and header, and reads no more of it than that takes.
///
/// # Errors
/// As [`read`], or the header is none or breaks the rules.
pub(crate) fn check(path: &Path, rules: &ImageRules, bytes: &mut Vec<u8>) -> Result<()> {
    /// Beyond the tables and a small preview of most JPEGs.
    const BEGINNING: u64 = 4096;
    let metadata = fs_err::metadata(path).map_err(|error| without_path(error, path))?;
    if metadata.is_file() && metadata.len() > BEGINNING && metadata.len() <= rules.max_file {
        let read = reach_path(Point::Read, path).and_then(|()| {
            bytes.clear();
            std::io::Read::read_to_end(&mut std::io::Read::take(File::open(path)?, BEGINNING), bytes)
        });
        read.map_err(|error| without_path(error, path))?;
        if header_is_enough(bytes) && header_size(bytes, rules)?.is_some() {
            return Ok(());
        }
    }
    read(path, rules, bytes)?;
    match header_size(bytes, rules)? {
        Some(_) => Ok(()),
        None => Err(Error::Decode("broken JPEG: expected a frame header, found the end of the file".into())),
    }
}

/// Whoever reports it names the file: what is wrong with it need not do so again.
fn without_path(error: std::io::Error, path: &Path) -> Error {
    let message = error.to_string();
    match (error.kind(), message.strip_prefix(&format!("{}: ", path.display()))) {
        (std::io::ErrorKind::InvalidData, Some(reason)) => Error::Decode(reason.to_owned()),
        _ => Error::Io(error),
    }
}
