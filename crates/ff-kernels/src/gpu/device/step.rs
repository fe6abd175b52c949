//! The optimiser's launches of [`gpu::update`](crate::gpu::program::update), on memory that is long enough for them.

use super::driver::Gpu;
use super::span::Memory;
use crate::cpu::optim::{AdamW, Sgd};
use crate::gpu::error::{Error, Result};
use crate::gpu::program::update::{self, Group, Scalars};
use crate::gpu::{Buffer, BufferPlace, Launch};

/// Elements that a flat vector may have: kernels count them, and a step beyond the last, in 32 bits.
const MOST_ELEMENTS: usize = u32::MAX as usize / 2;

impl Gpu {
    /// The l2 norm of the first `len` values of [`Buffer::Gradient`], and with it the step's [`Scalars`]: see
    /// [`update::norm`]. The losses are the `n_losses` f32 from value `losses_at` of [`Buffer::Scalars`] on.
    ///
    /// # Errors
    /// [`Error::Length`], or the driver refuses.
    ///
    /// # Panics
    /// There are more losses than [`Scalars::MOST_LOSSES`].
    pub fn norm(
        &self,
        len: usize,
        losses_at: usize,
        n_losses: usize,
        grad_scale: f64,
        max_norm: Option<f64>,
        memory: &Memory<'_>,
    ) -> Result<()> {
        memory.check(Buffer::Gradient, bytes(len)?)?;
        memory.check(Buffer::Scalars, Scalars::BUFFER_LEN.max(bytes(losses_at.saturating_add(n_losses))?))?;
        let losses = BufferPlace::f32s(Buffer::Scalars, losses_at);
        self.launch_all(&update::norm(len, losses, n_losses, grad_scale, max_norm), memory)
    }

    /// One AdamW step over all groups, after [`Self::norm`]: see [`update::adamw`].
    ///
    /// # Errors
    /// [`Error::Length`]: a group ends beyond a vector; or the driver refuses.
    pub fn adamw(
        &self,
        groups: &[Group<AdamW>],
        average_decay: Option<f64>,
        memory: &Memory<'_>,
    ) -> Result<()> {
        let states = [Buffer::FirstState, Buffer::SecondState];
        check_groups(groups, &states, average_decay.is_some(), memory)?;
        self.launch_all(&update::adamw(groups, average_decay), memory)
    }

    /// One SGD step over all groups, after [`Self::norm`]: see [`update::sgd`].
    ///
    /// # Errors
    /// As [`Self::adamw`].
    pub fn sgd(&self, groups: &[Group<Sgd>], average_decay: Option<f64>, memory: &Memory<'_>) -> Result<()> {
        check_groups(groups, &[Buffer::FirstState], average_decay.is_some(), memory)?;
        self.launch_all(&update::sgd(groups, average_decay), memory)
    }

    fn launch_all(&self, launches: &[Launch], memory: &Memory<'_>) -> Result<()> {
        let bases = memory.bases();
        // SAFETY: launches of `update`, whose kernels touch what the callers checked.
        launches.iter().try_for_each(|launch| unsafe { self.launch(launch, &bases) })
    }
}

/// Bytes of `len` f32.
fn bytes(len: usize) -> Result<usize> {
    match len <= MOST_ELEMENTS {
        true => Ok(4 * len),
        false => Err(Error::Length { what: "a flat vector", expected: MOST_ELEMENTS, found: len }),
    }
}

/// Every group lies within all vectors.
fn check_groups<R>(groups: &[Group<R>], states: &[Buffer], average: bool, memory: &Memory<'_>) -> Result<()> {
    let end = groups.iter().map(|group| group.range.end).max().unwrap_or(0);
    let end = bytes(end)?;
    memory.check(Buffer::Scalars, Scalars::BUFFER_LEN)?;
    let average = average.then_some(&Buffer::Average);
    for buffer in [Buffer::Parameters, Buffer::Gradient].iter().chain(states).chain(average) {
        memory.check(*buffer, end)?;
    }
    Ok(())
}
