//! A pool in three parts: exact totals, even strata, groups whole, the same for a seed everywhere.

use std::path::{Path, PathBuf};

use ff_core::{Schema, Task, fault::during};
use ff_data::{Manifest, OldFiles, Ratios, Row, Split, SplitFolder, SplitPlan, SplitSpec, Splits, pool};
use proptest::prelude::*;

use crate::support::{fairface, known, sample_splits};

fn spec(ratios: [f64; 3], seed: u64) -> SplitSpec {
    let stratify = ["race", "gender", "age"].map(str::to_owned).into();
    SplitSpec { ratios: Ratios::new(ratios).unwrap(), seed, stratify }
}

/// Rows `0.jpg`, `1.jpg`, ... with these strata as race labels.
fn rows(strata: &[usize]) -> Manifest {
    let row = |(i, stratum): (usize, &usize)| Row {
        file: format!("{i}.jpg"),
        labels: known(["3-9", "F", &format!("race {stratum}")]),
        extra: Vec::new(),
        line: 0,
    };
    Manifest::new("pool.csv", &Schema::fairface(), Vec::new(), strata.iter().enumerate().map(row).collect())
        .unwrap()
}

fn label_files() -> Option<Vec<Manifest>> {
    let Some(root) = std::env::var_os("FAIRFACE_TEST_DATA").map(PathBuf::from) else {
        eprintln!("skipped: FAIRFACE_TEST_DATA names no folder with data/fairface-labels");
        return None;
    };
    let names = ["fairface_label_train.csv", "fairface_label_val.csv"];
    Some(
        names
            .map(|name| {
                Manifest::read(root.join("data/fairface-labels").join(name), &Schema::fairface()).unwrap()
            })
            .into(),
    )
}

fn written(plan: &SplitPlan, pool: &Manifest) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    SplitFolder::open(dir.path(), OldFiles::Keep).unwrap().write(plan, pool).unwrap();
    texts(dir.path())
}

fn texts(dir: &Path) -> Vec<String> {
    Split::ALL.map(|split| fs_err::read_to_string(split.path(dir)).unwrap()).into()
}

#[test]
fn fairfaces_97_698_rows_are_split_as_the_notebook_splits_them() {
    let Some(manifests) = label_files() else { return };
    let pool = pool(&manifests).unwrap();
    assert_eq!(pool.len(), 86_744 + 10_954);
    let plan = SplitPlan::new(&pool, &[], &spec([0.75, 0.15, 0.10], 42)).unwrap();
    assert_eq!(plan.counts, [73_273, 14_655, 9_770]);
    assert_eq!((plan.targets, plan.n_strata), (plan.counts, 126));
    assert!(plan.largest_deviation < 1.0, "{}", plan.largest_deviation);

    let csvs = written(&plan, &pool);
    assert_eq!(csvs, written(&SplitPlan::new(&pool, &[], &spec([0.75, 0.15, 0.10], 42)).unwrap(), &pool));
    assert_ne!(csvs, written(&SplitPlan::new(&pool, &[], &spec([0.75, 0.15, 0.10], 43)).unwrap(), &pool));
    let mut files: Vec<String> = Vec::new();
    for (split, csv) in Split::ALL.into_iter().zip(&csvs) {
        assert!(csv.starts_with("file,age,gender,race,service_test,split\n"));
        let manifest = fairface(split.file_name(), csv.as_bytes()).unwrap();
        assert!(manifest.extra("split").unwrap().all(|name| name == split.name()));
        files.extend(manifest.rows().iter().map(|row| row.file.clone()));
    }
    let mut expected: Vec<String> = pool.rows().iter().map(|row| row.file.clone()).collect();
    files.sort();
    expected.sort();
    assert!(files == expected, "every file once, and no other");
}

