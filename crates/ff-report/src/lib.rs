//! Pages that people look at: a run, runs of several seeds, an evaluation, an audit of data. One file each, without
//! scripts, which needs no network and can be mailed.
//!
//! ```text
//! run folder ----------> run::RunReport ---------------> report.html, report.json
//!                              +--> card::ModelCard ----> MODEL_CARD.md
//! SeedsRecord ---------> seeds::SeedsPage -------------> seeds.html        |
//! EvaluationRecord ----> evaluation::EvaluationPage ---> a page            |
//! Comparison ----------> comparison::ComparisonPage ---> a page            |
//! ff_data::audit ------> data::DataAuditPage ----------> a page            |
//! photo and faces -----> annotated --------------------> a picture         |
//!                          |         |        |                            |
//!                        page.rs   charts/   thumbnails.rs   numbers.rs <--+-- the command line's tables
//!                        head, policy, sections,  style.css
//! ```
//!
//! What is shown was computed elsewhere; here it only gets its form. All HTML and SVG is made by `maud`, which escapes
//! whatever is put in: nothing that a file says becomes markup. Numbers get their form in [`numbers`] alone. `page`,
//! `charts` and `numbers` know none of the pages, and of the pages only a run's knows another, the evaluation's; the
//! card knows a run's report.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use ff_report::{EvaluationPage, RunReport};
//! use ff_train::run::RunDir;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let report = RunReport::read(&RunDir::open(Path::new("runs/train-001"))?)?;
//! println!("{:?}, on {}", report.findings, report.write()?.path.display());
//!
//! EvaluationPage::read(Path::new("test.json"))?.write(Path::new("test.html"))?; // of no run
//! # Ok(())
//! # }
//! ```

mod annotated;
mod card;
mod charts;
mod comparison;
mod data;
mod error;
mod evaluation;
pub mod numbers;
mod page;
mod run;
mod seeds;
mod sweep;
mod thumbnails;

pub use annotated::{FaceMark, PNG_MARK, Tone, annotated_png};
pub use card::{
    Accuracy, CardFile, GroupFigures, GroupRow, GroupingFigures, MODEL_CARD, ModelCard, ModelFile,
};
pub use charts::{Color, HeatMap};
pub use comparison::{ComparisonPage, compared};
pub use data::DataAuditPage;
pub use error::{Error, Result};
pub use evaluation::{EvaluationPage, NamedEvaluation};
pub use page::STYLE;
pub use run::{Bucket, Provenance, RunCurves, RunReport, Spread, TaskSummary, Written, compared_curves};
pub use seeds::SeedsPage;
pub use sweep::{SweepPage, difference_cells};
pub use thumbnails::thumbnail_jpeg;
