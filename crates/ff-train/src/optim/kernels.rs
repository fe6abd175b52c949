//! A step by our own kernels on a GPU: norm, clipping, update and moving average, all without the host.
//!
//! The host puts the launches on the stream and goes on. Whether the step moves anything (only where losses and norm
//! are finite) is decided on the device; the figures come back by a [`Readback`].

use std::sync::Arc;

use candle_core::{DType, Tensor};
use ff_kernels::gpu::Buffer;
use ff_kernels::gpu::device::{Gpu, Memory, Readback};
use ff_kernels::gpu::program::update::{Group as KernelGroup, Scalars};
use ff_model::Held;

use super::groups::{Group, Rule};
use crate::Result;
use crate::loss::StepLosses;

/// Launches the kernels, and owns what they leave between them.
pub struct Kernels {
    gpu: Arc<Gpu>,
    /// [`Scalars`] and their partial sums, then the losses: f32, though not all of it is.
    scalars: Tensor,
    /// Those that nobody waits for.
    readbacks: Vec<Readback>,
}

/// f32 values before the losses in the buffer of scalars.
const LOSSES_AT: usize = Scalars::BUFFER_LEN / size_of::<f32>();

/// The flat vectors (N,) f32 that a step works on.
pub struct Vectors<'a> {
    pub values: &'a Tensor,
    pub gradient: &'a Tensor,
    pub slots: &'a [Tensor],
    pub average: Option<&'a Tensor>,
}

impl Kernels {
    /// On the device of `beside`.
    pub fn new(gpu: &Arc<Gpu>, beside: &Tensor) -> Result<Self> {
        let scalars = Tensor::zeros(LOSSES_AT + Scalars::MOST_LOSSES, DType::F32, beside.device())?;
        Ok(Self { gpu: Arc::clone(gpu), scalars, readbacks: Vec::new() })
    }

    /// Measures a gradient that is `grad_scale` times what `gradient` (N,) holds, and asks for the figures; gives the
    /// number of losses among them too.
    pub fn measure(
        &mut self,
        gradient: &Tensor,
        grad_scale: f64,
        max_norm: Option<f64>,
        losses: &StepLosses,
    ) -> Result<(Readback, usize)> {
        let mut n_losses = 0;
        if let Some(mean) = losses.mean()? {
            self.scalars.slice_set(&mean, 0, LOSSES_AT)?;
            n_losses = mean.elem_count();
        }
        let (scalars, held) = (Held::new(&self.scalars)?, Held::new(gradient)?);
        let scalars = scalars.span(&self.gpu)?;
        let memory =
            Memory::default().with(Buffer::Scalars, scalars).with(Buffer::Gradient, held.span(&self.gpu)?);
        self.gpu.norm(gradient.elem_count(), LOSSES_AT, n_losses, grad_scale, max_norm, &memory)?;
        let mut readback = match self.readbacks.pop() {
            Some(readback) => readback,
            None => Readback::new(&self.gpu, size_of::<Scalars>())?,
        };
        readback.begin(scalars.part(0..size_of::<Scalars>()))?;
        Ok((readback, n_losses))
    }

    /// Takes back what figures came in.
    pub fn recycle(&mut self, readback: Readback) {
        self.readbacks.push(readback);
    }

    /// Moves the parameters along the gradient that was measured last, and then their average.
    pub fn update(
        &self,
        rule: Rule,
        groups: &[Group],
        vectors: &Vectors,
        average_decay: Option<f64>,
    ) -> Result<()> {
        let states = [Buffer::FirstState, Buffer::SecondState].into_iter().zip(vectors.slots);
        let others = [
            (Buffer::Scalars, &self.scalars),
            (Buffer::Parameters, vectors.values),
            (Buffer::Gradient, vectors.gradient),
        ];
        let average = vectors.average.map(|average| (Buffer::Average, average));
        let hold = |(buffer, tensor)| Ok((buffer, Held::new(tensor)?));
        let held: Vec<_> =
            others.into_iter().chain(states).chain(average).map(hold).collect::<Result<_>>()?;
        let mut memory = Memory::default();
        for (buffer, tensor) in &held {
            memory = memory.with(*buffer, tensor.span(&self.gpu)?);
        }
        match vectors.slots {
            [_, _] => self.gpu.adamw(&rules(groups, |group| rule.adamw(group)), average_decay, &memory)?,
            [_] => self.gpu.sgd(&rules(groups, |group| rule.sgd(group)), average_decay, &memory)?,
            slots => unreachable!("no optimiser keeps {} slots", slots.len()),
        }
        Ok(())
    }
}

fn rules<R>(groups: &[Group], rule: impl Fn(&Group) -> R) -> Vec<KernelGroup<R>> {
    groups.iter().map(|group| KernelGroup { range: group.range.clone(), rule: rule(group) }).collect()
}
