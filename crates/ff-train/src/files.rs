//! Files that matter are written whole or not at all, and known by their hash.

use std::io::Write;
use std::path::{Path, PathBuf};

use fs_err as fs;
use sha2::{Digest, Sha256};

/// Writes `path` by a temporary sibling, fsync and rename: a reader sees the old bytes or the new, never a part.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = sibling(path, "tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

/// SHA-256 (FIPS 180-4) in lowercase hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces the folder `path` by one that `fill` writes into: under its name there is the old folder or the new, and
/// for the instant between two renames the old one under [`previous`]'s name.
pub fn replace_dir<E: From<std::io::Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let temporary = sibling(path, "tmp");
    remove_dir(&temporary)?;
    fs::create_dir_all(&temporary)?;
    if let Err(e) = fill(&temporary) {
        // A full disk is the likely cause: give the room back. The first error is the one to report.
        let _ = remove_dir(&temporary);
        return Err(e);
    }
    let old = previous(path);
    if path.exists() {
        remove_dir(&old)?;
        fs::rename(path, &old)?;
    }
    fs::rename(&temporary, path)?;
    sync_parent(path)?;
    remove_dir(&old)?;
    Ok(())
}

/// Replaces the folder `to` by one with the files of `from`, which they share on the disk where it can: files that are
/// written whole never change under the other name.
pub fn link_dir(from: &Path, to: &Path) -> std::io::Result<()> {
    replace_dir(to, |dir| {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let target = dir.join(entry.file_name());
            if fs::hard_link(entry.path(), &target).is_err() {
                fs::copy(entry.path(), &target)?;
            }
        }
        Ok(())
    })
}

/// Removes the folder, if it is there.
pub fn remove_dir(path: &Path) -> std::io::Result<()> {
    if path.exists() { fs::remove_dir_all(path) } else { Ok(()) }
}

/// Where [`replace_dir`] keeps the old folder while it puts the new one in place.
pub fn previous(path: &Path) -> PathBuf {
    sibling(path, "previous")
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// A rename is on the disk once its folder is.
fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        #[cfg(unix)]
        Some(parent) if !parent.as_os_str().is_empty() => fs::File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_replacement_leaves_the_old_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last");
        let write = |text: &'static str| move |dir: &Path| write_atomic(&dir.join("a"), text.as_bytes());
        replace_dir(&path, write("one")).unwrap();
        let failed: std::io::Result<()> = replace_dir(&path, |dir| {
            write("half")(dir)?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "one");
        let linked = dir.path().join("best");
        link_dir(&path, &linked).unwrap();
        replace_dir(&path, write("two")).unwrap();
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "two");
        assert_eq!(fs::read_to_string(linked.join("a")).unwrap(), "one");
        remove_dir(&linked).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no leftovers");
    }
}
