//! A model that is known by name, from a server of the test's own to the file that others look for.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::Duration;

use candle_core::Device;
use ff_core::files::sha256;
use ff_hub::address::RemoteFile;
use ff_hub::catalogue::{KnownModel, Place, Purpose};
use ff_model::weights::{Kind, convert, serialise};
use ff_model::{Architecture, Parameters, TaskLabels, weights};
use ff_train::weights::pretrained::{Installation, WeightsSource, install};
use fs_err as fs;

/// A server that sends one file to whoever follows its redirect.
fn serve(file: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            lines.map(Result::unwrap).take_while(|line| !line.is_empty()).for_each(drop);
            let (len, close) = (file.len(), "Connection: close\r\n\r\n");
            // A client that hangs up is no concern of the server's.
            let _ = if first.starts_with("GET /storage/") {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n{close}")
                    .and_then(|()| stream.write_all(&file))
            } else {
                write!(stream, "HTTP/1.1 302 Found\r\nLocation: /storage/x\r\nContent-Length: 0\r\n{close}")
            };
        }
    });
    format!("{address}/releases/published.bin")
}

/// A whole model of one task.
fn model() -> Vec<u8> {
    let task = ff_core::Schema::fairface().task("gender").unwrap().clone();
    let labels = [TaskLabels { task, labels: ["Female", "Male"].map(str::to_owned).to_vec() }];
    let heads = labels.each_ref().map(TaskLabels::head);
    let parameters = Parameters::initialise(Architecture::Resnet18, &heads, 3, &Device::Cpu).unwrap();
    serialise(&parameters, weights::labels_metadata(&labels)).unwrap()
}

/// An entry as the catalogue has them, which lasts as long as those.
fn entry(address: String, sha256: String, purpose: Purpose) -> &'static KnownModel {
    let sha256 = String::leak(sha256);
    let file = RemoteFile { address: String::leak(address), bytes: None, sha256 };
    Box::leak(Box::new(KnownModel {
        name: "published",
        title: "a test's own",
        purpose,
        place: Place::Address(file),
        bytes: None,
        file_sha256: Some(sha256),
        backbone_sha256: None,
        licence: "CC0",
        credit: "nobody",
    }))
}

#[test]
fn a_model_at_an_address_is_fetched_checked_and_kept_under_its_name() {
    let (file, dir) = (model(), tempfile::tempdir().unwrap());
    let known = entry(serve(file.clone()), sha256(&file), Purpose::Prediction);
    let to = Installation { cache: Some(dir.path()), out: None, timeout: Duration::from_secs(60) };
    let mut arrived = 0;
    let installed =
        install(&WeightsSource::Known(known), to, &mut |transfer| arrived = transfer.done).unwrap();
    assert_eq!(arrived, file.len() as u64);
    assert_eq!(installed.path, dir.path().join("published.safetensors"));
    assert!(fs::read(&installed.path).unwrap() == file);
    assert_eq!(
        (installed.kind, installed.name, installed.known),
        (Kind::Model, Some("published"), Some("a test's own"))
    );
    assert_eq!(
        (installed.licence, installed.credit, installed.verified),
        (Some("CC0"), Some("nobody"), Some(true))
    );

    // A second time needs no server, and another file's name is nobody's.
    let kept = dir.path().join("downloads/published.bin");
    assert!(kept.is_file());
    let out = dir.path().join("elsewhere.safetensors");
    let gone = entry("http://127.0.0.1:1/published.bin".to_owned(), sha256(&file), Purpose::Prediction);
    let to = Installation { out: Some(&out), ..to };
    let installed = install(&WeightsSource::Known(gone), to, &mut |_| {}).unwrap();
    assert_eq!((&installed.path, installed.name), (&out, None));

    // The same file on a stick is known by its hash.
    let source = WeightsSource::File { path: kept, kept_as: Some(known) };
    let installed = install(&source, to, &mut |_| {}).unwrap();
    assert_eq!((installed.known, installed.verified), (Some("a test's own"), None));
}

#[test]
fn what_is_not_meant_is_refused() {
    let (file, dir) = (model(), tempfile::tempdir().unwrap());
    let to = Installation { cache: Some(dir.path()), out: None, timeout: Duration::from_secs(60) };
    let refused = |known| install(&WeightsSource::Known(known), to, &mut |_| {}).unwrap_err().to_string();
    let message = refused(entry(serve(file.clone()), sha256(b"another"), Purpose::Prediction));
    assert!(
        message.contains(&format!("expected SHA-256 {}, found {}", sha256(b"another"), sha256(&file))),
        "{message}"
    );
    let message = refused(entry(serve(file.clone()), sha256(&file), Purpose::Backbone));
    assert!(
        message.contains("expected a published backbone, as published is one, found a whole model"),
        "{message}"
    );
    let message = refused(entry(serve(b"no weights".to_vec()), sha256(b"no weights"), Purpose::Prediction));
    assert!(message.contains("published.bin"), "{message}");
    assert!(!dir.path().join("published.safetensors").exists());

    // A cache that there is not.
    let nowhere = Installation { cache: None, ..to };
    let known = entry(serve(file.clone()), sha256(&file), Purpose::Prediction);
    let message = install(&WeightsSource::Known(known), nowhere, &mut |_| {}).unwrap_err().to_string();
    assert!(message.contains("neither XDG_CACHE_HOME nor HOME is set"), "{message}");
}

/// Whatever file they come in, weights are known by the backbone that is pinned.
#[test]
fn a_pinned_backbone_is_known_in_any_container() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.safetensors");
    let parameters = Parameters::initialise(Architecture::Resnet18, &[], 5, &Device::Cpu).unwrap();
    let named = parameters.named().unwrap().into_iter();
    let write = |prefix: &str| {
        let backbone = named.clone().filter_map(|(name, tensor)| {
            Some((format!("{prefix}{}", name.strip_prefix("backbone.")?), tensor))
        });
        let tensors: Vec<_> = backbone.collect();
        fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    };
    write("");
    let pin = String::leak(convert(&path).unwrap().backbone_sha256);
    let known = entry(String::new(), String::new(), Purpose::Backbone);
    let known = &*Box::leak(Box::new(KnownModel {
        name: "resnet18",
        file_sha256: None,
        backbone_sha256: Some(pin),
        ..*known
    }));
    write("backbone.");
    let to = Installation { cache: Some(dir.path()), out: None, timeout: Duration::from_secs(60) };
    let source = WeightsSource::File { path: path.clone(), kept_as: Some(known) };
    let installed = install(&source, to, &mut |_| {}).unwrap();
    assert_eq!((installed.name, installed.known), (Some("resnet18"), Some("a test's own")));
    assert_eq!(installed.path, dir.path().join("resnet18.safetensors"));
}
