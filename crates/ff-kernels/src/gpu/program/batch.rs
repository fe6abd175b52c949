//! Images on the device: decoded pixels to augmented, normalised activations.
//!
//! What is done to an image is drawn on the host and travels as [`RECIPE_LEN`] floats; the kernels compute what
//! [`crate::image::augment`] computes, bilinear maps too.

use super::arena::Arena;
use super::command::{Arg, BLOCK, Buffer, BufferPlace, Command, Element, Launch};
use crate::image::{ColorOp, IMAGENET_MEAN, IMAGENET_STD, InverseMap, compose};

/// Channels of an image in the arena: three, and zeros up to what tensor cores like to read.
pub const CHANNELS: usize = 8;

/// f32 values of a recipe: mirror, sampling, number of colour operations and of maps; four pairs of operation and
/// argument; two maps.
pub const RECIPE_LEN: usize = 24;

/// How maps look up pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The nearest pixel, one map after the other.
    Nearest,
    /// Interpolated between four pixels, all maps at once.
    Bilinear,
}

/// Writes what is to be done to one image, for the device.
///
/// # Panics
/// `to` has not [`RECIPE_LEN`] values, or there are more than four colour operations or two maps.
pub fn write_recipe(mirrored: bool, colors: &[ColorOp], maps: &[InverseMap], lookup: Lookup, to: &mut [f32]) {
    assert_eq!(to.len(), RECIPE_LEN, "a recipe has {RECIPE_LEN} values");
    assert!(colors.len() <= 4 && maps.len() <= 2, "at most four colour operations and two maps");
    to.fill(0.0);
    to[0] = f32::from(u8::from(mirrored));
    to[1] = f32::from(u8::from(lookup == Lookup::Bilinear));
    to[2] = colors.len() as f32;
    for (pair, color) in to[4..12].chunks_exact_mut(2).zip(colors) {
        let (kind, value) = match *color {
            ColorOp::Brightness(factor) => (0.0, factor),
            ColorOp::Contrast(factor) => (1.0, factor),
            ColorOp::Saturation(factor) => (2.0, factor),
            ColorOp::Hue(turns) => (3.0, turns),
        };
        pair.copy_from_slice(&[kind, value]);
    }
    let composed = match (lookup, maps) {
        (Lookup::Bilinear, [first, last]) => &[compose(first, last)],
        _ => maps,
    };
    to[3] = composed.len() as f32;
    for (to, map) in to[12..].chunks_exact_mut(6).zip(composed) {
        to.copy_from_slice(map);
    }
}

/// Blocks that add up the grey of one image.
const GREY_BLOCKS: u32 = 32;

/// The commands that fill `images` (B,H,W,[`CHANNELS`]): from [`Buffer::Pixels`] and [`Buffer::Recipes`], and from
/// [`Buffer::Planes`].
pub(super) fn commands(
    arena: &mut Arena,
    element: Element,
    [batch, height, width]: [usize; 3],
    images: BufferPlace,
) -> (Vec<Command>, Vec<Command>) {
    let grey = arena.keep(4 * batch * GREY_BLOCKS as usize);
    let source = |buffer| Arg::At(BufferPlace { buffer, offset: 0 });
    let size = [Arg::U32(height as u32), Arg::U32(width as u32)];
    let normalise = IMAGENET_STD.map(|std| 1.0 / std);
    let constants =
        (0..3).map(|c| normalise[c]).chain((0..3).map(|c| -IMAGENET_MEAN[c] * normalise[c])).map(Arg::F32);
    let blocks = (height * width).div_ceil(BLOCK as usize) as u32;
    let means = Launch {
        kernel: "grey_sums".into(),
        grid: [GREY_BLOCKS, batch as u32, 1],
        args: [source(Buffer::Pixels), source(Buffer::Recipes)]
            .into_iter()
            .chain(size.clone())
            .chain([Arg::At(grey)])
            .collect(),
    };
    let augment = Launch {
        kernel: format!("augment_{element}"),
        grid: [blocks, batch as u32, 1],
        args: [source(Buffer::Pixels), source(Buffer::Recipes)]
            .into_iter()
            .chain(size.clone())
            .chain([Arg::At(grey), Arg::U32(GREY_BLOCKS)])
            .chain(constants)
            .chain([Arg::At(images)])
            .collect(),
    };
    let planes = Launch {
        kernel: format!("pack_planes_{element}"),
        grid: [blocks, batch as u32, 1],
        args: [source(Buffer::Planes)].into_iter().chain(size).chain([Arg::At(images)]).collect(),
    };
    (vec![Command::Launch(means), Command::Launch(augment)], vec![Command::Launch(planes)])
}
