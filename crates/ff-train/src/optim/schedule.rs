//! Learning-rate schedules: pure functions from the step to a factor on every group's rate.
//!
//! A schedule knows how many steps the run will take; it keeps no state, so resuming needs none.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// `[schedule]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// The shape after the warm-up.
    pub kind: ScheduleKind,
    /// Epochs, or parts of one, over which the rate rises linearly to its full value.
    pub warmup_epochs: f64,
    /// Cosine: the factor that it falls to.
    pub final_factor: f64,
    /// Step: epochs between two falls.
    pub step_epochs: u64,
    /// Step: the factor of a fall.
    pub step_factor: f64,
    /// One-cycle: the share of the run at which the rate is highest.
    pub peak_at: f64,
}

/// The shape of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// The full rate throughout.
    #[default]
    Constant,
    /// Half a cosine from 1 to `final_factor` (Loshchilov and Hutter 2017; `torch`'s `CosineAnnealingLR`).
    Cosine,
    /// Falls by `step_factor` every `step_epochs` (`StepLR`).
    Step,
    /// Up from 1/25 to 1 at `peak_at`, down to 4e-6, each half a cosine (Smith and Topin 2018; `OneCycleLR` with its
    /// defaults). It is a warm-up in itself: `warmup_epochs` does not apply.
    OneCycle,
}

impl ScheduleKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Constant, Self::Cosine, Self::Step, Self::OneCycle];

    /// The name used on the command line and in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Cosine => "cosine",
            Self::Step => "step",
            Self::OneCycle => "one_cycle",
        }
    }
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::Constant,
            warmup_epochs: 0.0,
            final_factor: 0.01,
            step_epochs: 3,
            step_factor: 0.1,
            peak_at: 0.3,
        }
    }
}

/// A schedule over the steps of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    config: ScheduleConfig,
    steps_per_epoch: u64,
    total_steps: u64,
    /// Steps before it begins, and the factor in them.
    first_stage: Option<(u64, f64)>,
}

impl Schedule {
    /// The schedule of a run of `total_steps`.
    pub fn new(config: ScheduleConfig, steps_per_epoch: u64, total_steps: u64) -> Self {
        Self { config, steps_per_epoch, total_steps, first_stage: None }
    }

    /// The same run, in which these epochs have a constant factor and the schedule begins after them.
    #[must_use]
    pub fn after(self, epochs: u64, factor: f64) -> Self {
        let steps = epochs.saturating_mul(self.steps_per_epoch);
        let total_steps = self.total_steps.saturating_sub(steps);
        Self { total_steps, first_stage: Some((steps, factor)), ..self }
    }

    /// The factor on the learning rate of `step`, counted from 1: finite and never negative, whatever the step and the
    /// length of the run.
    pub fn factor(&self, step: u64) -> f64 {
        let ScheduleConfig { kind, warmup_epochs, final_factor, step_epochs, step_factor, peak_at } =
            self.config;
        let step = match self.first_stage {
            Some((steps, factor)) if step <= steps => return factor,
            Some((steps, _)) => step - steps,
            None => step,
        };
        let warmup = match kind {
            ScheduleKind::OneCycle => 0.0,
            _ => (warmup_epochs * self.steps_per_epoch as f64).floor(),
        };
        let (step, total) = (step as f64, self.total_steps as f64);
        if step <= warmup {
            return step / (warmup + 1.0);
        }
        let done = step - 1.0;
        match kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine => half_cosine(1.0, final_factor, share(done - warmup, total - warmup)),
            ScheduleKind::Step => {
                let epoch = (done / self.steps_per_epoch.max(1) as f64).floor();
                step_factor.powf((epoch / step_epochs.max(1) as f64).floor())
            }
            ScheduleKind::OneCycle => {
                let (first, last) = (1.0 / 25.0, 1.0 / 25.0 / 1e4);
                let peak = peak_at * total - 1.0;
                if done <= peak {
                    half_cosine(first, 1.0, share(done, peak))
                } else {
                    half_cosine(1.0, last, share(done - peak, total - 1.0 - peak))
                }
            }
        }
    }
}

/// How much of a way is done; a way of no length is done at once.
fn share(done: f64, way: f64) -> f64 {
    if way > 0.0 { (done / way).clamp(0.0, 1.0) } else { 1.0 }
}

