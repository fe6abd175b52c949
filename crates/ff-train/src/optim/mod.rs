//! AdamW and SGD over the flat parameter vector, with a state that can be saved.
//!
//! A step first measures its gradient ([`Optimizer::measure`]), then goes through the parameter groups; clipping and
//! the moving average ride on that pass. The passes are `ff_kernels::cpu::optim` on the CPU, our kernels where a model
//! runs on them ([`Optimizer::for_model`]), and candle operations on whatever else the reference engine may run on.

pub mod average;
mod config;
mod groups;
#[cfg(feature = "cuda")]
mod kernels;
mod measure;
pub mod schedule;

use candle_core::{Device, Tensor};
use ff_kernels::cpu::optim::{Ema, clip_factor, l2_norm};
use ff_model::host::{with_slice, with_slice_mut};
use ff_model::{BackboneMode, FaceModel, Parameters};
use serde::{Deserialize, Serialize};

pub use config::{DecayScope, OptimizerConfig, OptimizerKind};
use groups::{Rule, groups};
pub use measure::{Measured, Measures};

use crate::loss::{LossValues, StepLosses};
use crate::{Error, Result};
use average::Average;

/// The optimiser and its state.
pub struct Optimizer {
    config: OptimizerConfig,
    steps: Steps,
    slots: Slots,
    /// Where a step is our kernels' work.
    #[cfg(feature = "cuda")]
    kernels: Option<kernels::Kernels>,
}

/// Steps taken. A backbone that was frozen for a while has taken fewer, and AdamW's bias correction must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// By the backbone.
    pub backbone: u64,
    /// By projection and heads.
    pub heads: u64,
}

/// What a step does beside following the gradient.
#[derive(Debug)]
pub struct Step<'a> {
    /// The schedule's factor on every learning rate.
    pub lr_factor: f64,
    /// Whether the backbone takes part.
    pub mode: BackboneMode,
    /// The moving average, to be moved too.
    pub average: Option<&'a mut Average>,
}

impl Default for Step<'_> {
    fn default() -> Self {
        Self { lr_factor: 1.0, mode: BackboneMode::Trainable, average: None }
    }
}

/// AdamW: first and second moment. SGD: velocity. Each (N,) beside the parameters.
#[derive(Debug)]
enum Slots {
    Host(Vec<Vec<f32>>),
    Device(Vec<Tensor>),
}

impl Optimizer {
    /// An optimiser at step 0 for the parameters of a model, on what the model runs on.
    pub fn for_model(config: OptimizerConfig, model: &FaceModel) -> Result<Self> {
        let new = Self::new(config, model.parameters())?;
        #[cfg(feature = "cuda")]
        if let Some(gpu) = model.gpu() {
            let kernels = kernels::Kernels::new(gpu, model.gradient())?;
            return Ok(Self { kernels: Some(kernels), ..new });
        }
        Ok(new)
    }

    /// An optimiser at step 0 for these parameters, which needs no kernels but the CPU's.
    pub fn new(config: OptimizerConfig, parameters: &Parameters) -> Result<Self> {
        let n_slots = slot_names(config.kind).len();
        let slots = match parameters.values().device() {
            Device::Cpu => Slots::Host(vec![vec![0.0; parameters.layout().len()]; n_slots]),
            _ => Slots::Device((0..n_slots).map(|_| parameters.zero_gradient()).collect::<Result<_, _>>()?),
        };
        Ok(Self {
            config,
            steps: Steps::default(),
            slots,
            #[cfg(feature = "cuda")]
            kernels: None,
        })
    }

    /// Steps taken.
    pub fn steps(&self) -> Steps {
        self.steps
    }

    /// Measures a gradient that is `grad_scale` times what the flat `gradient` (N,) holds: the mean of several batches,
    /// where that holds their sum. `losses` are what it is of; none at all counts as finite.
    pub fn measure(&mut self, gradient: &Tensor, grad_scale: f64, losses: &StepLosses) -> Result<Measured> {
        #[cfg(feature = "cuda")]
        if let Some(kernels) = &mut self.kernels {
            let max_norm = self.config.clip_norm;
            let (readback, n_losses) = kernels.measure(gradient, grad_scale, max_norm, losses)?;
            return Ok(Measured::on_its_way(readback, n_losses));
        }
        let grad_norm = gradient_norm(gradient)? * grad_scale;
        let losses = if losses.is_empty() { LossValues::default() } else { losses.read()? };
        let finite = losses.total.is_finite() && grad_norm.is_finite();
        let clip = self.config.clip_norm.map_or(1.0, |max_norm| clip_factor(grad_norm, max_norm));
        Ok(Measured::known(grad_scale * clip, Measures { grad_norm, losses, finite }))
    }

