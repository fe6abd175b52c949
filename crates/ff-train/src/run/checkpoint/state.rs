//! `state.json`: where a run stands, in a format of which every older version is read.
//!
//! The file vouches for itself: among the hashes it holds that of its own text, with zeros in that place. Values are
//! held against each other, so that no position is taken on that a run cannot be at.

use std::collections::BTreeMap;

use ff_core::Encoders;
use ff_core::files::sha256;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::learner::AveragedEpochs;
use crate::loss::{GroupWeights, Uncertainty};
use crate::optim::Steps;
use crate::position::{Position, at_most};

/// Version of the format that is written. 3 added `evaluated`, `best_step` and the file's own hash.
pub(super) const FORMAT: u64 = 3;
/// The oldest that is read.
const OLDEST: u64 = 2;
pub(super) const STATE: &str = "state.json";
/// What stands in the place of the file's own hash while that is computed.
const UNSEALED: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The part of a checkpoint that is not tensors.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub(super) format: u64,
    /// Where the run stands.
    pub position: Position,
    /// The labels behind the class ids.
    pub encoders: Encoders,
    /// SHA-256 of the training split: a position in an epoch means nothing in another one.
    pub train_split: String,
    /// Steps that the optimiser has taken.
    pub optimizer_steps: Steps,
    /// Learnt task weights, if any.
    pub uncertainty: Option<Uncertainty>,
    /// Weights of groups, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<GroupWeights>,
    /// SHA-256 of the teacher, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// What is in the weights' average, where it is one of epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub averaged: Option<AveragedEpochs>,
    /// SHA-256 of the checkpoint's files, this one included.
    pub(super) sha256: BTreeMap<String, String>,
}

impl State {
    /// SHA-256 of the files with weights.
    pub(crate) fn sha256_of_models(&self) -> BTreeMap<&str, &str> {
        let files = self.sha256.iter().map(|(name, hash)| (name.as_str(), hash.as_str()));
        files.filter(|(name, _)| name.starts_with("model")).collect()
    }

    /// The file's text.
    pub(super) fn to_text(&self) -> String {
        let mut state = self.clone();
        state.sha256.insert(STATE.to_owned(), UNSEALED.to_owned());
        let text = serde_json::to_string_pretty(&state).expect("a state is JSON");
        let own = |hash: &str| format!("\"{STATE}\": \"{hash}\"");
        text.replacen(&own(UNSEALED), &own(&sha256(text.as_bytes())), 1)
    }

    /// Reads the file's text; `Err` says what was expected and what was found.
    pub(super) fn from_text(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let format = value.get("format").and_then(Value::as_u64);
        let format = format.ok_or("expected a format's number, found none")?;
        if !(OLDEST..=FORMAT).contains(&format) {
            let whose = if format > FORMAT { "a newer" } else { "an older" };
            return Err(format!(
                "expected format {OLDEST} to {FORMAT}, found {format}: {whose} version of this program wrote it"
            ));
        }
        match value["sha256"][STATE].as_str() {
            Some(expected) => {
                let unsealed = text.replacen(&format!("\"{expected}\""), &format!("\"{UNSEALED}\""), 1);
                let found = sha256(unsealed.as_bytes());
                if found != expected {
                    return Err(format!("expected SHA-256 {expected}, found {found}: the file is damaged"));
                }
            }
            // It had none yet.
            None if format == 2 => {}
            None => return Err("expected its own SHA-256, found none".to_owned()),
        }
        let mut state: Self = serde_json::from_value(value).map_err(|e| e.to_string())?;
        let position = &mut state.position;
        if format == 2 {
            // An epoch was completed only when it was evaluated.
            position.evaluated = position.batch == 0;
        }
        position.check()?;
        let Steps { backbone, heads } = state.optimizer_steps;
        at_most("optimizer_steps.heads", heads, "step", position.step)?;
        at_most("optimizer_steps.backbone", backbone, "optimizer_steps.heads", heads)?;
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by version 0.1.0 at commit 2404eed, in the second epoch of a run with everything that a state can have.
    const FORMAT_2: &str = include_str!("../../../tests/fixtures/format-2/checkpoints/last/state.json");

    fn state() -> State {
        State { format: FORMAT, ..State::from_text(FORMAT_2).unwrap() }
    }

    #[test]
    fn a_state_of_the_previous_format_is_read() {
        let state = State::from_text(FORMAT_2).unwrap();
        let position = state.position;
        assert_eq!((position.step, position.epoch, position.batch, position.images), (3, 1, 1, 4));
        assert_eq!((position.best, position.best_step), (Some(0.533_333_333_333_333_3), None));
        assert!(!position.evaluated, "in the middle of an epoch");
        assert_eq!(state.optimizer_steps, Steps { backbone: 1, heads: 3 });
        assert!(state.uncertainty.is_some());
        let between =
            FORMAT_2.replace("\"batch\": 1", "\"batch\": 0").replace("\"images\": 4", "\"images\": 0");
        let between = between.replace("8.403557777404785", "0.0");
        assert!(
            State::from_text(&between).unwrap().position.evaluated,
            "an epoch was over when it was evaluated"
        );
    }

    #[test]
    fn a_newer_format_is_refused_before_its_keys_are_looked_at() {
        let newer = r#"{"format": 7, "something": "of tomorrow"}"#;
        let message = State::from_text(newer).unwrap_err();
        assert_eq!(message, "expected format 2 to 3, found 7: a newer version of this program wrote it");
        assert!(State::from_text(r#"{"format": 1}"#).unwrap_err().contains("an older version"));
        assert!(State::from_text(r#"{"position": 1}"#).unwrap_err().contains("format"));
    }

    #[test]
    fn an_edited_state_is_seen_wherever_it_is_edited() {
        let text = state().to_text();
        let read = State::from_text(&text).unwrap();
        assert_eq!(read.position, state().position);
        for at in (0..text.len()).step_by(7) {
            let mut edited = text.clone().into_bytes();
            edited[at] ^= 1;
            let edited = String::from_utf8(edited).unwrap();
            assert!(State::from_text(&edited).is_err(), "byte {at}: {edited}");
        }
        let message = State::from_text(&text.replace("\"batch\": 1", "\"batch\": 9")).unwrap_err();
        assert!(message.contains("expected SHA-256") && message.contains("the file is damaged"), "{message}");
    }

    /// One that was sealed again after an edit, or never was.
    #[test]
    fn positions_that_no_run_can_be_at_are_refused() {
        let good = state();
        let refused = |edit: &dyn Fn(&mut Position)| {
            let mut state = good.clone();
            edit(&mut state.position);
            State::from_text(&state.to_text()).unwrap_err()
        };
        assert_eq!(refused(&|p| p.epoch = 4), "expected epoch to be at most step, 3, found 4");
        assert_eq!(refused(&|p| p.best_step = Some(5)), "expected best_step to be at most step, 3, found 5");
        assert_eq!(
            refused(&|p| p.skipped_in_a_row = 1),
            "expected skipped_in_a_row to be at most skipped, 0, found 1"
        );
        assert_eq!(refused(&|p| p.batch = 0), "expected no images of an epoch that has not begun, found 4");
        assert_eq!(refused(&|p| p.step = 2), "expected optimizer_steps.heads to be at most step, 2, found 3");
        // JSON has no such number.
        assert!(refused(&|p| p.loss_sum = f64::INFINITY).contains("null"));
    }
}
