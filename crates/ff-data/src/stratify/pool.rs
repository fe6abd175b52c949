//! Several label CSVs as one list of rows.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use ff_core::Schema;

use crate::{
    error::{Error, Result},
    manifest::{Manifest, Row},
};

/// All rows in the order given, of manifests that were read for the same tasks; extra columns are united, empty where a
/// CSV lacks one. Lines count from the pool's first row, and its path names every CSV.
///
/// # Errors
/// A manifest of other tasks than the first. A file that two rows name (`a.jpg`, `sub/./b.jpg` and `sub//b.jpg` count as
/// their plain forms): they could land on two sides of a split. Both lines are named.
pub fn pool(manifests: &[Manifest]) -> Result<Manifest> {
    let schema = manifests.first().map_or_else(Schema::default, |first| first.schema().clone());
    if let Some(other) = manifests.iter().find(|manifest| *manifest.schema() != schema) {
        let first = manifests[0].path().display();
        return Err(Error::bad_csv(other.path(), format!("expected the tasks of {first}, found others")));
    }
    let mut columns: Vec<String> = Vec::new();
    for name in manifests.iter().flat_map(Manifest::extra_columns) {
        if !columns.contains(name) {
            columns.push(name.clone());
        }
    }
    let mut rows = Vec::with_capacity(manifests.iter().map(Manifest::len).sum());
    let mut seen: HashMap<&Path, (&Manifest, u64)> = HashMap::new();
    for manifest in manifests {
        let place = |name| manifest.extra_columns().iter().position(|column| column == name);
        let places: Vec<Option<usize>> = columns.iter().map(place).collect();
        for row in manifest.rows() {
            if let Some((first, line)) = seen.insert(Path::new(&row.file), (manifest, row.line)) {
                let reason = format!(
                    "expected each file once, found {:?} in {}:{line} too",
                    row.file,
                    first.path().display()
                );
                return Err(Error::bad_row(manifest.path(), row.line, reason));
            }
            let value = |place: &Option<usize>| place.map_or(String::new(), |i| row.extra[i].clone());
            rows.push(Row { extra: places.iter().map(value).collect(), ..row.clone() });
        }
    }
    let paths: Vec<String> = manifests.iter().map(|manifest| manifest.path().display().to_string()).collect();
    Manifest::new(PathBuf::from(paths.join(" + ")), &schema, columns, rows)
}
