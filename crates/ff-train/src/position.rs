//! Where a run stands: all that decides how it goes on, beside what was learnt.

use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Position {
    /// Optimiser steps taken.
    pub step: u64,
    /// Epochs completed: trained and evaluated.
    pub epoch: u64,
    /// Batches of the current epoch already used; all of them, where it is trained but not evaluated.
    pub batch: usize,
    /// Images of the current epoch already used.
    pub images: u64,
    /// Sum over those images of their batch's mean loss.
    pub loss_sum: f64,
    /// Whether what was trained last is evaluated.
    #[serde(default)]
    pub evaluated: bool,
    /// The best epoch's score so far, by `[train] criterion`.
    pub best: Option<f64>,
    /// The step at which that epoch ended.
    #[serde(default)]
    pub best_step: Option<u64>,
    /// Epochs since then.
    pub epochs_since_best: u64,
    /// Steps that changed nothing, because the loss or gradient was not finite.
    pub skipped: u64,
    /// Those of them in a row, up to now.
    pub skipped_in_a_row: u64,
}

impl Position {
    /// Holds the values against each other.
    ///
    /// # Errors
    /// No run can be at such a position; the message says why.
    pub fn check(&self) -> Result<(), String> {
        let Self { step, epoch, batch, images, loss_sum, best, best_step, .. } = *self;
        at_most("epoch", epoch, "step", step)?;
        at_most("best_step", best_step.unwrap_or(0), "step", step)?;
        at_most("epochs_since_best", self.epochs_since_best, "epoch", epoch)?;
        at_most("skipped", self.skipped, "step", step)?;
        at_most("skipped_in_a_row", self.skipped_in_a_row, "skipped", self.skipped)?;
        if batch == 0 && (images > 0 || loss_sum != 0.0) {
            return Err(format!("expected no images of an epoch that has not begun, found {images}"));
        }
        if step == 0 && batch > 0 {
            return Err(format!("expected no batches before the first step, found {batch}"));
        }
        if best_step.is_some() && best.is_none() {
            return Err("expected a best score beside its step, found none".to_owned());
        }
        match [Some(loss_sum), best].into_iter().flatten().find(|value| !value.is_finite()) {
            Some(value) => Err(format!("expected finite numbers, found {value}")),
            None => Ok(()),
        }
    }
}

pub(crate) fn at_most(name: &str, value: u64, limit_name: &str, limit: u64) -> Result<(), String> {
    if value <= limit {
        return Ok(());
    }
    Err(format!("expected {name} to be at most {limit_name}, {limit}, found {value}"))
}