    /// Moves the parameters by one step along the flat `gradient` (N,), which was `measured` last.
    ///
    /// On a GPU nothing moves if what was measured is not finite; elsewhere that is for the caller to see.
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        gradient: &Tensor,
        measured: &Measured,
        step: Step,
    ) -> Result<()> {
        self.steps.heads += 1;
        self.steps.backbone += u64::from(step.mode == BackboneMode::Trainable);
        let groups = groups(parameters.layout(), step.mode, &self.config);
        let (lr_factor, grad_scale) = (step.lr_factor, measured.factor);
        let rule = Rule { config: &self.config, steps: self.steps, lr_factor, grad_scale };
        let average = step.average.as_deref().map(|a| (a.values(), a.decay(self.steps.heads)));
        parameters.update(|values, _| match &mut self.slots {
            Slots::Host(slots) => Ok(with_slice_mut(values, |values| {
                with_slice(gradient, |gradient| {
                    let mut pass = |mut average: Option<Ema>| {
                        for group in &groups {
                            rule.on_host(group, values, slots, gradient, average.as_mut());
                        }
                    };
                    match average {
                        None => {
                            pass(None);
                            Ok(())
                        }
                        Some((values, decay)) => with_slice_mut(values, |values| {
                            pass(Some(Ema { values, decay }));
                            Ok(())
                        }),
                    }
                })
            })?),
            Slots::Device(slots) => {
                #[cfg(feature = "cuda")]
                if let Some(kernels) = &self.kernels {
                    let (average, decay) = average.unzip();
                    let vectors = kernels::Vectors { values, gradient, slots, average };
                    return kernels.update(rule, &groups, &vectors, decay);
                }
                groups.iter().try_for_each(|group| rule.on_device(group, values, slots, gradient))?;
                average.map_or(Ok(()), |(average, decay)| average::follow(average, values, decay))
            }
        })?;
        match step.average {
            Some(average) => average.follow_statistics(parameters, self.steps.heads),
            None => Ok(()),
        }
    }

    /// The figures of what was measured, when the device has come this far.
    ///
    /// # Errors
    /// Something before them failed on the device.
    pub fn finish(&mut self, mut measured: Measured) -> Result<Measures> {
        let measures = measured.wait()?;
        #[cfg(feature = "cuda")]
        if let (Some(kernels), Some(readback)) = (&mut self.kernels, measured.into_readback()) {
            kernels.recycle(readback);
        }
        Ok(measures)
    }

    /// The state's tensors (N,) under their checkpoint names; [`Optimizer::steps`] belongs to it.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let names = slot_names(self.config.kind).iter().map(|name| (*name).to_owned());
        let tensors: Vec<Tensor> = match &self.slots {
            Slots::Host(slots) => slots
                .iter()
                .map(|s| Tensor::from_slice(s, s.len(), &Device::Cpu))
                .collect::<Result<_, _>>()?,
            Slots::Device(slots) => {
                slots.iter().map(|s| s.to_device(&Device::Cpu)).collect::<Result<_, _>>()?
            }
        };
        Ok(names.zip(tensors).collect())
    }

    /// Takes on a saved state: `tensor(name)` gives the tensors that [`Optimizer::state`] gave.
    ///
    /// # Errors
    /// What `tensor` returns, or a length that is not the parameters'.
    pub fn restore(&mut self, steps: Steps, mut tensor: impl FnMut(&str) -> Result<Tensor>) -> Result<()> {
        for (i, name) in slot_names(self.config.kind).iter().enumerate() {
            let saved = tensor(name)?;
            match &mut self.slots {
                Slots::Host(slots) => {
                    let values = saved.to_vec1::<f32>()?;
                    let (expected, found) = (slots[i].len(), values.len());
                    if expected != found {
                        return Err(Error::StateLength { name: (*name).to_owned(), expected, found });
                    }
                    slots[i] = values;
                }
                Slots::Device(slots) => slots[i].slice_set(&saved.to_device(slots[i].device())?, 0, 0)?,
            }
        }
        self.steps = steps;
        Ok(())
    }
}

fn slot_names(kind: OptimizerKind) -> &'static [&'static str] {
    match kind {
        OptimizerKind::AdamW => &["optimizer.first_moment", "optimizer.second_moment"],
        OptimizerKind::Sgd => &["optimizer.velocity"],
    }
}

