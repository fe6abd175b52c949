//! What a Parquet file says of itself at its end: columns, row groups, where their bytes lie, notes.

use std::collections::BTreeMap;

use super::thrift::{Compact, Kind};

const MAX_COLUMNS: u64 = 1 << 10;
const MAX_ROW_GROUPS: u64 = 1 << 16;
const MAX_NOTES: u64 = 1 << 10;
/// Rows of a file, and so values of a column.
const MAX_ROWS: u64 = 1 << 24;

/// The footer.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) columns: Vec<Column>,
    pub(super) row_groups: Vec<RowGroup>,
    /// Texts by key, which whoever wrote the file left.
    pub(super) notes: BTreeMap<String, String>,
}

/// A column that holds values.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Its name, behind those of what it lies in: `image.bytes`.
    pub(super) name: String,
    /// Its place in every row group.
    pub(super) place: usize,
    pub(super) kind: PhysicalType,
    /// How many of its parents and itself may be missing.
    pub(super) max_definition: u32,
    /// Whether a row may have several of its values.
    pub(super) repeated: bool,
}

/// How values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PhysicalType {
    Boolean,
    Int64,
    ByteArray,
    /// One that is not read here, by its number.
    Other(u64),
}

/// Rows that are stored together.
#[derive(Debug)]
pub(super) struct RowGroup {
    pub(super) n_rows: u64,
    /// One a column.
    pub(super) chunks: Vec<Chunk>,
}

/// The values of one column in one row group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub(super) codec: u64,
    /// Offset in the file of its first page.
    pub(super) start: u64,
    /// Bytes of all its pages.
    pub(super) len: u64,
}

impl Footer {
    /// Reads a footer, which is all of `bytes`, of a file whose pages end at `pages_end`.
    pub(super) fn parse(bytes: &[u8], pages_end: u64) -> Result<Self, String> {
        let (mut columns, mut row_groups) = (Vec::new(), Vec::<RowGroup>::new());
        let (mut notes, mut n_rows) = (BTreeMap::new(), None);
        Compact::new(bytes).fields(|input, id, kind| match id {
            2 => {
                let mut elements = Vec::new();
                input.list(kind, MAX_COLUMNS, |input, kind| {
                    elements.push(SchemaElement::read(input, kind)?);
                    Ok(())
                })?;
                columns = leaves(&elements)?;
                Ok(())
            }
            3 => {
                n_rows = Some(input.count(kind)?);
                Ok(())
            }
            4 => input.list(kind, MAX_ROW_GROUPS, |input, kind| {
                row_groups.push(RowGroup::read(input, kind, pages_end)?);
                Ok(())
            }),
            5 => input.list(kind, MAX_NOTES, |input, kind| {
                let (mut key, mut value) = (String::new(), String::new());
                input.structure(kind, |input, id, kind| match id {
                    1 => input.text(kind).map(|text| key = text),
                    2 => input.text(kind).map(|text| value = text),
                    _ => input.skip(kind),
                })?;
                notes.insert(key, value);
                Ok(())
            }),
            _ => input.skip(kind),
        })?;
        let n_rows = n_rows.ok_or("expected a number of rows, found none")?;
        if n_rows > MAX_ROWS {
            return Err(format!("expected at most {MAX_ROWS} rows, found {n_rows}"));
        }
        let in_groups = row_groups.iter().fold(0_u64, |sum, group| sum.saturating_add(group.n_rows));
        if in_groups != n_rows {
            return Err(format!("expected {n_rows} rows, found {in_groups} in the row groups"));
        }
        for (i, group) in row_groups.iter().enumerate() {
            let (expected, found) = (columns.len(), group.chunks.len());
            if found != expected {
                return Err(format!("row group {i}: expected {expected} columns, found {found}"));
            }
        }
        Ok(Self { columns, row_groups, notes })
    }
}

/// A node of the tree of columns.
struct SchemaElement {
    name: String,
    kind: Option<u64>,
    repetition: u64,
    n_children: u64,
}

impl SchemaElement {
    fn read(input: &mut Compact<&[u8]>, kind: Kind) -> Result<Self, String> {
        let (mut name, mut physical, mut repetition, mut n_children) = (None, None, 0, 0);
        input.structure(kind, |input, id, kind| {
            match id {
                1 => physical = Some(input.count(kind)?),
                3 => repetition = input.count(kind)?,
                4 => name = Some(input.text(kind)?),
                5 => n_children = input.count(kind)?,
                _ => input.skip(kind)?,
            }
            Ok(())
        })?;
        let name = name.ok_or("expected a column's name, found none")?;
        Ok(Self { name, kind: physical, repetition, n_children })
    }
}

