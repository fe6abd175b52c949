//! What is wrong with a folder of splits before anything is trained on it.
//!
//! Images that do not decode or have an odd shape; duplicates within and across splits, and those whose labels
//! disagree; how the labels are spread. Nothing is changed: an [`Audit`] is a list of findings, as data.

mod balance;

use std::{collections::BTreeSet, path::Path};

use ff_core::{PerTask, Schema, TaskName};
use serde::{Deserialize, Serialize};

pub use balance::{AlikeLabels, LabelCounts, SplitCounts};

use crate::{
    decisions::Decisions,
    decode::ImageRules,
    duplicates::{self, Duplicates, Facing, Fingerprint, HashFile},
    error::{Error, Result},
    manifest::Row,
    rgb_image::ImageSize,
    split::Split,
    splits::Splits,
};

/// An image with a shorter side is called tiny.
pub const MIN_SIDE: usize = 64;
/// An image whose sides differ by a larger factor is called stretched: the loader makes every image square.
pub const MAX_ASPECT: f64 = 1.25;

/// The findings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Audit {
    /// Rows of all splits.
    pub images: usize,
    /// Images that are missing, broken or cut off.
    pub unreadable: Vec<Unreadable>,
    /// Images of a shape that training suffers from.
    pub misshapen: Vec<Misshapen>,
    /// Images with the bytes of an earlier one.
    pub exact_duplicates: usize,
    /// Pairs of images that look the same without having the same bytes.
    pub near_duplicates: usize,
    /// Duplicates in different splits: what is measured on them is remembered, not recognised.
    pub cross_split: Vec<Match>,
    /// Duplicates in one split.
    pub within_split: Vec<Match>,
    /// Those of both lists whose labels disagree.
    pub label_conflicts: Vec<Match>,
    /// Labels that differ in case or blanks only.
    pub alike_labels: Vec<AlikeLabels>,
    /// Rows a label, in the order of the classes where they have one.
    pub balance: PerTask<Vec<LabelCounts>>,
    /// Rows whose label is not known.
    pub unknown: PerTask<SplitCounts>,
}

/// A row, as findings name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The split.
    pub split: Split,
    /// The row's image.
    pub file: String,
    /// 1-based line in the split's CSV.
    pub line: u64,
    /// The row's labels, as far as they are known.
    pub labels: PerTask<Option<String>>,
}

/// An image that cannot be used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unreadable {
    /// The row.
    #[serde(flatten)]
    pub image: ImageRecord,
    /// Why.
    pub reason: String,
}

/// An image of an odd shape.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Misshapen {
    /// The row.
    #[serde(flatten)]
    pub image: ImageRecord,
    /// What is odd.
    pub fault: Fault,
    /// The image's size.
    pub size: ImageSize,
}

/// What is odd about an image's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// A side below [`MIN_SIDE`].
    Tiny,
    /// Sides that differ by more than [`MAX_ASPECT`].
    Stretched,
    /// One shade all over.
    Blank,
}

/// Images that show the same picture.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Match {
    /// How they are the same.
    pub kind: MatchKind,
    /// 1 for the same bytes; else as [`duplicates::NearPair::similarity`].
    pub similarity: f32,
    /// The images: all with the same bytes, or both sides of a near pair with all that have the same bytes.
    pub images: Vec<ImageRecord>,
    /// Tasks whose known labels are not the same for all of them.
    pub conflicts: Vec<TaskName>,
}

/// How images are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatchKind {
    /// Byte for byte.
    Exact,
    /// They look the same.
    Near,
    /// They look the same with left and right swapped.
    Mirrored,
}

/// What an audit is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Images are read and hashed.
    Hash,
    /// Images are compared with each other.
    Compare,
}

