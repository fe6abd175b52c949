//! CSV in, checked rows out, and back.

use ff_core::{Schema, Task, table};
use ff_data::{Error, Manifest, Row, Splits};
use proptest::prelude::*;

use crate::support::{fairface, known, sample, sample_splits};

fn parse(csv: &str) -> Result<Manifest, Error> {
    fairface("faces.csv", csv.as_bytes())
}

/// Anything printable, with what CSV finds hard; never blank.
fn field() -> impl Strategy<Value = String> {
    r#"[a-zA-Z0-9é,"' \r\n;-]{0,12}[a-z0-9"]"#
}

/// The same in one line, and without blanks around it; a third of them are not known.
fn label() -> impl Strategy<Value = Option<String>> {
    prop::option::weighted(0.67, r#"[a-zA-Z0-9é,"';-]([a-zA-Z0-9é,"' ;-]{0,12}[a-z0-9"])?"#)
}

/// One task to twelve, with columns that CSV finds hard.
fn schema() -> impl Strategy<Value = Schema> {
    (1..13_usize).prop_map(|n| {
        let task = |i| Task::new(&format!("task_{i}")).with_column(format!("Column \"{i}\", {n}"));
        Schema::new((0..n).map(task).collect()).unwrap()
    })
}

fn rows() -> impl Strategy<Value = (Schema, Vec<Row>)> {
    schema().prop_flat_map(|schema| {
        let labels = prop::collection::vec(label(), schema.len());
        let fields = (field(), labels, prop::collection::vec(r"[^\x00]{0,5}", 2));
        let row = fields.prop_map(|(file, labels, extra)| Row { file, labels, extra, line: 0 });
        (Just(schema), prop::collection::vec(row, 0..20))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn csv_round_trip((schema, rows) in rows()) {
        let columns = vec!["service_test".to_owned(), "a \"note\", quoted".to_owned()];
        let manifest = Manifest::new("a.csv", &schema, columns.clone(), rows.clone()).unwrap();
        prop_assert_eq!(manifest.extra_columns(), &columns[..]);
        prop_assert_eq!(manifest.len(), rows.len());
        for (ours, theirs) in manifest.rows().iter().zip(&rows) {
            prop_assert_eq!(Row { line: 0, ..ours.clone() }, theirs.clone());
        }
        prop_assert_eq!(Manifest::parse("a.csv", &manifest.to_csv(), &schema).unwrap(), manifest);
    }

    /// Lines are right whatever the line ends and however many blank lines stand between the rows.
    #[test]
    fn lines_are_counted_as_an_editor_counts_them(blank in prop::collection::vec(0..3usize, 1..12), crlf: bool) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut csv = format!("file,age,gender,race{end}");
        let mut expected = vec![];
        for (i, &blank) in blank.iter().enumerate() {
            csv += &end.repeat(blank);
            expected.push(csv.matches('\n').count() as u64 + 1);
            csv += &format!("{i}.jpg,0-2,F,Black{end}");
        }
        let lines: Vec<u64> = parse(&csv).unwrap().rows().iter().map(|row| row.line).collect();
        prop_assert_eq!(lines, expected);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = fairface("any.csv", &bytes);
        let _ = fairface("any.csv", &[b"file,age,gender,race\n", &bytes[..]].concat());
    }

    /// Bytes that mean something to a CSV come in every order: whatever is accepted is written and read the same.
    #[test]
    fn what_is_accepted_survives_a_rewrite(text in r#"[,"\r\na \x00é.]{0,60}"#) {
        let Ok(manifest) = parse(&format!("file,age,gender,race\n{text}")) else { return Ok(()) };
        let again = fairface("faces.csv", &manifest.to_csv()).unwrap();
        let plain = |manifest: &Manifest| -> Vec<Row> {
            manifest.rows().iter().map(|row| Row { line: 0, ..row.clone() }).collect()
        };
        prop_assert_eq!(plain(&again), plain(&manifest));
    }
}

#[test]
fn columns_stand_in_any_order_beside_others() {
    let csv = "Unnamed: 0,race,service_test,file,gender,age\r\n0,Black,True,val/1.jpg,Male,3-9\r\n";
    let bytes = ["\u{feff}", csv].concat();
    let manifest = parse(&bytes).unwrap();
    let labels = known(["3-9", "Male", "Black"]);
    let row = Row { file: "val/1.jpg".to_owned(), labels, extra: vec!["True".to_owned()], line: 2 };
    assert_eq!(manifest.rows(), [row]);
    assert_eq!(manifest.extra_columns(), ["service_test"]);
    assert_eq!(manifest.extra("service_test").unwrap().collect::<Vec<_>>(), ["True"]);
    assert!(manifest.extra("split").is_none());
    let age = &manifest.schema().tasks()[0].name;
    assert_eq!(manifest.labels(age).collect::<Vec<_>>(), [Some("3-9")]);
    let unnamed = csv.replace("Unnamed: 0", "");
    assert_eq!(parse(&unnamed).unwrap().rows(), manifest.rows());
}

#[test]
fn all_missing_columns_are_named_with_those_found() {
    let error = parse("file,Age,gender\na,b,c\n").unwrap_err();
    let expected =
        "faces.csv: missing column age, race: expected file, age, gender, race, found file, Age, gender";
    assert_eq!(error.to_string(), expected);
    let twice = parse("file,age,age,gender,race\n");
    assert!(matches!(twice, Err(Error::Table(table::Error::DuplicateColumn { count: 2, .. }))));
}

#[test]
fn bad_rows_name_file_and_line() {
    let head = "file,age,gender,race\r\na.jpg,0-2,F,Black\r\n";
    for (row, reason) in [
        ("b.jpg,0-2,F", "expected 4 fields, found 3"),
        ("b.jpg,0-2,F,Black,x", "expected 4 fields, found 5"),
        ("b.jpg,0-2,\"F\nM\",Black", "column gender: expected a label in one line, found \"F\\nM\""),
        (",0-2,F,Black", "expected a value in column file, found none"),
        ("\"b.jpg,0-2,F,Black", "expected a closing quote, found the end of the file"),
    ] {
        let error = parse(&format!("{head}{row}\r\n")).unwrap_err().to_string();
        assert_eq!(error, format!("faces.csv:3: {reason}"));
    }
    let error = fairface("faces.csv", &[head.as_bytes(), b"b.jpg,0-2,F,Bl\xffck\n"].concat());
    let message = error.unwrap_err().to_string();
    assert_eq!(message, "faces.csv:3: column race: expected UTF-8 text, found the byte 0xff");
}

#[test]
fn a_missing_file_is_named() {
    let message = Manifest::read("nowhere/ff.csv", &Schema::fairface()).unwrap_err().to_string();
    assert!(message.contains("nowhere/ff.csv"), "{message}");
}

#[test]
fn the_sample_splits_read_and_survive_a_rewrite() {
    let splits = sample_splits();
    assert_eq!([splits.train.len(), splits.val.len(), splits.test.len()], [599, 120, 80]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("copy.csv");
    splits.train.write(&path).unwrap();
    assert_eq!(Manifest::read(&path, &Schema::fairface()).unwrap().rows(), splits.train.rows());
    let entries = fs_err::read_dir(dir.path()).unwrap().count();
    assert_eq!(entries, 1, "a temporary file is left");
}

#[test]
fn a_subset_keeps_its_rows_lines_and_refuses_what_is_no_truth_value() {
    let csv = "file,age,gender,race,service_test,other\n\
               a,3-9,Male,White,True,x\nb,3-9,Male,White,False,x\nc,3-9,Male,White,true,x\n";
    let manifest = parse(csv).unwrap();
    let subset = manifest.subset("service_test").unwrap();
    let kept: Vec<_> = subset.rows().iter().map(|row| (row.file.as_str(), row.line)).collect();
    assert_eq!(kept, [("a", 2), ("c", 4)]);
    let message = |csv: &str, column| parse(csv).unwrap().subset(column).unwrap_err().to_string();
    let found = message(csv, "service");
    assert!(found.ends_with("expected such a column, found [service_test, other]"), "{found}");
    let found = message(csv, "other");
    assert!(found.contains(":2: column other: expected True or False, found \"x\""), "{found}");
    let found = message("file,age,gender,race,t\na,3-9,Male,White,0\n", "t");
    assert!(found.ends_with("expected a row that is True, found none"), "{found}");
}

#[test]
fn a_missing_split_says_what_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    fs_err::copy(sample().join("splits/ff_train.csv"), dir.path().join("ff_train.csv")).unwrap();
    let message = Splits::read(dir.path(), &Schema::fairface()).unwrap_err().to_string();
    assert!(message.contains("ff_val.csv: split file not found"), "{message}");
    assert!(message.ends_with("found ff_train.csv"), "{message}");
}

/// 97,698 rows, FairFace's full size: an instant, or minutes where the work grows with the square of the rows. How long
/// is no assertion, as it says more about what else runs.
#[test]
fn full_size_files_load() {
    let mut csv = "file,age,gender,race,service_test\n".to_owned();
    for i in 0..97_698 {
        csv += &format!("train/{i}.jpg,more than 70,Female,Southeast Asian,False\n");
    }
    let manifest = parse(&csv).unwrap();
    assert_eq!(manifest.len(), 97_698);
    assert_eq!(manifest.rows()[97_697].line, 97_699);
}

/// A schema of one's own: a column called otherwise, cells left empty, columns beside.
#[test]
fn any_column_can_be_a_task_and_any_cell_be_empty() {
    let tasks = vec![Task::new("emotion").with_column("Expression (FER)"), Task::new("glasses")];
    let schema = Schema::new(tasks).unwrap();
    let csv = "glasses,file,Expression (FER),age\n yes ,a.jpg,,30\n,b.jpg,\" \", 40 \n,c.jpg,smile,\n";
    let manifest = Manifest::parse("faces.csv", csv.as_bytes(), &schema).unwrap();
    let [emotion, glasses] = [0, 1].map(|i| manifest.labels(&schema.tasks()[i].name).collect::<Vec<_>>());
    assert_eq!(emotion, [None, None, Some("smile")]);
    assert_eq!(glasses, [Some("yes"), None, None]);
    let column = |name| manifest.column(name).map(Iterator::collect::<Vec<_>>);
    assert_eq!(column("emotion").unwrap(), ["", "", "smile"]);
    assert_eq!(column("Expression (FER)"), column("emotion"));
    assert_eq!(column("age").unwrap(), ["30", "40", ""]);
    assert!(column("race").is_none() && column("file").is_none());
    assert_eq!(manifest.column_names(), ["emotion", "glasses", "age"]);
    assert_eq!(
        String::from_utf8(manifest.to_csv()).unwrap(),
        "file,Expression (FER),glasses,age\na.jpg,,yes,30\nb.jpg,,, 40 \nc.jpg,smile,,\n"
    );
    let message = Manifest::parse("faces.csv", b"file,glasses,emotion\n", &schema).unwrap_err().to_string();
    assert_eq!(
        message,
        "faces.csv: missing column Expression (FER): expected file, Expression (FER), glasses, found file, glasses, emotion"
    );
}