/// The l2 norm of a flat gradient (N,).
pub fn gradient_norm(gradient: &Tensor) -> Result<f64> {
    match gradient.device() {
        Device::Cpu => Ok(with_slice(gradient, |gradient| Ok(l2_norm(gradient)))?),
        _ => Ok(f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt()),
    }
}

/// Moves the model's parameters along its gradient, without a schedule.
pub fn optimizer_step(model: &mut FaceModel, optimizer: &mut Optimizer) -> Result<()> {
    let (gradient, mode) = (model.gradient().clone(), model.backbone_mode());
    let measured = optimizer.measure(&gradient, 1.0, &StepLosses::default())?;
    optimizer.step(model.parameters_mut(), &gradient, &measured, Step { mode, ..Step::default() })?;
    optimizer.finish(measured)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ff_model::{Architecture, HeadSpec};

    fn parameters() -> Parameters {
        Parameters::initialise(Architecture::Resnet34, &[HeadSpec::new("age", 3)], 1, &Device::Cpu).unwrap()
    }

    fn gradient(parameters: &Parameters, step: usize) -> Tensor {
        let n = parameters.layout().len();
        let values: Vec<f32> =
            (0..n).map(|i| ((i * 7919 + step * 104_729) % 1009) as f32 / 504.5 - 1.0).collect();
        Tensor::from_vec(values, n, &Device::Cpu).unwrap()
    }

    fn measure(optimizer: &mut Optimizer, gradient: &Tensor) -> Measured {
        optimizer.measure(gradient, 1.0, &StepLosses::default()).unwrap()
    }

    fn step(optimizer: &mut Optimizer, parameters: &mut Parameters, gradient: &Tensor, step: Step) {
        let measured = measure(optimizer, gradient);
        optimizer.step(parameters, gradient, &measured, step).unwrap();
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    /// The path of other devices, run on the CPU, against the kernels.
    #[test]
    fn candle_operations_and_kernels_agree() {
        for kind in [OptimizerKind::AdamW, OptimizerKind::Sgd] {
            let base = OptimizerConfig::default();
            let config = OptimizerConfig {
                kind,
                lr: 0.01,
                layer_decay: 0.9,
                nesterov: true,
                clip_norm: Some(1000.0),
                ..base
            };
            let mut on_host = parameters();
            let on_device = parameters();
            let mut optimizer = Optimizer::new(config.clone(), &on_host).unwrap();
            let n_slots = slot_names(kind).len();
            let slots: Vec<_> = (0..n_slots).map(|_| on_device.zero_gradient().unwrap()).collect();
            for step in 1..=3 {
                let gradient = gradient(&on_host, step);
                let measured = measure(&mut optimizer, &gradient);
                let grad_scale = measured.factor;
                assert!(grad_scale < 1.0, "clipping takes part");
                let half = Step { lr_factor: 0.5, ..Step::default() };
                optimizer.step(&mut on_host, &gradient, &measured, half).unwrap();
                let rule = Rule { config: &config, steps: optimizer.steps(), lr_factor: 0.5, grad_scale };
                for group in groups(on_device.layout(), BackboneMode::Trainable, &config) {
                    rule.on_device(&group, on_device.values(), &slots, &gradient).unwrap();
                }
            }
            assert!(largest_difference(on_host.values(), on_device.values()) < 1e-5, "{kind:?}");
            for ((name, host), device) in optimizer.state().unwrap().iter().zip(&slots) {
                assert!(largest_difference(host, device) < 1e-6, "{kind:?} {name}");
            }
        }
    }

    #[test]
    fn groups_cover_what_learns_once_and_spare_norms_and_biases() {
        let (parameters, config) = (parameters(), OptimizerConfig::default());
        let layout = parameters.layout();
        let all = groups(layout, BackboneMode::Trainable, &config);
        assert_eq!(all.iter().map(|g| g.range.len()).sum::<usize>(), layout.len());
        assert!(all.windows(2).all(|pair| pair[0].range.end == pair[1].range.start));
        for entry in layout.entries() {
            let group = all.iter().find(|g| g.range.contains(&entry.offset)).unwrap();
            let is_weight = entry.shape.len() > 1;
            assert_eq!(group.weight_decay > 0.0, is_weight, "{}", entry.name);
        }
        let frozen = groups(layout, BackboneMode::Frozen, &config);
        assert_eq!(frozen[0].range.start, layout.backbone().end);
        let joined =
            groups(layout, BackboneMode::Trainable, &OptimizerConfig { decay: DecayScope::All, ..config });
        assert_eq!(joined.len(), 2, "backbone and heads when everything decays");
    }

    #[test]
    fn a_restored_optimiser_goes_on_as_the_saved_one() {
        let (mut whole, config) = (parameters(), OptimizerConfig::default());
        let mut optimizer = Optimizer::new(config.clone(), &whole).unwrap();
        let plain = |optimizer: &mut Optimizer, parameters: &mut Parameters, i| {
            let gradient = gradient(parameters, i);
            step(optimizer, parameters, &gradient, Step::default());
        };
        plain(&mut optimizer, &mut whole, 1);
        let mut restored = Optimizer::new(config, &whole).unwrap();
        let saved = optimizer.state().unwrap();
        restored
            .restore(optimizer.steps(), |name| Ok(saved.iter().find(|(n, _)| n == name).unwrap().1.clone()))
            .unwrap();
        let mut resumed = parameters();
        resumed.update(|values, _| values.slice_set(&whole.values().copy().unwrap(), 0, 0)).unwrap();
        plain(&mut optimizer, &mut whole, 2);
        plain(&mut restored, &mut resumed, 2);
        assert_eq!(largest_difference(whole.values(), resumed.values()), 0.0);
        let short = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
        let message = restored.restore(Steps::default(), |_| Ok(short.clone())).unwrap_err().to_string();
        assert!(message.contains("expected 21548867 values,") && message.contains("found 3"), "{message}");
    }

    #[test]
    fn deeper_layers_learn_faster_and_heads_as_asked() {
        let config = OptimizerConfig { layer_decay: 0.5, head_lr: 10.0, ..OptimizerConfig::default() };
        let parameters = parameters();
        let layout = parameters.layout();
        let all = groups(layout, BackboneMode::Trainable, &config);
        for (name, expected) in [
            ("backbone.conv1.weight", 0.5f64.powi(16)),
            ("backbone.layer1.0.conv1.weight", 0.5f64.powi(15)),
            ("backbone.layer2.0.downsample.0.weight", 0.5f64.powi(12)),
            ("backbone.layer4.2.bn2.bias", 1.0),
            ("shared.0.weight", 10.0),
            ("age_head.bias", 10.0),
        ] {
            let offset = layout.get(name).unwrap().offset;
            assert_eq!(all.iter().find(|g| g.range.contains(&offset)).unwrap().lr_factor, expected, "{name}");
        }
    }

    #[test]
    fn the_average_follows_every_group_that_moves() {
        let config = OptimizerConfig { lr: 0.1, ..OptimizerConfig::default() };
        let mut moving = parameters();
        let mut optimizer = Optimizer::new(config, &moving).unwrap();
        let mut average = Average::new(Some(0.5), &moving).unwrap();
        let before = moving.values().copy().unwrap();
        let gradient = gradient(&moving, 1);
        let with_average = Step { average: Some(&mut average), ..Step::default() };
        step(&mut optimizer, &mut moving, &gradient, with_average);
        // At the first step the decay is 2/11.
        let expected =
            ((before * (2.0 / 11.0)).unwrap() + (moving.values() * (9.0 / 11.0)).unwrap()).unwrap();
        assert!(largest_difference(average.values(), &expected) < 1e-6);
    }

    /// A backbone that was frozen for a step begins where AdamW begins.
    #[test]
    fn a_thawed_backbone_counts_its_own_steps() {
        let config = OptimizerConfig { weight_decay: 0.0, ..OptimizerConfig::default() };
        let (mut thawed, mut fresh) = (parameters(), parameters());
        let gradient = gradient(&thawed, 1);
        let mut late = Optimizer::new(config.clone(), &thawed).unwrap();
        let frozen = Step { mode: BackboneMode::Frozen, ..Step::default() };
        step(&mut late, &mut thawed, &gradient, frozen);
        step(&mut late, &mut thawed, &gradient, Step::default());
        step(&mut Optimizer::new(config, &fresh).unwrap(), &mut fresh, &gradient, Step::default());
        let backbone = |p: &Parameters| p.values().narrow(0, 0, p.layout().backbone().end).unwrap();
        assert_eq!(largest_difference(&backbone(&thawed), &backbone(&fresh)), 0.0);
        assert_eq!(late.steps(), Steps { backbone: 1, heads: 2 });
    }
}
