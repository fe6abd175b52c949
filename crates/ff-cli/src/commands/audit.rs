//! `audit`: what is wrong with the data before anything is trained on it.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, ensure};
use ff_core::text::either;
use ff_data::Split;
use ff_data::audit::{Audit, Match, MatchKind, SplitCounts, Stage};
use ff_eval::Outcome;
use ff_report::DataAuditPage;
use ff_train::infer::FaceCheck;
use serde::Serialize;

use crate::faces::{check_faces, described as described_faces};
use crate::flags::{
    ComputeFlags, DataFlags, DecisionsFlag, HashFlags, SchemaFlag, recorded_path, sample_config,
};
use crate::gates::{self, JunitFlag};
use crate::output::{self, fixed, grouped, note};
use crate::output_file::{ForceFlag, Kind, OutputFile};
use crate::{Context, Ending};

/// Look for what spoils training and its figures: bad images, duplicates, labels that disagree.
///
/// Images are unreadable (missing, broken, cut off) or of an odd shape (a side below 64 pixels, sides that differ by
/// more than a quarter, one shade all over). Duplicates have the same bytes, or look the same after being compressed,
/// resized, mirrored, brightened or cropped a little; those across splits make test figures too good. Nothing is
/// changed. Without flags it audits the bundled sample. With --decisions it looks at what is left under them, and
/// leaves out findings all of whose images somebody keeps.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    audit                                                              the bundled sample\n  \
    audit --splits data/fairface/splits --images data/fairface/images --html audit.html\n  \
    audit --splits mine --images photos --json > audit.json           everything, for machines\n  \
    audit --splits mine --images photos --check-faces                 are they face crops at all?\n  \
    audit --splits mine --images photos --fail-on cross_split,unreadable:5       a gate: exit code 3")]
pub struct Args {
    /// Folder with ff_train.csv, ff_val.csv and ff_test.csv.
    #[arg(long, value_name = "DIR", value_parser = recorded_path())]
    splits: Option<PathBuf>,
    /// Folder that the CSVs' `file` column is relative to.
    #[arg(long, value_name = "DIR", value_parser = recorded_path())]
    images: Option<PathBuf>,
    /// Take rows whose file lies outside the images folder too: absolute paths, and those that `..` leads out.
    #[arg(long)]
    outside_root: bool,
    /// Write the findings as a page too, with pictures; one file that needs no other.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Findings that make the command fail with exit code 3, each with how many are allowed: cross_split,unreadable:5.
    #[arg(long, value_delimiter = ',', value_name = "FINDING[:N]")]
    fail_on: Vec<Limit>,
    /// Look for faces too: images without one, with several, or with one that is not where FairFace's crops have it.
    #[arg(long)]
    check_faces: bool,
    #[command(flatten)]
    junit: JunitFlag,
    #[command(flatten)]
    force: ForceFlag,
    #[command(flatten)]
    decisions: DecisionsFlag,
    #[command(flatten)]
    schema: SchemaFlag,
    #[command(flatten)]
    hashing: HashFlags,
}

/// How many of a finding are allowed.
#[derive(Debug, Clone, Copy)]
struct Limit {
    finding: Finding,
    allowed: usize,
}

/// What an audit counts and a gate may limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    Unreadable,
    Misshapen,
    ExactDuplicates,
    NearDuplicates,
    CrossSplit,
    LabelConflicts,
    AlikeLabels,
    NoFace,
    SeveralFaces,
    BadlyPlaced,
}

impl Finding {
    const ALL: [Self; 10] = [
        Self::Unreadable,
        Self::Misshapen,
        Self::ExactDuplicates,
        Self::NearDuplicates,
        Self::CrossSplit,
        Self::LabelConflicts,
        Self::AlikeLabels,
        Self::NoFace,
        Self::SeveralFaces,
        Self::BadlyPlaced,
    ];

