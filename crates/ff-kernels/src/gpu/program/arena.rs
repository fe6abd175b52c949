//! Places in one allocation: memory is handed out and taken back while commands are written down, so that what is never
//! needed at the same time shares bytes.
//!
//! Commands run in the order in which they are written down, so a place that was given back before a command may be
//! handed out for it.

use super::command::{Buffer, BufferPlace};

/// Every place begins at a multiple of this: what cuDNN and 16-byte loads ask for, and a cache line.
const ALIGNMENT: usize = 256;

/// Free ranges of an allocation that grows as needed.
#[derive(Debug, Default)]
pub(in crate::gpu) struct Arena {
    /// In order, never touching each other.
    free: Vec<Gap>,
    len: usize,
}

/// Bytes that are free.
#[derive(Clone, Copy, Debug)]
struct Gap {
    offset: usize,
    len: usize,
}

impl Gap {
    fn end(self) -> usize {
        self.offset + self.len
    }
}

/// A place that can be given back.
#[derive(Debug)]
pub(in crate::gpu) struct Block {
    place: BufferPlace,
    len: usize,
}

impl Block {
    pub(in crate::gpu) fn place(&self) -> BufferPlace {
        self.place
    }
}

impl Arena {
    /// Bytes of the allocation.
    pub(in crate::gpu) fn len(&self) -> usize {
        self.len
    }

    /// A place of `len` bytes for good.
    pub(in crate::gpu) fn keep(&mut self, len: usize) -> BufferPlace {
        self.take(len).place
    }

    /// A place of `len` bytes until it is given back: the tightest gap, or the end.
    pub(in crate::gpu) fn take(&mut self, len: usize) -> Block {
        let len = len.next_multiple_of(ALIGNMENT);
        let gaps = self.free.iter().enumerate().filter(|(_, gap)| gap.len >= len);
        let offset = match gaps.min_by_key(|(_, gap)| gap.len).map(|(i, _)| i) {
            Some(i) => {
                let gap = self.free[i];
                match gap.len - len {
                    0 => drop(self.free.remove(i)),
                    rest => self.free[i] = Gap { offset: gap.offset + len, len: rest },
                }
                gap.offset
            }
            None => self.grow(len),
        };
        Block { place: BufferPlace { buffer: Buffer::Arena, offset }, len }
    }

    /// Takes a place back.
    pub(in crate::gpu) fn give(&mut self, block: Block) {
        let offset = block.place.offset;
        let i = self.free.partition_point(|gap| gap.offset < offset);
        self.free.insert(i, Gap { offset, len: block.len });
        for i in (i.saturating_sub(1)..=i).rev() {
            if i + 1 < self.free.len() && self.free[i].end() == self.free[i + 1].offset {
                self.free[i].len += self.free.remove(i + 1).len;
            }
        }
    }

    /// Room at the end, on top of a last gap if there is one.
    fn grow(&mut self, len: usize) -> usize {
        let offset = match self.free.last() {
            Some(&gap) if gap.end() == self.len => {
                self.free.pop();
                gap.offset
            }
            _ => self.len,
        };
        self.len = offset + len;
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_in_use_never_overlap(steps in prop::collection::vec((0usize..3, 1usize..5000), 1..200)) {
            let mut arena = Arena::default();
            let mut used: Vec<Block> = Vec::new();
            for (what, len) in steps {
                if what == 0 && !used.is_empty() {
                    let block = used.swap_remove(len % used.len());
                    arena.give(block);
                } else {
                    used.push(arena.take(len));
                }
                let mut ranges: Vec<_> = used.iter().map(|b| (b.place.offset, b.len)).collect();
                ranges.extend(arena.free.iter().map(|gap| (gap.offset, gap.len)));
                ranges.sort_unstable();
                // Used and free ranges tile the allocation.
                let mut end = 0;
                for (offset, len) in ranges {
                    prop_assert_eq!(offset, end);
                    prop_assert_eq!(offset % ALIGNMENT, 0);
                    end = offset + len;
                }
                prop_assert_eq!(end, arena.len());
            }
        }
    }

    #[test]
    fn what_was_given_back_is_used_again() {
        let mut arena = Arena::default();
        let (a, b) = (arena.take(1000), arena.take(1000));
        arena.give(a);
        arena.give(b);
        assert_eq!((arena.take(2048).place.offset, arena.len()), (0, 2048));
    }
}
