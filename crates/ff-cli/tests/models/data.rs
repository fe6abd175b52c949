//! `data fairface`: from Parquet files to what `split` takes, and what is refused of a hub.

use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::hub::{Behaviour, Hub, assert_says};
use crate::support::{Workplace, assert_exit, text};

/// The small files of ff-data's tests, of the schema of the hub's.
fn parquet(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ff-data/tests/fixtures/fairface");
    folder.join(format!("{name}.parquet")).to_str().unwrap().to_owned()
}

fn from_files<'a>(files: &'a [String], rest: &[&'a str]) -> Vec<&'a str> {
    let files = files.iter().map(String::as_str);
    ["data", "fairface", "--out", "faces"]
        .into_iter()
        .chain(rest.iter().copied())
        .chain(["--file"])
        .chain(files)
        .collect()
}

fn all_files() -> Vec<String> {
    let names = ["train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"];
    names.map(parquet).into()
}

#[test]
fn images_and_labels_go_where_split_takes_them() {
    let place = Workplace::new();
    let files = all_files();
    let said = place.json(&from_files(&files, &["--json"]));
    assert_eq!((&said["images"], &said["licence"]), (&42.into(), &"CC BY 4.0".into()));
    assert!(said["credit"].as_str().unwrap().contains("WACV 2021"));
    assert_eq!((&said["train"]["images"], &said["val"]["kept"]), (&12.into(), &0.into()));
    let bytes: u64 = ["train", "val"]
        .iter()
        .flat_map(|split| fs::read_dir(place.path("faces").join(split)).unwrap())
        .map(|image| image.unwrap().metadata().unwrap().len())
        .sum();
    assert_eq!(said["bytes"], bytes);
    let labels: Vec<PathBuf> =
        said["labels"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().into()).collect();
    for path in &labels {
        let head = fs::read_to_string(place.path("").join(path)).unwrap();
        assert!(head.starts_with("file,age,gender,race,service_test\n"), "{head}");
    }
    let split = place.run(&[
        "split",
        "--labels",
        labels[0].to_str().unwrap(),
        labels[1].to_str().unwrap(),
        "--images",
        "faces",
        "--out",
        "splits",
        "--json",
    ]);
    assert_exit(&split, 0);

    // A second start keeps what is there; more of the same goes on, something else does not mix.
    let again = place.json(&from_files(&files, &["--json"]));
    assert_eq!((&again["train"]["kept"], &again["val"]["kept"]), (&12.into(), &30.into()));
    let other = [parquet("plain"), parquet("validation-00000-of-00001")];
    let other: Vec<String> = other
        .iter()
        .map(|file| {
            let name = Path::new(file).file_name().unwrap().to_str().unwrap().replace("plain", "train-plain");
            fs::copy(file, place.path(&name)).unwrap();
            name
        })
        .collect();
    assert_says(
        &place.run(&from_files(&other, &[])),
        &["faces", "expected images of", "--force replaces it"],
    );
    assert_exit(&place.run(&from_files(&other, &["--force"])), 0);
}

#[test]
fn a_limit_takes_the_first_faces_of_each_split() {
    let place = Workplace::new();
    let said = place.json(&from_files(&all_files(), &["--limit", "5", "--json"]));
    assert_eq!((&said["train"]["images"], &said["val"]["images"]), (&5.into(), &5.into()));
    assert!(place.path("faces/train/5.jpg").is_file() && !place.path("faces/train/6.jpg").exists());
}

#[test]
fn what_is_no_fairface_is_refused_by_name() {
    let place = Workplace::new();
    let files = all_files();
    let output = place.run(&from_files(&files[..2], &[]));
    assert_says(&output, &["expected files of both splits", "begins with val"]);
    fs::write(place.path("train-cut.parquet"), &fs::read(&files[0]).unwrap()[..5000]).unwrap();
    let cut = ["train-cut.parquet".to_owned(), files[2].clone()];
    assert_says(&place.run(&from_files(&cut, &[])), &["train-cut.parquet", "expected"]);
    fs::create_dir(place.path("faces/mine")).unwrap_or_else(|_| {
        fs::create_dir_all(place.path("faces/mine")).unwrap();
    });
    assert_says(&place.run(&from_files(&files, &[])), &["faces", "--force"]);
}

/// The files of padding 1.25 are what the hub says they are: the whole way, from its files to images.
#[test]
fn what_the_hub_has_arrives_as_images_and_labels_and_goes_on_where_it_broke() {
    let read = |name: &str| fs::read(parquet(name)).unwrap();
    let files = vec![
        ("1.25/train-00000-of-00004", read("train-00000-of-00002")),
        ("1.25/validation-00000-of-00001", read("validation-00000-of-00001")),
    ];
    let broken = Behaviour { files: files.clone(), cut_after: 4000, ..Behaviour::default() };
    let (place, hub) = (Workplace::new(), Hub::start(broken));
    let args = ["data", "fairface", "--padding", "1.25", "--out", "faces", "--limit", "7", "--json"];
    let first = hub.run(&place, &args);
    if !first.status.success() {
        assert_says(&first, &["the connection broke again and again"]);
    }
    assert!(hub.starts().iter().any(|start| *start >= 4000), "it goes on: {:?}", hub.starts());
    hub.become_(Behaviour { files, ..Behaviour::default() });
    let output = hub.run(&place, &args);
    assert_exit(&output, 0);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["train"]["images"], &said["val"]["images"]), (&7.into(), &7.into()));
    for (path, ..) in hub.requests.lock().unwrap().iter() {
        let revision = "54d573cdb8b5af490ba8da9da2799628f6e5c496";
        let folder = format!("/datasets/HuggingFaceM4/FairFace/resolve/{revision}/1.25");
        assert!(path.replace("%2F", "/").starts_with(&folder), "{path}");
    }
    // The second time needs no hub.
    let n_requests = hub.starts().len();
    assert_exit(&hub.run(&place, &args), 0);
    assert_eq!(hub.starts().len(), n_requests);
}

/// Whoever holds the hub could announce what they like of what they send.
#[test]
fn other_files_under_the_hubs_names_are_refused_and_deleted() {
    let (place, hub) = (Workplace::new(), Hub::start(Behaviour::default()));
    let get = || hub.run(&place, &["data", "fairface", "--out", "faces", "--limit", "10"]);
    for _ in 0..2 {
        let n_requests = hub.starts().len();
        assert_says(
            &get(),
            &[
                "HuggingFaceM4/FairFace: 0.25/train-00000-of-00002-d405faba4f4b9b85.parquet: expected 250030031 bytes",
                "acebfc4a735050d0ee618b3c690ad91e1b11bcc25151f398f06990bc15e99d06",
                "another file under that name, deleted",
            ],
        );
        assert!(hub.starts().len() > n_requests, "it was not kept");
    }
    assert_eq!(fs::read_dir(place.path("faces/train")).map_or(0, Iterator::count), 0, "no image was written");
    hub.become_(Behaviour { status: Some("404 Not Found"), ..Behaviour::default() });
    let output = get();
    assert_says(&output, &["(404)", "0.25/train-00000-of-00002"]);
    assert!(text(&output.stderr).contains("data fairface --file FILES"), "{}", text(&output.stderr));
}
