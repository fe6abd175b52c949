//! Several seeds in one folder: each the run that it is alone, whatever happens between and inside them.

use std::os::unix::process::ExitStatusExt;

use fs_err as fs;
use serde_json::Value;

use super::{bytes, checkpoints, records, resume, start_and_wait, with_fault};
use crate::workplace::{Workplace, assert_exit, json, stderr};

const TENSORS: [&str; 4] = ["model.safetensors", "model_ema.safetensors", "state.safetensors", "state.json"];

/// A small network, four steps in two epochs, a checkpoint after each, and a moving average.
fn place() -> Workplace {
    let place = Workplace::new();
    let recipe = "[run]\ncheckpoint_steps = 1\n[optimizer]\nema_decay = 0.9\n";
    fs::write(place.path("recipe.toml"), recipe).unwrap();
    place
}

fn args<'a>(place: &Workplace, more: &[&'a str]) -> Vec<&'a str> {
    let small = ["--config", "recipe.toml", "--backbone", "resnet18", "--image-size", "64", "--epochs", "2"];
    place.train_args(&[&small[..], &["--batch-size", "4"], more].concat())
}

/// What the seeds 42 and 43 come to, each alone.
fn alone(place: &Workplace) {
    for seed in ["42", "43"] {
        let run = format!("alone/seed-{seed}");
        assert_exit(&place.run(&args(place, &["--seed", seed, "--run-dir", &run])), 0);
    }
}

#[track_caller]
fn assert_as_alone(place: &Workplace, folder: &str) {
    for seed in [42, 43] {
        for name in TENSORS {
            let [found, expected] =
                [folder, "alone"].map(|folder| bytes(place, &format!("{folder}/seed-{seed}"), name));
            assert!(found == expected, "{folder}/seed-{seed}: {name} differs from that of the seed alone");
        }
        assert_eq!(records(place, &format!("{folder}/seed-{seed}"), "epoch").len(), 2);
    }
}

fn record(place: &Workplace, folder: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(place.path(folder).join("seeds.json")).unwrap()).unwrap()
}

#[test]
fn each_seed_is_the_run_that_it_is_alone_and_figures_are_those_of_their_last_epochs() {
    let place = place();
    alone(&place);
    let output = place.run(&args(&place, &["--seeds", "2", "--json"]));
    assert_exit(&output, 0);
    assert_as_alone(&place, "runs/seeds-001");
    let result = json(&output);
    assert_eq!(result["run_dir"], "runs/seeds-001");
    assert_eq!(result["seeds"], serde_json::json!([42, 43]));
    assert_eq!(result["runs"][1]["run_dir"], "runs/seeds-001/seed-43");
    let last =
        [42, 43].map(|seed| records(&place, &format!("runs/seeds-001/seed-{seed}"), "epoch").pop().unwrap());
    for (of, figures) in [("val", "figures"), ("ema", "ema")] {
        let figures = result[figures].as_array().unwrap();
        // Age has one-off accuracy beside the five.
        assert_eq!(figures.len(), 6 + 5 + 5);
        for figure in figures {
            let (task, name) = (figure["task"].as_str().unwrap(), figure["figure"].as_str().unwrap());
            let [a, b] = last.each_ref().map(|epoch| epoch[of][task][name].as_f64().unwrap());
            // Of two values the deviation is their distance by the root of two, the error half the distance.
            for (key, expected) in [
                ("mean", (a + b) / 2.0),
                ("deviation", (a - b).abs() / 2f64.sqrt()),
                ("standard_error", (a - b).abs() / 2.0),
            ] {
                let found = figure[key].as_f64().unwrap();
                assert!((found - expected).abs() < 1e-12, "{of} {task} {name} {key}: {found}, {expected}");
            }
            assert_eq!(figure["n"], 2);
        }
        let nll = figures.iter().find(|figure| figure["figure"] == "nll").unwrap();
        assert!(nll["deviation"].as_f64().unwrap() > 0.0, "seeds differ: {nll}");
    }
    let record = record(&place, "runs/seeds-001");
    assert_eq!(record["figures"], result["figures"]);
    assert_eq!(record["runs"][0]["val"], result["runs"][0]["val"]);
    assert_eq!(record["settings"], "seed-42/config.toml");

    // Each folder is a run like any other, and the folder of all is none.
    let run = "runs/seeds-001/seed-43";
    assert_exit(&place.run(&["evaluate", "--run", run, "--split", "val", "--bootstrap", "0"]), 0);
    assert_exit(&place.run(&["report", "--run", run]), 0);
    let report = place.run(&["report", "--run", "runs/seeds-001", "--json"]);
    assert_exit(&report, 0);
    assert_eq!(json(&report)["path"], "runs/seeds-001/seeds.html");
    let page = fs::read_to_string(place.path("runs/seeds-001/seeds.html")).unwrap();
    assert!(page.contains("<title>2 of 2 seeds</title>") && page.contains("age, seed 43: "), "{page}");
    let refused = place.run(&["evaluate", "--run", "runs/seeds-001"]);
    assert_exit(&refused, 1);
    assert!(
        stderr(&refused).contains("found runs of several seeds; take one of them"),
        "{}",
        stderr(&refused)
    );
}

