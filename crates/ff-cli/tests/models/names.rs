//! Models by name: what is listed, how they get here, and what `--model` makes of a word.

use std::net::TcpListener;

use candle_core::Device;
use ff_core::files::sha256;
use ff_model::{Architecture, Parameters};
use fs_err as fs;
use serde_json::Value;

use crate::hub::{Behaviour, Hub, assert_says, weights};
use crate::support::{Workplace, assert_exit, text};

const FAIRFACE_SHA256: &str = "9c8c47d437cd310538d233f2465f9ed0524cb7fb51882a37f74e8bc22437fdbf";

/// Puts the workplace's model where `weights fairface` would.
fn with_fairface(place: Workplace) -> Workplace {
    fs::create_dir_all(place.path("cache/fairface")).unwrap();
    fs::copy(place.path("model.safetensors"), place.path("cache/fairface/fairface.safetensors")).unwrap();
    place
}

/// A backbone under torchvision's names.
fn backbone(architecture: Architecture) -> Vec<u8> {
    let parameters = Parameters::initialise(architecture, &[], 1, &Device::Cpu).unwrap();
    let named = parameters.named().unwrap().into_iter();
    let backbone = named.filter_map(|(name, t)| Some((name.strip_prefix("backbone.")?.to_owned(), t)));
    safetensors::serialize(backbone.collect::<Vec<_>>(), None).unwrap()
}

#[test]
fn the_list_says_what_is_known_and_what_is_here() {
    let place = Workplace::new().with_model();
    let list = |place: &Workplace| place.json(&["weights", "--list", "--json"])["models"].clone();
    let models = list(&place);
    let names: Vec<&str> = models.as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["resnet34", "resnet18", "fairface"]);
    let fairface = &models[2];
    assert_eq!((&fairface["sha256"], &fairface["licence"]), (&FAIRFACE_SHA256.into(), &"CC BY 4.0".into()));
    assert_eq!((&fairface["bytes"], &fairface["here"]), (&Value::Null, &false.into()));
    assert!(fairface["credit"].as_str().unwrap().contains("Kärkkäinen and Joo"));
    assert_eq!(models[1]["repository"], "timm/resnet18.tv_in1k");

    let place = with_fairface(place);
    assert_eq!(list(&place)[2]["here"], true);
    let shown = text(&place.run(&["weights", "--list"]).stdout);
    let path = place.path("cache/fairface/fairface.safetensors").display().to_string();
    for part in [&path, "unknown", FAIRFACE_SHA256, "c983eba7f5e69bc3548a626d1b0b0b914e5de3a6", "87,278,522"]
    {
        assert!(shown.contains(part), "{part} is missing in {shown}");
    }
    assert_exit(&place.run(&["weights", "--list", "fairface"]), 2);
}

