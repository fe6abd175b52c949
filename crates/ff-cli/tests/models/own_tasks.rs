//! Tasks of one's own, from a CSV with holes to other programs, as a user goes through them.

use fs_err as fs;
use serde_json::Value;

use crate::find_python::python;
use crate::interop::{FACES, read_json, run_script, with_png_faces};
use crate::support::{Workplace, assert_exit, largest_difference, probabilities, text};

/// A nominal task whose column is called otherwise, one with two classes, and an ordered one of five bins.
const RECIPE: &str = r#"
[[tasks]]
name = "emotion"
column = "Mood"

[[tasks]]
name = "glasses"

[[tasks]]
name = "experience"
order = "ordered"

[data]
image_size = 64
batch_size = 4
workers = 2
[train]
epochs = 2
criterion = "experience"
[loss]
ordered = "ordinal"
task_weights = "uncertainty"
[loss.weights]
glasses = 0.5
[run]
checkpoint_steps = 1
"#;

const HEADER: &str = "file,camera,Mood,glasses,experience";

/// Rows of `faces/0.jpg` and so on: every label once, then holes; the columns are in no order.
fn rows(from: usize, n: usize) -> String {
    let moods = ["calm", "glad", "sad"];
    let bins = ["0-9", "10-19", "20-29", "30-39", "more than 40"];
    let row = |i: usize| {
        let label = |labels: &[&str], hole: bool| if hole { "" } else { labels[i % labels.len()] }.to_owned();
        let (mood, glasses) = (label(&moods, i % 4 == 3), label(&["no", " yes "], i % 5 == 4));
        format!("{i}.jpg,{},{mood},{glasses},{}", ["A", "B"][i % 2], label(&bins, i % 7 == 5))
    };
    let rows: Vec<String> = (from..from + n).map(row).collect();
    format!("{HEADER}\n{}\n", rows.join("\n"))
}

fn place() -> Workplace {
    let place = Workplace::new().with_faces(16);
    fs::create_dir(place.path("splits")).unwrap();
    for (name, from, n) in [("train", 0, 8), ("val", 8, 5), ("test", 13, 3)] {
        fs::write(place.path(&format!("splits/ff_{name}.csv")), rows(from, n)).unwrap();
    }
    fs::write(place.path("recipe.toml"), RECIPE).unwrap();
    place
}

fn train(run: &str) -> [&str; 9] {
    ["train", "--config", "recipe.toml", "--splits", "splits", "--images", "faces", "--run-dir", run]
}