    /// As in the JSON.
    const fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Misshapen => "misshapen",
            Self::ExactDuplicates => "exact_duplicates",
            Self::NearDuplicates => "near_duplicates",
            Self::CrossSplit => "cross_split",
            Self::LabelConflicts => "label_conflicts",
            Self::AlikeLabels => "alike_labels",
            Self::NoFace => "no_face",
            Self::SeveralFaces => "several_faces",
            Self::BadlyPlaced => "badly_placed",
        }
    }

    /// Whether it takes a detector to count it.
    const fn is_of_faces(self) -> bool {
        matches!(self, Self::NoFace | Self::SeveralFaces | Self::BadlyPlaced)
    }

    /// How many there are; of faces none where they were not looked for.
    fn count(self, audit: &Audit, faces: Option<&FaceCheck>) -> usize {
        let of_faces = |count: fn(&FaceCheck) -> usize| faces.map_or(0, count);
        match self {
            Self::NoFace => of_faces(|faces| faces.no_face.len()),
            Self::SeveralFaces => of_faces(|faces| faces.several_faces.len()),
            Self::BadlyPlaced => of_faces(|faces| faces.badly_placed.len()),
            Self::Unreadable => audit.unreadable.len(),
            Self::Misshapen => audit.misshapen.len(),
            Self::ExactDuplicates => audit.exact_duplicates,
            Self::NearDuplicates => audit.near_duplicates,
            Self::CrossSplit => audit.cross_split.len(),
            Self::LabelConflicts => audit.label_conflicts.len(),
            Self::AlikeLabels => audit.alike_labels.len(),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    /// `unreadable`, or `unreadable:5`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, allowed) = text.split_once(':').unwrap_or((text, "0"));
        let finding = Finding::ALL.into_iter().find(|finding| finding.name() == name);
        let names = || Finding::ALL.map(|finding| finding.name().to_owned());
        let finding = finding.ok_or_else(|| format!("expected {}, found {name:?}", either(&names())))?;
        let allowed = allowed.parse().map_err(|_| format!("expected a whole number, found {allowed:?}"))?;
        Ok(Self { finding, allowed })
    }
}

impl Limit {
    fn judge(self, audit: &Audit, faces: Option<&FaceCheck>) -> Outcome {
        let (found, allowed) = (self.finding.count(audit, faces), self.allowed);
        Outcome {
            text: format!("{}<={allowed}", self.finding.name()),
            value: Some(found as f64),
            low: None,
            high: None,
            n: audit.images as u64,
            margin: Some(allowed as f64 - found as f64),
            met: found <= allowed,
            why: None,
        }
    }
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    audit: &'a Audit,
    #[serde(skip_serializing_if = "Option::is_none")]
    faces: Option<&'a FaceCheck>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    requirements: &'a [Outcome],
    /// The findings of which there are too many.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    failed: &'a [&'static str],
}

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    let junit = args.junit.claim(args.force)?;
    let page =
        args.html.as_ref().map(|path| OutputFile::claim(path, Kind::AuditPage, args.force)).transpose()?;
    let Args { splits, images, outside_root, .. } = args;
    let data = DataFlags {
        splits: splits.clone(),
        images: images.clone(),
        outside_root: *outside_root,
        decisions: args.decisions.clone(),
        schema: args.schema.clone(),
        ..DataFlags::default()
    };
    let config = sample_config(context, &data, &ComputeFlags::default()).resolve()?;
    let (splits, decisions) = (config.read_splits()?, config.read_decisions()?);
    let config = config.data;
    ensure!(config.images.is_dir(), ff_data::Error::NoImagesRoot(config.images));
    let hash_file = args.hashing.open(&config.images)?;
    let rules = args.hashing.limits.rules();

    let n = [&splits.train, &splits.val, &splits.test].map(|split| split.len()).iter().sum::<usize>();
    let bar = output::progress(n as u64, "{msg} [{bar:30}] {pos}/{len} eta {eta}");
    let mut audit =
        Audit::new(&splits, &config.images, &rules, args.hashing.workers(), hash_file, |stage, done| {
            bar.set_message(match stage {
                Stage::Hash => "reading",
                Stage::Compare => "comparing",
            });
            bar.set_position(done as u64);
        })?;
    bar.finish_and_clear();
    if let Some(decisions) = &decisions {
        audit.leave_out_kept(decisions);
    }

    // A gate about faces asks for them.
    let of_faces = args.check_faces || args.fail_on.iter().any(|limit| limit.finding.is_of_faces());
    let faces = of_faces.then(|| {
        let all = Split::ALL.map(|split| splits.get(split));
        check_faces(&all, &config.images, rules, args.hashing.workers(), usize::MAX)
    });
    let faces = faces.transpose()?;

    if let Some(page) = page {
        page.write(DataAuditPage::new(&audit, &config.images).html().as_bytes())?;
        note!("page: {}", page.path().display());
    }
    let requirements: Vec<Outcome> =
        args.fail_on.iter().map(|limit| limit.judge(&audit, faces.as_ref())).collect();
    gates::write_junit(junit.as_ref(), &requirements)?;
    if json {
        let failed = args.fail_on.iter().zip(&requirements).filter(|(_, outcome)| !outcome.met);
        let failed: Vec<&str> = failed.map(|(limit, _)| limit.finding.name()).collect();
        output::print_json(&Printed {
            audit: &audit,
            faces: faces.as_ref(),
            requirements: &requirements,
            failed: &failed,
        })?;
    } else {
        print(&audit);
        if let Some(faces) = &faces {
            print_faces(faces);
        }
        gates::print(&requirements);
    }
    Ok(gates::ending(&requirements))
}