/// The columns with values: the leaves of the tree that the elements are, parents before their children.
fn leaves(elements: &[SchemaElement]) -> Result<Vec<Column>, String> {
    const OPTIONAL: u64 = 1;
    const REPEATED: u64 = 2;
    /// A node that still waits for children.
    struct Parent {
        waits_for: u64,
        path: String,
        max_definition: u32,
        repeated: bool,
    }
    let Some((root, elements)) = elements.split_first() else {
        return Err("expected columns, found none".to_owned());
    };
    let mut parents =
        vec![Parent { waits_for: root.n_children, path: String::new(), max_definition: 0, repeated: false }];
    let mut columns = Vec::new();
    for element in elements {
        while parents.last().is_some_and(|parent| parent.waits_for == 0) {
            parents.pop();
        }
        let parent =
            parents.last_mut().ok_or_else(|| format!("column {}: it lies in no other", element.name))?;
        parent.waits_for -= 1;
        let path = format!("{}{}", parent.path, element.name);
        let max_definition = parent.max_definition + u32::from(element.repetition != 0);
        let repeated = parent.repeated || element.repetition == REPEATED;
        if element.repetition > REPEATED {
            return Err(format!(
                "column {path}: expected a repetition from 0 to {REPEATED}, where {OPTIONAL} is optional, found {}",
                element.repetition
            ));
        }
        if element.n_children > 0 {
            let path = path + ".";
            parents.push(Parent { waits_for: element.n_children, path, max_definition, repeated });
            continue;
        }
        let kind = match element.kind {
            Some(0) => PhysicalType::Boolean,
            Some(2) => PhysicalType::Int64,
            Some(6) => PhysicalType::ByteArray,
            Some(other) => PhysicalType::Other(other),
            None => return Err(format!("column {path}: expected a type, found none")),
        };
        columns.push(Column { name: path, place: columns.len(), kind, max_definition, repeated });
    }
    if parents.iter().any(|parent| parent.waits_for > 0) {
        return Err("expected more columns, found the end of the list".to_owned());
    }
    Ok(columns)
}

impl RowGroup {
    fn read(input: &mut Compact<&[u8]>, kind: Kind, pages_end: u64) -> Result<Self, String> {
        let (mut n_rows, mut chunks) = (None, Vec::new());
        input.structure(kind, |input, id, kind| match id {
            1 => input.list(kind, MAX_COLUMNS, |input, kind| {
                chunks.push(Chunk::read(input, kind, pages_end)?);
                Ok(())
            }),
            3 => {
                n_rows = Some(input.count(kind)?);
                Ok(())
            }
            _ => input.skip(kind),
        })?;
        Ok(Self { n_rows: n_rows.ok_or("expected a row group's number of rows, found none")?, chunks })
    }
}

impl Chunk {
    fn read(input: &mut Compact<&[u8]>, kind: Kind, pages_end: u64) -> Result<Self, String> {
        let (mut codec, mut len, mut data, mut dictionary) = (None, None, None, None);
        let mut elsewhere = None;
        input.structure(kind, |input, id, kind| match id {
            1 => input.text(kind).map(|file| elsewhere = Some(file)),
            3 => input.structure(kind, |input, id, kind| {
                match id {
                    4 => codec = Some(input.count(kind)?),
                    7 => len = Some(input.count(kind)?),
                    9 => data = Some(input.count(kind)?),
                    11 => dictionary = Some(input.count(kind)?),
                    _ => input.skip(kind)?,
                }
                Ok(())
            }),
            _ => input.skip(kind),
        })?;
        if let Some(file) = elsewhere {
            return Err(format!("expected pages in the file itself, found them in {file:?}"));
        }
        let (Some(codec), Some(len), Some(data)) = (codec, len, data) else {
            return Err("expected a column's codec, length and place, found not all of them".to_owned());
        };
        // Some writers say 0 where there is no dictionary.
        let start = dictionary.filter(|&at| at > 0).map_or(data, |at| at.min(data));
        if start.checked_add(len).is_none_or(|end| end > pages_end) {
            return Err(format!(
                "expected pages within the first {pages_end} bytes, found {len} from {start} on"
            ));
        }
        Ok(Self { codec, start, len })
    }
}