impl Audit {
    /// Audits three splits whose files are relative to `images` and read by `rules`. `progress` is told what is being
    /// done and of how many images.
    ///
    /// # Errors
    /// No such folder, or the process may open no more files. Bad images are findings, not errors.
    pub fn new(
        splits: &Splits,
        images: &Path,
        rules: &ImageRules,
        workers: usize,
        hash_file: Option<HashFile>,
        mut progress: impl FnMut(Stage, usize),
    ) -> Result<Self> {
        if !images.is_dir() {
            return Err(Error::NoImagesRoot(images.to_owned()));
        }
        let rows: Vec<(Split, &Row)> = Split::ALL
            .into_iter()
            .flat_map(|split| splits.get(split).rows().iter().map(move |row| (split, row)))
            .collect();
        let files: Vec<&str> = rows.iter().map(|(_, row)| row.file.as_str()).collect();
        let scanned =
            duplicates::scan(images, &files, rules, workers, hash_file, |n| progress(Stage::Hash, n))?;

        let schema = splits.train.schema();
        let record = |i: usize| {
            let (split, row) = rows[i];
            let labels = schema.names().cloned().zip(row.labels.iter().cloned()).collect();
            ImageRecord { split, file: row.file.clone(), line: row.line, labels }
        };
        let (mut unreadable, mut misshapen, mut fingerprints) = (Vec::new(), Vec::new(), Vec::new());
        for (i, scanned) in scanned.into_iter().enumerate() {
            match &scanned {
                Err(error) => unreadable.push(Unreadable { image: record(i), reason: error.to_string() }),
                Ok(image) => misshapen.extend(fault(image).map(|fault| Misshapen {
                    image: record(i),
                    fault,
                    size: image.size,
                })),
            }
            fingerprints.push(scanned.ok());
        }
        let found = Duplicates::find(&fingerprints, workers, |n| progress(Stage::Compare, n));
        let (cross_split, within_split): (Vec<Match>, Vec<Match>) =
            matches(&found, record).into_iter().partition(Match::crosses_splits);
        let all = cross_split.iter().chain(&within_split);
        let balance = balance::count(splits);
        Ok(Audit {
            images: rows.len(),
            unreadable,
            misshapen,
            exact_duplicates: found.exact.iter().map(|group| group.len() - 1).sum(),
            near_duplicates: found.near.len(),
            label_conflicts: all.filter(|found| !found.conflicts.is_empty()).cloned().collect(),
            cross_split,
            within_split,
            alike_labels: balance::alike(&balance),
            unknown: balance::unknown(splits),
            balance,
        })
    }
}

impl Audit {
    /// Leaves out findings about images that somebody looked at and keeps: odd shapes, and matches all of whose images
    /// are kept. What cannot be read stays.
    pub fn leave_out_kept(&mut self, decisions: &Decisions) {
        let kept: BTreeSet<&Path> = decisions.kept().collect();
        let kept = |image: &ImageRecord| kept.contains(Path::new(&image.file));
        self.misshapen.retain(|found| !kept(&found.image));
        for matches in [&mut self.cross_split, &mut self.within_split, &mut self.label_conflicts] {
            matches.retain(|found| !found.images.iter().all(kept));
        }
        let all = || self.cross_split.iter().chain(&self.within_split);
        let exact = all().filter(|found| found.kind == MatchKind::Exact);
        self.exact_duplicates = exact.map(|found| found.images.len() - 1).sum();
        self.near_duplicates = all().filter(|found| found.kind != MatchKind::Exact).count();
    }
}

impl Match {
    fn new(kind: MatchKind, similarity: f32, images: Vec<ImageRecord>) -> Self {
        let differ = |task: &&TaskName| disagree(images.iter().map(|image| image.labels[*task].as_deref()));
        let conflicts = images[0].labels.names().filter(differ).cloned().collect();
        Match { kind, similarity, images, conflicts }
    }

    fn crosses_splits(&self) -> bool {
        self.images.iter().any(|image| image.split != self.images[0].split)
    }
}

/// The tasks on which some rows of a schema disagree; what is not known agrees with everything.
pub fn differing_labels<'r>(schema: &Schema, rows: impl Iterator<Item = &'r Row> + Clone) -> Vec<TaskName> {
    let labels = |i: usize| rows.clone().map(move |row| row.labels[i].as_deref());
    let names = schema.names().enumerate();
    names.filter(|(i, _)| disagree(labels(*i))).map(|(_, name)| name.clone()).collect()
}

fn disagree<'l>(labels: impl Iterator<Item = Option<&'l str>>) -> bool {
    let mut known = labels.flatten();
    let first = known.next();
    known.any(|label| Some(label) != first)
}

fn fault(image: &Fingerprint) -> Option<Fault> {
    let ImageSize { width, height } = image.size;
    let (short, long) = (width.min(height), width.max(height));
    if image.is_blank() {
        Some(Fault::Blank)
    } else if short < MIN_SIDE {
        Some(Fault::Tiny)
    } else {
        (long as f64 > MAX_ASPECT * short as f64).then_some(Fault::Stretched)
    }
}

fn matches(found: &Duplicates, record: impl Fn(usize) -> ImageRecord) -> Vec<Match> {
    let records = |images: &[usize]| -> Vec<ImageRecord> { images.iter().map(|&i| record(i)).collect() };
    let mut matches: Vec<Match> =
        found.exact.iter().map(|group| Match::new(MatchKind::Exact, 1.0, records(group))).collect();
    for pair in &found.near {
        let kind = match pair.facing {
            Facing::Same => MatchKind::Near,
            Facing::Mirrored => MatchKind::Mirrored,
        };
        let images = [pair.a, pair.b].map(|image| records(found.copies_of(&image))).concat();
        matches.push(Match::new(kind, pair.similarity, images));
    }
    matches
}
