//! `checkpoints/`: which there are, which is the last, which is the best.
//!
//! The rename that makes a checkpoint `last` is the moment at which the run has come further. Everything else follows
//! from it: `last` says at which step the best epoch ended, and [`RunDir::open_checkpoint`] goes by that, so that a
//! kill before `best` is renewed changes nothing for whoever reads.

use std::path::{Path, PathBuf};

use ff_core::files::{link_dir, remove_dir};
use fs_err as fs;

use super::RunDir;
use crate::position::Position;
use crate::run::checkpoint::Checkpoint;
use crate::{Error, Result};

/// Which checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointName {
    /// The newest.
    Last,
    /// The one after the best epoch by `[train] criterion`; the newest, as long as no epoch is evaluated whole.
    Best,
}

impl CheckpointName {
    /// The folder's name under `checkpoints/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Best => "best",
        }
    }
}

impl RunDir {
    /// The folder of one checkpoint.
    pub fn checkpoint(&self, which: CheckpointName) -> PathBuf {
        self.named_checkpoint(which.name())
    }

    /// The folder of the checkpoint with this name: `last`, `best`, `step-N`.
    pub fn named_checkpoint(&self, name: &str) -> PathBuf {
        self.path().join("checkpoints").join(name)
    }

    /// The folder of the checkpoint after `step`.
    pub fn step_checkpoint(&self, step: u64) -> PathBuf {
        self.named_checkpoint(&format!("step-{step}"))
    }

