//! Training and auditing: losses, optimisers, the loop, checkpoints, metrics. Puts data and model together.
//!
//! [`config::Config`] says what to do, [`trainer::train`] does it and writes a run folder, [`evaluation`] says how good
//! the result is, [`sanity`] proves that the pieces work. Nothing here prints: an [`Observer`] may.

pub mod average;
pub mod batch_size;
pub mod checkpoint;
pub mod config;
mod error;
pub mod evaluation;
pub mod fairface_csv;
pub mod feed;
pub mod hub;
mod journal;
pub mod losses;
pub mod machine;
pub mod metrics;
pub mod mixing;
pub mod optimizer;
pub mod predictor;
pub mod pretrained;
pub mod records;
pub mod run_dir;
pub mod sanity;
pub mod schedule;
pub mod setup;
pub mod tfevents;
pub mod trainer;

pub use config::{Config, ConfigBuilder, Preset};
pub use error::{Error, Result};
pub use records::{Observer, Outcome};
pub use trainer::{Start, train};
