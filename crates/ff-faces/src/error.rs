//! What can be wrong with what this crate is given.

/// A photo or landmarks that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a photo's bytes.
    #[error(
        "photo: expected width x height x 3 bytes and sides of 1 to 2^20 pixels, found {width} x {height} and {bytes} bytes"
    )]
    BadPhoto {
        /// As given.
        width: usize,
        /// As given.
        height: usize,
        /// How many bytes came with it.
        bytes: usize,
    },
    /// Points that no face can have.
    #[error("landmarks: expected five finite points that do not all lie in one place, found {found}")]
    BadLandmarks {
        /// The points.
        found: String,
    },
    /// A rectangle that is none.
    #[error("face box: expected finite numbers, and a width and height above 0, found {found}")]
    BadRect {
        /// Its numbers.
        found: String,
    },
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
