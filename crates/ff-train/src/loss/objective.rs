//! What a run minimises: [`LossConfig`] made ready for the labels and class sizes of a training split.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use ff_core::{Encoders, PerTask, TaskName, UNKNOWN, text};
use ff_data::{Groups, Manifest};

use super::{
    GroupDro, GroupLosses, GroupWeights, LossConfig, MultiTaskLoss, OrderedLoss, SoftTargets, TaskWeighting,
    Teacher, Uncertainty, reweighing, soft_loss, weighted_sum,
};
use crate::mixing::Mix;
use crate::{Error, Result};

/// The loss of a run.
#[derive(Debug, Clone)]
pub struct Objective {
    targets: PerTask<SoftTargets>,
    weights: Weights,
    /// Shares of the loss: of the teacher, and of the average.
    shares: (f64, f64),
    temperature: f64,
    teacher: Option<Teacher>,
    /// A weight a training sample, of the tasks that have such.
    reweighing: BTreeMap<TaskName, Vec<f32>>,
    dro: Option<GroupDro>,
}

/// A batch's answers, and what they are to be.
#[derive(Debug, Clone, Copy)]
pub struct LossInput<'a> {
    /// (B, classes) a task.
    pub logits: &'a [Tensor],
    /// (B,) a task.
    pub labels: &'a [Tensor],
    /// How its images are mixed.
    pub mix: Option<&'a Mix>,
    /// Which training samples they are, (B,).
    pub rows: &'a [u32],
    /// What the weights' average answers to the same images, (B, classes) a task.
    pub average: Option<&'a [Tensor]>,
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
        let (shares, temperature) = ((config.distill, config.self_distill), config.temperature);
        let (teacher, reweighing, dro) = (None, BTreeMap::new(), None);
        Ok(Self { targets, weights, shares, temperature, teacher, reweighing, dro })
    }

    /// Adds what `config` asks for that depends on the samples of a training split with these class ids.
    ///
    /// # Errors
    /// A column that the split does not have.
    pub fn for_samples(
        mut self,
        config: &LossConfig,
        manifest: &Manifest,
        targets: &PerTask<Vec<u32>>,
    ) -> Result<Self> {
        if !config.dro.is_empty() {
            let Groups { ids, names } = manifest.groups(&config.dro)?;
            self.dro = Some(GroupDro::new(config.dro_step, ids, names));
        }
        if !config.reweight.is_empty() {
            let groups = manifest.groups(&config.reweight)?.ids;
            let others =
                targets.iter().filter(|(task, _)| !config.reweight.iter().any(|name| **task == **name));
            self.reweighing =
                others.map(|(task, labels)| (task.clone(), reweighing(&groups, labels))).collect();
        }
        Ok(self)
    }

    /// Learns what a teacher says of the training samples, too.
    pub fn learn_from(&mut self, teacher: Teacher) {
        self.teacher = Some(teacher);
    }

    /// SHA-256 of the teacher, if there is one.
    pub fn teacher(&self) -> Option<&str> {
        Some(&self.teacher.as_ref()?.sha256)
    }

    /// Whether the average's answers are wanted.
    pub fn asks_average(&self) -> bool {
        self.shares.1 > 0.0
    }

    /// The loss of a batch. Of a mixed one, each part's loss by its share.
    pub fn loss(&self, input: &LossInput) -> Result<MultiTaskLoss> {
        let LossInput { logits, labels, mix, rows, average } = *input;
        let (mut tasks, groups) = match &self.dro {
            Some(dro) => self.group_losses(dro, input)?,
            None => (Vec::with_capacity(logits.len()), None),
        };
        if groups.is_none() {
            for (((task, targets), logits), labels) in self.targets.iter().zip(logits).zip(labels) {
                let weights = self.reweighing.get(task);
                let mut loss = mean_loss(targets, logits, labels, weights, rows)?;
                if let Some(mix) = mix {
                    let partners = Tensor::new(mix.partners.as_slice(), labels.device())?;
                    let labels = labels.index_select(&partners, 0)?;
                    let other = mean_loss(targets, logits, &labels, weights, &mix.of_partners(rows))?;
                    loss = ((loss * mix.share)? + (other * (1.0 - mix.share))?)?;
                }
                tasks.push(loss);
            }
        }
        for (i, task) in self.targets.names().enumerate() {
            let taught = self.taught_loss(task, &logits[i], mix, rows)?;
            let average =
                average.map(|answers| soft_loss(&logits[i], &answers[i], self.temperature)).transpose()?;
            let shares = [self.shares.0, self.shares.1];
            let soft: Vec<(f64, Tensor)> = shares
                .into_iter()
                .zip([taught, average])
                .filter_map(|(share, loss)| Some((share, loss?)))
                .collect();
            let left = 1.0 - soft.iter().map(|(share, _)| share).sum::<f64>();
            if soft.is_empty() {
                continue;
            }
            let own = (&tasks[i] * left)?;
            tasks[i] = soft.into_iter().try_fold(own, |sum, (share, loss)| sum + (loss * share)?)?;
        }
        let weights: Vec<f64> = self.task_weights().values().copied().collect();
        let mut total = weighted_sum(&tasks, &weights)?;
        if let Weights::Learnt(learnt) = &self.weights {
            total = (total + learnt.penalty())?;
        }
        Ok(MultiTaskLoss { total, tasks, groups })
    }

    /// How far a task's answers are from the teacher's, who may not know the task. Of a mixed batch, each part's by its
    /// share.
    fn taught_loss(
        &self,
        task: &TaskName,
        logits: &Tensor,
        mix: Option<&Mix>,
        rows: &[u32],
    ) -> Result<Option<Tensor>> {
        let Some(teacher) = &self.teacher else { return Ok(None) };
        let of_rows = |rows: &[u32]| {
            let answers = teacher.answers(task, rows, logits.device())?;
            answers.map(|answers| soft_loss(logits, &answers, self.temperature)).transpose()
        };
        let own = of_rows(rows)?;
        let Some(mix) = mix else { return Ok(own) };
        match own.zip(of_rows(&mix.of_partners(rows))?) {
            Some((own, other)) => Ok(Some(((own * mix.share)? + (other * (1.0 - mix.share))?)?)),
            None => Ok(None),
        }
    }

    /// Every task's loss with the groups weighed, and what the groups lose in all tasks.
    fn group_losses(&self, dro: &GroupDro, input: &LossInput) -> Result<(Vec<Tensor>, Option<GroupLosses>)> {
        let groups = dro.of(input.rows);
        let mut of_tasks = Vec::new();
        let mut lost: GroupLosses = vec![0.0; dro.weights().names.len()];
        let task_weights = self.task_weights();
        for (((task, targets), logits), labels) in self.targets.iter().zip(input.logits).zip(input.labels) {
            let (losses, weights) = targets.of_samples(logits, labels)?;
            let weights = weights.to_vec1::<f32>()?;
            let means = dro.means(&groups, &losses.to_vec1::<f32>()?, &weights);
            // A group of which this task knows nobody loses nothing in it.
            lost.iter_mut().zip(&means).for_each(|(sum, mean)| *sum += task_weights[task] * mean.max(0.0));
            of_tasks.push((losses, dro.sums(&groups, &weights)));
        }
        let there = dro.sums(&groups, &vec![1.0; groups.len()]);
        lost.iter_mut().zip(there).filter(|(_, n)| *n == 0.0).for_each(|(sum, _)| *sum = f64::NAN);
        let weights = dro.after(&lost);
        let of_task = |(losses, norms): &(Tensor, Vec<f64>)| {
            let factor = |&group: &u32| match group {
                UNKNOWN => 0.0,
                // Nobody's loss is 0 and stays so: what it is multiplied by must be a number of f32.
                group => {
                    (weights[group as usize] / norms[group as usize].max(f32::MIN_POSITIVE.into())) as f32
                }
            };
            let factors: Vec<f32> = groups.iter().map(factor).collect();
            Ok((losses * Tensor::new(factors, losses.device())?)?.sum_all()?)
        };
        Ok((of_tasks.iter().map(of_task).collect::<Result<_>>()?, Some(lost)))
    }

    /// The weights of groups, if there are any: part of a checkpoint.
    pub fn group_weights(&self) -> Option<&GroupWeights> {
        Some(self.dro.as_ref()?.weights())
    }

    /// Takes on what [`Objective::group_weights`] gave.
    pub fn restore_groups(&mut self, saved: Option<GroupWeights>) {
        if let (Some(dro), Some(saved)) = (&mut self.dro, saved) {
            dro.restore(saved);
        }
    }

    /// Moves the weights of groups on by a step's batches, in their order.
    pub fn step_groups(&mut self, batches: &[GroupLosses]) {
        if let Some(dro) = &mut self.dro {
            batches.iter().for_each(|losses| dro.step(losses));
        }
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

/// The mean loss of a batch, whose samples may have weights of their own.
fn mean_loss(
    targets: &SoftTargets,
    logits: &Tensor,
    labels: &Tensor,
    weights: Option<&Vec<f32>>,
    rows: &[u32],
) -> Result<Tensor> {
    let Some(weights) = weights else { return targets.cross_entropy(logits, labels) };
    let of_rows: Vec<f32> = rows.iter().map(|&row| weights[row as usize]).collect();
    let of_rows = Tensor::new(of_rows, logits.device())?;
    let (losses, norms) = targets.of_samples(logits, labels)?;
    let norm = (norms * &of_rows)?.sum_all()?.maximum(f32::MIN_POSITIVE)?;
    Ok((losses * of_rows)?.sum_all()?.div(&norm)?)
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
        let input = LossInput { logits: &logits, labels: &labels, mix, rows: &[0, 1], average: None };
        objective.loss(&input).unwrap().total.to_scalar().unwrap()
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
        let input = LossInput { logits: &logits, labels: &labels, mix: None, rows: &[0, 1], average: None };
        let loss = only_eyes.loss(&input).unwrap();
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

    /// The loss of each of the two samples alone, a task.
    fn alone() -> [Vec<f64>; 2] {
        let (logits, labels) = batch();
        let of = |i: usize| {
            let one = |all: &[Tensor]| all.iter().map(|t| t.narrow(0, i, 1).unwrap()).collect::<Vec<_>>();
            let loss = multi_task(&one(&logits), &one(&labels)).unwrap();
            loss.tasks.iter().map(|loss| f64::from(loss.to_scalar::<f32>().unwrap())).collect()
        };
        [of(0), of(1)]
    }

    #[test]
    fn groups_are_weighed_by_what_they_lose() {
        let mut objective = objective(&LossConfig::default());
        // Rows 5 and 3 of a split are the batch.
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        objective.dro = Some(GroupDro::new(0.5, vec![9, 9, 9, 2, 9, 0], names));
        let (logits, labels) = batch();
        let input = LossInput { logits: &logits, labels: &labels, mix: None, rows: &[5, 3], average: None };
        let found = objective.loss(&input).unwrap();
        let [a, c] = alone().map(|tasks| tasks.iter().sum::<f64>());
        let (grown_a, grown_c) = ((0.5 * a).exp(), (0.5 * c).exp());
        let sum = grown_a + 1.0 + grown_c;
        let expected = (grown_a * a + grown_c * c) / sum;
        let total = f64::from(found.total.to_scalar::<f32>().unwrap());
        assert!((total - expected).abs() < 1e-5, "{total} vs {expected}");
        let lost = found.groups.unwrap();
        assert!((lost[0] - a).abs() < 1e-5 && lost[1].is_nan() && (lost[2] - c).abs() < 1e-5, "{lost:?}");
        objective.step_groups(&[lost]);
        let weights = &objective.group_weights().unwrap().weights;
        assert!((weights[2] - grown_c / sum).abs() < 1e-6, "{weights:?}");
    }

    #[test]
    fn a_group_of_which_a_task_knows_nobody_loses_nothing_in_it() {
        let mut objective = objective(&LossConfig::default());
        objective.dro = Some(GroupDro::new(0.5, vec![0, 1], ["a", "b"].map(str::to_owned).to_vec()));
        let (logits, mut labels) = batch();
        let second = labels[0].to_vec1::<u32>().unwrap()[1];
        labels[0] = Tensor::new(&[UNKNOWN, second], &Device::Cpu).unwrap();
        let input = LossInput { logits: &logits, labels: &labels, mix: None, rows: &[0, 1], average: None };
        let found = objective.loss(&input).unwrap();
        let [a, b] = alone();
        let lost = found.groups.unwrap();
        let expected = [a[1..].iter().sum::<f64>(), b.iter().sum()];
        assert!(
            lost.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5),
            "{lost:?}"
        );
        let grown = expected.map(|loss| (0.5 * loss).exp());
        let total = expected.iter().zip(grown).map(|(loss, grown)| loss * grown).sum::<f64>();
        let total = total / grown.iter().sum::<f64>();
        let found = f64::from(found.total.to_scalar::<f32>().unwrap());
        assert!((found - total).abs() < 1e-5, "{found} vs {total}");
    }

    #[test]
    fn samples_count_by_their_weights_in_their_task_alone() {
        let mut objective = objective(&LossConfig::default());
        objective.reweighing.insert(TaskName::new("eyes").unwrap(), vec![0.0, 3.0, 1.0]);
        let (logits, labels) = batch();
        let input = LossInput { logits: &logits, labels: &labels, mix: None, rows: &[1, 2], average: None };
        let found = objective.loss(&input).unwrap();
        let found: Vec<f64> =
            found.tasks.iter().map(|loss| f64::from(loss.to_scalar::<f32>().unwrap())).collect();
        let [a, b] = alone();
        for (i, share) in [0.5, 0.75, 0.5].into_iter().enumerate() {
            let expected = share * a[i] + (1.0 - share) * b[i];
            assert!((found[i] - expected).abs() < 1e-5, "{i}: {} vs {expected}", found[i]);
        }
    }

    #[test]
    fn answers_that_are_learnt_have_their_shares() {
        let config =
            LossConfig { distill: 0.25, self_distill: 0.25, temperature: 2.0, ..LossConfig::default() };
        let mut objective = objective(&config);
        let (logits, labels) = batch();
        let shifted: Vec<Tensor> = logits.iter().map(|l| l.flip(&[1]).unwrap()).collect();
        // The teacher knows the eyes alone.
        let eyes = shifted[1].to_vec2::<f32>().unwrap();
        let teacher = [(TaskName::new("eyes").unwrap(), vec![eyes[1].clone(), eyes[0].clone()])];
        objective.learn_from(Teacher { logits: teacher.into_iter().collect(), sha256: "1f".to_owned() });
        assert!(objective.asks_average() && objective.teacher() == Some("1f"));
        let input =
            LossInput { logits: &logits, labels: &labels, mix: None, rows: &[1, 0], average: Some(&shifted) };
        let found = objective.loss(&input).unwrap();
        let plain = multi_task(&logits, &labels).unwrap();
        let number = |t: &Tensor| f64::from(t.to_scalar::<f32>().unwrap());
        for i in 0..3 {
            let soft = number(&soft_loss(&logits[i], &shifted[i], 2.0).unwrap());
            // What the teacher does not know leaves its share to the labels.
            let shares = if i == 1 { 0.5 } else { 0.25 };
            let expected = (1.0 - shares) * number(&plain.tasks[i]) + shares * soft;
            assert!((number(&found.tasks[i]) - expected).abs() < 1e-5, "{i}");
            assert!((soft - number(&plain.tasks[i])).abs() > 1e-2, "{i}: they are told apart");
        }
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