/// Fixed for ever: a new version of this crate must not move a test face into a training split.
#[test]
fn a_seed_means_the_same_split_in_every_version() {
    let splits = sample_splits();
    let all = pool(&[splits.train, splits.val, splits.test]).unwrap();
    let plan = SplitPlan::new(&all, &[], &spec([0.75, 0.15, 0.10], 42)).unwrap();
    let sides: Vec<u8> = plan.sides.iter().take(32).map(|&side| side as u8).collect();
    assert_eq!(plan.counts, [599, 120, 80]);
    assert_eq!(
        sides,
        [0, 0, 0, 0, 0, 2, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_stratum_is_within_one_of_its_share(
        strata in prop::collection::vec(0..8_usize, 1..200),
        shares in (1..20_u32, 0..20_u32, 0..20_u32),
        seed: u64,
    ) {
        let sum = f64::from(shares.0 + shares.1 + shares.2);
        let [val, test] = [shares.1, shares.2].map(|share| (f64::from(share) / sum * 1e3).round() / 1e3);
        let spec = spec([1.0 - val - test, val, test], seed);
        let plan = SplitPlan::new(&rows(&strata), &[], &spec).unwrap();
        prop_assert_eq!(plan.counts, plan.targets);
        prop_assert!(plan.largest_deviation < 1.0);
    }

    #[test]
    fn groups_stay_whole_and_totals_near(
        strata in prop::collection::vec(0..4_usize, 60..200),
        sizes in prop::collection::vec(2..5_usize, 0..12),
        seed: u64,
    ) {
        // Neighbours form a group, whatever their strata: copies of a face with other labels are a group too.
        let mut start = 0;
        let groups: Vec<Vec<usize>> = sizes.iter().map(|size| {
            let group = (start..start + size).collect();
            start += size;
            group
        }).collect();
        let pool = rows(&strata);
        let plan = SplitPlan::new(&pool, &groups, &spec([0.75, 0.15, 0.10], seed)).unwrap();
        for group in &groups {
            prop_assert!(group.iter().all(|&row| plan.sides[row] == plan.sides[group[0]]));
        }
        prop_assert_eq!(plan.counts.iter().sum::<usize>(), pool.len());
        for (count, target) in plan.counts.iter().zip(plan.targets) {
            prop_assert!(count.abs_diff(target) <= 2 * groups.len(), "{:?}, {:?}", plan.counts, plan.targets);
        }
        if groups.is_empty() {
            prop_assert_eq!(plan.counts, plan.targets);
        }
    }
}

#[test]
fn duplicates_do_not_gather_in_one_split() {
    let pool = rows(&[0; 1000]);
    let groups: Vec<Vec<usize>> = (0..200).map(|i| vec![2 * i, 2 * i + 1]).collect();
    let plan = SplitPlan::new(&pool, &groups, &spec([0.6, 0.2, 0.2], 1)).unwrap();
    assert_eq!(plan.counts, [600, 200, 200]);
    let in_test = groups.iter().filter(|group| plan.sides[group[0]] == Split::Test).count();
    assert!((20..=60).contains(&in_test), "about 40 of 200 pairs, found {in_test}");
}

#[test]
fn columns_are_united_and_a_split_column_is_replaced() {
    let a = fairface("a.csv", b"file,age,gender,race,service_test\n1.jpg,3-9,F,B,True\n").unwrap();
    let b = fairface("b.csv", b"file,age,gender,race,split,note\n2.jpg,3-9,F,B,test,x\n").unwrap();
    let pool = pool(&[a, b]).unwrap();
    assert_eq!(pool.extra_columns(), ["service_test", "split", "note"]);
    let plan = SplitPlan::new(&pool, &[], &spec([1.0, 0.0, 0.0], 0)).unwrap();
    let header = "file,age,gender,race,service_test,split,note\n";
    let train = format!("{header}1.jpg,3-9,F,B,True,train,\n2.jpg,3-9,F,B,,train,x\n");
    assert_eq!(written(&plan, &pool), [train.as_str(), header, header]);
}

#[test]
fn what_cannot_be_split_is_refused() {
    let csv = b"file,age,gender,race\n1.jpg,3-9,F,B\n";
    let twice = ["a.csv", "b.csv"].map(|name| fairface(name, csv).unwrap());
    let error = pool(&twice).unwrap_err().to_string();
    assert_eq!(error, "b.csv:2: expected each file once, found \"1.jpg\" in a.csv:2 too");
    for text in ["0.5,0.5", "0.5,0.5,0.5", "1.2,-0.1,-0.1", "0,0.5,0.5", "a,b,c", "NaN,0,1"] {
        let error = text.parse::<Ratios>().unwrap_err().to_string();
        assert!(error.starts_with("ratios: expected three"), "{text}: {error}");
    }
}

/// Splits thirty rows into a folder, as long as it may.
fn split_into(dir: &Path, seed: u64, old_files: OldFiles) -> ff_data::Result<()> {
    let pool = rows(&[0; 30]);
    let plan = SplitPlan::new(&pool, &[], &spec([0.6, 0.2, 0.2], seed))?;
    SplitFolder::open(dir, old_files)?.write(&plan, &pool)
}

/// Split CSVs that somebody made or changed were replaced without a word.
#[test]
fn a_split_replaces_only_files_that_a_split_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("new/folder");
    split_into(&dir, 1, OldFiles::Keep).unwrap();
    let first = texts(&dir);
    split_into(&dir, 2, OldFiles::Keep).unwrap();
    assert_ne!(texts(&dir), first, "its own are replaced");

    let val = Split::Val.path(&dir);
    fs_err::write(&val, "file,age,gender,race\nmine.jpg,3-9,F,White\n").unwrap();
    let message = split_into(&dir, 1, OldFiles::Keep).unwrap_err().to_string();
    let expected =
        "ff_val.csv: expected no file, or one that an earlier split wrote and nobody changed, found another";
    assert!(message.ends_with(expected), "{message}");
    assert!(fs_err::read_to_string(&val).unwrap().contains("mine.jpg"));
    split_into(&dir, 1, OldFiles::Replace).unwrap();
    assert_eq!(texts(&dir), first);

    fs_err::remove_file(dir.join("ff_split.json")).unwrap();
    assert!(split_into(&dir, 1, OldFiles::Keep).is_err(), "without a record they are somebody's");
    fs_err::remove_file(&val).unwrap();
    fs_err::create_dir(&val).unwrap();
    assert!(split_into(&dir, 1, OldFiles::Replace).is_err(), "a folder is never replaced");
}

/// A stop between one file and the next left training rows of one split beside test rows of another, unnoticed.
#[test]
fn a_fault_while_a_split_is_written_leaves_the_old_one_or_the_new_or_says_so() {
    let made = |seed| {
        let dir = tempfile::tempdir().unwrap();
        split_into(dir.path(), seed, OldFiles::Keep).unwrap();
        texts(dir.path())
    };
    let (old, new) = (made(1), made(2));
    let points = ["create", "write", "sync", "rename"];
    let (mut faults, mut mixed) = (0, 0);
    // A panic stands for a kill: nothing is put in order after it.
    for (action, point) in ["enospc", "panic"].into_iter().flat_map(|a| points.map(|p| (a, p))) {
        for nth in 1.. {
            let dir = tempfile::tempdir().unwrap();
            split_into(dir.path(), 1, OldFiles::Keep).unwrap();
            let work = || split_into(dir.path(), 2, OldFiles::Keep);
            let rule = format!("{action}@{point}#{nth}");
            let result = during(&rule, || std::panic::catch_unwind(work));
            let found = texts(dir.path());
            match Splits::read(dir.path(), &Schema::fairface()) {
                Ok(_) => assert!(found == old || found == new, "{rule}: a mix passes for a split"),
                Err(error) => {
                    assert!(found != old && found != new, "{rule}: {error}");
                    assert!(error.to_string().contains("a split was stopped while it put them in place"));
                    mixed += 1;
                }
            }
            split_into(dir.path(), 2, OldFiles::Keep).unwrap();
            assert_eq!(texts(dir.path()), new, "{rule}: the next start works");
            if matches!(result, Ok(Ok(()))) {
                break;
            }
            faults += 1;
        }
    }
    assert!(faults > 30 && mixed >= 4, "{faults} faults, {mixed} mixed");
}

/// Equally named columns became one, and the values of the other were gone.
#[test]
fn equally_named_columns_are_refused_before_one_is_lost() {
    let csv = b"file,age,gender,race,note, note\n1.jpg,3-9,F,B,x,y\n";
    let message = fairface("a.csv", csv).unwrap_err().to_string();
    assert_eq!(message, "a.csv: expected one column \"note\", found 2");
}

#[test]
fn a_file_under_two_spellings_of_its_path_is_still_one_file() {
    let csv = ["a//1.jpg", "a/./1.jpg"].map(|file| format!("file,age,gender,race\n{file},3-9,F,B\n"));
    let manifests = csv.map(|csv| fairface("a.csv", csv.as_bytes()).unwrap());
    assert!(pool(&manifests).unwrap_err().to_string().contains("expected each file once"));
}

/// Any column makes strata; rows that do not say are one of their own, in a task's column and in any other.
#[test]
fn strata_are_of_any_columns_and_unknown_is_one_of_them() {
    let schema = Schema::new(vec![Task::new("emotion").with_column("Expression")]).unwrap();
    let values = [("smile", "A"), ("", "A"), (" ", "B"), ("", ""), ("smile", "  ")];
    let rows: String =
        (0..200).map(|i| format!("{i}.jpg,{},{}\n", values[i % 5].0, values[i % 5].1)).collect();
    let csv = format!("file,Expression,camera\n{rows}");
    let pool = Manifest::parse("pool.csv", csv.as_bytes(), &schema).unwrap();
    let plan = |columns: &[&str]| {
        let stratify = columns.iter().map(|&name| name.to_owned()).collect();
        let ratios = Ratios::new([0.5, 0.25, 0.25]).unwrap();
        SplitPlan::new(&pool, &[], &SplitSpec { ratios, seed: 1, stratify })
    };
    for (columns, n_strata) in
        [(&["emotion"][..], 2), (&["Expression"], 2), (&["camera"], 3), (&["camera", "emotion"], 5), (&[], 1)]
    {
        let plan = plan(columns).unwrap();
        assert_eq!((plan.n_strata, plan.counts), (n_strata, [100, 50, 50]), "{columns:?}");
        assert!(plan.largest_deviation < 1e-9, "{columns:?}: {}", plan.largest_deviation);
    }
    let message = plan(&["camera", "skin_tone"]).unwrap_err().to_string();
    assert_eq!(message, "stratify: expected columns among emotion, camera, found \"skin_tone\"");
    let train = plan(&["emotion"]).unwrap().manifest(&pool, Split::Train).unwrap();
    assert!(train.to_csv().starts_with(b"file,Expression,camera,split\n"));
    assert_eq!(train.labels(&schema.tasks()[0].name).flatten().count(), 40, "holes stay holes");
}

#[test]
fn manifests_of_other_tasks_do_not_join() {
    let a = fairface("a.csv", b"file,age,gender,race\n1.jpg,3-9,F,B\n").unwrap();
    let other = Schema::new(vec![Task::new("age")]).unwrap();
    let b = Manifest::parse("b.csv", b"file,age\n2.jpg,3-9\n", &other).unwrap();
    let message = pool(&[a, b]).unwrap_err().to_string();
    assert_eq!(message, "b.csv: expected the tasks of a.csv, found others");
}
