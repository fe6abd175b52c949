//! What samples are grouped by: the targets of a task, or a further column such as a skin tone or a camera.

use ff_core::{Encoders, LabelEncoder, Order, Task, UNKNOWN};

use crate::{Error, Predictions, Result};

/// A column that is no task: a label a sample, or [`UNKNOWN`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// What it is called.
    pub name: String,
    /// The distinct labels.
    pub labels: Vec<String>,
    /// Places in [`Attribute::labels`], in the order to show them.
    pub display_order: Vec<usize>,
    /// The place of each sample's label, or [`UNKNOWN`], (n,).
    pub values: Vec<u32>,
}

impl Attribute {
    /// Collects the labels of a column; `None` and blanks are unknown. Bins such as `20-29` are shown in their order,
    /// other labels sorted.
    pub fn new<'a>(name: impl Into<String>, column: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let column: Vec<Option<&str>> =
            column.into_iter().map(|label| label.map(str::trim).filter(|label| !label.is_empty())).collect();
        let known = column.iter().copied().flatten();
        // A name of its own: that of a column need not be one of a task.
        let task = Task::new("column").with_order(Order::Auto);
        // Without any label there is nothing to sort.
        let encoder = LabelEncoder::fit(task, known).ok();
        let place = |label: &str| encoder.as_ref().and_then(|encoder| encoder.encode(label).ok());
        Self {
            name: name.into(),
            values: column.iter().map(|label| label.and_then(place).unwrap_or(UNKNOWN)).collect(),
            labels: encoder.as_ref().map_or_else(Vec::new, |encoder| encoder.labels().to_vec()),
            display_order: encoder.as_ref().map_or_else(Vec::new, LabelEncoder::display_order),
        }
    }
}

/// One of the things that samples are grouped by, borrowed from wherever it stands.
pub(crate) struct Column<'a> {
    pub labels: &'a [String],
    pub display_order: Vec<usize>,
    /// (n,), some of them [`UNKNOWN`].
    pub values: &'a [u32],
}

impl<'a> Column<'a> {
    /// Finds the column of this name: a task's before any other.
    pub fn find(predictions: &'a Predictions, encoders: &'a Encoders, name: &str) -> Result<Self> {
        if let (Some(encoder), Some(values)) = (encoders.get(name), predictions.targets.get(name)) {
            return Ok(Column { labels: encoder.labels(), display_order: encoder.display_order(), values });
        }
        match predictions.attributes.iter().find(|attribute| attribute.name == name) {
            Some(Attribute { labels, display_order, values, .. }) => {
                Ok(Column { labels, display_order: display_order.clone(), values })
            }
            None => {
                let tasks = encoders.names().map(ToString::to_string);
                let attributes = predictions.attributes.iter().map(|attribute| attribute.name.clone());
                Err(Error::NoSuchColumn { known: tasks.chain(attributes).collect(), found: name.to_owned() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_bins_are_shown_in_their_order_and_blanks_are_unknown() {
        let column = [Some("20-29"), None, Some(" 3-9 "), Some("  "), Some("20-29")];
        let found = Attribute::new("skin tone (I-VI)", column);
        assert_eq!(found.labels, ["20-29", "3-9"]);
        assert_eq!((found.display_order, found.values), (vec![1, 0], vec![0, UNKNOWN, 1, UNKNOWN, 0]));
        assert_eq!(Attribute::new("nothing", [None, Some("")]).labels, [""; 0]);
    }
}
