//! Bad CSVs, each with what is said about it, word for word.

use std::path::Path;

use ff_core::{Order, Schema, Task};
use ff_data::{FilePaths, ImageInput, Manifest, Split, Splits};

use crate::support::fairface;

const HEADER: &str = "file,age,gender,race\n";
const ROW: &str = "a.jpg,0-2,F,Black\n";

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

/// What is said of a CSV: its error, or how many rows it has.
fn said(bytes: &[u8]) -> String {
    match fairface("faces.csv", bytes) {
        Ok(manifest) => format!("{} rows", manifest.len()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_bad_table_has_its_message() {
    let table = format!("{HEADER}{ROW}");
    let with = |row: &str| format!("{table}{row}").into_bytes();
    let columns = |n: usize| (0..n).map(|i| format!("c{i}")).collect::<Vec<_>>().join(",");
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "faces.csv: expected a header and rows, found an empty file"),
        (
            "blank lines",
            b"\r\n\n\n\r\n".into(),
            "faces.csv: expected a header and rows, found blank lines only",
        ),
        (
            "a byte order mark alone",
            b"\xef\xbb\xbf".into(),
            "faces.csv: expected a header and rows, found blank lines only",
        ),
        ("header only", HEADER.into(), "0 rows"),
        (
            "no header",
            ROW.into(),
            "faces.csv: missing column file, age, gender, race: expected file, age, gender, race, found a.jpg, 0-2, F, Black",
        ),
        (
            "missing columns",
            "file,gender\na.jpg,F\n".into(),
            "faces.csv: missing column age, race: expected file, age, gender, race, found file, gender",
        ),
        (
            "UTF-16",
            utf16(&table, u16::to_le_bytes),
            "faces.csv: expected UTF-8 text, found UTF-16 (little-endian)",
        ),
        (
            "UTF-16 BE",
            utf16(&table, u16::to_be_bytes),
            "faces.csv: expected UTF-8 text, found UTF-16 (big-endian)",
        ),
        (
            "UTF-16 with its mark",
            utf16(&format!("\u{feff}{table}"), u16::to_le_bytes),
            "faces.csv: expected UTF-8 text, found UTF-16 (little-endian)",
        ),
        (
            "UTF-16 BE with its mark",
            utf16(&format!("\u{feff}{table}"), u16::to_be_bytes),
            "faces.csv: expected UTF-8 text, found UTF-16 (big-endian)",
        ),
        ("NUL", with("b\0.jpg,0-2,F,Black\n"), "faces.csv:3: column file: expected text, found a NUL byte"),
        (
            "NUL in the header",
            b"file,a\0ge,gender,race\n".into(),
            "faces.csv:1: field 2: expected text, found a NUL byte",
        ),
        (
            "Latin-1",
            [table.as_bytes(), b"b.jpg,0-2,F,M\xe9tis\n"].concat(),
            "faces.csv:3: column race: expected UTF-8 text, found the byte 0xe9",
        ),
        (
            "a huge field",
            with(&format!("{}.jpg,0-2,F,Black\n", "b".repeat(70_000))),
            "faces.csv:3: column file: expected at most 65536 bytes, found 70004",
        ),
        (
            "a huge row",
            with(&format!("{}.jpg,0-2,F,Black\n", "b".repeat(2_000_000))),
            "faces.csv:3: expected a row of at most 1048576 bytes, found a longer one; a quote may not be closed",
        ),
        (
            "a million columns",
            columns(1_000_000).into(),
            "faces.csv:1: expected at most 1024 columns, found more",
        ),
        (
            "one column too many",
            format!("{HEADER}{}\n", columns(1025)).into(),
            "faces.csv:2: expected at most 1024 columns, found more",
        ),
        ("too few fields", with("b.jpg,0-2,F\n"), "faces.csv:3: expected 4 fields, found 3"),
        ("too many fields", with("b.jpg,0-2,F,Black,\n"), "faces.csv:3: expected 4 fields, found 5"),
        (
            "another separator",
            "file;age;gender;race\n".into(),
            "faces.csv: missing column file, age, gender, race: expected file, age, gender, race, found file;age;gender;race",
        ),
        ("no file", with(",0-2,F,Black\n"), "faces.csv:3: expected a value in column file, found none"),
        ("a label that is not known", with("b.jpg, ,F,\n"), "2 rows"),
        ("no label that is known", with("b.jpg,,\t,\"\"\n"), "2 rows"),
        (
            "an open quote",
            with("b.jpg,0-2,F,\"Black\nc.jpg,0-2,F,Black\n"),
            "faces.csv:3: expected a closing quote, found the end of the file",
        ),
        (
            "an open quote that another closes",
            with("b.jpg,0-2,F,\"Black\nc.jpg,0-2,F,\"Black\n"),
            "faces.csv:3: column race: expected a label in one line, found \"Black\\nc.jpg,0-2,F,Black\"",
        ),
        (
            "a column twice",
            "file,age,gender,race,age\n".into(),
            "faces.csv: expected one column \"age\", found 2",
        ),
        (
            "a column twice, once with blanks",
            "file,age,gender,race,x, x\n".into(),
            "faces.csv: expected one column \"x\", found 2",
        ),
        ("CRLF", table.replace('\n', "\r\n").into(), "1 rows"),
        ("a byte order mark", format!("\u{feff}{table}").into(), "1 rows"),
        ("blank lines between", format!("\n{HEADER}\n\n{ROW}\n").into(), "1 rows"),
        ("no line end at the end", format!("{HEADER}{}", ROW.trim_end()).into(), "1 rows"),
        // `audit` finds it, with labels that disagree; `split` refuses it; training takes both rows.
        ("a file twice, with other labels", with("a.jpg,3-9,M,White\n"), "2 rows"),
    ];
    let mut wrong = String::new();
    for (name, bytes, expected) in cases {
        let found = said(&bytes);
        if found != expected {
            wrong += &format!("{name}:\n  expected {expected}\n  found    {found}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A split CSV from elsewhere could name any file of the machine.
#[test]
fn files_outside_the_images_folder_are_refused_unless_they_are_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("faces.csv");
    let read = |file: &str, files| {
        fs_err::write(&csv, format!("{HEADER}{ROW}{file},0-2,F,Black\n")).unwrap();
        Manifest::read_with(&csv, &Schema::fairface(), files).map_err(|error| error.to_string())
    };
    for outside in ["../a.jpg", "a/../../b.jpg", "/etc/passwd", "./../a.jpg", "a/b/../../../c/d.jpg", ".."] {
        let expected = format!(
            "{}:3: expected a file inside the images folder, found {outside:?} (data.outside_root = true allows it)",
            csv.display()
        );
        assert_eq!(read(outside, FilePaths::InsideRoot).unwrap_err(), expected);
        assert_eq!(read(outside, FilePaths::Anywhere).unwrap().len(), 2);
    }
    for inside in ["a/../b.jpg", "./a.jpg", "a/b/../../c.jpg", "..a/b.jpg", "a..jpg", "..."] {
        assert!(read(inside, FilePaths::InsideRoot).is_ok(), "{inside}");
    }
}

fn splits(dir: &Path, [train, val, test]: [&str; 3]) -> ff_data::Result<Splits> {
    for (split, rows) in Split::ALL.into_iter().zip([train, val, test]) {
        fs_err::write(split.path(dir), format!("{HEADER}{rows}")).unwrap();
    }
    Splits::read(dir, &Schema::fairface())
}

/// A label of the test split alone was found when it came to testing, after all the training.
#[test]
fn a_label_that_only_validation_or_test_has_is_found_before_training() {
    let dir = tempfile::tempdir().unwrap();
    let odd = "b.jpg,0-2,F,White\n";
    for (rows, csv) in [([ROW, odd, ROW], "ff_val.csv"), ([ROW, ROW, odd], "ff_test.csv")] {
        let message = splits(dir.path(), rows).unwrap().check_labels().unwrap_err().to_string();
        let expected = "2: race label \"White\" is not in the training split: expected one of Black";
        assert!(message.ends_with(&format!("{csv}:{expected}")), "{message}");
    }
    splits(dir.path(), [ROW, "", ROW]).unwrap().check_labels().unwrap();
    assert!(
        splits(dir.path(), ["", ROW, ROW])
            .unwrap_err()
            .to_string()
            .ends_with("expected at least one row, found none")
    );
}

/// Every split needs a label that is known of every task: without one nothing is learnt, or measured.
#[test]
fn a_column_of_empty_cells_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let holes = "a.jpg,,F, \nb.jpg,,,Black\n";
    for (i, csv) in ["ff_train.csv", "ff_val.csv", "ff_test.csv"].into_iter().enumerate() {
        let mut rows = [ROW; 3];
        rows[i] = holes;
        let message = splits(dir.path(), rows).unwrap_err().to_string();
        assert!(
            message.ends_with(&format!("{csv}: expected a label in column age, found empty cells only")),
            "{message}"
        );
    }
    let enough = "a.jpg,,F,\nb.jpg,0-2,,\nc.jpg,,,\nd.jpg,,,Black\n";
    splits(dir.path(), [enough, ROW, ""]).unwrap().check_labels().unwrap();
}

/// Ten thousand classes made lines of 200 MB in the records of a run.
#[test]
fn a_column_of_names_is_no_column_of_labels() {
    let dir = tempfile::tempdir().unwrap();
    let rows: String = (0..1025).map(|i| format!("{i}.jpg,{i},F,Black\n")).collect();
    let message = splits(dir.path(), [&rows, ROW, ROW]).unwrap_err().to_string();
    assert!(
        message.ends_with("ff_train.csv: expected at most 1024 labels in column age, found 1025"),
        "{message}"
    );
    let odd = splits(dir.path(), [ROW, &rows, ROW]).unwrap().check_labels().unwrap_err().to_string();
    assert!(odd.len() < 400, "{odd}");
}

/// Lists of images are read by the same parser, and their columns say where a face is.
#[test]
fn every_bad_list_of_images_has_its_message() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("list.csv");
    for (text, expected) in [
        ("", ": expected a header and rows, found an empty file"),
        (
            "photo\na.jpg\n",
            ": expected a column of paths named one of file, img_path, path, image, filename, face_name_align, found photo",
        ),
        // Both predicted whole photos, without a word.
        (
            "file,x,y,width,height\na.jpg,1,2,3,4\n",
            ": expected all of the columns x, y, w, h or none, found x, y without w, h",
        ),
        ("file,x,y,w,h,w\na.jpg,1,2,3,4,5\n", ": expected one column \"w\", found 2"),
        ("file,x\na.jpg,1\n", ": expected all of the columns x, y, w, h or none, found x without y, w, h"),
        ("file,file\na.jpg,b.jpg\n", ": expected one column \"file\", found 2"),
        ("file,x,y,w,h\na.jpg,1,2,3\n", ":2: expected 5 fields, found 4"),
        ("file,x,y,w,h\na.jpg,1,2,3,\n", ":2: expected x,y,w,h in pixels, found \"1,2,3,\""),
        ("file\n\"a.jpg\n", ":2: expected a closing quote, found the end of the file"),
        ("file\n\0\n", ":2: column file: expected text, found a NUL byte"),
    ] {
        fs_err::write(&csv, text).unwrap();
        let message =
            ImageInput::expand(&csv.to_string_lossy(), Path::new(""), &mut std::io::empty()).unwrap_err();
        assert_eq!(message.to_string(), format!("{}{expected}", csv.display()), "{text:?}");
    }
}

/// Messages were printed twice: an error had its cause in its words, and was its own cause besides.
#[test]
fn no_error_says_its_cause_twice() {
    let missing = Manifest::read("nowhere/ff.csv", &Schema::fairface()).unwrap_err();
    let row = fairface("faces.csv", b"file,age,gender,race\n,1-2,F,B\n").unwrap_err();
    let order = Task::new("age").with_order(Order::Ordered);
    let manifest =
        Manifest::parse("a.csv", b"file,age\na,old\n", &Schema::new(vec![order]).unwrap()).unwrap();
    for error in [missing, row, manifest.fit_encoders().unwrap_err()] {
        let message = error.to_string();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert!(cause.is_none_or(|cause| !message.contains(&cause)), "{message}");
    }
}
