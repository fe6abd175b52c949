//! Work: batches, room, time, panics, the end.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::client::{Reply, form, open, post, request};
use crate::place::{Setup, data, face};

const CROP: &str = "/v1/faces?faces=crop";

/// A white picture, at which the network panics.
fn white() -> Vec<u8> {
    let mut bmp = b"BM".to_vec();
    let header: [u32; 13] =
        [54 + 64 * 64 * 3, 0, 54, 40, 64, 64, 1 | 24 << 16, 0, 64 * 64 * 3, 2835, 2835, 0, 0];
    bmp.extend(header.iter().flat_map(|word| word.to_le_bytes()));
    bmp.extend(std::iter::repeat_n(255, 64 * 64 * 3));
    bmp
}

#[test]
fn a_photo_is_answered_with_the_served_tasks_alone() {
    let place = Setup::default().start();
    let reply = place.post("/v1/faces?faces=crop&name=a.jpg", &face());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    let row = &answer["predictions"][0];
    assert_eq!((&row["file"], &answer["n"], &answer["failed"]), (&json!("a.jpg"), &json!(1), &json!([])));
    assert!(row.get("race").is_none(), "{row}");
    let sum: f64 = row["age"]["probabilities"].as_object().unwrap().values().filter_map(|p| p.as_f64()).sum();
    assert!((sum - 1.0).abs() < 1e-5);
    let timing = reply.header("server-timing").unwrap();
    for stage in ["queue;dur=", "detect;dur=", "model;dur="] {
        assert!(timing.contains(stage), "{timing}");
    }
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert!(reply.header("content-security-policy").unwrap().starts_with("default-src 'none'"));

    let one = place.post("/v1/faces?faces=crop&tasks=gender", &face()).json();
    assert_eq!(one["predictions"][0].as_object().unwrap().keys().collect::<Vec<_>>(), ["file", "gender"]);
    place.post("/v1/faces?tasks=race", &face()).assert_problem(400, "found \"race\": To infer race");
    place.post("/v1/faces?tasks=mood", &face()).assert_problem(400, "expected some of age, gender");
    assert_eq!(place.get("/v1/model").json()["off"][0]["task"], "race");

    let embedded = place.post("/v1/embed?faces=crop", &face()).json();
    assert_eq!(embedded["embeddings"][0]["embedding"].as_array().unwrap().len(), 4);

    let coffee = place.post("/v1/faces", &data("photos/coffee.png")).json();
    assert_eq!(coffee["predictions"], json!([{ "file": "photo", "face": null }]));
    assert_eq!((&coffee["n"], &coffee["without_face"]), (&json!(0), &json!(1)));
    place.stop();
}

#[test]
fn a_form_is_answered_photo_by_photo() {
    let place = Setup::default().start();
    let (face, broken) = (face(), b"no photo".to_vec());
    let (kind, body) = form(&[("a.jpg", &face), ("b.jpg", &broken), ("c.jpg", &face)]);
    let answer = post(place.address, CROP, &kind, &body).json();
    let files: Vec<_> =
        answer["predictions"].as_array().unwrap().iter().map(|row| row["file"].clone()).collect();
    assert_eq!(files, ["a.jpg", "c.jpg"]);
    assert_eq!((&answer["failed"][0]["file"], &answer["photos"]), (&json!("b.jpg"), &json!(2)));

    let (kind, body) = form(&[("a.jpg", &broken), ("b.jpg", &broken)]);
    post(place.address, CROP, &kind, &body).assert_problem(422, "none of 2 photos can be used; the first: ");
    let (kind, body) = form(&[]);
    post(place.address, CROP, &kind, &body).assert_problem(400, "at least one part with a file name");
    let (kind, body) = form(&[("a.jpg", &face[..]); 9]);
    post(place.address, CROP, &kind, &body)
        .assert_problem(422, "expected at most 8 images in a request, found 9");
    place.stop();
}

#[test]
fn batches_are_what_piled_up() {
    let (setup, gate) = Setup::gated();
    let place = setup.start();
    let (address, body) = (place.address, face());
    let ask = || {
        let body = body.clone();
        thread::spawn(move || post(address, CROP, "image/jpeg", &body).status)
    };
    let first = ask();
    place.until(|place| place.script.begun.lock().unwrap().len() == 1);
    let others: Vec<_> = (0..4).map(|_| ask()).collect();
    // Cut and waiting, as far as the network's queue shows.
    place.until(|place| place.figure("detect_seconds_count") >= 5.0);
    (0..5).for_each(|_| gate.send(()).unwrap());
    assert_eq!(first.join().unwrap(), 200);
    others.into_iter().for_each(|other| assert_eq!(other.join().unwrap(), 200));
    let begun = place.script.begun.lock().unwrap().clone();
    assert!(begun[0] == 1 && begun.len() < 5 && begun.iter().sum::<usize>() == 5, "{begun:?}");
    place.stop();
}

#[test]
fn without_room_a_request_is_refused_at_once() {
    let (setup, gate) = Setup::gated();
    let place = Setup { queue: 2, ..setup }.start();
    let (address, body) = (place.address, face());
    let ask = || {
        let body = body.clone();
        thread::spawn(move || post(address, CROP, "image/jpeg", &body))
    };
    let inside = [ask(), ask()];
    place.until(|place| place.figure("images_in_house") == 2.0);
    let refused = place.post(CROP, &body);
    refused.assert_problem(429, "2 images are being worked on already");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let (kind, two) = form(&[("a.jpg", &body), ("b.jpg", &body)]);
    post(address, CROP, &kind, &two).assert_problem(429, "");
    (0..2).for_each(|_| gate.send(()).unwrap());
    inside.into_iter().for_each(|inside| assert_eq!(inside.join().unwrap().status, 200));
    gate.send(()).unwrap();
    assert_eq!(place.post(CROP, &body).status, 200, "there is room again as soon as an answer is out");
    assert_eq!(place.figure("refused_total"), 2.0);
    place.stop();
}

