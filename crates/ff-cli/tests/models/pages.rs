//! The pages of audits and runs, from the commands to the files that others take: keys decide in a browser, records
//! arrive, and nothing is complained of or fetched elsewhere.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ff_core::files::append;
use fs_err as fs;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::client::{PATIENCE, get};
use crate::support::{Workplace, assert_exit, sample};

/// A process that ends with its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `serve` with these views and no model.
fn serve(place: &Workplace, views: &[&str]) -> (Process, String) {
    let args = [&["serve", "--json", "--address", "127.0.0.1:0"], views].concat();
    let mut child = place.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut object = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    while !object.ends_with("}\n") {
        assert_ne!(lines.read_line(&mut object).unwrap(), 0, "it says its address");
    }
    let said: Value = serde_json::from_str(&object).unwrap();
    (Process(child), said["url"].as_str().unwrap().to_owned())
}

fn open(browser: &mut Browser, url: &str) {
    browser.call("Page.navigate", json!({ "url": url }));
    browser.until("document.readyState === 'complete' && location.href !== 'about:blank'");
}

#[track_caller]
fn assert_content(browser: &Browser, own: &str) {
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
    for address in browser.addresses() {
        assert!(address.starts_with(own) || address == "data:,", "{address}");
    }
}

/// Faces of which two are the same, in two splits and with two ages.
fn with_duplicates() -> Workplace {
    let place = Workplace::new();
    fs::create_dir(place.path("images")).unwrap();
    fs::create_dir(place.path("splits")).unwrap();
    let rows = fs::read_to_string(sample().join("splits/ff_val.csv")).unwrap();
    let faces: Vec<&str> = rows.lines().skip(1).map(|row| row.split(',').next().unwrap()).collect();
    for (name, face) in [("a.jpg", 0), ("copy.jpg", 0), ("b.jpg", 1), ("c.jpg", 2)] {
        fs::copy(sample().join("images").join(faces[face]), place.path("images").join(name)).unwrap();
    }
    let splits = [
        ("train", "a.jpg,3-9,Female,Black\nb.jpg,20-29,Male,White\n"),
        ("val", "copy.jpg,20-29,Female,Black\n"),
        ("test", "c.jpg,3-9,Male,White\n"),
    ];
    for (split, rows) in splits {
        let csv = place.path("splits").join(format!("ff_{split}.csv"));
        fs::write(csv, format!("file,age,gender,race\n{rows}")).unwrap();
    }
    place
}

const STATES: &str =
    "[...document.querySelectorAll('li[data-decision]')].map(li => li.dataset.decision).join()";

#[test]
fn keys_decide_what_a_split_then_takes() {
    let Some(mut browser) = Browser::start() else { return };
    let place = with_duplicates();
    let audit = place.run(&["audit", "--json", "--splits", "splits", "--images", "images"]);
    assert_exit(&audit, 0);
    fs::write(place.path("audit.json"), &audit.stdout).unwrap();
    let (_server, own) = serve(&place, &["--audit", "audit.json", "--images", "images"]);
    open(&mut browser, &own);
    assert_eq!(browser.value("location.pathname"), "/audit");
    open(&mut browser, &format!("{own}audit?kind=conflict"));
    browser.until(
        "[...document.images].length === 2 && [...document.images].every(image => image.naturalWidth > 0)",
    );
    let files =
        browser.value("[...document.querySelectorAll('li code')].map(code => code.textContent).join()");
    assert_eq!(files, "a.jpg,copy.jpg");

    for key in ["n", "k"] {
        browser.press(key);
    }
    browser.until(&format!("{STATES} === 'keep,' && document.activeElement.id === 'face-2'"));
    browser.press("d");
    browser.until(&format!("{STATES} === 'keep,drop'"));
    let decided = || fs::read_to_string(place.path("decisions.csv")).unwrap();
    assert_eq!(decided(), "file,decision,task,label\na.jpg,keep,age,\ncopy.jpg,drop,,\n");
    browser.press("u");
    browser.until(&format!("{STATES} === 'keep,'"));
    // No label is suggested: one is to be chosen first.
    browser.press("p");
    browser.press("r");
    browser.until("document.activeElement.name === 'label'");
    browser.value("document.activeElement.value = '20-29'");
    browser.press("Escape");
    browser.press("r");
    browser.until(&format!(
        "{STATES} === 'relabel,' && document.querySelector('.state').textContent === 'relabel: 20-29'"
    ));
    assert_eq!(decided(), "file,decision,task,label\na.jpg,relabel,age,20-29\n");
    browser.value("document.querySelectorAll('button[value=drop]')[1].click()");
    browser.until(&format!("{STATES} === 'relabel,drop'"));
    open(&mut browser, &format!("{own}audit?decided=drop"));
    assert!(
        browser.value(STATES).as_str().unwrap().contains("relabel,drop"),
        "a new page shows what is decided"
    );
    assert_content(&browser, &own);

    let labels = ["train", "val", "test"].map(|split| format!("splits/ff_{split}.csv"));
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let split =
        [&["split", "--out", "out", "--decisions", "decisions.csv", "--labels"], &labels[..]].concat();
    let decided = &place.json(&[&split[..], &["--json"]].concat())["decided"];
    assert_eq!(*decided, json!({ "dropped": 1, "relabelled": 1 }));
}

