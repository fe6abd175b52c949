//! Findings are shown, filtered and decided about; no other file is served, and no other site decides.

use std::path::{Path, PathBuf};

use ff_core::{Encoders, LabelEncoder, PerTask, Schema, Task};
use ff_data::audit::Audit;
use ff_data::{Decisions, FilePaths, ImageRules, Split, Splits};
use ff_eval::{Bootstrap, EvaluationRecord, EvaluationSource, Predictions, Settings, per_sample_csv};
use ff_serve::{AuditFiles, audit_routes};
use tempfile::TempDir;

use crate::server::{Answer, Server};

/// A file name that would break a page which did not escape it.
const HOSTILE: &str = "f5 <i>&\".jpg";

/// Six faces with splits, an audit of them and an evaluation of four.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self { dir };
        fs_err::create_dir_all(place.path("images")).unwrap();
        fs_err::create_dir_all(place.path("splits")).unwrap();
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample");
        let rows = fs_err::read_to_string(sample.join("splits/ff_val.csv")).unwrap();
        let faces: Vec<&str> = rows.lines().skip(1).map(|row| row.split(',').next().unwrap()).collect();
        // f1 is f0's copy in another split, with another age.
        for (name, face) in
            [("f0.jpg", 0), ("f1.jpg", 0), ("f2.jpg", 2), ("f3.jpg", 3), ("f4.jpg", 4), (HOSTILE, 5)]
        {
            fs_err::copy(sample.join("images").join(faces[face]), place.path("images").join(name)).unwrap();
        }
        let hostile = format!("\"{}\"", HOSTILE.replace('"', "\"\""));
        let train =
            format!("f0.jpg,3-9,Female,Black\nf2.jpg,20-29,Male,White\n{hostile},20-29,Female,Black\n");
        let splits =
            [train.as_str(), "f1.jpg,20-29,Female,Black\nf3.jpg,3-9,Male,White\n", "f4.jpg,3-9,Male,Black\n"];
        for (split, rows) in Split::ALL.into_iter().zip(splits) {
            fs_err::write(split.path(place.path("splits")), format!("file,age,gender,race\n{rows}")).unwrap();
        }
        let splits = Splits::read(place.path("splits"), &Schema::fairface()).unwrap();
        let audit =
            Audit::new(&splits, &place.path("images"), &ImageRules::default(), 2, None, |_, _| {}).unwrap();
        fs_err::write(place.path("audit.json"), serde_json::to_vec(&audit).unwrap()).unwrap();
        place.evaluate();
        place
    }

    /// Everything right but f3's gender, which the model is sure of.
    fn evaluate(&self) {
        let labels = |task: &Task| match task.name.as_str() {
            "age" => ["20-29", "3-9"],
            "gender" => ["Female", "Male"],
            _ => ["Black", "White"],
        };
        let fit = |task: &Task| LabelEncoder::fit(task.clone(), labels(task)).unwrap();
        let encoders = Encoders::new(Schema::fairface().per_task(fit)).unwrap();
        let targets: PerTask<Vec<u32>> = encoders.each(|_, _| vec![0, 1, 1, 0]);
        let probabilities = encoders.each(|task, _| {
            [
                vec![0.9, 0.1, 0.2, 0.8],
                if *task == "gender" { vec![0.97, 0.03] } else { vec![0.1, 0.9] },
                vec![0.9, 0.1],
            ]
            .concat()
        });
        let files = ["f0.jpg", "f2.jpg", "f3.jpg", HOSTILE].map(str::to_owned).to_vec();
        let predictions = Predictions { probabilities, targets, files, ..Predictions::default() };
        let settings = Settings { bootstrap: Bootstrap { resamples: 2, seed: 1 }, ..Settings::default() };
        let record =
            EvaluationRecord::new(&predictions, &encoders, EvaluationSource::default(), &settings).unwrap();
        record.write(&self.path("val.json")).unwrap();
        fs_err::write(self.path("val.csv"), per_sample_csv(&predictions, &encoders, &[]).unwrap()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn files(&self) -> AuditFiles {
        AuditFiles {
            findings: vec![self.path("audit.json"), self.path("val.json")],
            images: self.path("images"),
            decisions: self.path("decisions.csv"),
        }
    }

    fn serve(&self) -> Server {
        Server::start(|_| audit_routes(&self.files()))
    }

    /// The decisions, below the header; none where there is no file.
    fn decided(&self) -> Vec<String> {
        let text = fs_err::read_to_string(self.path("decisions.csv")).unwrap_or_default();
        text.lines().skip(1).map(str::to_owned).collect()
    }
}

fn decide(server: &Server, fields: &[(&str, &str)]) -> Answer {
    server.post("/audit/decide", &[], fields)
}

/// How many faces a page has.
fn n_faces(page: &str) -> usize {
    page.matches("<li id=\"face-").count()
}

#[test]
fn findings_of_both_kinds_are_shown_and_filtered_by_the_address_alone() {
    let place = Place::new();
    let server = place.serve();
    let all = server.get("/audit").page();
    for words in [
        "suspected label",
        "sure mistake",
        "duplicates with other labels",
        "duplicates across splits",
        "same bytes",
    ] {
        assert!(all.contains(words), "{words}: {all}");
    }
    assert!(!all.contains("evaluated face</b>") && !all.contains("<i>&"), "{all}");
    let faces = |query: &str| n_faces(&server.get(&format!("/audit?{query}")).page());
    // The suspected label and the sure mistake are f3's; two faces are copies, across splits and with other ages.
    assert_eq!(n_faces(&all), 6);
    assert_eq!(faces("kind=label"), 1);
    assert_eq!(faces("kind=label&task=age"), 0);
    assert_eq!(
        faces("kind=&task=age&label=&sort=file&page=1"),
        2,
        "empty values filter nothing, as forms send them"
    );
    assert_eq!((faces("task=age&label=3-9"), faces("split=val&kind=leak"), faces("split=test")), (2, 2, 0));
    assert_eq!(faces("predicted=Female"), 2);
    assert_eq!((faces("decided=open"), faces("decided=drop")), (6, 0));
    assert_eq!((faces("kind=sample"), faces("kind=sample&page=99")), (12, 12), "the last page there is");
    let first = all.find("suspicion ").unwrap();
    assert_eq!(&all[first..first + 14], "suspicion 1.00", "the most suspicious case comes first");

    for (query, said) in [
        (
            "kind=x",
            "kind: expected label, mistake, conflict, leak, duplicate, shape, face, unreadable or sample, found \"x\"",
        ),
        ("task=eyes", "task: expected age, gender or race, found \"eyes\""),
        ("page=0", "page: expected a whole number from 1 on, found \"0\""),
        ("sort=size", "sort: expected suspicion or file, found \"size\""),
    ] {
        assert_eq!(server.get(&format!("/audit?{query}")).problem(400), said);
    }
    assert!(server.get("/audit?king=label").problem(400).contains("unknown field `king`"));
}

#[test]
fn a_cell_of_a_confusion_leads_to_its_faces() {
    let place = Place::new();
    let server = place.serve();
    let page = server.get("/audit/confusions").page();
    let mut total = 0;
    for link in page.split("<a href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let Some(query) = link.strip_prefix("/audit?") else { continue };
        let query = query.replace("&amp;", "&");
        let n = n_faces(&server.get(&format!("/audit?{query}")).page());
        let wrong = query.contains("task=gender")
            && query.contains("label=Male")
            && query.contains("predicted=Female");
        assert!(n > 0 && (!wrong || n == 1), "{query}: {n}");
        total += n;
    }
    assert_eq!(total, 12, "each of four faces once a task");
}

#[test]
fn only_listed_images_inside_the_folder_are_served() {
    let place = Place::new();
    // A file of findings from elsewhere names what it likes.
    let images = fs_err::canonicalize(place.path("images")).unwrap();
    let absolute = images.join("f0.jpg").to_string_lossy().into_owned();
    let outside = ["../secret.jpg", "a/../../secret.jpg", &absolute];
    fs_err::copy(images.join("f0.jpg"), place.path("secret.jpg")).unwrap();
    fs_err::create_dir(images.join("a")).unwrap();
    fs_err::write(images.join("text.jpg"), "no image").unwrap();
    let mut audit: serde_json::Value =
        serde_json::from_slice(&fs_err::read(place.path("audit.json")).unwrap()).unwrap();
    for file in outside.iter().chain(&["text.jpg", "gone.jpg"]) {
        let bad = serde_json::json!({"split": "val", "file": file, "line": 2, "labels": {"age": null, "gender": null, "race": null}, "reason": "bad"});
        audit["unreadable"].as_array_mut().unwrap().push(bad);
    }
    fs_err::write(place.path("audit.json"), audit.to_string()).unwrap();
    let server = place.serve();
    let image = |file: &str| {
        let file: String = form_urlencoded::byte_serialize(file.as_bytes()).collect();
        server.get(&format!("/audit/image?file={file}"))
    };
    for file in ["f0.jpg", HOSTILE] {
        let answer = image(file);
        assert_eq!((answer.status, &answer.body[..3]), (200, &[0xff, 0xd8, 0xff][..]), "{file}");
        assert!(answer.head.contains("image/jpeg") && answer.head.contains("no-store"), "{}", answer.head);
    }
    assert_eq!(server.get("/audit/image?file=f0.jpg&size=large").status, 200);
    for file in outside {
        assert!(image(file).problem(404).ends_with("expected a file inside the images folder"), "{file}");
    }
    for file in ["text.jpg", "gone.jpg"] {
        assert!(
            image(file).problem(404).ends_with("expected an image, found none that can be read"),
            "{file}"
        );
    }
    fs_err::copy(images.join("f0.jpg"), images.join("unlisted.jpg")).unwrap();
    for file in ["unlisted.jpg", "", "./f0.jpg", "../images/f0.jpg", "f0.jpg\0"] {
        assert!(image(file).problem(404).contains("expected a file of a case"), "{file}");
    }
    assert_eq!(server.get("/audit/image").status, 400);
}

#[test]
fn decisions_are_written_shown_taken_back_and_taken_by_splits() {
    let place = Place::new();
    let server = place.serve();
    let answer = decide(
        &server,
        &[
            ("file", "f3.jpg"),
            ("task", "gender"),
            ("decision", "relabel"),
            ("label", "Female"),
            ("back", "kind=label"),
            ("place", "face-1"),
        ],
    );
    assert_eq!(answer.status, 303);
    assert!(answer.head.contains("location: /audit?kind=label#face-1\r\n"), "{}", answer.head);
    decide(&server, &[("file", HOSTILE), ("task", "race"), ("decision", "keep")]);
    decide(&server, &[("file", "f0.jpg"), ("decision", "keep")]);
    decide(&server, &[("file", "f0.jpg"), ("decision", "drop")]);
    let hostile = format!("\"{}\",keep,race,", HOSTILE.replace('"', "\"\""));
    assert_eq!(place.decided(), ["f3.jpg,relabel,gender,Female", &hostile, "f0.jpg,drop,,"]);

    let page = server.get("/audit?decided=decided").page();
    assert!(page.contains("data-decision=\"relabel\"") && page.contains("relabel: Female"), "{page}");
    assert_eq!(n_faces(&page), 2, "f3's cases of gender; f0 is decided about, its copy is not");
    assert_eq!(n_faces(&server.get("/audit?decided=drop").page()), 4, "with the copy beside it");

    // What an editor does meanwhile stays.
    let path = place.path("decisions.csv");
    fs_err::write(&path, fs_err::read_to_string(&path).unwrap() + "f2.jpg,keep,,\n").unwrap();
    decide(&server, &[("file", HOSTILE), ("task", "race"), ("decision", "undo")]);
    let expected = ["f3.jpg,relabel,gender,Female", "f0.jpg,drop,,", "f2.jpg,keep,,"];
    assert_eq!(place.decided(), expected);

    let schema = Schema::fairface();
    let decisions = Decisions::read(&path, &schema).unwrap();
    let (splits, decided) =
        Splits::read_decided(place.path("splits"), &schema, FilePaths::InsideRoot, &decisions).unwrap();
    assert_eq!((decided.dropped, decided.relabelled, splits.train.len()), (1, 1, 2));

    // A script gets what was decided, not a page.
    let said = server.post(
        "/audit/decide",
        &[("accept", "application/json"), ("sec-fetch-site", "same-origin")],
        &[("file", "f0.jpg"), ("decision", "undo")],
    );
    assert_eq!((said.status, said.text().as_str()), (200, r#"{"decision":"","words":""}"#));
}

#[test]
fn what_cannot_be_decided_is_refused_and_loses_nothing() {
    let place = Place::new();
    let server = place.serve();
    for (fields, said) in [
        (
            &[("file", "nobody.jpg"), ("decision", "drop")][..],
            "file: expected one of a case, found \"nobody.jpg\"",
        ),
        (
            &[("file", "f0.jpg"), ("decision", "burn")],
            "decision: expected keep, drop, relabel or undo, found \"burn\"",
        ),
        (&[("file", "f0.jpg"), ("decision", "relabel")], "task: expected one with relabel, found none"),
        (
            &[("file", "f0.jpg"), ("decision", "keep"), ("task", "eyes")],
            "task: expected a task: age, gender or race, found \"eyes\"",
        ),
        (
            &[("file", "f0.jpg"), ("decision", "relabel"), ("task", "race"), ("label", "")],
            "label: expected Black or White, found \"\"",
        ),
    ] {
        assert_eq!(decide(&server, fields).problem(400), said);
    }
    assert!(decide(&server, &[("decision", "drop")]).problem(400).contains("missing field `file`"));
    let long = "x".repeat(70_000);
    let said = decide(&server, &[("file", &long), ("decision", "drop")]).problem(413);
    assert!(said.contains("at most 65536 bytes"), "{said}");
    // Neither another page of this server's nor another server's.
    let drop = [("file", "f0.jpg"), ("decision", "drop"), ("back", "\r\nset-cookie: a=b")];
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://localhost:1"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let said = server.post("/audit/decide", &[(name, value)], &drop).problem(403);
        assert!(
            said.contains("expected a") && said.contains("of this server's own pages"),
            "{name} {value}: {said}"
        );
    }
    assert_eq!(server.get("/audit/decide?file=f0.jpg&decision=drop").status, 405, "a link decides nothing");
    assert!(!place.path("decisions.csv").exists());
    let own = format!("http://{}", server.address);
    let answer = server.post("/audit/decide", &[("origin", &own), ("sec-fetch-site", "same-origin")], &drop);
    assert!(answer.status == 303 && !answer.head.contains("set-cookie"), "{}", answer.head);

    // A file that somebody has broken meanwhile is shown as such, and stays.
    let broken = "file,decision\nf0.jpg,burn\n";
    fs_err::write(place.path("decisions.csv"), broken).unwrap();
    assert!(server.get("/audit").page().contains("expected keep, drop or relabel, found &quot;burn&quot;"));
    assert!(decide(&server, &drop).problem(422).contains("decisions.csv:2: column decision"));
    assert_eq!(fs_err::read_to_string(place.path("decisions.csv")).unwrap(), broken);
}

#[test]
fn what_is_no_audit_is_refused_at_the_start() {
    let place = Place::new();
    let refused = |files: AuditFiles| audit_routes(&files).err().map(|error| error.to_string()).unwrap();
    for (text, said) in [
        (
            "{}",
            "odd.json: expected the JSON of an audit or an evaluation, found neither cross_split nor label_errors",
        ),
        ("no JSON", "odd.json: expected the JSON of an audit or an evaluation, found expected ident"),
        (r#"{"cross_split": 3}"#, "odd.json: expected the JSON of an audit, found "),
        (r#"{"label_errors": 3}"#, "odd.json"),
    ] {
        fs_err::write(place.path("odd.json"), text).unwrap();
        let found = refused(AuditFiles { findings: vec![place.path("odd.json")], ..place.files() });
        assert!(found.contains(said), "{text}: {found}");
    }
    assert!(refused(AuditFiles { images: place.path("nowhere"), ..place.files() }).contains("nowhere"));
    fs_err::write(place.path("val.csv"), "file,age\nf0.jpg,3-9\n").unwrap();
    assert!(refused(place.files()).ends_with("val.csv: expected a column age_predicted, found none"));
    fs_err::remove_file(place.path("val.csv")).unwrap();
    fs_err::write(place.path("decisions.csv"), "file\n").unwrap();
    assert!(refused(place.files()).contains("missing column decision"));
}
