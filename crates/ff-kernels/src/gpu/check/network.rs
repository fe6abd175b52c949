//! Whole programs: the backbone as `cpu::plan` computes it on the processor.

use std::sync::Arc;

use super::values::{noise, parameters, relative_error, statistics};
use super::{Bench, Verdict, Workbench};
use crate::cpu::base::threads::ThreadPool;
use crate::cpu::plan::Plan;
use crate::gpu::program::Program;
use crate::gpu::program::command::{Buffer, BufferPlace, Element};
use crate::network::{Config, Layout, Mode, Stage};

/// A branch in the first stage, strides, blocks without a branch.
fn config() -> Config {
    let stage = |width, depth| Stage { width, depth };
    Config { stem_channels: 16, stages: vec![stage(32, 2), stage(48, 2), stage(64, 1)] }
}

const BATCH: usize = 6;
const SIZE: [usize; 2] = [70, 64];

pub(super) fn check<W: Workbench>(bench: &mut Bench<'_, W>, element: Element) -> Result<(), W::Error> {
    let (config, [height, width]) = (config(), SIZE);
    let layout = Layout::new(&config);
    let (parameters, statistics) = (parameters(&layout), statistics(&layout));
    let images = noise(BATCH * 3 * height * width, 40);
    let grad = noise(BATCH * config.embedding_len(), 41);
    let (mut embedding, mut gradient) = (vec![0.0; grad.len()], vec![0.0; parameters.len()]);
    let mut moved = statistics.clone();
    let pool = Arc::new(ThreadPool::new(2));
    let plan = |mode| Plan::<f32>::new(&config, BATCH, height, width, Arc::clone(&pool), mode);
    let mut twin = plan(Mode::Train);
    twin.forward_train(&parameters, &mut moved, &images, &mut embedding);
    twin.backward(&parameters, &grad, &mut gradient);

    bench.fill(Buffer::Parameters, &parameters)?;
    bench.fill(Buffer::Statistics, &statistics)?;
    bench.fill(Buffer::Planes, &images)?;
    bench.machine.reserve(Buffer::Gradient, 4 * parameters.len())?;
    let program = Program::train(&config, element, BATCH, height, width);
    bench.machine.reserve(Buffer::Arena, program.arena_len)?;
    bench.machine.write(program.constants.place, &program.constants.bytes)?;
    bench.machine.run(&program.from_planes)?;
    bench.machine.run(&program.forward)?;
    bench.write_f32(program.grad_embedding.expect("a training program"), &grad)?;
    bench.machine.run(&program.backward)?;
    let found = bench.read_f32(program.embedding, embedding.len())?;
    compare(bench, format!("training, embedding, {element}"), element, &found, &embedding);
    let found = bench.read_f32(BufferPlace::f32s(Buffer::Statistics, 0), moved.len())?;
    compare(bench, format!("training, running statistics, {element}"), element, &found, &moved);
    let found = bench.read_f32(BufferPlace::f32s(Buffer::Gradient, 0), gradient.len())?;
    for parameter in &layout.parameters {
        let range = parameter.range();
        let name = format!("training, gradient of {}, {element}", parameter.name);
        compare(bench, name, element, &found[range.clone()], &gradient[range]);
    }

    plan(Mode::Infer).forward_eval(&parameters, &moved, &images, &mut embedding);
    bench.fill(Buffer::Statistics, &moved)?;
    let program = Program::infer(&config, element, BATCH, height, width);
    bench.machine.reserve(Buffer::Arena, program.arena_len)?;
    bench.machine.write(program.constants.place, &program.constants.bytes)?;
    bench.machine.run(&program.prepare)?;
    bench.machine.run(&program.from_planes)?;
    bench.machine.run(&program.forward)?;
    let found = bench.read_f32(program.embedding, embedding.len())?;
    compare(bench, format!("inference, embedding, {element}"), element, &found, &embedding);
    Ok(())
}

/// The difference as a share of the twin's length. Rounding to bf16 in twenty layers moves an embedding by some
/// hundredths, and a gradient by some tenths where a ReLU or a maximum was decided otherwise.
fn compare<W>(bench: &mut Bench<'_, W>, name: String, element: Element, found: &[f32], twin: &[f32]) {
    let tolerance = match element {
        Element::F32 => 1e-3,
        Element::Bf16 if name.contains("gradient") => 0.5,
        Element::Bf16 => 0.05,
    };
    bench.verdicts.push(Verdict { name, difference: relative_error(found, twin), tolerance });
}
