//! Protobuf's wire format, read field by field: a message is a part of the file, nothing is copied, and nothing is read
//! into deeper than the caller asks.
//!
//! A field is its number and wire type as a varint, then a varint (type 0), eight bytes (1), a length and as many bytes
//! (2) or four bytes (5). Groups (3, 4) are older than ONNX.

/// The fields of a message, in order. After an error there are none.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a>(&'a [u8]);

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Number(u64),
    /// A text, a message, or numbers one after another.
    Bytes(&'a [u8]),
    Float(f32),
    /// Eight bytes, which nothing here needs.
    Other,
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn read(&mut self) -> Result<(u64, Value<'a>), String> {
        let key = varint(&mut self.0)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut self.0)?),
            1 => take(&mut self.0, 8).map(|_| Value::Other)?,
            2 => {
                let len = varint(&mut self.0)?;
                Value::Bytes(take(&mut self.0, len)?)
            }
            5 => {
                let bytes = take(&mut self.0, 4)?;
                Value::Float(f32::from_le_bytes(bytes.try_into().expect("four bytes")))
            }
            other => return Err(format!("expected a field of wire type 0, 1, 2 or 5, found {other}")),
        };
        match key >> 3 {
            0 => Err("expected a field's number from 1 on, found 0".to_owned()),
            field => Ok((field, value)),
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Value<'a> {
    pub(super) fn number(self) -> Result<u64, String> {
        match self {
            Self::Number(value) => Ok(value),
            other => Err(format!("expected a number, found {}", other.kind())),
        }
    }

    pub(super) fn float(self) -> Result<f32, String> {
        match self {
            Self::Float(value) => Ok(value),
            other => Err(format!("expected a float, found {}", other.kind())),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(format!("expected a length and bytes, found {}", other.kind())),
        }
    }

    /// A text of at most `max` bytes.
    pub(super) fn text(self, max: usize) -> Result<&'a str, String> {
        let bytes = self.bytes()?;
        if bytes.len() > max {
            return Err(format!("expected a text of at most {max} bytes, found {}", bytes.len()));
        }
        std::str::from_utf8(bytes).map_err(|_| "expected a text in UTF-8, found other bytes".to_owned())
    }

    /// Adds the integers of a repeated field, of which there may be `max` in all: a field a number, or all in one.
    pub(super) fn integers(self, integers: &mut Vec<i64>, max: usize) -> Result<(), String> {
        let mut push = |value: u64| {
            if integers.len() == max {
                return Err(format!("expected at most {max} numbers, found more"));
            }
            integers.push(value.cast_signed());
            Ok(())
        };
        match self {
            Self::Bytes(mut packed) => {
                while !packed.is_empty() {
                    push(varint(&mut packed)?)?;
                }
                Ok(())
            }
            other => push(other.number()?),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Number(_) => "a number",
            Self::Bytes(_) => "a length and bytes",
            Self::Float(_) => "four bytes",
            Self::Other => "eight bytes",
        }
    }
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn varint(rest: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for (i, &byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *rest = &rest[i + 1..];
            return Ok(value);
        }
    }
    match rest.len() {
        0..10 => Err("expected a number, found the end: cut off".to_owned()),
        _ => Err("expected a number of at most 10 bytes, found more".to_owned()),
    }
}

fn take<'a>(rest: &mut &'a [u8], n: u64) -> Result<&'a [u8], String> {
    let taken = usize::try_from(n).ok().and_then(|n| rest.split_at_checked(n));
    let (taken, after) =
        taken.ok_or_else(|| format!("expected {n} more bytes, found {}: cut off", rest.len()))?;
    *rest = after;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8]) -> Result<Vec<(u64, Value<'_>)>, String> {
        Fields::of(message).collect()
    }

    /// The examples of protobuf's own description of its encoding.
    #[test]
    fn fields_are_read_as_protobuf_describes() {
        let message = [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67, 0x1a, 0x03, 0x08, 0x96, 0x01];
        let fields = read(&message).unwrap();
        assert_eq!(fields, [(2, Value::Bytes(b"testing")), (3, Value::Bytes(&[0x08, 0x96, 0x01]))]);
        assert_eq!(read(&[0x08, 0x96, 0x01]).unwrap(), [(1, Value::Number(150))]);
        assert_eq!(read(&[0x85, 0x01, 0, 0, 0x80, 0x3f]).unwrap(), [(16, Value::Float(1.0))]);
        let minus_one = [&[0x08][..], &[0xff; 9], &[0x01]].concat();
        let mut integers = Vec::new();
        read(&minus_one).unwrap()[0].1.integers(&mut integers, 9).unwrap();
        // The same numbers in one field.
        Value::Bytes(&[0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05]).integers(&mut integers, 9).unwrap();
        assert_eq!(integers, [-1, 3, 270, 86942]);
        let error = Value::Bytes(&[0; 6]).integers(&mut integers, 9).unwrap_err();
        assert_eq!(error, "expected at most 9 numbers, found more");
    }

    #[test]
    fn what_is_no_message_says_why() {
        for (message, expected) in [
            (&[0x12, 0x07, 0x74][..], "expected 7 more bytes, found 1: cut off"),
            (&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f], "expected 4294967295 more bytes, found 0: cut off"),
            (&[0x08], "expected a number, found the end: cut off"),
            (&[0xff; 11], "expected a number of at most 10 bytes, found more"),
            (&[0x0b], "expected a field of wire type 0, 1, 2 or 5, found 3"),
            (&[0x00, 0x01], "expected a field's number from 1 on, found 0"),
        ] {
            assert_eq!(read(message).unwrap_err(), expected);
        }
    }
}
