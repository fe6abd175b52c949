//! Which keys there are, and what somebody meant who wrote another.
//!
//! What a user writes is strict: an unknown key or a value of another kind is an error that names the key. A run's own
//! file may be of another version: what it has too much is set aside.

use ff_core::text::nearest;
use toml::{Table, Value};

use super::{Config, RunConfig};
use crate::optim::OptimizerConfig;
use crate::{Error, Result};

/// Every key with a value of its kind, those included that are left out where they are not set.
fn known() -> Table {
    let mut config = Config {
        optimizer: OptimizerConfig {
            clip_norm: Some(1.0),
            ema_decay: Some(0.5),
            swa_from: Some(1),
            frozen_lr: Some(1.0),
            ..OptimizerConfig::default()
        },
        run: RunConfig {
            dir: Some("runs/train-001".into()),
            checkpoint_steps: Some(1),
            ..RunConfig::default()
        },
        ..Config::default()
    };
    config.data.decisions = Some("decisions.csv".into());
    config.data.decisions_sha256 = Some(String::new());
    config.loss.teacher = Some("teacher.safetensors".into());
    config.train.max_steps = Some(1);
    config.train.patience = Some(1);
    Table::try_from(config).expect("a configuration is valid TOML")
}

/// Refuses keys that there are not and values of the wrong kind.
///
/// # Errors
/// [`Error::Config`] of this origin names the first such key, and the one that was probably meant.
pub fn check(layer: &Table, origin: &str) -> Result<()> {
    let known = known();
    check_section(layer, &known, "", &known)
        .map_err(|message| Error::Config { origin: origin.to_owned(), message })
}

fn check_section(layer: &Table, known: &Table, prefix: &str, all: &Table) -> Result<(), String> {
    for (name, value) in layer {
        let key = join(prefix, name);
        match (known.get(name), value) {
            (None, Value::Table(_)) if prefix.is_empty() => {
                let sections = || known.keys().map(String::as_str);
                let written = |(name, value): (&String, &Value)| match value {
                    Value::Array(_) => format!("[[{name}]]"),
                    _ => format!("[{name}]"),
                };
                let all = || known.iter().map(written).collect::<Vec<_>>().join(", ");
                let hint = nearest(name, sections()).map_or_else(
                    || format!("; there are {}", all()),
                    |section| format!(": did you mean [{section}]?"),
                );
                return Err(format!("unknown section [{name}]{hint}"));
            }
            (None, _) => return Err(format!("unknown key {key}{}", hint(name, known, prefix, all))),
            // A table of names that are the user's.
            (Some(Value::Table(known)), Value::Table(layer)) if known.is_empty() => {
                let number = Value::Float(0.0);
                layer.iter().try_for_each(|(name, value)| check_kind(&join(&key, name), &number, value))?;
            }
            (Some(Value::Table(known)), Value::Table(layer)) => check_section(layer, known, &key, all)?,
            (Some(expected), found) => check_kind(&key, expected, found)?,
        }
    }
    Ok(())
}

/// What to say about an unknown key: the nearest one of its section, else the same one of another section, else all.
fn hint(name: &str, section: &Table, prefix: &str, all: &Table) -> String {
    if !prefix.is_empty()
        && let Some(near) = nearest(name, section.keys().map(String::as_str))
    {
        return format!(": did you mean {}?", join(prefix, near));
    }
    let mut elsewhere = Vec::new();
    flatten("", all, &mut elsewhere);
    let last = |key: &String| key.rsplit('.').next() == Some(name);
    if let Some(key) = elsewhere.into_iter().find(last) {
        return format!(": did you mean {key}?");
    }
    match prefix {
        "" => "; keys stand in sections, as epochs in [train]".to_owned(),
        _ => format!("; [{prefix}] has {}", section.keys().cloned().collect::<Vec<_>>().join(", ")),
    }
}

fn check_kind(key: &str, expected: &Value, found: &Value) -> Result<(), String> {
    let (fits, expected) = match (expected, found) {
        (Value::Integer(_), Value::Integer(n)) => (*n >= 0, "a whole number of at least 0"),
        (Value::Integer(_), _) => (false, "a whole number"),
        (Value::Float(_), found) => (matches!(found, Value::Float(_) | Value::Integer(_)), "a number"),
        (Value::Boolean(_), found) => (found.is_bool(), "true or false"),
        (Value::Table(_), _) => (false, "a section"),
        (Value::Array(_), found) => (found.is_array(), "a list, as [[tasks]] makes one"),
        (_, found) => (found.is_str(), "a text in quotes"),
    };
    if fits {
        return Ok(());
    }
    let found = match found {
        Value::Table(_) => "a section".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        found => found.to_string(),
    };
    Err(format!("{key}: expected {expected}, found {found}"))
}

/// Takes out what is no key of this version, and gives the names.
pub fn set_aside(table: &mut Table) -> Vec<String> {
    let mut aside = Vec::new();
    take_unknown(table, &known(), "", &mut aside);
    aside
}

fn take_unknown(table: &mut Table, known: &Table, prefix: &str, aside: &mut Vec<String>) {
    table.retain(|name, value| {
        let key = join(prefix, name);
        match (known.get(name), value) {
            (Some(Value::Table(known)), Value::Table(section)) if !known.is_empty() => {
                take_unknown(section, known, &key, aside);
                true
            }
            (Some(_), _) => true,
            (None, _) => {
                aside.push(key);
                false
            }
        }
    });
}

fn flatten(prefix: &str, table: &Table, keys: &mut Vec<String>) {
    for (name, value) in table {
        match value {
            Value::Table(section) => flatten(&join(prefix, name), section, keys),
            _ => keys.push(join(prefix, name)),
        }
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that is left out while it is not set would else be refused as unknown.
    #[test]
    fn every_key_that_can_be_read_is_known() {
        let known = known();
        let sections = std::iter::once(("", &known))
            .chain(known.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_table()?))));
        for (section, table) in sections {
            let mut wrong = Table::try_from(Config::default()).unwrap();
            let target = match section {
                "" => &mut wrong,
                section => wrong[section].as_table_mut().unwrap(),
            };
            target.insert("?".to_owned(), Value::Boolean(true));
            // Serde lists every field: "unknown field `?`, expected one of `epochs`, ...".
            let message = Config::deserialize_strictly(wrong).unwrap_err();
            let fields = message.split("expected").nth(1).unwrap().split('`').skip(1).step_by(2);
            let mut fields: Vec<&str> = fields.collect();
            let mut keys: Vec<&str> = table.keys().map(String::as_str).collect();
            fields.sort_unstable();
            keys.sort_unstable();
            fields.retain(|field| *field != "?" && *field != section);
            assert_eq!(fields, keys, "[{section}]");
        }
    }
}
