//! An audit of a folder in which everything that it looks for was planted.

use std::path::Path;

use ff_core::{Order, Schema, Task};
use ff_data::{
    Decoding, ImageRules, Split, Splits,
    audit::{Audit, Fault, MatchKind, Stage, differing_labels},
};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

use crate::support::{sample, sample_splits};

const RULES: ImageRules = ImageRules {
    max_file: ImageRules::MAX_FILE_MIB << 20,
    max_pixels: ImageRules::MAX_PIXELS,
    decoding: Decoding::Strict,
};

fn face(i: usize) -> Vec<u8> {
    fs_err::read(sample().join("images").join(&sample_splits().train.rows()[i].file)).unwrap()
}

fn png(width: u32, height: u32, value: impl Fn(u32) -> u8) -> Vec<u8> {
    let pixels: Vec<u8> = (0..width * height * 3).map(value).collect();
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes).write_image(&pixels, width, height, ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// A face as another encoder writes it: other bytes, the same picture.
fn as_png(jpeg: &[u8]) -> Vec<u8> {
    let image = ff_data::decode(jpeg).unwrap();
    png(image.width as u32, image.height as u32, |i| image.pixels[i as usize])
}

/// `a.jpg` in train, a copy of it with another label in test, a near duplicate in val, and so on.
fn planted(dir: &Path) -> Splits {
    let cut = face(2)[..3000].to_vec();
    let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8;
    let files = [
        ("a.jpg", face(0)),
        ("copy.jpg", face(0)),
        ("near.png", as_png(&face(0))),
        ("b.jpg", face(1)),
        ("b & <b>.png", as_png(&face(1))),
        ("cut.jpg", cut),
        ("tiny.png", png(30, 30, noise)),
        ("wide.png", png(200, 100, |i| (i / 3 % 200) as u8)),
        ("blank.png", png(100, 100, |_| 40)),
        ("blank too.png", png(100, 100, |_| 41)),
    ];
    for (name, bytes) in files {
        fs_err::write(dir.join(name), bytes).unwrap();
    }
    let csv = |rows: &[&str]| {
        let rows: Vec<String> = rows.iter().map(|row| format!("{row}\n")).collect();
        format!("file,age,gender,race\n{}", rows.concat())
    };
    let train = [
        "a.jpg,3-9,F,White",
        "b.jpg,20-29,F,Black",
        "b & <b>.png,20-29,F,Black",
        "cut.jpg,3-9,M,Black",
        "tiny.png,3-9,M,Black",
    ];
    let val = ["near.png,3-9,F,White", "wide.png,20-29,M,White", "missing.jpg,3-9,M,White"];
    let test = ["copy.jpg,10-19,F,White", "blank.png,20-29,M,Black", "blank too.png,20-29,M,Black"];
    for (split, rows) in Split::ALL.into_iter().zip([&train[..], &val, &test]) {
        fs_err::write(split.path(dir), csv(rows)).unwrap();
    }
    Splits::read(dir, &Schema::fairface()).unwrap()
}

#[test]
fn everything_planted_is_found_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let splits = planted(dir.path());
    let mut stages = Vec::new();
    let audit = Audit::new(&splits, dir.path(), &RULES, 2, None, |stage, n| stages.push((stage, n))).unwrap();

    assert_eq!((audit.images, audit.exact_duplicates, audit.near_duplicates), (11, 1, 2));
    let unreadable: Vec<_> =
        audit.unreadable.iter().map(|bad| (bad.image.file.as_str(), bad.image.line)).collect();
    assert_eq!(unreadable, [("cut.jpg", 5), ("missing.jpg", 4)]);
    assert!(audit.unreadable[0].reason.contains("broken JPEG"), "{}", audit.unreadable[0].reason);
    let misshapen: Vec<_> = audit.misshapen.iter().map(|bad| (bad.image.file.as_str(), bad.fault)).collect();
    let expected = [
        ("tiny.png", Fault::Tiny),
        ("wide.png", Fault::Stretched),
        ("blank.png", Fault::Blank),
        ("blank too.png", Fault::Blank),
    ];
    assert_eq!(misshapen, expected, "blank images are no duplicates of each other");

    let files = |found: &ff_data::audit::Match| -> Vec<String> {
        found.images.iter().map(|image| format!("{}/{}", image.split.name(), image.file)).collect()
    };
    let [exact, near] = &audit.cross_split[..] else { panic!("{:?}", audit.cross_split) };
    assert_eq!(
        (exact.kind, files(exact)),
        (MatchKind::Exact, vec!["train/a.jpg".into(), "test/copy.jpg".into()])
    );
    let expected = vec!["train/a.jpg".to_owned(), "test/copy.jpg".into(), "val/near.png".into()];
    assert_eq!((near.kind, files(near)), (MatchKind::Near, expected), "with all copies");
    assert!(near.similarity > 0.99 && exact.similarity == 1.0);
    let [within] = &audit.within_split[..] else { panic!("{:?}", audit.within_split) };
    assert_eq!(files(within), ["train/b.jpg", "train/b & <b>.png"]);
    let conflicts: Vec<_> = audit.label_conflicts.iter().map(|found| found.conflicts.clone()).collect();
    assert!(conflicts.iter().all(|tasks| *tasks == ["age"]) && conflicts.len() == 2, "{conflicts:?}");

    let ages: Vec<_> = audit.balance["age"]
        .iter()
        .map(|age| (age.label.as_str(), Split::ALL.map(|split| age.of(split))))
        .collect();
    assert_eq!(ages, [("3-9", [3, 2, 0]), ("10-19", [0, 0, 1]), ("20-29", [2, 1, 2])], "by age, not by name");
    assert!(stages.contains(&(Stage::Hash, 11)) && stages.iter().any(|(stage, _)| *stage == Stage::Compare));
}

