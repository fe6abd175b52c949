//! Engines: a training step plain, captured and replayed, prediction, and where no capture is possible; beside the
//! processor's plans.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::CudaContext;
use ff_kernels::ThreadPool;
use ff_kernels::cuda::{Engine, Gpu, Images, Pass, Pinned, Result, Testbed, Uploads};
use ff_kernels::gpu::batch::RECIPE_LEN;
use ff_kernels::gpu::twins::Workbench;
use ff_kernels::gpu::twins::values::{noise, parameters, relative_error, statistics};
use ff_kernels::gpu::{Bases, Buffer, Element, Place, Program};
use ff_kernels::resnet::{Config, Layout, Mode, Plan, Stage};

use crate::fake;

const BATCH: usize = 3;
const SIZE: [usize; 2] = [38, 33];

/// A branch in the first stage, strides.
fn config() -> Config {
    let stage = |width, depth| Stage { width, depth };
    Config { stem_channels: 16, stages: vec![stage(32, 2), stage(48, 1)] }
}

/// Buffers that only hold what the engine hands out and takes.
const EMBEDDING: Buffer = Buffer::FirstState;
const GRAD_EMBEDDING: Buffer = Buffer::SecondState;

/// A network on the device and the same on the processor.
struct Pair {
    bench: Testbed,
    engine: Engine,
    plan: Plan,
    element: Element,
    parameters: Vec<f32>,
    statistics: Vec<f32>,
}

impl Pair {
    fn new(gpu: &Arc<Gpu>, mode: Mode, element: Element, tf32: bool) -> Self {
        let [height, width] = SIZE;
        let program = match mode {
            Mode::Train => Program::train(&config(), element, BATCH, height, width),
            Mode::Infer => Program::infer(&config(), element, BATCH, height, width),
        };
        let layout = Layout::new(&config());
        let (parameters, statistics) = (parameters(&layout), statistics(&layout));
        let mut bench = Testbed::new(gpu);
        for (buffer, len) in [
            (Buffer::Parameters, parameters.len()),
            (Buffer::Statistics, statistics.len()),
            (Buffer::Gradient, parameters.len()),
            (Buffer::Planes, BATCH * 3 * height * width),
            (EMBEDDING, BATCH * config().embedding_len()),
            (GRAD_EMBEDDING, BATCH * config().embedding_len()),
        ] {
            bench.reserve(buffer, 4 * len).unwrap();
        }
        write(&mut bench, Buffer::Parameters, &parameters);
        write(&mut bench, Buffer::Statistics, &statistics);
        let engine = Engine::new(gpu, program, tf32).unwrap();
        let plan = Plan::new(&config(), BATCH, height, width, Arc::new(ThreadPool::new(1)), mode);
        Self { bench, engine, plan, element, parameters, statistics }
    }

    fn address(&self, buffer: Buffer) -> u64 {
        self.bench.bases().address(Place { buffer, offset: 0 })
    }

    fn bases(&self) -> Bases {
        self.bench.bases()
    }

    /// A forward and a backward pass on other inputs for each `step`, on both sides.
    fn train(&mut self, step: u64) {
        let [height, width] = SIZE;
        let images = noise(BATCH * 3 * height * width, 100 + step);
        let grad = noise(BATCH * config().embedding_len(), 200 + step);
        write(&mut self.bench, Buffer::Planes, &images);
        write(&mut self.bench, GRAD_EMBEDDING, &grad);
        let bases = self.bases();
        self.engine.fill_images(Images::Planes, bases).unwrap();
        self.engine.run(Pass::Forward, bases).unwrap();
        self.engine.read_embedding(self.address(EMBEDDING), BATCH).unwrap();
        self.engine.write_grad_embedding(self.address(GRAD_EMBEDDING)).unwrap();
        self.engine.run(Pass::Backward, bases).unwrap();

        let (mut embedding, mut gradient) = (vec![0.0; grad.len()], vec![0.0; self.parameters.len()]);
        self.plan.forward_train(&self.parameters, &mut self.statistics, &images, &mut embedding);
        self.plan.backward(&self.parameters, &grad, &mut gradient);
        self.compare(step, EMBEDDING, &embedding);
        self.compare(step, Buffer::Statistics, &self.statistics.clone());
        self.compare(step, Buffer::Gradient, &gradient);
    }

    /// A prediction on other inputs for each `step`, on both sides.
    fn predict(&mut self, step: u64) {
        let [height, width] = SIZE;
        let images = noise(BATCH * 3 * height * width, 100 + step);
        write(&mut self.bench, Buffer::Planes, &images);
        let bases = self.bases();
        self.engine.fill_images(Images::Planes, bases).unwrap();
        self.engine.run(Pass::Forward, bases).unwrap();
        self.engine.read_embedding(self.address(EMBEDDING), BATCH).unwrap();
        let mut embedding = vec![0.0; BATCH * config().embedding_len()];
        self.plan.forward_eval(&self.parameters, &self.statistics, &images, &mut embedding);
        self.compare(step, EMBEDDING, &embedding);
    }

    fn compare(&mut self, step: u64, buffer: Buffer, expected: &[f32]) {
        let bytes = self.bench.read(Place { buffer, offset: 0 }, 4 * expected.len()).unwrap();
        let found: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let tolerance = match (self.element, buffer) {
            (Element::F32, _) => 1e-3,
            (Element::Bf16, Buffer::Gradient) => 0.5,
            (Element::Bf16, _) => 0.05,
        };
        let difference = relative_error(&found, expected);
        assert!(difference <= tolerance, "step {step}: {buffer:?} is off by {difference:.1e}");
    }
}

