//! How long a run is: so many epochs, whatever a step is in each of them.
//!
//! Batch size and accumulation may change between epochs, and with them the number of steps in an epoch. So what is
//! left is counted from where the run stands, in steps of the present size, and a schedule sees the run as if all its
//! steps had been of that size. With constant settings that is the same as counting steps from the beginning.

use crate::config::Config;
use crate::optim::schedule::{Schedule, ScheduleConfig};
use crate::position::Position;
use crate::{Error, Result};

/// How many epochs and steps a run has, with the batches of an epoch as they are now, and what may end it earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    epochs: u64,
    max_steps: Option<u64>,
    /// Epochs without a better one that end it.
    patience: Option<u64>,
    /// Batches in an epoch.
    batches: usize,
    /// Batches in a step.
    accumulate: usize,
    /// Images in a batch.
    batch_size: usize,
}

/// What ends a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `train.epochs`.
    Epochs(u64),
    /// `train.max_steps`, with epochs left.
    Steps(u64),
}

impl Length {
    /// That of a run whose training split makes so many batches an epoch.
    pub fn of(config: &Config, batches: usize) -> Self {
        Self {
            epochs: config.train.epochs,
            max_steps: config.train.max_steps,
            patience: config.train.patience,
            batches,
            accumulate: config.optimizer.accumulate,
            batch_size: config.data.batch_size,
        }
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.batches.div_ceil(self.accumulate)
    }

    /// Whether all batches of the current epoch are used.
    pub fn is_trained(&self, position: &Position) -> bool {
        position.batch >= self.batches
    }

    /// Steps of the present size from the run's beginning to where it stands.
    pub fn scheduled(&self, position: &Position) -> u64 {
        position.epoch.saturating_mul(self.steps_per_epoch() as u64)
            + position.batch.div_ceil(self.accumulate) as u64
    }

    /// Steps from where the run stands to its end.
    pub fn steps_left(&self, position: &Position) -> u64 {
        let steps = self.steps_in_epochs_left(position);
        self.max_steps.map_or(steps, |max| steps.min(max.saturating_sub(position.step)))
    }

    /// Whether nothing is left to train or to evaluate.
    pub fn is_over(&self, position: &Position) -> bool {
        let out_of_patience = self.patience.is_some_and(|patience| position.epochs_since_best >= patience);
        out_of_patience || (self.steps_left(position) == 0 && position.evaluated)
    }

    fn steps_in_epochs_left(&self, position: &Position) -> u64 {
        self.epochs.saturating_mul(self.steps_per_epoch() as u64).saturating_sub(self.scheduled(position))
    }

    /// What has ended the run, if it has no steps left.
    pub fn reached(&self, position: &Position) -> Option<Limit> {
        match (self.steps_left(position), self.max_steps) {
            (1.., _) => None,
            (0, Some(max)) if self.steps_in_epochs_left(position) > 0 => Some(Limit::Steps(max)),
            (0, _) => Some(Limit::Epochs(self.epochs)),
        }
    }

    /// The learning rate's schedule over the run, as if all its steps had been of the present size.
    pub fn schedule(&self, config: ScheduleConfig, position: &Position) -> Schedule {
        let total = self.scheduled(position) + self.steps_left(position);
        Schedule::new(config, self.steps_per_epoch() as u64, total)
    }

    /// Whether a run over these data can be at this position.
    ///
    /// # Errors
    /// Says what was expected and what was found.
    pub fn check(&self, position: &Position) -> Result<(), String> {
        let Position { batch, images, .. } = *position;
        if batch > self.batches {
            return Err(format!("expected at most the {} batches of an epoch, found {batch}", self.batches));
        }
        if !batch.is_multiple_of(self.accumulate) && batch < self.batches {
            return Err(format!(
                "expected whole steps of {} batches, found {batch} batches",
                self.accumulate
            ));
        }
        if images > batch as u64 * self.batch_size as u64 {
            return Err(format!("expected at most {batch} batches' images, found {images}"));
        }
        Ok(())
    }
}