    /// Opens a checkpoint for use.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn open_checkpoint(&self, which: CheckpointName) -> Result<Checkpoint> {
        let last = Checkpoint::open(&self.checkpoint(CheckpointName::Last));
        if which == CheckpointName::Last {
            return last;
        }
        let best = Checkpoint::open(&self.checkpoint(CheckpointName::Best));
        let Ok(last) = last else { return best };
        let position = last.state()?.position;
        match position.best_step {
            Some(step) if step == position.step => Ok(last),
            _ => match self.best_at(&position) {
                Some(checkpoint) => Ok(checkpoint),
                None if position.best.is_none() => Ok(last),
                None => best,
            },
        }
    }

    /// The checkpoint that holds what was best when the run was at `position`, if there is one still.
    fn best_at(&self, position: &Position) -> Option<Checkpoint> {
        position.best?;
        let is_best = |checkpoint: &Checkpoint| {
            let Ok(found) = checkpoint.state() else { return false };
            let found = found.position;
            let at_its_step = match position.best_step {
                Some(step) => found.step == step,
                None => found.step <= position.step,
            };
            at_its_step && found.best == position.best
        };
        let folders = [
            Some(self.checkpoint(CheckpointName::Best)),
            position.best_step.map(|s| self.step_checkpoint(s)),
        ];
        folders.into_iter().flatten().filter_map(|folder| Checkpoint::open(&folder).ok()).find(is_best)
    }

    /// The checkpoint to go on from: `last`, `best` or `step-N`.
    ///
    /// # Errors
    /// It is missing or damaged; the message names the newest that is whole.
    pub fn checkpoint_to_resume(&self, name: &str) -> Result<Checkpoint> {
        let refuse = |message| Err(Error::RunDir { path: self.path().to_owned(), message });
        let opened = match name {
            "last" => self.open_checkpoint(CheckpointName::Last),
            "best" => self.open_checkpoint(CheckpointName::Best),
            _ if step_of(name).is_some() => Checkpoint::open(&self.named_checkpoint(name)),
            _ => return refuse(format!("expected a checkpoint's name, last, best or step-N, found {name}")),
        };
        let damage = match opened.and_then(|checkpoint| checkpoint.verify().map(|()| checkpoint)) {
            Ok(checkpoint) => return Ok(checkpoint),
            Err(damage) => damage,
        };
        let whole = |step: &&u64| {
            let checkpoint = Checkpoint::open(&self.step_checkpoint(**step));
            checkpoint.and_then(|checkpoint| checkpoint.verify()).is_ok()
        };
        let advice = match self.steps()?.iter().rev().find(whole) {
            Some(step) => format!("step-{step} is whole; resume from the checkpoint step-{step}"),
            None => "no other checkpoint is whole".to_owned(),
        };
        refuse(format!("{damage}; {advice}"))
    }

    /// Makes a checkpoint the present: `last` from now on, though nothing newer goes before something newer is there to
    /// replace it ([`RunDir::publish`]). `position`, which was read from it, forgets a best epoch whose weights are
    /// gone.
    pub(crate) fn go_on_from(&self, checkpoint: &Checkpoint, position: &mut Position) -> Result<()> {
        let last = self.checkpoint(CheckpointName::Last);
        if let Ok(before) = Checkpoint::open(&last)
            && before.path() != checkpoint.path()
            && let Ok(state) = before.state()
            && !self.step_checkpoint(state.position.step).exists()
        {
            link_dir(&last, &self.step_checkpoint(state.position.step))?;
        }
        if checkpoint.path() != last {
            link_dir(checkpoint.path(), &last)?;
        }
        let best = self.best_at(position).map(|best| best.state()).transpose()?;
        position.best_step = best.map(|state| state.position.step);
        if position.best_step.is_none() {
            position.best = None;
        }
        Ok(())
    }

    /// Makes the checkpoint that was written at `position` the last one, and the best one too if it is; keeps the
    /// `keep` newest. What an earlier session left of the steps after `resumed_at` is gone before.
    pub(crate) fn publish(&self, position: &Position, keep: usize, resumed_at: Option<u64>) -> Result<()> {
        let newest = self.step_checkpoint(position.step);
        let best = self.checkpoint(CheckpointName::Best);
        if let Some(resumed_at) = resumed_at {
            let abandoned = |step: &u64| *step > resumed_at && *step != position.step;
            for step in self.steps()?.into_iter().filter(abandoned) {
                remove_dir(&self.step_checkpoint(step))?;
            }
            if step_in(&best).is_some_and(|step| step > resumed_at) {
                remove_dir(&best)?;
            }
        }
        link_dir(&newest, &self.checkpoint(CheckpointName::Last))?;
        if let Some(step) = position.best_step
            && (step == position.step || step_in(&best) != Some(step))
            && self.step_checkpoint(step).exists()
        {
            link_dir(&self.step_checkpoint(step), &best)?;
        }
        let steps = self.steps()?;
        let old = steps.iter().rev().filter(|&&step| step <= position.step).skip(keep);
        old.copied().try_for_each(|step| Ok(remove_dir(&self.step_checkpoint(step))?))
    }

    /// Deletes the weights and the optimiser's state of every checkpoint. Where the run stands stays known; it can
    /// neither be used nor go on.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove_weights(&self) -> Result<()> {
        for folder in fs::read_dir(self.path().join("checkpoints"))? {
            let folder = folder?.path();
            for file in fs::read_dir(&folder).into_iter().flatten() {
                let file = file?.path();
                if file.extension().is_some_and(|extension| extension == "safetensors") {
                    fs::remove_file(file)?;
                }
            }
        }
        Ok(())
    }

    /// Where the last good checkpoint is, in words.
    pub(crate) fn last_good(&self) -> String {
        let last = self.open_checkpoint(CheckpointName::Last).and_then(|last| last.state());
        match last {
            Ok(state) => {
                let path = self.step_checkpoint(state.position.step);
                format!("the last good checkpoint is {}", path.display())
            }
            Err(_) => "there is no checkpoint yet".to_owned(),
        }
    }

    /// Steps that there are checkpoints of, in ascending order.
    pub(super) fn steps(&self) -> Result<Vec<u64>> {
        let folder = self.path().join("checkpoints");
        let mut steps = Vec::new();
        if folder.is_dir() {
            for entry in fs::read_dir(folder)? {
                steps.extend(entry?.file_name().to_str().and_then(step_of));
            }
        }
        steps.sort_unstable();
        Ok(steps)
    }
}

/// N of `step-N`.
fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix("step-")?.parse().ok()
}

/// The step of the checkpoint in a folder, if one is there.
fn step_in(folder: &Path) -> Option<u64> {
    Some(Checkpoint::open(folder).ok()?.state().ok()?.position.step)
}

#[cfg(test)]
mod tests {
    use ff_core::fault::during;
    use ff_core::files::sweep;

    use super::*;

    /// A position at the end of an epoch of two steps, with the best so far at `best_step`.
    fn at(step: u64, best_step: u64) -> Position {
        Position {
            step,
            epoch: step / 2,
            evaluated: true,
            best: Some(best_step as f64 / 8.0),
            best_step: Some(best_step),
            ..Position::default()
        }
    }

    fn save(run: &RunDir, position: Position, resumed_at: Option<u64>) -> Result<()> {
        Checkpoint::write_position(&run.step_checkpoint(position.step), position)?;
        run.publish(&position, 2, resumed_at)
    }

    fn run_of(positions: &[Position]) -> (tempfile::TempDir, RunDir) {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(Some(dir.path()), "x").unwrap();
        positions.iter().for_each(|&position| save(&run, position, None).unwrap());
        (dir, run)
    }

