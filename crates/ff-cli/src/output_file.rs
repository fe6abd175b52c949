//! A file that a command is going to write, looked at before the work is done.
//!
//! Invariant: what a command did not write itself, or a command like it, is replaced only when the user says so, and a
//! name that cannot be written to is told before anything is computed for it.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use ff_core::files::{probe, write_atomic};
use ff_report::DataAuditPage;
use fs_err as fs;

/// Whether a file of somebody else may be replaced.
#[derive(Debug, Clone, Copy, Default, Args)]
#[group(skip)]
pub struct ForceFlag {
    /// Replace a file there even if it is not what this command writes.
    #[arg(long)]
    force: bool,
}

/// What is going to be written, and so may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A model as ONNX.
    Onnx,
    /// A model as safetensors.
    Model,
    /// Embeddings as safetensors.
    Embeddings,
    /// An audit's page.
    AuditPage,
    /// An evaluation's page, or a comparison's.
    EvaluationPage,
    /// A table of samples.
    PerSample,
    /// Outcomes of requirements as JUnit XML.
    Junit,
    /// A manual page.
    ManualPage,
    /// A photo with its faces marked.
    AnnotatedPhoto,
}

/// A place that can be written to.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
}

impl OutputFile {
    /// Makes sure that a file can be written, and makes its folder if need be.
    ///
    /// # Errors
    /// It is a folder, its folder cannot be written into, or a file that is not of this kind stands there.
    pub fn claim(path: &Path, kind: Kind, replace: ForceFlag) -> Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        probe(path)?;
        if !replace.force && !is_free(path, kind)? {
            bail!(
                "{}: expected no file or {}, found another file; --force replaces it",
                path.display(),
                kind.name()
            );
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// It cannot be written after all; what stood there is as it was.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        Ok(write_atomic(&self.path, bytes)?)
    }
}

/// Whether nothing is lost when this file is replaced. What is no regular file, as a pipe, is written into.
fn is_free(path: &Path, kind: Kind) -> Result<bool> {
    /// Every mark is found within these.
    const HEAD: u64 = 4096;
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(true),
        Err(e) => bail!("{}: {e}", path.display()),
    }
    let mut head = Vec::new();
    fs::File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    let of_a_checkpoint = kind == Kind::Model && path.with_file_name("state.json").exists();
    Ok(head.is_empty() || (kind.marks(&head) && !of_a_checkpoint))
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Onnx => "an ONNX model of this program",
            Self::Model => "a safetensors model of this program outside checkpoints",
            Self::Embeddings => "embeddings of this program",
            Self::AuditPage => "an audit's page",
            Self::EvaluationPage => "an evaluation's or a comparison's page",
            Self::PerSample => "a table of samples of this program",
            Self::Junit => "JUnit XML of this program",
            Self::ManualPage => "this program's manual",
            Self::AnnotatedPhoto => "an annotated photo of this program",
        }
    }

    /// Whether a file that begins so was written by this program, and is of this kind.
    fn marks(self, head: &[u8]) -> bool {
        let has = |mark: &str| head.windows(mark.len()).any(|bytes| bytes == mark.as_bytes());
        // The header follows its length, and the one entry of the metadata comes first.
        let metadata = |key: &str| {
            head.get(8..)
                .is_some_and(|h| h.starts_with(format!("{{\"__metadata__\":{{\"{key}\":").as_bytes()))
        };
        match self {
            Self::Onnx => has(ff_model::onnx::PRODUCER),
            Self::Model => metadata("labels"),
            Self::Embeddings => metadata("files"),
            Self::AuditPage => has(&format!("<title>{}</title>", DataAuditPage::TITLE)),
            Self::EvaluationPage => has("<title>Evaluation: ") || has("<title>Comparison: "),
            Self::PerSample => head.starts_with(b"file,") && has("_predicted,"),
            Self::Junit => has("<testsuite name=\"fairface\""),
            Self::ManualPage => has(".TH fairface"),
            Self::AnnotatedPhoto => {
                head.windows(ff_report::PNG_MARK.len()).any(|bytes| bytes == ff_report::PNG_MARK)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 9] = [
        Kind::Onnx,
        Kind::Model,
        Kind::Embeddings,
        Kind::AuditPage,
        Kind::EvaluationPage,
        Kind::PerSample,
        Kind::Junit,
        Kind::ManualPage,
        Kind::AnnotatedPhoto,
    ];

    #[test]
    fn what_somebody_else_wrote_is_replaced_by_force_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder/file");
        let (gently, by_force) = (ForceFlag::default(), ForceFlag { force: true });
        for kind in KINDS {
            OutputFile::claim(&path, kind, gently).unwrap();
            assert!(!path.exists(), "a claim leaves nothing");
            for theirs in ["the user's", "{\"a\":1}", "<!DOCTYPE html>", "PK\u{3}\u{4}"] {
                fs::write(&path, theirs).unwrap();
                let message = OutputFile::claim(&path, kind, gently).unwrap_err().to_string();
                assert!(message.contains("new/folder/file: expected no file or "), "{message}");
                assert_eq!(fs::read_to_string(&path).unwrap(), theirs);
                OutputFile::claim(&path, kind, by_force).unwrap().write(b"").unwrap();
            }
            OutputFile::claim(&path, kind, gently).expect("an empty file holds nothing");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_model_of_a_checkpoint_is_no_place_to_export_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        fs::write(&path, b"12345678{\"__metadata__\":{\"labels\":\"{}\"}").unwrap();
        OutputFile::claim(&path, Kind::Model, ForceFlag::default()).unwrap();
        assert!(OutputFile::claim(&path, Kind::Embeddings, ForceFlag::default()).is_err());
        fs::write(dir.path().join("state.json"), "{}").unwrap();
        assert!(OutputFile::claim(&path, Kind::Model, ForceFlag::default()).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_taken_and_what_cannot_be_written_is_refused_at_once() {
        let claim = |path: &str| OutputFile::claim(Path::new(path), Kind::Onnx, ForceFlag::default());
        claim("/dev/null").unwrap().write(b"gone").unwrap();
        let message = claim("/").unwrap_err().to_string();
        assert!(message.contains("expected a file"), "{message}");
        assert!(claim("/proc/face.onnx").is_err(), "nothing can be made there");
        assert!(claim("/dev/null/face.onnx").is_err());
    }
}
