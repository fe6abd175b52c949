//! The optimiser's pass over the flat vectors, with clipping and the moving average, and the norm before it.
//!
//! The gradient's norm, the clipping factor and whether everything is finite stay on the device: the host reads
//! [`Scalars`] when it likes, and a step whose loss or gradient is not finite moves nothing, without anybody waiting.
//! Element by element, the arithmetic is that of [`crate::cpu::optim`].

use std::ops::Range;

use super::command::{Arg, Buffer, BufferPlace, Launch};
use crate::cpu::optim::{AdamW, Sgd};

/// What a step leaves for the host, at the beginning of [`Buffer::Scalars`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scalars {
    /// The l2 norm of the gradient, times `grad_scale` of [`norm`].
    pub grad_norm: f32,
    /// The factor that the update multiplies the gradient by: `grad_scale`, times the clipping factor.
    pub factor: f32,
    /// 1 if the norm and all losses are finite, else 0: then the update moves nothing.
    pub finite: u32,
    /// The losses that [`norm`] was given.
    pub losses: [f32; Self::MOST_LOSSES],
}

impl Scalars {
    /// How many losses a step can report: the total and 64 tasks'.
    pub const MOST_LOSSES: usize = 65;
    /// Bytes that [`Buffer::Scalars`] must have: the scalars, then partial sums.
    pub const BUFFER_LEN: usize = size_of::<Self>() + size_of::<f64>() * NORM_BLOCKS as usize;

    /// Reads the scalars from the first bytes of their buffer.
    ///
    /// # Panics
    /// There are too few bytes.
    pub fn read(bytes: &[u8]) -> Self {
        let word = |i: usize| {
            let bytes = bytes[4 * i..4 * i + 4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes)
        };
        let float = |i| f32::from_bits(word(i));
        Self {
            grad_norm: float(0),
            factor: float(1),
            finite: word(2),
            losses: std::array::from_fn(|i| float(3 + i)),
        }
    }
}

/// Blocks that gather the norm, each leaving one f64.
const NORM_BLOCKS: u32 = 512;
/// Blocks along the elements of a group.
const UPDATE_BLOCKS: u32 = 256;
/// Groups that one launch can take: its arguments must fit into 4 KiB.
const MOST_GROUPS: usize = 128;

/// The l2 norm of a flat gradient of `len` values, and with it the scalars of the step.
///
/// The gradient is `grad_scale` times what its buffer holds (where it is a sum of several batches). `n_losses` f32 are
/// read from `losses`. With `max_norm` the factor shortens the gradient as `torch.nn.utils.clip_grad_norm_` does.
///
/// # Panics
/// There are more losses than [`Scalars::MOST_LOSSES`].
pub fn norm(
    len: usize,
    losses: BufferPlace,
    n_losses: usize,
    grad_scale: f64,
    max_norm: Option<f64>,
) -> [Launch; 2] {
    assert!(n_losses <= Scalars::MOST_LOSSES, "expected at most {} losses", Scalars::MOST_LOSSES);
    let scalars = BufferPlace { buffer: Buffer::Scalars, offset: 0 };
    let partial = Arg::At(BufferPlace { buffer: Buffer::Scalars, offset: size_of::<Scalars>() });
    let gradient = Arg::At(BufferPlace { buffer: Buffer::Gradient, offset: 0 });
    [
        Launch {
            kernel: "norm_partial".into(),
            grid: [NORM_BLOCKS, 1, 1],
            args: vec![gradient, Arg::U32(len as u32), partial.clone()],
        },
        Launch {
            kernel: "scalars_finish".into(),
            grid: [1, 1, 1],
            args: vec![
                partial,
                Arg::U32(NORM_BLOCKS),
                Arg::At(losses),
                Arg::U32(n_losses as u32),
                Arg::F32(grad_scale as f32),
                Arg::F32(max_norm.map_or(f32::INFINITY, |norm| norm as f32)),
                Arg::At(scalars),
            ],
        },
    ]
}

/// A run of parameters and how it learns in this step.
#[derive(Clone, Debug, PartialEq)]
pub struct Group<R> {
    /// Its elements of the flat vectors.
    pub range: Range<usize>,
    /// The step; its `grad_scale` is not read: the device has [`Scalars::factor`].
    pub rule: R,
}

