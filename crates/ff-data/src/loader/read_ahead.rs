//! Whether the disk is slow, and asking it for images some places ahead of their turn if so.
//!
//! A cold disk takes its time for every small file, and a worker that waits for it decodes nothing. So a worker whose
//! reads turn out slow asks the system to begin reading the file that comes [`DISTANCE`] places later, and goes on.
//! Reads from memory are never slow: then nothing is asked, and it costs nothing.

use std::time::Duration;

/// How many places ahead: enough for a disk that takes some milliseconds, and a megabyte or two of files.
pub(super) const DISTANCE: usize = 128;

/// Reading a crop from memory takes about 10 microseconds.
const SLOW: Duration = Duration::from_micros(50);
/// Slow reads in a row that tell a cold disk from a thread that was interrupted.
const SLOW_READS: u32 = 3;
/// For so many images the disk counts as cold then. Reads are fast meanwhile, which says nothing about the disk.
const IMAGES: u32 = 1024;

/// What a worker has seen of the disk.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    slow_reads: u32,
    left: u32,
}

impl ReadAhead {
    /// Whether to read ahead for the image at hand.
    pub(super) fn is_wanted(&mut self) -> bool {
        let wanted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        wanted
    }

    /// Takes note of how long a file took.
    pub(super) fn note(&mut self, read: Duration) {
        self.slow_reads = if read > SLOW { self.slow_reads + 1 } else { 0 };
        if self.slow_reads >= SLOW_READS {
            (self.slow_reads, self.left) = (0, IMAGES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_slow_reads_in_a_row_begin_it_and_it_ends() {
        let (fast, slow) = (Duration::from_micros(10), Duration::from_micros(90));
        let mut disk = ReadAhead::default();
        for read in [slow, slow, fast, slow, slow, fast] {
            disk.note(read);
            assert!(!disk.is_wanted());
        }
        (0..SLOW_READS).for_each(|_| disk.note(slow));
        for _ in 0..IMAGES {
            assert!(disk.is_wanted());
            disk.note(fast);
        }
        assert!(!disk.is_wanted());
    }
}
