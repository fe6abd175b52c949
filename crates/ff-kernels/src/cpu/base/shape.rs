//! Shapes of activations, and the checks every public kernel makes before it touches memory.

/// An NHWC activation `(batch, height, width, channels)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MapShape {
    /// Images.
    pub batch: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels, a multiple of 16.
    pub channels: usize,
}

impl MapShape {
    /// Pixels of the whole batch.
    ///
    /// # Panics
    /// More than can be counted.
    pub fn pixels(&self) -> usize {
        product("a map", &[self.batch, self.height, self.width])
    }

    /// Floats of the whole batch.
    ///
    /// # Panics
    /// More than can be counted.
    pub fn len(&self) -> usize {
        product("a map", &[self.batch, self.height, self.width, self.channels])
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same map with another number of images.
    pub const fn with_batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }
}

/// The product of the factors of a length. One that wraps would let a short slice pass for a long one, so it panics.
#[track_caller]
pub(crate) fn product(what: &str, factors: &[usize]) -> usize {
    let multiplied = factors.iter().try_fold(1_usize, |product, &factor| product.checked_mul(factor));
    multiplied.unwrap_or_else(|| panic!("{what}: {factors:?} is more than can be counted"))
}

/// Panics unless `slice` has exactly `expected` elements.
#[track_caller]
pub(crate) fn check_len<T>(what: &str, slice: &[T], expected: usize) {
    assert!(slice.len() == expected, "{what}: expected {expected} elements, found {}", slice.len());
}

/// Panics unless `slice` has at least `expected` elements.
#[track_caller]
pub(crate) fn check_at_least<T>(what: &str, slice: &[T], expected: usize) {
    assert!(slice.len() >= expected, "{what}: expected at least {expected} elements, found {}", slice.len());
}

/// Panics unless `channels` is a positive multiple of 16.
#[track_caller]
pub(crate) fn check_channels(what: &str, channels: usize) {
    assert!(
        channels > 0 && channels.is_multiple_of(16),
        "{what}: expected a multiple of 16 channels, found {channels}"
    );
}
