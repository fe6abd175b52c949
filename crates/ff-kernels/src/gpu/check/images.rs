//! Images into the arena: `ff_kernels::image`'s augmentation, and planes as they are.

use super::{Bench, Workbench, noise, wide};
use crate::cpu::simd::Level;
use crate::gpu::program::Program;
use crate::gpu::program::batch::{CHANNELS, Lookup, RECIPE_LEN, write_recipe};
use crate::gpu::program::command::{Buffer, BufferPlace, Element};
use crate::image::{ColorOp, IMAGENET_MEAN, IMAGENET_STD, InverseMap, Recipe, Rgb, augment, compose};
use crate::network::Config;

const SIZE: [usize; 2] = [45, 38];

/// A draw: mirror, colours, maps, sampling.
type Draw = (bool, Vec<ColorOp>, Vec<InverseMap>, Lookup);

/// Nothing; each operation alone; all of them, contrast first, between and last; nearest and bilinear maps.
fn draws() -> Vec<Draw> {
    use ColorOp::{Brightness, Contrast, Hue, Saturation};
    let (sin, cos) = 0.15_f32.sin_cos();
    let rotation = [cos, sin, 0.0, -sin, cos, 0.0];
    // A scale of 1.07 makes ties of whole rows.
    let inverse = 1.0 / 1.07;
    let affine = [inverse, 0.0, -3.0 * inverse, 0.0, inverse, 2.0 * inverse];
    let plain = |colors: Vec<ColorOp>| (false, colors, vec![], Lookup::Nearest);
    vec![
        plain(vec![]),
        (true, vec![], vec![], Lookup::Nearest),
        plain(vec![Brightness(1.2)]),
        plain(vec![Contrast(0.8)]),
        plain(vec![Saturation(1.3)]),
        plain(vec![Hue(-0.07)]),
        plain(vec![Hue(0.1), Brightness(0.9), Contrast(1.15), Saturation(0.7)]),
        (true, vec![Contrast(1.2), Hue(0.02), Saturation(1.1), Brightness(1.1)], vec![], Lookup::Nearest),
        (false, vec![], vec![rotation], Lookup::Nearest),
        (true, vec![], vec![affine], Lookup::Nearest),
        (
            true,
            vec![Saturation(0.9), Brightness(1.1), Hue(0.05), Contrast(0.85)],
            vec![rotation, affine],
            Lookup::Nearest,
        ),
        (false, vec![Brightness(1.1)], vec![rotation, affine], Lookup::Bilinear),
        (true, vec![Contrast(1.1)], vec![affine], Lookup::Bilinear),
    ]
}

pub(super) fn check<W: Workbench>(bench: &mut Bench<'_, W>, element: Element) -> Result<(), W::Error> {
    let [height, width] = SIZE;
    let (area, draws) = (height * width, draws());
    let config = Config { stem_channels: 16, stages: vec![] };
    let program = Program::infer(&config, element, draws.len(), height, width);
    bench.machine.reserve(Buffer::Arena, program.arena_len)?;

    let pixels: Vec<u8> =
        noise(3 * area * draws.len(), 900).iter().map(|x| (127.5 + 127.5 * x) as u8).collect();
    let mut recipes = vec![0.0; draws.len() * RECIPE_LEN];
    for ((mirrored, colors, maps, lookup), to) in draws.iter().zip(recipes.chunks_exact_mut(RECIPE_LEN)) {
        write_recipe(*mirrored, colors, maps, *lookup, to);
    }
    bench.machine.reserve(Buffer::Pixels, pixels.len())?;
    bench.machine.write(BufferPlace { buffer: Buffer::Pixels, offset: 0 }, &pixels)?;
    bench.fill(Buffer::Recipes, &recipes)?;
    bench.machine.run(&program.from_pixels)?;
    let found = bench.read(element, program.images, draws.len() * area * CHANNELS)?;
    for (i, draw) in draws.iter().enumerate() {
        let twin = interleaved(&augmented(draw, &pixels[3 * area * i..][..3 * area]), area);
        let found = &found[i * area * CHANNELS..][..area * CHANNELS];
        bench.compare(format!("augment_{element} draw {i}"), element, found, &twin);
    }

    let planes = noise(draws.len() * 3 * area, 901);
    bench.fill(Buffer::Planes, &planes)?;
    bench.machine.run(&program.from_planes)?;
    let found = bench.read(element, program.images, draws.len() * area * CHANNELS)?;
    let twin: Vec<f64> = planes.chunks_exact(3 * area).flat_map(|planes| interleaved(planes, area)).collect();
    bench.compare(format!("pack_planes_{element}"), element, &found, &twin);
    Ok(())
}

/// Planes (3, area) as pixels (area, [`CHANNELS`]).
fn interleaved(planes: &[f32], area: usize) -> Vec<f64> {
    let mut pixels = vec![0.0; area * CHANNELS];
    for (i, x) in wide(planes).into_iter().enumerate() {
        pixels[i % area * CHANNELS + i / area] = x;
    }
    pixels
}

/// The image as the processor augments it, normalised planes.
fn augmented((mirrored, colors, maps, lookup): &Draw, pixels: &[u8]) -> Vec<f32> {
    let [height, width] = SIZE;
    let image = Rgb { pixels, width, height };
    let mut out = vec![0.0; 3 * height * width];
    let whole = Recipe { mirrored: *mirrored, colors, maps, mean: IMAGENET_MEAN, std: IMAGENET_STD };
    if *lookup == Lookup::Nearest || maps.is_empty() {
        augment(Level::best(), image, &whole, &mut out);
        return out;
    }
    let coloured = Recipe { maps: &[], mean: [0.0; 3], std: [1.0; 3], ..whole };
    augment(Level::best(), image, &coloured, &mut out);
    let map = match maps.as_slice() {
        [first, last] => compose(first, last),
        [only, ..] => *only,
        [] => unreachable!("there are maps"),
    };
    bilinear(&out, &map)
}

/// Planes in [0,1] through one map, four pixels weighed by their distance, black outside; normalised.
fn bilinear(planes: &[f32], [xx, xy, x0, yx, yy, y0]: &InverseMap) -> Vec<f32> {
    let [height, width] = SIZE;
    let area = height * width;
    let (center_x, center_y) = ((width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0);
    let mut out = vec![0.0; 3 * area];
    for i in 0..area {
        let (x, y) = ((i % width) as f32 - center_x, (i / width) as f32 - center_y);
        let (from_x, from_y) = (x * xx + y * xy + x0 + center_x, x * yx + y * yy + y0 + center_y);
        for (corner_x, corner_y) in [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)] {
            let (at_x, at_y) = (from_x.floor() + corner_x, from_y.floor() + corner_y);
            let share = (1.0 - (from_x - at_x).abs()) * (1.0 - (from_y - at_y).abs());
            let inside = (0.0..width as f32).contains(&at_x) && (0.0..height as f32).contains(&at_y);
            for c in (0..3).filter(|_| inside) {
                out[c * area + i] += share * planes[c * area + at_y as usize * width + at_x as usize];
            }
        }
    }
    for (i, x) in out.iter_mut().enumerate() {
        *x = (*x - IMAGENET_MEAN[i / area]) / IMAGENET_STD[i / area];
    }
    out
}
