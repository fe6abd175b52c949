//! Room on disks, asked before long work fills them.

use std::io;
use std::path::{Path, PathBuf};

/// Bytes that may still be written below a folder; `None` where the system does not say.
#[cfg(unix)]
pub fn free(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Bytes that may still be written below a folder; `None` where the system does not say.
#[cfg(not(unix))]
pub fn free(_dir: &Path) -> Option<u64> {
    None
}

/// Refuses work that disks have no room for: folders, which need not be there yet, and bytes for each. What goes to one
/// disk is added up.
///
/// # Errors
/// A disk has less room: how much is needed, for what, and how much is free.
pub fn check_room(needs: &[(&Path, u64)]) -> io::Result<()> {
    let mut disks: Vec<(PathBuf, u64, Vec<String>)> = Vec::new();
    for &(dir, bytes) in needs {
        let Some(existing) = existing_parent(dir) else { continue };
        let what = format!("{} MiB in {}", bytes.div_ceil(1 << 20), dir.display());
        match disks.iter_mut().find(|(other, ..)| same_disk(other, &existing)) {
            Some((_, sum, whats)) => {
                *sum = sum.saturating_add(bytes);
                whats.push(what);
            }
            None => disks.push((existing, bytes, vec![what])),
        }
    }
    for (dir, needed, whats) in disks {
        if let Some(free) = free(&dir).filter(|&free| free < needed) {
            let free = free >> 20;
            let message = format!("not enough room: expected {}, found {free} MiB free", whats.join(" and "));
            return Err(io::Error::new(io::ErrorKind::StorageFull, message));
        }
    }
    Ok(())
}

/// The folder itself, or the nearest above it that is there.
fn existing_parent(dir: &Path) -> Option<PathBuf> {
    std::path::absolute(dir).ok()?.ancestors().find(|dir| dir.is_dir()).map(Path::to_owned)
}

#[cfg(unix)]
fn same_disk(a: &Path, b: &Path) -> bool {
    let device = |dir: &Path| {
        fs_err::metadata(dir).ok().map(|metadata| std::os::unix::fs::MetadataExt::dev(&metadata))
    };
    device(a) == device(b)
}

#[cfg(not(unix))]
fn same_disk(a: &Path, b: &Path) -> bool {
    a == b
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_goes_to_one_disk_is_added_up_and_refused_with_figures() {
        let dir = tempfile::tempdir().unwrap();
        let (images, cache) = (dir.path().join("a/b"), dir.path().join("cache"));
        let free = free(dir.path()).unwrap();
        check_room(&[(&images, free / 4), (&cache, free / 4)]).unwrap();
        let error = check_room(&[(&images, free / 4 * 3), (&cache, free / 4 * 3)]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let message = error.to_string();
        let needed = (free / 4 * 3).div_ceil(1 << 20);
        for part in [
            format!("expected {needed} MiB in {} and {needed} MiB in ", images.display()),
            "MiB free".to_owned(),
        ] {
            assert!(message.contains(&part), "{part:?} is missing in {message}");
        }
        assert!(!images.exists(), "asking makes nothing");
        check_room(&[(&images, u64::MAX), (&cache, u64::MAX)]).unwrap_err();
    }
}
