//! What audits and evaluations found, as a list of cases: faces that somebody should look at, and why.
//!
//! Read once, from files of `audit --json` and `evaluate --json` (or a run's `evaluation/NAME.json`, beside which
//! `NAME.csv` says what was predicted of every face). A case is suspicious from 0 to 1; how suspicious two kinds are
//! cannot be compared exactly. Nothing is decided here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ff_core::table::{Table, read_csv};
use ff_core::{PerTask, Schema, Task, TaskName};
use ff_data::audit::{Audit, Fault, ImageRecord, Match, MatchKind};
use ff_eval::EvaluationRecord;
use ff_train::infer::FaceCheck;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::{Error, Result};

/// Why a face is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Confident learning suspects its label.
    Label,
    /// The model is sure of another label.
    Mistake,
    /// Duplicates have other labels.
    Conflict,
    /// Duplicates lie in other splits.
    Leak,
    /// There are duplicates in the same split.
    Duplicate,
    /// Its shape is odd.
    Shape,
    /// It has no face, several, or one out of place.
    Face,
    /// It cannot be read.
    Unreadable,
    /// It was evaluated: a face of a confusion's cell.
    Sample,
}

impl Kind {
    /// Every kind, as lists show them.
    pub const ALL: [Self; 9] = [
        Self::Label,
        Self::Mistake,
        Self::Conflict,
        Self::Leak,
        Self::Duplicate,
        Self::Shape,
        Self::Face,
        Self::Unreadable,
        Self::Sample,
    ];

    /// The word in addresses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Mistake => "mistake",
            Self::Conflict => "conflict",
            Self::Leak => "leak",
            Self::Duplicate => "duplicate",
            Self::Shape => "shape",
            Self::Face => "face",
            Self::Unreadable => "unreadable",
            Self::Sample => "sample",
        }
    }

    /// What people read.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Label => "suspected label",
            Self::Mistake => "sure mistake",
            Self::Conflict => "duplicates with other labels",
            Self::Leak => "duplicates across splits",
            Self::Duplicate => "duplicates in a split",
            Self::Shape => "odd shape",
            Self::Face => "odd face",
            Self::Unreadable => "unreadable",
            Self::Sample => "evaluated face",
        }
    }
}

/// Faces that belong together, and why somebody should look at them.
#[derive(Debug, Clone)]
pub struct Case {
    /// Why.
    pub kind: Kind,
    /// The task whose label is in doubt.
    pub task: Option<TaskName>,
    /// From 0 to 1, the most suspicious.
    pub suspicion: f64,
    /// The rest of the reason.
    pub words: String,
    /// What the label should be, as a model sees it.
    pub suggested: Option<String>,
    /// The faces, at least one.
    pub faces: Vec<CaseFace>,
}

/// A face of a case.
#[derive(Debug, Clone)]
pub struct CaseFace {
    /// The image, relative to the images folder.
    pub file: String,
    /// The split, where it is known.
    pub split: Option<&'static str>,
    /// Its label of the case's task, where it has one.
    pub label: Option<String>,
}

/// All cases, and what they are of.
#[derive(Debug, Default)]
pub struct Cases {
    /// In no order.
    pub list: Vec<Case>,
    /// Labels a task, in the order to show them.
    pub labels: Vec<(TaskName, Vec<String>)>,
    /// The evaluations, whose confusions have faces.
    pub evaluations: Vec<(String, EvaluationRecord)>,
}

impl Cases {
    /// Of some files.
    ///
    /// # Errors
    /// A file that cannot be read, or is neither an audit's nor an evaluation's JSON; a table of predictions beside it
    /// that is broken.
    pub fn read(files: &[PathBuf]) -> Result<Self> {
        let mut cases = Self::default();
        for path in files {
            cases.add_file(path)?;
        }
        Ok(cases)
    }

    /// The tasks, for decisions about labels.
    ///
    /// # Errors
    /// There are none.
    pub fn schema(&self) -> Result<Schema, ff_core::schema::Error> {
        Schema::new(self.labels.iter().map(|(name, _)| Task::new(name.as_str())).collect())
    }