#[test]
fn training_steps_are_the_same_plain_captured_and_replayed() {
    let device = fake::alone();
    let gpu = device.gpu();
    for element in [Element::F32, Element::Bf16] {
        let mut pair = Pair::new(&gpu, Mode::Train, element, false);
        let before = device.graphs_launched();
        for step in 0..4 {
            pair.train(step);
        }
        assert_eq!(pair.engine.uncaptured(), None);
        let expected = before.map(|launched| launched + 2 * 3);
        assert_eq!(device.graphs_launched(), expected, "both passes from the second step on");
        // Another gradient: the backward pass is captured anew, with the new address.
        let len = 4 * pair.parameters.len();
        pair.bench.reserve(Buffer::Average, len).unwrap();
        pair.bench.reserve(Buffer::Gradient, len).unwrap();
        for step in 4..6 {
            pair.train(step);
        }
        assert_eq!(pair.engine.uncaptured(), None);
    }
}

#[test]
fn predictions_follow_the_parameters_that_were_prepared() {
    let device = fake::alone();
    let gpu = device.gpu();
    for element in [Element::F32, Element::Bf16] {
        let mut pair = Pair::new(&gpu, Mode::Infer, element, false);
        for round in 0..3 {
            for scale in &mut pair.parameters {
                *scale *= 1.1;
            }
            write(&mut pair.bench, Buffer::Parameters, &pair.parameters);
            pair.plan.invalidate_weights();
            let bases = pair.bases();
            pair.engine.run(Pass::Prepare, bases).unwrap();
            pair.predict(2 * round);
            pair.predict(2 * round + 1);
        }
        assert_eq!(pair.engine.uncaptured(), None);
    }
}

#[test]
fn fused_convolutions_are_taken_apart_where_cudnn_has_none() {
    let Some(mut device) = fake::alone_on_fake() else { return };
    device.set("fused", 0, 1);
    let gpu = device.gpu();
    let mut pair = Pair::new(&gpu, Mode::Infer, Element::Bf16, false);
    let bases = pair.bases();
    pair.engine.run(Pass::Prepare, bases).unwrap();
    (0..3).for_each(|step| pair.predict(step));
    let algorithms = pair.engine.algorithms();
    assert!(algorithms.iter().all(|line| line.contains("bias in a kernel of its own")), "{algorithms:#?}");
}

#[test]
fn a_stream_that_cannot_be_captured_runs_command_by_command() {
    let _device = fake::alone();
    let gpu = Gpu::new(CudaContext::new(0).unwrap().default_stream()).unwrap();
    let mut pair = Pair::new(&gpu, Mode::Train, Element::F32, false);
    (0..3).for_each(|step| pair.train(step));
    let error = pair.engine.uncaptured().unwrap().to_string();
    assert!(error.contains("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"), "{error}");
}

type Call<'a> = &'a (dyn Fn(&mut Engine) -> Result<()> + Sync);

#[test]
fn every_call_may_come_from_another_thread() {
    let device = fake::alone();
    let mut pair = Pair::new(&device.gpu(), Mode::Train, Element::F32, false);
    let (bases, to, from) = (pair.bases(), pair.address(EMBEDDING), pair.address(GRAD_EMBEDDING));
    let calls: [Call<'_>; 5] = [
        &|engine| engine.fill_images(Images::Planes, bases),
        &|engine| engine.run(Pass::Forward, bases),
        &|engine| engine.read_embedding(to, BATCH),
        &|engine| engine.write_grad_embedding(from),
        &|engine| engine.run(Pass::Backward, bases),
    ];
    for _ in 0..3 {
        for call in calls {
            fake::elsewhere(|| call(&mut pair.engine)).unwrap();
        }
    }
    fake::elsewhere(|| drop(pair));
}

#[test]
fn a_capture_bears_uploads_from_another_thread() {
    const LEN: usize = 100;
    const DEPTH: usize = 500;
    let device = fake::alone();
    let gpu = device.gpu();
    let mut pair = Pair::new(&gpu, Mode::Train, Element::F32, false);
    let mut uploads = Uploads::new(&gpu, DEPTH, 3 * LEN, RECIPE_LEN).unwrap();
    let stop = AtomicBool::new(false);
    let (stop, gpu) = (&stop, &gpu);
    std::thread::scope(|scope| {
        let loader = scope.spawn(move || {
            let mut uploaded = Vec::new();
            while !stop.load(Ordering::Relaxed) && uploaded.len() < DEPTH {
                let pixels = Pinned::new(gpu, 3 * LEN).unwrap();
                let pixels = uploads.upload(Box::new(pixels), (LEN, 1), &[0.0; RECIPE_LEN]).unwrap();
                uploaded.push(pixels);
            }
            // Slots are given back on the compute stream, so not while it is captured.
            (uploads, uploaded)
        });
        (0..3).for_each(|step| pair.train(step));
        stop.store(true, Ordering::Relaxed);
        drop(loader.join().unwrap());
    });
    assert_eq!(pair.engine.uncaptured(), None);
}

#[test]
fn rounding_engines_and_those_without_room_are_not_chosen() {
    let Some(device) = fake::alone_on_fake() else { return };
    let gpu = device.gpu();
    let engines = |element, tf32| Pair::new(&gpu, Mode::Train, element, tf32).engine.algorithms();
    let exact = engines(Element::F32, false);
    assert!(exact.iter().all(|line| line.contains(": engine 0, ")), "{exact:#?}");
    for lines in [engines(Element::F32, true), engines(Element::Bf16, false)] {
        let good = |line: &String| line.contains(": engine 0, ") || line.contains(": engine 62, ");
        assert!(lines.iter().all(good), "{lines:#?}");
    }
}

fn write(bench: &mut Testbed, buffer: Buffer, values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    bench.write(Place { buffer, offset: 0 }, &bytes).unwrap();
}
