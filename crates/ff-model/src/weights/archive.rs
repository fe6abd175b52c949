//! Zip archives as `torch.save` writes them: entries are stored, never compressed, so nothing grows when it is read.

use std::collections::BTreeMap;

/// How a zip archive begins.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";
const END: &[u8] = b"PK\x05\x06";
const END_LEN: usize = 22;
/// Where the end record of an archive with 64-bit sizes lies; it stands before the end record.
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_LEN: usize = 20;
const END_64: &[u8] = b"PK\x06\x06";
const ENTRY: &[u8] = b"PK\x01\x02";
const ENTRY_LEN: usize = 46;
/// A comment at the archive's end is no longer.
const MAX_COMMENT: usize = 0xffff;
/// The extra field that holds 64-bit sizes.
const ZIP64: usize = 1;

/// The entries of an archive, by name.
///
/// # Errors
/// It is damaged, or has an entry that is compressed, encrypted, or shares bytes with others.
pub(super) fn entries(archive: &[u8]) -> Result<BTreeMap<&str, Entry<'_>>, String> {
    let (mut at, n) = directory(archive).ok_or("the archive's directory is missing: the file is cut off")?;
    let mut entries = BTreeMap::new();
    // Entries that share bytes would let a small file hold any amount.
    let mut room = archive.len();
    for i in 0..n {
        let damaged = || format!("the archive's directory is damaged at entry {i} of {n}");
        let header = archive.get(at..).and_then(|rest| rest.get(..ENTRY_LEN)).ok_or_else(damaged)?;
        if !header.starts_with(ENTRY) {
            return Err(damaged());
        }
        let [name_len, extra_len, comment_len] = [28, 30, 32].map(|place| number(header, place, 2));
        let name = archive.get(at + ENTRY_LEN..).and_then(|rest| rest.get(..name_len)).ok_or_else(damaged)?;
        let name = std::str::from_utf8(name).map_err(|_| damaged())?;
        let extra = archive.get(at + ENTRY_LEN + name_len..).and_then(|rest| rest.get(..extra_len));
        let [flags, method] = [8, 10].map(|place| number(header, place, 2));
        if method != 0 || flags & 1 != 0 {
            return Err(format!(
                "{name}: expected a stored entry, as torch.save writes it, found method {method}, flags {flags:#x}"
            ));
        }
        // Where a number does not fit into 32 bits, the extra field has it, in this order.
        let mut wide = wide(extra.ok_or_else(damaged)?);
        let mut size = |place| match number(header, place, 4) {
            0xffff_ffff => wide.next().ok_or_else(damaged),
            size => Ok(size),
        };
        let (len, stored, begin) = (size(24)?, size(20)?, size(42)?);
        room = room.checked_sub(len).filter(|_| len == stored).ok_or_else(|| {
            format!("{name}: expected entries of the archive's {} bytes together, found more", archive.len())
        })?;
        let bytes = contents(archive, begin, len)
            .ok_or_else(|| format!("{name}: expected {len} bytes at {begin}, found the archive's end"))?;
        let crc = number(header, 16, 4) as u32;
        if entries.insert(name, Entry { bytes, crc }).is_some() {
            return Err(format!("{name}: expected one entry of this name, found two"));
        }
        at += ENTRY_LEN + name_len + extra_len + comment_len;
    }
    Ok(entries)
}

/// The contents of a file in an archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    bytes: &'a [u8],
    crc: u32,
}

impl<'a> Entry<'a> {
    /// Its bytes, if they are what was written.
    pub(super) fn read(self, name: &str) -> Result<&'a [u8], String> {
        let found = crc32fast::hash(self.bytes);
        let message = || format!("{name}: expected CRC-32 {:08x}, found {found:08x}: damaged", self.crc);
        if found == self.crc { Ok(self.bytes) } else { Err(message()) }
    }
}

/// Where the directory begins, and how many entries it has.
fn directory(archive: &[u8]) -> Option<(usize, usize)> {
    let last = archive.len().checked_sub(END_LEN)?;
    let end = (last.saturating_sub(MAX_COMMENT)..=last).rev().find(|&at| archive[at..].starts_with(END))?;
    let locator = end.checked_sub(LOCATOR_LEN).map(|at| &archive[at..]).filter(|l| l.starts_with(LOCATOR));
    if let Some(locator) = locator {
        let end =
            archive.get(number(locator, 8, 8)..).filter(|end| end.starts_with(END_64) && end.len() >= 56)?;
        return Some((number(end, 48, 8), number(end, 32, 8)));
    }
    let end = &archive[end..];
    Some((number(end, 16, 4), number(end, 10, 2)))
}

/// What lies behind the header at `begin`, which has lengths of its own.
fn contents(archive: &[u8], begin: usize, len: usize) -> Option<&[u8]> {
    let header = archive.get(begin..).filter(|header| header.starts_with(MAGIC) && header.len() >= 30)?;
    let skipped = 30 + number(header, 26, 2) + number(header, 28, 2);
    header.get(skipped..).and_then(|rest| rest.get(..len))
}

/// The 64-bit numbers of an entry's extra fields.
fn wide(mut extra: &[u8]) -> impl Iterator<Item = usize> {
    let mut found = [].as_slice();
    while let Some((head, rest)) = extra.split_at_checked(4) {
        let Some((field, rest)) = rest.split_at_checked(number(head, 2, 2)) else { break };
        if number(head, 0, 2) == ZIP64 {
            found = field;
        }
        extra = rest;
    }
    found.chunks_exact(8).map(|bytes| number(bytes, 0, 8))
}

/// The little-endian number of `n_bytes` bytes at a place; what does not fit is too large for any file.
fn number(bytes: &[u8], place: usize, n_bytes: usize) -> usize {
    let n = bytes[place..place + n_bytes].iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
    usize::try_from(n).unwrap_or(usize::MAX)
}
