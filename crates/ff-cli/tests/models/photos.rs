//! Photos in: faces found, predicted, embedded, marked and cut out, by the command line.

use std::path::Path;
use std::process::Output;

use fs_err as fs;
use serde_json::Value;

use crate::support::{Workplace, assert_exit, largest_difference, text};

const MODEL: [&str; 2] = ["--weights", "model.safetensors"];
/// Faces in the committed photos: of an astronaut, in a picture of coffee, in a montage of twelve.
const FACES: [usize; 3] = [1, 0, 11];

fn photo(name: &str) -> String {
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/photos");
    photos.join(name).to_string_lossy().into_owned()
}

/// A place with a model and the photos in `photos/`.
fn place() -> Workplace {
    let place = Workplace::new().with_model();
    fs::create_dir(place.path("photos")).unwrap();
    for name in ["astronaut.png", "coffee.png", "fairface_montage.png"] {
        fs::copy(photo(name), place.path(&format!("photos/{name}"))).unwrap();
    }
    place
}

fn predict<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["predict"], &MODEL[..], args].concat()
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn named<'v>(rows: &'v [Value], file: &str) -> Vec<&'v Value> {
    rows.iter().filter(|row| row["file"] == file).collect()
}

#[test]
fn every_face_has_a_row_and_a_photo_without_one_says_so() {
    let place = place();
    fs::write(place.path("photos/broken.png"), b"\x89PNG no photo").unwrap();
    let output = place.run(&predict(&["photos", "--format", "json"]));
    assert_exit(&output, 1);
    assert!(text(&output.stderr).contains("image photos/broken.png: "), "{}", text(&output.stderr));
    let rows = lines(&output);
    let files: Vec<&str> = rows.iter().map(|row| row["file"].as_str().unwrap()).collect();
    assert!(files.is_sorted(), "in the order of the photos: {files:?}");
    let of = ["astronaut.png", "coffee.png", "fairface_montage.png"].map(|name| format!("photos/{name}"));
    let [astronaut, coffee, montage] = of.each_ref().map(|file| named(&rows, file));
    assert_eq!(astronaut.len(), FACES[0]);
    assert_eq!(montage.len(), FACES[2]);
    // Only the file, and that there is none.
    assert_eq!(coffee, [&serde_json::json!({ "file": of[1], "face": null })]);
    for (i, row) in montage.iter().enumerate() {
        let face = &row["face"];
        assert_eq!((face["index"].as_u64(), face["whole_image"].as_bool()), (Some(i as u64), Some(false)));
        assert!(face["score"].as_f64().unwrap() >= 0.6 && face["scale"].as_f64().unwrap() > 0.0);
        assert!(face["quality"]["sharpness"].as_f64().unwrap() > 0.0);
        assert_eq!(row["gender"]["probabilities"].as_object().unwrap().len(), 2);
    }
    let bounds = &astronaut[0]["face"]["box"];
    let (x, y) = (bounds["x"].as_f64().unwrap(), bounds["y"].as_f64().unwrap());
    assert!((165.0..195.0).contains(&x) && (50.0..80.0).contains(&y), "{bounds}");

    let object = place.run(&predict(&["photos", "--json"]));
    let object: Value = serde_json::from_slice(&object.stdout).unwrap();
    let n = (FACES[0] + FACES[2]) as u64;
    assert_eq!([&object["n"], &object["faces"], &object["photos"], &object["without_face"]], [n, n, 3, 1]);
    assert_eq!(object["predictions"].as_array().unwrap(), &rows);
    assert_eq!(object["failed"][0]["file"], "photos/broken.png");

    fs::remove_file(place.path("photos/broken.png")).unwrap();
    let csv = place.run(&predict(&["photos", "--format", "csv"]));
    assert_exit(&csv, 0);
    let csv = text(&csv.stdout);
    let table: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert!(csv.starts_with(
        "face_name_align,race,gender,age,race_scores_fair,gender_scores_fair,age_scores_fair,face,x,"
    ));
    assert!(table.iter().all(|row| row.len() == table[0].len()), "{csv}");
    assert_eq!(table.len(), 1 + FACES[0] + 1 + FACES[2]);
    assert_eq!(table[1][1], astronaut[0]["race"]["label"]);
    assert!(table[2][0] == of[1] && table[2][1..].iter().all(|cell| cell.is_empty()), "{:?}", table[2]);

    let said = place.run(&predict(&["photos"]));
    assert_exit(&said, 0);
    assert!(text(&said.stdout).contains("photos/coffee.png: no face found\n"), "{}", text(&said.stdout));
    assert!(!text(&said.stderr).contains("--faces crop"), "no photo here may be a crop");
    let gate = text(&said.stderr);
    assert!(gate.contains("12 faces in 3 photos, 1 without a face"), "{gate}");
}

