//! Files that matter are written whole or not at all, known by their hash, and read within limits.
//!
//! Invariant: under a file's or folder's name there is the old content or the new, at every moment and after every
//! fault. A temporary name is hidden, says whose it is and never stood for anything before.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use fs_err as fs;
use sha2::{Digest, Sha256};

use crate::fault::{Point, reach_path};

const TEMPORARY: &str = ".fairface-tmp";

/// Replaces a file by a temporary sibling, sync and rename: a reader sees the old bytes or the new, never a part.
///
/// Permissions stay as they were. A symbolic link is followed: the file behind it is replaced. What is no regular file,
/// as a device or a pipe, is written into.
///
/// # Errors
/// Any of that fails; the old file is as it was.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole(path, bytes, sync_file, sync_parent)
}

/// As [`write_atomic`] for one of very many files: it does not wait until they are on the disk. [`sync_disks`] does,
/// once.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_atomic_unsynced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole(path, bytes, |_, _| Ok(()), |_| Ok(()))
}

/// Waits until all that was written is on the disks, as far as the system can be asked for that.
pub fn sync_disks() {
    #[cfg(unix)]
    rustix::fs::sync();
}

fn write_whole(
    path: &Path,
    bytes: &[u8],
    sync_file: impl FnOnce(&fs::File, &Path) -> io::Result<()>,
    sync_parent: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    // Asked before links are followed: those of /dev/stdout lead to pipes that have no name.
    let old = std::fs::metadata(path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file() && !old.is_dir()) {
        reach_path(Point::Write, path)?;
        return fs::OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let path = &target(path)?;
    let temporary = temporary(path);
    let written = (|| {
        reach_path(Point::Create, path)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        if let Some(old) = old {
            file.set_permissions(old.permissions())?;
        }
        reach_path(Point::Write, path)?;
        file.write_all(bytes)?;
        sync_file(&file, path)?;
        drop(file);
        reach_path(Point::Rename, path)?;
        fs::rename(&temporary, path)
    })();
    if let Err(e) = written {
        // A full disk is the likely cause: give the room back. The first error is the one to report.
        let _ = std::fs::remove_file(&temporary);
        return Err(e);
    }
    sync_parent(path)
}

/// Finds out whether [`write_atomic`] can write here: it makes the temporary file that it would make, and removes it.
///
/// # Errors
/// It cannot; the message says why. A device or a pipe is not tried, as that may wait for its other end.
pub fn probe(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            let message = format!("{}: expected a file, found a folder", path.display());
            return Err(io::Error::new(io::ErrorKind::IsADirectory, message));
        }
        Ok(found) if !found.is_file() => return Ok(()),
        _ => {}
    }
    let path = &target(path)?;
    let temporary = temporary(path);
    reach_path(Point::Create, path)?;
    fs::OpenOptions::new().write(true).create_new(true).open(&temporary)?;
    fs::remove_file(&temporary)
}

/// Adds text to the end of a file, and makes the file if there is none.
///
/// # Errors
/// It cannot be written; half of the text may be there.
pub fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
    reach_path(Point::Write, path)?;
    file.write_all(text.as_bytes())
}

/// SHA-256 of a file of any length, as [`sha256`].
///
/// # Errors
/// It cannot be read.
pub fn sha256_of_file(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Reads a file into `bytes`, whose content is replaced, but not more than `limit` bytes.
///
/// # Errors
/// It is longer, no regular file (a pipe, a device: reading them may never end), or cannot be read.
pub fn read_within(path: &Path, limit: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    let bad = |message: String| {
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: {message}", path.display())))
    };
    reach_path(Point::Read, path)?;
    bytes.clear();
    // Asked by name first: opening a pipe waits for a writer.
    let found = fs::metadata(path)?;
    if !found.is_file() {
        let kind = if found.is_dir() { "a folder" } else { "a pipe, socket or device" };
        return bad(format!("expected a regular file, found {kind}"));
    }
    let too_long = |len: u64| bad(format!("expected at most {limit} bytes, found {len}"));
    if found.len() > limit {
        return too_long(found.len());
    }
    let mut file = fs::File::open(path)?.take(limit.saturating_add(1));
    bytes.reserve(found.len() as usize);
    file.read_to_end(bytes)?;
    if bytes.len() as u64 > limit { too_long(bytes.len() as u64) } else { Ok(()) }
}

/// SHA-256 (FIPS 180-4) in lowercase hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let mut sum = Sha256Sum::default();
    sum.update(bytes);
    sum.hex()
}

