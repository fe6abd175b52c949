//! Thrift's compact protocol, as far as Parquet's headers need it.
//!
//! Invariant: a call reads no further than its input goes, and takes no memory for what a length merely claims.
//! Fields that nobody asks for are passed over.

use std::io::Read;

/// Structs and lists within each other; Parquet's own go five deep.
const MAX_DEPTH: usize = 16;

/// What a value is, as its field or list says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    const TRUE: u8 = 1;
    const FALSE: u8 = 2;
    const BYTE: u8 = 3;
    const I16: u8 = 4;
    const I64: u8 = 6;
    const DOUBLE: u8 = 7;
    const BINARY: u8 = 8;
    const LIST: u8 = 9;
    const SET: u8 = 10;
    const MAP: u8 = 11;
    const STRUCT: u8 = 12;
}

/// A reader of values, one after the other.
pub(super) struct Compact<R> {
    input: R,
}

impl<R: Read> Compact<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input }
    }

    /// Reads a struct: `each` gets the number and kind of every field and has to take its value or [`skip`](Self::skip)
    /// it.
    pub(super) fn fields(
        &mut self,
        mut each: impl FnMut(&mut Self, i16, Kind) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut id = 0_i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            let delta = i16::from(head >> 4);
            let next = if delta == 0 { i16::try_from(self.zigzag()?).ok() } else { id.checked_add(delta) };
            id = next.ok_or("expected a field's number, found one that is too large")?;
            each(self, id, Kind(head & 15))?;
        }
    }

    /// A field that is a struct, as [`fields`](Self::fields).
    pub(super) fn structure(
        &mut self,
        kind: Kind,
        each: impl FnMut(&mut Self, i16, Kind) -> Result<(), String>,
    ) -> Result<(), String> {
        expect(kind, &[Kind::STRUCT], "a struct")?;
        self.fields(each)
    }

    /// A field that is a list of at most `most` values, each of which `each` has to take.
    pub(super) fn list(
        &mut self,
        kind: Kind,
        most: u64,
        mut each: impl FnMut(&mut Self, Kind) -> Result<(), String>,
    ) -> Result<(), String> {
        expect(kind, &[Kind::LIST], "a list")?;
        let (len, kind) = self.list_head()?;
        if len > most {
            return Err(format!("expected a list of at most {most} values, found one of {len}"));
        }
        (0..len).try_for_each(|_| each(self, kind))
    }

    /// A whole number that is not negative.
    pub(super) fn count(&mut self, kind: Kind) -> Result<u64, String> {
        let number = self.integer(kind)?;
        u64::try_from(number).map_err(|_| format!("expected a number from 0 on, found {number}"))
    }

    /// A whole number.
    pub(super) fn integer(&mut self, kind: Kind) -> Result<i64, String> {
        expect(kind, &[Kind::I16, 5, Kind::I64], "a whole number")?;
        self.zigzag()
    }

    /// A field that is true or false.
    pub(super) fn boolean(&mut self, kind: Kind) -> Result<bool, String> {
        expect(kind, &[Kind::TRUE, Kind::FALSE], "true or false")?;
        Ok(kind.0 == Kind::TRUE)
    }

    /// A text.
    pub(super) fn text(&mut self, kind: Kind) -> Result<String, String> {
        expect(kind, &[Kind::BINARY], "a text")?;
        let len = self.varint()?;
        let mut bytes = Vec::new();
        self.input.by_ref().take(len).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if bytes.len() as u64 != len {
            return Err(format!("expected a text of {len} bytes, found {}", bytes.len()));
        }
        String::from_utf8(bytes).map_err(|_| "expected UTF-8 text, found other bytes".to_owned())
    }

    /// Passes over a value.
    pub(super) fn skip(&mut self, kind: Kind) -> Result<(), String> {
        self.skip_within(kind, MAX_DEPTH)
    }

    fn skip_within(&mut self, kind: Kind, depth: usize) -> Result<(), String> {
        let depth =
            depth.checked_sub(1).ok_or("expected values at most 16 deep in each other, found deeper ones")?;
        match kind.0 {
            Kind::TRUE | Kind::FALSE => Ok(()),
            Kind::BYTE => self.pass(1),
            Kind::I16..=Kind::I64 => self.varint().map(drop),
            Kind::DOUBLE => self.pass(8),
            Kind::BINARY => {
                let len = self.varint()?;
                self.pass(len)
            }
            Kind::LIST | Kind::SET => {
                let (len, kind) = self.list_head()?;
                (0..len).try_for_each(|_| self.skip_value(kind, depth))
            }
            Kind::MAP => {
                let len = self.varint()?;
                let kinds = if len == 0 { 0 } else { self.byte()? };
                (0..len).try_for_each(|_| {
                    self.skip_value(Kind(kinds >> 4), depth)?;
                    self.skip_value(Kind(kinds & 15), depth)
                })
            }
            Kind::STRUCT => self.fields(|input, _, kind| input.skip_within(kind, depth)),
            other => Err(format!("expected a kind of value from 1 to 12, found {other}")),
        }
    }

    /// A value in a list or map, where true and false take a byte.
    fn skip_value(&mut self, kind: Kind, depth: usize) -> Result<(), String> {
        match kind.0 {
            Kind::TRUE | Kind::FALSE => self.pass(1),
            _ => self.skip_within(kind, depth),
        }
    }

    fn list_head(&mut self) -> Result<(u64, Kind), String> {
        let head = self.byte()?;
        let len = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Ok((len, Kind(head & 15)))
    }

    fn pass(&mut self, len: u64) -> Result<(), String> {
        let mut part = self.input.by_ref().take(len);
        let passed = std::io::copy(&mut part, &mut std::io::sink()).map_err(|e| e.to_string())?;
        if passed == len { Ok(()) } else { Err(format!("expected {len} bytes more, found {passed}")) }
    }

    fn zigzag(&mut self) -> Result<i64, String> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("expected a number of at most 10 bytes, found a longer one".to_owned())
    }

    fn byte(&mut self) -> Result<u8, String> {
        let mut byte = [0];
        self.input.read_exact(&mut byte).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "expected more bytes, found the end".to_owned(),
            _ => error.to_string(),
        })?;
        Ok(byte[0])
    }
}

fn expect(found: Kind, expected: &[u8], what: &str) -> Result<(), String> {
    if expected.contains(&found.0) {
        Ok(())
    } else {
        Err(format!("expected {what}, found a value of kind {}", found.0))
    }
}
