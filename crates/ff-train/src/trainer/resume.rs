//! Going on under a changed configuration: what differs, and what would be unsound.

use toml::{Table, Value};

use crate::checkpoint::Position;
use crate::config::Config;
use crate::{Error, Result};

/// A setting that is not what the run was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// As `train.epochs`.
    pub key: String,
    /// The value before; `none` where there was none.
    pub before: String,
    /// The value now.
    pub after: String,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} -> {}", self.key, self.before, self.after)
    }
}

/// Settings whose state in the checkpoint would have no meaning under another value.
const NEVER: [&str; 1] = ["optimizer.kind"];
/// Settings that decide which images the rest of an epoch has: a position inside it would mean something else.
const BETWEEN_EPOCHS: [&str; 3] = ["data.batch_size", "train.seed", "optimizer.accumulate"];

/// Every setting that differs.
pub fn changes(before: &Config, after: &Config) -> Vec<Change> {
    let flat = |config: &Config| {
        let mut settings = Vec::new();
        flatten("", Table::try_from(config).expect("a configuration is valid TOML"), &mut settings);
        settings
    };
    let (before, after) = (flat(before), flat(after));
    let get = |settings: &[(String, String)], key: &str| {
        let found = settings.iter().find(|(k, _)| k == key);
        found.map_or_else(|| "none".to_owned(), |(_, value)| value.clone())
    };
    let mut keys: Vec<&String> = before.iter().chain(&after).map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    let differing = keys.into_iter().map(|key| Change {
        key: key.clone(),
        before: get(&before, key),
        after: get(&after, key),
    });
    differing.filter(|change| change.before != change.after).collect()
}

/// Refuses what would be unsound for a run that stands at `position`.
///
/// # Errors
/// [`Error::Config`] names the setting, and when it may change.
pub fn check(changes: &[Change], position: &Position) -> Result<()> {
    for change in changes {
        let Change { key, before, after } = change;
        let when = match key.as_str() {
            key if NEVER.contains(&key) => "in a new run",
            key if BETWEEN_EPOCHS.contains(&key) && position.batch > 0 => "at the end of an epoch",
            _ => continue,
        };
        let message =
            format!("expected {before}, as the run was started with, found {after}; it can change {when}");
        return Err(Error::Config { origin: key.clone(), message });
    }
    Ok(())
}

fn flatten(prefix: &str, table: Table, settings: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(table) => flatten(&key, table, settings),
            value => settings.push((key, value.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_and_unsound_ones_refused() {
        let before = Config::default();
        let mut after = before.clone();
        after.train.epochs = 9;
        after.train.patience = Some(2);
        let found = changes(&before, &after);
        let text: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["train.epochs: 5 -> 9", "train.patience: none -> 2"]);
        let inside = Position { batch: 3, ..Position::default() };
        check(&found, &inside).unwrap();

        after.data.batch_size = 8;
        let found = changes(&before, &after);
        check(&found, &Position::default()).unwrap();
        let message = check(&found, &inside).unwrap_err().to_string();
        assert!(message.starts_with("data.batch_size: expected 32,"), "{message}");
        after.optimizer.kind = crate::optimizer::OptimizerKind::Sgd;
        assert!(check(&changes(&before, &after), &Position::default()).is_err());
    }
}
