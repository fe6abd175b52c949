//! Faces in real pictures.

#![expect(clippy::unwrap_used, reason = "a failed helper fails its test")]

mod fairface;
mod sizes;
mod support;
mod turned;
