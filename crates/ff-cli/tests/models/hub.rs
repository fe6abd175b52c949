//! `weights` against a hub, or a server of releases, of the test's own: an HTTP server on this machine, as good or as
//! bad as the test wants it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex, OnceLock};

use candle_core::{DType, Device};
use ff_core::files::sha256;
use ff_model::{Architecture, Parameters};
use fs_err as fs;
use serde_json::Value;

use crate::support::{Workplace, assert_exit, text};

/// ResNet-34 under torchvision's names, in bf16 to be small.
pub fn weights() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let named = Parameters::initialise(Architecture::Resnet34, &[], 1, &Device::Cpu)
            .unwrap()
            .named()
            .unwrap()
            .into_iter();
        let backbone = named.filter_map(|(name, t)| {
            Some((name.strip_prefix("backbone.")?.to_owned(), t.to_dtype(DType::BF16).unwrap()))
        });
        safetensors::serialize(backbone.collect::<Vec<_>>(), None).unwrap()
    })
}

/// How a hub behaves.
#[derive(Clone)]
pub struct Behaviour {
    /// The SHA-256 that it announces of the weights.
    pub announced: String,
    /// Other files that it has, by a part of their path.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// Bytes after which it breaks the connection.
    pub cut_after: usize,
    /// A status that it answers everything with, if not the file.
    pub status: Option<&'static str>,
    /// Whether it keeps connections open when it has nothing more to say.
    pub silent: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            announced: sha256(weights()),
            files: Vec::new(),
            cut_after: usize::MAX,
            status: None,
            silent: false,
        }
    }
}

/// A request: its path, the first byte that it asks for, its `Authorization`.
pub type Request = (String, usize, Option<String>);

pub struct Hub {
    pub address: String,
    behaviour: Arc<Mutex<Behaviour>>,
    pub requests: Arc<Mutex<Vec<Request>>>,
}

impl Hub {
    /// Serves until the process ends.
    pub fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let behaviour = Arc::new(Mutex::new(behaviour));
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let hub = Self { address, behaviour: Arc::clone(&behaviour), requests: Arc::clone(&requests) };
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let behaviour = behaviour.lock().unwrap().clone();
                // A client that hangs up is no concern of the server's.
                let stream = stream.unwrap();
                let _ = answer(stream.try_clone().unwrap(), &behaviour, &requests);
                if behaviour.silent {
                    open.push(stream);
                }
            }
        });
        hub
    }

    pub fn become_(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// First bytes that were asked for, beyond the first look at the file.
    pub fn starts(&self) -> Vec<usize> {
        self.requests.lock().unwrap().iter().map(|r| r.1).collect()
    }

    /// Gets weights whose content is not pinned.
    fn weights(&self, place: &Workplace) -> Output {
        self.run(place, &["weights", "--json", "--source", "tests/resnet34"])
    }

    pub fn run(&self, place: &Workplace, args: &[&str]) -> Output {
        let mut command = place.command(args);
        command.env("HF_ENDPOINT", &self.address).env("FAIRFACE_MIRROR", &self.address);
        command.env("HF_TOKEN", "hf_secret").output().unwrap()
    }
}

/// One request, one answer: status lines and headers as the hub's.
fn answer(
    mut stream: TcpStream,
    behaviour: &Behaviour,
    requests: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap()?;
    let headers: Vec<String> = lines.map(|line| line.unwrap()).take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let found = headers
            .iter()
            .find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value.to_owned())
    };
    // The hub's client always asks for a range.
    let range = header("range").unwrap_or("bytes=0-".to_owned());
    let (start, end) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let other = behaviour.files.iter().find(|(part, _)| path.contains(part));
    let (file, announced) = match other {
        Some((_, bytes)) => (bytes.as_slice(), sha256(bytes)),
        None => (weights(), behaviour.announced.clone()),
    };
    requests.lock().unwrap().push((path, start, header("authorization")));
    if let Some(status) = behaviour.status {
        return write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if behaviour.cut_after == 0 {
        return Ok(());
    }
    let end = end.parse().map_or(file.len(), |last: usize| last + 1);
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nETag: \"{announced}\"\r\nX-Linked-ETag: \"{announced}\"\r\n\
         X-Repo-Commit: 0123456789abcdef0123456789abcdef01234567\r\nContent-Length: {}\r\n\
         Content-Range: bytes {start}-{}/{}\r\nConnection: close\r\n\r\n",
        end - start,
        end - 1,
        file.len(),
    )?;
    let sent = (end - start).min(behaviour.cut_after);
    stream.write_all(&file[start..start + sent])
}

