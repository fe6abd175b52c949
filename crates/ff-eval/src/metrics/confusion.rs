//! Counts of labels and predictions: what is taken for what.
//!
//! Only cells that are not empty are kept: of ten thousand classes there are a hundred million cells, and few samples.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Up to so many classes a matrix is written as rows, above as a list of its cells: a matrix of 10,000 classes is
/// 200 MB of zeros.
const MOST_WRITTEN_AS_ROWS: usize = 100;
/// Sizes and counts of a file beyond these are damage: sums of them stay exact.
const MOST_CLASSES: usize = 1 << 20;
const MOST_SAMPLES: u64 = 1 << 52;

/// Counts (classes, classes), row = label, column = prediction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct ConfusionMatrix {
    n_classes: usize,
    /// By (label, prediction); none is zero.
    cells: BTreeMap<(u32, u32), u64>,
}

/// As files have it.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected counts, a row a label, or classes and cells")]
enum Written {
    /// A row a label, in it a count a prediction.
    Rows(Vec<Vec<u64>>),
    /// The number of classes, and label, prediction and count of the cells that are not empty.
    Cells { classes: usize, cells: Vec<(u32, u32, u64)> },
}

impl ConfusionMatrix {
    /// No samples yet.
    pub fn new(n_classes: usize) -> Self {
        Self { n_classes, cells: BTreeMap::new() }
    }

    /// From rows of counts, a row a label.
    ///
    /// # Errors
    /// They make no square; the message says which row.
    pub fn from_rows(rows: &[Vec<u64>]) -> Result<Self, String> {
        let n = rows.len();
        if let Some(i) = rows.iter().position(|row| row.len() != n) {
            return Err(format!(
                "expected {n} counts in each of {n} rows, found {} in row {}",
                rows[i].len(),
                i + 1
            ));
        }
        let cells = rows.iter().enumerate().flat_map(|(label, row)| {
            row.iter().enumerate().map(move |(prediction, &count)| (label as u32, prediction as u32, count))
        });
        Self::from_cells(n, cells)
    }

    fn from_cells(n_classes: usize, cells: impl Iterator<Item = (u32, u32, u64)>) -> Result<Self, String> {
        if n_classes > MOST_CLASSES {
            return Err(format!("expected at most {MOST_CLASSES} classes, found {n_classes}"));
        }
        let (mut matrix, mut n) = (Self::new(n_classes), 0u64);
        for (label, prediction, count) in cells.filter(|(.., count)| *count > 0) {
            if label.max(prediction) as usize >= n_classes {
                return Err(format!("expected classes below {n_classes}, found {}", label.max(prediction)));
            }
            n = n.saturating_add(count);
            if n > MOST_SAMPLES {
                return Err(format!("expected at most {MOST_SAMPLES} samples, found more"));
            }
            *matrix.cells.entry((label, prediction)).or_default() += count;
        }
        Ok(matrix)
    }

    /// Counts a sample.
    ///
    /// # Panics
    /// Label or prediction are no classes.
    pub fn add(&mut self, label: usize, prediction: usize) {
        let n = self.n_classes;
        assert!(label < n && prediction < n, "expected classes below {n}, found {label} and {prediction}");
        *self.cells.entry((label as u32, prediction as u32)).or_default() += 1;
    }

    /// Number of classes.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// How often this label was predicted as that.
    pub fn get(&self, label: usize, prediction: usize) -> u64 {
        let key = u32::try_from(label).ok().zip(u32::try_from(prediction).ok());
        key.and_then(|key| self.cells.get(&key)).copied().unwrap_or(0)
    }

    /// Label, prediction and count of every cell that is not empty, by label and then by prediction.
    pub fn cells(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        self.cells.iter().map(|(&(label, prediction), &count)| (label as usize, prediction as usize, count))
    }

    /// Samples counted.
    pub fn n(&self) -> u64 {
        self.cells.values().sum()
    }

    /// Those that are right.
    pub fn n_correct(&self) -> u64 {
        self.hits().iter().sum()
    }

    /// Samples of each label, (classes,).
    pub fn by_label(&self) -> Vec<u64> {
        self.sum_by(|label, _| Some(label))
    }

    /// Predictions of each class, (classes,).
    pub fn by_prediction(&self) -> Vec<u64> {
        self.sum_by(|_, prediction| Some(prediction))
    }

    /// Right predictions of each class, (classes,).
    pub fn hits(&self) -> Vec<u64> {
        self.sum_by(|label, prediction| (label == prediction).then_some(label))
    }

    fn sum_by(&self, place: impl Fn(usize, usize) -> Option<usize>) -> Vec<u64> {
        let mut sums = vec![0; self.n_classes];
        for (label, prediction, count) in self.cells() {
            if let Some(place) = place(label, prediction) {
                sums[place] += count;
            }
        }
        sums
    }
}

impl From<ConfusionMatrix> for Written {
    fn from(matrix: ConfusionMatrix) -> Self {
        let n = matrix.n_classes;
        if n <= MOST_WRITTEN_AS_ROWS {
            let row = |label| (0..n).map(|prediction| matrix.get(label, prediction)).collect();
            return Self::Rows((0..n).map(row).collect());
        }
        let cells = matrix.cells.into_iter().map(|((label, prediction), count)| (label, prediction, count));
        Self::Cells { classes: n, cells: cells.collect() }
    }
}

impl TryFrom<Written> for ConfusionMatrix {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Rows(rows) => Self::from_rows(&rows),
            Written::Cells { classes, cells } => Self::from_cells(classes, cells.into_iter()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of ten thousand classes a line of the metrics had a hundred million counts.
    #[test]
    fn a_matrix_of_many_classes_is_a_short_list_and_one_of_few_is_rows() {
        let mut few = ConfusionMatrix::new(3);
        [(0, 0), (0, 2), (0, 2), (2, 1)].iter().for_each(|&(label, prediction)| few.add(label, prediction));
        let json = serde_json::to_string(&few).unwrap();
        assert_eq!(json, "[[1,0,2],[0,0,0],[0,1,0]]", "as every version before wrote it");
        assert_eq!(serde_json::from_str::<ConfusionMatrix>(&json).unwrap(), few);

        let mut many = ConfusionMatrix::new(10_000);
        (0..10_000).for_each(|i| many.add(i, (i * 7) % 10_000));
        let json = serde_json::to_string(&many).unwrap();
        assert!(json.len() < 200_000, "{} bytes", json.len());
        assert_eq!(serde_json::from_str::<ConfusionMatrix>(&json).unwrap(), many);
    }

    #[test]
    fn counts_that_make_no_square_and_classes_that_there_are_not_are_refused() {
        for (json, expected) in [
            ("[[1,2],[3]]", "expected 2 counts in each of 2 rows, found 1 in row 2"),
            (r#"{"classes":2,"cells":[[0,2,1]]}"#, "expected classes below 2, found 2"),
            (r#"{"classes":18446744073709551615,"cells":[]}"#, "expected at most 1048576 classes"),
            (
                r#"{"classes":2,"cells":[[0,1,18446744073709551615],[1,1,9]]}"#,
                "expected at most 4503599627370496",
            ),
            (r#"[[1,-2],[3,4]]"#, "expected counts, a row a label, or classes and cells"),
            ("7", "expected counts, a row a label, or classes and cells"),
        ] {
            let message = serde_json::from_str::<ConfusionMatrix>(json).unwrap_err().to_string();
            assert!(message.contains(expected), "{json}: {message}");
        }
    }
}
