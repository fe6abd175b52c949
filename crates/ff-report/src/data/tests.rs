//! Pages of small folders in which something was planted.

use std::path::{Path, PathBuf};

use ff_data::{ImageRules, Split, Splits};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use super::*;

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample")
}

fn face(i: usize) -> Vec<u8> {
    let splits = Splits::read(sample().join("splits"), &ff_core::Schema::fairface()).unwrap();
    fs_err::read(sample().join("images").join(&splits.train.rows()[i].file)).unwrap()
}

/// The page of a folder with these images and the rows of train, val and test.
fn page(images: &[(&str, Vec<u8>)], rows: [String; 3]) -> String {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in images {
        fs_err::write(dir.path().join(name), bytes).unwrap();
    }
    for (split, rows) in Split::ALL.into_iter().zip(rows) {
        fs_err::write(split.path(dir.path()), format!("file,age,gender,race\n{rows}")).unwrap();
    }
    let splits = Splits::read(dir.path(), &ff_core::Schema::fairface()).unwrap();
    let audit = Audit::new(&splits, dir.path(), &ImageRules::default(), 2, None, |_, _| {}).unwrap();
    DataAuditPage::new(&audit, dir.path()).html()
}

#[test]
fn the_page_needs_no_other_file_and_shows_the_findings() {
    let small = ff_data::thumbnail(&sample().join("images/val/1113.jpg"), 40).unwrap();
    let mut tiny = Vec::new();
    JpegEncoder::new(&mut tiny)
        .encode(&small.pixels, small.width as u32, small.height as u32, ExtendedColorType::Rgb8)
        .unwrap();
    let images = [
        ("a.jpg", face(0)),
        ("copy.jpg", face(0)),
        ("b & <b>.jpg", face(1)),
        ("b.jpg", face(1)),
        ("tiny.jpg", tiny),
    ];
    let page = page(
        &images,
        [
            "a.jpg,3-9,F,White\nb.jpg,20-29,F,<i>\nb & <b>.jpg,20-29,F,<i>\ntiny.jpg,3-9,f,White\n"
                .to_owned(),
            "missing.jpg,3-9,F,White\n".to_owned(),
            "copy.jpg,10-19,F,White\n".to_owned(),
        ],
    );
    for needle in [
        "<!DOCTYPE html>",
        "Content-Security-Policy",
        "<title>Data audit</title>",
        "prefers-color-scheme: dark",
        "<b>6</b><span>images</span>",
        "<div class=\"tile alert\"><b>1</b><span>unreadable</span>",
        "<div class=\"tile\"><b>2</b><span>exact copies</span>",
        "found again in another: figures",
        "data:image/jpeg;base64,/9j/",
        "<b>test</b> copy.jpg",
        "b &amp; &lt;b&gt;.jpg",
        "<span class=\"conflict\">10-19</span>",
        "<span>&lt;i&gt;</span>",
        "<td>missing.jpg</td>",
        "<td>40 x 40</td>",
        "one gender in several spellings: F, f",
        "<rect class=\"val\"",
    ] {
        assert!(page.contains(needle), "the page lacks {needle}");
    }
    for forbidden in ["://", "src=\"\"", "<script", "<b>.jpg", "<i></td>", "<i></span>", "url("] {
        assert!(!page.contains(forbidden), "the page has {forbidden}");
    }
}

/// What the page of a bad data set must not become: as large as the data set.
#[test]
fn the_page_is_cut_and_says_so() {
    let rows = |n: usize, file: &str| (0..n).map(|_| format!("{file},3-9,F,White\n")).collect::<String>();
    let page = page(&[("a.jpg", face(0))], [rows(6, "a.jpg"), rows(250, "no.jpg"), rows(1, "a.jpg")]);
    assert!(page.contains("and 3 more") && page.contains("and 50 more"), "{page}");
    assert_eq!(page.matches("<img").count(), 4);
}

#[test]
fn a_sound_folder_has_nothing_to_look_at() {
    let rows = |file: &str| format!("{file},3-9,F,White\n");
    let page = page(
        &[("a.jpg", face(0)), ("b.jpg", face(1)), ("c.jpg", face(2))],
        ["a.jpg", "b.jpg", "c.jpg"].map(rows),
    );
    assert!(page.contains("No image of one split was found again in another."), "{page}");
    assert!(!page.contains("<figcaption>same bytes") && !page.contains("tile alert"), "{page}");
    assert_eq!(page.matches("<h2>").count(), 1, "labels alone");
}
