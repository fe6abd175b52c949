//! Parameter groups: runs of the flat vector that are updated alike, and the update of one of them.
//!
//! A group has its weight decay and its factor on the learning rate. On the host an update is one pass of
//! `ff_kernels::cpu::optim`; in candle operations it is the same arithmetic on any device.

use std::ops::Range;

use candle_core::Tensor;
use ff_kernels::cpu::optim::{AdamW, Ema, Sgd};
use ff_model::{BackboneMode, ParameterLayout};

use super::Steps;
use super::config::{DecayScope, OptimizerConfig};
use crate::Result;

/// A run of parameters that are updated alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its place in the flat vector.
    pub range: Range<usize>,
    part: Part,
    pub weight_decay: f64,
    pub lr_factor: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Backbone,
    Heads,
}

/// The runs of the flat vector that move, neighbours of one kind joined.
pub fn groups(layout: &ParameterLayout, mode: BackboneMode, config: &OptimizerConfig) -> Vec<Group> {
    let heads = layout.backbone().end;
    let first = if mode == BackboneMode::Frozen { heads } else { 0 };
    let mut groups: Vec<Group> = Vec::new();
    for entry in layout.entries().iter().filter(|e| e.offset >= first) {
        let decays = config.decay == DecayScope::All || entry.role.decays();
        let weight_decay = if decays { config.weight_decay } else { 0.0 };
        let (part, lr_factor) = match entry.blocks_above {
            Some(blocks) => (Part::Backbone, config.layer_decay.powi(blocks as i32)),
            None => (Part::Heads, config.head_lr),
        };
        let group = Group { range: entry.range(), part, weight_decay, lr_factor };
        match groups.last_mut() {
            Some(last) if *last == Group { range: last.range.clone(), ..group } => {
                last.range.end = entry.range().end;
            }
            _ => groups.push(group),
        }
    }
    groups
}

/// What one step does to every group.
#[derive(Clone, Copy)]
pub struct Rule<'a> {
    pub config: &'a OptimizerConfig,
    pub steps: Steps,
    pub lr_factor: f64,
    pub grad_scale: f64,
}

impl Rule<'_> {
    fn lr(self, group: &Group) -> f64 {
        self.config.lr * self.lr_factor * group.lr_factor
    }

    pub fn adamw(self, group: &Group) -> AdamW {
        let OptimizerConfig { beta1, beta2, eps, .. } = *self.config;
        let step = match group.part {
            Part::Backbone => self.steps.backbone,
            Part::Heads => self.steps.heads,
        };
        let (lr, grad_scale) = (self.lr(group), self.grad_scale);
        AdamW { lr, beta1, beta2, eps, weight_decay: group.weight_decay, step, grad_scale }
    }

    pub fn sgd(self, group: &Group) -> Sgd {
        let OptimizerConfig { momentum, nesterov, .. } = *self.config;
        let (lr, grad_scale) = (self.lr(group), self.grad_scale);
        Sgd { lr, momentum, weight_decay: group.weight_decay, nesterov, grad_scale }
    }

    /// One group, in host memory.
    pub fn on_host(
        self,
        group: &Group,
        values: &mut [f32],
        slots: &mut [Vec<f32>],
        gradient: &[f32],
        average: Option<&mut Ema>,
    ) {
        let range = || group.range.clone();
        let (params, grads) = (&mut values[range()], &gradient[range()]);
        let average = average.map(|ema| Ema { values: &mut ema.values[range()], decay: ema.decay });
        match slots {
            [first, second] => {
                self.adamw(group).apply(params, &mut first[range()], &mut second[range()], grads, average);
            }
            [velocity] => self.sgd(group).apply(params, &mut velocity[range()], grads, average),
            slots => unreachable!("no optimiser keeps {} slots", slots.len()),
        }
    }

    /// One group in candle operations, on any device.
    pub fn on_device(
        self,
        group: &Group,
        values: &Tensor,
        slots: &[Tensor],
        gradient: &Tensor,
    ) -> Result<()> {
        let Range { start, end } = group.range;
        let run = |t: &Tensor| t.narrow(0, start, end - start);
        let (params, grads) = (run(values)?, (run(gradient)? * self.grad_scale)?);
        let new_params = match slots {
            [first, second] => {
                let AdamW { lr, beta1, beta2, eps, weight_decay, step, .. } = self.adamw(group);
                let m = ((run(first)? * beta1)? + (&grads * (1.0 - beta1))?)?;
                let v = ((run(second)? * beta2)? + (grads.sqr()? * (1.0 - beta2))?)?;
                first.slice_set(&m, 0, start)?;
                second.slice_set(&v, 0, start)?;
                let root = (v.sqrt()? / (1.0 - beta2.powi(step as i32)).sqrt())?;
                let update = (m / (root + eps)?)?;
                ((params * (1.0 - lr * weight_decay))? - (update * (lr / (1.0 - beta1.powi(step as i32))))?)?
            }
            [velocity] => {
                let Sgd { lr, momentum, weight_decay, nesterov, .. } = self.sgd(group);
                let grads = (grads + (&params * weight_decay)?)?;
                let v = ((run(velocity)? * momentum)? + &grads)?;
                velocity.slice_set(&v, 0, start)?;
                let update = if nesterov { (grads + (v * momentum)?)? } else { v };
                (params - (update * lr)?)?
            }
            slots => unreachable!("no optimiser keeps {} slots", slots.len()),
        };
        Ok(values.slice_set(&new_params, 0, start)?)
    }
}
