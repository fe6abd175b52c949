//! Engines: a training step plain, captured and replayed, prediction, and where no capture is possible; beside the
//! processor's plans.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::CudaContext;
use ff_kernels::ThreadPool;
use ff_kernels::cpu::optim::{AdamW, Sgd};
use ff_kernels::cpu::plan::Plan;
use ff_kernels::gpu::check::Workbench;
use ff_kernels::gpu::check::values::{noise, parameters, relative_error, statistics};
use ff_kernels::gpu::device::{
    Engine, Error, Gpu, Images, Memory, Pass, Pinned, Result, Span, Testbed, Uploads,
};
use ff_kernels::gpu::program::batch::RECIPE_LEN;
use ff_kernels::gpu::program::update::{Group, Scalars};
use ff_kernels::gpu::{Buffer, BufferPlace, Element, Program};
use ff_kernels::network::{Config, Layout, Mode, Stage};

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
        // SAFETY: only its memory is used, by the engine, which checks lengths.
        let mut bench = unsafe { Testbed::new(gpu) };
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

    fn span(&self, buffer: Buffer) -> Span<'_> {
        self.bench.memory().span(buffer).unwrap()
    }

    /// A forward and a backward pass on other inputs for each `step`, on both sides.
    fn train(&mut self, step: u64) {
        let [height, width] = SIZE;
        let images = noise(BATCH * 3 * height * width, 100 + step);
        let grad = noise(BATCH * config().embedding_len(), 200 + step);
        write(&mut self.bench, Buffer::Planes, &images);
        write(&mut self.bench, GRAD_EMBEDDING, &grad);
        let memory = self.bench.memory();
        self.engine.fill_images(Images::Planes, &memory).unwrap();
        self.engine.run(Pass::Forward, &memory).unwrap();
        self.engine.read_embedding(self.span(EMBEDDING), BATCH).unwrap();
        self.engine.write_grad_embedding(self.span(GRAD_EMBEDDING)).unwrap();
        let memory = self.bench.memory();
        self.engine.run(Pass::Backward, &memory).unwrap();

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
        let memory = self.bench.memory();
        self.engine.fill_images(Images::Planes, &memory).unwrap();
        self.engine.run(Pass::Forward, &memory).unwrap();
        self.engine.read_embedding(self.span(EMBEDDING), BATCH).unwrap();
        let mut embedding = vec![0.0; BATCH * config().embedding_len()];
        self.plan.forward_eval(&self.parameters, &self.statistics, &images, &mut embedding);
        self.compare(step, EMBEDDING, &embedding);
    }

    fn compare(&mut self, step: u64, buffer: Buffer, expected: &[f32]) {
        let bytes = self.bench.read(BufferPlace { buffer, offset: 0 }, 4 * expected.len()).unwrap();
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
            pair.engine.run(Pass::Prepare, &pair.bench.memory()).unwrap();
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
    pair.engine.run(Pass::Prepare, &pair.bench.memory()).unwrap();
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

type Call<'a> = &'a (dyn Fn(&mut Engine, &Memory<'_>) -> Result<()> + Sync);

#[test]
fn every_call_may_come_from_another_thread() {
    let device = fake::alone();
    let mut pair = Pair::new(&device.gpu(), Mode::Train, Element::F32, false);
    let calls: [Call<'_>; 5] = [
        &|engine, memory| engine.fill_images(Images::Planes, memory),
        &|engine, memory| engine.run(Pass::Forward, memory),
        &|engine, memory| engine.read_embedding(memory.span(EMBEDDING).unwrap(), BATCH),
        &|engine, memory| engine.write_grad_embedding(memory.span(GRAD_EMBEDDING).unwrap()),
        &|engine, memory| engine.run(Pass::Backward, memory),
    ];
    for _ in 0..3 {
        for call in calls {
            let (engine, memory) = (&mut pair.engine, pair.bench.memory());
            fake::elsewhere(|| call(engine, &memory)).unwrap();
        }
    }
    fake::elsewhere(|| drop(pair));
}

/// Any address and any length used to be taken from safe code.
#[test]
fn memory_that_is_too_short_is_refused_by_name() {
    let device = fake::alone();
    let mut pair = Pair::new(&device.gpu(), Mode::Train, Element::F32, false);
    let memory = pair.bench.memory();
    let short = |buffer| memory.with(buffer, shorter(memory.span(buffer).unwrap()));
    let refused = |called: Result<()>, what: &str| {
        let error = called.unwrap_err();
        assert!(matches!(error, Error::Length { .. }) && error.to_string().starts_with(what), "{error}");
    };
    let engine = &mut pair.engine;
    refused(engine.fill_images(Images::Planes, &short(Buffer::Planes)), "the planes of a batch: expected");
    refused(engine.fill_images(Images::Planes, &Memory::default()), "the planes of a batch: expected");
    refused(engine.fill_images(Images::Pixels, &memory), "the pixels of a batch: expected");
    refused(engine.run(Pass::Forward, &short(Buffer::Parameters)), "the parameters: expected");
    refused(engine.run(Pass::Forward, &short(Buffer::Statistics)), "the running statistics: expected");
    refused(engine.run(Pass::Backward, &short(Buffer::Gradient)), "the gradient: expected");
    let (to, from) = (memory.span(EMBEDDING).unwrap(), memory.span(GRAD_EMBEDDING).unwrap());
    refused(engine.read_embedding(shorter(to), BATCH), "room for embeddings: expected");
    refused(engine.read_embedding(to, BATCH + 1), "images to read the embeddings of");
    refused(engine.write_grad_embedding(shorter(from)), "the gradient of the embeddings: expected");
    // Replayed passes are checked as well.
    for _ in 0..3 {
        engine.fill_images(Images::Planes, &memory).unwrap();
        engine.run(Pass::Forward, &memory).unwrap();
        refused(engine.run(Pass::Forward, &short(Buffer::Parameters)), "the parameters: expected");
    }
}

#[test]
fn steps_beyond_their_vectors_are_refused_by_name() {
    let device = fake::alone();
    let gpu = device.gpu();
    // SAFETY: only its memory is used, by calls that check lengths.
    let mut bench = unsafe { Testbed::new(&gpu) };
    const LEN: usize = 40;
    let vectors =
        [Buffer::Parameters, Buffer::Gradient, Buffer::FirstState, Buffer::SecondState, Buffer::Average];
    for buffer in vectors {
        bench.reserve(buffer, 4 * LEN).unwrap();
    }
    bench.reserve(Buffer::Scalars, Scalars::BUFFER_LEN).unwrap();
    let memory = bench.memory();
    let sgd = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.0, nesterov: false, grad_scale: 1.0 };
    let adamw =
        AdamW { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0, step: 1, grad_scale: 1.0 };
    gpu.norm(LEN, 0, 1, 1.0, None, &memory).unwrap();
    gpu.sgd(&[Group { range: 1..LEN, rule: sgd }], Some(0.9), &memory).unwrap();
    gpu.adamw(&[Group { range: 0..3, rule: adamw }, Group { range: 3..LEN, rule: adamw }], None, &memory)
        .unwrap();
    gpu.synchronize().unwrap();

    let refused = |called: Result<()>| assert!(matches!(called.unwrap_err(), Error::Length { .. }));
    refused(gpu.norm(LEN + 1, 0, 1, 1.0, None, &memory));
    refused(gpu.norm(usize::MAX, 0, 1, 1.0, None, &memory));
    refused(gpu.norm(LEN, Scalars::BUFFER_LEN / 4, 1, 1.0, None, &memory));
    refused(gpu.norm(LEN, usize::MAX, 1, 1.0, None, &memory));
    for end in [LEN + 1, usize::MAX, 1 << 32] {
        let (first, second) = (Group { range: 0..3, rule: sgd }, Group { range: 3..end, rule: sgd });
        refused(gpu.sgd(&[first, second], None, &memory));
        refused(gpu.adamw(&[Group { range: end - 1..end, rule: adamw }], None, &memory));
    }
    for buffer in vectors {
        let short = memory.with(buffer, shorter(memory.span(buffer).unwrap()));
        refused(gpu.adamw(&[Group { range: 0..LEN, rule: adamw }], Some(0.9), &short));
    }
    // A slice of another stream may be freed while this one still works on it.
    let other = gpu.stream().context().new_stream().unwrap().alloc_zeros::<f32>(LEN).unwrap();
    assert_eq!(Span::new(&gpu, &other).unwrap_err(), Error::OtherStream);
    let own = gpu.stream().alloc_zeros::<f32>(LEN).unwrap();
    assert_eq!(Span::new(&gpu, &own).unwrap().len(), 4 * LEN);
}

/// The owner of a context chose how cudarc orders its slices; other streams of it rely on that.
#[test]
fn event_tracking_is_left_as_it_was() {
    let _device = fake::alone();
    let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
    let _gpu = Gpu::new(Arc::clone(&stream)).unwrap();
    assert!(stream.context().is_event_tracking());
}

fn shorter(span: Span<'_>) -> Span<'_> {
    span.part(0..span.len() - 1)
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
    bench.write(BufferPlace { buffer, offset: 0 }, &bytes).unwrap();
}