/// The licence of the sample says that it is unchanged; this says that it is sound.
#[test]
fn the_sample_is_sound() {
    let images = sample().join("images");
    let audit = Audit::new(&sample_splits(), &images, &RULES, 2, None, |_, _| {}).unwrap();
    assert_eq!((audit.images, audit.unreadable.len(), audit.misshapen.len()), (799, 0, 0));
    assert_eq!((audit.exact_duplicates, audit.near_duplicates, audit.cross_split.len()), (0, 0, 0));
    let women = &audit.balance["gender"][0];
    assert_eq!(women.label, "Female");
}

/// Labels with blanks around them were classes of their own; those that differ in case still are, and are named.
#[test]
fn labels_in_several_spellings_are_found() {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("a.jpg"), face(0)).unwrap();
    let rows = ["a.jpg, 3-9 ,F,East Asian", "a.jpg,3-9,f,East  asian", "a.jpg,3-9\t,F ,White"];
    for split in Split::ALL {
        fs_err::write(split.path(dir.path()), format!("file,age , gender,race\n{}\n", rows.join("\n")))
            .unwrap();
    }
    let splits = Splits::read(dir.path(), &Schema::fairface()).unwrap();
    assert_eq!(splits.encoders["age"].labels(), ["3-9"]);
    let audit = Audit::new(&splits, dir.path(), &ImageRules::default(), 2, None, |_, _| {}).unwrap();
    let alike: Vec<_> =
        audit.alike_labels.iter().map(|alike| (alike.task.as_str(), alike.labels.join(" = "))).collect();
    let expected = [("gender", "F = f"), ("race", "East  asian = East Asian")];
    assert_eq!(alike, expected.map(|(task, labels)| (task, labels.to_owned())));
    assert_eq!((audit.exact_duplicates, audit.cross_split.len()), (8, 1), "one file in nine rows");
}

/// Labels by a list and one that is not known: it is counted, shown as such, and disagrees with nobody.
#[test]
fn unknown_labels_are_counted_and_conflict_with_nothing() {
    let dir = tempfile::tempdir().unwrap();
    ["a.jpg", "b.jpg", "c.jpg"]
        .iter()
        .for_each(|name| fs_err::write(dir.path().join(name), face(0)).unwrap());
    let size = Order::List(["S", "M", "L"].map(str::to_owned).into());
    let tasks = vec![Task::new("hat").with_column("Hat size").with_order(size), Task::new("glasses")];
    let rows = ["a.jpg,L,yes\nb.jpg,,yes\n", "a.jpg,S,\nb.jpg,M,no\n", "c.jpg, ,yes\na.jpg,L,yes\n"];
    for (split, rows) in Split::ALL.into_iter().zip(rows) {
        fs_err::write(split.path(dir.path()), format!("file,Hat size,glasses\n{rows}")).unwrap();
    }
    let schema = Schema::new(tasks).unwrap();
    let splits = Splits::read(dir.path(), &schema).unwrap();
    let audit = Audit::new(&splits, dir.path(), &RULES, 2, None, |_, _| {}).unwrap();
    let hats: Vec<_> = audit.balance["hat"].iter().map(|hat| hat.label.as_str()).collect();
    assert_eq!(hats, ["S", "M", "L"], "in the order of the list");
    let unknown = |task: &str| Split::ALL.map(|split| audit.unknown[task].of(split));
    assert_eq!((unknown("hat"), unknown("glasses")), ([1, 0, 1], [0, 1, 0]));
    assert_eq!(audit.label_conflicts.len(), 1);
    assert_eq!(audit.label_conflicts[0].conflicts, ["hat", "glasses"]);

    let row = |file: &str, hat: Option<&str>| ff_data::Row {
        file: file.to_owned(),
        labels: vec![hat.map(str::to_owned), None],
        extra: Vec::new(),
        line: 0,
    };
    let differ = |hats: &[Option<&str>]| {
        let rows: Vec<_> = hats.iter().map(|hat| row("a.jpg", *hat)).collect();
        differing_labels(&schema, rows.iter())
    };
    assert!(differ(&[None, Some("S"), None, Some("S")]).is_empty());
    assert_eq!(differ(&[Some("S"), None, Some("M")]), ["hat"]);
}