/// Room for the constants of a group beside its range.
const CONSTANTS: usize = 4;

/// `struct Groups` of `update.cu`.
fn groups_struct<'a>(groups: impl Iterator<Item = (&'a Range<usize>, [f32; CONSTANTS])>) -> Arg {
    let mut bytes = Vec::with_capacity(MOST_GROUPS * (8 + 4 * CONSTANTS));
    for (range, constants) in groups {
        bytes.extend_from_slice(&(range.start as u32).to_le_bytes());
        bytes.extend_from_slice(&(range.end as u32).to_le_bytes());
        constants.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
    }
    bytes.resize(MOST_GROUPS * (8 + 4 * CONSTANTS), 0);
    Arg::Struct(bytes)
}

/// `keep` of the moving average, and where it lies.
fn average_args(decay: Option<f64>) -> [Arg; 2] {
    let at = Arg::At(BufferPlace { buffer: Buffer::Average, offset: 0 });
    match decay {
        Some(decay) => [at, Arg::F32((1.0 - decay) as f32)],
        None => [Arg::Null, Arg::F32(0.0)],
    }
}

fn flat(buffer: Buffer) -> Arg {
    Arg::At(BufferPlace { buffer, offset: 0 })
}

/// One AdamW step over all groups, after [`norm`]; then the moving average with `average_decay`.
///
/// All groups share betas and epsilon.
pub fn adamw(groups: &[Group<AdamW>], average_decay: Option<f64>) -> Vec<Launch> {
    let launch = |groups: &[Group<AdamW>]| {
        let constants = |rule: &AdamW| {
            let step = rule.step as i32;
            [
                (1.0 - rule.lr * rule.weight_decay) as f32,
                (rule.lr / (1.0 - rule.beta1.powi(step))) as f32,
                (1.0 / (1.0 - rule.beta2.powi(step)).sqrt()) as f32,
                0.0,
            ]
        };
        let AdamW { beta1, beta2, eps, .. } = groups[0].rule;
        let [average, keep] = average_args(average_decay);
        Launch {
            kernel: "update_adamw".into(),
            grid: [UPDATE_BLOCKS, groups.len() as u32, 1],
            args: vec![
                flat(Buffer::Parameters),
                flat(Buffer::FirstState),
                flat(Buffer::SecondState),
                flat(Buffer::Gradient),
                average,
                keep,
                flat(Buffer::Scalars),
                Arg::F32((1.0 - beta1) as f32),
                Arg::F32(beta2 as f32),
                Arg::F32((1.0 - beta2) as f32),
                Arg::F32(eps as f32),
                groups_struct(groups.iter().map(|group| (&group.range, constants(&group.rule)))),
            ],
        }
    };
    groups.chunks(MOST_GROUPS).map(launch).collect()
}

/// One SGD step over all groups, after [`norm`]; then the moving average with `average_decay`.
///
/// All groups share momentum and whether it is Nesterov's.
pub fn sgd(groups: &[Group<Sgd>], average_decay: Option<f64>) -> Vec<Launch> {
    let launch = |groups: &[Group<Sgd>]| {
        let Sgd { momentum, nesterov, .. } = groups[0].rule;
        let constants = |rule: &Sgd| [rule.lr as f32, rule.weight_decay as f32, 0.0, 0.0];
        let [average, keep] = average_args(average_decay);
        Launch {
            kernel: "update_sgd".into(),
            grid: [UPDATE_BLOCKS, groups.len() as u32, 1],
            args: vec![
                flat(Buffer::Parameters),
                flat(Buffer::FirstState),
                flat(Buffer::Gradient),
                average,
                keep,
                flat(Buffer::Scalars),
                Arg::F32(momentum as f32),
                Arg::U32(u32::from(nesterov)),
                groups_struct(groups.iter().map(|group| (&group.range, constants(&group.rule)))),
            ],
        }
    };
    groups.chunks(MOST_GROUPS).map(launch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_groups_become_several_launches() {
        let rule = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.0, nesterov: false, grad_scale: 1.0 };
        let groups: Vec<_> = (0..300).map(|i| Group { range: i..i + 1, rule }).collect();
        let grids: Vec<_> = sgd(&groups, None).iter().map(|launch| launch.grid[1]).collect();
        assert_eq!(grids, [128, 128, 44]);
    }
}
