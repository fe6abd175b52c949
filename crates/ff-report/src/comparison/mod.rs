//! Two sets of predictions of the same samples, side by side: which figures differ by more than chance.
//!
//! What is shown was computed by [`ff_eval::compare`]; here it only gets its form.

use std::path::Path;

use ff_core::files::write_atomic;
use ff_eval::{Comparison, Difference, Figure, McNemar, Unmatched};
use maud::{Markup, html};

use crate::Result;
use crate::numbers::{NONE, figure as number, fixed, grouped, points};
use crate::page::{capital, document, findings, section, table};

/// A comparison as a page of its own.
#[derive(Debug, Clone, Copy)]
pub struct ComparisonPage<'a> {
    comparison: &'a Comparison,
}

impl<'a> ComparisonPage<'a> {
    /// A page of this comparison.
    pub fn new(comparison: &'a Comparison) -> Self {
        Self { comparison }
    }

    /// The page.
    pub fn html(&self) -> String {
        let Comparison { a, b, n, bootstrap, .. } = self.comparison;
        let title = format!("Comparison: {a} and {b}");
        let body = html! {
            header {
                h1 { (title) }
                p class="lead" {
                    (grouped(*n as u64)) " samples that both have. Differences are " b { (b) } " less " b { (a) }
                    "; brackets are 95 % of " (grouped(u64::from(bootstrap.resamples))) " paired resamples, p is McNemar's \
                    exact test. Nothing is corrected for the number of rows: of twenty without any difference one has an \
                    interval without zero."
                }
                (self.left_out())
            }
            (findings(&self.sentences()))
            (section("all", "Over all samples", &self.table(|row| row.by.is_none())))
            @if self.has(is_gap) {
                (section("gaps", "Gaps between groups", &self.table(is_gap)))
            }
            @if self.has(|row| row.group.is_some()) {
                (section("groups", "In every group", &self.table(|row| row.group.is_some())))
            }
            (section("mcnemar", "Who is right where the other is wrong", &self.mcnemar()))
        };
        document(&title, "", &body)
    }

    /// Writes the page.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(write_atomic(path, self.html().as_bytes())?)
    }

    fn has(&self, of: impl Fn(&Difference) -> bool) -> bool {
        self.comparison.differences.iter().any(of)
    }

    /// What differs by more than chance over all samples, in words.
    fn sentences(&self) -> Vec<String> {
        let Comparison { a, b, .. } = self.comparison;
        let clear = |row: &&Difference| {
            row.by.is_none() && row.low.zip(row.high).is_some_and(|(low, high)| low > 0.0 || high < 0.0)
        };
        let sentence = |row: &Difference| {
            let (figure, task) =
                (name(row), row.task.as_ref().map_or("the mean over tasks", |task| task.as_str()));
            let way = if row.difference > 0.0 { "higher" } else { "lower" };
            format!("{}: {figure} is {way} in {b} than in {a}, by {}.", capital(task), difference(row))
        };
        self.comparison.differences.iter().filter(clear).map(sentence).collect()
    }

    fn left_out(&self) -> Markup {
        let Comparison { a, b, only_a, only_b, left_out, .. } = self.comparison;
        let alone = |rows: &Unmatched, whose: &str| {
            html! { @if rows.n > 0 { p { (grouped(rows.n as u64)) " samples only " (whose) " has do not count." } } }
        };
        html! {
            (alone(only_a, a))
            (alone(only_b, b))
            @if !left_out.is_empty() {
                p { "Tasks that one of both lacks: " @for task in left_out { code { (task) } " " } }
            }
        }
    }

    fn table(&self, of: impl Fn(&Difference) -> bool) -> Markup {
        let Comparison { a, b, differences, .. } = self.comparison;
        let rows = differences.iter().filter(|row| of(row)).map(|row| {
            let place = [row.by.as_ref().map(ToString::to_string), row.group.clone()];
            let place: Vec<String> = place.into_iter().flatten().collect();
            vec![
                row.task.as_ref().map_or("all tasks".to_owned(), |task| capital(task.as_str())),
                place.join(": "),
                name(row),
                compared(row.figure, row.a),
                compared(row.figure, row.b),
                difference(row),
                row.p.map_or(String::new(), number),
                grouped(row.n),
            ]
        });
        table(&["", "groups", "figure", a, b, "difference", "p", "n"], &rows.collect::<Vec<_>>())
    }

    fn mcnemar(&self) -> Markup {
        let Comparison { a, b, mcnemar, .. } = self.comparison;
        let rows = mcnemar.iter().map(|test: &McNemar| {
            let mut row = vec![capital(test.task.as_str()), test.group.clone().unwrap_or_default()];
            row.extend([test.both_right, test.only_a, test.only_b, test.both_wrong].map(grouped));
            row.extend([test.exact_p, test.chi_square, test.chi_square_p].map(number));
            row
        });
        let [only_a, only_b] = [a, b].map(|name| format!("only {name}"));
        let header =
            ["", "group", "both right", &only_a, &only_b, "both wrong", "exact p", "chi-square", "its p"];
        table(&header, &rows.collect::<Vec<_>>())
    }
}

