//! The runs of a folder.

use std::path::Path;

use ff_train::run::RunDir;

/// A run and what it is called.
pub struct Named {
    /// Its folder's name below the folder of runs.
    pub name: String,
    /// Its folder.
    pub run: RunDir,
}

impl Named {
    /// The runs that there are, those of several seeds by `seeds-001/seed-42`, sorted by name.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn all(folder: &Path) -> std::io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in fs_err::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match RunDir::open(&path) {
                Ok(run) => found.push(Named { name, run }),
                Err(_) if path.is_dir() => {
                    // Whoever may not look into it, or comes when it is gone, finds no run there.
                    let Ok(inner) = fs_err::read_dir(&path) else { continue };
                    for inner in inner {
                        let inner = inner?.path();
                        let seed = inner.file_name().unwrap_or_default().to_string_lossy().into_owned();
                        let run = RunDir::open(&inner).ok();
                        found.extend(run.map(|run| Named { name: format!("{name}/{seed}"), run }));
                    }
                }
                Err(_) => {}
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }
}
