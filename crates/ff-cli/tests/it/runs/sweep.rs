//! Alternatives and seeds: what is finished is passed over, what was killed goes on, and the table is of the runs.

use fs_err as fs;
use serde_json::Value;

use super::{bytes, with_fault};
use crate::workplace::{Workplace, assert_exit, json, sample, stderr};

/// Two alternatives of two steps a seed.
fn place(more: &str) -> Workplace {
    let place = Workplace::new();
    let images = sample().join("images");
    let file = format!(
        "seeds = 2\n{more}\n[settings.data]\nsplits = \"splits\"\nimages = \"{}\"\nimage_size = 64\nbatch_size = 4\n\
         workers = 1\n[settings.model]\nbackbone = \"resnet18\"\ninit = \"random\"\n[settings.train]\nepochs = 1\n\
         [[alternatives]]\nname = \"plain\"\n[[alternatives]]\nname = \"averaged\"\n\
         settings.optimizer.ema_decay = 0.5\n",
        images.display()
    );
    fs::write(place.path("sweep.toml"), file).unwrap();
    place
}

const ARGS: [&str; 4] = ["sweep", "sweep.toml", "--out", "out"];

fn record(place: &Workplace) -> Value {
    serde_json::from_str(&fs::read_to_string(place.path("out/sweep.json")).unwrap()).unwrap()
}

/// Accuracies of a run's last epoch, of the average where there is one: the mean over the tasks.
fn accuracy(place: &Workplace, run: &str) -> f64 {
    let epoch = super::records(place, run, "epoch").pop().unwrap();
    let of = if epoch["ema"].is_object() { &epoch["ema"] } else { &epoch["val"] };
    let tasks = of.as_object().unwrap().values();
    tasks.map(|task| task["accuracy"].as_f64().unwrap()).sum::<f64>() / 3.0
}

