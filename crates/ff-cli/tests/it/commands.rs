//! Every command does what its help says; usage errors and failures say what was expected.

use crate::workplace::{Workplace, assert_exit, json, sample, stderr};
use fs_err as fs;

#[test]
fn help_names_every_command_and_usage_errors_exit_with_2() {
    let place = Workplace::new();
    let help = place.run(&["--help"]);
    assert_exit(&help, 0);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for command in ["train", "evaluate", "sanity", "summary", "bench"] {
        assert!(text.contains(command), "{command} is missing in {text}");
    }
    fs::write(place.path("bad.toml"), "[train]\nepoch = 3\n").unwrap();
    for (args, expected) in [
        (&["train", "--epoch", "3"][..], "--epochs"),
        (&["train", "--engine", "warp"], "reference"),
        (&["train", "--device", "tpu"], "expected cpu, cuda or cuda:N, found `tpu`"),
        (&["train", "--epochs", "0"], "expected a whole number from 1 to 1000000"),
        (&["train", "--config", "bad.toml"], "bad.toml: unknown key train.epoch: did you mean train.epochs?"),
        (&["train", "--resume"], "--run-dir"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let output = place.run(args);
        assert_exit(&output, 2);
        assert!(stderr(&output).contains(expected), "{args:?} said {}", stderr(&output));
    }
}

#[test]
fn failures_exit_with_1_and_say_what_was_looked_for() {
    let place = Workplace::new();
    for (args, expected) in [
        (vec!["train", "--splits", "nowhere"], "nowhere"),
        (
            place.train_args(&["--batch-size", "4", "--init", "pretrained", "--backbone", "resnet18"]),
            "cache/fairface/resnet18.safetensors",
        ),
        (place.train_args(&["--batch-size", "4", "--init", "missing.safetensors"]), "missing.safetensors"),
        (place.train_args(&["--batch-size", "4", "--device", "cuda"]), "--features cuda"),
        (vec!["evaluate", "--run", "nowhere"], "nowhere"),
    ] {
        let output = place.run(&args);
        assert_exit(&output, 1);
        assert!(stderr(&output).contains(expected), "{args:?} said {}", stderr(&output));
    }
    assert!(!place.path("runs").exists(), "a run that cannot begin leaves no folder");
}

#[test]
fn summary_counts_the_parameters() {
    let place = Workplace::new();
    let output = place.run(&["summary", "--json", "--batch-size", "2"]);
    assert_exit(&output, 0);
    let summary = json(&output);
    assert_eq!(summary["total_params"], 21_556_562);
    assert_eq!(summary["trainable_params"], 21_556_562);
    let layers = summary["layers"].as_array().unwrap();
    let downsample = layers.iter().find(|l| l["name"] == "backbone.layer2.0.downsample.0").unwrap();
    assert_eq!(downsample["input"], serde_json::json!([2, 64, 56, 56]));
    assert_eq!(downsample["output"], serde_json::json!([2, 128, 28, 28]));
    let shallow = json(&place.run(&["summary", "--json", "--depth", "1", "--freeze-backbone"]));
    assert_eq!(shallow["layers"].as_array().unwrap().len(), 5);
    assert_eq!(shallow["trainable_params"], 21_556_562 - 21_284_672);
}

/// Where neither `FAIRFACE_WEIGHTS` nor the cache has any, the program's own weights are those of its file in the
/// repository; a backbone that it has none of starts from random ones, which nobody can overlook.
#[test]
fn training_starts_from_the_weights_that_the_program_carries() {
    let place = Workplace::new();
    let first_model = |name: &str, args: &[&str]| {
        let run = [&["--max-steps", "1", "--freeze-backbone", "--run-dir", name][..], args].concat();
        let output = place.train(&run);
        assert_exit(&output, 0);
        (fs::read(place.path(name).join("checkpoints/step-0/model.safetensors")).unwrap(), stderr(&output))
    };
    let file = sample().with_file_name("weights").join("resnet34-imagenet.safetensors");
    let (by_file, said) = first_model("by-file", &["--init", file.to_str().unwrap()]);
    assert!(said.contains("weights/resnet34-imagenet.safetensors"), "{said}");
    for init in ["auto", "pretrained"] {
        let (bundled, said) = first_model(init, &["--init", init]);
        assert!(said.contains("weights resnet34-imagenet, bundled, 8 bits"), "{said}");
        assert!(bundled == by_file, "{init}");
    }
    let (random, said) = first_model("random", &["--init", "random"]);
    assert!(said.contains("weights random, as asked") && random != by_file, "{said}");
    let (_, said) = first_model("resnet18", &["--backbone", "resnet18"]);
    assert!(said.contains("STARTING FROM RANDOM WEIGHTS"), "{said}");
}

/// Also the invariant that the project is built on: stopped and resumed is the same bytes as never stopped.
#[test]
fn train_writes_a_run_that_resumes_exactly_and_evaluates() {
    let place = Workplace::new();
    // Its rate is the same whatever `--max-steps` says.
    let constant = ["--epochs", "2", "--schedule", "constant"];
    let whole = place.train(&[&constant[..], &["--run-dir", "whole", "--json"]].concat());
    assert_exit(&whole, 0);
    assert!(stderr(&whole).contains("weights resnet34-imagenet, bundled"), "{}", stderr(&whole));
    let outcome = json(&whole);
    assert_eq!(
        (&outcome["steps"], &outcome["epochs"], &outcome["init"]),
        (&4.into(), &2.into(), &"resnet34-imagenet, bundled, 8 bits".into())
    );
    assert!(outcome["images_per_s"].as_f64().unwrap() > 0.0 && outcome["train_loss"].as_f64().unwrap() > 0.0);
    for task in ["age", "gender", "race"] {
        assert!((0.0..=1.0).contains(&outcome["val"][task]["accuracy"].as_f64().unwrap()));
    }
    for file in
        ["config.toml", "run.json", "metrics.jsonl", "metrics.csv", "checkpoints/best/model.safetensors"]
    {
        assert!(place.path("whole").join(file).is_file(), "{file}");
    }

    // Three of four steps stop inside the second epoch.
    assert_exit(&place.train(&[&constant[..], &["--max-steps", "3", "--run-dir", "parts"]].concat()), 0);
    let resumed = place.run(&["train", "--resume", "--run-dir", "parts", "--max-steps", "4", "--json"]);
    assert_exit(&resumed, 0);
    assert_eq!(json(&resumed)["steps"], 4);
    for file in ["model.safetensors", "state.safetensors"] {
        let bytes = |run: &str| fs::read(place.path(run).join("checkpoints/last").join(file)).unwrap();
        assert!(bytes("whole") == bytes("parts"), "{file} differs after resuming");
    }
    let again = place.train(&["--run-dir", "whole"]);
    assert_exit(&again, 1);
    assert!(stderr(&again).contains("holds a run already"), "{}", stderr(&again));

    let evaluation = place.run(&[
        "evaluate",
        "--run",
        "whole",
        "--checkpoint",
        "last",
        "--group-by",
        "race,gender",
        "--json",
    ]);
    assert_exit(&evaluation, 0);
    let evaluation = json(&evaluation);
    assert_eq!(evaluation["n"], 5, "the partial batch counts");
    for task in ["age", "gender", "race"] {
        let metrics = &evaluation["tasks"][task];
        assert_eq!(metrics["accuracy"], outcome["val"][task]["accuracy"], "as the training said");
        for metric in ["balanced_accuracy", "macro_f1", "ece", "nll"] {
            assert!(metrics[metric].is_f64(), "{task} {metric}");
        }
        assert_eq!(metrics.get("one_off").is_some(), task == "age");
    }
    let own = place.run(&["evaluate", "--run", "whole", "--csv", "splits/ff_test.csv", "--json"]);
    assert_exit(&own, 0);
    assert_eq!(json(&own)["n"], 3, "a CSV of one's own, in the run's images folder");

    let groups = evaluation["groups"].as_array().unwrap();
    let n_of =
        |by: &str| groups.iter().filter(|g| g["by"] == by).map(|g| g["n"].as_u64().unwrap()).sum::<u64>();
    assert_eq!((n_of("race"), n_of("gender"), n_of("age")), (5, 5, 0), "groups sum to the whole");
}

#[test]
fn sanity_fails_with_a_frozen_backbone() {
    let place = Workplace::new();
    let images = sample().join("images").to_string_lossy().into_owned();
    let output =
        place.run(&["sanity", "--splits", "splits", "--images", &images, "--freeze-backbone", "--json"]);
    assert_exit(&output, 1);
    let report = json(&output);
    assert_eq!(report["passed"], false);
    let checks = report["checks"].as_array().unwrap();
    for check in checks.iter().filter(|c| c["name"].as_str().unwrap().starts_with("gradients_from_")) {
        assert_eq!(check["passed"], false, "{check}");
        assert!(check["detail"].as_str().unwrap().contains("backbone.conv1.weight"), "{check}");
    }
}

#[test]
fn bench_ranks_reports_what_a_shared_step_waits_for() {
    let args = ["bench", "ranks", "--splits", "splits", "--batch-size", "2", "--steps", "1", "--json"];
    let output = Workplace::new().run(&args);
    assert_exit(&output, 0);
    let figures = json(&output);
    assert_eq!((&figures["ranks"], &figures["batch_size"]), (&1.into(), &2.into()));
    let positive = |name: &str| figures[name].as_f64().unwrap() > 0.0;
    assert!(["images_per_s", "compute_ms", "gradient_mb"].into_iter().all(positive), "{figures}");
    for rows in ["machines", "gpus"].map(|of| figures["projection"][of].as_array().unwrap()) {
        let share = |row: &serde_json::Value, of: &str| row[of].as_f64().unwrap();
        assert!(!rows.is_empty());
        assert!(rows.iter().all(|row| share(row, "efficiency_without_overlap") < 1.0), "{rows:?}");
        let hides =
            |row: &serde_json::Value| share(row, "efficiency") >= share(row, "efficiency_without_overlap");
        assert!(rows.iter().all(hides), "{rows:?}");
    }
}

#[test]
fn bench_reports_speed_and_memory() {
    let place = Workplace::new();
    let images = sample().join("images").to_string_lossy().into_owned();
    for stage in ["loader", "train", "infer"] {
        let args = [
            "bench",
            stage,
            "--splits",
            "splits",
            "--images",
            &images,
            "--batch-size",
            "2",
            "--steps",
            "1",
            "--json",
        ];
        let output = place.run(&args);
        assert_exit(&output, 0);
        let figures = json(&output);
        assert!(
            figures["images_per_s"].as_f64().unwrap() > 0.0
                && figures["ms_per_batch"].as_f64().unwrap() > 0.0
        );
        if cfg!(target_os = "linux") {
            assert!(figures["peak_rss_mib"].as_u64().unwrap() > 0);
        }
    }
}

/// Found in the first validation before, when an epoch was lost.
#[test]
fn a_bad_validation_image_stops_a_run_before_its_folder_is_made() {
    let place = Workplace::new();
    let csv = place.path("splits/ff_val.csv");
    let text = fs::read_to_string(&csv).unwrap() + "val/gone.jpg,3-9,Male,White\n";
    fs::write(&csv, text).unwrap();
    let output = place.train(&["--epochs", "1", "--init", "random"]);
    assert_exit(&output, 1);
    let message = stderr(&output);
    assert!(
        message.contains("1 of 14 images cannot be used:") && message.contains("val/gone.jpg"),
        "{message}"
    );
    assert!(!place.path("runs").exists());
}
