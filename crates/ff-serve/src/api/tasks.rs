//! Which of a model's tasks are answered.
//!
//! Race is not unless it is named. To categorise persons one by one by their faces in order to infer race is banned in
//! the European Union since 2 February 2025 (Regulation (EU) 2024/1689, Article 5(1)(g)); labelling or filtering of
//! lawfully acquired data sets is not.

use ff_core::Encoders;

use super::about::Off;
use crate::{Error, Result};

/// Tasks that are answered only where whoever serves the model names them.
const NAMED_ONLY: [&str; 2] = ["race", "ethnicity"];

const WHY: &str = "To infer race from faces of single persons is banned in the European Union (AI Act, Article \
                   5(1)(g)), save for labelling or filtering lawfully acquired data sets; whoever runs this server can \
                   name the task to have it answered.";

/// The tasks that are answered, in the model's order, and those that are not: of those that were `asked` for, or of all
/// but race.
///
/// # Errors
/// A task that was asked for is none of the model's; there is none left.
pub fn served_tasks(encoders: &Encoders, asked: Option<&[String]>) -> Result<(Vec<String>, Vec<Off>)> {
    let all: Vec<String> = encoders.names().map(|name| name.as_str().to_owned()).collect();
    if let Some(other) = asked.into_iter().flatten().find(|task| !all.contains(task)) {
        let message = format!("expected some of {}, found {other:?}", all.join(", "));
        return Err(Error::BadTasks { message });
    }
    let is_served = |task: &String| match asked {
        Some(asked) => asked.contains(task),
        None => !NAMED_ONLY.contains(&task.to_lowercase().as_str()),
    };
    let (served, off): (Vec<String>, Vec<String>) = all.into_iter().partition(is_served);
    if served.is_empty() {
        let message =
            format!("expected a task to answer, found {} alone, which must be named", off.join(", "));
        return Err(Error::BadTasks { message });
    }
    let why = |task: &String| match NAMED_ONLY.contains(&task.to_lowercase().as_str()) {
        true => WHY.to_owned(),
        false => "Whoever runs this server has left it out.".to_owned(),
    };
    let off = off.into_iter().map(|task| Off { why: why(&task), task }).collect();
    Ok((served, off))
}