/// From `a` at 0 to `b` at 1.
fn half_cosine(a: f64, b: f64, at: f64) -> f64 {
    b + (a - b) * (1.0 + (PI * at).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn factors(config: ScheduleConfig, steps_per_epoch: u64, total: u64) -> Vec<f64> {
        let schedule = Schedule::new(config, steps_per_epoch, total);
        (1..=total).map(|step| schedule.factor(step)).collect()
    }

    #[track_caller]
    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-9, "{found:?} vs {expected:?}");
        }
    }

    /// Expected values: `tests/losses_golden.py`, PyTorch's schedulers.
    #[test]
    fn shapes_are_those_of_pytorch() {
        let base = ScheduleConfig::default();
        let cosine = ScheduleConfig { kind: ScheduleKind::Cosine, final_factor: 0.1, ..base.clone() };
        assert_close(
            &factors(cosine, 4, 8),
            &[
                1.0,
                0.965_745_789_630_079_1,
                0.868_198_051_533_946_4,
                0.722_207_544_564_290_5,
                0.55,
                0.377_792_455_435_709_7,
                0.231_801_948_466_053_7,
                0.134_254_210_369_921,
            ],
        );
        let one_cycle = ScheduleConfig { kind: ScheduleKind::OneCycle, ..base.clone() };
        assert_close(
            &factors(one_cycle, 5, 10),
            &[
                0.04,
                0.52,
                1.0,
                0.950_484_632_013_473_7,
                0.811_745_653_949_763_1,
                0.611_262_021_936_289_3,
                0.388_741_978_063_710_75,
                0.188_258_346_050_236_97,
                0.049_519_367_986_526_286,
                4e-6,
            ],
        );
        let step = ScheduleConfig { kind: ScheduleKind::Step, step_epochs: 3, step_factor: 0.5, ..base };
        assert_close(&factors(step, 1, 8), &[1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]);
    }

    #[test]
    fn a_warm_up_rises_to_the_full_rate_and_the_rest_follows() {
        let base = ScheduleConfig { warmup_epochs: 1.5, final_factor: 0.0, ..ScheduleConfig::default() };
        for kind in ScheduleKind::ALL.into_iter().filter(|kind| *kind != ScheduleKind::OneCycle) {
            let found = factors(ScheduleConfig { kind, step_epochs: 100, ..base.clone() }, 2, 8);
            assert_close(&found[..4], &[0.25, 0.5, 0.75, 1.0]);
            assert!(found[3..].windows(2).all(|pair| pair[1] <= pair[0]), "{kind:?}: {found:?}");
        }
    }

    /// A peak at the very first step is no way up: zero steps of zero were NaN, and so was every weight after them.
    #[test]
    fn one_cycle_that_peaks_at_the_first_step_starts_at_the_full_rate() {
        for (peak_at, total) in [(0.5, 2), (0.25, 4), (0.1, 10)] {
            let config =
                ScheduleConfig { kind: ScheduleKind::OneCycle, peak_at, ..ScheduleConfig::default() };
            let found = factors(config, total, total);
            assert_close(&[found[0], found[total as usize - 1]], &[1.0, 4e-6]);
        }
    }

    #[test]
    fn a_first_stage_has_its_own_rate_and_the_schedule_begins_after_it() {
        let config = ScheduleConfig {
            kind: ScheduleKind::Cosine,
            warmup_epochs: 0.5,
            final_factor: 0.0,
            ..ScheduleConfig::default()
        };
        let alone = Schedule::new(config.clone(), 4, 8);
        let after = Schedule::new(config, 4, 12).after(1, 10.0);
        let found: Vec<f64> = (1..=12).map(|step| after.factor(step)).collect();
        let expected: Vec<f64> =
            [10.0; 4].into_iter().chain((1..=8).map(|step| alone.factor(step))).collect();
        assert_close(&found, &expected);
    }

    proptest! {
        #[test]
        fn every_factor_is_finite_and_not_negative(
            kind in prop::sample::select(ScheduleKind::ALL.to_vec()),
            (total, steps_per_epoch) in (0u64..50, 0u64..20),
            step in 0u64..60,
            warmup_epochs in prop_oneof![Just(0.0), 0.0f64..10.0, Just(1e300)],
            peak_at in prop_oneof![(1u64..50).prop_map(|n| 1.0 / n as f64), 0.0f64..1.0, Just(1.0 - f64::EPSILON)],
            (final_factor, step_factor) in (0.0f64..2.0, 0.0f64..=1.0),
            step_epochs in 0u64..4,
        ) {
            let config = ScheduleConfig { kind, warmup_epochs, final_factor, step_epochs, step_factor, peak_at };
            let factor = Schedule::new(config, steps_per_epoch, total).factor(step);
            prop_assert!(factor.is_finite() && factor >= 0.0, "{factor}");
        }
    }
}
