//! What the host does beside numbers: memory handed out in parts, and the threads of the process.
//!
//! | module | what |
//! |---|---|
//! | [`claims`] | memory whose parts are handed out to threads, each once |
//! | [`process`] | thread limits of the whole process |

pub mod claims;
pub mod process;
