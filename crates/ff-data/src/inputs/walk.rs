//! The files below a folder.
//!
//! Links are followed, but every folder is looked into once, under one of its names, and under its own rather than a
//! link's: links that lead back up end there, and no image is found twice by way of them. What is found is sorted.

use std::{
    collections::{BTreeSet, HashSet},
    path::{Component, Path, PathBuf},
};

use glob::{MatchOptions, Pattern};

use crate::error::{Error, Result};

/// Every file below a folder that `wanted` likes.
///
/// # Errors
/// A folder cannot be read.
pub(super) fn folder(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    files(folder, usize::MAX, wanted)
}

/// Every file that a pattern matches: `*`, `?` and `[...]` within a name, `**` for any number of folders.
///
/// # Errors
/// No pattern, or a folder cannot be read.
pub(super) fn pattern(text: &str) -> Result<Vec<PathBuf>> {
    const NAMES: MatchOptions = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: false,
    };
    let bad = |error: glob::PatternError| Error::BadInput { input: text.into(), message: error.to_string() };
    // As paths are compared: `./a//b` is `./a/b`.
    let tidied: PathBuf = Path::new(text).components().collect();
    let pattern = Pattern::new(&tidied.to_string_lossy()).map_err(bad)?;
    let is_literal = |part: &Component| match part {
        Component::Normal(name) => !name.to_string_lossy().contains(['*', '?', '[']),
        _ => true,
    };
    let root: PathBuf = tidied.components().take_while(is_literal).collect();
    let rest: Vec<Component> = tidied.components().skip_while(is_literal).collect();
    let any_depth = rest.iter().any(|part| part.as_os_str() == "**");
    let depth = if any_depth { usize::MAX } else { rest.len().saturating_sub(1) };
    if !root.as_os_str().is_empty() && !root.is_dir() {
        return Ok(Vec::new());
    }
    // Not by `matches_path`, which passes over names that are no UTF-8.
    files(&root, depth, |path| pattern.matches_with(&path.to_string_lossy(), NAMES) && path.is_file())
}

/// Every wanted file in `root` and the folders at most `depth` below it.
fn files(root: &Path, depth: usize, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    // Links come when all folders that are reached without them are done, the first by name first.
    let (mut folders, mut linked) = (vec![(root.to_owned(), 0)], BTreeSet::new());
    while let Some((folder, level)) = folders.pop().or_else(|| linked.pop_first()) {
        let place = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
        if !seen.insert(fs_err::canonicalize(place)?) {
            continue;
        }
        for entry in fs_err::read_dir(place)? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if !path.is_dir() {
                if wanted(&path) {
                    found.push(path);
                }
            } else if level < depth {
                if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                    linked.insert((path, level + 1));
                } else {
                    folders.push((path, level + 1));
                }
            }
        }
    }
    found.sort();
    Ok(found)
}
