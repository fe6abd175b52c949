//! Configuration files as tables: read within bounds, and whatever is wrong with them named.

use std::path::Path;

use ff_core::files::read_within;
use toml::{Table, Value};

use crate::{Error, Result};

/// Version of `config.toml`. Keys that come and go do not change it: those that are missing get defaults.
pub const FORMAT: i64 = 1;
/// The key that says it.
pub const FORMAT_KEY: &str = "format";
/// Files are a few kilobytes; whatever is larger than this is no configuration.
const MOST_BYTES: u64 = 1 << 20;

/// Keys that have another name today: section, old and new name.
const RENAMED: [(&str, &str, &str); 1] = [("loss", "age", "ordered")];

/// Reads a file as a table, under the names that keys have today.
///
/// # Errors
/// It cannot be read, is larger than a mebibyte, no UTF-8 or no TOML; the message names file and line.
pub fn read(path: &Path) -> Result<Table> {
    let bad = |message: String| Error::Config { origin: path.display().to_string(), message };
    let mut bytes = Vec::new();
    read_within(path, MOST_BYTES, &mut bytes)?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..good].iter().filter(|&&byte| byte == b'\n').count();
        bad(format!("line {line}: expected UTF-8, found the byte 0x{:02x}", e.as_bytes()[good]))
    })?;
    let mut table: Table = text.parse().map_err(|e: toml::de::Error| {
        let at = e.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count();
        bad(format!("line {line}: expected TOML: {}", e.message().replace('\n', ", ")))
    })?;
    for (section, old, new) in RENAMED {
        if let Some(section) = table.get_mut(section).and_then(Value::as_table_mut)
            && !section.contains_key(new)
            && let Some(value) = section.remove(old)
        {
            section.insert(new.to_owned(), value);
        }
    }
    Ok(table)
}

/// Takes the format's version out of a table; a file without one is of the first.
///
/// # Errors
/// It is no whole number.
pub fn take_format(table: &mut Table, origin: &str) -> Result<i64> {
    match table.remove(FORMAT_KEY) {
        None => Ok(FORMAT),
        Some(Value::Integer(format)) => Ok(format),
        Some(found) => Err(Error::Config {
            origin: origin.to_owned(),
            message: format!("{FORMAT_KEY}: expected a whole number, found {found}"),
        }),
    }
}