#[test]
fn after_weights_fairface_predict_works_from_an_empty_folder() {
    let place = with_fairface(Workplace::new().with_model().with_faces(2));
    fs::create_dir(place.path("empty")).unwrap();
    let (model, faces) = (place.path("cache/fairface/fairface.safetensors"), place.path("faces"));
    let faces = faces.to_str().unwrap();
    let expected = place.json(&["predict", "--weights", "model.safetensors", faces, "--json"]);
    for args in [&["predict", faces, "--json"][..], &["predict", "--model", "fairface", faces, "--json"]] {
        let output = place.command(args).current_dir(place.path("empty")).output().unwrap();
        assert_exit(&output, 0);
        let stderr = text(&output.stderr);
        assert!(stderr.contains(&format!("model   fairface, {}", model.display())), "{stderr}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["predictions"], expected["predictions"]);
        assert_eq!(found["model"], model.to_str().unwrap());
    }

    let by_name = place.json(&["embed", faces, "--out", "a.safetensors", "--json"]);
    assert_eq!((&by_name["n"], &by_name["model"]), (&2.into(), &model.to_str().unwrap().into()));
    let export = ["export", "--model", "fairface", "--format", "safetensors", "--out", "b.safetensors"];
    assert_exit(&place.run(&export), 0);
    assert!(fs::read(place.path("b.safetensors")).unwrap() == fs::read(&model).unwrap());
    let rows = "file,age,gender,race\n0.jpg,3-9,Female,White\n1.jpg,0-2,Male,Indian\n";
    fs::write(place.path("mine.csv"), rows).unwrap();
    let evaluate =
        ["evaluate", "--model", "fairface", "--csv", "mine.csv", "--images", faces, "--bootstrap", "0"];
    assert_eq!(place.json(&[&evaluate[..], &["--json"]].concat())["n"], 2);
}

#[test]
fn a_name_is_a_name_whatever_lies_in_the_folder() {
    let place = with_fairface(Workplace::new().with_model().with_faces(1));
    fs::write(place.path("fairface"), "no model").unwrap();
    assert_exit(&place.run(&["predict", "--model", "fairface", "faces"]), 0);
    assert_exit(&place.run(&["predict", "faces"]), 0);
    assert_says(&place.run(&["predict", "--model", "./fairface", "faces"]), &["fairface", "safetensors"]);
    fs::remove_file(place.path("fairface")).unwrap();
    fs::create_dir(place.path("fairface")).unwrap();
    assert_says(&place.run(&["predict", "--model", "./fairface", "faces"]), &["expected a run folder"]);
    // A word that is no name is what lies there.
    fs::copy(place.path("model.safetensors"), place.path("mine")).unwrap();
    assert_exit(&place.run(&["predict", "--model", "mine", "faces"]), 0);
}

#[test]
fn a_model_that_is_not_here_is_told_with_the_command_that_gets_it() {
    let place = Workplace::new().with_model().with_faces(1);
    let path = place.path("cache/fairface/fairface.safetensors").display().to_string();
    for command in [&["predict", "faces"][..], &["embed", "faces", "--out", "out.safetensors"], &["evaluate"]]
    {
        let output = place.run(&[command, &["--model", "fairface"]].concat());
        assert_says(&output, &["no model fairface", &path, "run `fairface weights fairface` once"]);
    }
    let output = place.run(&["predict", "faces"]);
    assert_says(&output, &["no --model, --run or --weights", "run `fairface weights fairface` once"]);
    for (args, code, expected) in [
        (vec!["--model", "fairfase"], 2, "file, found fairfase: did you mean fairface?"),
        (
            vec!["--model", "whatever"],
            2,
            "expected a name (resnet34, resnet18, fairface), a run folder or a model",
        ),
        (vec!["--model", "runs/gone"], 1, "runs/gone"),
        (vec!["--model", "gone.safetensors"], 1, "gone.safetensors"),
        (vec!["--model", "resnet34"], 2, "resnet34 is a backbone without heads"),
        (vec!["--model", "resnet34"], 2, "train --init resnet34"),
        (vec!["--model", ""], 2, "a value is required"),
        (vec!["--model", "fairface", "--weights", "model.safetensors"], 2, "cannot be used with"),
    ] {
        let output = place.run(&[&["predict", "faces"], &args[..]].concat());
        assert_exit(&output, code);
        let stderr = text(&output.stderr);
        assert!(stderr.contains(expected), "{args:?} said {stderr}");
    }
    let output = place.run(&["weights", "fairfase"]);
    assert_exit(&output, 2);
    assert!(text(&output.stderr).contains("'fairface'"), "{}", text(&output.stderr));
}

#[test]
fn other_files_under_a_name_are_refused_and_not_kept() {
    let (place, hub) = (Workplace::new(), Hub::start(Behaviour::default()));
    let found = sha256(weights());
    assert_says(
        &hub.run(&place, &["weights", "resnet18"]),
        &[
            "timm/resnet18.tv_in1k: expected torchvision's ResNet18_Weights.IMAGENET1K_V1",
            "of the file 694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
            &format!("and {found}: other weights under that name, deleted"),
        ],
    );
    assert_says(
        &hub.run(&place, &["weights", "fairface"]),
        &[
            &format!("{}/yakhyo/fairface-onnx/releases/download/weights/fairface.onnx", hub.address),
            &format!("expected SHA-256 {FAIRFACE_SHA256}, found {found}"),
            "run `fairface weights fairface --file FILE`",
        ],
    );
    let paths: Vec<String> = hub.requests.lock().unwrap().iter().map(|r| r.0.clone()).collect();
    let revision = "bbd144b3e5565108aad885f145491d11bc6ce807";
    assert_eq!(paths[0], format!("/timm/resnet18.tv_in1k/resolve/{revision}/model.safetensors"));
    assert_eq!(paths.last().unwrap(), "/yakhyo/fairface-onnx/releases/download/weights/fairface.onnx");
    let token = hub.requests.lock().unwrap().last().unwrap().2.clone();
    assert_eq!(token, None, "the hub's token is the hub's");
    let kept = fs::read_dir(place.path("cache/fairface/downloads")).unwrap().count();
    assert_eq!(kept, 0, "nothing of it is kept");
    assert!(!place.path("cache/fairface/fairface.safetensors").exists());
}

#[test]
fn an_address_that_refuses_is_silent_or_gone_says_what_to_do() {
    let (place, hub) = (Workplace::new(), Hub::start(Behaviour::default()));
    hub.become_(Behaviour { status: Some("404 Not Found"), ..Behaviour::default() });
    assert_says(&hub.run(&place, &["weights", "fairface"]), &["no such file (404)", "FAIRFACE_MIRROR"]);
    let megabyte = 1 << 20;
    hub.become_(Behaviour { cut_after: megabyte, silent: true, ..Behaviour::default() });
    let part = place.path("cache/fairface/downloads/fairface.onnx.part");
    let given_up = || {
        let output = hub.run(&place, &["weights", "fairface", "--timeout", "1"]);
        assert_says(&output, &["for 1 s; run it again, it goes on where it stopped"]);
        // A machine so busy that nothing came within the second is asked again.
        fs::metadata(&part).map(|part| part.len() as usize).ok().filter(|arrived| *arrived > 0)
    };
    let arrived = (0..5).find_map(|_| given_up()).expect("what had arrived is kept");
    // It goes on, and what it is then is looked at.
    hub.become_(Behaviour::default());
    assert_says(&hub.run(&place, &["weights", "fairface"]), &["expected SHA-256", "found"]);
    assert_eq!(hub.starts().last(), Some(&arrived));

    // A port that nobody listens on.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = place.command(&["weights", "fairface"]);
    let output = command.env("FAIRFACE_MIRROR", format!("http://{gone}")).output().unwrap();
    assert_says(&output, &["cannot be reached", "FAIRFACE_MIRROR", "fairface weights fairface --file FILE"]);
}

#[test]
fn a_file_is_kept_under_a_name_if_it_is_of_that_kind() {
    let place = Workplace::new().with_model().with_faces(1);
    fs::write(place.path("eighteen.safetensors"), backbone(Architecture::Resnet18)).unwrap();
    for (name, file, expected) in [
        (
            "fairface",
            "eighteen.safetensors",
            "expected a whole model, as fairface is one, found a resnet18 backbone",
        ),
        (
            "resnet34",
            "model.safetensors",
            "expected a resnet34 backbone, as resnet34 is one, found a whole model",
        ),
        ("resnet34", "eighteen.safetensors", "expected a resnet34 backbone"),
    ] {
        let output = place.run(&["weights", name, "--file", file]);
        assert_says(&output, &[file, expected]);
    }
    assert!(!place.path("cache").exists(), "nothing for others to find");

    let output = place.run(&["weights", "fairface", "--file", "model.safetensors", "--json"]);
    assert_exit(&output, 0);
    let installed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&installed["name"], &installed["known"]), (&"fairface".into(), &Value::Null));
    assert!(text(&output.stderr).contains("is not the file that is known"), "{}", text(&output.stderr));
    assert_exit(&place.run(&["predict", "faces"]), 0);
}

