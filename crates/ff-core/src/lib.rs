//! What every other crate stands on: what is predicted (schema and labels), tables and files that are read within
//! limits and written whole or not at all, faults that tests throw at both, and random streams keyed by what they are
//! for.
//!
//! | module | what |
//! |---|---|
//! | [`schema`] | tasks as data, and one value a task |
//! | [`labels`] | label strings <-> class ids |
//! | [`bins`] | the order of bins such as ages |
//! | [`table`] | CSVs as checked rows |
//! | [`files`] | the one writer of files that matter |
//! | [`disk`] | whether there is room for them |
//! | [`fault`] | the seam at which tests make any of that fail |
//! | [`json`] | numbers that JSON cannot write |
//! | [`random`] | keyed generators and distributions |
//! | [`text`] | texts of others in messages |
//!
//! Nothing here knows images, networks or runs.

mod argmax;
pub mod bins;
pub mod disk;
pub mod fault;
pub mod files;
pub mod json;
pub mod labels;
mod per_task;
pub mod random;
pub mod schema;
pub mod table;
pub mod text;

pub use argmax::argmax;
pub use labels::{Encoders, LabelEncoder, UNKNOWN};
pub use schema::{Order, PerTask, Schema, Task, TaskName};