/// SHA-256 of bytes that come piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Sha256Sum(Sha256);

impl Sha256Sum {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum of the bytes so far, in lowercase hexadecimal.
    pub fn hex(&self) -> String {
        self.0.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Replaces the folder `path` by one that `fill` writes into: under its name there is the old folder or the new, and
/// for the instant between two renames the old one under [`previous`]'s name, from where [`sweep`] brings it back.
///
/// # Errors
/// `fill` fails, or any step; the old folder is as it was.
pub fn replace_dir<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let temporary = temporary(path);
    let filled = (|| {
        reach_path(Point::Create, path)?;
        fs::create_dir_all(&temporary)?;
        fill(&temporary)?;
        Ok(sync(&temporary)?)
    })();
    let placed = filled.and_then(|()| Ok(put_in_place(&temporary, path)?));
    if placed.is_err() {
        // As above: the first error is the one to report.
        let _ = std::fs::remove_dir_all(&temporary);
    }
    placed
}

fn put_in_place(temporary: &Path, path: &Path) -> io::Result<()> {
    let old = previous(path);
    if path.exists() {
        remove_dir(&old)?;
        reach_path(Point::Rename, &old)?;
        fs::rename(path, &old)?;
    }
    let renamed = reach_path(Point::Rename, path).and_then(|()| fs::rename(temporary, path));
    if let Err(e) = renamed {
        if old.exists() {
            fs::rename(&old, path)?;
        }
        return Err(e);
    }
    sync_parent(path)?;
    remove_dir(&old)
}

/// Replaces the folder `to` by one with the files of `from`, which they share on the disk where it can: files that are
/// written whole never change under the other name.
///
/// # Errors
/// As [`replace_dir`].
pub fn link_dir(from: &Path, to: &Path) -> io::Result<()> {
    replace_dir(to, |dir| {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let target = dir.join(entry.file_name());
            reach_path(Point::Link, &target)?;
            if fs::hard_link(entry.path(), &target).is_err() {
                fs::copy(entry.path(), &target)?;
                sync(&target)?;
            }
        }
        Ok(())
    })
}

/// Removes the folder, if it is there.
///
/// # Errors
/// It is there and cannot be removed.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    reach_path(Point::Remove, path)?;
    fs::remove_dir_all(path)
}

/// Cleans a folder of what killed writers left in it: what was not finished goes, a folder that was being replaced
/// comes back. To be called by the only writer there is.
///
/// # Errors
/// The folder cannot be read or something in it not be moved or removed.
pub fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if is_temporary(name) {
            if path.is_dir() { remove_dir(&path)? } else { fs::remove_file(&path)? }
        } else if let Some(name) = name.strip_suffix(PREVIOUS) {
            let current = path.with_file_name(name);
            if current.exists() { remove_dir(&path)? } else { fs::rename(&path, &current)? }
        }
    }
    Ok(())
}

/// Whether a name is that of a file or folder which was never finished.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(TEMPORARY)
}

const PREVIOUS: &str = ".previous";

/// Where [`replace_dir`] keeps the old folder while it puts the new one in place.
pub fn previous(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(PREVIOUS);
    path.with_file_name(name)
}

/// The file behind a name: itself, or what a chain of symbolic links ends in, which need not be there.
fn target(path: &Path) -> io::Result<PathBuf> {
    /// As Linux has it.
    const MOST_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&path) {
            Ok(behind) => path = path.parent().unwrap_or(Path::new("")).join(behind),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other(format!("{}: expected a file, found links that lead nowhere", path.display())))
}

/// A hidden name beside `path` that nobody has: process and count keep writers apart.
fn temporary(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        name.push(format!(".{}-{count}{TEMPORARY}", std::process::id()));
        let temporary = path.with_file_name(name);
        if std::fs::symlink_metadata(&temporary).is_err() {
            return temporary;
        }
    }
}

fn sync_file(file: &fs::File, path: &Path) -> io::Result<()> {
    reach_path(Point::Sync, path)?;
    file.sync_all()
}

