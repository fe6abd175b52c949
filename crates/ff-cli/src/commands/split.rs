//! `split`: label CSVs -> ff_train.csv, ff_val.csv, ff_test.csv.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, ensure};
use clap::builder::NonEmptyStringValueParser;
use ff_core::Schema;
use ff_data::audit::differing_labels;
use ff_data::duplicates::{Duplicates, scan};
use ff_data::{Decided, Decisions, FilePaths, Manifest, OldFiles, Ratios, SplitFolder, SplitPlan, SplitSpec};
use serde::Serialize;

use crate::Ending;
use crate::flags::{DecisionsFlag, HashFlags, SchemaFlag};
use crate::output::{self, grouped};
use crate::ranges::{self, whole};

/// Pool label CSVs and split them anew into train, validation and test.
///
/// Every combination of the labels keeps its share in every split, within one row; the totals are exact. The seed
/// decides which rows go where, the same on every machine. With --images, photos that are there twice (the same bytes,
/// or looking the same) stay on one side, so that no split is tested on what another was trained on; totals may then
/// be off by a few rows.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    split --labels fairface_label_train.csv fairface_label_val.csv --out data/fairface/splits\n  \
    split --labels labels.csv --images photos --out splits --drop-duplicates\n  \
    split --labels labels.csv --out splits --decisions decisions.csv           what was decided about faces\n  \
    split --labels labels.csv --out splits --ratios 0.8,0.1,0.1 --seed 7 --stratify race,gender")]
