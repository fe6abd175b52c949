//! Which cases a page shows: the address is the whole state.

use ff_data::Decision;
use serde::Deserialize;

use super::cases::{Case, Cases, Kind};
use crate::problem::Problem;

/// Cases of a page.
pub const PER_PAGE: usize = 24;

/// A page's query, as forms send it: what is empty or missing filters nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// A [`Kind`].
    pub kind: String,
    /// A task.
    pub task: String,
    /// A label that a face of the case has.
    pub label: String,
    /// What the model takes it for.
    pub predicted: String,
    /// A split.
    pub split: String,
    /// `open`, `decided`, `keep`, `drop`, `relabel`.
    pub decided: String,
    /// `suspicion` or `file`.
    pub sort: String,
    /// From 1.
    pub page: String,
}

/// What may stand for [`Query::decided`].
pub const DECIDED: [&str; 5] = ["open", "decided", "keep", "drop", "relabel"];
/// What may stand for [`Query::sort`].
pub const SORTS: [&str; 2] = ["suspicion", "file"];
/// What may stand for [`Query::split`].
pub const SPLITS: [&str; 3] = ["train", "val", "test"];

impl Query {
    /// Whether every value is one that there is.
    ///
    /// # Errors
    /// One is not; what was expected is named.
    pub fn check(&self, cases: &Cases) -> Result<(), Problem> {
        let one_of = |what: &str, value: &str, known: &[&str]| {
            if value.is_empty() || known.contains(&value) {
                return Ok(());
            }
            let known =
                ff_core::text::either(&known.iter().map(|&known| known.to_owned()).collect::<Vec<_>>());
            let found = ff_core::text::shortened(value);
            Err(Problem::bad_request(format!("{what}: expected {known}, found {found:?}")))
        };
        let tasks: Vec<&str> = cases.labels.iter().map(|(name, _)| name.as_str()).collect();
        one_of("kind", &self.kind, &Kind::ALL.map(Kind::name))?;
        one_of("task", &self.task, &tasks)?;
        one_of("split", &self.split, &SPLITS)?;
        one_of("decided", &self.decided, &DECIDED)?;
        one_of("sort", &self.sort, &SORTS)?;
        if self.page.is_empty() || self.page.parse::<u32>().is_ok_and(|page| page > 0) {
            return Ok(());
        }
        let found = ff_core::text::shortened(&self.page);
        Err(Problem::bad_request(format!("page: expected a whole number from 1 on, found {found:?}")))
    }

    /// The page, from 0.
    pub fn page_idx(&self) -> usize {
        self.page.parse::<usize>().unwrap_or(1).saturating_sub(1)
    }

    /// The cases that it asks for, all pages, in order. `decision` says what is decided about a file and task.
    pub fn of<'c, 'd>(
        &self,
        cases: &'c Cases,
        decision: impl Fn(&str, &Case) -> Option<&'d Decision>,
    ) -> Vec<&'c Case> {
        let mut list: Vec<&Case> = cases
            .list
            .iter()
            .filter(|case| self.takes(case) && self.takes_decided(case, &decision))
            .collect();
        match self.sort.as_str() {
            "file" => list.sort_by(|a, b| a.faces[0].file.cmp(&b.faces[0].file)),
            _ => list.sort_by(|a, b| b.suspicion.total_cmp(&a.suspicion)),
        }
        list
    }

    fn takes(&self, case: &Case) -> bool {
        // All faces of an evaluation are too many to look at: they are shown where a cell is asked for.
        let kind = match self.kind.as_str() {
            "" => case.kind != Kind::Sample,
            kind => case.kind.name() == kind,
        };
        let is = |wanted: &str, value: Option<&str>| wanted.is_empty() || value == Some(wanted);
        kind && is(&self.task, case.task.as_ref().map(|task| task.as_str()))
            && is(&self.predicted, case.suggested.as_deref())
            && case.faces.iter().any(|face| is(&self.label, face.label.as_deref()))
            && case.faces.iter().any(|face| is(&self.split, face.split))
    }

    /// A case is open until each of its faces is decided about.
    fn takes_decided<'d>(&self, case: &Case, decision: impl Fn(&str, &Case) -> Option<&'d Decision>) -> bool {
        let mut of_faces = case.faces.iter().map(|face| decision(&face.file, case));
        match self.decided.as_str() {
            "" => true,
            "open" => of_faces.any(|decision| decision.is_none()),
            "decided" => of_faces.all(|decision| decision.is_some()),
            word => of_faces.any(|decision| decision.is_some_and(|decision| decision.name() == word)),
        }
    }

    /// The query of another page of the same cases.
    pub fn with_page(&self, page: usize) -> String {
        Self { page: page.to_string(), ..self.clone() }.encoded()
    }

    /// As it stands in an address, after the question mark.
    pub fn encoded(&self) -> String {
        let Self { kind, task, label, predicted, split, decided, sort, page } = self;
        let fields = [
            ("kind", kind),
            ("task", task),
            ("label", label),
            ("predicted", predicted),
            ("split", split),
            ("decided", decided),
            ("sort", sort),
            ("page", page),
        ];
        let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
        form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish()
    }
}