#[test]
fn a_sweep_that_was_killed_goes_on_to_the_same_and_its_table_is_of_its_runs() {
    let whole = place("");
    let output = whole.run(&[&ARGS[..], &["--json"]].concat());
    assert_exit(&output, 0);
    let found = json(&output);
    assert_eq!(
        (&found["folder"], &found["baseline"], &found["interrupted"]),
        (&"out".into(), &"plain".into(), &false.into())
    );
    let row = |name: &str| {
        found["table"].as_array().unwrap().iter().find(|row| row["alternative"] == name).unwrap()
    };
    for name in ["plain", "averaged"] {
        let [a, b] = [42, 43].map(|seed| accuracy(&whole, &format!("out/{name}/seed-{seed}")));
        let mean = row(name)["mean"].as_f64().unwrap();
        assert!((mean - (a + b) / 2.0).abs() < 1e-12, "{name}: {mean} of {a} and {b}");
    }
    assert!(row("plain")["difference"].is_null());
    let difference = &row("averaged")["difference"];
    let expected = row("averaged")["mean"].as_f64().unwrap() - row("plain")["mean"].as_f64().unwrap();
    assert!((difference["mean"].as_f64().unwrap() - expected).abs() < 1e-12, "{difference}");
    assert!(difference["of_faces"].is_array() && difference["n"] == 2, "{difference}");
    let csv = fs::read_to_string(whole.path("out/results.csv")).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 5);
    assert!(lines[0].ends_with(",optimizer.ema_decay") && lines[4].ends_with(",0.5"), "{csv}");
    let page = fs::read_to_string(whole.path("out/sweep.html")).unwrap();
    assert!(page.contains("optimizer.ema_decay: none -&gt; 0.5"), "{page}");

    // In a step of the second seed, and before the second alternative.
    let killed = place("");
    for fault in ["kill@step#4", "kill@rename:averaged/seeds.json"] {
        let output = with_fault(&killed, &ARGS, fault);
        assert_eq!(output.status.code(), None, "{fault}: {}", stderr(&output));
    }
    assert_exit(&killed.run(&ARGS), 0);
    for name in ["plain", "averaged"] {
        for seed in [42, 43] {
            let run = format!("out/{name}/seed-{seed}");
            for file in ["model.safetensors", "state.safetensors"] {
                assert!(bytes(&killed, &run, file) == bytes(&whole, &run, file), "{run}: {file}");
            }
        }
    }
    assert_eq!(record(&killed)["table"], record(&whole)["table"]);

    // What is finished is passed over; other settings are refused.
    let before = fs::metadata(whole.path("out/plain/seed-42/metrics.jsonl")).unwrap().modified().unwrap();
    let again = whole.run(&ARGS);
    assert_exit(&again, 0);
    assert!(stderr(&again).contains("which is finished"), "{}", stderr(&again));
    let after = fs::metadata(whole.path("out/plain/seed-42/metrics.jsonl")).unwrap().modified().unwrap();
    assert_eq!(before, after);
    let file = fs::read_to_string(whole.path("sweep.toml")).unwrap();
    fs::write(whole.path("sweep.toml"), file.replace("ema_decay = 0.5", "ema_decay = 0.6")).unwrap();
    let refused = whole.run(&ARGS);
    assert_exit(&refused, 2);
    assert!(
        stderr(&refused).contains("optimizer.ema_decay: expected 0.5, as seed-42 has, found 0.6"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn without_models_figures_stay_and_runs_are_not_trained_again() {
    let place = place("models = false");
    assert_exit(&place.run(&ARGS), 0);
    let before = record(&place);
    for entry in fs::read_dir(place.path("out/plain/seed-42/checkpoints")).unwrap() {
        let names = fs::read_dir(entry.unwrap().path()).unwrap().map(|file| file.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["state.json"]);
    }
    assert_exit(&place.run(&ARGS), 0);
    assert_eq!(record(&place), before);

    fs::create_dir(place.path("mine")).unwrap();
    fs::write(place.path("mine/thesis.txt"), "").unwrap();
    let refused = place.run(&["sweep", "sweep.toml", "--out", "mine"]);
    assert_exit(&refused, 1);
    assert!(stderr(&refused).contains("found thesis.txt in it"), "{}", stderr(&refused));
}

#[test]
fn a_soup_is_the_mean_of_its_runs_and_a_greedy_one_is_no_worse_than_the_best() {
    let place = place("");
    assert_exit(&place.run(&ARGS), 0);
    let runs = ["out/plain/seed-42", "out/plain/seed-43"];
    let output = place.run(&["soup", runs[0], runs[1], "--out", "soup.safetensors", "--json"]);
    assert_exit(&output, 0);
    let soup = fs::read(place.path("soup.safetensors")).unwrap();
    let files = runs.map(|run| bytes(&place, run, "model.safetensors"));
    let values = |file: &[u8], name: &str| -> Vec<f32> {
        let tensors = safetensors::SafeTensors::deserialize(file).unwrap();
        let data = tensors.tensor(name).unwrap().data().chunks_exact(4);
        data.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    for name in ["backbone.conv1.weight", "backbone.layer3.0.bn1.bias"] {
        let [a, b] = files.each_ref().map(|file| values(file, name));
        let found = values(&soup, name);
        assert!(
            found.iter().zip(a.iter().zip(&b)).all(|(s, (a, b))| (s - (a + b) / 2.0).abs() < 1e-6),
            "{name}"
        );
    }
    // Statistics are of the averaged weights, not averages of the runs'.
    let name = "backbone.layer1.0.bn1.running_mean";
    let [a, b] = files.each_ref().map(|file| values(file, name));
    let found = values(&soup, name);
    assert!(
        found.iter().zip(a.iter().zip(&b)).any(|(s, (a, b))| (s - (a + b) / 2.0).abs() > 1e-3),
        "{found:?}"
    );
    let evaluated =
        ["evaluate", "--weights", "soup.safetensors", "--csv", "splits/ff_val.csv", "--bootstrap", "0"];
    let images = sample().join("images").display().to_string();
    assert_exit(&place.run(&[&evaluated[..], &["--images", &images]].concat()), 0);

    let output = place.run(&["soup", runs[0], runs[1], "--greedy", "--out", "greedy.safetensors", "--json"]);
    assert_exit(&output, 0);
    let greedy = json(&output)["soup"].clone();
    let best = greedy["ingredients"][0].clone();
    assert_eq!((&greedy["recipe"], &best["taken"]), (&"greedy".into(), &true.into()));
    assert!(greedy["score"].as_f64().unwrap() >= best["score"].as_f64().unwrap(), "{greedy}");

    let refused = place.run(&["soup", runs[0], "--out", "x.safetensors"]);
    assert_exit(&refused, 2);
}