/// With another backbone's weights at hand, `auto` once stopped the run.
#[test]
fn training_begins_from_the_weights_of_its_own_backbone_or_by_name() {
    let place = Workplace::new();
    for architecture in [Architecture::Resnet34, Architecture::Resnet18] {
        fs::write(place.path("mine.safetensors"), backbone(architecture)).unwrap();
        let installed = place.json(&["weights", "--file", "mine.safetensors", "--json"]);
        let name = architecture.name();
        let path = place.path(&format!("cache/fairface/{name}.safetensors"));
        assert_eq!((&installed["path"], &installed["name"]), (&path.to_str().unwrap().into(), &name.into()));
    }
    let data = crate::support::sample();
    let (splits, images) = (data.join("splits"), data.join("images"));
    let train = ["train", "--splits", splits.to_str().unwrap(), "--images", images.to_str().unwrap()];
    let train =
        [&train[..], &["--image-size", "64", "--batch-size", "2", "--max-steps", "1", "--json"]].concat();
    let path = |name: &str| place.path(&format!("cache/fairface/{name}.safetensors"));
    for (args, name) in [
        (&["--backbone", "resnet18"][..], "resnet18"),
        (&["--backbone", "resnet18", "--init", "resnet18"], "resnet18"),
        (&["--init", "pretrained"], "resnet34"),
    ] {
        let outcome = place.json(&[&train[..], args].concat());
        assert_eq!(outcome["init"], path(name).to_str().unwrap(), "{args:?}");
    }
    assert_says(
        &place.run(&[&train[..], &["--init", "resnet18"]].concat()),
        &["the backbone: expected resnet34, found resnet18"],
    );
    fs::remove_file(path("resnet34")).unwrap();
    assert_says(
        &place.run(&[&train[..], &["--init", "resnet34"]].concat()),
        &["no model resnet34", "run `fairface weights resnet34` once"],
    );
}