    fn names(run: &RunDir) -> Vec<String> {
        let entries = fs::read_dir(run.path().join("checkpoints")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn opened(run: &RunDir, which: CheckpointName) -> Position {
        run.open_checkpoint(which).unwrap().state().unwrap().position
    }

    fn go_back_to(run: &RunDir, step: u64) -> Position {
        let checkpoint = run.checkpoint_to_resume(&format!("step-{step}")).unwrap();
        let mut position = checkpoint.state().unwrap().position;
        run.go_on_from(&checkpoint, &mut position).unwrap();
        position
    }

    /// `best` and `last` disagreed when the second of them could not be renewed, or a kill came between.
    #[test]
    fn whatever_fails_while_a_checkpoint_is_published_the_best_is_what_the_last_says() {
        let mut faults = 0;
        for point in ["create", "write", "sync", "rename", "link", "remove"] {
            for nth in 1.. {
                let (_dir, run) = run_of(&[at(2, 2), at(4, 2)]);
                let result = during(&format!("eio@{point}#{nth}"), || save(&run, at(6, 6), None));
                sweep(&run.path().join("checkpoints")).unwrap();
                let last = opened(&run, CheckpointName::Last);
                assert!(last == at(4, 2) || last == at(6, 6), "eio@{point}#{nth}: {last:?}");
                assert_eq!(
                    Some(opened(&run, CheckpointName::Best).step),
                    last.best_step,
                    "eio@{point}#{nth}"
                );
                // The next session mends what this one left.
                let checkpoint = run.checkpoint_to_resume("last").unwrap();
                let mut position = last;
                run.go_on_from(&checkpoint, &mut position).unwrap();
                assert_eq!(position, last, "eio@{point}#{nth}: the best is still there");
                save(&run, Position { best: last.best, ..at(8, last.best_step.unwrap()) }, Some(last.step))
                    .unwrap();
                assert_eq!(
                    Some(opened(&run, CheckpointName::Best).step),
                    last.best_step,
                    "eio@{point}#{nth}"
                );
                if result.is_ok() {
                    break;
                }
                faults += 1;
            }
        }
        assert!(faults > 15, "{faults} faults");
    }

    /// The abandoned future stayed `last`, and `best`.
    #[test]
    fn an_earlier_checkpoint_becomes_the_present_and_the_later_ones_go_when_they_are_replaced() {
        let (_dir, run) = run_of(&[at(2, 2), at(4, 2), at(6, 6)]);
        let before = names(&run);
        assert_eq!(before, ["best", "last", "step-4", "step-6"]);
        let position = go_back_to(&run, 4);
        assert_eq!(
            (position.step, position.best, position.best_step),
            (4, None, None),
            "its weights are gone"
        );
        assert_eq!(opened(&run, CheckpointName::Last).step, 4);
        assert_eq!(names(&run), before, "nothing is gone before something is there to replace it");
        assert_eq!(go_back_to(&run, 6), at(6, 6), "there is a way back");

        go_back_to(&run, 4);
        let next = Position { best: None, best_step: None, ..at(5, 0) };
        save(&run, next, Some(4)).unwrap();
        assert_eq!(names(&run), ["last", "step-4", "step-5"]);
        assert_eq!(opened(&run, CheckpointName::Best).step, 5, "as long as there is no best");
        save(&run, at(7, 7), None).unwrap();
        assert_eq!((opened(&run, CheckpointName::Best).step, names(&run).len()), (7, 4));
    }

    #[test]
    fn an_earlier_checkpoint_has_its_own_best_again_where_that_is_still_there() {
        let (_dir, run) = run_of(&[at(2, 2), at(4, 2)]);
        // Three are kept here.
        Checkpoint::write_position(&run.step_checkpoint(6), at(6, 6)).unwrap();
        run.publish(&at(6, 6), 3, None).unwrap();
        assert_eq!(go_back_to(&run, 4), at(4, 2));
        save(&run, Position { best: at(4, 2).best, ..at(8, 2) }, Some(4)).unwrap();
        assert_eq!(opened(&run, CheckpointName::Best).step, 2);
        assert_eq!(names(&run), ["best", "last", "step-4", "step-8"]);
    }

    #[test]
    fn names_that_are_no_checkpoints_are_refused() {
        let (_dir, run) = run_of(&[at(2, 2)]);
        for name in ["../checkpoints/last", "step-x", "first"] {
            let message = run.checkpoint_to_resume(name).unwrap_err().to_string();
            assert!(message.ends_with(&format!("last, best or step-N, found {name}")), "{message}");
        }
    }
}
