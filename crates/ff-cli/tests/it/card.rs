//! The model card as a user meets it: in a run folder and beside an exported model. Its figures are held against the
//! records that it is from, and its header against what the hub asks for.

use std::path::Path;

use ff_eval::EvaluationRecord;
use fs_err as fs;
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::report::{HOSTILE, evaluate, fairface, run_folder};
use crate::workplace::{Workplace, assert_exit, json, stderr};

const CARD: &str = "MODEL_CARD.md";

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The metadata, as a YAML parser has it; whatever the hub requires of evaluation results is there.
#[track_caller]
fn metadata(card: &str) -> Yaml {
    let header = card.strip_prefix("---\n").unwrap().split("\n---\n").next().unwrap();
    let metadata = YamlLoader::load_from_str(header).unwrap().remove(0);
    for key in ["license", "library_name", "pipeline_tag"] {
        assert!(metadata[key].as_str().is_some_and(|value| !value.is_empty()), "{key} in {header}");
    }
    assert!(metadata["tags"].as_vec().is_some_and(|tags| tags.iter().all(|tag| tag.as_str().is_some())));
    for model in metadata["model-index"].as_vec().into_iter().flatten() {
        assert!(model["name"].as_str().is_some());
        for result in model["results"].as_vec().unwrap() {
            let texts = [&result["task"]["type"], &result["dataset"]["type"], &result["dataset"]["name"]];
            assert!(
                texts.iter().all(|text| text.as_str().is_some_and(|text| !text.is_empty())),
                "{result:?}"
            );
            let metrics = result["metrics"].as_vec().unwrap();
            assert!(!metrics.is_empty());
            for metric in metrics {
                assert!(
                    metric["type"].as_str().is_some() && metric["value"].as_f64().is_some(),
                    "{metric:?}"
                );
            }
        }
    }
    metadata
}

/// `UPDATE_CARD=1` writes it anew.
#[test]
fn a_card_is_as_its_file_and_says_what_the_record_says() {
    let (_dir, run) = run_folder(2);
    evaluate(&run, "val");
    assert_exit(&fairface(&["report", "--run", run.path().to_str().unwrap()]), 0);
    let card = read(&run.path().join(CARD));
    // What the machine, the checkout or a release decides.
    let of_here = ["| commit |", "| computed on |", "| fairface |"];
    let lines = card.lines().map(|line| match of_here.iter().find(|start| line.starts_with(*start)) {
        Some(start) => format!("{start} ... |\n"),
        None => format!("{line}\n"),
    });
    let found: String = lines.collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/card.md");
    if std::env::var_os("UPDATE_CARD").is_some() {
        fs::write(&path, &found).unwrap();
    }
    assert!(
        found == read(&path),
        "{} differs; UPDATE_CARD=1 writes it anew. Found:\n{found}",
        path.display()
    );

    // Every figure of the tables by task and by group, worked out anew.
    let record: Value =
        serde_json::from_slice(&fs::read(EvaluationRecord::path(run.path(), "val")).unwrap()).unwrap();
    let share = |value: &Value| format!("{:.1} %", 100.0 * value.as_f64().unwrap());
    for (task, figures) in record["tasks"].as_object().unwrap() {
        let row = card.lines().find(|line| line.starts_with(&format!("| {task} | 120 | "))).unwrap();
        for figure in ["accuracy", "balanced_accuracy", "macro_f1", "ece"] {
            assert!(row.contains(&format!(" {} ", share(&figures[figure]))), "{figure} in {row}");
        }
    }
    // Genders of those labelled Black: 20 of 40 are right, 35.2 to 64.8 by Wilson.
    assert!(
        card.contains("| Black | 40 | 100.0 % (91.2 % to 100.0 %) | 50.0 % (35.2 % to 64.8 %) | "),
        "{card}"
    );
    let groups = record["groups"].as_array().unwrap();
    let singles: Vec<&Value> =
        groups.iter().filter(|group| !group["by"].as_str().unwrap().contains(',')).collect();
    assert_eq!(singles.len(), 4 + 2 + 3);
    for group in singles.iter().filter(|group| group["group"] != HOSTILE) {
        let row = format!("| {} | {}", group["group"].as_str().unwrap(), group["n"]);
        let row = card.lines().find(|line| line.starts_with(&row)).unwrap();
        for figures in group["tasks"].as_object().unwrap().values() {
            let [low, high] = [&figures["accuracy_interval"][0], &figures["accuracy_interval"][1]];
            let expected = format!("{} ({} to {})", share(&figures["accuracy"]), share(low), share(high));
            assert!(row.contains(&expected), "{expected} in {row}");
        }
    }
    assert!(!card.contains("<script"), "a label became markup");
    let root = run.path().to_str().unwrap();
    assert!(!card.contains(root.trim_end_matches("fixture")), "a card that is given away names no folder");

    let metadata = metadata(&card);
    let results = metadata["model-index"][0]["results"].as_vec().unwrap();
    assert_eq!(results.len(), 3);
    for (result, task) in results.iter().zip(["age", "gender", "race"]) {
        assert_eq!(result["task"]["name"].as_str(), Some(task));
        let accuracy = &result["metrics"][0];
        assert_eq!(accuracy["type"].as_str(), Some("accuracy"));
        assert_eq!(accuracy["value"].as_f64(), record["tasks"][task]["accuracy"].as_f64());
    }
}

