//! `serve` as a process: the rows of `predict`, signals, what it refuses to start with, its page in a browser.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use fs_err as fs;
use serde_json::Value;

use crate::client::{Reply, form, get, open, post, request};
use crate::support::{Workplace, assert_exit, largest_difference, sample, text};

/// A server in a process of its own, which ends with the test.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// What it said when it began to listen.
    said: Value,
}

impl Server {
    /// Of the model file of a workplace.
    pub fn start(place: &Workplace, args: &[&str]) -> Self {
        Self::of(place, &[&["--weights", "model.safetensors"], args].concat())
    }

    pub fn of(place: &Workplace, args: &[&str]) -> Self {
        let usual = ["serve", "--json", "--address", "127.0.0.1:0"];
        let mut child = place.command(&[&usual[..], args].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut object = String::new();
        while !object.ends_with("}\n") {
            let line = lines.next().expect("it says its address").unwrap();
            object += &(line + "\n");
        }
        let said: Value = serde_json::from_str(&object).unwrap();
        Self { child, address: said["address"].as_str().unwrap().parse().unwrap(), said }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that a test has ended is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn photo(name: &str) -> Vec<u8> {
    fs::read(sample().join("../photos").join(name)).unwrap()
}

/// The rows of two answers, which are the same but for the last bits that the size of a batch decides.
#[track_caller]
fn assert_same_rows(served: &Value, predicted: &Value) {
    let (served, predicted) = (served.as_array().unwrap(), predicted.as_array().unwrap());
    assert_eq!(served.len(), predicted.len());
    for (served, predicted) in served.iter().zip(predicted) {
        assert_eq!(served["face"], predicted["face"]);
        let keys = |row: &Value| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(served), keys(predicted));
        for task in ["age", "gender", "race"].iter().filter(|task| predicted.get(*task).is_some()) {
            assert_eq!(served[task]["label"], predicted[task]["label"]);
            let probabilities = |row: &Value| row[task]["probabilities"].clone();
            assert!(largest_difference(&probabilities(served), &probabilities(predicted)) < 1e-5);
        }
    }
}

#[test]
fn rows_are_those_of_predict() {
    let place = Workplace::new().with_model();
    for name in ["astronaut.png", "coffee.png", "fairface_montage.png"] {
        fs::write(place.path(name), photo(name)).unwrap();
    }
    let server = Server::start(&place, &["--tasks", "age,gender,race"]);
    for (name, flags, query) in [
        ("astronaut.png", &[][..], ""),
        ("coffee.png", &[], ""),
        ("fairface_montage.png", &[], ""),
        ("fairface_montage.png", &["--faces", "largest"], "faces=largest"),
        ("fairface_montage.png", &["--max-faces", "2", "--min-score", "0.9"], "max_faces=2&min_score=0.9"),
        ("fairface_montage.png", &["--min-face", "100"], "min_face=100"),
        ("fairface_montage.png", &["--min-sharpness", "20"], "min_sharpness=20"),
        ("astronaut.png", &["--faces", "crop"], "faces=crop"),
    ] {
        let predicted =
            place.json(&[&["predict", "--json", "--weights", "model.safetensors", name], flags].concat());
        let target = format!("/v1/faces?name={name}&{query}");
        let served = post(server.address, &target, "image/png", &photo(name));
        assert_eq!(served.status, 200, "{}", served.text());
        let served = served.json();
        assert_same_rows(&served["predictions"], &predicted["predictions"]);
        assert_eq!(served["predictions"][0]["file"], name);
        for count in ["n", "faces", "photos", "without_face", "set_aside"] {
            assert!(
                predicted.get(count).is_none() || served[count] == predicted[count],
                "{name} {query} {count}"
            );
        }
    }
    let all = ["astronaut.png", "coffee.png", "fairface_montage.png"];
    let predicted =
        place.json(&[&["predict", "--json", "--weights", "model.safetensors"], &all[..]].concat());
    let photos = all.map(photo);
    let files: Vec<(&str, &[u8])> = all.into_iter().zip(photos.iter().map(Vec::as_slice)).collect();
    let (kind, body) = form(&files);
    let served = post(server.address, "/v1/faces", &kind, &body).json();
    assert_same_rows(&served["predictions"], &predicted["predictions"]);
}

#[test]
fn embeddings_are_those_of_embed() {
    let place = Workplace::new().with_model();
    fs::write(place.path("montage.png"), photo("fairface_montage.png")).unwrap();
    place.json(&[
        "embed",
        "--json",
        "--weights",
        "model.safetensors",
        "montage.png",
        "--out",
        "e.safetensors",
    ]);
    let file = fs::read(place.path("e.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    let expected = file.tensor("embeddings").unwrap();
    let expected: Vec<f32> =
        expected.data().chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();

    let server = Server::start(&place, &[]);
    let served = post(server.address, "/v1/embed", "image/png", &photo("fairface_montage.png")).json();
    let rows = served["embeddings"].as_array().unwrap();
    let found: Vec<f64> = rows
        .iter()
        .flat_map(|row| row["embedding"].as_array().unwrap())
        .map(|value| value.as_f64().unwrap())
        .collect();
    assert_eq!((found.len(), &served["dim"]), (expected.len(), &512.into()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - f64::from(expected)).abs() < 1e-4, "{found} {expected}");
    }
}

#[test]
fn race_is_answered_where_it_is_named_alone() {
    let place = Workplace::new().with_model();
    let server = Server::start(&place, &[]);
    assert_eq!(server.said["tasks"], serde_json::json!(["age", "gender"]));
    assert_eq!(server.said["off"], serde_json::json!(["race"]));
    let row = post(server.address, "/v1/faces", "image/png", &photo("astronaut.png")).json();
    assert!(
        row["predictions"][0].get("age").is_some() && row["predictions"][0].get("race").is_none(),
        "{row}"
    );
    let about = get(server.address, "/v1/model").json();
    assert!(about["off"][0]["why"].as_str().unwrap().contains("Article 5(1)(g)"), "{about}");
    assert_eq!(about["name"], "model");
    let output = place.run(&["serve", "--weights", "model.safetensors", "--tasks", "age,mood"]);
    assert_exit(&output, 2);
    assert!(text(&output.stderr).contains("tasks: expected some of age, gender, race, found \"mood\""));
}

#[test]
fn a_public_address_needs_a_token_that_will_do() {
    let place = Workplace::new().with_model();
    let serve = |args: &[&str]| place.run(&[&["serve", "--weights", "model.safetensors"], args].concat());
    let output = serve(&["--address", "0.0.0.0:0"]);
    assert_exit(&output, 2);
    assert!(text(&output.stderr).contains("0.0.0.0:0 can be reached from other machines"));
    fs::write(place.path("token"), "short\n").unwrap();
    let output = serve(&["--address", "0.0.0.0:0", "--token-file", "token"]);
    assert_exit(&output, 1);
    assert!(text(&output.stderr).contains("token: expected a token of 16 to 1024 characters"));

    fs::write(place.path("token"), "0123456789abcdef\n").unwrap();
    let server = Server::start(&place, &["--token-file", "token", "--host", "faces.example"]);
    get(server.address, "/v1/model").assert_problem(401, "found none");
    let with = |headers: &[(&str, &str)]| {
        Reply::read(open(server.address, &request("GET", "/v1/model", headers, b""))).status
    };
    let token = ("Authorization", "Bearer 0123456789abcdef");
    assert_eq!(with(&[token]), 200);
    assert_eq!(with(&[token, ("Host", "faces.example:443")]), 200);
    assert_eq!(with(&[token, ("Host", "other.example")]), 403);

    let taken = format!("127.0.0.1:{}", server.address.port());
    let output = serve(&["--address", &taken]);
    assert_exit(&output, 1);
    assert!(text(&output.stderr).contains(&format!("cannot listen on {taken}")));
}

#[test]
fn asked_to_stop_it_ends_well() {
    let place = Workplace::new().with_model();
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&place, &[]);
        assert_eq!(get(server.address, "/v2/health/ready").status, 200);
        // Connections that are idle do not hold it up.
        let _idle = open(server.address, b"");
        server.signal(signal);
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "{signal}");
    }
}
