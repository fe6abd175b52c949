//! What a run minimises: `[loss]` made ready for the labels and class sizes of a training split.

use candle_core::{Device, Tensor};
use ff_data::{Encoders, PerTask, Task, age_order};
use serde::{Deserialize, Serialize};

use super::{ClassWeights, MultiTaskLoss, SoftTargets, Uncertainty, weighted_sum};
use crate::mixing::Mix;
use crate::{Error, Result};

/// `[loss]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Weights of the classes.
    pub class_weights: ClassWeights,
    /// `beta` of the effective number of samples.
    pub effective_beta: f64,
    /// Share of every target that is spread over all classes.
    pub label_smoothing: f64,
    /// Whether the age loss knows the order of the bins.
    pub age: AgeLoss,
    /// Where the tasks' weights come from.
    pub task_weights: TaskWeighting,
    /// Weight of each task's loss in the sum, where they are fixed.
    pub weights: PerTask<f64>,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            class_weights: ClassWeights::None,
            effective_beta: 0.999,
            label_smoothing: 0.0,
            age: AgeLoss::Nominal,
            task_weights: TaskWeighting::Fixed,
            weights: PerTask { age: 1.0, gender: 1.0, race: 1.0 },
        }
    }
}

/// What the age loss compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgeLoss {
    /// The label alone.
    #[default]
    Nominal,
    /// The label and, less, its neighbours in the order of the bins: [`SoftTargets::ordinal`].
    Ordinal,
}

/// Where the tasks' weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskWeighting {
    /// `[loss.weights]`.
    #[default]
    Fixed,
    /// They are learnt: [`Uncertainty`].
    Uncertainty,
}

/// The loss of a run.
#[derive(Debug, Clone)]
pub struct Objective {
    targets: PerTask<SoftTargets>,
    weights: Weights,
}

#[derive(Debug, Clone)]
enum Weights {
    Fixed(PerTask<f64>),
    Learnt(Uncertainty),
}

impl Objective {
    /// The loss that `config` asks for, on a training split with these class sizes.
    ///
    /// # Errors
    /// An ordinal age loss on labels that are no age bins.
    pub fn new(
        config: &LossConfig,
        encoders: &Encoders,
        counts: &PerTask<Vec<u64>>,
        device: &Device,
    ) -> Result<Self> {
        let targets = PerTask::try_from_fn(|task| {
            let weights = config.class_weights.of(&counts[task], config.effective_beta);
            if (task, config.age) != (Task::Age, AgeLoss::Ordinal) {
                return SoftTargets::nominal(&weights, config.label_smoothing, device);
            }
            let ranks = age_order(&encoders.age)
                .map_err(|e| Error::Config { origin: "loss.age".into(), message: e.to_string() })?;
            SoftTargets::ordinal(&ranks, &weights, config.label_smoothing, device)
        })?;
        let weights = match config.task_weights {
            TaskWeighting::Fixed => Weights::Fixed(config.weights),
            TaskWeighting::Uncertainty => Weights::Learnt(Uncertainty::default()),
        };
        Ok(Self { targets, weights })
    }

    /// The loss of a batch: logits (B, classes) and labels (B,) a task. Of a mixed batch, each part's loss by its share.
    pub fn loss(&self, logits: &[Tensor], labels: &[Tensor], mix: Option<&Mix>) -> Result<MultiTaskLoss> {
        let mut tasks = Vec::with_capacity(logits.len());
        for ((targets, logits), labels) in self.targets.values().zip(logits).zip(labels) {
            let mut loss = targets.cross_entropy(logits, labels)?;
            if let Some(mix) = mix {
                let partners = Tensor::new(mix.partners.as_slice(), labels.device())?;
                let other = targets.cross_entropy(logits, &labels.index_select(&partners, 0)?)?;
                loss = ((loss * mix.share)? + (other * (1.0 - mix.share))?)?;
            }
            tasks.push(loss);
        }
        let weights: Vec<f64> = self.task_weights().values().copied().collect();
        let mut total = weighted_sum(&tasks, &weights)?;
        if let Weights::Learnt(learnt) = &self.weights {
            total = (total + learnt.penalty())?;
        }
        Ok(MultiTaskLoss { total, tasks })
    }

    /// The tasks' weights now.
    pub fn task_weights(&self) -> PerTask<f64> {
        match &self.weights {
            Weights::Fixed(weights) => *weights,
            Weights::Learnt(learnt) => learnt.weights(),
        }
    }

    /// Moves learnt task weights; fixed ones stay.
    pub fn step(&mut self, losses: &PerTask<f64>, lr: f64) {
        if let Weights::Learnt(learnt) = &mut self.weights {
            learnt.step(losses, lr);
        }
    }

