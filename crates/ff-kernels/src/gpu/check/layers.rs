//! The kernels of single layers, on every layer of a small backbone.

use super::{Bench, Workbench, noise, rounded, stored_noise, wide};
use crate::cpu::base::shape::MapShape;
use crate::gpu::program::command::{Buffer, BufferPlace, Constants, Element, Operation};
use crate::gpu::program::convs::{Conv, Convs, pooled};
use crate::gpu::program::layers::{Mask, Residual, Writer};
use crate::network::{Config, EPS, Layout, MOMENTUM, Stage};

/// Strides, a branch in the first stage, channels whose eights do not divide a block, maps with odd edges.
fn config() -> Config {
    let stage = |width, depth| Stage { width, depth };
    Config { stem_channels: 16, stages: vec![stage(48, 1), stage(64, 1)] }
}

const BATCH: usize = 3;
const SIZE: [usize; 2] = [38, 45];

/// A layer's inputs and results, laid out in the arena by a writer.
pub(super) fn check<W: Workbench>(bench: &mut Bench<'_, W>, element: Element) -> Result<(), W::Error> {
    let layout = Layout::new(&config());
    let convs = Convs::new(&layout, BATCH, SIZE[0], SIZE[1]);
    bench.fill(Buffer::Parameters, &noise(layout.parameters_len(), 1))?;
    let mut statistics = noise(layout.statistics_len(), 2);
    statistics.iter_mut().for_each(|x| *x = x.abs() + 0.1);
    bench.fill(Buffer::Statistics, &statistics)?;
    bench.machine.reserve(Buffer::Gradient, 4 * layout.parameters_len())?;
    filters(bench, element, &layout, &convs)?;
    for (i, conv) in convs.all().enumerate() {
        convolutions(bench, element, &convs, conv, i)?;
        norm(bench, element, &layout, &convs, conv, i)?;
    }
    max_pool(bench, element, &convs)?;
    average(bench, element, &convs)
}

fn start<W: Workbench>(bench: &mut Bench<'_, W>, writer: &Writer) -> Result<(), W::Error> {
    bench.machine.reserve(Buffer::Arena, writer.arena.len())?;
    let Constants { place, bytes } = writer.constants();
    bench.machine.write(place, &bytes)
}

/// Packed filters are the parameters in another order, folded ones times their BatchNorm's scale, and back.
fn filters<W: Workbench>(
    bench: &mut Bench<'_, W>,
    element: Element,
    layout: &Layout,
    convs: &Convs,
) -> Result<(), W::Error> {
    let mut writer = Writer::new(element, convs);
    let (packed, folded) = (writer.filters(convs), writer.folded_filters(convs));
    writer.pack(convs, packed);
    writer.fold(convs, folded);
    writer.unpack(convs, packed);
    start(bench, &writer)?;
    bench.machine.run(&writer.commands)?;
    let parameters = bench.read_f32(BufferPlace::f32s(Buffer::Parameters, 0), layout.parameters_len())?;
    let statistics = bench.read_f32(BufferPlace::f32s(Buffer::Statistics, 0), layout.statistics_len())?;
    let gradient = bench.read_f32(BufferPlace::f32s(Buffer::Gradient, 0), layout.parameters_len())?;
    for conv in convs.all() {
        let geometry = conv.geometry;
        let (taps, name) = (geometry.kernel * geometry.kernel, conv.label());
        let range = conv.range();
        let inputs = range.len() / taps / geometry.outputs;
        let flat = wide(&parameters[range.clone()]);
        let packed_twin = |scale: &dyn Fn(usize) -> f64| -> Vec<f64> {
            let mut twin = vec![0.0; geometry.w_len()];
            for (i, value) in flat.iter().enumerate() {
                let (k, c, tap) = (i / taps / inputs, i / taps % inputs, i % taps);
                twin[(k * taps + tap) * geometry.inputs + c] = value * scale(k);
            }
            twin
        };
        let found = bench.read(element, packed.of(conv, element), geometry.w_len())?;
        bench.compare(format!("pack_filters_{element} {name}"), element, &found, &packed_twin(&|_| 1.0));
        let (gamma, beta) = conv.layer.norm.parameters(&parameters);
        let (mean, var) = conv.layer.norm.running(&statistics);
        let scale = |k: usize| f64::from(gamma[k]) / (f64::from(var[k]) + EPS).sqrt();
        let found = bench.read(element, folded.of(conv, element), geometry.w_len())?;
        bench.compare(format!("fold_filters_{element} {name}"), element, &found, &packed_twin(&scale));
        let found = bench.read(element, folded.bias_of(conv, element), geometry.outputs)?;
        let biases: Vec<f64> =
            (0..geometry.outputs).map(|k| f64::from(beta[k]) - f64::from(mean[k]) * scale(k)).collect();
        bench.compare(format!("fold_filters_{element} {name} bias"), element, &found, &biases);
        bench.compare(format!("unpack_gradients_{element} {name}"), element, &gradient[range], &flat);
    }
    Ok(())
}

