//! Images without labels: what an argument stands for, and faces cut out of photos.

use std::{io::Cursor, path::Path, sync::Arc};

use ff_data::{Dataset, FaceBox, ImageInput, Loader, LoaderConfig, OnBadImage, RgbImage, Scratch, decode};

use crate::support::{sample, sample_inputs};

fn expand(argument: &str, images: &str, stdin: &str) -> ff_data::Result<Vec<ImageInput>> {
    ImageInput::expand(argument, Path::new(images), &mut Cursor::new(stdin.as_bytes().to_vec()))
}

/// (name, path) of what an argument stands for, below `dir`.
fn names(dir: &Path, argument: &str) -> Vec<String> {
    let argument = dir.join(argument).to_string_lossy().into_owned();
    let prefix = format!("{}/", dir.display());
    let found = expand(&argument, "", "").unwrap();
    found.iter().map(|input| input.name.replace(&prefix, "")).collect()
}

#[test]
fn folders_patterns_and_files_become_images_in_order() {
    let dir = tempfile::tempdir().unwrap();
    fs_err::create_dir_all(dir.path().join("b/deep")).unwrap();
    for name in ["c.JPG", "a.png", "notes.txt", "b/2.jpeg", "b/deep/1.webp", "odd[1].jpg"] {
        fs_err::write(dir.path().join(name), "").unwrap();
    }
    assert_eq!(names(dir.path(), ""), ["a.png", "b/2.jpeg", "b/deep/1.webp", "c.JPG", "odd[1].jpg"]);
    assert_eq!(names(dir.path(), "**/*.jpeg"), ["b/2.jpeg"]);
    assert_eq!(names(dir.path(), "odd[1].jpg"), ["odd[1].jpg"], "a file of that name is no pattern");
    assert_eq!(names(dir.path(), "gone.jpg"), ["gone.jpg"], "found missing when it is loaded");
    for empty in ["*.bmp", "b/deep/*.jpg"] {
        let argument = dir.path().join(empty).to_string_lossy().into_owned();
        let message = expand(&argument, "", "").unwrap_err().to_string();
        assert!(message.contains("expected at least one image, found none"), "{message}");
    }
}

