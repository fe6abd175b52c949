//! Pretrained weights from the Hugging Face hub.
//!
//! The transfer is hf-hub's: it honours `HF_ENDPOINT` and `HF_HOME`, keeps what arrived in the hub's own cache (shared
//! with Python), and goes on from there after a broken connection. Around it stand the token from `HF_TOKEN` and the
//! check that hf-hub leaves out: the cache names a large file by its SHA-256, as the hub announced it, and a file that
//! is something else is deleted and refused.

use std::path::PathBuf;

use ff_core::files::sha256;
use fs_err as fs;
use hf_hub::Cache;
use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError};

use crate::{Error, Result};

/// torchvision's ImageNet weights of ResNet-34 (`ResNet34_Weights.IMAGENET1K_V1`).
pub const DEFAULT_REPOSITORY: &str = "timm/resnet34.tv_in1k";
/// The file of a repository that holds the weights.
const FILE: &str = "model.safetensors";
/// How often a broken transfer is taken up again.
const RETRIES: usize = 4;

/// How far a download is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes that are here, those of an earlier, broken transfer included.
    pub done: u64,
    /// Bytes of the file.
    pub total: u64,
}

/// A file of the hub in the local cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where it lies.
    pub path: PathBuf,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// Whether the hub said the same.
    pub check: HashCheck,
}

/// What the hub's word was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashCheck {
    /// The hub announced this SHA-256.
    Matches,
    /// The hub announced none, as for small files that are kept in git itself.
    NotAnnounced,
}

/// Gets `model.safetensors` of a hub repository, from the cache if it is there.
///
/// # Errors
/// [`Error::Download`] says what to do: offline, no such repository, no permission, damaged on the way.
pub fn fetch(repository: &str, progress: &mut dyn FnMut(Transfer)) -> Result<Fetched> {
    let failed = |reason: String| Error::Download { repository: repository.to_owned(), reason };
    let cache = Cache::from_env();
    let path = match cache.model(repository.to_owned()).get(FILE) {
        Some(path) => path,
        None => download(repository, progress).map_err(|error| {
            if is_bad_part(&error) {
                remove_parts(&cache, repository);
            }
            failed(explain(&error))
        })?,
    };
    // Behind the cache's link lies a file that is named by its hash.
    let blob = fs::canonicalize(&path)?;
    let announced = blob.file_name().and_then(|name| name.to_str()).filter(|name| is_sha256(name));
    let sha256 = sha256(&fs::read(&blob)?);
    match announced {
        Some(announced) if announced != sha256 => {
            fs::remove_file(&path)?;
            fs::remove_file(&blob)?;
            Err(failed(format!(
                "expected SHA-256 {announced}, found {sha256}: damaged on the way, and deleted; run it again"
            )))
        }
        Some(_) => Ok(Fetched { path: blob, sha256, check: HashCheck::Matches }),
        None => Ok(Fetched { path: blob, sha256, check: HashCheck::NotAnnounced }),
    }
}

fn download(repository: &str, progress: &mut dyn FnMut(Transfer)) -> Result<PathBuf, ApiError> {
    let mut builder = ApiBuilder::from_env().with_retries(RETRIES);
    if let Some(token) = std::env::var("HF_TOKEN").ok().filter(|token| !token.trim().is_empty()) {
        builder = builder.with_token(Some(token.trim().to_owned()));
    }
    let meter = Meter { transfer: Transfer { done: 0, total: 0 }, progress };
    builder.build()?.model(repository.to_owned()).download_with_progress(FILE, meter)
}

fn is_sha256(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether what is left of an earlier transfer cannot be continued: it is longer than the file, or as long.
fn is_bad_part(error: &ApiError) -> bool {
    match error {
        ApiError::InvalidResume => true,
        ApiError::RequestError(error) => matches!(**error, ureq::Error::StatusCode(416)),
        ApiError::TooManyRetries(last) => is_bad_part(last),
        _ => false,
    }
}

/// Deletes the unfinished transfers of a repository, as far as that can be done.
fn remove_parts(cache: &Cache, repository: &str) {
    let blobs = cache.model(repository.to_owned()).blob_path("");
    for entry in fs::read_dir(blobs).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "part") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// What happened, and what to do about it.
fn explain(error: &ApiError) -> String {
    let offline = |error: &dyn std::fmt::Display| {
        format!(
            "the hub cannot be reached ({error}); without a network, get {FILE} on another machine and run \
             `fairface weights --file FILE`; HF_ENDPOINT can name a mirror"
        )
    };
    match error {
        error if is_bad_part(error) => {
            "what was left of an earlier download could not be continued, and was deleted; run it again"
                .to_owned()
        }
        ApiError::RequestError(error) => match &**error {
            ureq::Error::StatusCode(404) => {
                format!("the hub has no such repository, or no {FILE} in it (404); check the name")
            }
            ureq::Error::StatusCode(status @ (401 | 403)) => format!(
                "the hub refuses ({status}): the repository does not exist, is private or gated; check the name, or set \
                 HF_TOKEN to a token that may read it"
            ),
            ureq::Error::StatusCode(status) => format!("the hub answered {status}; try again later"),
            error => offline(error),
        },
        ApiError::TooManyRetries(last) => format!(
            "the connection broke again and again, last with: {last}; run it again, it goes on where it stopped"
        ),
        error => error.to_string(),
    }
}

/// Adds up the pieces that hf-hub reports.
struct Meter<'p> {
    transfer: Transfer,
    progress: &'p mut dyn FnMut(Transfer),
}

impl Progress for Meter<'_> {
    fn init(&mut self, size: usize, _: &str) {
        self.transfer = Transfer { done: 0, total: size as u64 };
    }

    fn update(&mut self, size: usize) {
        self.transfer.done += size as u64;
        (self.progress)(self.transfer);
    }

    fn finish(&mut self) {}
}