/// The three convolutions and the fused one, against the definition.
fn convolutions<W: Workbench>(
    bench: &mut Bench<'_, W>,
    element: Element,
    convs: &Convs,
    conv: &Conv,
    seed: usize,
) -> Result<(), W::Error> {
    let (geometry, name) = (conv.geometry, conv.label());
    let mut writer = Writer::new(element, convs);
    let [x, x_gradient] = [(); 2].map(|()| writer.map(conv.input()).place());
    let [y, y_gradient, fused, residual] = [(); 4].map(|()| writer.map(conv.output()).place());
    let (filters, gradients) = (writer.folded_filters(convs), writer.filters(convs));
    writer.convolve(conv, Operation::Forward, x, filters, y);
    writer.convolve_fused(conv, x, filters, Some(residual), true, fused);
    writer.convolve(conv, Operation::BackwardData, x_gradient, filters, y_gradient);
    writer.convolve(conv, Operation::BackwardFilter, x, gradients, y_gradient);
    start(bench, &writer)?;
    let draw = |len, seed_of| stored_noise(element, len, 100 + 10 * seed as u64 + seed_of);
    let values = draw(geometry.x_len(), 0);
    let weights = draw(geometry.w_len(), 1);
    let (grad, added) = (draw(geometry.y_len(), 2), draw(geometry.y_len(), 3));
    let bias = draw(geometry.outputs, 4);
    bench.write(element, x, &values)?;
    bench.write(element, filters.of(conv, element), &weights)?;
    bench.write(element, y_gradient, &grad)?;
    bench.write(element, residual, &added)?;
    bench.write(element, filters.bias_of(conv, element), &bias)?;
    bench.machine.run(&writer.commands)?;

    let (mut forward, mut data, mut filter) =
        (vec![0.0; geometry.y_len()], vec![0.0; geometry.x_len()], vec![0.0; geometry.w_len()]);
    geometry.products(|x, w, y| {
        let (value, weight, grad) = (f64::from(values[x]), f64::from(weights[w]), f64::from(grad[y]));
        forward[y] += value * weight;
        data[x] += grad * weight;
        filter[w] += grad * value;
    });
    let fused_twin: Vec<f64> = forward
        .iter()
        .enumerate()
        .map(|(i, y)| (y + f64::from(bias[i % geometry.outputs]) + f64::from(added[i])).max(0.0))
        .collect();
    for (what, place, twin) in [
        ("forward", y, &forward),
        ("fused", fused, &fused_twin),
        ("backward_data", x_gradient, &data),
        ("backward_filter", gradients.of(conv, element), &filter),
    ] {
        let found = bench.read(element, place, twin.len())?;
        bench.compare(format!("convolution {what} {element} {name}"), element, &found, twin);
    }
    Ok(())
}

