//! The page's tracks of faces, on made-up pictures, in a browser that opens no page.

use serde_json::{Value, json};

use crate::browser::Browser;

const TRACKS: &str = include_str!("../../../ff-serve/src/page/tracks.js");

/// A face of 100 pixels whose left upper corner is at `(x, 0)`, which is of class A to `p`.
fn face(x: f64, p: f64) -> Value {
    let label = if p > 0.5 { "A" } else { "B" };
    let answer =
        json!({ "label": label, "probability": p.max(1.0 - p), "probabilities": { "A": p, "B": 1.0 - p } });
    json!({ "face": { "box": { "x": x, "y": 0, "w": 100, "h": 100 } }, "task": answer })
}

/// The rows that are shown of these pictures, one after the other.
fn shown(browser: &mut Browser, pictures: &[Vec<Value>]) -> Vec<Vec<Value>> {
    let shown = browser.value(&format!(
        "{{
            let known = NOBODY;
            {}.map((rows) => {{
                const [before, again] = [JSON.stringify(known), follow(known, rows, ['task'])];
                known = follow(known, rows, ['task']);
                if (JSON.stringify(known) !== JSON.stringify(again)) throw new Error('another answer to the same');
                return known.rows;
            }})
        }}",
        json!(pictures)
    ));
    shown.as_array().unwrap().iter().map(|rows| rows.as_array().unwrap().clone()).collect()
}

fn number(row: &Value) -> u64 {
    row["face"]["number"].as_u64().unwrap()
}

/// The numbers of the only face of each picture.
fn numbers(browser: &mut Browser, pictures: &[Vec<Value>]) -> Vec<Option<u64>> {
    shown(browser, pictures).iter().map(|rows| rows.first().map(number)).collect()
}

#[test]
fn answers_are_averages_and_labels_go_by_them() {
    let Some(mut browser) = Browser::start() else { return };
    browser.value(TRACKS);
    let said = [0.9, 0.2, 0.9, 0.2, 0.2, 0.2, 0.2, 0.55];
    // The face wanders by a tenth of its width from picture to picture.
    let pictures: Vec<_> = said.iter().enumerate().map(|(i, &p)| vec![face(10.0 * i as f64, p)]).collect();
    let mut average = said[0];
    let mut labels = String::new();
    for (rows, (i, p)) in shown(&mut browser, &pictures).iter().zip(said.iter().enumerate()) {
        average = if i == 0 { *p } else { 0.3 * p + 0.7 * average };
        let answer = &rows[0]["task"];
        assert!(
            (answer["probabilities"]["A"].as_f64().unwrap() - average).abs() < 1e-12,
            "{answer} {average}"
        );
        assert!((answer["probability"].as_f64().unwrap() - average.max(1.0 - average)).abs() < 1e-12);
        assert_eq!(number(&rows[0]), 1);
        assert_eq!(rows[0]["face"]["box"]["x"], 10.0 * i as f64, "boxes are the picture's own");
        labels += answer["label"].as_str().unwrap();
    }
    // Alone, pictures would say ABABBBBA.
    assert_eq!(labels, "AAAABBBB");
    // One that was set aside has no answer of its own.
    let mut aside = face(0.0, 0.9);
    aside.as_object_mut().unwrap().remove("task");
    let rows = shown(&mut browser, &[vec![face(0.0, 0.8)], vec![aside], vec![face(0.0, 0.1)]]);
    let a = |rows: &Vec<Value>| rows[0]["task"]["probabilities"]["A"].as_f64().unwrap();
    assert_eq!(a(&rows[1]), 0.8);
    assert!((a(&rows[2]) - (0.3 * 0.1 + 0.7 * 0.8)).abs() < 1e-12);
}

#[test]
fn faces_stay_apart_whatever_their_order() {
    let Some(mut browser) = Browser::start() else { return };
    browser.value(TRACKS);
    // Two side by side, of whom the detector is more sure of the one and then of the other.
    let pictures: Vec<_> = (0..6)
        .map(|i| {
            let mut rows = vec![face(0.0, 0.9), face(100.0, 0.1)];
            rows.rotate_left(i % 2);
            rows
        })
        .collect();
    for rows in shown(&mut browser, &pictures) {
        let found: Vec<_> =
            rows.iter().map(|row| (number(row), row["task"]["label"].as_str().unwrap())).collect();
        assert_eq!(found, [(1, "A"), (2, "B")]);
    }
    // Two boxes over one that was: the nearer goes on, the other is a new face and knows nothing of it.
    let rows = shown(&mut browser, &[vec![face(0.0, 0.9)], vec![face(40.0, 0.2), face(10.0, 0.9)]]);
    let found: Vec<_> =
        rows[1].iter().map(|row| (number(row), row["face"]["box"]["x"].as_f64().unwrap())).collect();
    assert_eq!(found, [(1, 10.0), (2, 40.0)]);
    assert!((rows[1][1]["task"]["probabilities"]["A"].as_f64().unwrap() - 0.2).abs() < 1e-12);
    // A picture without a face is a row without one, and crops have no boxes.
    let none = json!({ "face": null });
    let crop = json!({ "file": "camera", "task": face(0.0, 0.9)["task"] });
    let rows = shown(&mut browser, &[vec![none.clone()], vec![crop.clone()]]);
    assert_eq!(rows, [vec![none], vec![crop]]);
}

#[test]
fn tracks_end_when_a_face_has_gone_or_jumped() {
    let Some(mut browser) = Browser::start() else { return };
    browser.value(TRACKS);
    let here = || vec![face(0.0, 0.9)];
    let gone = |n: usize| {
        let between = std::iter::repeat_with(Vec::new).take(n);
        std::iter::once(here()).chain(between).chain([here()]).collect::<Vec<_>>()
    };
    let last = |browser: &mut Browser, pictures: &[Vec<Value>]| numbers(browser, pictures).pop().unwrap();
    assert_eq!(last(&mut browser, &gone(3)), Some(1));
    assert_eq!(last(&mut browser, &gone(4)), Some(2), "and it is never called as the one that went");
    // Overlaps of a third and of a quarter.
    assert_eq!(numbers(&mut browser, &[here(), vec![face(50.0, 0.9)]]), [Some(1), Some(1)]);
    assert_eq!(numbers(&mut browser, &[here(), vec![face(60.0, 0.9)]]), [Some(1), Some(2)]);
    // Found again in time, it is as if it had not been away.
    let twice = [gone(3), gone(3)[1..].to_vec()].concat();
    assert_eq!(last(&mut browser, &twice), Some(1));
}
