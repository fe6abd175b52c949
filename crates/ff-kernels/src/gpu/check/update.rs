//! The gradient's norm and the optimisers: `ff_kernels::cpu::optim`.

use super::{Bench, Workbench, noise, wide};
use crate::cpu::optim::{AdamW, Ema, Sgd, clip_factor, l2_norm};
use crate::gpu::program::command::{Buffer, BufferPlace, Command, Element, Launch};
use crate::gpu::program::update::{Group, Scalars, adamw, norm, sgd};

const LEN: usize = 70_001;
/// Runs of parameters that learn differently, with a gap that stays as it is.
const RANGES: [std::ops::Range<usize>; 3] = [0..9_409, 9_409..9_500, 9_700..LEN];
const GRAD_SCALE: f64 = 0.5;
const MAX_NORM: f64 = 20.0;
const LOSSES: [f32; 2] = [1.5, 0.25];

pub(super) fn check<W: Workbench>(bench: &mut Bench<'_, W>) -> Result<(), W::Error> {
    let draw = |seed| noise(LEN, seed);
    let (parameters, gradient, average) = (draw(1), draw(2), draw(3));
    let second: Vec<f32> = draw(5).iter().map(|x| x * x).collect();
    let start = Start { parameters, gradient, first: draw(4), second, average };
    let grad_scale = GRAD_SCALE * clip_factor(GRAD_SCALE * l2_norm(&start.gradient), MAX_NORM);

    let rule = |lr| AdamW { lr, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, step: 3, grad_scale };
    let groups: Vec<_> =
        RANGES.into_iter().zip([0.1, 0.2, 0.3]).map(|(range, lr)| Group { range, rule: rule(lr) }).collect();
    let mut twin = start.clone();
    for Group { range, rule } in &groups {
        let r = range.clone();
        let Start { parameters, first, second, gradient, average } = &mut twin;
        let ema = Ema { values: &mut average[r.clone()], decay: 0.75 };
        let (first, second) = (&mut first[r.clone()], &mut second[r.clone()]);
        rule.apply(&mut parameters[r.clone()], first, second, &gradient[r], Some(ema));
    }
    step(bench, "update_adamw", &start, &twin, adamw(&groups, Some(0.75)), grad_scale)?;

    for nesterov in [false, true] {
        let rule = |lr| Sgd { lr, momentum: 0.9, weight_decay: 0.1, nesterov, grad_scale };
        let groups: Vec<_> = RANGES
            .into_iter()
            .zip([0.1, 0.2, 0.3])
            .map(|(range, lr)| Group { range, rule: rule(lr) })
            .collect();
        let mut twin = start.clone();
        for Group { range, rule } in &groups {
            let r = range.clone();
            let Start { parameters, first, gradient, .. } = &mut twin;
            rule.apply(&mut parameters[r.clone()], &mut first[r.clone()], &gradient[r], None);
        }
        step(
            bench,
            &format!("update_sgd nesterov={nesterov}"),
            &start,
            &twin,
            sgd(&groups, None),
            grad_scale,
        )?;
    }

    // A gradient that is not finite moves nothing and says so.
    let mut broken = start.clone();
    broken.gradient[LEN / 2] = f32::NAN;
    let scalars = run(bench, &broken, adamw(&groups, Some(0.75)))?;
    let found = bench.read_f32(BufferPlace::f32s(Buffer::Parameters, 0), LEN)?;
    bench.compare_within("update with a gradient of NaN".into(), 0.0, &found, &wide(&start.parameters));
    bench.compare_within("finite with a gradient of NaN".into(), 0.0, &[scalars.finite as f32], &[0.0]);
    Ok(())
}

#[derive(Clone)]
struct Start {
    parameters: Vec<f32>,
    gradient: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    average: Vec<f32>,
}

/// Norm and update from `start`; the scalars.
fn run<W: Workbench>(
    bench: &mut Bench<'_, W>,
    start: &Start,
    update: Vec<Launch>,
) -> Result<Scalars, W::Error> {
    bench.fill(Buffer::Parameters, &start.parameters)?;
    bench.fill(Buffer::Gradient, &start.gradient)?;
    bench.fill(Buffer::FirstState, &start.first)?;
    bench.fill(Buffer::SecondState, &start.second)?;
    bench.fill(Buffer::Average, &start.average)?;
    bench.fill(Buffer::Planes, &LOSSES)?;
    bench.machine.reserve(Buffer::Scalars, Scalars::BUFFER_LEN)?;
    let losses = BufferPlace { buffer: Buffer::Planes, offset: 0 };
    let norm = norm(LEN, losses, LOSSES.len(), GRAD_SCALE, Some(MAX_NORM));
    let commands: Vec<_> = norm.into_iter().chain(update).map(Command::Launch).collect();
    bench.machine.run(&commands)?;
    let bytes =
        bench.machine.read(BufferPlace { buffer: Buffer::Scalars, offset: 0 }, size_of::<Scalars>())?;
    Ok(Scalars::read(&bytes))
}

fn step<W: Workbench>(
    bench: &mut Bench<'_, W>,
    name: &str,
    start: &Start,
    twin: &Start,
    update: Vec<Launch>,
    factor: f64,
) -> Result<(), W::Error> {
    let scalars = run(bench, start, update)?;
    let norm = GRAD_SCALE * l2_norm(&start.gradient);
    let found =
        [scalars.grad_norm, scalars.factor, scalars.finite as f32, scalars.losses[0], scalars.losses[1]];
    let expected = [norm, factor, 1.0, f64::from(LOSSES[0]), f64::from(LOSSES[1])];
    bench.compare_within(format!("{name} scalars"), 1e-6, &found, &expected);
    for (what, buffer, twin) in [
        ("parameters", Buffer::Parameters, &twin.parameters),
        ("first state", Buffer::FirstState, &twin.first),
        ("second state", Buffer::SecondState, &twin.second),
        ("average", Buffer::Average, &twin.average),
    ] {
        let found = bench.read_f32(BufferPlace::f32s(buffer, 0), LEN)?;
        bench.compare(format!("{name} {what}"), Element::F32, &found, &wide(twin));
    }
    Ok(())
}