/// BatchNorm's statistics, its forward pass with every residual, its gradient behind every mask.
fn norm<W: Workbench>(
    bench: &mut Bench<'_, W>,
    element: Element,
    layout: &Layout,
    convs: &Convs,
    conv: &Conv,
    seed: usize,
) -> Result<(), W::Error> {
    let (shape, channels, name) = (conv.output(), conv.geometry.outputs, conv.label());
    let mut writer = Writer::new(element, convs);
    let [raw, other, plain, added, normed] = [(); 5].map(|()| writer.map(shape).place());
    let [grad, more, masked] = [(); 3].map(|()| writer.map(shape).place());
    let gradients = [(); 3].map(|()| writer.map(shape).place());
    let norm = writer.arena.keep(16 * channels);
    writer.norm_statistics(conv, raw, norm);
    writer.norm_relu(conv, raw, norm, Residual::None, plain);
    writer.norm_relu(conv, raw, norm, Residual::Plain(other), added);
    writer.norm_relu(conv, raw, norm, Residual::Normed { raw: other, norm }, normed);
    let forward = std::mem::take(&mut writer.commands);
    let masks = [Mask::None, Mask::Activation(other), Mask::Normed];
    let backward = masks.map(|mask| {
        writer.norm_gradient(conv, grad, Some(more), mask, raw, norm, Some(masked));
        // An activation's mask is in what was stored already.
        let (from, mask) = match mask {
            Mask::Normed => (grad, Mask::Normed),
            _ => (masked, Mask::None),
        };
        (from, mask, std::mem::take(&mut writer.commands))
    });
    let backward: Vec<_> = backward
        .into_iter()
        .zip(gradients)
        .map(|((from, mask, mut commands), to)| {
            writer.norm_input_gradient(conv, from, mask, raw, norm, to);
            commands.append(&mut writer.commands);
            commands
        })
        .collect();

    start(bench, &writer)?;
    // A mean far from zero, which a careless variance would drown in.
    let draw = |shift: f32, seed_of| -> Vec<f32> {
        let values = noise(shape.len(), 500 + 10 * seed as u64 + seed_of);
        let store = |x: f32| if element == Element::Bf16 { rounded(x) } else { x };
        values.iter().map(|x| store(x + shift)).collect()
    };
    let (raws, others) = (draw(8.0, 0), draw(0.0, 1));
    let (grads, mores) = (draw(0.0, 2), draw(0.0, 3));
    for (place, values) in [(raw, &raws), (other, &others), (grad, &grads), (more, &mores)] {
        bench.write(element, place, values)?;
    }
    let parameters = bench.read_f32(BufferPlace::f32s(Buffer::Parameters, 0), layout.parameters_len())?;
    let before = bench.read_f32(BufferPlace::f32s(Buffer::Statistics, 0), layout.statistics_len())?;
    bench.machine.run(&forward)?;

    let twin = Twin::new(shape, &raws, conv.layer.norm.parameters(&parameters));
    let after = bench.read_f32(BufferPlace::f32s(Buffer::Statistics, 0), layout.statistics_len())?;
    let (mean_before, var_before) = conv.layer.norm.running(&before);
    let (mean_after, var_after) = conv.layer.norm.running(&after);
    let n = shape.pixels() as f64;
    let moved = |before: &[f32], towards: &[f64]| -> Vec<f64> {
        let step = |(b, t): (&f32, &f64)| f64::from(*b) + MOMENTUM * (t - f64::from(*b));
        before.iter().zip(towards).map(step).collect()
    };
    let unbiased: Vec<f64> = twin.var.iter().map(|v| v * n / (n - 1.0)).collect();
    bench.compare(
        format!("norm {element} {name} running mean"),
        Element::F32,
        mean_after,
        &moved(mean_before, &twin.mean),
    );
    bench.compare(
        format!("norm {element} {name} running var"),
        Element::F32,
        var_after,
        &moved(var_before, &unbiased),
    );
    let relu = |add: &dyn Fn(usize) -> f64| -> Vec<f64> {
        (0..shape.len()).map(|i| (twin.normed(i, raws[i]) + add(i)).max(0.0)).collect()
    };
    for (what, place, expected) in [
        ("relu", plain, relu(&|_| 0.0)),
        ("relu with residual", added, relu(&|i| f64::from(others[i]))),
        ("relu with normed residual", normed, relu(&|i| twin.normed(i, others[i]))),
    ] {
        let found = bench.read(element, place, shape.len())?;
        bench.compare(format!("norm {element} {name} {what}"), element, &found, &expected);
    }

    // A network that breaks down must show it.
    let mut broken = raws.clone();
    broken[0] = f32::NAN;
    bench.write(element, raw, &broken)?;
    bench.machine.run(&forward)?;
    let found = bench.read(element, plain, 1)?[0];
    let what = format!("norm {element} {name} keeps NaN");
    bench.compare_within(what, 0.0, &[f32::from(u8::from(found.is_nan()))], &[1.0]);
    bench.write(element, raw, &raws)?;
    bench.write_f32(BufferPlace::f32s(Buffer::Statistics, 0), &before)?;
    bench.machine.run(&forward)?;

    for ((mask, commands), to) in masks.into_iter().zip(backward).zip(gradients) {
        bench.machine.run(&commands)?;
        let passes = |i: usize| match mask {
            Mask::None => true,
            Mask::Activation(_) => others[i] > 0.0,
            Mask::Normed => twin.normed(i, raws[i]) > 0.0,
        };
        let store = |x: f32| if element == Element::Bf16 { rounded(x) } else { x };
        let behind = |i: usize| f64::from(if passes(i) { store(grads[i] + mores[i]) } else { 0.0 });
        let g: Vec<f64> = (0..shape.len()).map(behind).collect();
        let found = bench.read(element, masked, shape.len())?;
        bench.compare(format!("norm {element} {name} masked gradient, {mask:?}"), element, &found, &g);
        // Where the mask is drawn again from the BatchNorm, the sum of both gradients was stored nowhere.
        let from: Vec<f64> = match mask {
            Mask::Normed => (0..g.len()).map(|i| if passes(i) { f64::from(grads[i]) } else { 0.0 }).collect(),
            _ => g.clone(),
        };
        let (d_gamma, d_beta, d_raw) = twin.backward(&g, &from, &raws);
        let gradient = bench.read_f32(BufferPlace::f32s(Buffer::Gradient, 0), layout.parameters_len())?;
        let (found_gamma, found_beta) = conv.layer.norm.parameters(&gradient);
        bench.compare(format!("norm {element} {name} gamma, {mask:?}"), Element::F32, found_gamma, &d_gamma);
        bench.compare(format!("norm {element} {name} beta, {mask:?}"), Element::F32, found_beta, &d_beta);
        let found = bench.read(element, to, shape.len())?;
        bench.compare(format!("norm {element} {name} input gradient, {mask:?}"), element, &found, &d_raw);
    }
    Ok(())
}