#[track_caller]
pub fn assert_says(output: &Output, expected: &[&str]) {
    assert_exit(output, 1);
    let stderr = text(&output.stderr);
    for part in expected {
        assert!(stderr.contains(part), "{part:?} is missing in {stderr}");
    }
}

#[test]
fn weights_arrive_checked_where_train_looks_for_them() {
    let (place, hub) = (Workplace::new(), Hub::start(Behaviour::default()));
    let output = hub.weights(&place);
    assert_exit(&output, 0);
    let installed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let path = place.path("cache/fairface/resnet34.safetensors");
    assert_eq!(installed["path"], path.to_str().unwrap());
    assert_eq!(installed["sha256"], sha256(weights()));
    assert_eq!((&installed["verified"], &installed["kind"]), (&true.into(), &"backbone".into()));
    assert_eq!((&installed["tensors"], &installed["params"]), (&180.into(), &21_284_672.into()));
    assert!(fs::read(&path).unwrap() == weights());
    for (path, _, token) in hub.requests.lock().unwrap().iter() {
        assert_eq!(path, "/tests/resnet34/resolve/main/model.safetensors");
        assert_eq!(token.as_deref(), Some("Bearer hf_secret"));
    }

    // The second time needs no hub.
    fs::remove_file(&path).unwrap();
    let n_requests = hub.starts().len();
    assert_exit(&hub.weights(&place), 0);
    assert_eq!(hub.starts().len(), n_requests);
    assert!(path.is_file());
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    let megabyte = 1 << 20;
    let (place, hub) =
        (Workplace::new(), Hub::start(Behaviour { cut_after: megabyte, ..Behaviour::default() }));
    // Broken again and again: one run gives up, the next goes on.
    assert_says(&hub.weights(&place), &["connection broke again and again", "run it again"]);
    let starts = hub.starts();
    let expected: Vec<usize> = [0].into_iter().chain((0..starts.len() - 1).map(|i| i * megabyte)).collect();
    assert_eq!(starts, expected, "a look, the beginning, and on from every cut");
    assert!(starts.len() > 3, "it tries more than once");
    hub.become_(Behaviour::default());
    assert_exit(&hub.weights(&place), 0);
    assert_eq!(hub.starts()[starts.len()..], [0, (starts.len() - 1) * megabyte]);
    assert!(fs::read(place.path("cache/fairface/resnet34.safetensors")).unwrap() == weights());
}

#[test]
fn a_damaged_file_is_refused_and_not_kept() {
    let announced = sha256(b"something else");
    let (place, hub) =
        (Workplace::new(), Hub::start(Behaviour { announced: announced.clone(), ..Behaviour::default() }));
    let found = sha256(weights());
    assert_says(
        &hub.weights(&place),
        &[&format!("expected SHA-256 {announced}, found {found}"), "run it again"],
    );
    assert!(!place.path("cache").exists(), "nothing for train to find");
    hub.become_(Behaviour::default());
    assert_exit(&hub.weights(&place), 0);
}

