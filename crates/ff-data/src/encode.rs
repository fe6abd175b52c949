//! A split's labels -> encoders, and class ids.
//!
//! Invariant: a label that is not known is [`UNKNOWN`] and no class.

use ff_core::{Encoders, LabelEncoder, PerTask, Task, UNKNOWN};

use crate::{
    error::{Error, Result},
    manifest::Manifest,
};

/// Labels that a column may have: a column of names or numbers, taken by mistake, would make a head for each.
const MAX_CLASSES: usize = 1024;

impl Manifest {
    /// Fits an encoder a task, on the training split as a rule.
    ///
    /// # Errors
    /// The manifest has no rows; a column has no label that is known, labels that have not the order that its task says, or
    /// so many that it must be the wrong one.
    pub fn fit_encoders(&self) -> Result<Encoders> {
        if self.is_empty() {
            return Err(Error::NoRows { path: self.path().to_owned() });
        }
        self.check_known()?;
        let encoders = self.schema().try_per_task(|task| {
            let encoder = LabelEncoder::fit(task.clone(), self.labels(&task.name).flatten())
                .map_err(|error| Error::bad_csv(self.path(), error.to_string()))?;
            let (column, found) = (&task.column, encoder.n_classes());
            if found > MAX_CLASSES {
                let reason =
                    format!("expected at most {MAX_CLASSES} labels in column {column}, found {found}");
                return Err(Error::bad_csv(self.path(), reason));
            }
            Ok(encoder)
        })?;
        Ok(Encoders::new(encoders)?)
    }

    /// Checks that some label of every task is known, if there are rows: what has none cannot be trained or evaluated.
    ///
    /// # Errors
    /// A column has none.
    pub(crate) fn check_known(&self) -> Result<()> {
        let is_known = |task: &Task| self.labels(&task.name).any(|label| label.is_some());
        match self.schema().tasks().iter().find(|task| !self.is_empty() && !is_known(task)) {
            Some(Task { column, .. }) => {
                let reason = format!("expected a label in column {column}, found empty cells only");
                Err(Error::bad_csv(self.path(), reason))
            }
            None => Ok(()),
        }
    }

    /// Class ids a task of the encoders, each `(N)` in row order.
    ///
    /// # Errors
    /// The manifest was not read for a task, or has a label that the encoder does not know; its row is named.
    pub(crate) fn encode(&self, encoders: &Encoders) -> Result<PerTask<Vec<u32>>> {
        encoders.try_each(|task, encoder| {
            let known = self.schema().task(task.as_str());
            known.map_err(|error| Error::bad_csv(self.path(), error.to_string()))?;
            let labels = self.rows().iter().zip(self.labels(task));
            let ids = labels.map(|(row, label)| match label {
                Some(label) => encoder
                    .encode(label)
                    .map_err(|error| Error::bad_row(self.path(), row.line, error.to_string())),
                None => Ok(UNKNOWN),
            });
            ids.collect()
        })
    }
}
