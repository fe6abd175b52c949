//! The page of `serve` in a browser: upload, boxes, keyboard, exports, the camera; nothing from elsewhere.

use fs_err as fs;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::client::post;
use crate::serve::Server;
use crate::support::{Workplace, largest_difference, sample};

/// Every box on the page in pixels of its photo.
const BOXES: &str = "[...document.querySelectorAll('#list .box')].map((box) => {
    const image = box.parentElement.querySelector('img');
    const [b, i] = [box.getBoundingClientRect(), image.getBoundingClientRect()];
    const scale = image.naturalWidth / i.width;
    return [b.x - i.x, b.y - i.y, b.width, b.height].map((v) => v * scale);
})";

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
        assert_eq!(largest_difference(&kept["age"]["probabilities"], &said["age"]["probabilities"]), 0.0);
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
    browser.call("Page.navigate", json!({ "url": format!("http://{}/", server.address) }));
    browser.until("document.readyState === 'complete' && about.name === 'model'");
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
