//! `MODEL_CARD.md`: what a model is, learnt from what, how good it is for whom, what it is for and what not (Mitchell
//! et al. 2019), with the metadata header that the hub reads.
//!
//! Everything stands in the run's records; nothing is computed here but an interval from counts. The card is made to be
//! given away: files are named without their folders. What people wrote, as labels and names, stays text
//! ([`markdown`]). A card whose second line does not say that it is ours is somebody's own and stays as it is.

mod figures;
mod groups;
mod header;
mod markdown;
mod origin;

use std::path::{Path, PathBuf};

use ff_core::files::write_atomic;
use ff_data::Split;
use ff_eval::EvaluationSource;
use ff_model::Architecture;
use ff_train::records::EpochRecord;
use fs_err as fs;

use crate::Result;
use crate::evaluation::NamedEvaluation;
use crate::run::RunReport;
use figures::Judged;
pub use groups::{Accuracy, GroupFigures, GroupRow, GroupingFigures};
use header::MARK;
use markdown::text;

/// A card's name in a run folder.
pub const MODEL_CARD: &str = "MODEL_CARD.md";

/// A run's model, told to those who did not train it.
#[derive(Debug, Clone)]
pub struct ModelCard<'a> {
    report: &'a RunReport,
    /// The step after which the checkpoint was written; `None` where that is not known.
    step: Option<u64>,
    file: Option<ModelFile>,
}

/// A file that the model was written to, beside which its card lies.
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// Its name.
    pub name: String,
    /// What kind of file, in words: opset, input, output.
    pub format: String,
    /// The library that opens it, as the hub calls it.
    pub library: &'static str,
    /// SHA-256.
    pub sha256: String,
}

/// What became of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardFile {
    /// Written.
    Written,
    /// Somebody made the one that is there their own: it is as it was.
    TheirOwn,
}

impl<'a> ModelCard<'a> {
    /// The card of a run: of its best checkpoint, or its last where none is the best yet.
    pub fn of_run(report: &'a RunReport) -> Self {
        let best = report.best.and_then(|best| report.epochs.get(best));
        Self { report, step: best.map(|epoch| epoch.step), file: None }
    }

    /// The card of a file that a run's checkpoint, that of `step`, was written to.
    pub fn of_file(report: &'a RunReport, step: Option<u64>, file: ModelFile) -> Self {
        Self { report, step, file: Some(file) }
    }

    /// The card.
    pub fn markdown(&self) -> String {
        let sections = [
            origin::model(self),
            origin::data(self),
            origin::recipe(self),
            figures::figures(self),
            self.words(),
        ];
        format!("{}\n# Model card: {}\n\n{}", header::header(self), text(&self.name()), sections.join("\n"))
    }

    /// Writes the card into the run's folder, as [`MODEL_CARD`]; `None` where the one there is somebody's own.
    ///
    /// # Errors
    /// As [`ModelCard::write`].
    pub fn write_in_run(&self) -> Result<Option<PathBuf>> {
        let path = self.report.folder.join(MODEL_CARD);
        let written = self.write(&path)?;
        Ok((written == CardFile::Written).then_some(path))
    }

    /// Writes the card, unless somebody made the one that is there their own.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn write(&self, path: &Path) -> Result<CardFile> {
        if path.exists() && !is_ours(&fs::read(path)?) {
            return Ok(CardFile::TheirOwn);
        }
        write_atomic(path, self.markdown().as_bytes())?;
        Ok(CardFile::Written)
    }

    fn name(&self) -> String {
        self.file.as_ref().map_or_else(|| self.report.name.clone(), |file| file.name.clone())
    }

    fn library(&self) -> &'static str {
        self.file.as_ref().map_or("fairface", |file| file.library)
    }

    fn is_fairface(&self) -> bool {
        self.report.provenance.data.as_ref().is_some_and(|data| data.fairface)
    }

    fn has_task(&self, names: &[&str]) -> bool {
        self.report.encoders.names().any(|task| names.contains(&task.as_str()))
    }

    fn judged(&self) -> Vec<Judged<'a>> {
        figures::judged(self)
    }

    /// The epoch at whose end the checkpoint was written, if one was.
    fn epoch(&self) -> Option<&'a EpochRecord> {
        self.report.epochs.iter().rfind(|epoch| Some(epoch.step) == self.step)
    }

    /// The evaluations of this checkpoint, and not of another one of the run.
    fn evaluations(&self) -> impl Iterator<Item = &'a NamedEvaluation> {
        let RunReport { epochs, best, evaluations, .. } = self.report;
        // Records of before they had the step have the folder's name.
        let by_name = |source: &EvaluationSource| match source.checkpoint.as_ref()?.file_name()?.to_str()? {
            "best" => best.and_then(|best| epochs.get(best)).map(|epoch| epoch.step),
            "last" => epochs.last().map(|epoch| epoch.step),
            name => name.strip_prefix("step-")?.parse().ok(),
        };
        let step = self.step;
        evaluations.iter().filter(move |evaluation| {
            let source = &evaluation.record.source;
            step.is_some() && source.step.or_else(|| by_name(source)) == step
        })
    }

    /// A value of the configuration as it stands there; `None` where other versions have none.
    fn setting(&self, section: &str, key: &str) -> Option<String> {
        let value = self.report.config.get(section)?.get(key)?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// The backbone. Runs of before there were two have ResNet-34.
    fn architecture(&self) -> Option<Architecture> {
        self.setting("model", "backbone").map_or(Some(Architecture::Resnet34), |name| name.parse().ok())
    }

    /// Which split of the run's data a file of labels is.
    fn split(&self, csv: &Path) -> Option<Split> {
        let folder = self.setting("data", "splits")?;
        Split::ALL.into_iter().find(|split| split.path(&folder) == csv)
    }

    /// What no record says: use, limits, law, references.
    fn words(&self) -> String {
        let attributes = self.has_task(&["age", "gender", "race"]);
        let race = self.has_task(&["race"]);
        let limits = if attributes { include_str!("words/annotators.md") } else { "" };
        let law = match (race, attributes) {
            (true, _) => [include_str!("words/law_race.md"), include_str!("words/law_attributes.md"), "\n"],
            (false, true) => {
                [include_str!("words/law_as_of.md"), include_str!("words/law_attributes.md"), "\n"]
            }
            (false, false) => ["", "", ""],
        };
        let heading = if race { "Law and ethics of sorting people by race" } else { "Law" };
        let fairface = if self.is_fairface() { include_str!("words/fairface.md") } else { "" };
        [
            "## Intended use\n\n",
            include_str!("words/intended_use.md"),
            "\n## Limits\n\n",
            limits,
            include_str!("words/limits.md"),
            &format!("\n## {heading}\n\n"),
            &law.concat(),
            include_str!("words/law_any.md"),
            "\n## References\n\n",
            include_str!("words/references.md"),
            fairface,
        ]
        .concat()
    }
}

/// Whether a card is one that nobody changed for good. An empty file holds nothing.
fn is_ours(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let second = lines.nth(1);
    bytes.is_empty() || second.is_some_and(|line| line.starts_with(MARK.as_bytes()))
}
