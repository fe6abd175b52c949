//! Requirements from text.

use std::str::FromStr;

use ff_core::TaskName;
use ff_core::text::{either, shortened};

use super::{End, Relation, Requirement, Subject};
use crate::{Error, Figure, Grouping, Result};

impl FromStr for Requirement {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        parse(text).map_err(|reason| Error::BadRequirement { text: shortened(text), reason })
    }
}

fn parse(text: &str) -> Result<Requirement, String> {
    // Columns may be called anything, so signs count behind their bracket only.
    let behind = text.rfind(']').map_or(0, |place| place + 1);
    let place = text[behind..].find(['<', '>']).map(|place| behind + place);
    let place = place.ok_or("expected one of >=, <=, > and <, found none")?;
    let (left, right) = text.split_at(place);
    let (relation, right) =
        [(">=", Relation::AtLeast), ("<=", Relation::AtMost), (">", Relation::Above), ("<", Relation::Below)]
            .into_iter()
            .find_map(|(sign, relation)| Some((relation, right.strip_prefix(sign)?)))
            .expect("one of the signs was found");
    let bound: f64 =
        right.trim().parse().ok().filter(|bound: &f64| bound.is_finite()).ok_or_else(|| {
            format!("expected a number after the sign, found {:?}", shortened(right.trim()))
        })?;
    let mut name = left.trim();
    let mut end = None;
    for (suffix, which) in [("@lower", End::Lower), ("@upper", End::Upper)] {
        if let Some(rest) = name.strip_suffix(suffix) {
            (name, end) = (rest, Some(which));
        }
    }
    let (name, of) = match name.strip_suffix(".diff") {
        Some(rest) => (rest, Subject::Difference),
        None => (name, Subject::Evaluation),
    };
    let (name, by) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
        Some((name, by)) => (name, Some(by.parse::<Grouping>()?)),
        None => (name, None),
    };
    let (task, name) = match name.rsplit_once('.') {
        Some((task, name)) => (Some(TaskName::new(task).map_err(|error| error.to_string())?), name),
        None => (None, name),
    };
    let figure = Figure::named(name).ok_or_else(|| {
        let known: Vec<String> = Figure::all().map(|figure| figure.to_string()).collect();
        format!("expected a figure: {}, found {:?}", either(&known), shortened(name))
    })?;
    if figure.is_between_groups() && by.is_none() {
        return Err(format!("expected the columns that make the groups, as {figure}[gender], found none"));
    }
    if !figure.is_between_groups() && by.is_some() {
        let between: Vec<String> = Figure::BETWEEN_GROUPS.iter().map(ToString::to_string).collect();
        return Err(format!("expected columns after {}, found them after {figure}", either(&between)));
    }
    if task.is_none() && figure != Figure::Accuracy {
        return Err(format!("expected a task before {figure}, as age.{figure}, found none"));
    }
    Ok(Requirement { text: text.to_owned(), figure, task, by, of, end, relation, bound })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_read_whatever_columns_are_called() {
        let parsed = |text: &str| text.parse::<Requirement>().unwrap();
        let found = parsed(" race.accuracy_gap[ skin tone <2>,gender].diff@upper<= 0.10 ");
        assert_eq!(found.text(), "race.accuracy_gap[ skin tone <2>,gender].diff@upper<= 0.10");
        assert_eq!(found.by.unwrap().attributes(), ["skin tone <2>", "gender"]);
        assert_eq!(
            (found.figure, found.of, found.end),
            (Figure::AccuracyGap, Subject::Difference, Some(End::Upper))
        );
        assert_eq!((found.relation, found.bound), (Relation::AtMost, 0.1));
        let found = parsed("accuracy.diff@lower>=-0.01");
        assert_eq!((found.task, found.relation, found.bound), (None, Relation::AtLeast, -0.01));
        let found = parsed("eye-color.ece<5e-2");
        assert_eq!((found.task.unwrap().as_str(), found.relation), ("eye-color", Relation::Below));
        assert_eq!(parsed("age.one_off>0").relation, Relation::Above);
    }

    #[test]
    fn what_cannot_be_read_says_what_can() {
        for (text, reason) in [
            ("age.accuracy", "expected one of >=, <=, > and <, found none"),
            ("age.accuracy=0.5", "expected one of >=, <=, > and <, found none"),
            ("age.accuracy>=half", "expected a number after the sign, found \"half\""),
            ("age.accuracy>=NaN", "expected a number after the sign, found \"NaN\""),
            (
                "age.acuracy>=0.5",
                "expected a figure: accuracy, one_off, balanced_accuracy, macro_f1, ece, nll, worst_accuracy, accuracy_gap, \
                 demographic_parity or equalized_odds, found \"acuracy\"",
            ),
            ("age.accuracy@low>=0.5", "expected a figure: accuracy,"),
            (
                "race.accuracy_gap<=0.1",
                "expected the columns that make the groups, as accuracy_gap[gender], found none",
            ),
            (
                "race.accuracy_gap[]<=0.1",
                "expected distinct columns with commas between them, found \"\" in \"\"",
            ),
            ("race.accuracy[gender]<=0.1", "expected columns after worst_accuracy, accuracy_gap,"),
            ("ece<=0.1", "expected a task before ece, as age.ece, found none"),
            ("a ge.ece<=0.1", "tasks: expected a name of 1 to 64 letters"),
        ] {
            let found = text.parse::<Requirement>().unwrap_err().to_string();
            assert!(found.starts_with(&format!("requirement {text:?}: {reason}")), "{found}");
        }
    }
}
