//! Settings of the whole process that other crates cannot make without `unsafe`.

/// What candle, and rayon under it, ask for how many threads to use: candle anew for each matrix product.
const VARIABLE: &str = "RAYON_NUM_THREADS";

/// Limits the threads of candle and rayon to `n`, by the environment variable that both read; whether that is so now.
///
/// Another thread might read the environment while it is set, so it is set only where there is none: at the start of
/// `main`, on Linux or Windows. Pools that were made before keep their size.
pub fn limit_threads(n: usize) -> bool {
    let value = n.to_string();
    if std::env::var_os(VARIABLE).is_some_and(|found| found.as_os_str() == value.as_str()) {
        return true;
    }
    let may_set = is_only_thread();
    if may_set {
        // SAFETY: no other thread runs that could read the environment meanwhile, or the system's allows it.
        unsafe { std::env::set_var(VARIABLE, value) }
    }
    may_set
}

/// Whether nobody else can read the environment now.
#[cfg(target_os = "linux")]
fn is_only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Windows has a lock around the environment; elsewhere nothing tells.
#[cfg(not(target_os = "linux"))]
fn is_only_thread() -> bool {
    cfg!(windows)
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    /// A test runs beside the thread that started it.
    #[test]
    fn the_environment_is_left_alone_while_other_threads_run() {
        let before = std::env::var_os(VARIABLE);
        assert!(!limit_threads(1_000_003), "the variable was set, or was so before");
        assert_eq!(std::env::var_os(VARIABLE), before);
    }
}
