//! Labels <-> ids, by way of a split's rows.

use std::collections::BTreeSet;

use ff_core::{Encoders, Order, PerTask, Schema, Task, UNKNOWN};
use ff_data::{Dataset, Manifest, Mode};
use proptest::prelude::*;

use crate::support::{Fixture, fairface, sample_splits};

/// A manifest of some tasks with columns of their own; every row's image is `a.jpg`.
fn manifest(tasks: Vec<Task>, labels: &[Vec<Option<String>>]) -> Manifest {
    let row = |labels: &Vec<Option<String>>| ff_data::Row {
        file: "a.jpg".to_owned(),
        labels: labels.clone(),
        extra: Vec::new(),
        line: 0,
    };
    Manifest::new("faces.csv", &Schema::new(tasks).unwrap(), Vec::new(), labels.iter().map(row).collect())
        .unwrap()
}

/// What a data set makes of the labels.
fn targets(manifest: Manifest, encoders: &Encoders) -> PerTask<Vec<u32>> {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("a.jpg"), Fixture::images().bytes("rgb.jpg")).unwrap();
    Dataset::open(manifest, dir.path(), encoders, Mode::Eval).unwrap().targets().clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// One task to twelve: an id is its label's place among the sorted ones, and what is not known has none.
    #[test]
    fn labels_and_ids_name_each_other(
        rows in (1..13_usize).prop_flat_map(|n| {
            let row = prop::collection::vec(prop::option::of("[a-zé]{1,3}"), n);
            let whole = prop::collection::vec("[a-zé]{1,3}".prop_map(Some), n);
            (prop::collection::vec(row, 0..30), whole).prop_map(|(mut rows, whole)| { rows.push(whole); rows })
        }),
    ) {
        let tasks: Vec<Task> = (0..rows[0].len()).map(|i| Task::new(&format!("task_{i}"))).collect();
        let manifest = manifest(tasks, &rows);
        let encoders = manifest.fit_encoders().unwrap();
        let targets = targets(manifest, &encoders);
        prop_assert!(targets.same_tasks(&encoders));
        for (i, (task, encoder)) in encoders.iter().enumerate() {
            let sorted: BTreeSet<&String> = rows.iter().filter_map(|row| row[i].as_ref()).collect();
            prop_assert!(sorted.into_iter().eq(encoder.labels()));
            for (row, &id) in rows.iter().zip(&targets[task]) {
                prop_assert_eq!(encoder.decode(id), row[i].as_deref());
                prop_assert_eq!(id == UNKNOWN, row[i].is_none());
            }
        }
    }
}

#[test]
fn the_sample_has_fairfaces_classes() {
    let encoders = sample_splits().encoders;
    assert_eq!(
        encoders.n_classes().iter().map(|(task, n)| (task.as_str(), *n)).collect::<Vec<_>>(),
        [("age", 9), ("gender", 2), ("race", 7)]
    );
    let ages = ["0-2", "10-19", "20-29", "3-9", "30-39", "40-49", "50-59", "60-69", "more than 70"];
    assert_eq!(encoders["age"].labels(), ages);
    assert_eq!(encoders["age"].ranks(), Some(&[0, 2, 3, 1, 4, 5, 6, 7, 8][..]));
}

#[test]
fn another_face_set_has_its_own_class_count() {
    let csv = "file,age,gender,race\na,0+,F,v\nb,0+,F,w\nc,0+,F,x\nd,0+,F,y\ne,0+,F,z\n";
    let encoders = fairface("five.csv", csv.as_bytes()).unwrap().fit_encoders().unwrap();
    assert_eq!(encoders.n_classes().into_values().collect::<Vec<_>>(), [1, 1, 5]);
}

/// Ids are those of the sorted labels whatever the order is.
#[test]
fn an_ordered_task_has_the_ranks_of_its_list() {
    let sizes = ["S", "M", "L", "XL"];
    let order = Order::List(sizes.map(str::to_owned).into());
    let task = Task::new("hat").with_order(order);
    let rows = ["XL", "M", "S"].map(|size| vec![Some(size.to_owned())]);
    let known = manifest(vec![task.clone()], &rows);
    let encoders = known.fit_encoders().unwrap();
    assert_eq!(encoders["hat"].labels(), ["M", "S", "XL"]);
    assert_eq!(encoders["hat"].ranks(), Some(&[1, 0, 2][..]));
    assert_eq!(targets(known, &encoders)["hat"], [2, 0, 1]);

    let unlisted = manifest(vec![task], &[vec![Some("XXL".to_owned())]]);
    assert_eq!(
        unlisted.fit_encoders().unwrap_err().to_string(),
        "faces.csv: hat encoder: expected labels that its order lists: S, M, L, XL, found \"XXL\""
    );
}