    /// The labels of a task.
    pub fn labels_of(&self, task: &str) -> Option<&[String]> {
        self.labels.iter().find(|(name, _)| *name == *task).map(|(_, labels)| labels.as_slice())
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        /// What tells the files apart.
        #[derive(Deserialize)]
        struct Probe {
            cross_split: Option<IgnoredAny>,
            label_errors: Option<IgnoredAny>,
            faces: Option<FaceCheck>,
        }
        let bad = |message: String| Error::BadFile { path: path.to_owned(), message };
        let bytes = fs_err::read(path)?;
        let probe: Probe = serde_json::from_slice(&bytes)
            .map_err(|error| bad(format!("expected the JSON of an audit or an evaluation, found {error}")))?;
        if probe.cross_split.is_some() {
            let audit: Audit = serde_json::from_slice(&bytes)
                .map_err(|error| bad(format!("expected the JSON of an audit, found {error}")))?;
            self.add_audit(&audit);
            if let Some(faces) = &probe.faces {
                self.add_faces(faces);
            }
            return Ok(());
        }
        if probe.label_errors.is_none() {
            let message =
                "expected the JSON of an audit or an evaluation, found neither cross_split nor label_errors";
            return Err(bad(message.to_owned()));
        }
        let record = EvaluationRecord::read(path).map_err(|error| bad(error.to_string()))?;
        self.add_evaluation(&record);
        let samples = path.with_extension("csv");
        if samples.is_file() {
            self.add_samples(&samples, &record)?;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        self.evaluations.push((name, record));
        Ok(())
    }

    fn add_audit(&mut self, audit: &Audit) {
        for (task, counts) in audit.balance.iter() {
            self.add_labels(task, counts.iter().map(|counts| &counts.label));
        }
        for bad in &audit.unreadable {
            let words = bad.reason.clone();
            self.list.push(Case {
                words,
                suspicion: 1.0,
                ..case(Kind::Unreadable, vec![face(&bad.image, None)])
            });
        }
        for odd in &audit.misshapen {
            let (fault, suspicion) = match odd.fault {
                Fault::Blank => ("one shade all over", 1.0),
                Fault::Tiny => ("tiny", 0.7),
                Fault::Stretched => ("stretched", 0.5),
            };
            let words = format!("{fault}, {} x {} pixels", odd.size.width, odd.size.height);
            self.list.push(Case { words, suspicion, ..case(Kind::Shape, vec![face(&odd.image, None)]) });
        }
        let of = [(Kind::Leak, &audit.cross_split), (Kind::Duplicate, &audit.within_split)];
        for (kind, found) in
            of.into_iter().flat_map(|(kind, list)| list.iter().map(move |found| (kind, found)))
        {
            let faces = found.images.iter().map(|image| face(image, None)).collect();
            self.list.push(Case {
                words: how_alike(found),
                suspicion: found.similarity.into(),
                ..case(kind, faces)
            });
        }
        for found in &audit.label_conflicts {
            for task in &found.conflicts {
                let faces = found.images.iter().map(|image| face(image, Some(task))).collect();
                let conflict = case(Kind::Conflict, faces);
                let (words, suspicion) = (how_alike(found), found.similarity.into());
                self.list.push(Case { task: Some(task.clone()), words, suspicion, ..conflict });
            }
        }
    }

    fn add_faces(&mut self, found: &FaceCheck) {
        let alone = |file: &String| vec![CaseFace { file: file.clone(), split: None, label: None }];
        for (files, words, suspicion) in
            [(&found.no_face, "no face is found", 1.0), (&found.several_faces, "several faces", 0.7)]
        {
            let cases = files.iter().map(|file| Case {
                words: words.to_owned(),
                suspicion,
                ..case(Kind::Face, alone(file))
            });
            self.list.extend(cases);
        }
        self.list.extend(found.badly_placed.iter().map(|bad| Case {
            words: format!("{:.0} pixels of 224 out of place", bad.crop_error),
            suspicion: (f64::from(bad.crop_error) / 224.0).min(1.0),
            ..case(Kind::Face, alone(&bad.file))
        }));
    }

    fn add_evaluation(&mut self, record: &EvaluationRecord) {
        let evaluation = &record.evaluation;
        for (task, labels) in evaluation.labels.iter() {
            self.add_labels(task, evaluation.display_order[task].iter().map(|&class| &labels[class]));
        }
        let labelled = |file: &str, label: &str| CaseFace {
            file: file.to_owned(),
            split: None,
            label: Some(label.to_owned()),
        };
        for (task, errors) in record.label_errors.iter() {
            self.list.extend(errors.suspects.iter().map(|suspect| Case {
                task: Some(task.clone()),
                // The margin is from -1, the most suspicious, to 1.
                suspicion: ((1.0 - suspect.margin) / 2.0).clamp(0.0, 1.0),
                words: format!(
                    "{} by {:.2}, {} by {:.2}",
                    suspect.suggested,
                    suspect.suggested_probability,
                    suspect.label,
                    suspect.label_probability
                ),
                suggested: Some(suspect.suggested.clone()),
                ..case(Kind::Label, vec![labelled(&suspect.file, &suspect.label)])
            }));
        }
        for (task, mistakes) in record.mistakes.iter() {
            self.list.extend(mistakes.iter().map(|mistake| Case {
                task: Some(task.clone()),
                suspicion: Some(mistake.probability).filter(|p| p.is_finite()).unwrap_or(0.0).clamp(0.0, 1.0),
                words: format!("taken for {} by {:.2}", mistake.predicted, mistake.probability),
                suggested: Some(mistake.predicted.clone()),
                ..case(Kind::Mistake, vec![labelled(&mistake.file, &mistake.label)])
            }));
        }
    }

    /// What was predicted of every face.
    fn add_samples(&mut self, path: &Path, record: &EvaluationRecord) -> Result<()> {
        let bad = |message: String| Error::BadFile { path: path.to_owned(), message };
        let bytes = read_csv(path).map_err(|error| bad(error.to_string()))?;
        let mut table = Table::new(path, &bytes).map_err(|error| bad(error.to_string()))?;
        let places: HashMap<String, usize> = table.header.iter().cloned().zip(0..).collect();
        let place = |column: &str| {
            places.get(column).copied().ok_or_else(|| bad(format!("expected a column {column}, found none")))
        };
        let file = place("file")?;
        let columns: PerTask<[usize; 3]> = (record.evaluation.labels.names())
            .map(|task| {
                let of = |what: &str| place(&format!("{task}{what}"));
                Ok((task.clone(), [of("")?, of("_predicted")?, of("_probability")?]))
            })
            .collect::<Result<_>>()?;
        while let Some(row) = table.next_row().map_err(|error| bad(error.to_string()))? {
            for (task, &[label, predicted, probability]) in columns.iter() {
                let [label, predicted] = [label, predicted].map(|column| row.fields[column]);
                if label.is_empty() {
                    continue;
                }
                let p = row.fields[probability].parse().ok().filter(|p: &f64| p.is_finite()).unwrap_or(0.0);
                let face = CaseFace {
                    file: row.fields[file].to_owned(),
                    split: None,
                    label: Some(label.to_owned()),
                };
                self.list.push(Case {
                    task: Some(task.clone()),
                    suspicion: if label == predicted { 1.0 - p } else { p }.clamp(0.0, 1.0),
                    words: format!("taken for {predicted} by {p:.2}"),
                    suggested: Some(predicted.to_owned()),
                    ..case(Kind::Sample, vec![face])
                });
            }
        }
        Ok(())
    }

    fn add_labels<'l>(&mut self, task: &TaskName, labels: impl Iterator<Item = &'l String>) {
        let place = match self.labels.iter().position(|(name, _)| name == task) {
            Some(place) => place,
            None => {
                self.labels.push((task.clone(), Vec::new()));
                self.labels.len() - 1
            }
        };
        let known = &mut self.labels[place].1;
        for label in labels {
            if !known.contains(label) {
                known.push(label.clone());
            }
        }
    }
}

fn case(kind: Kind, faces: Vec<CaseFace>) -> Case {
    Case { kind, task: None, suspicion: 0.0, words: String::new(), suggested: None, faces }
}

fn face(image: &ImageRecord, task: Option<&TaskName>) -> CaseFace {
    let label = task.and_then(|task| image.labels.get(task.as_str())).cloned().flatten();
    CaseFace { file: image.file.clone(), split: Some(image.split.name()), label }
}

fn how_alike(found: &Match) -> String {
    match found.kind {
        MatchKind::Exact => "same bytes".to_owned(),
        MatchKind::Near => format!("look the same ({:.2})", found.similarity),
        MatchKind::Mirrored => format!("mirrored ({:.2})", found.similarity),
    }
}