#[test]
fn lists_name_images_relative_to_their_folder_and_may_carry_boxes() {
    let found = expand("-", "photos", "a.jpg\r\n\n/b c.png\n").unwrap();
    let paths: Vec<&Path> = found.iter().map(|input| input.path.as_path()).collect();
    assert_eq!(paths, [Path::new("photos/a.jpg"), Path::new("/b c.png")]);
    assert_eq!(found[0].name, "a.jpg");

    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("faces.CSV");
    let read = |text: &str| {
        fs_err::write(&csv, text).unwrap();
        expand(&csv.to_string_lossy(), "photos", "")
    };
    let found = read("x,img_path,y,w,h\r\n1,a.jpg,2,30,40\r\n,b.jpg,,,\r\n").unwrap();
    assert_eq!(found[0].face, Some(FaceBox::new(1.0, 2.0, 30.0, 40.0).unwrap()));
    assert_eq!((found[1].face, found[1].name.as_str()), (None, "b.jpg"));
    let labelled = sample().join("splits/ff_test.csv").to_string_lossy().into_owned();
    assert_eq!(expand(&labelled, "", "").unwrap().len(), 80, "labels are no hindrance");
    for (text, expected) in [
        ("photo,age\na.jpg,3\n", "expected a column of paths named one of file, img_path"),
        (
            "file,x,y,w,h\na.jpg,1,2,3,4\n\nb.jpg,1,2,0,4\n",
            "faces.CSV:4: expected a width and height above 0",
        ),
        ("file\n\n\"\"\n", "faces.CSV:3: expected a path"),
        ("file\n", "expected at least one image"),
    ] {
        let message = read(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

/// Links in a ring listed an image 41 times; two of them never ended.
#[cfg(unix)]
#[test]
fn every_folder_is_looked_into_once_whatever_links_lead_back() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    fs_err::create_dir_all(dir.path().join("a/b")).unwrap();
    fs_err::create_dir_all(dir.path().join("elsewhere/c")).unwrap();
    for name in ["a/1.jpg", "a/b/2.jpg", "elsewhere/c/3.jpg"] {
        fs_err::write(dir.path().join(name), "").unwrap();
    }
    // Up, to itself, to each other; and one that leads out, which is followed.
    for (to, link) in
        [("..", "a/up"), ("..", "a/b/up"), (".", "a/0"), ("../../elsewhere", "a/b/out"), ("b", "a/0b")]
    {
        symlink(to, dir.path().join(link)).unwrap();
    }
    assert_eq!(names(dir.path(), "a"), ["a/1.jpg", "a/b/2.jpg", "a/b/out/c/3.jpg"]);
    assert_eq!(names(dir.path(), "a/**/*.jpg"), ["a/1.jpg", "a/b/2.jpg", "a/b/out/c/3.jpg"]);
    assert_eq!(names(dir.path(), "a/*.jpg"), ["a/1.jpg"]);
    assert_eq!(names(dir.path(), "a/b/out/*/?.jpg"), ["a/b/out/c/3.jpg"], "a link in a pattern is one");
    // By its own name rather than a link's.
    assert_eq!(names(dir.path(), "a/*/2.jpg"), ["a/b/2.jpg"]);
}

/// A name that is no UTF-8 ended the whole list.
#[cfg(unix)]
#[test]
fn a_name_that_is_no_utf8_is_an_image_as_any_other() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let list = b"a.jpg\nb\xff.jpg\nc.jpg".to_vec();
    let found = ImageInput::expand("-", Path::new("photos"), &mut Cursor::new(list)).unwrap();
    let listed: Vec<&str> = found.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(listed, ["a.jpg", "b\u{fffd}.jpg", "c.jpg"]);
    assert_eq!(found[1].path.as_os_str(), OsStr::from_bytes(b"photos/b\xff.jpg"));

    let dir = tempfile::tempdir().unwrap();
    // Not every file system takes such a name.
    if fs_err::write(dir.path().join(OsStr::from_bytes(b"b\xff.jpg")), "").is_ok() {
        assert_eq!(names(dir.path(), ""), ["b\u{fffd}.jpg"]);
        assert_eq!(names(dir.path(), "*.jpg"), ["b\u{fffd}.jpg"]);
    }
}

/// A list without line ends was taken into memory, however long.
#[test]
fn a_line_of_a_list_has_a_limit() {
    let mut endless = std::io::BufReader::new(std::io::repeat(b'a'));
    let message = ImageInput::expand("-", Path::new(""), &mut endless).unwrap_err().to_string();
    assert_eq!(message, "line 1 of the list: expected a path of at most 65536 bytes, found more");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever bytes a list has, there is an answer; and paths come back as they were written.
    #[test]
    fn no_bytes_of_a_list_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        paths in proptest::collection::vec(r#"[a-zé,"' /.]{0,10}[a-z"]"#, 1..10),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let csv = dir.path().join("list.csv");
        let argument = csv.to_string_lossy();
        let _ = ImageInput::expand("-", Path::new(""), &mut Cursor::new(bytes.clone()));
        for head in [&b""[..], b"file,x,y,w,h\n"] {
            fs_err::write(&csv, [head, &bytes[..]].concat()).unwrap();
            let _ = ImageInput::expand(&argument, Path::new(""), &mut std::io::empty());
        }
        let quoted: String = paths.iter().map(|path| format!("\"{}\"\n", path.replace('"', "\"\""))).collect();
        fs_err::write(&csv, format!("file\n{quoted}")).unwrap();
        let found = ImageInput::expand(&argument, Path::new(""), &mut std::io::empty()).unwrap();
        let names: Vec<&str> = found.iter().map(|input| input.name.as_str()).collect();
        proptest::prop_assert_eq!(names, paths.iter().map(|path| path.trim()).collect::<Vec<_>>());
    }
}

#[test]
fn a_face_is_cut_out_before_it_is_resized() {
    let mut inputs = sample_inputs(2);
    // Without padding, the whole of a 224 x 224 crop as its own box changes nothing.
    inputs[1] = ImageInput { face: Some("0,0,224,224".parse().unwrap()), ..inputs[0].clone() };
    let dataset = Dataset::unlabelled(inputs.clone()).unwrap().with_face_padding(0.0);
    let mut scratch = Scratch::default();
    let mut rgb = |i| dataset.read_rgb(i, &mut scratch).unwrap().clone();
    let whole: RgbImage = rgb(0);
    assert_eq!(whole, rgb(1));
    assert_eq!(whole, decode(&fs_err::read(&inputs[0].path).unwrap()).unwrap());

    // FairFace's padding: the box of the inner 112 x 112 pixels is padded to 168 x 168.
    inputs[1].face = Some("56,56,112,112".parse().unwrap());
    let padded = Dataset::unlabelled(inputs).unwrap();
    let padded = padded.read_rgb(1, &mut scratch).unwrap().clone();
    let inner = (28..196).flat_map(|y| whole.pixels[(y * 224 + 28) * 3..(y * 224 + 196) * 3].to_vec());
    let inner = RgbImage { width: 168, height: 168, pixels: inner.collect() };
    assert_eq!(padded, ff_data::resize(&inner, ff_data::ImageSize::DEFAULT));
}

#[test]
fn images_that_are_missing_or_broken_are_listed_and_stop_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.jpg");
    fs_err::write(&broken, b"\xff\xd8 not much of a JPEG").unwrap();
    let mut inputs = sample_inputs(4);
    inputs[0] = ImageInput::new(dir.path().join("gone.jpg"));
    inputs[2] = ImageInput::new(&broken);
    inputs[3].face = Some("300,0,10,10".parse().unwrap());
    let good = inputs[1].name.clone();
    let config = LoaderConfig::eval(2).with_on_bad_image(OnBadImage::Skip);
    let mut loader = Loader::new(Arc::new(Dataset::unlabelled(inputs).unwrap()), config).unwrap();
    let files: Vec<String> = loader.epoch(0, 0).flat_map(|batch| batch.unwrap().files).collect();
    assert_eq!(files, [good]);
    let reasons: Vec<&String> = loader.skipped().values().collect();
    for (reason, expected) in reasons.iter().zip(["gone.jpg", "broken JPEG", "inside the image of 224x224"]) {
        assert!(reason.starts_with("image ") && reason.contains(expected), "{reason}");
    }
    assert_eq!(reasons.len(), 3);
}
