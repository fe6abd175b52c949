//! What every other crate stands on: files that are written whole or not at all and read within limits, faults that
//! tests throw at both, and random streams keyed by what they are for.
//!
//! Nothing here knows images, networks or runs.

pub mod fault;
pub mod files;
pub mod random;
