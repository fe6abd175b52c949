//! Pickles as plain data, within limits.
//!
//! An interpreter of its own, because a pickle from a stranger is a program: it may ask for any function to be called,
//! nest tuples until dropping them overflows the stack, or double an object with every two bytes. Here every opcode
//! costs the same few bytes at most. Objects lie in one list and know each other by their places in it: remembering
//! copies nothing, and neither nesting nor cycles make anything recurse. A call is kept as data and never made.
//!
//! Opcodes are those of protocols 2 to 5 that `torch.save` and Python's `pickle` write; text protocols are not read.

use std::collections::HashMap;

/// Opcodes of one pickle. A state dict needs about 40 a tensor; an object takes 32 bytes, so this bounds memory too.
const MAX_OPCODES: usize = 1 << 20;
/// Bytes of one string: names of tensors, classes and storages.
const MAX_TEXT: usize = 1 << 16;

/// A place in the list of objects.
pub(super) type Id = usize;

/// What pickles are made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Object<'a> {
    Int(i64),
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function by name.
    Global {
        module: &'a str,
        name: &'a str,
    },
    /// What a function would make of its arguments.
    Call {
        callable: Id,
        args: Id,
    },
    /// What lies outside of the pickle, by the name that the writer gave it.
    Persistent(Id),
    /// None, booleans, floats, bytes, sets, long integers: nothing here needs their values.
    Other,
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle up to its end, and moves `bytes` on behind it.
    pub(super) fn read(bytes: &mut &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine { rest: bytes, ..Machine::default() };
        let total = bytes.len();
        for _ in 0..MAX_OPCODES {
            let at = total - machine.rest.len();
            if let Some(root) =
                machine.step().map_err(|problem| format!("{problem} (byte {at} of a pickle)"))?
            {
                *bytes = machine.rest;
                return Ok(Self { objects: machine.objects, root });
            }
        }
        Err(format!("expected a pickle of at most {MAX_OPCODES} operations, found more"))
    }

    /// What the pickle is.
    pub(super) fn root(&self) -> &Object<'a> {
        self.get(self.root)
    }

    /// The object at a place that another object names.
    pub(super) fn get(&self, id: Id) -> &Object<'a> {
        &self.objects[id]
    }

    /// All objects, in the order in which they were made.
    pub(super) fn objects(&self) -> &[Object<'a>] {
        &self.objects
    }

    /// The elements of a tuple.
    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// A string.
    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number that is no less than 0.
    pub(super) fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Object::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }
}