/// A rename is on the disk once its folder is.
fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
        _ => sync(Path::new(".")),
    }
}

fn sync(path: &Path) -> io::Result<()> {
    reach_path(Point::Sync, path)?;
    // Elsewhere folders cannot be opened.
    if cfg!(unix) { fs::File::open(path)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::during;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Every step of every write fails once, with a full and with a broken disk: old or new, and nothing is left over.
    #[test]
    fn a_fault_at_any_step_leaves_the_old_content_or_the_new() {
        let points = ["create", "write", "sync", "rename", "link", "remove"];
        let mut faults = 0;
        for (error, point) in ["enospc", "eio"].into_iter().flat_map(|e| points.map(|p| (e, p))) {
            for nth in 1.. {
                let dir = tempfile::tempdir().unwrap();
                let (file, folder, linked) =
                    (dir.path().join("a.csv"), dir.path().join("step-2"), dir.path().join("last"));
                let write = |text: &'static str| {
                    write_atomic(&file, text.as_bytes())?;
                    replace_dir(&folder, |dir| write_atomic(&dir.join("state"), text.as_bytes()))?;
                    link_dir(&folder, &linked)
                };
                write("old").unwrap();
                let result = during(&format!("{error}@{point}#{nth}"), || write("new"));
                for path in [&file, &folder.join("state"), &linked.join("state")] {
                    let text = fs::read_to_string(path).unwrap();
                    assert!(text == "old" || text == "new", "{error}@{point}#{nth}: {text}");
                }
                sweep(dir.path()).unwrap();
                assert_eq!(names(dir.path()), ["a.csv", "last", "step-2"], "{error}@{point}#{nth}");
                write("next").unwrap();
                assert_eq!(fs::read_to_string(linked.join("state")).unwrap(), "next");
                match result {
                    Ok(()) => break,
                    Err(e) => assert!(e.to_string().contains('/'), "the path is named: {e}"),
                }
                faults += 1;
            }
        }
        assert!(faults > 20, "{faults} faults");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_pipes_written_into_and_a_users_own_files_left_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("real"), "old").unwrap();
        fs::set_permissions(path("real"), std::fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(path("real.tmp"), "the user's").unwrap();
        std::os::unix::fs::symlink("real", path("link")).unwrap();
        write_atomic(&path("link"), b"new").unwrap();
        assert!(fs::symlink_metadata(path("link")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(path("real")).unwrap(), "new");
        assert_eq!(fs::metadata(path("real")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(path("real.tmp")).unwrap(), "the user's");

        let pipe = path("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || fs::read_to_string(pipe).unwrap())
        };
        write_atomic(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        write_atomic(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());

        std::os::unix::fs::symlink("b", path("a")).unwrap();
        std::os::unix::fs::symlink("a", path("b")).unwrap();
        assert!(write_atomic(&path("a"), b"x").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn reading_ends_at_the_limit_and_at_what_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, [7; 100]).unwrap();
        let mut bytes = vec![1];
        read_within(&path, 100, &mut bytes).unwrap();
        assert_eq!(bytes, [7; 100]);
        let message = read_within(&path, 99, &mut bytes).unwrap_err().to_string();
        assert!(message.ends_with("a: expected at most 99 bytes, found 100"), "{message}");
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (path, kind) in [(&pipe, "a pipe, socket or device"), (&dir.path().to_owned(), "a folder")] {
            let message = read_within(path, 100, &mut bytes).unwrap_err().to_string();
            assert!(message.ends_with(&format!("expected a regular file, found {kind}")), "{message}");
        }
        assert!(read_within(Path::new("/dev/zero"), 100, &mut bytes).is_err());
    }

    /// What a kill leaves at its worst moment: the old folder under its other name, the new one unfinished.
    #[test]
    fn a_sweep_brings_the_old_folder_back() {
        let dir = tempfile::tempdir().unwrap();
        let last = dir.path().join("last");
        fs::create_dir_all(previous(&last)).unwrap();
        fs::create_dir_all(temporary(&last)).unwrap();
        fs::write(temporary(&dir.path().join("config.toml")), "half").unwrap();
        fs::write(dir.path().join("notes.tmp"), "the user's").unwrap();
        sweep(dir.path()).unwrap();
        assert_eq!(names(dir.path()), ["last", "notes.tmp"]);
    }
}