/// BatchNorm by its definition.
struct Twin {
    channels: usize,
    pixels: f64,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    mean: Vec<f64>,
    var: Vec<f64>,
}

impl Twin {
    fn new(shape: MapShape, raw: &[f32], (gamma, beta): (&[f32], &[f32])) -> Self {
        let (channels, pixels) = (shape.channels, shape.pixels() as f64);
        let mut mean = vec![0.0; channels];
        raw.iter().enumerate().for_each(|(i, &x)| mean[i % channels] += f64::from(x) / pixels);
        let mut var = vec![0.0; channels];
        for (i, &x) in raw.iter().enumerate() {
            var[i % channels] += (f64::from(x) - mean[i % channels]).powi(2) / pixels;
        }
        Self { channels, pixels, gamma: wide(gamma), beta: wide(beta), mean, var }
    }

    fn inv_std(&self, c: usize) -> f64 {
        1.0 / (self.var[c] + EPS).sqrt()
    }

    fn normed(&self, i: usize, x: f32) -> f64 {
        let c = i % self.channels;
        (f64::from(x) - self.mean[c]) * self.inv_std(c) * self.gamma[c] + self.beta[c]
    }

    /// Gradients of gamma, beta and the input. Sums are over `g`, `from` goes through.
    fn backward(&self, g: &[f64], from: &[f64], raw: &[f32]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let (mut d_gamma, mut d_beta) = (vec![0.0; self.channels], vec![0.0; self.channels]);
        let unit =
            |i: usize| (f64::from(raw[i]) - self.mean[i % self.channels]) * self.inv_std(i % self.channels);
        for (i, g) in g.iter().enumerate() {
            d_gamma[i % self.channels] += g * unit(i);
            d_beta[i % self.channels] += g;
        }
        let d_raw = |i: usize| {
            let c = i % self.channels;
            let centred = from[i] - d_beta[c] / self.pixels - unit(i) * d_gamma[c] / self.pixels;
            self.gamma[c] * self.inv_std(c) * centred
        };
        let d_raw = (0..raw.len()).map(d_raw).collect();
        (d_gamma, d_beta, d_raw)
    }
}