/// A run of two steps, and a lock on it as a process has that trains.
fn begun(folder: &Path) -> (String, std::fs::File) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.toml"), "").unwrap();
    let step = r#"{"kind":"step","epoch":1,"step":1,"loss":2.5,"losses":{"age":2.5},"lr":0.1,"grad_norm":1.0,"images":4,"seconds":0.5}"#;
    fs::write(folder.join("metrics.jsonl"), format!("{step}\n")).unwrap();
    let lock = fs::File::create(folder.join("run.lock")).unwrap().into_parts().0;
    lock.try_lock().unwrap();
    (step.to_owned(), lock)
}

#[test]
fn a_run_is_followed_on_its_page() {
    let Some(mut browser) = Browser::start() else { return };
    let place = Workplace::new();
    let (step, lock) = begun(&place.path("runs/one"));
    let (_server, own) = serve(&place, &["--runs", "runs"]);
    open(&mut browser, &own);
    browser.value("document.querySelector('input[name=run]').click()");
    let asked = browser.value("new URLSearchParams(new FormData(document.querySelector('form'))).toString()");
    assert_eq!(asked, "run=one");
    open(&mut browser, &format!("{own}runs/compare?run=one"));
    let status = "document.querySelector('.status').textContent";
    browser.until(&format!("{status} === 'is being trained'"));
    let third = step.replace("\"step\":1", "\"step\":3").replace("\"loss\":2.5", "\"loss\":1.25");
    append(&place.path("runs/one/metrics.jsonl"), &format!("{third}\n")).unwrap();
    browser.until(&format!("{status} === 'epoch 1, step 3, loss 1.250'"));
    browser.until("document.getElementById('charts').textContent.includes('step 3: loss 1.25')");
    drop(lock);
    browser.until(&format!("{status}.endsWith('(ended)')"));
    assert_content(&browser, &own);
}

/// From its first step on, and no longer than the run.
#[test]
fn a_training_shows_itself() {
    let place = Workplace::new();
    let (splits, images) = (sample().join("splits"), sample().join("images"));
    let args =
        ["train", "--serve", "127.0.0.1:0", "--run-dir", "runs/mine", "--init", "random", "--epochs", "50"];
    let small = ["--backbone", "resnet18", "--image-size", "64", "--freeze-backbone", "--batch-size", "8"];
    let data = ["--splits", splits.to_str().unwrap(), "--images", images.to_str().unwrap()];
    let mut train =
        place.command(&[&args[..], &small, &data].concat()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(train.stderr.take().unwrap());
    let mut train = Process(train);
    let address = loop {
        let mut line = String::new();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "it says where to watch");
        if let Some(url) = line.trim().strip_prefix("watch   http://") {
            let (address, path) = url.split_once('/').unwrap();
            assert_eq!(path, "runs/compare?run=mine");
            break address.parse::<SocketAddr>().unwrap();
        }
    };
    // What it goes on to say is of no interest, but it must not wait for a reader.
    let rest = std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    let page = get(address, "/runs/compare?run=mine");
    assert!(page.status == 200 && page.text().contains("data-follow=\"mine\""), "{}", page.text());
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /runs/events?run=mine HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    let mut events = BufReader::new(stream).lines();
    let step = events.by_ref().map(Result::unwrap).find(|line| line.contains("\"step\":2,")).unwrap();
    assert!(step.starts_with("data:"), "{step}");

    let pid = train.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(events.map(Result::unwrap).last().as_deref(), Some(""), "the stream ends with the run");
    assert_eq!(train.0.wait().unwrap().code(), Some(130));
    rest.join().unwrap().unwrap();
}
