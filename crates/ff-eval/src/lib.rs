//! What predictions get right, over all and by group, and what they get wrong: of any model, for any tasks, grouped by
//! any column. No tensors, no images.
//!
//! ```text
//! predictions.csv + labels.csv --read_predictions--+
//! a model over a split (ff-train) -----------------+--> Predictions (and Encoders)
//! Predictions --evaluate--> Evaluation              metrics, counts, groups: what training needs
//!             --EvaluationRecord::new--> a record   and gaps with intervals, calibration, mistakes, suspected labels
//! two of them --compare--> Comparison               every figure's difference with its interval, McNemar's test
//! Predictions --Equalizer::fit--> a threshold a group --apply--> decisions, for `compare` to say what they cost
//! a record or a comparison --Requirement--> Outcome met or not, by how much; junit() for CI
//! metrics of several runs --over_runs--> FigureOverRuns    mean, deviation, standard error of every figure
//! ```
//!
//! Every sample counts once. A sample whose label is not known ([`ff_core::UNKNOWN`]) does not count for that task,
//! and one whose group is not known is in no group of that grouping; how many those are is said beside the figures. A
//! figure without samples to compute it from is NaN or `None`, never zero. Whatever is indexed by class is in the order
//! of class ids; [`Evaluation::display_order`] says how to show it.
//!
//! Definitions followed, each checked against the software beside it by a script in `tests/`:
//!
//! | what | as in | checked against |
//! |---|---|---|
//! | accuracy, balanced accuracy, macro F1, log-loss | scikit-learn | scikit-learn |
//! | calibration error, temperature | Guo et al., "On calibration of modern neural networks", 2017 | SciPy |
//! | interval of an accuracy | Wilson, "Probable inference, the law of succession, and statistical inference", 1927 | SciPy |
//! | gaps, demographic parity, equalized odds | Hardt et al., "Equality of opportunity in supervised learning", 2016; Fairlearn's `MetricFrame` | Fairlearn |
//! | intervals of gaps and differences | percentile bootstrap: Efron, "Nonparametric standard errors and confidence intervals", 1981 | SciPy |
//! | equal opportunity and odds by thresholds | Hardt et al., 2016 | Fairlearn's `ThresholdOptimizer` |
//! | suspected labels | Northcutt et al., "Confident learning", 2021 | cleanlab |
//! | whether two models differ | McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947 | statsmodels |
//!
//! ```
//! use ff_core::{Encoders, LabelEncoder, Task};
//! use ff_eval::{Attribute, Predictions};
//!
//! let glasses = LabelEncoder::fit(Task::new("glasses"), ["no", "yes"])?;
//! let name = glasses.task().name.clone();
//! let encoders = Encoders::new([(name, glasses)].into_iter().collect())?;
//! let mut predictions = Predictions::of(&encoders);
//! predictions.probabilities["glasses"] = vec![0.9, 0.1, 0.3, 0.7, 0.6, 0.4];
//! predictions.targets["glasses"] = vec![0, 1, 1];
//! predictions.files = ["a.jpg", "b.jpg", "c.jpg"].map(str::to_owned).to_vec();
//! predictions.attributes = vec![Attribute::new("camera", [Some("phone"), Some("phone"), None])];
//!
//! let evaluation = predictions.evaluate(&encoders, &["camera".to_owned()])?;
//! assert_eq!(evaluation.tasks["glasses"].accuracy, 2.0 / 3.0);
//! assert_eq!((evaluation.groups[0].n, evaluation.not_grouped[0].n_unknown), (2, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attribute;
mod bootstrap;
mod compare;
mod disparity;
mod equalize;
mod error;
mod evaluation;
mod figure;
mod groups;
pub mod input;
mod label_errors;
mod metrics;
mod mistakes;
mod over_runs;
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
pub use equalize::{Equalized, Equalizer, GroupRule, Parity};
pub use error::{Error, Result};
pub use evaluation::{Evaluation, NotGrouped};
pub use figure::Figure;
pub use groups::{GroupMetrics, GroupTask, Grouping, SMALL_GROUP};
pub use input::{FilePredictions, Join, SchemaFile, Unmatched, read_predictions};
pub use label_errors::{LabelErrors, Suspect, label_errors};
pub use metrics::{ConfusionMatrix, ReliabilityBin, Tally, TaskMetrics, softmax};
pub use mistakes::{Confusion, Mistake, mistakes, top_confusions};
pub use over_runs::{FigureOverRuns, mean_and_deviation, over_runs};
pub use per_sample::per_sample_csv;
pub use predictions::Predictions;
pub use rates::{ClassCounts, Interval, Rates, wilson};
pub use record::{EvaluationRecord, EvaluationSource, Settings, TestTimeAugmentation, View};
pub use requirement::{Outcome, Requirement, junit};
pub use temperature::{Calibrated, Calibration, Temperature};
