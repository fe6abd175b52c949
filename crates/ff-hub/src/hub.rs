//! Files of the Hugging Face hub.
//!
//! The transfer is hf-hub's: it honours `HF_ENDPOINT` and `HF_HOME`, keeps what arrived in the hub's own cache (shared
//! with Python), and goes on from there after a broken connection. Around it stand the token from `HF_TOKEN`, an end to
//! waiting for a hub that says nothing, and the check that hf-hub leaves out: the cache names a large file by its
//! SHA-256, as the hub announced it, and a file that is something else is deleted and refused. The hub's word proves
//! only that nothing was damaged on the way.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use ff_core::files::sha256_of_file;
use fs_err as fs;
use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use crate::explain::{Server, breaks_off, sends_too_much};
use crate::{Error, MAX_DOWNLOAD, RETRIES, Result, Transfer};

/// A file in a repository of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubFile<'a> {
    /// The repository, `OWNER/NAME`.
    pub repository: &'a str,
    /// What kind of repository.
    pub kind: RepositoryKind,
    /// Commit, branch or tag.
    pub revision: &'a str,
    /// The path in it.
    pub file: &'a str,
}

/// What a repository of the hub holds; the two kinds have names of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepositoryKind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

const HUB: Server<'_> = Server { name: "the hub", mirror: "HF_ENDPOINT" };

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

/// Gets a file of the hub, from the cache if it is there. Nothing is waited for longer than `timeout`.
///
/// # Errors
/// [`Error::Download`] says what to do: offline, no such repository, no permission, damaged on the way.
pub fn fetch(wanted: HubFile<'_>, timeout: Duration, progress: &mut dyn FnMut(Transfer)) -> Result<Fetched> {
    let failed = |reason: String| Error::Download { what: wanted.repository.to_owned(), reason };
    let cache = Cache::from_env();
    let path = match cache.repo(wanted.repo()).get(wanted.file) {
        Some(path) => path,
        None => download(wanted, timeout, progress).map_err(|error| {
            if error.is_bad_part() {
                remove_parts(&cache, wanted);
            }
            failed(error.explain(wanted.file))
        })?,
    };
    // Behind the cache's link lies a file that is named by its hash.
    let blob = fs::canonicalize(&path)?;
    let announced = blob.file_name().and_then(|name| name.to_str()).filter(|name| is_sha256(name));
    let announced = announced.map(str::to_owned);
    let sha256 = sha256_of_file(&blob)?;
    let check = if announced.is_some() { HashCheck::Matches } else { HashCheck::NotAnnounced };
    let fetched = Fetched { path: blob, sha256, check };
    match announced {
        Some(announced) if announced != fetched.sha256 => {
            fetched.forget(wanted)?;
            Err(failed(format!(
                "expected SHA-256 {announced}, found {}: damaged on the way, and deleted; run it again",
                fetched.sha256
            )))
        }
        _ => Ok(fetched),
    }
}

/// Whether a file of the hub is in the local cache, so that [`fetch`] asks nobody.
pub fn is_cached(wanted: HubFile<'_>) -> bool {
    Cache::from_env().repo(wanted.repo()).get(wanted.file).is_some()
}

/// The hub's cache, which downloads are written to.
pub fn cache_dir() -> PathBuf {
    Cache::from_env().path().clone()
}

impl Fetched {
    /// Removes the file from the cache, so that the next [`fetch`] asks the hub.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget(&self, wanted: HubFile<'_>) -> Result<()> {
        if let Some(link) = Cache::from_env().repo(wanted.repo()).get(wanted.file) {
            fs::remove_file(link)?;
        }
        // Without a link the two are one file.
        if self.path.exists() { Ok(fs::remove_file(&self.path)?) } else { Ok(()) }
    }
}

impl HubFile<'_> {
    fn repo(&self) -> Repo {
        let kind = match self.kind {
            RepositoryKind::Model => RepoType::Model,
            RepositoryKind::Dataset => RepoType::Dataset,
        };
        Repo::with_revision(self.repository.to_owned(), kind, self.revision.to_owned())
    }
}

/// hf-hub waits for the network without end. So it works in a thread of its own, which is left to itself when nothing
/// has come from it for too long: what has arrived is in the cache.
fn download(
    wanted: HubFile<'_>,
    timeout: Duration,
    progress: &mut dyn FnMut(Transfer),
) -> Result<PathBuf, Failure> {
    let (repo, file) = (wanted.repo(), wanted.file.to_owned());
    let (sender, receiver) = mpsc::channel();
    let transfer = std::thread::spawn(move || {
        let mut builder = ApiBuilder::from_env().with_retries(RETRIES);
        if let Some(token) = std::env::var("HF_TOKEN").ok().filter(|token| !token.trim().is_empty()) {
            builder = builder.with_token(Some(token.trim().to_owned()));
        }
        let meter = Meter { transfer: Transfer { done: 0, total: 0 }, sender };
        builder.build()?.repo(repo).download_with_progress(&file, meter)
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
fn remove_parts(cache: &Cache, wanted: HubFile<'_>) {
    let blobs = cache.repo(wanted.repo()).blob_path("");
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

    fn explain(&self, file: &str) -> String {
        match self {
            Self::Api(error) => explain(error, file),
            Self::Silent(timeout) => HUB.is_silent(*timeout),
            Self::TooLong(bytes) => sends_too_much(MAX_DOWNLOAD, *bytes),
            Self::BadAnswer => {
                "the hub's answer is none of a hub; look at HF_ENDPOINT and proxies, or try again later"
                    .to_owned()
            }
        }
    }
}

/// What happened, and what to do about it.
fn explain(error: &ApiError, file: &str) -> String {
    match error {
        error if is_bad_part(error) => {
            "what was left of an earlier download could not be continued, and was deleted; run it again"
                .to_owned()
        }
        ApiError::RequestError(error) => match &**error {
            ureq::Error::StatusCode(404) => {
                format!("the hub has no such repository, or no {file} in it (404); check the name")
            }
            ureq::Error::StatusCode(status @ (401 | 403)) => format!(
                "the hub refuses ({status}): the repository does not exist, is private or gated; check the name, or set \
                 HF_TOKEN to a token that may read it"
            ),
            error => HUB.failed(error),
        },
        ApiError::TooManyRetries(last) => breaks_off(last),
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