/// In the beginning of a seed, in its steps and validation, at its end, and between two.
#[test]
fn killed_anywhere_and_resumed_all_seeds_are_the_same_bytes() {
    let place = place();
    alone(&place);
    assert_exit(&place.run(&args(&place, &["--seeds", "42,43", "--run-dir", "whole"])), 0);
    let whole = record(&place, "whole");
    for (i, kills) in [
        &["kill@rename:seed-42/config.toml", "kill@step#3", "kill@rename:seeds.json#2"][..],
        &["kill@rename:seeds.json#2", "kill@rename:seed-43/config.toml", "kill@evaluate#3"],
        &["kill@step#6", "kill@rename:seed-43/checkpoints/last", "kill@rename:seeds.json#2"],
    ]
    .iter()
    .enumerate()
    {
        let folder = format!("seeds-{i}");
        let fresh = args(&place, &["--seeds", "2", "--run-dir", &folder]);
        for kill in *kills {
            let has_begun = place.path(&folder).join("seed-42/config.toml").exists();
            let args = if has_begun { resume(&folder).to_vec() } else { fresh.clone() };
            assert_eq!(with_fault(&place, &args, kill).status.signal(), Some(9), "{kill} of {folder}");
        }
        assert_exit(&place.run(&resume(&folder)), 0);
        assert_as_alone(&place, &folder);
        assert_eq!(record(&place, &folder), whole, "{folder}");
        let left = checkpoints(&place, &format!("{folder}/seed-43"));
        assert!(left.iter().all(|name| !name.contains(['.', '~'])), "nothing is left over: {left:?}");
    }
}

#[test]
fn ctrl_c_in_a_seed_leaves_all_to_go_on_and_what_is_finished_is_passed_over() {
    let place = place();
    alone(&place);
    let fresh = args(&place, &["--seeds", "2", "--run-dir", "seeds"]);
    // Four steps of the first, then one of the second.
    let (code, said) = start_and_wait(&place, &fresh, "wait@step#6").go_on_after("-INT");
    assert_eq!(code, Some(130), "{said}");
    assert!(said.ends_with("stopped; go on with: fairface train --resume --run-dir seeds"), "{said}");
    let stopped = record(&place, "seeds");
    assert_eq!((&stopped["runs"][0]["seed"], stopped["runs"].as_array().unwrap().len()), (&42.into(), 1));
    assert_eq!(stopped["figures"][0]["deviation"], Value::Null, "one run has none");

    let finished = fs::read(place.path("seeds/seed-42/run.json")).unwrap();
    let resumed = place.run(&[&resume("seeds")[..], &["--json"]].concat());
    assert_exit(&resumed, 0);
    assert!(stderr(&resumed).contains("seed    42: run 1 of 2, which is finished"), "{}", stderr(&resumed));
    assert!(stderr(&resumed).contains("seed    43: run 2 of 2, which goes on"), "{}", stderr(&resumed));
    assert_eq!(fs::read(place.path("seeds/seed-42/run.json")).unwrap(), finished, "nothing was done to it");
    assert_as_alone(&place, "seeds");
    let result = json(&resumed);
    let steps = [0, 1].map(|run| result["runs"][run]["steps"].as_u64().unwrap());
    assert_eq!(steps, [4, 4]);
    assert!(
        result["runs"][0]["val"]["age"]["accuracy"].is_f64(),
        "a finished run keeps its figures: {result}"
    );
    assert_eq!((&result["figures"][0]["n"], &result["interrupted"]), (&2.into(), &false.into()));

    // A third seed, by the command that began it all. Weights that are at hand only now are not for it.
    let more = args(&place, &["--seeds", "3", "--run-dir", "seeds", "--resume", "--json"]);
    let more: Vec<&str> = more.into_iter().filter(|arg| !["--config", "recipe.toml"].contains(arg)).collect();
    let weights = place.path("seeds/seed-42/checkpoints/last/model.safetensors");
    let more = place.command(&more).env("FAIRFACE_WEIGHTS", weights).output().unwrap();
    assert_exit(&more, 0);
    let third = fs::read_to_string(place.path("seeds/seed-44/run.json")).unwrap();
    assert!(third.contains("\"init\": \"random\""), "{third}");
    assert_eq!(json(&more)["seeds"], serde_json::json!([42, 43, 44]));
    assert_eq!(json(&more)["figures"][0]["n"], 3);
    assert_eq!(record(&place, "seeds")["seeds"], serde_json::json!([42, 43, 44]));
}

