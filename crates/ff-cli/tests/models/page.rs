//! The page of `serve` in a browser: upload, boxes, keyboard, exports, the camera; nothing from elsewhere.

use fs_err as fs;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::client::{get, post};
use crate::serve::Server;
use crate::support::{Workplace, assert_exit, largest_difference, sample};

/// Every box on the page in pixels of its photo.
const BOXES: &str = "[...document.querySelectorAll('#list .box')].map((box) => {
    const image = box.parentElement.querySelector('img');
    const [b, i] = [box.getBoundingClientRect(), image.getBoundingClientRect()];
    const scale = image.naturalWidth / i.width;
    return [b.x - i.x, b.y - i.y, b.width, b.height].map((v) => v * scale);
})";

/// Opens a server's page, and waits until it knows the model.
fn open(browser: &mut Browser, server: &Server) {
    browser.call("Page.navigate", json!({ "url": format!("http://{}/", server.address) }));
    browser.until("document.readyState === 'complete' && document.querySelector('#groups p') !== null");
}

#[test]
fn the_page_shows_what_the_api_says() {
    let Some(mut browser) = Browser::start() else { return };
    let place = Workplace::new().with_model();
    let server = Server::start(&place, &[]);
    let home = format!("http://{}/", server.address);
    browser.call("Page.navigate", json!({ "url": home }));
    browser.until("document.readyState === 'complete' && document.querySelectorAll('#model dd').length > 3");
    assert!(
        browser.value("document.querySelector('#off').innerText").as_str().unwrap().contains("race is off")
    );

    let montage = sample().join("../photos/fairface_montage.png").canonicalize().unwrap();
    browser.choose("#files", &[&montage]);
    browser.until("document.querySelectorAll('#list .box').length > 0");
    let name = "/v1/faces?name=fairface_montage.png";
    let said = post(server.address, name, "image/png", &fs::read(&montage).unwrap()).json();
    let rows = said["predictions"].as_array().unwrap();
    let shown = browser.value(BOXES);
    let shown = shown.as_array().unwrap();
    assert_eq!(shown.len(), rows.len());
    for (shown, row) in shown.iter().zip(rows) {
        for (place, side) in ["x", "y", "w", "h"].iter().enumerate() {
            let (shown, said) = (shown[place].as_f64().unwrap(), row["face"]["box"][side].as_f64().unwrap());
            assert!((shown - said).abs() < 2.0, "{side}: {shown} {said}");
        }
    }
    // Every class of every served task beside the first face, and the label of it.
    let table = browser.value("document.querySelector('#list .face').innerText");
    let table = table.as_str().unwrap();
    for task in ["age", "gender"] {
        let label = rows[0][task]["label"].as_str().unwrap();
        assert!(table.contains(&format!("{task}: {label}")), "{table}");
        assert!(
            rows[0][task]["probabilities"].as_object().unwrap().keys().all(|class| table.contains(class))
        );
    }

    // From the first field on by Tab, then from face to face by arrows.
    browser.value("document.querySelector('#clear').focus()");
    browser.press("Tab");
    let focused = "document.activeElement.getAttribute('aria-label')";
    assert!(browser.value(focused).as_str().unwrap().starts_with("Face 1: "));
    browser.press("ArrowRight");
    assert!(browser.value(focused).as_str().unwrap().starts_with("Face 2: "));
    browser.press("ArrowLeft");
    browser.press("ArrowLeft");
    let last = format!("Face {}: ", rows.len());
    assert!(browser.value(focused).as_str().unwrap().starts_with(&last), "it goes round");
    assert_eq!(browser.value("document.querySelectorAll('.face.chosen').length"), 1);

    let csv = browser.value("csv()");
    let lines: Vec<&str> = csv.as_str().unwrap().trim_end().split("\r\n").collect();
    assert_eq!(lines.len(), 1 + rows.len());
    assert!(lines[0].starts_with("file,face,x,y,w,h,score,set_aside,age,age: 0-2"), "{}", lines[0]);
    assert!(lines[1].starts_with("fairface_montage.png,0,"), "{}", lines[1]);
    let kept = browser.value("results");
    for (kept, said) in kept.as_array().unwrap().iter().zip(rows) {
        assert_eq!(largest_difference(&kept["face"]["box"], &said["face"]["box"]), 0.0);
        // The last bits are those of the batch that a face happened to be in.
        let probabilities = |row: &Value| row["age"]["probabilities"].clone();
        assert!(largest_difference(&probabilities(kept), &probabilities(said)) < 1e-5);
    }

    // What is no photo says so, as text.
    fs::write(place.path("<b>no photo.png"), "nothing").unwrap();
    browser.choose("#files", &[&place.path("<b>no photo.png")]);
    browser.until("document.querySelector('#list .error') !== null");
    assert_eq!(browser.value("document.querySelector('#list b')"), Value::Null);
    // The browser itself says that a request was answered 422, which is what was wanted.
    let complaints = browser.complaints();
    assert!(complaints.iter().all(|said| said.to_string().contains("422")), "{complaints:?}");

    // A phone's width holds everything.
    let phone = json!({ "width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true });
    browser.call("Emulation.setDeviceMetricsOverride", phone);
    assert_eq!(browser.value("document.documentElement.scrollWidth <= window.innerWidth"), true);

    let ours = |address: &&str| {
        address.starts_with(&home) || address.starts_with("blob:") || address.starts_with("data:")
    };
    let addresses = browser.addresses();
    assert!(addresses.iter().all(ours) && addresses.len() > 4, "{addresses:?}");
}

#[test]
fn the_camera_has_one_picture_under_way() {
    let Some(mut browser) = Browser::start() else { return };
    let place = Workplace::new().with_model();
    let server = Server::start(&place, &[]);
    open(&mut browser, &server);
    browser.value(
        "window.most = 0; window.now = 0; const plain = window.fetch;
         window.fetch = async (...all) => {
           window.most = Math.max(window.most, ++window.now);
           try { return await plain(...all); } finally { window.now -= 1; window.done = (window.done || 0) + 1; }
         };
         document.querySelector('#camera').click()",
    );
    browser.until("window.done >= 3 && document.querySelector('#live .said').innerText !== ''");
    assert_eq!(browser.value("window.most"), 1);
    browser.value("document.querySelector('#camera').click()");
    assert_eq!(browser.value("document.querySelector('#live').hidden"), true);
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

#[test]
fn photos_are_dropped_and_pasted_and_what_was_found_is_saved() {
    let Some(mut browser) = Browser::start() else { return };
    let place = Workplace::new().with_model();
    let server = Server::start(&place, &[]);
    open(&mut browser, &server);
    browser.value(
        "(async () => {
           const canvas = document.createElement('canvas');
           [canvas.width, canvas.height] = [64, 64];
           const blob = await new Promise((done) => canvas.toBlob(done, 'image/png'));
           const holding = (name) => {
             const all = new DataTransfer();
             all.items.add(new File([blob], name, { type: 'image/png' }));
             return all;
           };
           const dropped = { dataTransfer: holding('dropped.png'), bubbles: true, cancelable: true };
           document.querySelector('#drop').dispatchEvent(new DragEvent('drop', dropped));
           document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: holding('pasted.png') }));
         })()",
    );
    browser.until("document.querySelectorAll('#list .face').length === 2");
    let names = browser.value("[...document.querySelectorAll('#list h3')].map((name) => name.innerText)");
    assert_eq!(names, json!(["pasted.png", "dropped.png"]), "the newest is on top");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());

    browser.value(
        "const plain = URL.createObjectURL;
         URL.createObjectURL = (blob) => { window.saved = blob; return plain.call(URL, blob); }; 0",
    );
    let mut saved = |button: &str| {
        let text = browser.value(&format!("document.querySelector('{button}').click(); window.saved.text()"));
        text.as_str().unwrap().to_owned()
    };
    let rows: Value = serde_json::from_str(&saved("#json")).unwrap();
    assert_eq!(
        rows,
        json!([{ "file": "dropped.png", "face": null }, { "file": "pasted.png", "face": null }])
    );
    let csv = saved("#csv");
    let files: Vec<_> = csv.split("\r\n").map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(files, ["file", "dropped.png", "pasted.png", ""]);

    let paper = "getComputedStyle(document.body).backgroundColor";
    let [light, dark] = ["light", "dark"].map(|value| {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        browser.call("Emulation.setEmulatedMedia", features);
        browser.value(paper)
    });
    assert_eq!((light, dark), (json!("rgb(255, 255, 255)"), json!("rgb(20, 23, 27)")));
}

