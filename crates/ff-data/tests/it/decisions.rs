//! Decisions about faces: what they do to rows, and what is refused.

use std::path::Path;

use ff_core::{Order, Schema, Task, TaskName, files::sha256};
use ff_data::{Decided, Decision, Decisions, FilePaths, ImageRules, Manifest, Split, Splits, audit::Audit};
use proptest::prelude::*;

use crate::support::{fairface, sample, sample_splits};

const HEADER: &str = "file,decision,task,label\n";
const FACES: &[u8] = b"file,age,gender,race\na.jpg,3-9,F,Black\nb.jpg,20-29,M,White\na/b.jpg,3-9,M,Indian\n";

fn decisions(text: &str) -> ff_data::Result<Decisions> {
    Decisions::parse("decisions.csv", text.as_bytes(), &Schema::fairface())
}

fn race(label: &str) -> Decision {
    Decision::Relabel { task: Task::new("race").name, label: label.to_owned() }
}

/// What is said of decisions about three faces: an error, or what they did.
fn said(text: &str) -> String {
    let mut faces = fairface("faces.csv", FACES).unwrap();
    match decisions(text).and_then(|decisions| decisions.apply(&mut [&mut faces])) {
        Ok(Decided { dropped, relabelled }) => format!("{dropped} dropped, {relabelled} relabelled"),
        Err(error) => {
            assert_eq!(faces, fairface("faces.csv", FACES).unwrap(), "nothing is changed");
            error.to_string()
        }
    }
}

