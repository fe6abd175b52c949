//! What was predicted of every sample, as a CSV.

use ff_core::table::quoted;
use ff_core::{Encoders, UNKNOWN};

use crate::attribute::Column;
use crate::{Predictions, Result};

/// A line a sample: `file`; of every task its label, `TASK_predicted`, `TASK_probability` of that and `TASK_correct`;
/// and the columns to group by that are no tasks. What is not known is empty. As a file of predictions it reads as what
/// was predicted, as a file of labels as what is true.
///
/// # Errors
/// `group_by` names no column.
pub fn per_sample_csv(predictions: &Predictions, encoders: &Encoders, group_by: &[String]) -> Result<String> {
    let mut columns: Vec<(String, Vec<String>)> = vec![("file".to_owned(), predictions.files.clone())];
    for (task, encoder) in encoders.iter() {
        let rows: Vec<(&[f32], u32)> = predictions.rows(task).collect();
        let predicted = predictions.predicted(task);
        let label = |id: u32| encoder.decode(id).unwrap_or_default().to_owned();
        let probability =
            |((row, _), &class): (&(&[f32], u32), &u32)| match predictions.has_probabilities(task) {
                true => row[class as usize].to_string(),
                false => String::new(),
            };
        let correct = |((_, target), class): (&(&[f32], u32), &u32)| match *target {
            UNKNOWN => String::new(),
            target => (target == *class).to_string(),
        };
        columns.extend([
            (task.to_string(), rows.iter().map(|&(_, target)| label(target)).collect()),
            (format!("{task}_predicted"), predicted.iter().map(|&class| label(class)).collect()),
            (format!("{task}_probability"), rows.iter().zip(&predicted).map(probability).collect()),
            (format!("{task}_correct"), rows.iter().zip(&predicted).map(correct).collect()),
        ]);
    }
    for name in group_by {
        let Column { labels, values, .. } = Column::find(predictions, encoders, name)?;
        if columns.iter().all(|(column, _)| column != name) {
            let label = |&value: &u32| labels.get(value as usize).cloned().unwrap_or_default();
            columns.push((name.clone(), values.iter().map(label).collect()));
        }
    }
    let line = |fields: &mut dyn Iterator<Item = &String>| {
        fields.map(|field| quoted(field)).collect::<Vec<_>>().join(",")
    };
    let mut csv = line(&mut columns.iter().map(|(name, _)| name)) + "\n";
    for i in 0..predictions.len() {
        csv += &(line(&mut columns.iter().map(|(_, values)| &values[i])) + "\n");
    }
    Ok(csv)
}
