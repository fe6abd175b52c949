//! Pages: a piece of one column's values, compressed, in one of a few encodings.

use std::io::Read;

use super::footer::{Column, PhysicalType};
use super::hybrid;
use super::thrift::Compact;

/// Bytes of a page, before and after it is unpacked. Writers make pages of 1 MiB; a thousand of the largest images that
/// are taken for faces may share one.
const MAX_PAGE: u64 = 256 << 20;
/// Bytes of a page's header, which may have the least and the largest value in it.
const MAX_HEADER: u64 = 1 << 20;

/// A value of a column, in the page that it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Bool(bool),
    Int(i64),
    Bytes(&'a [u8]),
}

/// A page as it lies in the file.
pub(super) struct Page {
    head: Head,
    bytes: Vec<u8>,
}

/// What a page's header says.
struct Head {
    kind: PageKind,
    unpacked_len: u64,
    n_values: u64,
    encoding: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageKind {
    /// Levels and values, packed together.
    Data,
    /// Levels of so many bytes for repetition and definition, then values, which alone may be packed.
    DataV2 { repetition: u64, definition: u64, packed: bool },
    /// Values that data pages refer to.
    Dictionary,
    /// Something that nobody needs.
    Other,
}

/// The values that indices stand for.
#[derive(Default)]
pub(super) struct Dictionary {
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

/// Encodings by their numbers.
const PLAIN: u64 = 0;
const PLAIN_DICTIONARY: u64 = 2;
const RLE: u64 = 3;
const RLE_DICTIONARY: u64 = 8;

impl Page {
    /// Reads the next page.
    pub(super) fn read(mut input: impl Read) -> Result<Self, String> {
        let (head, len) = Head::read(Compact::new(input.by_ref().take(MAX_HEADER)))?;
        for len in [len, head.unpacked_len] {
            if len > MAX_PAGE {
                return Err(format!("expected a page of at most {MAX_PAGE} bytes, found {len}"));
            }
        }
        let mut bytes = Vec::new();
        input.take(len).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if bytes.len() as u64 != len {
            return Err(format!("expected a page of {len} bytes, found {}", bytes.len()));
        }
        Ok(Self { head, bytes })
    }

    /// The dictionary that it is; `None` if it is something else.
    pub(super) fn dictionary(&self, codec: u64, kind: PhysicalType) -> Result<Option<Dictionary>, String> {
        if self.head.kind != PageKind::Dictionary {
            return Ok(None);
        }
        expect_encoding(self.head.encoding, &[PLAIN, PLAIN_DICTIONARY])?;
        let bytes = unpack(codec, &self.bytes, self.head.unpacked_len)?;
        let (mut starts, mut at) = (Vec::new(), 0);
        for _ in 0..self.head.n_values {
            // Pages are far shorter than that.
            starts.push(at as u32);
            at += plain(kind, &bytes[at..])?.1;
        }
        Ok(Some(Dictionary { bytes, starts }))
    }