/// The state of a pickle that is being read.
#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    objects: Vec<Object<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Carries out one opcode; gives the pickle's object at its end.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let [opcode] = self.array()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            // PROTO; FRAME only says how much to read ahead.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            // The stack: MARK, POP, POP_MARK, DUP.
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.stack.push(self.top()?),
            // NONE, NEWTRUE, NEWFALSE, BINFLOAT.
            b'N' | 0x88 | 0x89 => self.push(Object::Other),
            b'G' => self.other(8)?,
            // BININT, BININT1, BININT2, LONG1.
            b'J' => self.int(4)?,
            b'K' => self.unsigned(1)?,
            b'M' => self.unsigned(2)?,
            0x8a => {
                let [len] = self.array()?;
                if len <= 8 { self.int(len.into())? } else { self.other(len.into())? }
            }
            // BINUNICODE, SHORT_BINUNICODE; BINSTRING, SHORT_BINSTRING of Python 2.
            b'X' | b'T' => {
                let len = self.length(4)?;
                self.text(len)?;
            }
            0x8c | b'U' => {
                let len = self.length(1)?;
                self.text(len)?;
            }
            // BINBYTES, SHORT_BINBYTES.
            b'B' => {
                let len = self.length(4)?;
                self.other(len)?;
            }
            b'C' => {
                let len = self.length(1)?;
                self.other(len)?;
            }
            // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE.
            b')' => self.push(Object::Tuple(Vec::new())),
            0x85..=0x87 => {
                let n = usize::from(opcode - 0x84);
                let mut items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
                items.reverse();
                self.push(Object::Tuple(items));
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Tuple(items));
            }
            // EMPTY_LIST, LIST, APPEND, APPENDS.
            b']' => self.push(Object::List(Vec::new())),
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Object::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend(items)?;
            }
            // EMPTY_DICT, DICT, SETITEM, SETITEMS.
            b'}' => self.push(Object::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Dict(Vec::new()));
                self.set(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(&items)?;
            }
            // EMPTY_SET, ADDITEMS, FROZENSET.
            0x8f => self.push(Object::Other),
            0x90 => drop(self.pop_to_mark()?),
            0x91 => {
                self.pop_to_mark()?;
                self.push(Object::Other);
            }
            // GLOBAL, STACK_GLOBAL.
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Object::Global { module, name });
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Object::Text(module), Object::Text(name)) = (&self.objects[module], &self.objects[name])
                else {
                    return Err("expected the name of a class, found something else".to_owned());
                };
                self.push(Object::Global { module, name });
            }
            // REDUCE, NEWOBJ, NEWOBJ_EX (with a dictionary of arguments on top), BUILD, BINPERSID.
            b'R' | 0x81 => self.call()?,
            0x92 => {
                self.pop()?;
                self.call()?;
            }
            b'b' => drop(self.pop()?),
            b'Q' => {
                let id = self.pop()?;
                self.push(Object::Persistent(id));
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET.
            b'q' => {
                let [place] = self.array()?;
                self.remember(place.into())?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.array()?);
                self.remember(place)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let [place] = self.array()?;
                self.recall(place.into())?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.array()?);
                self.recall(place)?;
            }
            other => return Err(format!("expected an operation of a pickle, found byte {other:#04x}")),
        }
        Ok(None)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .rest
            .split_at_checked(n)
            .ok_or_else(|| format!("it ends early: expected {n} more bytes, found {}", self.rest.len()))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("as many as were asked for"))
    }

    /// An unsigned number of 1, 2 or 4 bytes.
    fn length(&mut self, n_bytes: usize) -> Result<usize, String> {
        Ok(self.take(n_bytes)?.iter().rev().fold(0, |n, &byte| n << 8 | usize::from(byte)))
    }

    fn unsigned(&mut self, n_bytes: usize) -> Result<(), String> {
        let n = self.length(n_bytes)?;
        self.push(Object::Int(n as i64));
        Ok(())
    }

    /// A number of up to 8 bytes in two's complement; without bytes it is 0.
    fn int(&mut self, n_bytes: usize) -> Result<(), String> {
        let bytes = self.take(n_bytes)?;
        let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
        self.push(Object::Int(bytes.iter().rev().fold(sign, |n, &byte| n << 8 | i64::from(byte))));
        Ok(())
    }

    /// A value that nobody asks for.
    fn other(&mut self, n_bytes: usize) -> Result<(), String> {
        self.take(n_bytes)?;
        self.push(Object::Other);
        Ok(())
    }

    fn text(&mut self, len: usize) -> Result<(), String> {
        if len > MAX_TEXT {
            return Err(format!("expected a string of at most {MAX_TEXT} bytes, found {len}"));
        }
        // Strings of Python 2 may be bytes.
        let bytes = self.take(len)?;
        self.push(std::str::from_utf8(bytes).map_or(Object::Other, Object::Text));
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let within = &self.rest[..self.rest.len().min(MAX_TEXT)];
        let len = within.iter().position(|&byte| byte == b'\n');
        let len = len.ok_or("expected the name of a class and the end of its line, found none")?;
        let line = &self.take(len + 1)?[..len];
        std::str::from_utf8(line).map_err(|_| "expected the name of a class as UTF-8 text".to_owned())
    }

    fn push(&mut self, object: Object<'a>) {
        self.stack.push(self.objects.len());
        self.objects.push(object);
    }

    fn top(&self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let above = self.stack.get(floor..).and_then(<[Id]>::last);
        above.copied().ok_or_else(|| "expected an object on the stack, found none".to_owned())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("expected a mark on the stack, found none")?;
        Ok(self.stack.split_off(mark))
    }

    /// Adds items to the list on top. Other objects that take items are not looked into.
    fn extend(&mut self, items: Vec<Id>) -> Result<(), String> {
        let list = self.top()?;
        if let Object::List(list) = &mut self.objects[list] {
            list.extend(items);
        }
        Ok(())
    }

    /// Sets keys and values of the dictionary on top. Other objects that take them are not looked into.
    fn set(&mut self, items: &[Id]) -> Result<(), String> {
        let dict = self.top()?;
        if !items.len().is_multiple_of(2) {
            return Err("expected a value for every key, found none for the last".to_owned());
        }
        if let Object::Dict(dict) = &mut self.objects[dict] {
            dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        }
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let (args, callable) = (self.pop()?, self.pop()?);
        self.push(match self.objects[callable] {
            Object::Global { module: "collections", name: "OrderedDict" | "defaultdict" } => {
                Object::Dict(Vec::new())
            }
            _ => Object::Call { callable, args },
        });
        Ok(())
    }

    fn remember(&mut self, place: u32) -> Result<(), String> {
        self.memo.insert(place, self.top()?);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<(), String> {
        let id = *self.memo.get(&place).ok_or_else(|| format!("expected object {place}, found none"))?;
        self.stack.push(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut bytes: &[u8]) -> Result<Pickle<'_>, String> {
        Pickle::read(&mut bytes)
    }

    /// `pickle.dumps({"a": (1, -2, 2**31)}, protocol)`, as Python 3.13 writes it.
    #[test]
    fn protocols_2_and_4_say_the_same() {
        let two: &[u8] = b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01J\xfe\xff\xff\xff\x8a\x05\x00\x00\x00\x80\x00\x87q\x02s.";
        let four: &[u8] =
            b"\x80\x04\x95\x17\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01J\xfe\xff\xff\xff\x8a\x05\x00\x00\x00\x80\x00\x87\x94s.";
        for bytes in [two, four] {
            let pickle = read(bytes).unwrap();
            let Object::Dict(entries) = pickle.root() else { panic!("{pickle:?}") };
            let [(key, value)] = entries[..] else { panic!("{pickle:?}") };
            assert_eq!(pickle.text(key), Some("a"));
            let values: Vec<_> = pickle.tuple(value).unwrap().iter().map(|&id| pickle.get(id)).collect();
            assert_eq!(values, [&Object::Int(1), &Object::Int(-2), &Object::Int(1 << 31)]);
        }
    }

    /// The first nests, the second doubles with every four bytes, the third asks for four thousand million places.
    #[test]
    fn bombs_are_small_here() {
        let nested = [&b"\x80\x02)"[..], &[0x85; 1_000_000], b"."].concat();
        assert_eq!(read(&nested).unwrap().objects().len(), 1_000_001);
        let doubled = [&b"\x80\x02]q\x00"[..], &b"2\x86q\x00h\x00h\x00".repeat(100), b"."].concat();
        assert!(read(&doubled).unwrap().objects().len() < 1000);
        let places = [&b"\x80\x02)"[..], &b"r\xff\xff\xff\xff".repeat(1000), b"."].concat();
        assert_eq!(read(&places).unwrap().objects().len(), 1);
        let endless = [&b"\x80\x02"[..], &[b'N'; 1 << 20], b"."].concat();
        let message = read(&endless).unwrap_err();
        assert_eq!(message, "expected a pickle of at most 1048576 operations, found more");
    }

    #[test]
    fn a_pickle_that_contains_itself_is_read() {
        let pickle = read(b"\x80\x02]q\x00h\x00a.").unwrap();
        assert_eq!(pickle.root(), &Object::List(vec![0]));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (bytes, expected) in [
            (&b""[..], "it ends early: expected 1 more bytes, found 0 (byte 0 of a pickle)"),
            (
                b"\x80\x02X\xff\xff\xff\xffabc.",
                "expected a string of at most 65536 bytes, found 4294967295 (byte 2 of a pickle)",
            ),
            (
                b"\x80\x02X\x05\x00\x00\x00abc.",
                "it ends early: expected 5 more bytes, found 4 (byte 2 of a pickle)",
            ),
            (b"\x80\x02h\x07.", "expected object 7, found none (byte 2 of a pickle)"),
            (b"\x80\x02)(a.", "expected an object on the stack, found none (byte 4 of a pickle)"),
            (b"\x80\x02t.", "expected a mark on the stack, found none (byte 2 of a pickle)"),
            (
                b"\x80\x02}(Nu.",
                "expected a value for every key, found none for the last (byte 5 of a pickle)",
            ),
            (b"\x80\x02\xff", "expected an operation of a pickle, found byte 0xff (byte 2 of a pickle)"),
            (b"I1\n.", "expected an operation of a pickle, found byte 0x49 (byte 0 of a pickle)"),
        ] {
            assert_eq!(read(bytes).unwrap_err(), expected);
        }
    }
}