#[test]
fn folders_of_other_runs_and_other_settings_are_refused_in_words() {
    let place = place();
    let refused = |args: &[&str], code: i32, expected: &str| {
        let output = place.run(args);
        assert_exit(&output, code);
        let said = stderr(&output);
        assert!(said.contains(expected), "expected {expected}, found {said}");
    };
    let seeds = |more: &[&'static str]| args(&place, more);
    refused(&seeds(&["--seeds", "1,7,1"]), 2, "expected each seed once, found 1 twice");
    refused(&seeds(&["--seeds", "1,7", "--seed", "3"]), 2, "expected a number beside --seed 3, found a list");

    // What is wrong with the data is said before there is a folder.
    let mut of_no_data = seeds(&["--seeds", "2"]);
    let splits = of_no_data.iter().position(|arg| *arg == "splits").unwrap();
    of_no_data[splits] = "nowhere";
    refused(&of_no_data, 1, "nowhere");
    let split = place.path("splits/ff_val.csv");
    let rows = fs::read_to_string(&split).unwrap();
    fs::write(&split, rows.replacen("\nval/", "\nval/gone-", 1)).unwrap();
    refused(&seeds(&["--seeds", "2"]), 1, "gone-");
    fs::create_dir(place.path("mine")).unwrap();
    refused(&seeds(&["--seeds", "2", "--run-dir", "mine"]), 1, "gone-");
    assert_eq!(fs::read_dir(place.path("mine")).unwrap().count(), 0, "an empty folder of the user's stays");
    assert!(!place.path("runs/seeds-001").exists());
    fs::write(&split, rows).unwrap();

    assert_exit(&place.run(&seeds(&["--run-dir", "run"])), 0);
    refused(&seeds(&["--seeds", "2", "--run-dir", "run"]), 1, "run: holds a run already");
    let of_one = ["train", "--resume", "--run-dir", "run", "--seeds", "2"];
    refused(&of_one, 1, "run: expected runs of several seeds with seeds.json, found a run of one seed");

    assert_exit(&place.run(&seeds(&["--seeds", "2", "--run-dir", "seeds"])), 0);
    refused(&seeds(&["--seeds", "2", "--run-dir", "seeds"]), 1, "seeds: holds runs of several seeds already");
    refused(
        &seeds(&["--run-dir", "seeds"]),
        1,
        "seeds: holds runs of several seeds, expected an empty folder",
    );
    let with = |more: &[&'static str]| [&resume("seeds")[..], more].concat();
    refused(&with(&["--epochs", "3"]), 2, "train.epochs: expected 2, as seed-42 has, found 3");
    refused(&with(&["--seeds", "43,44"]), 1, "expected the folder's own seeds among those given, 42 missing");
    refused(&with(&["--seed", "43"]), 1, "expected the folder's own seeds among those given, 42 missing");
    refused(&with(&["--checkpoint", "best"]), 2, "give --run-dir seeds/seed-42");
    assert_exit(&place.run(&with(&["--workers", "1"])), 0);

    // One of the runs was trained on by itself.
    assert_exit(&place.run(&["train", "--resume", "--run-dir", "seeds/seed-43", "--epochs", "3"]), 0);
    refused(&with(&[]), 2, "seeds/seed-43: train.epochs: expected 2, as seed-42 has, found 3");
    fs::remove_dir_all(place.path("seeds/seed-43")).unwrap();

    // One began from other weights: `auto` found some that were not there before.
    let provenance = place.path("seeds/seed-42/run.json");
    assert_exit(&place.run(&with(&[])), 0);
    let text = fs::read_to_string(&provenance).unwrap();
    fs::write(&provenance, text.replace("\"init\": \"random\"", "\"init\": \"weights.safetensors\""))
        .unwrap();
    refused(
        &with(&[]),
        1,
        "seed-43: expected initial weights weights.safetensors, as seed-42 has, found random",
    );
    fs::write(&provenance, text).unwrap();

    // Other labels for a seed that is still to come.
    fs::remove_dir_all(place.path("seeds/seed-43")).unwrap();
    let split = place.path("splits/ff_train.csv");
    let rows = fs::read_to_string(&split).unwrap();
    fs::write(&split, rows.replacen("Female", "Male", 1)).unwrap();
    refused(
        &with(&[]),
        1,
        "seed-42: expected the training split that this run was trained on, found another",
    );
    fs::write(&split, rows).unwrap();

    let file = place.path("seeds/seeds.json");
    let text = fs::read_to_string(&file).unwrap();
    let of_tomorrow = text.replace("\"one_off\"", "\"two_off\"");
    assert!(of_tomorrow != text);
    fs::write(&file, of_tomorrow).unwrap();
    assert_exit(&place.run(&with(&[])), 0);
    fs::write(&file, "{\"seeds\": [42, 43, 42]}").unwrap();
    refused(&with(&[]), 1, "seeds/seeds.json: expected each seed once, found 42 twice");
    fs::write(&file, "{\"seeds\": [").unwrap();
    refused(&with(&[]), 1, "seeds/seeds.json: EOF while parsing");
}

#[test]
fn two_processes_do_not_train_the_seeds_of_one_folder() {
    let place = place();
    let waiting = start_and_wait(&place, &args(&place, &["--seeds", "2", "--run-dir", "seeds"]), "wait@step");
    let second = place.run(&resume("seeds"));
    waiting.kill();
    assert_exit(&second, 1);
    assert!(stderr(&second).contains("another process is training in this folder"), "{}", stderr(&second));
}
