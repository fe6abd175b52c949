//! FairFace on the hub: which files it consists of, and what they are known by.

use std::time::Duration;

use crate::hub::{self, Fetched, HashCheck, HubFile, RepositoryKind};
use crate::{Error, Result, Transfer};

/// FairFace as Parquet files, CC BY 4.0.
pub const REPOSITORY: &str = "HuggingFaceM4/FairFace";
/// Its commit of April 2024: what is pushed later is not taken.
pub const REVISION: &str = "54d573cdb8b5af490ba8da9da2799628f6e5c496";
/// Faces in the training and the validation split, as the data set's card says.
pub const N_ROWS: [u64; 2] = [86_744, 10_954];

/// How much of the surroundings the crops show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// A quarter of the face's box: what FairFace's models are trained on.
    Quarter,
    /// Five quarters.
    FiveQuarters,
}

/// One file of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its path in the repository.
    pub file: &'a str,
    /// What it has to be.
    pub content: Content<'a>,
}

/// What is known of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// These bytes and no others.
    Pinned {
        /// How many.
        bytes: u64,
        /// SHA-256 in hexadecimal.
        sha256: &'a str,
    },
    /// What the hub announces, which must be a SHA-256.
    Announced {
        /// How many bytes at most, as the hub shows them, rounded.
        about: u64,
    },
}

impl Padding {
    /// As FairFace's authors and the hub call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quarter => "0.25",
            Self::FiveQuarters => "1.25",
        }
    }

    /// The training files and the validation files, each in the order of their rows.
    pub const fn parts(self) -> [&'static [Part<'static>]; 2] {
        match self {
            Self::Quarter => [&QUARTER_TRAIN, &QUARTER_VALIDATION],
            Self::FiveQuarters => [&FIVE_QUARTERS_TRAIN, &FIVE_QUARTERS_VALIDATION],
        }
    }
}

const QUARTER_TRAIN: [Part<'static>; 2] = [
    pinned(
        "0.25/train-00000-of-00002-d405faba4f4b9b85.parquet",
        250_030_031,
        "acebfc4a735050d0ee618b3c690ad91e1b11bcc25151f398f06990bc15e99d06",
    ),
    pinned(
        "0.25/train-00001-of-00002-dd3cb68164727418.parquet",
        250_217_804,
        "e8ec1fb27f0745c166b218708bf4923811cd41d85cb998f09f8f624b0eb40326",
    ),
];

const QUARTER_VALIDATION: [Part<'static>; 1] = [pinned(
    "0.25/validation-00000-of-00001-951dbd63c8724ee1.parquet",
    63_189_799,
    "d0cfac2888356b3d3fa3d837bc30961d8c860934e4c5df862e8cb87812bfa137",
)];

// Their hashes are not known here; the five have 2,104,494,732 bytes together.
const FIVE_QUARTERS_TRAIN: [Part<'static>; 4] = [
    announced("1.25/train-00000-of-00004-e715178553977907.parquet", 469_000_000),
    announced("1.25/train-00001-of-00004-f38b58e3987f3fbf.parquet", 467_000_000),
    announced("1.25/train-00002-of-00004-239e931aa9c3b3e6.parquet", 467_000_000),
    announced("1.25/train-00003-of-00004-847c279691a19548.parquet", 469_000_000),
];

const FIVE_QUARTERS_VALIDATION: [Part<'static>; 1] =
    [announced("1.25/validation-00000-of-00001-09e3e67bb00ab4ec.parquet", 238_000_000)];

const fn pinned(file: &'static str, bytes: u64, sha256: &'static str) -> Part<'static> {
    Part { file, content: Content::Pinned { bytes, sha256 } }
}

const fn announced(file: &'static str, about: u64) -> Part<'static> {
    Part { file, content: Content::Announced { about } }
}

impl Part<'_> {
    /// Bytes of the file, or a little more where that is not known.
    pub const fn bytes(&self) -> u64 {
        match self.content {
            Content::Pinned { bytes, .. } => bytes,
            Content::Announced { about } => about,
        }
    }

    /// Bytes that [`fetch`](Self::fetch) will have to get: none if the file is in the hub's cache.
    pub fn bytes_to_fetch(&self) -> u64 {
        if hub::is_cached(self.hub_file()) { 0 } else { self.bytes() }
    }

    /// Gets the file, from the hub's cache if it is there, and checks what it is.
    ///
    /// # Errors
    /// As [`hub::fetch`]; or it is another file than the one that is known, or one of which the hub does not say what it
    /// is: then it is deleted.
    pub fn fetch(&self, timeout: Duration, progress: &mut dyn FnMut(Transfer)) -> Result<Fetched> {
        let fetched = hub::fetch(self.hub_file(), timeout, progress)?;
        let reason = match self.content {
            Content::Pinned { bytes, sha256 } if fetched.sha256 != sha256 => {
                let found = fs_err::metadata(&fetched.path)?.len();
                format!(
                    "{}: expected {bytes} bytes of SHA-256 {sha256}, found {found} of {}: another file under that name, \
                     deleted",
                    self.file, fetched.sha256
                )
            }
            Content::Announced { .. } if fetched.check == HashCheck::NotAnnounced => {
                format!(
                    "{}: expected a hub that says what SHA-256 it has, found one that does not",
                    self.file
                )
            }
            _ => return Ok(fetched),
        };
        fetched.forget(self.hub_file())?;
        Err(Error::Download { what: REPOSITORY.to_owned(), reason })
    }

    fn hub_file(&self) -> HubFile<'_> {
        HubFile { repository: REPOSITORY, kind: RepositoryKind::Dataset, revision: REVISION, file: self.file }
    }
}
