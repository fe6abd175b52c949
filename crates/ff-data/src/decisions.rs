//! What somebody decided about faces, one by one: to keep them, to drop them, or to give them another label.
//!
//! A CSV with the columns `file` and `decision`, and where labels are decided about `task` and `label`. `drop` leaves
//! out every row of a file; `relabel` puts a label in the place of a task's; `keep` changes nothing and says that a
//! face, or its label of one task, was looked at and is right. Invariant: at most one decision a face and task, and
//! none beside a `drop`. Nothing is guessed: a file or label that the rows do not have is an error.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use ff_core::{
    Order, Schema, TaskName,
    files::{sha256, write_atomic},
    table::{Table, quoted, read_csv},
    text::{either, nearest, shortened},
};

use crate::{
    error::{Error, Result},
    manifest::{Manifest, Row},
};

const COLUMNS: [&str; 4] = ["file", "decision", "task", "label"];

/// What is to become of a face.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It stays: as a whole, or with its label of this task.
    Keep(Option<TaskName>),
    /// Its rows are left out.
    Drop,
    /// It has another label.
    Relabel {
        /// The task.
        task: TaskName,
        /// The right label.
        label: String,
    },
}

impl Decision {
    /// The word for it.
    pub const fn name(&self) -> &'static str {
        match self {
            Decision::Keep(_) => "keep",
            Decision::Drop => "drop",
            Decision::Relabel { .. } => "relabel",
        }
    }

    /// The task that it is about; `None` where it is about the whole face.
    pub fn task(&self) -> Option<&TaskName> {
        match self {
            Decision::Keep(task) => task.as_ref(),
            Decision::Drop => None,
            Decision::Relabel { task, .. } => Some(task),
        }
    }

    /// Whether one face cannot have both.
    fn excludes(&self, other: &Decision) -> bool {
        [self, other].contains(&&Decision::Drop) || self.task() == other.task()
    }
}

/// A decision about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionRow {
    /// The image, as the rows of data name it.
    pub file: String,
    /// What was decided.
    pub decision: Decision,
    /// 1-based line in the CSV.
    line: u64,
}

/// The decisions of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decisions {
    path: PathBuf,
    schema: Schema,
    rows: Vec<DecisionRow>,
    sha256: String,
}

/// What decisions did to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Decided {
    /// Rows that are left out.
    pub dropped: usize,
    /// Rows that have another label than before.
    pub relabelled: usize,
}