    /// Hands every row's value to `each`, `None` where there is none: how many. At most `most` rows are expected.
    pub(super) fn values<E: From<String>>(
        &self,
        codec: u64,
        column: &Column,
        dictionary: Option<&Dictionary>,
        most: u64,
        each: &mut dyn FnMut(Option<Value<'_>>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let Head { kind, n_values, encoding, unpacked_len } = self.head;
        if matches!(kind, PageKind::Dictionary | PageKind::Other) {
            return Ok(0);
        }
        if n_values > most {
            return Err(format!("expected at most {most} more values, found {n_values}").into());
        }
        let n = n_values as usize;
        let width = u32::BITS - column.max_definition.leading_zeros();
        let (levels, values) = match kind {
            PageKind::DataV2 { repetition, definition, packed } => {
                let (levels, values) = self.split_levels(repetition, definition)?;
                let rest = unpacked_len.saturating_sub((self.bytes.len() - values.len()) as u64);
                let values = unpack(if packed { codec } else { 0 }, values, rest)?;
                (hybrid::decode(levels, width, if width > 0 { n } else { 0 })?, values)
            }
            _ => {
                let mut values = unpack(codec, &self.bytes, unpacked_len)?;
                let levels = if width > 0 {
                    let (levels, at) = prefixed(&values)?;
                    let levels = hybrid::decode(levels, width, n)?;
                    values.drain(..at);
                    levels
                } else {
                    Vec::new()
                };
                (levels, values)
            }
        };
        let is_there = |i: usize| levels.get(i).is_none_or(|&level| level == column.max_definition);
        let n_there = (0..n).filter(|&i| is_there(i)).count();
        let mut source = Source::new(encoding, column.kind, &values, n_there, dictionary)?;
        for i in 0..n {
            if is_there(i) { each(Some(source.next()?))? } else { each(None)? }
        }
        Ok(n_values)
    }

    /// A newer data page's definition levels, and its values.
    fn split_levels(&self, repetition: u64, definition: u64) -> Result<(&[u8], &[u8]), String> {
        let split = || {
            let (_, rest) = self.bytes.split_at_checked(usize::try_from(repetition).ok()?)?;
            rest.split_at_checked(usize::try_from(definition).ok()?)
        };
        split().ok_or_else(|| {
            let found = self.bytes.len();
            format!("expected levels of {repetition} and {definition} bytes, found a page of {found}")
        })
    }
}

impl Head {
    /// The header, and the bytes of the page behind it.
    fn read(mut input: Compact<impl Read>) -> Result<(Self, u64), String> {
        let (mut kind, mut unpacked_len, mut len) = (None, None, None);
        let (mut n_values, mut encoding) = (0, PLAIN);
        let (mut repetition, mut definition, mut packed) = (0, 0, true);
        input.fields(|input, id, field| match id {
            1 => {
                kind = Some(input.count(field)?);
                Ok(())
            }
            2 => {
                unpacked_len = Some(input.count(field)?);
                Ok(())
            }
            3 => {
                len = Some(input.count(field)?);
                Ok(())
            }
            // Data and dictionary pages.
            5 | 7 => input.structure(field, |input, id, field| {
                match id {
                    1 => n_values = input.count(field)?,
                    2 => encoding = input.count(field)?,
                    _ => input.skip(field)?,
                }
                Ok(())
            }),
            // Newer data pages.
            8 => input.structure(field, |input, id, field| {
                match id {
                    1 => n_values = input.count(field)?,
                    4 => encoding = input.count(field)?,
                    5 => definition = input.count(field)?,
                    6 => repetition = input.count(field)?,
                    7 => packed = input.boolean(field)?,
                    _ => input.skip(field)?,
                }
                Ok(())
            }),
            _ => input.skip(field),
        })?;
        let (Some(kind), Some(unpacked_len), Some(len)) = (kind, unpacked_len, len) else {
            return Err("expected a page's kind and lengths, found not all of them".to_owned());
        };
        let kind = match kind {
            0 => PageKind::Data,
            2 => PageKind::Dictionary,
            3 => PageKind::DataV2 { repetition, definition, packed },
            _ => PageKind::Other,
        };
        Ok((Self { kind, unpacked_len, n_values, encoding }, len))
    }
}

/// Where a page's values come from, one after the other.
enum Source<'a> {
    Plain {
        kind: PhysicalType,
        bytes: &'a [u8],
    },
    /// Booleans, the lowest bit of a byte first.
    Bits {
        bytes: &'a [u8],
        at: usize,
    },
    Runs(std::vec::IntoIter<u32>),
    Indices {
        indices: std::vec::IntoIter<u32>,
        dictionary: &'a Dictionary,
        kind: PhysicalType,
    },
}

impl<'a> Source<'a> {
    fn new(
        encoding: u64,
        kind: PhysicalType,
        bytes: &'a [u8],
        n: usize,
        dictionary: Option<&'a Dictionary>,
    ) -> Result<Self, String> {
        match (encoding, kind) {
            (PLAIN, PhysicalType::Boolean) => Ok(Self::Bits { bytes, at: 0 }),
            (PLAIN, _) => Ok(Self::Plain { kind, bytes }),
            (RLE, PhysicalType::Boolean) => {
                Ok(Self::Runs(hybrid::decode(prefixed(bytes)?.0, 1, n)?.into_iter()))
            }
            (PLAIN_DICTIONARY | RLE_DICTIONARY, _) => {
                let dictionary = dictionary.ok_or("expected a dictionary before its use, found none")?;
                // A page without values need not have a width.
                let (&width, indices) = bytes.split_first().unwrap_or((&0, &[]));
                let indices = hybrid::decode(indices, u32::from(width), n)?.into_iter();
                Ok(Self::Indices { indices, dictionary, kind })
            }
            _ => Err(expect_encoding(encoding, &[PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY])
                .err()
                .unwrap_or_else(|| "expected another encoding".to_owned())),
        }
    }