#[test]
fn training_evaluating_and_exporting_make_cards_and_leave_those_that_somebody_changed() {
    let place = Workplace::new();
    assert_exit(&place.train(&["--max-steps", "2", "--run-dir", "run"]), 0);
    let path = place.path("run").join(CARD);
    let card = read(&path);
    for needle in [
        "Not evaluated yet",
        "From metrics.jsonl, epoch 1.",
        "| training | 8 | 0 | 0 | 0 |",
        "| validation | 5 | 0 | 0 | 0 |",
        "| test | 3 | 0 | 0 | 0 |",
        "Kärkkäinen",
        "CC BY 4.0",
        "| initial weights | torchvision's ResNet34\\_Weights.IMAGENET1K\\_V1; resnet34-imagenet, bundled, 8 bits, SHA-256 ",
        "licence BSD-3-Clause |",
        "Article 5(1)(g)",
        "Not made for deciding about a person",
    ] {
        assert!(card.contains(needle), "{needle} in {card}");
    }
    let header = metadata(&card);
    assert_eq!(header["datasets"][0].as_str(), Some("HuggingFaceM4/FairFace"));
    assert_eq!(header["model-index"][0]["results"][0]["dataset"]["split"].as_str(), Some("validation"));

    let evaluated = place.run(&[
        "evaluate",
        "--run",
        "run",
        "--split",
        "test",
        "--calibrate",
        "--bootstrap",
        "5",
        "--json",
    ]);
    assert_exit(&evaluated, 0);
    let card = read(&path);
    assert!(
        card.contains(
            "### Test split\n\nFrom evaluation/test-calibrated-bootstrap-5.json: 3 rows of ff\\_test.csv."
        ),
        "{card}"
    );
    assert!(!card.contains("Not evaluated yet") && card.contains("5 rows of ff\\_val.csv"), "{card}");
    let accuracy = &metadata(&card)["model-index"][0]["results"][1]["metrics"][0]["value"];
    assert_eq!(accuracy.as_f64(), json(&evaluated)["tasks"]["gender"]["accuracy"].as_f64());

    let export =
        ["export", "--run", "run", "--format", "safetensors", "--out", "out/face.safetensors", "--json"];
    let exported = place.run(&export);
    assert_exit(&exported, 0);
    assert_eq!(json(&exported)["card"], "out/face.safetensors.card.md");
    let beside = place.path("out/face.safetensors.card.md");
    let card = read(&beside);
    let sha256 = ff_core::files::sha256(&fs::read(place.path("out/face.safetensors")).unwrap());
    assert!(card.contains("# Model card: face.safetensors\n") && card.contains(&sha256), "{card}");
    assert!(card.contains("### Test split"), "{card}");
    metadata(&card);
    // A model of another checkpoint does not have the figures of this one, whatever the two are called by now.
    assert_exit(&place.run(&["train", "--resume", "--run-dir", "run", "--max-steps", "3"]), 0);
    assert_exit(&place.run(&[&export[..], &["--checkpoint", "last"]].concat()), 0);
    let card = read(&beside);
    assert!(card.contains("Not evaluated yet") && !card.contains("### Test split"), "{card}");
    assert!(card.contains("Further records") && card.contains("step 3, the end of epoch 2"), "{card}");

    // What a run's weights began with stands in its card, without the folders that it lay in.
    let weights = "run/checkpoints/last/model.safetensors";
    assert_exit(&place.train(&["--max-steps", "1", "--init", weights, "--run-dir", "next"]), 0);
    let sha256 = ff_core::files::sha256(&fs::read(place.path(weights)).unwrap());
    let expected = format!("| initial weights | model.safetensors, SHA-256 {sha256}, licence not known |");
    assert!(read(&place.path("next").join(CARD)).contains(&expected));

    // Without the mark they are somebody's own.
    for (path, args) in [(&path, &["report", "--run", "run", "--json"][..]), (&beside, &export)] {
        let theirs = read(path).replacen("# Made by fairface", "# Made by me, and before by fairface", 1);
        fs::write(path, &theirs).unwrap();
        let output = place.run(args);
        assert_exit(&output, 0);
        assert!(json(&output)["card"].is_null());
        assert!(stderr(&output).contains("it stays as it is"), "{}", stderr(&output));
        assert_eq!(read(path), theirs);
        fs::remove_file(path).unwrap();
        assert!(json(&place.run(args))["card"].is_string());
    }
}

