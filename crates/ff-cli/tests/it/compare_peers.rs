//! `bench compare`, beside a shell script that stands for Python with its peers, and beside the real ones.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fs_err as fs;
use serde_json::Value;

use crate::find_python::python;
use crate::workplace::{Workplace, assert_exit, json, sample, stderr};

/// What a fake is asked for itself, `-V`, and for its modules: `-c PROBE MODULE`. Calls of scripts go to `calls`,
/// with the process.
const PROBE: &str = "#!/bin/sh\n\
    [ \"$1\" = -V ] && exit\n\
    if [ \"$1\" = -c ]; then case $3 in\n\
    torch | torchvision | onnxruntime | openvino) echo \"a library says hello\"; echo \"1.$3\"; exit ;;\n\
    *) echo Traceback >&2; echo \"ModuleNotFoundError: No module named '$3'\" >&2; exit 1 ;;\n\
    esac; fi\n\
    echo \"$$ $*\" >>calls\n";

/// A small network, one timed step.
const SMALL: [&str; 11] = [
    "bench",
    "compare",
    "--backbone",
    "resnet18",
    "--image-size",
    "64",
    "--batch-size",
    "2",
    "--steps",
    "1",
    "--splits",
];

fn args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let images: &str = Box::leak(sample().join("images").to_string_lossy().into_owned().into_boxed_str());
    [&SMALL[..], &["splits", "--images", images], more].concat()
}

/// A workplace with `./python`, which does `cases` of a shell's `case "$1 $3" in`: script and what tells peers apart.
fn with_fake(cases: &str) -> Workplace {
    let place = Workplace::new();
    let path = place.path("python");
    fs::write(&path, format!("{PROBE}case \"${{1##*/}} $3\" in\n{cases}\nesac\n")).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    place
}

fn calls(place: &Workplace) -> Vec<String> {
    let calls = fs::read_to_string(place.path("calls")).unwrap_or_default();
    calls.lines().map(str::to_owned).collect()
}

fn is_running(process: &str) -> bool {
    let state = Command::new("ps").args(["-o", "stat=", "-p", process]).output().unwrap();
    let state = String::from_utf8(state.stdout).unwrap();
    !state.trim().is_empty() && !state.starts_with('Z')
}

fn peer<'a>(case: &'a Value, name: &str) -> &'a Value {
    let peers = case["peers"].as_array().unwrap();
    peers.iter().find(|peer| peer["name"] == name).unwrap_or_else(|| panic!("no {name} in {case}"))
}

#[test]
fn a_peer_that_fails_or_hangs_costs_itself_alone() {
    let place = with_fake(
        "'infer.py pytorch')\n\
           for file in model.safetensors model.onnx logits.json; do test -s \"${1%/*}/$file\" || exit 7; done\n\
           echo noise; echo '{\"ms_per_batch\": 4.0, \"peak_rss_mib\": 500, \"difference\": 1e-6}' ;;\n\
         'infer.py onnxruntime') echo 'RuntimeError: no such kernel' >&2; exit 3 ;;\n\
         'infer.py openvino') sleep 600 & echo \"$! sleeps\" >>calls; wait ;;",
    );
    let more = ["--peers", "./python", "--only", "infer", "--precision", "f32", "--rounds", "2"];
    let output = place.run(&args(&[&more[..], &["--threads", "1", "--timeout", "20", "--json"]].concat()));
    assert_exit(&output, 0);
    let (said, found) = (stderr(&output), json(&output));
    assert!(said.contains("plan    infer f32, batch 2: ours, PyTorch, ONNX Runtime, OpenVINO"), "{said}");

    let [case] = &found["cases"].as_array().unwrap()[..] else { panic!("{found}") };
    assert_eq!((&case["work"], &case["precision"]), (&"infer".into(), &"f32".into()));
    let ours = case["ours"]["images_per_s"].as_f64().unwrap();
    let of_torch = peer(case, "PyTorch");
    assert_eq!(of_torch["images_per_s"], 500.0);
    assert_eq!(of_torch["rounds"], serde_json::json!([500.0, 500.0]));
    assert_eq!(case["ours"]["rounds"].as_array().unwrap().len(), 2);
    assert_eq!((&case["best"]["name"], &case["best"]["ratio"]), (&"PyTorch".into(), &(ours / 500.0).into()));

    let failure = |name: &str| &peer(case, name)["failure"];
    assert!(failure("ONNX Runtime")["message"].as_str().unwrap().contains("exit status: 3"), "{case}");
    assert_eq!(failure("ONNX Runtime")["stderr"], "RuntimeError: no such kernel");
    assert!(failure("OpenVINO")["message"].as_str().unwrap().contains("within 20 s"), "{case}");
    assert!(said.contains("RuntimeError: no such kernel") && said.contains("within 20 s"), "{said}");

    // Who has failed is not asked again, and what hung is gone with all that it started.
    let calls = calls(&place);
    let asked = |name: &str| calls.iter().filter(|call| call.contains(name)).count();
    assert_eq!(
        (asked("--system pytorch"), asked("--system onnxruntime"), asked("--system openvino")),
        (2, 1, 1)
    );
    let hung = calls.iter().filter(|call| call.contains("openvino") || call.contains("sleeps"));
    let hung: Vec<&str> = hung.filter_map(|call| call.split_whitespace().next()).collect();
    assert_eq!(hung.len(), 2, "{calls:?}");
    assert!(!hung.iter().any(|process| is_running(process)), "{calls:?}");
}

