//! Scalars in TensorBoard's event files.
//!
//! A file is a row of TFRecords (length, masked CRC-32C, an `Event` message, masked CRC-32C); the few fields of `Event`
//! that scalars need are encoded here by hand. A writer never touches older files: it begins its own, whose name sorts
//! after theirs, with the mark by which TensorBoard forgets what they hold from this step on. So a resumed run shows
//! every step once. No images, histograms or graphs; nothing is read.
//!
//! Formats: `tensorflow/core/lib/io/record_writer.cc`, `tensorboard/compat/proto/{event,summary}.proto`.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;

use crate::Result;

/// Writes one event file.
#[derive(Debug)]
pub struct EventWriter {
    file: BufWriter<fs::File>,
}

impl EventWriter {
    /// Begins a file in `dir` for a run, or for the part of it that starts with step `first_step`.
    pub fn create(dir: &Path, first_step: u64) -> Result<Self> {
        let now = seconds_since_epoch();
        let file = fs::File::create_new(next_path(dir, now as u64)?)?;
        let mut writer = Self { file: BufWriter::new(file) };
        writer.record(&event(now, 0, Content::FileVersion))?;
        writer.record(&event(now, first_step, Content::Start))?;
        writer.flush()?;
        Ok(writer)
    }

    /// Writes the values that tags, such as `train/loss`, have at `step`.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        self.record(&event(seconds_since_epoch(), step, Content::Scalars(values)))
    }

    /// Hands to the file what is still in memory. Dropping the writer does so too, but cannot report an error.
    pub fn flush(&mut self) -> Result<()> {
        Ok(self.file.flush()?)
    }

    fn record(&mut self, event: &[u8]) -> Result<()> {
        Ok(self.file.write_all(&framed(event))?)
    }
}

/// The name for a file that is begun now: TensorBoard reads files in the order of their names, whatever the clock did.
fn next_path(dir: &Path, now: u64) -> Result<PathBuf> {
    const PREFIX: &str = "events.out.tfevents.";
    let mut second = now;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next());
        if let Some(taken) = digits.and_then(|digits| digits.parse::<u64>().ok()) {
            second = second.max(taken + 1);
        }
    }
    Ok(dir.join(format!("{PREFIX}{second:010}.fairface")))
}

fn seconds_since_epoch() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// What an event says.
enum Content<'a> {
    /// The file's format; the first event must have it.
    FileVersion,
    /// Events of older files from this step on count no more (`SessionLog.START`).
    Start,
    /// Tags and values (`Summary`).
    Scalars(&'a [(&'a str, f64)]),
}

/// A protobuf `Event`: 1 = wall time (seconds), 2 = step, 3 = file version, 5 = summary, 7 = session log.
fn event(wall_time: f64, step: u64, content: Content) -> Vec<u8> {
    let mut event = Vec::new();
    put_double(&mut event, 1, wall_time);
    put_varint_field(&mut event, 2, step);
    match content {
        Content::FileVersion => put_bytes(&mut event, 3, b"brain.Event:2"),
        Content::Scalars(values) => {
            let mut summary = Vec::new();
            for (tag, value) in values {
                // A protobuf `Summary.Value`: 1 = tag, 2 = simple_value.
                let mut scalar = Vec::new();
                put_bytes(&mut scalar, 1, tag.as_bytes());
                put_float(&mut scalar, 2, *value as f32);
                put_bytes(&mut summary, 1, &scalar);
            }
            put_bytes(&mut event, 5, &summary);
        }
        Content::Start => {
            const START: u64 = 1;
            let mut session_log = Vec::new();
            put_varint_field(&mut session_log, 1, START);
            put_bytes(&mut event, 7, &session_log);
        }
    }
    event
}

/// Wire types of protobuf.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

fn put_key(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    put_varint(out, field << 3 | wire_type);
}

fn put_double(out: &mut Vec<u8>, field: u64, value: f64) {
    put_key(out, field, FIXED64);
    out.extend(value.to_le_bytes());
}

fn put_float(out: &mut Vec<u8>, field: u64, value: f32) {
    put_key(out, field, FIXED32);
    out.extend(value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(out, field, LENGTH_DELIMITED);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Leaves zeros out, as protobuf's own writers do.
fn put_varint_field(out: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        put_key(out, field, VARINT);
        put_varint(out, value);
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// `data` as a TFRecord.
fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length, &masked_crc(&length).to_le_bytes()[..], data, &masked_crc(data).to_le_bytes()].concat()
}

/// CRC-32C, rotated and shifted so that a checksum of data that hold checksums is no trivial one.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: events are short and few.
fn crc32c(data: &[u8]) -> u32 {
    const REVERSED_POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = !0u32;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (REVERSED_POLYNOMIAL & 0u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnolis() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    /// Expected bytes: `tests/tfevents_golden.py`, written by the tensorboard package.
    #[test]
    fn bytes_are_those_of_tensorboards_own_writer() {
        let wall_time = 1_700_000_000.25;
        let values = [("train/loss", 3.5), ("train/lr", 1e-4), ("val/größe", -0.0), ("nan", f64::NAN)];
        let events = [
            event(wall_time, 0, Content::FileVersion),
            event(wall_time, 301, Content::Start),
            event(wall_time + 1.0, 301, Content::Scalars(&values)),
            event(wall_time + 2.0, u64::from(u32::MAX) + 7, Content::Scalars(&values[..1])),
        ];
        let found: Vec<u8> = events.iter().flat_map(|event| framed(event)).collect();
        assert_eq!(found, include_bytes!("../../tests/tfevents_golden.bin"));
    }

    #[test]
    fn names_sort_after_those_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            EventWriter::create(dir.path(), 1).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        let backwards = next_path(dir.path(), 5).unwrap();
        let existing = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        assert!(existing.max().unwrap() < backwards, "also when the clock went back");
    }
}