pub struct Args {
    /// Label CSVs with the column file and one a task; other columns are kept.
    #[arg(long, value_name = "CSV", num_args = 1.., required = true)]
    labels: Vec<PathBuf>,
    /// Folder to write ff_train.csv, ff_val.csv and ff_test.csv to. Files of these names that an earlier split wrote
    /// are replaced; others, and those that were changed since, are not.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace those too.
    #[arg(long)]
    force: bool,
    /// Folder that the `file` column is relative to; given, duplicates stay on one side.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Take rows whose file lies outside the images folder too: absolute paths, and those that `..` leads out.
    #[arg(long)]
    outside_root: bool,
    /// Leave out images with the bytes of an earlier one.
    #[arg(long, requires = "images")]
    drop_duplicates: bool,
    /// Shares of train, validation and test.
    #[arg(long, value_name = "T,V,T", allow_hyphen_values = true, default_value = "0.75,0.15,0.10")]
    ratios: Ratios,
    /// Decides which rows go where.
    #[arg(long, value_name = "S", default_value_t = 42, value_parser = whole::<u64>(ranges::SEED))]
    seed: u64,
    /// Columns whose combinations keep their shares: tasks or any others [default: race, gender and age, as far as they
    /// are tasks].
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS", value_parser = NonEmptyStringValueParser::new())]
    stratify: Option<Vec<String>>,
    #[command(flatten)]
    decisions: DecisionsFlag,
    #[command(flatten)]
    schema: SchemaFlag,
    #[command(flatten)]
    hashing: HashFlags,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct SplitSummary {
    out: String,
    /// Rows in the CSVs.
    rows: usize,
    train: usize,
    val: usize,
    test: usize,
    /// What the ratios ask for.
    targets: [usize; 3],
    seed: u64,
    strata: usize,
    /// The largest distance of a stratum's count from its exact share, in rows.
    largest_deviation: f64,
    /// What decisions did, where there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided: Option<Decided>,
    duplicates_removed: usize,
    #[serde(flatten)]
    duplicates: Found,
}

/// What looking at the images found.
#[derive(Debug, Default, Serialize)]
struct Found {
    /// Images with the bytes of an earlier one.
    exact_duplicates: usize,
    /// Pairs that look the same.
    near_duplicates: usize,
    /// Groups that were kept together.
    groups: usize,
    /// Images in the largest of them.
    largest_group: usize,
    /// Groups whose labels disagree.
    label_conflicts: usize,
    /// Images that are missing or broken; their rows are kept.
    unreadable: usize,
}

pub fn run(args: &Args, json: bool) -> Result<Ending> {
    let schema = args.schema.read()?;
    let files = if args.outside_root { FilePaths::Anywhere } else { FilePaths::InsideRoot };
    let manifests = args.labels.iter().map(|csv| Manifest::read_with(csv, &schema, files));
    let mut pool = ff_data::pool(&manifests.collect::<ff_data::Result<Vec<_>>>()?)?;
    let rows = pool.len();
    ensure!(rows > 0, "{}: expected at least one row, found none", pool.path().display());
    let decided = match &args.decisions.decisions {
        Some(path) => {
            let decided = Decisions::read(path, &schema)?.apply(&mut [&mut pool])?;
            ensure!(
                !pool.is_empty(),
                "{}: expected some of {rows} rows to be left, found none",
                path.display()
            );
            Some(decided)
        }
        None => None,
    };
    let decided_rows = pool.len();
    let old_files = if args.force { OldFiles::Replace } else { OldFiles::Keep };
    let folder = SplitFolder::open(&args.out, old_files).map_err(|error| match error {
        ff_data::Error::WouldReplace { .. } => anyhow!("{error}; --force replaces it"),
        other => other.into(),
    })?;

    let (mut groups, mut found) = (Vec::new(), Found::default());
    if let Some(images) = &args.images {
        let (mut duplicates, unreadable) = search(&pool, images, &args.hashing)?;
        found = Found::new(&pool, &duplicates, unreadable);
        if args.drop_duplicates {
            let kept = duplicates.drop_copies(pool.len());
            let kept = kept.into_iter().map(|i| pool.rows()[i].clone()).collect();
            pool = Manifest::new(pool.path(), &schema, pool.extra_columns().to_vec(), kept)?;
        }
        groups = duplicates.groups();
    }
    let stratify = args.stratify.clone().unwrap_or_else(|| usual_strata(&schema));
    let spec = SplitSpec { ratios: args.ratios, seed: args.seed, stratify };
    let plan = SplitPlan::new(&pool, &groups, &spec)?;
    folder.write(&plan, &pool)?;

    let [train, val, test] = plan.counts;
    let outcome = SplitSummary {
        out: args.out.display().to_string(),
        rows,
        train,
        val,
        test,
        targets: plan.targets,
        seed: args.seed,
        strata: plan.n_strata,
        largest_deviation: plan.largest_deviation,
        decided,
        duplicates_removed: decided_rows - pool.len(),
        duplicates: found,
    };
    if json {
        output::print_json(&outcome)?;
    } else {
        print(&outcome, args.images.is_some());
    }
    Ok(Ending::Success)
}

/// What is stratified by without being asked: FairFace's attributes, as far as they are tasks.
fn usual_strata(schema: &Schema) -> Vec<String> {
    let usual = ["race", "gender", "age"].into_iter().filter(|name| schema.task(name).is_ok());
    usual.map(str::to_owned).collect()
}

/// Duplicates among the pool's images, and how many of those cannot be read.
fn search(pool: &Manifest, images: &Path, hashing: &HashFlags) -> Result<(Duplicates, usize)> {
    ensure!(images.is_dir(), ff_data::Error::NoImagesRoot(images.to_owned()));
    let files: Vec<&str> = pool.rows().iter().map(|row| row.file.as_str()).collect();
    let bar = output::progress(files.len() as u64, "{msg} [{bar:30}] {pos}/{len} eta {eta}");
    let tell = |done: usize| bar.set_position(done as u64);
    bar.set_message("reading");
    let scanned =
        scan(images, &files, &hashing.limits.rules(), hashing.workers(), hashing.open(images)?, tell)?;
    let mut bad = scanned.iter().filter_map(|scanned| scanned.as_ref().err());
    if let Some(error) = bad.next() {
        tracing::warn!("{} images cannot be read, the first: {error}", bad.count() + 1);
    }
    let fingerprints: Vec<_> = scanned.into_iter().map(Result::ok).collect();
    bar.set_message("comparing");
    let duplicates = Duplicates::find(&fingerprints, hashing.workers(), tell);
    bar.finish_and_clear();
    Ok((duplicates, fingerprints.iter().filter(|fingerprint| fingerprint.is_none()).count()))
}

impl Found {
    fn new(pool: &Manifest, duplicates: &Duplicates, unreadable: usize) -> Self {
        let groups = duplicates.groups();
        let disagree = |group: &&Vec<usize>| {
            !differing_labels(pool.schema(), group.iter().map(|&i| &pool.rows()[i])).is_empty()
        };
        Found {
            exact_duplicates: duplicates.exact.iter().map(|group| group.len() - 1).sum(),
            near_duplicates: duplicates.near.len(),
            groups: groups.len(),
            largest_group: groups.iter().map(Vec::len).max().unwrap_or(0),
            label_conflicts: groups.iter().filter(disagree).count(),
            unreadable,
        }
    }
}

fn print(outcome: &SplitSummary, with_images: bool) {
    let names = ["train", "val", "test"].into_iter();
    let counts = [outcome.train, outcome.val, outcome.test].into_iter().zip(outcome.targets);
    let rows = names
        .zip(counts)
        .map(|(name, (count, target))| vec![name.to_owned(), grouped(count as u64), grouped(target as u64)]);
    output::say!("{}", output::table(&["split", "rows", "asked for"], &rows.collect::<Vec<_>>()));
    output::say!(
        "\n{} combinations of labels, each within {:.2} rows of its share",
        outcome.strata,
        outcome.largest_deviation
    );
    if let Some(Decided { dropped, relabelled }) = outcome.decided {
        output::say!(
            "decisions: {dropped} of {} rows left out, {relabelled} relabelled",
            grouped(outcome.rows as u64)
        );
    }
    if with_images {
        let found = &outcome.duplicates;
        output::say!(
            "{} exact copies ({} left out) and {} pairs that look the same: {} groups kept together, {} with \
             labels that disagree",
            found.exact_duplicates,
            outcome.duplicates_removed,
            found.near_duplicates,
            found.groups,
            found.label_conflicts
        );
    } else {
        output::say!("duplicates were not looked for: --images DIR keeps them on one side");
    }
    output::say!("written to {}", outcome.out);
}