#[test]
fn tasks_of_ones_own_are_trained_resumed_evaluated_predicted_and_exported() {
    let place = place();
    assert_exit(&place.run(&train("whole")), 0);

    // Killed before its third step, and resumed: the same bytes.
    let killed = place.command(&train("killed")).env("FAIRFACE_FAULT", "kill@step:3").output().unwrap();
    assert!(killed.status.code().is_none(), "{}", text(&killed.stderr));
    assert_exit(&place.run(&["train", "--resume", "--run-dir", "killed"]), 0);
    for name in ["model.safetensors", "state.safetensors"] {
        let bytes = |run: &str| fs::read(place.path(&format!("{run}/checkpoints/last/{name}"))).unwrap();
        assert!(bytes("whole") == bytes("killed"), "{name} differs from that of a run that was left alone");
    }
    let header = fs::read_to_string(place.path("whole/metrics.csv")).unwrap();
    assert!(header.contains("train_loss,emotion_accuracy,glasses_accuracy,experience_accuracy,"), "{header}");
    let page = fs::read_to_string(place.path("whole/report.html")).unwrap();
    assert!(page.contains("emotion") && page.contains("more than 40") && !page.contains("gender"));

    // Holes count in nothing: of rows 8 to 12 one has no mood, one no glasses, one no experience.
    let evaluation = place.json(&[
        "evaluate",
        "--run",
        "whole",
        "--group-by",
        "camera,glasses",
        "--bootstrap",
        "0",
        "--json",
    ]);
    let known = |task: &str| {
        let counts = evaluation["confusion"][task].as_array().unwrap().iter();
        counts.flat_map(|row| row.as_array().unwrap()).map(|n| n.as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(["emotion", "glasses", "experience"].map(known), [4, 4, 4]);
    assert!(
        evaluation["tasks"]["experience"]["one_off"].is_f64()
            && evaluation["tasks"]["glasses"]["one_off"].is_null()
    );
    let groups: Vec<&Value> = evaluation["groups"].as_array().unwrap().iter().collect();
    let n = |group: &str| groups.iter().find(|g| g["group"] == group).map(|g| g["n"].as_u64().unwrap());
    assert_eq!(
        (n("A"), n("B"), n("no"), n("yes"), n("A / no")),
        (Some(3), Some(2), Some(3), Some(1), Some(3))
    );

    // The run and the file that it exports say the same.
    assert_exit(
        &place.run(&["export", "--run", "whole", "--format", "safetensors", "--out", "mine.safetensors"]),
        0,
    );
    let by_run = place.json(&["predict", "--run", "whole", "faces", "--json"]);
    let by_file =
        place.json(&["predict", "--weights", "mine.safetensors", "--image-size", "64", "faces", "--json"]);
    assert_eq!(largest_difference(&probabilities(&by_run), &probabilities(&by_file)), 0.0);
    let first = &by_run["predictions"][0];
    assert_eq!(first["experience"]["probabilities"].as_object().unwrap().len(), 5);
    assert!(first.get("age").is_none(), "{first}");
    let csv = text(&place.run(&["predict", "--run", "whole", "faces/0.jpg", "--format", "csv"]).stdout);
    assert!(csv.starts_with("face_name_align,emotion,glasses,experience,emotion_scores_fair,"), "{csv}");

    // What a CSV lacks is still an error, with all that is missing.
    fs::write(place.path("short.csv"), "file,glasses\n0.jpg,no\n").unwrap();
    let short = place.run(&["evaluate", "--run", "whole", "--csv", "short.csv", "--images", "faces"]);
    assert_exit(&short, 1);
    assert!(
        text(&short.stderr).contains("short.csv: missing column Mood, experience"),
        "{}",
        text(&short.stderr)
    );
}

#[test]
fn onnx_runtime_answers_as_a_model_of_ones_own_tasks_does() {
    let test = "onnx_runtime_answers_as_a_model_of_ones_own_tasks_does";
    let Some(python) = python(test, "onnx, onnxruntime, PIL") else { return };
    let place = with_png_faces(Workplace::new());
    let recipe = RECIPE.replace("image_size = 64\n", "").replace("epochs = 2", "epochs = 1\nmax_steps = 1");
    fs::write(place.path("recipe.toml"), recipe).unwrap();
    fs::create_dir(place.path("splits")).unwrap();
    let table = format!(
        "{HEADER}\n0.png,A,calm,no,0-9\n1.png,A,sad,yes,10-19\n2.png,B,,no,more than 30\n0.png,B,sad,,\n"
    );
    for name in ["train", "val", "test"] {
        fs::write(place.path(&format!("splits/ff_{name}.csv")), &table).unwrap();
    }
    assert_exit(&place.run(&train("run")), 0);
    let ours = probabilities(&place.json(&["predict", "--run", "run", "faces", "--json"]));
    let export = ["export", "--run", "run", "--format", "onnx", "--output", "softmax", "--out", "mine.onnx"];
    assert_exit(&place.run(&export), 0);
    run_script(&python, &place, "run_onnx.py", &[&["onnx.json", "mine.onnx", "--"], &FACES[..]].concat());
    let theirs = read_json(place.path("onnx.json"));
    let difference = largest_difference(&theirs["mine.onnx"], &ours);
    println!("probabilities differ by at most {difference:.1e}");
    assert!(difference < 1e-4, "{difference}");
}