#[test]
fn faces_of_all_photos_share_batches_and_that_changes_no_answer() {
    let place = place();
    let whole = place.json(&predict(&["photos", "photos/astronaut.png", "--json"]));
    let rows = whole["predictions"].as_array().unwrap();
    assert_eq!(rows.len(), 1 + 1 + 11 + 1);
    for (batch, workers) in [("1", "1"), ("5", "3"), ("12", "7")] {
        let args = ["photos", "photos/astronaut.png", "--json", "--batch-size", batch, "--workers", workers];
        let other = place.json(&predict(&args));
        for (a, b) in rows.iter().zip(other["predictions"].as_array().unwrap()) {
            assert_eq!((&a["file"], &a["face"]), (&b["file"], &b["face"]));
            if !a["face"].is_null() {
                let of = |row: &Value| row["race"]["probabilities"].clone();
                assert!(largest_difference(&of(a), &of(b)) < 1e-5, "batches of {batch}");
            }
        }
    }
    let largest = place.json(&predict(&["photos", "--faces", "largest", "--json"]));
    let faces: Vec<bool> =
        largest["predictions"].as_array().unwrap().iter().map(|row| !row["face"].is_null()).collect();
    assert_eq!(faces, [true, false, true]);
    let two = place.json(&predict(&["photos", "--max-faces", "2", "--min-score", "0.9", "--json"]));
    assert_eq!(two["faces"], 3);
    let wide = place.json(&predict(&["photos", "--min-face", "100", "--json"]));
    let widths = wide["predictions"].as_array().unwrap().iter();
    let widths: Vec<f64> = widths.filter_map(|row| row["face"]["box"]["w"].as_f64()).collect();
    assert!(!widths.is_empty() && widths.iter().all(|w| *w >= 100.0), "{widths:?}");
}