/// What the network says of the camera's picture flips with every one; what is shown does not.
#[test]
fn the_camera_shows_labels_that_are_steady() {
    let Some(mut browser) = Browser::start() else { return };
    let place = Workplace::new().with_model();
    let server = Server::start(&place, &["--tasks", "gender"]);
    open(&mut browser, &server);
    browser.value(
        "window.pictures = 0; window.shown = []; const plain = window.fetch;
         window.fetch = async (address, ...rest) => {
           if (!address.startsWith('v1/faces')) return plain(address, ...rest);
           const p = [0.9, 0.3][window.pictures++ % 2];
           const face = { index: 0, score: 0.9, box: { x: 9, y: 9, w: 40, h: 40 } };
           const gender = { label: p > 0.5 ? 'Female' : 'Male', probability: Math.max(p, 1 - p),
             probabilities: { Female: p, Male: 1 - p } };
           return new Response(JSON.stringify({ predictions: [{ file: 'camera', face, gender }] }));
         };
         new MutationObserver(() => {
           const caption = document.querySelector('#live caption');
           if (caption) window.shown.push(caption.innerText);
         }).observe(document.querySelector('#live .said'), { childList: true });
         document.querySelector('#camera').click()",
    );
    browser.until("window.pictures > 8");
    browser.value("document.querySelector('#camera').click()");
    let shown = browser.value("[...new Set(window.shown)].join()");
    assert_eq!(shown, "gender: Female");
    assert_eq!(browser.value("window.shown.length >= 8"), true, "a caption a picture");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

/// Whether a value is as a schema of the API's description has it: no key is missing, and none is more.
fn is_as_described(value: &Value, schema: &Value, all: &Value) -> bool {
    if let Some(name) = schema["$ref"].as_str() {
        return is_as_described(value, all.pointer(name.trim_start_matches('#')).unwrap(), all);
    }
    if let Some(any) = schema["oneOf"].as_array() {
        return any.iter().filter(|schema| is_as_described(value, schema, all)).count() == 1;
    }
    match value {
        Value::Null => schema["type"] == "null" || schema["type"] == json!(["string", "null"]),
        Value::String(_) => schema["type"] == "string" || schema["type"] == json!(["string", "null"]),
        Value::Bool(_) => schema["type"] == "boolean",
        Value::Number(number) => schema["type"] == "number" || schema["type"] == "integer" && number.is_u64(),
        Value::Array(items) => {
            schema["type"] == "array" && items.iter().all(|item| is_as_described(item, &schema["items"], all))
        }
        Value::Object(entries) => match schema["properties"].as_object() {
            Some(properties) => {
                entries.len() == properties.len()
                    && entries.iter().all(|(key, value)| {
                        properties.get(key).is_some_and(|schema| is_as_described(value, schema, all))
                    })
            }
            None => {
                let more = &schema["additionalProperties"];
                schema["type"] == "object" && entries.values().all(|value| is_as_described(value, more, all))
            }
        },
    }
}

/// What the server says of its model, which is as its description has it.
#[track_caller]
fn about(server: &Server) -> Value {
    let described = get(server.address, "/openapi.json").json();
    let about = get(server.address, "/v1/model").json();
    let schema = json!({ "$ref": "#/components/schemas/Model" });
    assert!(is_as_described(&about, &schema, &described), "{about}");
    about
}

#[test]
fn the_page_says_how_sure_it_is_on_groups_or_that_nobody_knows() {
    let place = Workplace::new().with_model();
    let (splits, images) = (sample().join("splits"), sample().join("images"));
    let data = ["--splits", splits.to_str().unwrap(), "--images", images.to_str().unwrap()];
    let small = ["--backbone", "resnet18", "--image-size", "64", "--freeze-backbone", "--init", "random"];
    let train = ["train", "--run-dir", "run", "--batch-size", "8", "--epochs", "1", "--max-steps", "2"];
    assert_exit(&place.run(&[&train[..], &small, &data].concat()), 0);
    let unknown = |server: &Server| about(server)["groups"]["unknown"].as_str().unwrap().to_owned();
    assert!(unknown(&Server::of(&place, &["--run", "run"])).contains("no evaluation of this checkpoint"));
    assert!(unknown(&Server::start(&place, &[])).starts_with("a model file brings no record"));

    let evaluate = ["evaluate", "--run", "run", "--bootstrap", "5", "--split"];
    assert_exit(&place.run(&[&evaluate[..], &["val"]].concat()), 0);
    let record = place.json(&[&evaluate[..], &["test", "--json"]].concat());
    let server = Server::of(&place, &["--run", "run"]);
    let figures = &about(&server)["groups"]["figures"];
    assert_eq!(figures["record"], "evaluation/test-bootstrap-5.json", "of both the test split says more");
    assert_eq!(figures["faces"], "Test split: 80 rows of ff_test.csv");

    let Some(mut browser) = Browser::start() else { return };
    open(&mut browser, &server);
    // As a screen reader has it: tables with names, each cell under a column's and beside a row's header.
    browser.call("Accessibility.enable", json!({}));
    let tree = browser.call("Accessibility.getFullAXTree", json!({}));
    let names = |role: &str| -> Vec<String> {
        let nodes = tree["nodes"].as_array().unwrap().iter().filter(|node| node["role"]["value"] == role);
        nodes.map(|node| node["name"]["value"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("table"), ["race", "gender"].map(|by| format!("Right answers by {by}")));
    let headers = ["race", "gender"].map(|by| [by, "faces", "age", "gender"]);
    assert_eq!(names("columnheader"), headers.concat(), "race is off, and its answers are nobody's business");
    let groups = record["groups"].as_array().unwrap();
    let single: Vec<&Value> =
        groups.iter().filter(|group| !group["by"].as_str().unwrap().contains(',')).collect();
    let labels: Vec<&str> = single.iter().map(|group| group["group"].as_str().unwrap()).collect();
    assert_eq!(names("rowheader"), labels);

    let rows = browser.value(
        "[...document.querySelectorAll('.groups tbody tr')].map((row) =>
            [...row.cells].map((cell) => cell.textContent))",
    );
    for (row, group) in rows.as_array().unwrap().iter().zip(single) {
        let small = if group["small"] == true { ", few" } else { "" };
        assert_eq!(row[1], format!("{}{small}", group["n"]));
        for (cell, task) in [(&row[2], "age"), (&row[3], "gender")] {
            let said = &group["tasks"][task];
            let expected = [&said["accuracy"], &said["accuracy_interval"][0], &said["accuracy_interval"][1]];
            let shown = cell.as_str().unwrap().replace(['%', '(', ')'], "").replace("to", "");
            let shown: Vec<f64> = shown.split_whitespace().map(|number| number.parse().unwrap()).collect();
            assert_eq!(shown.len(), 3, "{cell}");
            for (shown, expected) in shown.iter().zip(expected) {
                assert!((shown - 100.0 * expected.as_f64().unwrap()).abs() <= 0.0501, "{row} {group}");
            }
        }
    }
    let phone = json!({ "width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true });
    browser.call("Emulation.setDeviceMetricsOverride", phone);
    assert_eq!(browser.value("document.documentElement.scrollWidth <= window.innerWidth"), true);
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());

    // Another checkpoint has no figures yet, whatever the two are called.
    assert_exit(&place.run(&["train", "--resume", "--run-dir", "run", "--max-steps", "3"]), 0);
    let last = Server::of(&place, &["--run", "run", "--checkpoint", "last"]);
    assert!(unknown(&last).contains("no evaluation of this checkpoint"));
    // What is wrong with a record is no reason not to serve.
    fs::write(place.path("run/evaluation/val-bootstrap-5.json"), "{").unwrap();
    assert!(unknown(&Server::of(&place, &["--run", "run"])).starts_with("the run's records cannot be read"));
}
