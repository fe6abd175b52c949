//! A folder in which `fairface` runs, with a model and some faces.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use candle_core::{Device, Tensor};
use ff_core::Schema;
use ff_model::weights::{labels_metadata, serialise};
use ff_model::{Architecture, Compute, Dropout, Engine, FaceModel, TaskLabels};
use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

/// A temporary folder; commands run in it, and know no weights, caches or tokens of this machine.
pub struct Workplace {
    dir: TempDir,
}

impl Workplace {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fairface"));
        command.args(args).current_dir(self.dir.path());
        command.env("XDG_CACHE_HOME", self.path("cache")).env("HF_HOME", self.path("hub"));
        let proxies = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
        for name in ["FAIRFACE_WEIGHTS", "FAIRFACE_MIRROR", "HF_ENDPOINT", "HF_TOKEN", "RUST_LOG"] {
            command.env_remove(name);
        }
        proxies.into_iter().for_each(|name| {
            command.env_remove(name);
        });
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The command with `input` on its standard input.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Output {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// The JSON object that a command prints, which must succeed.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        assert_exit(&output, 0);
        serde_json::from_slice(&output.stdout).expect("stdout is one JSON object")
    }

    /// Writes `model.safetensors`, a whole model of random values.
    pub fn with_model(self) -> Self {
        fs::write(self.path("model.safetensors"), model()).unwrap();
        self
    }

    /// Copies `n` of the sample's faces into `faces/`, as 0.jpg, 1.jpg, ...
    pub fn with_faces(self, n: usize) -> Self {
        fs::create_dir(self.path("faces")).unwrap();
        for (i, face) in sample_faces(n).iter().enumerate() {
            fs::copy(face, self.path(&format!("faces/{i}.jpg"))).unwrap();
        }
        self
    }
}

/// A model file of random weights, with running statistics that belong to them: logits are of a usual size.
fn model() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let heads = labels().map(|task| task.head());
        let mut model =
            FaceModel::new(Architecture::default(), &heads, &Compute::cpu(Engine::Fast), 7).unwrap();
        let noise: Vec<f32> =
            (0..4 * 3 * 64 * 64u32).map(|i| (i * 7919 % 1021) as f32 / 255.0 - 2.0).collect();
        let images = Tensor::from_vec(noise, (4, 3, 64, 64), &Device::Cpu).unwrap();
        for step in 0..40 {
            model.forward_train(&images, Dropout { rate: 0.0, seed: 0, step }).unwrap();
        }
        serialise(model.parameters(), labels_metadata(&labels())).unwrap()
    })
}

/// Three tasks with labels in the order of their ids.
pub fn labels() -> [TaskLabels; 3] {
    let task = |task: &str, labels: &[&str]| TaskLabels {
        task: Schema::fairface().task(task).unwrap().clone(),
        labels: labels.iter().map(|&l| l.to_owned()).collect(),
    };
    [
        task("age", &["0-2", "10-19", "3-9"]),
        task("gender", &["Female", "Male"]),
        task("race", &["Black", "East Asian", "Indian", "White"]),
    ]
}

pub fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample")
}

fn sample_faces(n: usize) -> Vec<PathBuf> {
    let csv = fs::read_to_string(sample().join("splits/ff_test.csv")).unwrap();
    let rows = csv.lines().skip(1).take(n);
    rows.map(|row| sample().join("images").join(row.split(',').next().unwrap())).collect()
}

#[track_caller]
pub fn assert_exit(output: &Output, code: i32) {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout: {stdout}\nstderr: {stderr}");
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The largest difference between two objects of objects ... of numbers with the same keys.
#[track_caller]
pub fn largest_difference(a: &Value, b: &Value) -> f64 {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            assert_eq!(x.len(), y.len(), "{a} {b}");
            x.iter().map(|(key, value)| largest_difference(value, &y[key])).fold(0.0, f64::max)
        }
        _ => (a.as_f64().unwrap() - b.as_f64().unwrap()).abs(),
    }
}

/// `{image: {task: {label: probability}}}` of what `predict --json` printed.
pub fn probabilities(predicted: &Value) -> Value {
    let image = |p: &Value| {
        let answers = p.as_object().unwrap().iter();
        let tasks =
            answers.filter_map(|(task, answer)| Some((task.clone(), answer.get("probabilities")?.clone())));
        (p["file"].as_str().unwrap().to_owned(), Value::Object(tasks.collect()))
    };
    Value::Object(predicted["predictions"].as_array().unwrap().iter().map(image).collect())
}