impl Decisions {
    /// Reads a file of decisions about faces that have these tasks.
    ///
    /// # Errors
    /// It cannot be read; a column is missing or is none of the four; a decision is none, lacks what it needs or has
    /// what it has no use for; two exclude each other. Row, what was expected and what was found are named.
    pub fn read(path: impl AsRef<Path>, schema: &Schema) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(path, &read_csv(path)?, schema)
    }

    /// As [`Decisions::read`], of CSV text that is in memory; `path` only names it.
    ///
    /// # Errors
    /// As [`Decisions::read`].
    pub fn parse(path: impl Into<PathBuf>, bytes: &[u8], schema: &Schema) -> Result<Self> {
        let path = path.into();
        let mut table = Table::new(&path, bytes)?;
        let columns = Columns::new(&path, &table.header)?;
        let mut rows: Vec<DecisionRow> = Vec::new();
        let mut of_file: HashMap<PathBuf, Vec<usize>> = HashMap::new();
        while let Some(record) = table.next_row()? {
            let bad = |reason| Error::bad_row(&path, record.line, reason);
            let (file, decision) = columns.decision(&record.fields, schema).map_err(bad)?;
            // At most one a task, so this is short.
            let earlier = of_file.entry(PathBuf::from(&file)).or_default();
            if let Some(&other) = earlier.iter().find(|&&i| rows[i].decision.excludes(&decision)) {
                let DecisionRow { decision: other, line, .. } = &rows[other];
                let (found, file) = (decision.name(), shortened(&file));
                let reason = format!(
                    "expected one decision about {file:?}, found {found} beside {} in line {line}",
                    other.name()
                );
                return Err(bad(reason));
            }
            earlier.push(rows.len());
            rows.push(DecisionRow { file, decision, line: record.line });
        }
        Ok(Decisions { path, schema: schema.clone(), rows, sha256: sha256(bytes) })
    }

    /// None yet, of a file that is not there yet.
    pub fn none(path: impl Into<PathBuf>, schema: &Schema) -> Self {
        let mut none =
            Decisions { path: path.into(), schema: schema.clone(), rows: Vec::new(), sha256: String::new() };
        none.renumber();
        none
    }

    /// The file that they came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of the file.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Every decision, in the order of the file.
    pub fn rows(&self) -> &[DecisionRow] {
        &self.rows
    }

    /// Applies them to all the rows of some data at once: each file has to be in one of the manifests. Rows keep their
    /// lines.
    ///
    /// # Errors
    /// A file that no row names, a label that no row has and no order lists, or manifests of other tasks; then nothing
    /// is changed.
    pub fn apply(&self, manifests: &mut [&mut Manifest]) -> Result<Decided> {
        if let Some(other) = manifests.iter().find(|manifest| *manifest.schema() != self.schema) {
            let (found, by) = (other.path().to_owned(), self.path.display());
            return Err(Error::bad_csv(&found, format!("expected the tasks of {by}, found others")));
        }
        self.check(manifests)?;
        let mut of_file: HashMap<&Path, Vec<&Decision>> = HashMap::new();
        for row in &self.rows {
            of_file.entry(Path::new(&row.file)).or_default().push(&row.decision);
        }
        let mut decided = Decided::default();
        for manifest in manifests {
            let rows = manifest.rows().iter().filter_map(|row| match of_file.get(Path::new(&row.file)) {
                None => Some(row.clone()),
                Some(decisions) => {
                    let after = self.decided(row, decisions);
                    decided.dropped += usize::from(after.is_none());
                    decided.relabelled +=
                        usize::from(after.as_ref().is_some_and(|after| after.labels != row.labels));
                    after
                }
            });
            **manifest = manifest.with_rows(rows.collect());
        }
        Ok(decided)
    }

    /// Files that somebody looked at and keeps, as a whole or with a label.
    pub fn kept(&self) -> impl Iterator<Item = &Path> {
        let kept = self.rows.iter().filter(|row| matches!(row.decision, Decision::Keep(_)));
        kept.map(|row| Path::new(&row.file))
    }

    /// The decision about a face, or about its label of a task. A drop stands for both.
    pub fn about(&self, file: &str, task: Option<&TaskName>) -> Option<&Decision> {
        let of_file = self.rows.iter().filter(|row| Path::new(&row.file) == Path::new(file));
        let fits = |decision: &&Decision| **decision == Decision::Drop || decision.task() == task;
        of_file.map(|row| &row.decision).find(fits)
    }

    /// Puts a decision in the place of those that it excludes.
    pub fn set(&mut self, file: &str, decision: Decision) {
        let excluded =
            |row: &DecisionRow| Path::new(&row.file) == Path::new(file) && row.decision.excludes(&decision);
        self.rows.retain(|row| !excluded(row));
        self.rows.push(DecisionRow { file: file.to_owned(), decision, line: 0 });
        self.renumber();
    }

    /// Takes back the decision about a face, or about its label of a task.
    pub fn take_back(&mut self, file: &str, task: Option<&TaskName>) {
        let of_file = |row: &DecisionRow| Path::new(&row.file) == Path::new(file);
        let fits = |decision: &Decision| *decision == Decision::Drop || decision.task() == task;
        self.rows.retain(|row| !(of_file(row) && fits(&row.decision)));
        self.renumber();
    }

    /// The decisions as CSV text, a line each.
    pub fn to_csv(&self) -> String {
        let mut csv = COLUMNS.join(",") + "\n";
        for DecisionRow { file, decision, .. } in &self.rows {
            let task = decision.task().map_or("", TaskName::as_str);
            let label = if let Decision::Relabel { label, .. } = decision { label } else { "" };
            let fields = [file, decision.name(), task, label].map(quoted);
            csv += &(fields.join(",") + "\n");
        }
        csv
    }

    /// Writes the CSV whole: no reader ever sees half a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self) -> Result<()> {
        Ok(write_atomic(&self.path, self.to_csv().as_bytes())?)
    }

    fn renumber(&mut self) {
        self.rows.iter_mut().zip(2..).for_each(|(row, line)| row.line = line);
        self.sha256 = sha256(self.to_csv().as_bytes());
    }

    /// A row under decisions about its file; `None` where it is left out.
    fn decided(&self, row: &Row, decisions: &[&Decision]) -> Option<Row> {
        let mut row = row.clone();
        for decision in decisions {
            match decision {
                Decision::Drop => return None,
                Decision::Keep(_) => {}
                Decision::Relabel { task, label } => {
                    let i = self.schema.names().position(|name| name == task);
                    row.labels[i.expect("decisions are of the schema's tasks")] = Some(label.clone());
                }
            }
        }
        Some(row)
    }

    /// Whether the files and labels are those of the data.
    fn check(&self, manifests: &[&mut Manifest]) -> Result<()> {
        let rows = || manifests.iter().flat_map(|manifest| manifest.rows());
        let files: BTreeSet<&Path> = rows().map(|row| Path::new(&row.file)).collect();
        let labels: Vec<BTreeSet<&str>> = (self.schema.tasks().iter().enumerate())
            .map(|(i, task)| {
                let listed: &[String] = if let Order::List(list) = &task.order { list } else { &[] };
                rows()
                    .filter_map(|row| row.labels[i].as_deref())
                    .chain(listed.iter().map(String::as_str))
                    .collect()
            })
            .collect();
        for DecisionRow { file, decision, line } in &self.rows {
            let bad = |reason| Err(Error::bad_row(&self.path, *line, reason));
            if !files.contains(Path::new(file)) {
                let names: Vec<String> = manifests.iter().map(|m| m.path().display().to_string()).collect();
                return bad(format!("expected a file of {}, found {:?}", either(&names), shortened(file)));
            }
            let Decision::Relabel { task, label } = decision else { continue };
            let i = self.schema.names().position(|name| name == task);
            let known = &labels[i.expect("decisions are of the schema's tasks")];
            if !known.contains(label.as_str()) {
                let names: Vec<String> = known.iter().map(|&label| label.to_owned()).collect();
                let near = nearest(label, known.iter().copied());
                let hint = near.map_or(String::new(), |near| format!(": did you mean {near:?}?"));
                let (all, found) = (either(&names), shortened(label));
                return bad(format!("expected a label of {task}: {all}, found {found:?}{hint}"));
            }
        }
        Ok(())
    }
}

