//! Runs are listed, compared and followed: exactly, to their end or the server's.

use std::path::Path;

use ff_core::files::append;
use ff_serve::runs_routes;

use crate::server::{Events, Server};

fn step(step: u64) -> String {
    format!(
        r#"{{"kind":"step","epoch":1,"step":{step},"loss":2.5,"losses":{{"age":1.5,"gender":1.0}},"lr":0.1,"grad_norm":1.0,"images":4,"seconds":0.5}}"#
    )
}

/// A run of some steps.
fn run(runs: &Path, name: &str, steps: u64) {
    let dir = runs.join(name);
    fs_err::create_dir_all(&dir).unwrap();
    fs_err::write(dir.join("config.toml"), "").unwrap();
    let records: String = (1..=steps).map(|i| step(i) + "\n").collect();
    fs_err::write(dir.join("metrics.jsonl"), records).unwrap();
}

/// As a process that trains holds it.
fn training(runs: &Path, name: &str) -> std::fs::File {
    let file = fs_err::File::create(runs.join(name).join("run.lock")).unwrap().into_parts().0;
    file.try_lock().unwrap();
    file
}

#[test]
fn runs_are_listed_and_compared_and_nothing_else_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    run(&runs, "a & b", 3);
    run(&runs, "seeds-001/seed-42", 2);
    run(dir.path(), "outside", 2);
    fs_err::create_dir(runs.join("empty")).unwrap();
    let _lock = training(&runs, "a & b");
    let server = Server::start(|shutdown| runs_routes(&runs, shutdown));

    let list = server.get("/runs").page();
    assert!(
        list.contains("a &amp; b") && list.contains("seeds-001/seed-42") && !list.contains("empty"),
        "{list}"
    );
    assert_eq!((list.matches("training<").count(), list.matches("ended<").count()), (1, 1), "{list}");

    let page = server.get("/runs/compare?run=a+%26+b&run=seeds-001/seed-42").page();
    assert!(
        page.contains("<h1>a &amp; b, seeds-001/seed-42</h1>") && page.contains("Training loss"),
        "{page}"
    );
    assert!(page.contains("data-follow=\"a &amp; b\"") && page.matches("data-follow").count() == 1, "{page}");
    let from = fs_err::metadata(runs.join("a & b/metrics.jsonl")).unwrap().len();
    assert!(page.contains(&format!("data-from=\"{from}\"")), "what the charts show is not sent again");
    let charts = server.get("/runs/charts?run=a+%26+b").page();
    assert!(charts.contains("steps") || charts.contains("step 3: loss 2.5"), "{charts}");
    assert!(page.contains("step 3: loss 2.5") && !charts.contains("<html"), "{charts}");

    for path in ["/runs/compare?run=nobody", "/runs/charts?run=../outside", "/runs/events?run=../outside"] {
        let said = server.get(path).problem(404);
        assert!(said.starts_with("expected a run of this server's, found"), "{said}");
    }
    let many: String = (0..7).map(|i| format!("run={i}&")).collect();
    let said = server.get(&format!("/runs/compare?{many}")).problem(400);
    assert_eq!(said, "run: expected 1 to 6 of them, found 7");
    assert_eq!(server.get("/runs/compare").problem(400), "run: expected 1 to 6 of them, found 0");
    let said = server.get("/runs/charts?run=a+%26+b&run=a+%26+b").problem(400);
    assert_eq!(said, "run: expected each once, found \"a & b\" again");
    let said = server.get("/runs/events?run=a+%26+b&from=x").problem(400);
    assert_eq!(said, "Last-Event-ID: expected a place in the records, in bytes, found \"x\"");

    fs_err::write(runs.join("seeds-001/seed-42/metrics.jsonl"), "{}\n").unwrap();
    let said = server.get("/runs/compare?run=seeds-001/seed-42").problem(422);
    assert!(said.contains("metrics.jsonl: line 1: expected a record"), "{said}");
}

#[test]
fn a_run_is_followed_exactly_from_where_somebody_was_cut_off_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "one", 2);
    let metrics = dir.path().join("one/metrics.jsonl");
    let lock = training(dir.path(), "one");
    let server = Server::start(|shutdown| runs_routes(dir.path(), shutdown));
    let line = step(1).len() as u64 + 1;

    let mut events = Events::of(&server, "/runs/events?run=one", None);
    for n in [1, 2] {
        let event = events.next().unwrap();
        assert_eq!((event.kind.as_str(), event.id, event.data), ("step", Some(n * line), step(n)));
    }
    // Half a line is waited for: what comes next is the whole one.
    append(&metrics, &step(3)[..40]).unwrap();
    append(&metrics, &format!("{}\n{}\n", &step(3)[40..], step(4))).unwrap();
    assert_eq!(events.next().unwrap().data, step(3));
    drop(events);

    append(&metrics, &format!("no record\n{}\n", step(5))).unwrap();
    let mut events = Events::of(&server, "/runs/events?run=one&from=0", Some(3 * line));
    assert_eq!(events.next().unwrap().data, step(4), "the header counts, not the page's address");
    assert_eq!(events.next().unwrap().data, step(5), "a line that is no record is passed over");
    append(&metrics, &format!("{}\n", step(6))).unwrap();
    drop(lock);
    assert_eq!(events.next().unwrap().data, step(6), "what was written last comes before the end");
    assert_eq!(events.next().unwrap().kind, "end");
    assert_eq!(events.next(), None);

    // Cut back, as by a run that goes on from an earlier checkpoint: all of it comes anew.
    let _lock = training(dir.path(), "one");
    fs_err::write(&metrics, format!("{}\n", step(1))).unwrap();
    let mut events = Events::of(&server, "/runs/events?run=one", Some(5 * line));
    let anew = events.next().unwrap();
    assert_eq!((anew.kind.as_str(), anew.id), ("anew", Some(0)));
    assert_eq!(events.next().unwrap().data, step(1));
}

/// Open streams kept servers from ending (axum 2673, hyper 2787).
#[test]
fn streams_end_with_the_server() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "one", 1);
    let _lock = training(dir.path(), "one");
    let mut server = Server::start(|shutdown| runs_routes(dir.path(), shutdown));
    let mut events = Events::of(&server, "/runs/events?run=one", None);
    assert_eq!(events.next().unwrap().data, step(1));
    server.stop();
    assert_eq!(events.next(), None, "an end, not a broken connection");
}
