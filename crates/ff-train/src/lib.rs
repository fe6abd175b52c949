//! Training: losses, optimisers, the loop, checkpoints; and trained models put to use. Puts data and model together.
//!
//! ```text
//! config -> setup: model, loaders -> feed -> learner (loss, optim) -> run (checkpoints, records)
//!                                        trainer: epochs of steps, evaluations, resuming; tells an observer
//!                                        seeds: a run a seed, their figures together
//!                                        soup: several runs' weights averaged
//!                                        sweep: alternatives, each of several seeds, beside a baseline
//! run or file -> infer: predictions, embeddings, of the faces in photos too
//!                                        crop_set: photos' faces as a set to train on
//! ```
//!
//! [`config::Config`] says what to do, [`trainer::train`] does it and writes a run folder, [`sanity`] proves that the
//! pieces work. Nothing here prints or draws: an [`Observer`] may. Modules stand in the order in which they know each
//! other: [`records`], [`position`], [`ranks`], [`mixing`], [`loss`], [`optim`], [`config`], [`weights`], [`feed`],
//! [`learner`], [`run`], [`setup`], [`infer`], [`crop_set`], [`trainer`], [`seeds`], [`soup`], [`sweep`],
//! [`sanity`].

pub mod config;
pub mod crop_set;
mod error;
pub mod feed;
pub mod infer;
pub mod learner;
pub mod loss;
pub mod machine;
pub mod mixing;
pub mod optim;
pub mod position;
pub mod ranks;
pub mod records;
pub mod run;
pub mod sanity;
pub mod seeds;
pub mod setup;
pub mod soup;
pub mod sweep;
mod teacher;
pub mod trainer;
pub mod weights;

pub use config::{Config, ConfigBuilder, Preset};
pub use error::{Error, HOW_TO_GET_WEIGHTS, Result};
pub use records::TrainingResult;
pub use seeds::train_seeds;
pub use trainer::{Observer, Start, train, train_on_ranks};

/// The notebook that this project grew from, in this project's words: what stands there compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/notebook.md")]
struct Notebook;
