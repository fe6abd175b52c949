//! A server on a free port in this process, and its network.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ff_core::{Encoders, LabelEncoder, Schema};
use ff_data::ImageRules;
use ff_serve::{
    About, Engine, EngineOptions, Groups, Metrics, Network, Options, Router, Served, Shutdown, routes, serve,
    served_tasks,
};
use ff_train::infer::Judged;

use crate::client::{self, PATIENCE};

/// What the tests' network does with a batch.
#[derive(Clone, Default)]
pub struct Script {
    /// If there is one, each batch waits for a word from it.
    pub gate: Option<Arc<Mutex<Receiver<()>>>>,
    /// Sizes of the batches that it has begun.
    pub begun: Arc<Mutex<Vec<usize>>>,
}

impl Network for Script {
    fn judge(&mut self, planes: &[f32], side: usize) -> Result<Vec<Judged>, String> {
        let n = planes.len() / (3 * side * side);
        self.begun.lock().unwrap().push(n);
        if let Some(gate) = &self.gate {
            gate.lock().unwrap().recv().unwrap();
        }
        let judged = |planes: &[f32]| {
            let mean = planes.iter().sum::<f32>() / planes.len() as f32;
            assert!(mean < WHITE, "a white image");
            Judged {
                embedding: vec![mean; 4],
                logits: vec![vec![mean, 0.0, 1.0], vec![mean, 1.0], vec![0.0, mean]],
            }
        };
        Ok(planes.chunks(3 * side * side).map(judged).collect())
    }
}

/// The mean of normalised planes from which on they panic.
const WHITE: f32 = 2.3;

/// A running server.
pub struct Place {
    pub address: SocketAddr,
    pub shutdown: Shutdown,
    pub script: Script,
    thread: Option<JoinHandle<ff_serve::Result<()>>>,
}

/// How a server is set up.
pub struct Setup {
    pub options: Options,
    pub queue: usize,
    pub max_body: usize,
    pub timeout: Duration,
    pub script: Script,
    pub more: Router,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            options: Options { address: "127.0.0.1:0".parse().unwrap(), ..Options::default() },
            queue: 8,
            max_body: 1 << 20,
            timeout: PATIENCE,
            script: Script::default(),
            more: Router::new(),
        }
    }
}

impl Setup {
    /// One whose batches wait for words, and the way to say them.
    pub fn gated() -> (Self, Sender<()>) {
        let (open, gate) = channel();
        let script = Script { gate: Some(Arc::new(Mutex::new(gate))), ..Script::default() };
        (Self { script, ..Self::default() }, open)
    }

    pub fn start(self) -> Place {
        let Self { options, queue, max_body, timeout, script, more } = self;
        let schema = Schema::fairface();
        let labels = [
            ("age", &["0-2", "10-19", "3-9"][..]),
            ("gender", &["Female", "Male"]),
            ("race", &["Black", "White"]),
        ];
        let encoder = |(task, labels): (&str, &[&str])| {
            let task = schema.task(task).unwrap().clone();
            (
                task.name.clone(),
                LabelEncoder::from_sorted(task, labels.iter().map(|&l| l.to_owned()).collect()).unwrap(),
            )
        };
        let encoders = Encoders::new(labels.into_iter().map(encoder).collect()).unwrap();
        let (tasks, off) = served_tasks(&encoders, None).unwrap();
        let engine = EngineOptions { workers: 2, max_batch: 4, queue, image_size: 64 };
        let about = About {
            name: "tests".to_owned(),
            title: "a network of tests".to_owned(),
            trained_on: "nothing".to_owned(),
            credit: None,
            architecture: "none".to_owned(),
            precision: "f32".to_owned(),
            embedding_len: 4,
            off,
            groups: Groups::Unknown("nobody was judged".to_owned()),
        };
        let served = Served {
            engine: Engine::start(script.clone(), engine, Arc::new(Metrics::new())).unwrap(),
            encoders,
            tasks,
            about,
            rules: ImageRules { max_pixels: 1_000_000, ..ImageRules::default() },
            padding: 0.25,
            max_body,
            timeout,
        };
        let shutdown = Shutdown::new();
        let (said, heard) = channel();
        let stop = shutdown.clone();
        let thread = std::thread::spawn(move || {
            let routes = routes(served, &stop).merge(more);
            serve(&options, routes, &stop, |address| said.send(address).unwrap())
        });
        let address = heard.recv_timeout(PATIENCE).unwrap();
        Place { address, shutdown, script, thread: Some(thread) }
    }
}

impl Place {
    pub fn get(&self, target: &str) -> client::Reply {
        client::get(self.address, target)
    }

    pub fn post(&self, target: &str, body: &[u8]) -> client::Reply {
        client::post(self.address, target, "image/jpeg", body)
    }

    /// Waits until it is so.
    #[track_caller]
    pub fn until(&self, mut is_so: impl FnMut(&Self) -> bool) {
        let begun = std::time::Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {}", self.get("/metrics").text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A figure of `/metrics`.
    pub fn figure(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("fairface_{name} ")));
        line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
    }

    /// Asks it to stop and waits for its end.
    pub fn stop(mut self) {
        self.shutdown.begin();
        self.ended();
    }

    /// Waits for its end.
    pub fn ended(&mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

/// A face of 224 pixels.
pub fn face() -> Vec<u8> {
    data("sample/images/val/10013.jpg")
}

pub fn data(path: &str) -> Vec<u8> {
    fs_err::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(path)).unwrap()
}