/// Lines of a list that are printed.
const MAX_LINES: usize = 10;

fn print(audit: &Audit) {
    let rows = [
        ("images", audit.images),
        ("unreadable", audit.unreadable.len()),
        ("of an odd shape", audit.misshapen.len()),
        ("exact copies", audit.exact_duplicates),
        ("pairs that look the same", audit.near_duplicates),
        ("matches across splits", audit.cross_split.len()),
        ("matches with other labels", audit.label_conflicts.len()),
        ("labels in several spellings", audit.alike_labels.len()),
    ];
    let rows: Vec<_> = rows.iter().map(|&(name, n)| vec![name.to_owned(), grouped(n as u64)]).collect();
    output::say!("{}", output::table(&["found", "n"], &rows));
    let unreadable = audit.unreadable.iter();
    list(
        "unreadable",
        unreadable.map(|bad| format!("{} (line {}): {}", bad.image.file, bad.image.line, bad.reason)),
    );
    list("across splits", audit.cross_split.iter().map(described));
    list("other labels", audit.label_conflicts.iter().map(described));
    let alike = audit.alike_labels.iter();
    list("several spellings", alike.map(|found| format!("{}: {}", found.task, found.labels.join(" = "))));
    for (task, labels) in audit.balance.iter() {
        let row = |name: &str, rows: &SplitCounts| {
            let counts = Split::ALL.map(|split| grouped(rows.of(split) as u64));
            [vec![name.to_owned()], counts.to_vec()].concat()
        };
        let mut rows: Vec<_> = labels.iter().map(|label| row(&label.label, &label.rows)).collect();
        let unknown = &audit.unknown[task];
        if Split::ALL.iter().any(|&split| unknown.of(split) > 0) {
            rows.push(row("(unknown)", unknown));
        }
        output::say!("\n{}", output::table(&[task.as_str(), "train", "val", "test"], &rows));
    }
}

fn print_faces(faces: &FaceCheck) {
    output::say!("\nfaces: {}", described_faces(faces));
    list("without a face", faces.no_face.iter().cloned());
    list("several faces", faces.several_faces.iter().cloned());
    let placed = faces.badly_placed.iter();
    list("badly placed", placed.map(|bad| format!("{}: {:.0} pixels of 224 off", bad.file, bad.crop_error)));
}

fn list(title: &str, lines: impl ExactSizeIterator<Item = String>) {
    let n = lines.len();
    if n > 0 {
        output::say!("\n{title}:");
    }
    lines.take(MAX_LINES).for_each(|line| output::say!("  {line}"));
    if n > MAX_LINES {
        output::say!("  and {} more: --json and --html show them", n - MAX_LINES);
    }
}

fn described(found: &Match) -> String {
    let similarity = fixed(f64::from(found.similarity), 2);
    let kind = match found.kind {
        MatchKind::Exact => "same bytes".to_owned(),
        MatchKind::Near => format!("look the same ({similarity})"),
        MatchKind::Mirrored => format!("mirrored ({similarity})"),
    };
    let images: Vec<String> =
        found.images.iter().map(|image| format!("{} {}", image.split.name(), image.file)).collect();
    let conflicts: Vec<&str> = found.conflicts.iter().map(|task| task.as_str()).collect();
    let conflicts =
        if conflicts.is_empty() { String::new() } else { format!("; not the same {}", conflicts.join(", ")) };
    format!("{}: {kind}{conflicts}", images.join(" = "))
}
