//! Pretrained weights from the Hugging Face hub.
//!
//! The transfer is hf-hub's: it honours `HF_ENDPOINT` and `HF_HOME`, keeps what arrived in the hub's own cache (shared
//! with Python), and goes on from there after a broken connection. Around it stand the token from `HF_TOKEN`, an end to
//! waiting for a hub that says nothing, and the check that hf-hub leaves out: the cache names a large file by its
//! SHA-256, as the hub announced it, and a file that is something else is deleted and refused. The hub's word proves
//! only that nothing was damaged on the way; what the default weights are is known here: [`IMAGENET`].

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use ff_core::files::sha256;
use fs_err as fs;
use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use crate::{Error, Result};

/// torchvision's ImageNet weights of ResNet-34 (`ResNet34_Weights.IMAGENET1K_V1`).
pub const DEFAULT_REPOSITORY: &str = "timm/resnet34.tv_in1k";
/// Its commit of 10 February 2024: what is pushed later is not taken.
const DEFAULT_REVISION: &str = "c983eba7f5e69bc3548a626d1b0b0b914e5de3a6";

/// What weights are known by, wherever they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// What they are called.
    pub name: &'static str,
    /// SHA-256 of the file in [`DEFAULT_REPOSITORY`], as others have published it.
    pub file_sha256: &'static str,
    /// SHA-256 of the backbone, computed from a copy that was at hand: see
    /// [`backbone_sha256`](ff_model::weights::Converted::backbone_sha256). It is the same in every container.
    pub backbone_sha256: &'static str,
}

/// The weights of [`DEFAULT_REPOSITORY`].
pub const IMAGENET: Known = Known {
    name: "torchvision's ResNet34_Weights.IMAGENET1K_V1",
    file_sha256: "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
    backbone_sha256: "8abaab25a84b4ad5394a17c69494ebbffc241cbf9c2700e4e31777a950865714",
};

/// The file of a repository that holds the weights.
const FILE: &str = "model.safetensors";
/// Bytes of a download. The weights are 87 MB; a hub that sends without end must not fill the disk.
const MAX_DOWNLOAD: u64 = 4 << 30;
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

/// Gets `model.safetensors` of a hub repository, from the cache if it is there. Nothing is waited for longer than
/// `timeout`.
///
/// # Errors
/// [`Error::Download`] says what to do: offline, no such repository, no permission, damaged on the way.
pub fn fetch(repository: &str, timeout: Duration, progress: &mut dyn FnMut(Transfer)) -> Result<Fetched> {
    let failed = |reason: String| Error::Download { repository: repository.to_owned(), reason };
    let cache = Cache::from_env();
    let repo = repo(repository);
    let path = match cache.repo(repo.clone()).get(FILE) {
        Some(path) => path,
        None => download(repo, timeout, progress).map_err(|error| {
            if error.is_bad_part() {
                remove_parts(&cache, repository);
            }
            failed(error.explain())
        })?,
    };
    // Behind the cache's link lies a file that is named by its hash.
    let blob = fs::canonicalize(&path)?;
    let announced = blob.file_name().and_then(|name| name.to_str()).filter(|name| is_sha256(name));
    let announced = announced.map(str::to_owned);
    let sha256 = sha256(&fs::read(&blob)?);
    let check = if announced.is_some() { HashCheck::Matches } else { HashCheck::NotAnnounced };
    let fetched = Fetched { path: blob, sha256, check };
    match announced {
        Some(announced) if announced != fetched.sha256 => {
            fetched.forget(repository)?;
            Err(failed(format!(
                "expected SHA-256 {announced}, found {}: damaged on the way, and deleted; run it again",
                fetched.sha256
            )))
        }
        _ => Ok(fetched),
    }
}

impl Fetched {
    /// Removes the file from the cache, so that the next [`fetch`] asks the hub.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget(&self, repository: &str) -> Result<()> {
        if let Some(link) = Cache::from_env().repo(repo(repository)).get(FILE) {
            fs::remove_file(link)?;
        }
        // Without a link the two are one file.
        if self.path.exists() { Ok(fs::remove_file(&self.path)?) } else { Ok(()) }
    }
}

/// A repository, at the commit that is known where one is.
fn repo(repository: &str) -> Repo {
    let revision = if repository == DEFAULT_REPOSITORY { DEFAULT_REVISION } else { "main" };
    Repo::with_revision(repository.to_owned(), RepoType::Model, revision.to_owned())
}

/// hf-hub waits for the network without end. So it works in a thread of its own, which is left to itself when nothing
/// has come from it for too long: what has arrived is in the cache.
fn download(repo: Repo, timeout: Duration, progress: &mut dyn FnMut(Transfer)) -> Result<PathBuf, Failure> {
    let (sender, receiver) = mpsc::channel();
    let transfer = std::thread::spawn(move || {
        let mut builder = ApiBuilder::from_env().with_retries(RETRIES);
        if let Some(token) = std::env::var("HF_TOKEN").ok().filter(|token| !token.trim().is_empty()) {
            builder = builder.with_token(Some(token.trim().to_owned()));
        }
        let meter = Meter { transfer: Transfer { done: 0, total: 0 }, sender };
        builder.build()?.repo(repo).download_with_progress(FILE, meter)
    });
    loop {
        match receiver.recv_timeout(timeout) {
            Ok(Transfer { done, total }) if done.max(total) > MAX_DOWNLOAD => {
                return Err(Failure::TooLong(done.max(total)));
            }
            Ok(transfer) => progress(transfer),
            Err(RecvTimeoutError::Timeout) => return Err(Failure::Silent(timeout)),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // hf-hub takes some answers for granted.
    transfer.join().map_err(|_| Failure::BadAnswer)?.map_err(Failure::Api)
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

/// Why nothing arrived.
enum Failure {
    Api(ApiError),
    Silent(Duration),
    TooLong(u64),
    BadAnswer,
}

impl Failure {
    fn is_bad_part(&self) -> bool {
        matches!(self, Self::Api(error) if is_bad_part(error))
    }

    fn explain(&self) -> String {
        match self {
            Self::Api(error) => explain(error),
            Self::Silent(timeout) => format!(
                "nothing came from the hub for {} s; run it again, it goes on where it stopped; HF_ENDPOINT can name a \
                 mirror",
                timeout.as_secs()
            ),
            Self::TooLong(bytes) => {
                format!("expected a file of at most {MAX_DOWNLOAD} bytes, found one of {bytes} or more")
            }
            Self::BadAnswer => {
                "the hub's answer is none of a hub; look at HF_ENDPOINT and proxies, or try again later"
                    .to_owned()
            }
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

/// Adds up the pieces that hf-hub reports, and hands on how far it is. Who reads that may have left.
struct Meter {
    transfer: Transfer,
    sender: Sender<Transfer>,
}

impl Progress for Meter {
    fn init(&mut self, size: usize, _: &str) {
        self.transfer = Transfer { done: 0, total: size as u64 };
        let _ = self.sender.send(self.transfer);
    }

    fn update(&mut self, size: usize) {
        self.transfer.done += size as u64;
        let _ = self.sender.send(self.transfer);
    }

    fn finish(&mut self) {}
}