    fn next(&mut self) -> Result<Value<'a>, String> {
        const ENDED: &str = "expected another value, found the end of the page";
        match self {
            Self::Plain { kind, bytes } => {
                let (value, len) = plain(*kind, bytes)?;
                *bytes = &bytes[len..];
                Ok(value)
            }
            Self::Bits { bytes, at } => {
                let byte = bytes.get(*at / 8).ok_or(ENDED)?;
                let value = byte >> (*at % 8) & 1 == 1;
                *at += 1;
                Ok(Value::Bool(value))
            }
            Self::Runs(values) => Ok(Value::Bool(values.next().ok_or(ENDED)? == 1)),
            Self::Indices { indices, dictionary, kind } => {
                let index = indices.next().ok_or(ENDED)?;
                let start = *dictionary.starts.get(index as usize).ok_or_else(|| {
                    format!("expected an index below {}, found {index}", dictionary.starts.len())
                })?;
                Ok(plain(*kind, &dictionary.bytes[start as usize..])?.0)
            }
        }
    }
}

/// The value at the beginning of `bytes`, and how long it is.
fn plain(kind: PhysicalType, bytes: &[u8]) -> Result<(Value<'_>, usize), String> {
    match kind {
        PhysicalType::Int64 => match bytes.first_chunk::<8>() {
            Some(bytes) => Ok((Value::Int(i64::from_le_bytes(*bytes)), 8)),
            None => Err(format!("expected a number of 8 bytes, found {}", bytes.len())),
        },
        PhysicalType::ByteArray => prefixed(bytes).map(|(value, len)| (Value::Bytes(value), len)),
        PhysicalType::Boolean | PhysicalType::Other(_) => {
            Err(format!("expected numbers or bytes in a dictionary, found {kind:?}"))
        }
    }
}

/// What stands behind its length in four bytes, and the length of both.
fn prefixed(bytes: &[u8]) -> Result<(&[u8], usize), String> {
    let (len, rest) = bytes
        .split_first_chunk::<4>()
        .ok_or_else(|| format!("expected a length of 4 bytes, found {}", bytes.len()))?;
    let len = u32::from_le_bytes(*len) as usize;
    let value = rest.get(..len).ok_or_else(|| format!("expected {len} bytes, found {}", rest.len()))?;
    Ok((value, 4 + len))
}

/// Unpacks a page.
fn unpack(codec: u64, bytes: &[u8], len: u64) -> Result<Vec<u8>, String> {
    const NAMES: [&str; 8] = ["uncompressed", "snappy", "gzip", "LZO", "brotli", "LZ4", "zstd", "LZ4 raw"];
    let found = match codec {
        0 => bytes.len() as u64,
        1 => snap::raw::decompress_len(bytes).map_err(|e| e.to_string())? as u64,
        _ => {
            let name = usize::try_from(codec).ok().and_then(|codec| NAMES.get(codec));
            let name = name.map_or_else(|| format!("codec {codec}"), |&name| name.to_owned());
            return Err(format!("expected pages that are uncompressed or snappy, found {name}"));
        }
    };
    // Looked at before memory is taken for it.
    if found != len {
        return Err(format!("expected {len} bytes when unpacked, found {found}"));
    }
    match codec {
        0 => Ok(bytes.to_vec()),
        // Where no row has a value.
        _ if len == 0 => Ok(Vec::new()),
        _ => snap::raw::Decoder::new().decompress_vec(bytes).map_err(|e| e.to_string()),
    }
}

fn expect_encoding(found: u64, expected: &[u64]) -> Result<(), String> {
    const NAMES: [&str; 10] = [
        "plain",
        "1",
        "plain dictionary",
        "RLE",
        "bit-packed",
        "delta",
        "delta length",
        "delta byte array",
        "RLE dictionary",
        "byte stream split",
    ];
    let name = |encoding: u64| {
        let name = usize::try_from(encoding).ok().and_then(|encoding| NAMES.get(encoding));
        name.map_or_else(|| format!("encoding {encoding}"), |&name| name.to_owned())
    };
    if expected.contains(&found) {
        return Ok(());
    }
    let expected: Vec<_> = expected.iter().map(|&encoding| name(encoding)).collect();
    Err(format!("expected values that are {}, found {}", ff_core::text::either(&expected), name(found)))
}
