//! What a run minimises: `[loss]` made ready for the labels and class sizes of a training split.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use ff_core::{Encoders, PerTask, text};
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
    /// Whether losses of ordered tasks know the order. It was called `age` in version 0.1.
    pub ordered: OrderedLoss,
    /// Where the tasks' weights come from.
    pub task_weights: TaskWeighting,
    /// Weight of each task's loss in the sum, where they are fixed; 1 where none is given.
    #[serde(default)]
    pub weights: BTreeMap<String, f64>,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            class_weights: ClassWeights::None,
            effective_beta: 0.999,
            label_smoothing: 0.0,
            ordered: OrderedLoss::Nominal,
            task_weights: TaskWeighting::Fixed,
            weights: BTreeMap::new(),
        }
    }
}

/// What the loss of a task with an order compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderedLoss {
    /// The label alone.
    #[default]
    Nominal,
    /// The label and, less, its neighbours in the order: [`SoftTargets::ordinal`].
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
    /// An ordinal loss where no task has an order; a weight of a task that there is not.
    pub fn new(
        config: &LossConfig,
        encoders: &Encoders,
        counts: &PerTask<Vec<u64>>,
        device: &Device,
    ) -> Result<Self> {
        let bad = |origin: &str, message| Error::Config { origin: origin.to_owned(), message };
        if config.ordered == OrderedLoss::Ordinal
            && encoders.values().all(|encoder| encoder.ranks().is_none())
        {
            let names: Vec<String> = encoders.names().map(ToString::to_string).collect();
            let message = format!("expected a task with an order, found {} without", text::list(&names));
            return Err(bad("loss.ordered", message));
        }
        let targets = encoders.try_each(|task, encoder| {
            let weights = config.class_weights.of(&counts[task], config.effective_beta);
            match encoder.ranks() {
                Some(ranks) if config.ordered == OrderedLoss::Ordinal => {
                    SoftTargets::ordinal(ranks, &weights, config.label_smoothing, device)
                }
                _ => SoftTargets::nominal(&weights, config.label_smoothing, device),
            }
        })?;
        let weights = match config.task_weights {
            TaskWeighting::Fixed => Weights::Fixed(
                encoders.each(|task, _| config.weights.get(task.as_str()).copied().unwrap_or(1.0)),
            ),
            TaskWeighting::Uncertainty => Weights::Learnt(Uncertainty::new(&encoders.schema())),
        };
        Ok(Self { targets, weights })
    }

    /// The loss of a batch: logits (B, classes) and labels (B,) a task. Of a mixed batch, each part's loss by its
    /// share.
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
            Weights::Fixed(weights) => weights.clone(),
            Weights::Learnt(learnt) => learnt.weights(),
        }
    }

    /// Moves learnt task weights by the losses of a step, in the order of the tasks; fixed ones stay.
    pub fn step(&mut self, losses: &[f64], lr: f64) {
        if let Weights::Learnt(learnt) = &mut self.weights {
            learnt.step(losses, lr);
        }
    }

    /// What of the loss is learnt, if anything: part of a checkpoint.
    pub fn learnt(&self) -> Option<Uncertainty> {
        match &self.weights {
            Weights::Fixed(_) => None,
            Weights::Learnt(learnt) => Some(learnt.clone()),
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
    use crate::loss::multi_task;
    use ff_core::schema::{Order, Schema, Task};
    use ff_core::{LabelEncoder, TaskName};

    fn encoders() -> Encoders {
        let schema = Schema::new(vec![
            Task::new("size").with_order(Order::Ordered),
            Task::new("eyes"),
            Task::new("hat"),
        ]);
        let labels = |task: &Task| match task.name.as_str() {
            "size" => ["3-9", "20-29", "10-19"].as_slice(),
            "eyes" => &["blue", "green"],
            _ => &["no", "yes"],
        };
        let fit = |task: &Task| LabelEncoder::fit(task.clone(), labels(task).iter().copied()).unwrap();
        Encoders::new(schema.unwrap().per_task(fit)).unwrap()
    }

    fn batch() -> (Vec<Tensor>, Vec<Tensor>) {
        let logits = |classes: usize| {
            let values: Vec<f32> = (0..2 * classes).map(|i| (i * i % 7) as f32 * 0.5 - 1.0).collect();
            Tensor::from_vec(values, (2, classes), &Device::Cpu).unwrap()
        };
        let labels = |ids: [u32; 2]| Tensor::new(&ids, &Device::Cpu).unwrap();
        (vec![logits(3), logits(2), logits(2)], vec![labels([0, 2]), labels([1, 0]), labels([1, 1])])
    }

    fn counts() -> PerTask<Vec<u64>> {
        encoders().each(|_, encoder| (1..=encoder.n_classes() as u64).collect())
    }

    fn objective(config: &LossConfig) -> Objective {
        Objective::new(config, &encoders(), &counts(), &Device::Cpu).unwrap()
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
        let weights =
            [("size", 0.0), ("eyes", 2.0), ("hat", 0.0)].map(|(task, weight)| (task.to_owned(), weight));
        let only_eyes = objective(&LossConfig { weights: weights.into(), ..LossConfig::default() });
        let (logits, labels) = batch();
        let loss = only_eyes.loss(&logits, &labels, None).unwrap();
        let eyes: f32 = loss.tasks[1].to_scalar().unwrap();
        assert!((loss.total.to_scalar::<f32>().unwrap() - 2.0 * eyes).abs() < 1e-6);

        let config = LossConfig { task_weights: TaskWeighting::Uncertainty, ..LossConfig::default() };
        let mut learnt = objective(&config);
        learnt.step(&[2.0, 0.1, 1.0], 0.1);
        let moved = learnt.task_weights();
        assert!(moved["size"] < 1.0 && moved["eyes"] > 1.0, "a large loss counts less: {moved:?}");
        let mut restored = objective(&config);
        restored.restore(learnt.learnt());
        assert_eq!(restored.task_weights(), moved);
    }

    #[test]
    fn an_ordinal_loss_needs_an_order() {
        let eyes = encoders()["eyes"].clone();
        let encoders = Encoders::new([(TaskName::new("eyes").unwrap(), eyes)].into_iter().collect()).unwrap();
        let config = LossConfig { ordered: OrderedLoss::Ordinal, ..LossConfig::default() };
        let refused = Objective::new(&config, &encoders, &counts(), &Device::Cpu).unwrap_err().to_string();
        assert_eq!(refused, "loss.ordered: expected a task with an order, found eyes without");
        objective(&config);
    }
}