impl Limit {
    /// # Errors
    /// [`Error::Config`] for a run that was asked to become longer in epochs and may take no step.
    pub fn check_lengthened(self, step: u64) -> Result<()> {
        let Self::Steps(max) = self else { return Ok(()) };
        let message = format!("expected more than the {step} steps that the run has taken, found {max}");
        Err(Error::Config { origin: "train.max_steps".to_owned(), message })
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Epochs(epochs) => write!(f, "train.epochs is {epochs}, and the run has done them"),
            Self::Steps(max) => write!(f, "train.max_steps is {max}, and the run has taken them"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::schedule::ScheduleKind;

    fn length(epochs: u64, batches: usize, accumulate: usize) -> Length {
        Length { epochs, max_steps: None, patience: None, batches, accumulate, batch_size: 4 }
    }

    fn at(step: u64, epoch: u64, batch: usize) -> Position {
        Position { step, epoch, batch, ..Position::default() }
    }

    /// Walks a run whose length changes after its first epoch; gives its steps and their factors.
    fn walk(before: Length, after: Length) -> Vec<f64> {
        let config =
            ScheduleConfig { kind: ScheduleKind::Cosine, final_factor: 0.0, ..ScheduleConfig::default() };
        let (mut position, mut factors) = (Position::default(), Vec::new());
        loop {
            let length = if position.epoch == 0 { before } else { after };
            if length.steps_left(&position) == 0 {
                return factors;
            }
            let schedule = length.schedule(config.clone(), &position);
            factors.push(schedule.factor(length.scheduled(&position) + 1));
            position.step += 1;
            position.batch = (position.batch + length.accumulate).min(length.batches);
            if length.is_trained(&position) {
                position = at(position.step, position.epoch + 1, 0);
            }
        }
    }

    #[test]
    fn a_constant_size_counts_steps_from_the_beginning() {
        for (batches, accumulate) in [(8, 1), (8, 3), (7, 2)] {
            let length = length(3, batches, accumulate);
            let steps = length.steps_per_epoch() as u64;
            let config =
                ScheduleConfig { kind: ScheduleKind::Cosine, final_factor: 0.0, ..ScheduleConfig::default() };
            let schedule = Schedule::new(config, steps, 3 * steps);
            let expected: Vec<f64> = (1..=3 * steps).map(|step| schedule.factor(step)).collect();
            assert_eq!(walk(length, length), expected, "{batches} batches, {accumulate} a step");
        }
    }

    /// The length was epochs times the new number of steps, beside a count of old ones.
    #[test]
    fn a_batch_size_that_changes_between_epochs_ends_the_run_after_its_epochs() {
        let (small, large) = (length(3, 8, 1), length(3, 4, 1));
        let (shorter, longer) = (walk(small, large), walk(large, small));
        assert_eq!((shorter.len(), longer.len()), (8 + 2 * 4, 4 + 2 * 8));
        let accumulated = walk(small, length(3, 8, 4));
        assert_eq!(accumulated.len(), 8 + 2 * 2);
        for factors in [shorter, longer, accumulated] {
            assert!(factors.windows(2).all(|pair| pair[1] < pair[0]), "the rate falls on: {factors:?}");
            assert!(*factors.last().unwrap() < 0.2, "to the end: {factors:?}");
        }
    }

    #[test]
    fn what_has_ended_a_run_is_told() {
        let limited = Length { max_steps: Some(5), ..length(2, 4, 1) };
        assert_eq!((limited.steps_left(&at(3, 0, 3)), limited.reached(&at(3, 0, 3))), (2, None));
        assert_eq!(limited.reached(&at(5, 1, 1)), Some(Limit::Steps(5)));
        assert_eq!(length(2, 4, 1).reached(&at(8, 2, 0)), Some(Limit::Epochs(2)));
        assert_eq!(
            Length { max_steps: Some(8), ..length(2, 4, 1) }.reached(&at(8, 2, 0)),
            Some(Limit::Epochs(2))
        );
        assert_eq!(
            length(2, 4, 1).reached(&at(40, 9, 0)),
            Some(Limit::Epochs(2)),
            "fewer epochs than it has"
        );
    }

    #[test]
    fn a_run_is_over_when_it_is_evaluated_or_out_of_patience() {
        let evaluated = |evaluated, position| Position { evaluated, ..position };
        let three = length(3, 4, 1);
        assert!(!three.is_over(&at(0, 0, 0)));
        assert!(!three.is_over(&evaluated(true, at(8, 2, 0))), "an epoch is left");
        assert!(!three.is_over(&evaluated(false, at(12, 2, 4))), "it is trained and not evaluated");
        assert!(three.is_over(&evaluated(true, at(12, 3, 0))));
        let limited = Length { max_steps: Some(5), ..three };
        assert!(!limited.is_over(&evaluated(false, at(5, 1, 1))));
        assert!(limited.is_over(&evaluated(true, at(5, 1, 1))));
        let patient = Length { patience: Some(2), ..three };
        let since_best = |epochs| Position { epochs_since_best: epochs, ..evaluated(true, at(8, 2, 0)) };
        assert_eq!([1, 2, 3].map(|epochs| patient.is_over(&since_best(epochs))), [false, true, true]);
    }

    /// The end of the epoch was waited for at exactly its last batch.
    #[test]
    fn a_position_beyond_the_epoch_is_refused() {
        let length = length(2, 4, 2);
        for batch in [0, 2, 4] {
            length.check(&at(4, 1, batch)).unwrap();
        }
        let message = |position| length.check(&position).unwrap_err();
        assert_eq!(message(at(4, 1, 6)), "expected at most the 4 batches of an epoch, found 6");
        assert_eq!(message(at(4, 1, 3)), "expected whole steps of 2 batches, found 3 batches");
        let images = Position { images: 9, ..at(4, 1, 2) };
        assert_eq!(message(images), "expected at most 2 batches' images, found 9");
    }
}