#[test]
fn an_answer_that_comes_too_late_is_a_504_and_its_work_is_dropped() {
    let (setup, gate) = Setup::gated();
    let place = Setup { timeout: Duration::from_secs(2), ..setup }.start();
    place.post(CROP, &face()).assert_problem(504, "expected an answer within 2 s");
    // The first is in the network still; this one waits before it until nobody wants it.
    place.post(CROP, &face()).assert_problem(504, "");
    gate.send(()).unwrap();
    place.until(|place| place.figure("dropped_total") >= 1.0);
    assert_eq!(*place.script.begun.lock().unwrap(), [1]);
    place.stop();
}

#[test]
fn what_nobody_waits_for_any_more_is_not_judged() {
    let (setup, gate) = Setup::gated();
    let place = setup.start();
    let bytes = request("POST", CROP, &[("Content-Type", "image/jpeg")], &face());
    let first = open(place.address, &bytes);
    place.until(|place| place.script.begun.lock().unwrap().len() == 1);
    let second = open(place.address, &bytes);
    place.until(|place| place.figure("detect_seconds_count") >= 2.0);
    drop(second);
    // The server has seen it leave when it answers whoever came after.
    (0..3).for_each(|_| assert_eq!(place.get("/v2/health/live").status, 200));
    gate.send(()).unwrap();
    assert_eq!(Reply::read(first).status, 200);
    place.until(|place| place.figure("dropped_total") >= 1.0);
    assert_eq!(*place.script.begun.lock().unwrap(), [1]);
    place.stop();
}

#[test]
fn a_panic_is_one_answer_and_no_end() {
    let place = Setup::default().start();
    for _ in 0..2 {
        place.post(CROP, &white()).assert_problem(500, "a bug: a white image");
        assert_eq!(place.post(CROP, &face()).status, 200);
    }
    assert_eq!(place.figure("panics_total"), 2.0);
    place.stop();
}

#[test]
fn what_has_begun_is_finished_and_nothing_new_begins() {
    let (setup, gate) = Setup::gated();
    let mut place = setup.start();
    let bytes = request("POST", CROP, &[("Content-Type", "image/jpeg")], &face());
    let begun = open(place.address, &bytes);
    place.until(|place| place.script.begun.lock().unwrap().len() == 1);
    assert_eq!(place.get("/v2/health/ready").status, 200);
    place.shutdown.begin();
    place.get("/v2/health/ready").assert_problem(503, "the server is being stopped");
    place.post(CROP, &face()).assert_problem(503, "");
    assert_eq!(place.get("/v2/health/live").status, 200);
    gate.send(()).unwrap();
    assert_eq!(Reply::read(begun).status, 200);
    place.ended();
}

#[test]
fn what_is_not_finished_in_time_is_left() {
    let (mut setup, _gate) = Setup::gated();
    setup.options.shutdown_timeout = Duration::from_millis(200);
    let mut place = setup.start();
    let _begun = open(place.address, &request("POST", CROP, &[("Content-Type", "image/jpeg")], &face()));
    place.until(|place| place.script.begun.lock().unwrap().len() == 1);
    place.shutdown.begin();
    place.ended();
}

#[test]
fn prepared_tensors_give_what_photos_give() {
    let place = Setup::default().start();
    let (side, n) = (64, 2);
    let planes: Vec<f32> =
        (0..n * 3 * side * side).map(|i| if i < 3 * side * side { 0.25 } else { -1.5 }).collect();
    let tensor = json!({ "name": "images", "shape": [n, 3, side, side], "datatype": "FP32", "data": planes });
    let infer = |request: serde_json::Value| {
        post(place.address, "/v2/models/tests/infer", "application/json", request.to_string().as_bytes())
    };
    let answer = infer(json!({ "id": "7", "inputs": [tensor] })).json();
    assert_eq!((&answer["id"], &answer["model_name"]), (&json!("7"), &json!("tests")));
    let outputs = answer["outputs"].as_array().unwrap();
    assert_eq!(
        (outputs.len(), &outputs[0]["name"], &outputs[0]["shape"]),
        (2, &json!("age"), &json!([2, 3]))
    );
    // softmax of (0.25, 0, 1)
    assert!((outputs[0]["data"][0].as_f64().unwrap() - 0.256_66).abs() < 1e-4, "{answer}");
    let embedding = infer(json!({ "inputs": [tensor], "outputs": [{ "name": "embedding" }] })).json();
    assert_eq!(embedding["outputs"][0]["data"][4], -1.5);
    infer(json!({ "inputs": [tensor], "outputs": [{ "name": "race" }] }))
        .assert_problem(422, "found \"race\"");
    infer(json!({})).assert_problem(422, "missing field `inputs`");
    post(place.address, "/v2/models/other/infer", "application/json", b"{}")
        .assert_problem(404, "the model tests");
    post(place.address, "/v2/models/tests/infer", "text/plain", b"{}")
        .assert_problem(415, "application/json");
    assert_eq!(place.get("/v2/models/tests").json()["inputs"][0]["shape"], json!([-1, 3, 64, 64]));
    assert_eq!(place.get("/v2/models/tests/ready").status, 200);
    assert_eq!(place.get("/v2").json()["name"], "fairface");
    place.stop();
}
