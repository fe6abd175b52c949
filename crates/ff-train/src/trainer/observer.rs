//! Who hears what a run does, and what it found when it began.

use ff_core::Encoders;

use super::resume::Change;
use crate::config::Config;
use crate::machine::Machine;
use crate::position::Position;
use crate::records::{EpochRecord, StepRecord};
use crate::run::RunDir;
use crate::weights::Init;

/// Hears what a run does, while it does it.
pub trait Observer {
    /// Everything is ready; the first step comes next.
    fn started(&mut self, _found: &RunStart) {}
    /// A step is done.
    fn step(&mut self, _step: &StepRecord) {}
    /// A loss or gradient was not finite; nothing moved.
    fn skipped(&mut self, _step: &StepRecord, _files: &[String]) {}
    /// `done` of `total` validation samples are evaluated.
    fn evaluating(&mut self, _done: usize, _total: usize) {}
    /// An epoch, or the part of it that `max_steps` allows, is trained, evaluated and saved.
    fn epoch(&mut self, _epoch: &EpochRecord) {}
}

/// An observer that looks away.
impl Observer for () {}

/// What a run found and chose.
#[derive(Debug)]
pub struct RunStart<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The resolved configuration.
    pub config: &'a Config,
    /// Labels, hence classes.
    pub encoders: &'a Encoders,
    /// Rows of the training and the validation split.
    pub rows: (usize, usize),
    /// Where the initial weights came from; `None` when resuming.
    pub init: Option<&'a Init>,
    /// Settings that differ from those of the run that is resumed.
    pub changes: &'a [Change],
    /// Parameters, and those of them that learn.
    pub parameters: (usize, usize),
    /// The run's folder.
    pub run_dir: &'a RunDir,
    /// Where the run stands.
    pub position: Position,
    /// Steps in an epoch.
    pub steps_per_epoch: usize,
    /// Steps that the whole run will have taken.
    pub total_steps: u64,
}