#[test]
fn boxes_and_landmarks_of_others_lead_to_the_same_crop() {
    let place = place();
    let found = place.json(&predict(&["photos/astronaut.png", "--json"]));
    let found = &found["predictions"][0];
    let near = |other: &Value, tolerance: f64| {
        let of = |row: &Value| row["age"]["probabilities"].clone();
        let difference = largest_difference(&of(found), &of(&other["predictions"][0]));
        assert!(difference < tolerance, "{difference}");
    };
    let bounds = &found["face"]["box"];
    let bounds = ["x", "y", "w", "h"].map(|side| bounds[side].to_string());
    let by_flag = place.json(&predict(&["photos/astronaut.png", "--crop", &bounds.join(","), "--json"]));
    assert_eq!(by_flag["predictions"].as_array().unwrap().len(), 1);
    let score = by_flag["predictions"][0]["face"]["score"].as_f64();
    assert!(score.is_some_and(|score| score > 0.8), "the detector sees it too: {score:?}");
    near(&by_flag, 0.05);

    let corners = &found["face"]["landmarks"]["corners"];
    let points = [
        ("left_eye_outer", "left_outer"),
        ("left_eye_inner", "left_inner"),
        ("right_eye_outer", "right_outer"),
        ("right_eye_inner", "right_inner"),
        ("nose_base", "nose_base"),
    ];
    let header: Vec<String> =
        points.iter().flat_map(|(name, _)| [format!("{name}_x"), format!("{name}_y")]).collect();
    let row: Vec<String> =
        points.iter().flat_map(|(_, key)| ["x", "y"].map(|axis| corners[key][axis].to_string())).collect();
    let csv = |header: &str, row: &str| fs::write(place.path("faces.csv"), format!("file,{header}\n{row}\n"));
    csv(&header.join(","), &format!("photos/astronaut.png,{}", row.join(","))).unwrap();
    let by_points = place.json(&predict(&["faces.csv", "--json"]));
    near(&by_points, 1e-6);
    assert_eq!(by_points["predictions"][0]["face"]["landmarks"], found["face"]["landmarks"]);

    // By eyes, nose and mouth: another alignment of the same face.
    let header = "right_eye_x,right_eye_y,left_eye_x,left_eye_y,nose_x,nose_y,mouth_right_x,mouth_right_y,mouth_left_x,mouth_left_y";
    csv(header, "photos/astronaut.png,203,103,247,105,224,128,205,147,242,148").unwrap();
    let by_centres = place.json(&predict(&["faces.csv", "--json"]));
    let scale = by_centres["predictions"][0]["face"]["scale"].as_f64().unwrap();
    assert!((scale / found["face"]["scale"].as_f64().unwrap() - 1.0).abs() < 0.2, "{scale}");

    csv("left_eye_x,left_eye_y", "photos/astronaut.png,1,2").unwrap();
    let output = place.run(&predict(&["faces.csv"]));
    assert_exit(&output, 1);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("expected all of the columns right_eye_x,") && stderr.contains("without right_eye_x"),
        "{stderr}"
    );
    csv(header, "photos/astronaut.png,203,nan,247,105,224,128,205,147,242,148").unwrap();
    let output = place.run(&predict(&["faces.csv"]));
    assert_exit(&output, 1);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("right_eye_y: expected a number, found \"nan\""), "{stderr}");
    let output = place.run(&predict(&["photos/astronaut.png", "--crop", "5000,5000,10,10"]));
    assert_exit(&output, 1);
    assert!(
        text(&output.stderr).contains("expected a face inside the image of 512x512"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn crops_go_in_as_they_are_and_are_predicted_alike() {
    let place = Workplace::new().with_model().with_faces(6);
    let crops = place.json(&predict(&["faces", "--faces", "crop", "--json"]));
    let auto = place.json(&predict(&["faces", "--json"]));
    let rows = auto["predictions"].as_array().unwrap();
    let whole: Vec<bool> = rows.iter().map(|row| row["face"]["whole_image"] == true).collect();
    assert!(whole.iter().filter(|whole| **whole).count() >= 4, "{whole:?}");
    for (a, b) in rows.iter().zip(crops["predictions"].as_array().unwrap()) {
        let of = |row: &Value| row["race"]["probabilities"].clone();
        if a["face"]["whole_image"] == true {
            assert!(largest_difference(&of(a), &of(b)) < 1e-5);
        }
    }
    let all = place.json(&predict(&["faces", "--faces", "all", "--json"]));
    let rows = all["predictions"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["face"].is_null() || row["face"]["whole_image"] == false));

    // A small square without a face may well be a crop of one that cannot be seen.
    let grey = image::RgbImage::from_pixel(224, 224, image::Rgb([90, 90, 90]));
    grey.save(place.path("grey.png")).unwrap();
    let output = place.run(&predict(&["grey.png"]));
    assert_exit(&output, 0);
    assert_eq!(text(&output.stdout), "grey.png: no face found\n");
    assert!(text(&output.stderr).contains("--faces crop takes them as they are"), "{}", text(&output.stderr));
}

#[test]
fn blurred_faces_are_set_aside_and_not_gone() {
    let place = place();
    let aside = place.json(&predict(&["photos", "--min-sharpness", "19", "--json"]));
    assert_eq!([&aside["n"], &aside["faces"], &aside["set_aside"]], [0, 12, 12]);
    let row = &aside["predictions"][0];
    assert_eq!(row["face"]["set_aside"], "not_sharp");
    assert!(row.get("age").is_none(), "{row}");
    let said = place.run(&predict(&["photos/astronaut.png", "--min-sharpness", "19"]));
    assert!(text(&said.stdout).contains(": set aside, not sharp enough (0."), "{}", text(&said.stdout));

    let embed = ["embed", "photos", "--out", "e.safetensors", "--json"];
    let embedded = place.json(&[&embed[..], &MODEL].concat());
    assert_eq!([&embedded["n"], &embedded["photos"], &embedded["without_face"]], [12, 3, 1]);
    let bytes = fs::read(place.path("e.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    let files: Vec<String> = serde_json::from_str(&metadata["files"]).unwrap();
    let faces: Vec<Value> = serde_json::from_str(&metadata["faces"]).unwrap();
    assert_eq!((files.len(), files[0].as_str(), faces.len()), (12, "photos/astronaut.png", 12));
    assert_eq!(faces[11]["index"], 10);
    // Written over again: it is this program's.
    place.json(&[&embed[..], &MODEL].concat());
    let none = place.run(&[&embed[..], &["--min-sharpness", "19"], &MODEL].concat());
    assert_exit(&none, 1);
    assert!(
        text(&none.stderr).contains("not written, as no face in 3 photos can be used"),
        "{}",
        text(&none.stderr)
    );
}

#[test]
fn photos_are_annotated_without_a_model_too_and_nobodys_file_is_lost() {
    let place = place();
    fs::create_dir_all(place.path("other")).unwrap();
    fs::copy(photo("astronaut.png"), place.path("other/Astronaut.png")).unwrap();
    let args = ["predict", "--annotate", "out", "photos", "other"];
    let output = place.run(&args);
    assert_exit(&output, 0);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("no model, so faces are found and not judged: `weights fairface` once"),
        "{stderr}"
    );
    assert!(stderr.contains("4 annotated photos in out"), "{stderr}");
    let stdout = text(&output.stdout);
    assert!(
        stdout.contains("astronaut.png #0 [") && stdout.contains("coffee.png: no face found"),
        "{stdout}"
    );
    let (plain, marked) =
        (image::open(place.path("photos/astronaut.png")), image::open(place.path("out/astronaut.png")));
    let (plain, marked) = (plain.unwrap().to_rgb8(), marked.unwrap().to_rgb8());
    assert_eq!(plain.dimensions(), marked.dimensions());
    let changed = plain.pixels().zip(marked.pixels()).filter(|(a, b)| a != b).count();
    assert!((1000..10_000).contains(&changed), "a frame and a plate: {changed} pixels");
    assert_eq!(marked.get_pixel(224, 130), plain.get_pixel(224, 130), "the face is to be seen");
    let faceless = image::open(place.path("out/coffee.png")).unwrap().to_rgb8();
    assert_eq!(faceless, image::open(place.path("photos/coffee.png")).unwrap().to_rgb8());
    assert!(place.path("out/Astronaut-2.png").is_file(), "two photos of one name");

    // Its own pictures are replaced, others not.
    assert_exit(&place.run(&[&args[..], &MODEL].concat()), 0);
    fs::copy(photo("coffee.png"), place.path("out/coffee.png")).unwrap();
    let refused = place.run(&args);
    assert_exit(&refused, 1);
    assert_eq!(text(&refused.stdout), "", "told before any work");
    assert!(
        text(&refused.stderr).contains("coffee.png: expected no file or an annotated photo"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(fs::read(place.path("out/coffee.png")).unwrap(), fs::read(photo("coffee.png")).unwrap());
    assert_exit(&place.run(&[&args[..], &["--force"]].concat()), 0);
}

/// Every file below a folder but its journal, with its bytes.
fn contents(place: &Workplace, dir: &str) -> Vec<(String, Vec<u8>)> {
    let mut files =
        vec![(format!("{dir}/crops.csv"), fs::read(place.path(&format!("{dir}/crops.csv"))).unwrap())];
    for entry in fs::read_dir(place.path(&format!("{dir}/crops"))).unwrap() {
        let path = entry.unwrap().path();
        files.push((path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()));
    }
    files.iter_mut().for_each(|(name, _)| *name = name.replace(dir, ""));
    files.sort();
    files
}

#[test]
fn a_set_of_crops_goes_on_where_it_was_stopped() {
    let place = place();
    fs::write(place.path("photos/broken.png"), b"\x89PNG no photo").unwrap();
    let crop = |out: &'static str| ["crop", "photos", "--out", out, "--json"];
    let output = place.run(&crop("a"));
    assert_exit(&output, 1);
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!([&made["photos"], &made["faces"], &made["without_face"], &made["done_before"]], [3, 12, 1, 0]);
    assert_eq!(made["failed"][0]["file"], "photos/broken.png");
    let expected = contents(&place, "a");
    assert_eq!(expected.len(), 13);
    let image = image::load_from_memory(&expected[5].1).unwrap();
    assert_eq!((image.width(), image.height()), (224, 224));

    // Killed in the middle of a line, of a file, and before anything.
    for (cut, lost) in [(0, 0), (0, 2), (1, 0), (40, 1), (2000, 3)] {
        assert_exit(&place.run(&["crop", "photos", "--out", "b", "--force"]), 1);
        let journal = fs::read(place.path("b/journal.jsonl")).unwrap();
        fs::write(place.path("b/journal.jsonl"), &journal[..journal.len() - cut]).unwrap();
        fs::remove_file(place.path("b/crops.csv")).unwrap();
        for i in 0..lost {
            fs::write(place.path(&format!("b/crops/000003-{i}.jpg")), b"").unwrap();
        }
        assert_exit(&place.run(&crop("b")), 1);
        assert!(contents(&place, "b") == expected, "cut by {cut} bytes");
    }
    let again = place.run(&crop("b"));
    assert_eq!(serde_json::from_slice::<Value>(&again.stdout).unwrap()["done_before"], 4);

    let other = place.run(&["crop", "photos", "--out", "b", "--size", "128"]);
    assert_exit(&other, 1);
    let stderr = text(&other.stderr);
    assert!(stderr.contains("found others: size 224 instead of 128; --force begins anew"), "{stderr}");
    assert!(contents(&place, "b") == expected);
    let foreign = place.run(&["crop", "photos", "--out", "photos"]);
    assert_exit(&foreign, 1);
    assert!(text(&foreign.stderr).contains("expected an empty folder"), "{}", text(&foreign.stderr));
}

#[test]
fn a_labelled_photo_gives_one_crop_with_its_labels_that_split_and_audit_take() {
    let place = place();
    let rows = "astronaut.png,40-49,Female,White,\"a, b\"\ncoffee.png,0-2,Male,Black,\nfairface_montage.png,30-39,Male,White,x\n";
    fs::write(place.path("labels.csv"), format!("file,age,gender,race,note\n{rows}")).unwrap();
    let crop = ["crop", "labels.csv", "--images", "photos", "--out", "set", "--format", "png", "--json"];
    let made = place.json(&crop);
    let counts =
        ["photos", "faces", "without_face", "several_faces"].map(|name| made[name].as_u64().unwrap());
    assert_eq!(counts, [3, 2, 1, 1]);
    let csv = fs::read_to_string(place.path("set/crops.csv")).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert!(
        lines[0].starts_with("file,photo,face,photo_x,") && lines[0].ends_with(",age,gender,race,note"),
        "{csv}"
    );
    assert!(lines[1].starts_with("crops/000000-0.png,astronaut.png,0,"), "{csv}");
    assert!(lines[1].ends_with(",40-49,Female,White,\"a, b\""), "{csv}");
    assert_eq!(lines.len(), 3);

    // The crop of a set is what predict makes of the photo.
    let by_crop = place.json(&predict(&["set/crops/000000-0.png", "--faces", "crop", "--json"]));
    let by_photo = place.json(&predict(&["photos/astronaut.png", "--json"]));
    let of = |found: &Value| found["predictions"][0]["race"]["probabilities"].clone();
    assert!(largest_difference(&of(&by_crop), &of(&by_photo)) < 1e-5);

    let split = [
        "split",
        "--labels",
        "set/crops.csv",
        "--images",
        "set",
        "--out",
        "splits",
        "--ratios",
        "0.5,0.5,0",
        "--json",
    ];
    assert_eq!(place.json(&split)["rows"], 2);

    fs::write(place.path("labels.csv"), "file,score\nastronaut.png,1\n").unwrap();
    let output = place.run(&["crop", "labels.csv", "--images", "photos", "--out", "other"]);
    assert_exit(&output, 2);
    assert!(text(&output.stderr).contains("column score: expected another name"), "{}", text(&output.stderr));
}

#[test]
fn an_audit_and_a_training_say_when_images_are_no_face_crops() {
    let place = Workplace::new().with_faces(3);
    fs::copy(photo("coffee.png"), place.path("faces/coffee.png")).unwrap();
    fs::copy(photo("fairface_montage.png"), place.path("faces/montage.png")).unwrap();
    fs::create_dir(place.path("splits")).unwrap();
    let header = "file,age,gender,race\n";
    let row = |file: &str, age: &str| format!("{file},{age},Male,White\n");
    let train = [header.to_owned(), row("0.jpg", "0-2"), row("coffee.png", "3-9")].concat();
    let val = [header.to_owned(), row("1.jpg", "0-2"), row("montage.png", "3-9")].concat();
    let test = [header.to_owned(), row("2.jpg", "0-2")].concat();
    for (split, rows) in [("train", train), ("val", val), ("test", test)] {
        fs::write(place.path(&format!("splits/ff_{split}.csv")), rows).unwrap();
    }
    let audit = ["audit", "--splits", "splits", "--images", "faces", "--hashes", "hashes", "--json"];
    assert!(place.json(&audit).get("faces").is_none());
    let found = place.json(&[&audit[..], &["--check-faces"]].concat());
    assert_eq!(found["faces"]["images"], 5);
    assert_eq!(found["faces"]["no_face"], serde_json::json!(["coffee.png"]));
    assert_eq!(found["faces"]["several_faces"], serde_json::json!(["montage.png"]));
    let placed = found["faces"]["badly_placed"].as_array().unwrap();
    assert!(
        placed.iter().any(|bad| bad["file"] == "montage.png" && bad["crop_error"].as_f64().unwrap() > 35.0)
    );
    let gate = place.run(&[&audit[..], &["--fail-on", "no_face,several_faces:1"]].concat());
    assert_exit(&gate, 3);
    let gate: Value = serde_json::from_slice(&gate.stdout).unwrap();
    assert_eq!(gate["failed"], serde_json::json!(["no_face"]));

    let train = ["train", "--splits", "splits", "--images", "faces", "--run-dir", "run", "--batch-size", "2"];
    let few = [
        "--max-steps",
        "1",
        "--init",
        "random",
        "--image-size",
        "64",
        "--backbone",
        "resnet18",
        "--check-faces",
    ];
    let output = place.run(&[&train[..], &few].concat());
    assert_exit(&output, 0);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("of 4 images 1 (25.0 %) without a face, 1 (25.0 %) with several"), "{stderr}");
    assert!(stderr.contains("these do not look like face crops"), "{stderr}");
}
