//! Numbers that are none: JSON writes NaN and infinities as null, and these read null as NaN. For serde's
//! `deserialize_with`.

use serde::{Deserialize, Deserializer};

use crate::PerTask;

/// A number.
///
/// # Errors
/// Neither a number nor null.
pub fn null_as_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// A number a task.
///
/// # Errors
/// As [`null_as_nan`].
pub fn nulls_as_nan<'de, D: Deserializer<'de>>(from: D) -> Result<PerTask<f64>, D::Error> {
    Ok(PerTask::<Option<f64>>::deserialize(from)?.map(|x| x.unwrap_or(f64::NAN)))
}

/// A number a task, where there are any.
///
/// # Errors
/// As [`null_as_nan`].
pub fn some_nulls_as_nan<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PerTask<f64>>, D::Error> {
    let values = Option::<PerTask<Option<f64>>>::deserialize(from)?;
    Ok(values.map(|values| values.map(|x| x.unwrap_or(f64::NAN))))
}