    /// What of the loss is learnt, if anything: part of a checkpoint.
    pub fn learnt(&self) -> Option<Uncertainty> {
        match &self.weights {
            Weights::Fixed(_) => None,
            Weights::Learnt(learnt) => Some(*learnt),
        }
    }

    /// Takes on what [`Objective::learnt`] gave; without it, learnt weights begin anew.
    pub fn restore(&mut self, saved: Option<Uncertainty>) {
        if let (Weights::Learnt(learnt), Some(saved)) = (&mut self.weights, saved) {
            *learnt = saved;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::multi_task;
    use ff_data::Manifest;

    fn encoders() -> Encoders {
        let csv = "file,age,gender,race\na,3-9,Male,White\nb,20-29,Female,Black\nc,10-19,Male,White\n";
        Encoders::fit(&Manifest::parse("x.csv", csv.as_bytes()).unwrap()).unwrap()
    }

    fn batch() -> (Vec<Tensor>, Vec<Tensor>) {
        let logits = |classes: usize| {
            let values: Vec<f32> = (0..2 * classes).map(|i| (i * i % 7) as f32 * 0.5 - 1.0).collect();
            Tensor::from_vec(values, (2, classes), &Device::Cpu).unwrap()
        };
        let labels = |ids: [u32; 2]| Tensor::new(&ids, &Device::Cpu).unwrap();
        (vec![logits(3), logits(2), logits(2)], vec![labels([0, 2]), labels([1, 0]), labels([1, 1])])
    }

    fn objective(config: &LossConfig) -> Objective {
        let counts = PerTask { age: vec![1, 1, 1], gender: vec![1, 2], race: vec![1, 2] };
        Objective::new(config, &encoders(), &counts, &Device::Cpu).unwrap()
    }

    fn total(objective: &Objective, mix: Option<&Mix>) -> f32 {
        let (logits, labels) = batch();
        objective.loss(&logits, &labels, mix).unwrap().total.to_scalar().unwrap()
    }

    #[test]
    fn the_default_is_the_plain_sum() {
        let (logits, labels) = batch();
        let plain: f32 = multi_task(&logits, &labels).unwrap().total.to_scalar().unwrap();
        assert!((total(&objective(&LossConfig::default()), None) - plain).abs() < 1e-6);
    }

    #[test]
    fn a_mixed_batch_counts_each_part_by_its_share() {
        let objective = objective(&LossConfig { label_smoothing: 0.1, ..LossConfig::default() });
        let mix = |share, partners: [u32; 2]| Mix { share, partners: partners.to_vec(), patch: None };
        let own = total(&objective, None);
        let other = total(&objective, Some(&mix(0.0, [1, 0])));
        assert_eq!(total(&objective, Some(&mix(0.3, [0, 1]))), own, "mixed with itself");
        let mixed = total(&objective, Some(&mix(0.25, [1, 0])));
        assert!((mixed - (0.25 * own + 0.75 * other)).abs() < 1e-5 && own != other);
    }

    #[test]
    fn fixed_weights_scale_and_learnt_ones_move_and_come_back() {
        let weights = PerTask { age: 0.0, gender: 2.0, race: 0.0 };
        let only_gender = objective(&LossConfig { weights, ..LossConfig::default() });
        let (logits, labels) = batch();
        let loss = only_gender.loss(&logits, &labels, None).unwrap();
        let gender: f32 = loss.tasks[1].to_scalar().unwrap();
        assert!((loss.total.to_scalar::<f32>().unwrap() - 2.0 * gender).abs() < 1e-6);

        let config = LossConfig { task_weights: TaskWeighting::Uncertainty, ..LossConfig::default() };
        let mut learnt = objective(&config);
        learnt.step(&PerTask { age: 2.0, gender: 0.1, race: 1.0 }, 0.1);
        let moved = learnt.task_weights();
        assert!(moved.age < 1.0 && moved.gender > 1.0, "a large loss counts less: {moved:?}");
        let mut restored = objective(&config);
        restored.restore(learnt.learnt());
        assert_eq!(restored.task_weights(), moved);
    }

    #[test]
    fn an_ordinal_loss_needs_age_bins() {
        let csv = "file,age,gender,race\na,young,Male,White\nb,old,Female,Black\n";
        let encoders = Encoders::fit(&Manifest::parse("x.csv", csv.as_bytes()).unwrap()).unwrap();
        let counts = PerTask { age: vec![1, 1], gender: vec![1, 1], race: vec![1, 1] };
        let config = LossConfig { age: AgeLoss::Ordinal, ..LossConfig::default() };
        let message = Objective::new(&config, &encoders, &counts, &Device::Cpu).unwrap_err().to_string();
        assert!(message.starts_with("loss.age: ") && message.contains("old"), "{message}");
    }
}
