//! Where files are kept that can be had again.

use std::path::PathBuf;

/// The folder `fairface` in the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`); `None` where neither is known.
/// A path that is not absolute does not count, as the XDG specification has it.
pub fn user_cache() -> Option<PathBuf> {
    let env = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = env("XDG_CACHE_HOME").or_else(|| env("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("fairface"))
}
