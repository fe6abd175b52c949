//! Settings of the whole process that other crates cannot make without `unsafe`.

/// Limits the threads of candle and rayon to `n`, by the environment variable that both read on first use.
///
/// Call it at the start of `main`, before any other thread exists and before any tensor is made: afterwards the
/// pools have their size and the call changes nothing.
pub fn limit_threads(n: usize) {
    // SAFETY: the contract above: no other thread is running that could read the environment meanwhile.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", n.to_string()) }
}