/// Whoever holds the hub could announce what hash they like of what they send.
#[test]
fn other_weights_under_the_default_name_are_refused_whatever_the_hub_announces() {
    let (place, hub) = (Workplace::new(), Hub::start(Behaviour::default()));
    for args in
        [&["weights"][..], &["weights", "resnet34"], &["weights", "--source", "timm/resnet34.tv_in1k"]]
    {
        let n_requests = hub.starts().len();
        assert_says(
            &hub.run(&place, args),
            &[
                "timm/resnet34.tv_in1k: expected torchvision's ResNet34_Weights.IMAGENET1K_V1",
                "8abaab25a84b4ad5394a17c69494ebbffc241cbf9c2700e4e31777a950865714",
                &format!("and {}: other weights under that name, deleted", sha256(weights())),
            ],
        );
        assert!(hub.starts().len() > n_requests, "it was not kept");
    }
    assert!(!place.path("cache").exists(), "nothing for train to find");
    let (path, ..) = hub.requests.lock().unwrap()[0].clone();
    let revision = "c983eba7f5e69bc3548a626d1b0b0b914e5de3a6";
    assert_eq!(path, format!("/timm/resnet34.tv_in1k/resolve/{revision}/model.safetensors"));
}

#[test]
fn a_silent_hub_is_given_up() {
    let megabyte = 1 << 20;
    for cut_after in [0, megabyte] {
        let behaviour = Behaviour { cut_after, silent: true, ..Behaviour::default() };
        let (place, hub) = (Workplace::new(), Hub::start(behaviour));
        let args = ["weights", "--json", "--source", "tests/resnet34", "--timeout", "1"];
        let part = place.path("hub/hub/models--tests--resnet34/blobs").join(sha256(weights()) + ".part");
        let given_up = || {
            assert_says(
                &hub.run(&place, &args),
                &[
                    "tests/resnet34: nothing came from the hub for 1 s; run it again, it goes on where it stopped",
                ],
            );
            let arrived = fs::metadata(&part).map_or(0, |part| part.len() as usize);
            assert!(arrived <= cut_after, "{arrived}");
            // A machine so busy that nothing came within the second is asked again.
            (arrived > 0 || cut_after == 0).then_some(arrived)
        };
        let arrived = (0..5).find_map(|_| given_up()).expect("what had arrived is kept");
        hub.become_(Behaviour::default());
        assert_exit(&hub.weights(&place), 0);
        assert_eq!(hub.starts().last(), Some(&arrived), "what had arrived is not fetched again");
    }
}

#[test]
fn refusals_and_a_missing_network_say_what_to_do() {
    let (place, hub) = (Workplace::new(), Hub::start(Behaviour::default()));
    for (status, expected) in [
        ("404 Not Found", &["no such repository", "(404)"][..]),
        ("401 Unauthorized", &["refuses (401)", "HF_TOKEN"]),
        ("403 Forbidden", &["refuses (403)", "HF_TOKEN"]),
        ("503 Service Unavailable", &["answered 503", "later"]),
    ] {
        hub.become_(Behaviour { status: Some(status), ..Behaviour::default() });
        assert_says(&hub.weights(&place), expected);
    }
    // A port that nobody listens on.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = place.command(&["weights"]);
    let output = command.env("HF_ENDPOINT", format!("http://{address}")).output().unwrap();
    assert_says(
        &output,
        &["timm/resnet34.tv_in1k", "cannot be reached", "weights --file FILE", "HF_ENDPOINT"],
    );
}

#[test]
fn a_part_that_cannot_be_continued_is_deleted() {
    let (place, hub) = (Workplace::new(), Hub::start(Behaviour::default()));
    let blobs = place.path("hub/hub/models--tests--resnet34/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.part", sha256(weights()))), vec![0; weights().len() + 1]).unwrap();
    assert_says(&hub.weights(&place), &["could not be continued", "run it again"]);
    assert_exit(&hub.weights(&place), 0);
}

#[test]
fn a_file_that_does_not_fit_is_refused_by_name() {
    let place = Workplace::new();
    let tensors = candle_core::safetensors::load_buffer(weights(), &Device::Cpu).unwrap();
    let rest: Vec<_> = tensors.into_iter().filter(|(name, _)| name != "layer3.2.bn2.running_var").collect();
    fs::write(place.path("cut.safetensors"), safetensors::serialize(rest, None).unwrap()).unwrap();
    let output = place.run(&["weights", "--file", "cut.safetensors"]);
    assert_says(&output, &["cut.safetensors", "layer3.2.bn2.running_var: missing"]);
    assert!(!place.path("cache").exists());
}
