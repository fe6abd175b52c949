//! What predictions get right, over all and by group, and what they get wrong: of any model, for any tasks, grouped by
//! any column. No tensors, no images.
//!
//! ```text
//! Predictions --evaluate--> Evaluation        metrics, counts, groups: what training needs
//!             --record----> EvaluationRecord  and gaps with intervals, calibration, mistakes, suspected labels
//! ```
//!
//! Every sample counts once. A sample whose label is not known ([`ff_core::UNKNOWN`]) does not count for that task,
//! and one whose group is not known is in no group of that grouping; how many those are is said beside the figures. A
//! figure without samples to compute it from is NaN or `None`, never zero. Whatever is indexed by class is in the order
//! of class ids; [`Evaluation::display_order`] says how to show it.

mod attribute;
mod bootstrap;
mod compare;
mod disparity;
mod error;
mod evaluation;
mod figure;
mod groups;
pub mod input;
mod label_errors;
mod metrics;
mod mistakes;
mod per_sample;
mod predictions;
mod rates;
mod record;
mod requirement;
mod temperature;

pub use attribute::Attribute;
pub use bootstrap::Bootstrap;
pub use compare::{Comparison, Difference, McNemar, Side, compare};
pub use disparity::{ClassDisparity, Disparities, Estimate, Over, ParityAndOdds, TaskDisparity, disparities};
pub use error::{Error, Result};
pub use evaluation::{Evaluation, NotGrouped};
pub use figure::Figure;
pub use groups::{GroupMetrics, GroupTask, Grouping, SMALL_GROUP};
pub use input::{FilePredictions, Join, SchemaFile, Unmatched, read_predictions};
pub use label_errors::{LabelErrors, Suspect, label_errors};
pub use metrics::{ConfusionMatrix, ReliabilityBin, Tally, TaskMetrics, softmax};
pub use mistakes::{Confusion, Mistake, mistakes, top_confusions};
pub use per_sample::per_sample_csv;
pub use predictions::Predictions;
pub use rates::{ClassCounts, Interval, Rates, wilson};
pub use record::{EvaluationRecord, Settings, Source, TestTimeAugmentation};
pub use requirement::{Outcome, Requirement, junit};
pub use temperature::{Calibrated, Calibration, Temperature};
