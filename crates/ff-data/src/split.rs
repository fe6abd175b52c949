//! Train, validation or test, and the file of each.

use std::path::{Path, PathBuf};

/// Which split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// The rows that train the model and fix the encoders.
    Train,
    /// The rows that choose the best checkpoint.
    Val,
    /// The rows that are looked at once.
    Test,
}

impl Split {
    /// Every split.
    pub const ALL: [Split; 3] = [Split::Train, Split::Val, Split::Test];

    /// `train`, `val` or `test`.
    pub const fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }

    /// The file's name in a splits folder.
    pub const fn file_name(self) -> &'static str {
        match self {
            Split::Train => "ff_train.csv",
            Split::Val => "ff_val.csv",
            Split::Test => "ff_test.csv",
        }
    }

    /// The file's path in a splits folder.
    pub fn path(self, dir: impl AsRef<Path>) -> PathBuf {
        dir.as_ref().join(self.file_name())
    }
}