#[test]
fn every_bad_decision_has_its_message_and_changes_nothing() {
    let rows: &[(&str, &str)] = &[
        // Those that are fine.
        ("", "0 dropped, 0 relabelled"),
        ("a.jpg,keep,,\nb.jpg,keep,race,\nb.jpg,keep,,\n", "0 dropped, 0 relabelled"),
        ("a.jpg,drop,,\nb.jpg, relabel , race ,\tBlack\nb.jpg,relabel,age,3-9\n", "1 dropped, 1 relabelled"),
        ("b.jpg,relabel,race,White\n", "0 dropped, 0 relabelled"),
        ("a//b.jpg,drop,,\n", "1 dropped, 0 relabelled"),
        // Rows by themselves.
        ("a.jpg,drop,\n", "decisions.csv:2: expected 4 fields, found 3"),
        (",drop,,\n", "decisions.csv:2: expected a value in column file, found none"),
        ("a.jpg,,,\n", "decisions.csv:2: column decision: expected keep, drop or relabel, found \"\""),
        (
            "a.jpg,Drop,,\n",
            "decisions.csv:2: column decision: expected keep, drop or relabel, found \"Drop\"",
        ),
        ("a.jpg,drop,race,\n", "decisions.csv:2: column task: expected none with drop, found \"race\""),
        ("a.jpg,drop,,Black\n", "decisions.csv:2: column label: expected none with drop, found \"Black\""),
        (
            "a.jpg,keep,race,Black\n",
            "decisions.csv:2: column label: expected none with keep, found \"Black\"",
        ),
        ("a.jpg,relabel,,Black\n", "decisions.csv:2: column task: expected one with relabel, found none"),
        ("a.jpg,relabel,race,\n", "decisions.csv:2: column label: expected one with relabel, found none"),
        (
            "a.jpg,keep,,\n\nb.jpg,keep,colour,\n",
            "decisions.csv:4: column task: expected a task: age, gender or race, found \"colour\"",
        ),
        // Rows that exclude each other.
        (
            "a.jpg,relabel,race,White\na.jpg,relabel,race,Indian\n",
            "decisions.csv:3: expected one decision about \"a.jpg\", found relabel beside relabel in line 2",
        ),
        (
            "a.jpg,keep,race,\nb.jpg,drop,,\na.jpg,drop,,\n",
            "decisions.csv:4: expected one decision about \"a.jpg\", found drop beside keep in line 2",
        ),
        (
            "b.jpg,drop,,\nb.jpg,relabel,age,3-9\n",
            "decisions.csv:3: expected one decision about \"b.jpg\", found relabel beside drop in line 2",
        ),
        // Rows beside the data.
        ("c.jpg,keep,,\n", "decisions.csv:2: expected a file of faces.csv, found \"c.jpg\""),
        (
            "a.jpg,drop,,\nb.jpg,relabel,race,Blakc\n",
            "decisions.csv:3: expected a label of race: Black, Indian or White, found \"Blakc\": did you mean \"Black\"?",
        ),
        ("b.jpg,relabel,age,70+\n", "decisions.csv:2: expected a label of age: 20-29 or 3-9, found \"70+\""),
    ];
    let found = rows.iter().map(|(text, expected)| (text, expected, said(&format!("{HEADER}{text}"))));
    let wrong: Vec<String> = found
        .filter(|(_, expected, found)| *expected != found)
        .map(|(text, expected, found)| format!("{text:?}\n  expected {expected}\n  found    {found}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn columns_are_those_four_and_two_are_enough() {
    assert_eq!(said("decision,file\ndrop,a.jpg\nkeep,b.jpg\n"), "1 dropped, 0 relabelled");
    assert_eq!(
        said("file,decision\na.jpg,relabel\n"),
        "decisions.csv:2: column task: expected one with relabel, found none"
    );
    assert_eq!(
        said("file,task\n"),
        "decisions.csv: missing column decision: expected file, decision, task, label, found file, task"
    );
    assert_eq!(
        said("file,decision,task,label,note\n"),
        "decisions.csv: expected the columns file, decision, task, label, found \"note\" too"
    );
    assert_eq!(said(""), "decisions.csv: expected a header and rows, found an empty file");
}

/// A class that an order lists is one, even where no row has it.
#[test]
fn labels_are_those_of_rows_and_of_lists() {
    let order = Order::List(["S", "M", "L"].map(str::to_owned).into());
    let schema = Schema::new(vec![Task::new("hat").with_order(order)]).unwrap();
    let mut hats = Manifest::parse("hats.csv", b"file,hat\na.jpg,S\nb.jpg,\n", &schema).unwrap();
    let text = format!("{HEADER}a.jpg,relabel,hat,M\nb.jpg,relabel,hat,S\n");
    let decisions = Decisions::parse("d.csv", text.as_bytes(), &schema).unwrap();
    assert_eq!(decisions.sha256(), sha256(text.as_bytes()));
    decisions.apply(&mut [&mut hats]).unwrap();
    assert_eq!(hats.to_csv(), b"file,hat\na.jpg,M\nb.jpg,S\n");
    let mut faces = fairface("faces.csv", FACES).unwrap();
    let message = decisions.apply(&mut [&mut faces]).unwrap_err().to_string();
    assert_eq!(message, "faces.csv: expected the tasks of d.csv, found others");
}

/// A stray label stops a split whose order is listed; a decision puts it right before the encoders see it.
#[test]
fn splits_are_read_under_decisions() {
    let dir = tempfile::tempdir().unwrap();
    let order = Order::List(["S", "M"].map(str::to_owned).into());
    let schema = Schema::new(vec![Task::new("hat").with_order(order)]).unwrap();
    let rows = ["a.jpg,S\nb.jpg,Mm\nc.jpg,M\n", "d.jpg,S\ne.jpg,M\n", "f.jpg,M\n"];
    for (split, rows) in Split::ALL.into_iter().zip(rows) {
        fs_err::write(split.path(dir.path()), format!("file,hat\n{rows}")).unwrap();
    }
    assert!(Splits::read(dir.path(), &schema).unwrap_err().to_string().contains("found \"Mm\""));
    let path = dir.path().join("decisions.csv");
    fs_err::write(&path, format!("{HEADER}b.jpg,relabel,hat,M\nd.jpg,drop,,\nf.jpg,keep,,\n")).unwrap();
    let decisions = Decisions::read(&path, &schema).unwrap();
    let (splits, decided) =
        Splits::read_decided(dir.path(), &schema, FilePaths::InsideRoot, &decisions).unwrap();
    assert_eq!(decided, Decided { dropped: 1, relabelled: 1 });
    assert_eq!(splits.encoders["hat"].labels(), ["M", "S"]);
    let lines = |split| splits.get(split).rows().iter().map(|row| row.line).collect::<Vec<_>>();
    assert_eq!((lines(Split::Train), lines(Split::Val)), (vec![2, 3, 4], vec![3]), "errors find the rows");
}

/// The way from an audit to data that pass it.
#[test]
fn an_audit_leaves_out_what_is_kept() {
    let splits = sample_splits();
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c] = [0, 1, 2].map(|i| &splits.train.rows()[i]);
    let csv = |rows: &[(&str, &ff_data::Row)]| {
        let row = |(file, row): &(&str, &ff_data::Row)| {
            let labels: Vec<&str> = row.labels.iter().flatten().map(String::as_str).collect();
            format!("{file},{}\n", labels.join(","))
        };
        "file,age,gender,race\n".to_owned() + &rows.iter().map(row).collect::<String>()
    };
    for (name, row) in [("a.jpg", a), ("copy.jpg", a), ("again.jpg", a), ("b.jpg", b), ("c.jpg", c)] {
        fs_err::copy(sample().join("images").join(&row.file), dir.path().join(name)).unwrap();
    }
    let train = csv(&[("a.jpg", a), ("b.jpg", b), ("c.jpg", c)]);
    let others = [csv(&[("copy.jpg", a)]), csv(&[("again.jpg", a)])];
    for (split, text) in Split::ALL.into_iter().zip([&train, &others[0], &others[1]]) {
        fs_err::write(split.path(dir.path()), text).unwrap();
    }
    let audit = |text: &str| {
        let decisions = decisions(&format!("{HEADER}{text}")).unwrap();
        let read = Splits::read_decided(dir.path(), &Schema::fairface(), FilePaths::InsideRoot, &decisions);
        let mut audit =
            Audit::new(&read.unwrap().0, dir.path(), &ImageRules::default(), 2, None, |_, _| {}).unwrap();
        audit.leave_out_kept(&decisions);
        (audit.cross_split.len(), audit.exact_duplicates)
    };
    assert_eq!(audit(""), (1, 2));
    assert_eq!(audit("a.jpg,keep,,\ncopy.jpg,keep,,\n"), (1, 2), "the third was not looked at");
    assert_eq!(audit("a.jpg,keep,,\ncopy.jpg,keep,race,\nagain.jpg,keep,,\n"), (0, 0));
    assert_eq!(audit("a.jpg,keep,,\ncopy.jpg,keep,,\nb.jpg,drop,,\nagain.jpg,relabel,gender,Male\n").0, 1);
    assert_eq!(audit("a.jpg,drop,,\n"), (1, 1), "what is left is still across splits");
}

fn any_decision() -> impl Strategy<Value = Decision> {
    let task = prop::sample::select(vec!["age", "gender", "race"]).prop_map(|name| Task::new(name).name);
    prop_oneof![
        Just(Decision::Drop),
        prop::option::of(task.clone()).prop_map(Decision::Keep),
        (task, prop::sample::select(vec!["x", "a, b", "\"quoted\"", "ünì"]))
            .prop_map(|(task, label)| Decision::Relabel { task, label: label.to_owned() }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any order of clicks makes a file that is read back as it was meant, the last word of each counts, and taking all
    /// back leaves nothing.
    #[test]
    fn decisions_are_set_written_and_read_again(
        clicks in prop::collection::vec((prop::sample::select(vec!["a.jpg", "b, c.jpg", "d \"e\".jpg"]), any_decision()), 0..24),
    ) {
        let mut decisions = decisions(HEADER).unwrap();
        for (file, decision) in &clicks {
            decisions.set(file, decision.clone());
            prop_assert_eq!(decisions.about(file, decision.task()), Some(decision));
        }
        let again = Decisions::parse("decisions.csv", decisions.to_csv().as_bytes(), &Schema::fairface()).unwrap();
        prop_assert_eq!(&again, &decisions, "same rows, lines and hash");
        let mut all = again.clone();
        for row in again.rows() {
            all.take_back(&row.file, row.decision.task());
        }
        prop_assert_eq!(all.to_csv(), HEADER);
    }

    /// Beside the plain meaning of the words, row by row.
    #[test]
    fn rows_become_what_the_words_say(
        words in prop::collection::vec(prop::sample::select(vec!["", "keep", "drop", "relabel"]), 1..40),
    ) {
        let rows: String = (0..words.len()).map(|i| format!("{i}.jpg,3-9,F,{}\n", ["Black", "White"][i % 2])).collect();
        let csv = format!("file,age,gender,race\n{rows}last.jpg,3-9,F,Black\nlast too.jpg,3-9,F,White\n");
        let mut faces = fairface("faces.csv", csv.as_bytes()).unwrap();
        let mut decided = decisions(HEADER).unwrap();
        for (i, word) in words.iter().enumerate() {
            let task = Some(Task::new("gender").name).filter(|_| i % 3 == 0);
            match *word {
                "keep" => decided.set(&format!("{i}.jpg"), Decision::Keep(task)),
                "drop" => decided.set(&format!("{i}.jpg"), Decision::Drop),
                "relabel" => decided.set(&format!("{i}.jpg"), race("White")),
                _ => {}
            }
        }
        let counts = decided.apply(&mut [&mut faces]).unwrap();
        let left = |i: &usize| words[*i] != "drop";
        let expected: Vec<(String, &str)> = (0..words.len()).filter(left).map(|i| {
            (format!("{i}.jpg"), if words[i] == "relabel" || i % 2 == 1 { "White" } else { "Black" })
        }).collect();
        let race = TaskName::new("race").unwrap();
        let found: Vec<(String, &str)> =
            faces.rows().iter().map(|row| row.file.clone()).zip(faces.labels(&race).flatten()).collect();
        prop_assert_eq!(&found[..found.len() - 2], &expected[..]);
        prop_assert_eq!(counts.dropped, words.iter().filter(|word| **word == "drop").count());
        prop_assert_eq!(counts.relabelled, (0..words.len()).filter(|&i| words[i] == "relabel" && i % 2 == 0).count());
    }
}

#[test]
fn a_file_is_written_whole_and_known_by_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.csv");
    fs_err::write(&path, HEADER).unwrap();
    let mut decisions = Decisions::read(&path, &Schema::fairface()).unwrap();
    decisions.set("a.jpg", race("Black"));
    decisions.write().unwrap();
    assert_eq!(fs_err::read_to_string(&path).unwrap(), format!("{HEADER}a.jpg,relabel,race,Black\n"));
    assert_eq!(decisions.sha256(), ff_core::files::sha256_of_file(&path).unwrap());
    assert_eq!(decisions.path(), Path::new(&path));
}
