//! Panics of somebody else's code on malformed files, turned into messages without a word on stderr.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::Once,
};

use ff_core::text::panic_message;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic in it is an `Err` with its message. Panics elsewhere are told as before.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let tell = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                tell(panic);
            }
        }));
    });
    QUIET.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    done.map_err(|panic| panic_message(&*panic).to_owned())
}

#[cfg(test)]
mod tests {
    use super::quietly;

    #[test]
    fn a_panic_is_a_message_and_the_next_call_works() {
        let n = 7;
        assert_eq!(quietly(|| assert!(n == 8, "{n} is not 8")), Err("7 is not 8".to_owned()));
        assert_eq!(quietly(|| std::panic::panic_any(3)), Err("no message".to_owned()));
        assert_eq!(quietly(|| n), Ok(7));
    }
}