/// Where each column stands; the last two may be missing.
struct Columns([Option<usize>; 4]);

impl Columns {
    fn new(path: &Path, header: &[String]) -> Result<Self> {
        let found: Vec<String> = header.iter().map(|name| shortened(name)).collect();
        let places = COLUMNS.map(|column| header.iter().position(|name| name == column));
        let missing: Vec<String> = COLUMNS[..2]
            .iter()
            .zip(places)
            .filter(|(_, place)| place.is_none())
            .map(|(c, _)| (*c).to_owned())
            .collect();
        let expected = COLUMNS.map(str::to_owned).to_vec();
        if !missing.is_empty() {
            return Err(Error::MissingColumns { path: path.to_owned(), expected, missing, found });
        }
        if let Some(other) = header.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
            let reason =
                format!("expected the columns {}, found {:?} too", expected.join(", "), shortened(other));
            return Err(Error::bad_csv(path, reason));
        }
        Ok(Columns(places))
    }

    /// A row's file and decision, or what is wrong with them.
    fn decision(&self, fields: &[&str], schema: &Schema) -> Result<(String, Decision), String> {
        let [file, word, task, label] = self.0.map(|place| place.map_or("", |i| fields[i]));
        let [word, task, label] = [word, task, label].map(str::trim);
        if file.trim().is_empty() {
            return Err("expected a value in column file, found none".to_owned());
        }
        let named = |task: &str| schema.task(task).map(|task| task.name.clone());
        let none = |column: &str, found: &str| match found {
            "" => Ok(()),
            found => Err(format!("column {column}: expected none with {word}, found {:?}", shortened(found))),
        };
        let some = |column: &str, found: &str| match found {
            "" => Err(format!("column {column}: expected one with {word}, found none")),
            _ => Ok(()),
        };
        let in_task = |error: ff_core::schema::Error| format!("column task: {error}");
        let decision = match word {
            "keep" => {
                none("label", label)?;
                let task = Some(task).filter(|task| !task.is_empty());
                Decision::Keep(task.map(named).transpose().map_err(in_task)?)
            }
            "drop" => {
                none("task", task)?;
                none("label", label)?;
                Decision::Drop
            }
            "relabel" => {
                some("task", task)?;
                some("label", label)?;
                Decision::Relabel { task: named(task).map_err(in_task)?, label: label.to_owned() }
            }
            other => {
                let found = shortened(other);
                return Err(format!("column decision: expected keep, drop or relabel, found {found:?}"));
            }
        };
        Ok((file.to_owned(), decision))
    }
}