fn is_gap(row: &Difference) -> bool {
    row.by.is_some() && row.group.is_none()
}

/// A figure's name as people read it.
fn name(row: &Difference) -> String {
    row.figure.name().replace('_', " ")
}

/// A value of a figure, or a difference, as the page shows it: shares in percentage points, a likelihood as it is.
pub fn compared(figure: Figure, value: f64) -> String {
    match figure {
        Figure::Nll => fixed(value, 4),
        _ => points(value),
    }
}

/// A difference and its interval.
fn difference(row: &Difference) -> String {
    let show = |x: f64| {
        let text = compared(row.figure, x);
        if x > 0.0 && text != NONE { format!("+{text}") } else { text }
    };
    let interval = row.low.zip(row.high).map(|(low, high)| format!(" [{}, {}]", show(low), show(high)));
    show(row.difference) + &interval.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use ff_core::{Encoders, LabelEncoder, Schema, Task};
    use ff_eval::{Bootstrap, Predictions, Side, compare};

    use super::*;

    /// The second gets ten of forty right that the first does not.
    #[test]
    fn a_comparison_has_a_whole_page_on_which_names_become_no_markup() {
        let schema = Schema::new(vec![Task::new("hat")]).unwrap();
        let fit = |task: &Task| LabelEncoder::fit(task.clone(), ["no", "yes"]).unwrap();
        let encoders = Encoders::new(schema.per_task(fit)).unwrap();
        let predictions = |wrong: usize| {
            let mut predictions = Predictions::of(&encoders);
            for i in 0..40 {
                let (right, sure) = (i % 2, if i < wrong { 0.2 } else { 0.8 });
                let row = if right == 0 { [sure, 1.0 - sure] } else { [1.0 - sure, sure] };
                predictions.probabilities["hat"].extend(row);
                predictions.targets["hat"].push(right as u32);
                predictions.files.push(format!("{i}.jpg"));
            }
            predictions
        };
        let (first, second) = (predictions(20), predictions(10));
        let side = |name, predictions| Side { name, predictions, encoders: &encoders };
        let bootstrap = Bootstrap { resamples: 200, seed: 1 };
        let (a, b) = (side("<old>", &first), side("new", &second));
        let comparison = compare(a, b, &["hat".to_owned()], &bootstrap).unwrap();
        let page = ComparisonPage::new(&comparison).html();
        for needle in [
            "<title>Comparison: &lt;old&gt; and new</title>",
            "40 samples that both have",
            "Hat: accuracy is higher in new than in &lt;old&gt;, by +25.0 [",
            "<td>50.0</td><td>75.0</td>",
            "Gaps between groups",
            "In every group",
        ] {
            assert!(page.contains(needle), "the page lacks {needle}: {page}");
        }
        assert!(!page.contains("<old>") && !page.contains("<script"));
    }
}
