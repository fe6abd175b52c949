//! `predict`, `embed`, `export`, and what the shell gets.

use fs_err as fs;
use serde_json::Value;

use crate::support::{Workplace, assert_exit, labels, largest_difference, probabilities, sample, text};

const MODEL: [&str; 2] = ["--weights", "model.safetensors"];

/// Of images that are crops.
fn predict<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["predict", "--faces", "crop"], &MODEL[..], args].concat()
}

#[test]
fn images_that_fail_are_named_and_the_others_predicted() {
    let place = Workplace::new().with_model().with_faces(3);
    fs::write(place.path("faces/1b.jpg"), b"\xff\xd8 no face").unwrap();
    let args = ["faces", "gone.png", "--batch-size", "2"];

    let output = place.run(&predict(&[&args[..], &["--format", "json"]].concat()));
    assert_exit(&output, 1);
    let stderr = text(&output.stderr);
    for expected in
        ["image faces/1b.jpg: broken JPEG", "image gone.png: ", "3 images in ", "images/s in f32; 2 failed"]
    {
        assert!(stderr.contains(expected), "{expected:?} is missing in {stderr}");
    }
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let files: Vec<&str> = lines.iter().map(|line| line["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["faces/0.jpg", "faces/1.jpg", "faces/2.jpg"]);
    for (line, task) in lines.iter().flat_map(|line| labels().map(|task| (line, task))) {
        let answer = &line[task.task.name.as_str()];
        let probabilities = answer["probabilities"].as_object().unwrap();
        assert_eq!(probabilities.keys().collect::<Vec<_>>(), task.labels.iter().collect::<Vec<_>>());
        let sum: f64 = probabilities.values().map(|p| p.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{answer}");
        assert_eq!(answer["probability"], probabilities[answer["label"].as_str().unwrap()], "{answer}");
    }

    let object = place.run(&predict(&[&args[..], &["--json"]].concat()));
    assert_exit(&object, 1);
    let object: Value = serde_json::from_slice(&object.stdout).unwrap();
    assert_eq!(object["n"], 3);
    assert_eq!(object["predictions"].as_array().unwrap(), &lines);
    assert_eq!(object["failed"][1]["file"], "gone.png");

    let csv = place.run(&predict(&["faces/0.jpg", "--format", "csv"]));
    assert_exit(&csv, 0);
    let csv = text(&csv.stdout);
    let (header, row) = csv.trim_end().split_once('\n').unwrap();
    assert_eq!(header, "face_name_align,race,gender,age,race_scores_fair,gender_scores_fair,age_scores_fair");
    let answer = |task: &str| lines[0][task]["label"].as_str().unwrap();
    let start = format!("faces/0.jpg,{},{},{},[", answer("race"), answer("gender"), answer("age"));
    assert!(row.starts_with(&start), "{row}");
}

#[test]
fn batches_ways_to_name_images_and_boxes_do_not_change_a_prediction() {
    let place = Workplace::new().with_model().with_faces(3);
    let expected = probabilities(&place.json(&predict(&["faces/", "--json"])));
    let one_by_one = place.json(&predict(&["faces/", "--json", "--batch-size", "1"]));
    assert!(largest_difference(&expected, &probabilities(&one_by_one)) < 1e-5);
    let pattern = place.json(&predict(&["faces/[0-9].jpg", "--json"]));
    assert_eq!(expected, probabilities(&pattern));

    // Lists name images as they stand there, relative to --images.
    let list = predict(&["-", "--images", "faces", "--json"]);
    let output = place.run_with_input(&list, "0.jpg\n1.jpg\n2.jpg\n");
    assert_exit(&output, 0);
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&Value> = listed["predictions"].as_array().unwrap().iter().map(|p| &p["file"]).collect();
    assert_eq!(names, ["0.jpg", "1.jpg", "2.jpg"]);
    assert_eq!(listed["predictions"][2]["age"], pattern["predictions"][2]["age"]);

    // A crop is 224 x 224, so that its own box without padding is all of it; another box is not.
    fs::write(place.path("boxes.csv"), "file,x,y,w,h\n0.jpg,0,0,224,224\n1.jpg,50,50,90,90\n2.jpg,,,,\n")
        .unwrap();
    let boxes = predict(&["boxes.csv", "--images", "faces", "--padding", "0", "--json"]);
    let boxes = place.json(&boxes);
    let race = |predicted: &Value, i: usize| predicted["predictions"][i]["race"]["probabilities"].clone();
    let differ = |i: usize| largest_difference(&race(&boxes, i), &race(&listed, i)) > 1e-5;
    assert_eq!([0, 1, 2].map(differ), [false, true, false]);
    assert_eq!(boxes["predictions"][1]["box"]["w"], 90.0);
    let cropped = place.json(&predict(&["faces/1.jpg", "--crop", "50,50,90,90", "--padding", "0", "--json"]));
    assert!(largest_difference(&race(&cropped, 0), &race(&boxes, 1)) < 1e-5);
}

#[test]
fn embeddings_lie_beside_their_names() {
    let place = Workplace::new().with_model().with_faces(3);
    let args = ["embed", "faces/2.jpg", "gone.jpg", "faces/0.jpg", "faces/2.jpg", "--out", "e.safetensors"];
    let output = place.run(&[&args[..], &MODEL, &["--json"]].concat());
    assert_exit(&output, 1);
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&outcome["n"], &outcome["dim"]), (&3.into(), &512.into()));
    let bytes = fs::read(place.path("e.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let names = &header.metadata().as_ref().unwrap()["files"];
    assert_eq!(names, r#"["faces/2.jpg","faces/0.jpg","faces/2.jpg"]"#);
    let tensors = candle_core::safetensors::load_buffer(&bytes, &candle_core::Device::Cpu).unwrap();
    let rows: Vec<Vec<f32>> = tensors["embeddings"].to_vec2().unwrap();
    assert_eq!(rows[0], rows[2]);
    assert_ne!(rows[0], rows[1]);
    assert!(rows[0].iter().all(|v| *v >= 0.0), "means of ReLU outputs");
}

#[test]
fn a_run_and_its_model_file_predict_the_same_and_export_gives_the_file_back() {
    let place = Workplace::new().with_faces(1);
    let splits = sample().join("splits").to_string_lossy().into_owned();
    let images = sample().join("images").to_string_lossy().into_owned();
    let train = ["train", "--splits", &splits, "--images", &images, "--run-dir", "run", "--batch-size", "2"];
    assert_exit(&place.run(&[&train[..], &["--max-steps", "1"]].concat()), 0);
    let checkpoint = "run/checkpoints/last/model.safetensors";
    let which = ["--run", "run", "--checkpoint", "last"];
    let by_run = place.json(&[&["predict", "faces", "--json"], &which[..]].concat());
    let by_file = place.json(&["predict", "faces", "--json", "--weights", checkpoint]);
    assert_eq!(by_run["predictions"], by_file["predictions"]);
    for model in [&["--model", "run", "--checkpoint", "last"][..], &["--model", checkpoint]] {
        let found = place.json(&[&["predict", "faces", "--json"], model].concat());
        assert_eq!(found["predictions"], by_file["predictions"], "{model:?}");
        assert!(found["model"].as_str().unwrap().starts_with("run/checkpoints/"), "{found}");
    }
    assert_eq!(by_run["predictions"][0]["race"]["probabilities"].as_object().unwrap().len(), 7);

    let export = ["export", "--format", "safetensors", "--out", "out.safetensors", "--json"];
    let exported = place.json(&[&export[..], &which].concat());
    assert_eq!(exported["opset"], Value::Null);
    let bytes = |name: &str| fs::read(place.path(name)).unwrap();
    assert!(bytes("out.safetensors") == bytes(checkpoint), "equal models, equal bytes");
}

#[test]
fn a_model_file_evaluates_on_any_csv_with_its_labels() {
    let place = Workplace::new().with_model().with_faces(2);
    let rows = "0.jpg,3-9,Female,White\n1.jpg,0-2,Male,Indian\n";
    fs::write(place.path("mine.csv"), format!("file,age,gender,race\n{rows}")).unwrap();
    let args = ["evaluate", "--csv", "mine.csv", "--images", "faces", "--bootstrap", "0", "--json"];
    let record = place.json(&[&args[..], &MODEL].concat());
    assert_eq!(record["n"], 2);
    let predicted = place.json(&predict(&["mine.csv", "--images", "faces", "--json"]));
    let right = |i: usize, label: &str| predicted["predictions"][i]["gender"]["label"] == label;
    let accuracy = f64::from(u8::from(right(0, "Female")) + u8::from(right(1, "Male"))) / 2.0;
    assert_eq!(record["tasks"]["gender"]["accuracy"], accuracy);

    fs::write(place.path("other.csv"), "file,age,gender,race\n0.jpg,3-9,Female,Klingon\n").unwrap();
    let args = ["evaluate", "--csv", "other.csv", "--images", "faces"];
    let output = place.run(&[&args[..], &MODEL].concat());
    assert_exit(&output, 1);
    assert!(text(&output.stderr).contains("Klingon"), "{}", text(&output.stderr));
}

#[test]
fn misuse_says_what_was_expected() {
    let place = Workplace::new().with_model().with_faces(1);
    let backbone = sample().join("README.md").to_string_lossy().into_owned();
    for (args, code, expected) in [
        (vec!["export", "--format", "onnx", "--out", "x.onnx"], 2, "--run <DIR>"),
        (predict(&[]), 2, "<IMAGES>..."),
        (predict(&["faces", "--crop", "1,2,3"]), 2, "expected x,y,w,h in pixels"),
        (predict(&["faces", "--padding", "-1"]), 2, "--padding"),
        (predict(&["nothing/*.jpg"]), 1, "nothing/*.jpg: expected at least one image"),
        (vec!["predict", "faces", "--weights", "gone.safetensors"], 1, "gone.safetensors"),
        (vec!["predict", "faces", "--weights", &backbone], 1, "not a readable safetensors file"),
        (vec!["predict", "faces", "--run", "faces"], 1, "expected a run folder"),
    ] {
        let output = place.run(&args);
        assert_exit(&output, code);
        assert!(text(&output.stderr).contains(expected), "{args:?} said {}", text(&output.stderr));
    }
}

#[test]
fn completions_and_manual_know_every_command() {
    let place = Workplace::new();
    let manual = text(&place.run(&["man"]).stdout);
    for command in ["train", "predict", "embed", "weights", "export", "completions"] {
        for shell in ["bash", "zsh", "fish"] {
            let output = place.run(&["completions", shell]);
            assert_exit(&output, 0);
            assert!(text(&output.stdout).contains(command), "{command} is missing for {shell}");
        }
        assert!(manual.contains(command), "{command} is missing in the manual");
    }
    assert_exit(&place.run(&["man", "--out", "man"]), 0);
    assert!(fs::read_to_string(place.path("man/fairface-predict.1")).unwrap().contains("padding"));
}