/// Tasks of one's own: nothing of race, nobody's data but the user's; names and labels stay words.
#[test]
fn a_card_of_own_tasks_says_nothing_of_race_or_fairface() {
    let place = Workplace::new();
    let label = "a \"|\" b: <i>";
    for name in ["ff_train.csv", "ff_val.csv", "ff_test.csv"] {
        let path = place.path("splits").join(name);
        let rows = read(&path);
        let rows = rows.lines().skip(1).enumerate().map(|(i, row)| {
            let file = row.split(',').next().unwrap();
            let hat = ["\"a \"\"|\"\" b: <i>\"", "none", ""][i % 3];
            format!("{file},{hat}\n")
        });
        let text = format!("file,hat\n{}", rows.collect::<String>());
        fs::write(path, text).unwrap();
    }
    fs::write(place.path("own.toml"), "[[tasks]]\nname = \"hat\"\n").unwrap();
    assert_exit(
        &place.train(&["--config", "own.toml", "--max-steps", "1", "--freeze-backbone", "--run-dir", "run"]),
        0,
    );
    let card = read(&place.path("run").join(CARD));
    assert!(card.contains("| training | 8 | 2 |") && card.contains("licence: not stated; fill in"), "{card}");
    assert!(card.contains("| hat | 2 | no order | a \"&#124;\" b: &#60;i&#62;, none |"), "{card}");
    for word in ["race", "FairFace", "AI Act", label] {
        assert!(!card.contains(word), "{word} in {card}");
    }
    let header = metadata(&card);
    assert!(header["datasets"].is_badvalue());
    assert_eq!(header["model-index"][0]["results"][0]["dataset"]["type"].as_str(), Some("ff-val-csv"));
}

/// A run of before there were cards: its `run.json` says neither rows nor weights.
#[test]
fn an_older_run_has_a_card_that_says_what_is_not_known() {
    let (_dir, run) = run_folder(1);
    fs::write(run.path().join("run.json"), r#"{"init": "/home/me/weights/resnet34.safetensors"}"#).unwrap();
    fs::remove_file(run.path().join("metrics.jsonl")).unwrap();
    assert_exit(&fairface(&["report", "--run", run.path().to_str().unwrap()]), 0);
    let card = read(&run.path().join(CARD));
    for needle in [
        "Not evaluated, and not validated",
        "is not recorded",
        "| seed | not recorded |",
        "| initial weights | resnet34.safetensors |",
    ] {
        assert!(card.contains(needle), "{needle} in {card}");
    }
    assert!(!card.contains("/home/me"));
    assert!(metadata(&card)["model-index"].is_badvalue());
}