#[test]
fn nonsense_and_other_networks_are_no_figures_and_nothing_to_compare_with_is_exit_code_1() {
    let place = with_fake(
        "'train_step.py contiguous') echo '{\"ms_per_batch\": 1e6}' ;;\n\
         'train_step.py channels_last') echo '{\"ms_per_batch\": 1, \"difference\": 0.5}' ;;\n\
         'loader.py torchvision-v2') test -s \"${1%/*}/files.txt\" && echo 'an epoch took 3 s' ;;",
    );
    let more = ["--peers", "./python", "--only", "train,loader", "--precision", "f32", "--rounds", "1"];
    let output = place.run(&args(&more));
    assert_exit(&output, 1);
    let said = stderr(&output);
    assert!(
        said.contains("without albumentations (loader): cv2: ModuleNotFoundError: No module named 'cv2'"),
        "{said}"
    );
    assert!(
        said.contains("PyTorch channels_last, train f32, batch 2: expected our network's logits"),
        "{said}"
    );
    assert!(said.contains("torchvision v2, loader, batch 2: expected a JSON object"), "{said}");
    assert!(said.contains("found `an epoch took 3 s`"), "{said}");
    let table = String::from_utf8(output.stdout).unwrap();
    let [train, row, empty, loader, of_loader] = table.lines().collect::<Vec<_>>()[..] else {
        panic!("{table}")
    };
    assert!(train.contains("PyTorch channels_last") && train.ends_with("ours to the best"), "{table}");
    assert!(
        row.contains("train f32") && row.contains("failed") && row.ends_with("PyTorch contiguous"),
        "{table}"
    );
    assert!(empty.is_empty() && loader.contains("torchvision v2"), "{table}");
    assert!(of_loader.ends_with("failed"), "{table}");
}

#[test]
fn ctrl_c_ends_whoever_runs_and_the_comparison() {
    let place = with_fake("*) sleep 600 ;;");
    let more = ["--peers", "./python", "--only", "infer", "--precision", "f32", "--json"];
    let child = place.command(&args(&more)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let clock = Instant::now();
    while calls(&place).is_empty() {
        assert!(clock.elapsed() < Duration::from_secs(300), "the first peer is not reached");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_exit(&output, 130);
    let found = json(&output);
    assert_eq!((&found["interrupted"], &found["cases"]), (&true.into(), &serde_json::json!([])));
    let process = calls(&place)[0].split_whitespace().next().unwrap().to_owned();
    assert!(!is_running(&process));
}

#[test]
fn what_cannot_be_compared_is_a_usage_error() {
    let place = with_fake("");
    let run = |more: &[&str]| -> Output { place.run(&args(more)) };
    for (more, expected) in [
        (
            &["--peers", "./no-python"][..],
            "./no-python: expected a Python, found a program that cannot be started",
        ),
        (
            &["--peers", "./python", "--only", "train", "--precision", "int8"],
            "expected a work that some peer does",
        ),
        (&["--peers", "./python", "--only", "sleep"][..], "infer, train, loader"),
        (&["--peers", "./python", "--rounds", "0"][..], "expected a whole number from 1 to 1000"),
        (&[][..], "--peers <PYTHON>"),
    ] {
        let output = run(more);
        assert_exit(&output, 2);
        assert!(stderr(&output).contains(expected), "{more:?}: {}", stderr(&output));
    }
    assert!(!Path::new(&place.path("calls")).exists());
}

/// Some minutes where Python's modules are read for the first time.
#[test]
fn real_peers_compute_our_network() {
    let test = "real_peers_compute_our_network";
    let Some(python) = python(test, "numpy, onnxruntime") else { return };
    let bf16 = ff_model::Precision::Bf16.runs_on_this_cpu();
    let precisions = if bf16 { "f32,bf16,int8" } else { "f32,int8" };
    let more = ["--peers", &python, "--precision", precisions, "--rounds", "1", "--json"];
    let output = Workplace::new().run(&args(&more));
    assert_exit(&output, 0);
    let found = json(&output);
    let cases = found["cases"].as_array().unwrap();
    eprintln!("{}", stderr(&output));
    for case in cases {
        for peer in case["peers"].as_array().unwrap() {
            eprintln!("{} {} {}: {}", case["work"], case["precision"], peer["name"], peer["difference"]);
            assert!(peer["images_per_s"].as_f64().unwrap() > 0.0, "{peer}");
            if case["work"] == "infer" && case["precision"] == "f32" {
                assert!(peer["difference"].as_f64().unwrap() < 1e-4, "{peer}");
            }
        }
    }
    let runtime = cases.iter().find(|case| case["work"] == "infer" && case["precision"] == "f32").unwrap();
    assert!(peer(runtime, "ONNX Runtime")["difference"].is_number());
}