/// The pool behind the stem's BatchNorm, and back through both.
fn max_pool<W: Workbench>(bench: &mut Bench<'_, W>, element: Element, convs: &Convs) -> Result<(), W::Error> {
    let (stem, input, output) = (&convs.stem, convs.stem.output(), pooled(convs.stem.output()));
    let channels = input.channels;
    let mut writer = Writer::new(element, convs);
    let [raw, d_raw] = [(); 2].map(|()| writer.map(input).place());
    let [out, grad, alone] = [(); 3].map(|()| writer.map(output).place());
    let places = writer.arena.keep(output.len());
    let norm = writer.arena.keep(16 * channels);
    writer.norm_statistics(stem, raw, norm);
    writer.max_pool(stem, raw, norm, out, places);
    writer.max_pool_only(stem, raw, alone);
    writer.max_pool_gradient(stem, grad, places, raw, norm, d_raw);
    writer.add(output, grad, out, alone);
    let add = writer.commands.pop();
    start(bench, &writer)?;
    let raws = stored_noise(element, input.len(), 700);
    let grads = stored_noise(element, output.len(), 701);
    bench.write(element, raw, &raws)?;
    bench.write(element, grad, &grads)?;
    bench.machine.run(&writer.commands)?;

    let layout = Layout::new(&config());
    let parameters = bench.read_f32(BufferPlace::f32s(Buffer::Parameters, 0), layout.parameters_len())?;
    let twin = Twin::new(input, &raws, stem.layer.norm.parameters(&parameters));
    let pool = |of: &dyn Fn(usize) -> f64| -> Vec<(f64, usize)> {
        let winner = |i: usize| {
            let (c, x, y) = (i % channels, i / channels % output.width, i / channels / output.width);
            let (y, image) = (y % output.height, y / output.height);
            let place = |tap: usize| {
                let (y, x) = ((2 * y + tap / 3).checked_sub(1)?, (2 * x + tap % 3).checked_sub(1)?);
                let inside = y < input.height && x < input.width;
                inside.then_some(((image * input.height + y) * input.width + x) * channels + c)
            };
            let mut best = (f64::NEG_INFINITY, 0);
            for at in (0..9).filter_map(place) {
                if of(at) > best.0 {
                    best = (of(at), at);
                }
            }
            best
        };
        (0..output.len()).map(winner).collect()
    };
    let relu = |i: usize| twin.normed(i, raws[i]).max(0.0);
    let winners = pool(&relu);
    let values = |winners: &[(f64, usize)]| winners.iter().map(|w| w.0).collect::<Vec<_>>();
    let found = bench.read(element, out, output.len())?;
    bench.compare(format!("max_pool_{element}"), element, &found, &values(&winners));
    let found_sum = found.clone();
    let found = bench.read(element, alone, output.len())?;
    let plain = pool(&|i| f64::from(raws[i]).max(0.0));
    bench.compare(format!("max_pool_{element} alone"), element, &found, &values(&plain));

    let mut g = vec![0.0; input.len()];
    for (&(value, at), &grad) in winners.iter().zip(&grads) {
        g[at] += if value > 0.0 { f64::from(grad) } else { 0.0 };
    }
    let (d_gamma, d_beta, d_input) = twin.backward(&g, &g, &raws);
    let gradient = bench.read_f32(BufferPlace::f32s(Buffer::Gradient, 0), layout.parameters_len())?;
    let (found_gamma, found_beta) = stem.layer.norm.parameters(&gradient);
    bench.compare(format!("max_pool_backward_{element} gamma"), Element::F32, found_gamma, &d_gamma);
    bench.compare(format!("max_pool_backward_{element} beta"), Element::F32, found_beta, &d_beta);
    let found = bench.read(element, d_raw, input.len())?;
    bench.compare(format!("max_pool_backward_{element}"), element, &found, &d_input);

    bench.machine.run(add.as_slice())?;
    let found = bench.read(element, alone, output.len())?;
    let sums: Vec<f64> = grads.iter().zip(&found_sum).map(|(a, b)| f64::from(*a) + f64::from(*b)).collect();
    bench.compare(format!("add_{element}"), element, &found, &sums);
    Ok(())
}

fn average<W: Workbench>(bench: &mut Bench<'_, W>, element: Element, convs: &Convs) -> Result<(), W::Error> {
    let shape = convs.output();
    let pixels = shape.height * shape.width;
    let mut writer = Writer::new(element, convs);
    let [map, d_map] = [(); 2].map(|()| writer.map(shape).place());
    let [embedding, grad] = [(); 2].map(|()| writer.arena.keep(4 * shape.batch * shape.channels));
    writer.average(shape, map, embedding);
    writer.average_gradient(shape, grad, d_map);
    start(bench, &writer)?;
    let values = stored_noise(element, shape.len(), 800);
    let grads = noise(shape.batch * shape.channels, 801);
    bench.write(element, map, &values)?;
    bench.write_f32(grad, &grads)?;
    bench.machine.run(&writer.commands)?;
    let place = |i: usize| i / shape.channels / pixels * shape.channels + i % shape.channels;
    let mut means = vec![0.0; grads.len()];
    values.iter().enumerate().for_each(|(i, &x)| means[place(i)] += f64::from(x) / pixels as f64);
    let found = bench.read_f32(embedding, means.len())?;
    bench.compare(format!("average_{element}"), Element::F32, &found, &means);
    let spread: Vec<f64> = (0..shape.len()).map(|i| f64::from(grads[place(i)]) / pixels as f64).collect();
    let found = bench.read(element, d_map, shape.len())?;
    bench.compare(format!("average_backward_{element}"), element, &found, &spread);
    Ok(())
}
