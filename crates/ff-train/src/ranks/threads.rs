//! Ranks within one process: a thread each. For tests of whatever ranks do; there is nothing to gain by it otherwise.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::dtype::{from_bf16, to_bf16};
use super::{Ranks, ReduceDtype, tree};
use crate::{Error, Result};

/// Runs `work` as so many ranks at once, and gives what came of each.
///
/// # Panics
/// One of them does.
pub fn run<T: Send>(size: usize, work: impl Fn(&mut dyn Ranks) -> T + Sync) -> Vec<T> {
    let meeting = Arc::new(Meeting::new(size));
    std::thread::scope(|scope| {
        let start = |rank| {
            let (meeting, work) = (Arc::clone(&meeting), &work);
            scope.spawn(move || work(&mut ThreadRank { rank, meeting }))
        };
        let threads: Vec<_> = (0..size).map(start).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
            .collect()
    })
}

/// One of the threads. The others hear of it when it is dropped.
struct ThreadRank {
    rank: usize,
    meeting: Arc<Meeting>,
}

/// Where threads leave what they have for each other.
struct Meeting {
    size: usize,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    brought: Vec<Option<Arc<Vec<u8>>>>,
    /// Those that have taken what the others brought.
    taken: usize,
    left: Option<usize>,
}

impl Meeting {
    fn new(size: usize) -> Self {
        let table = Table { brought: vec![None; size], ..Table::default() };
        Self { size, table: Mutex::new(table), changed: Condvar::new() }
    }

    /// Waits until it is so.
    fn when(&self, ready: impl Fn(&Table) -> bool) -> Result<MutexGuard<'_, Table>> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if ready(&table) {
                return Ok(table);
            }
            if let Some(rank) = table.left {
                return Err(Error::RankLost { rank });
            }
            table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Brings something, and takes what everybody brought.
    fn exchange(&self, rank: usize, bytes: Vec<u8>) -> Result<Vec<Arc<Vec<u8>>>> {
        // Nobody brings the next thing before all have taken this one.
        self.when(|table| table.brought[rank].is_none() && table.taken == 0)?.brought[rank] =
            Some(Arc::new(bytes));
        self.changed.notify_all();
        let mut table = self.when(|table| table.brought.iter().all(Option::is_some))?;
        let all = table.brought.iter().flatten().cloned().collect();
        table.taken += 1;
        if table.taken == self.size {
            table.brought.fill(None);
            table.taken = 0;
            self.changed.notify_all();
        }
        Ok(all)
    }
}

impl Drop for ThreadRank {
    fn drop(&mut self) {
        self.meeting.table.lock().unwrap_or_else(PoisonError::into_inner).left = Some(self.rank);
        self.meeting.changed.notify_all();
    }
}

impl Ranks for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.meeting.size
    }

    fn gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(self.meeting.exchange(self.rank, bytes.to_vec())?.iter().map(|bytes| bytes.to_vec()).collect())
    }

    fn broadcast(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        let own = if self.rank == 0 { std::mem::take(bytes) } else { Vec::new() };
        *bytes = self.meeting.exchange(self.rank, own)?[0].to_vec();
        Ok(())
    }

    fn sum(&mut self, values: &mut [f32], n: usize, dtype: ReduceDtype) -> Result<()> {
        let own = match dtype {
            ReduceDtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            ReduceDtype::Bf16 => to_bf16(values),
        };
        let all = self.meeting.exchange(self.rank, own)?;
        let read = |bytes: &[u8]| {
            let mut values = vec![0.0; bytes.len() / dtype.size()];
            match dtype {
                ReduceDtype::Bf16 => from_bf16(bytes, &mut values),
                ReduceDtype::F32 => {
                    values.iter_mut().zip(bytes.chunks_exact(4)).for_each(|(value, bytes)| {
                        *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                    })
                }
            }
            values
        };
        let parts: Vec<Vec<f32>> = all[..n].iter().map(|part| read(part)).collect();
        tree::sum_of(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>(), values);
        if dtype == ReduceDtype::Bf16 {
            from_bf16(&to_bf16(values), values);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::{from_first, on_any, together};

    #[test]
    fn everybody_gets_the_same() {
        let found = run(3, |ranks| {
            let rank = ranks.rank();
            let mut sum = [rank as f32 + 1.0, 1.0];
            for round in 0..50 {
                assert_eq!(ranks.gather(&[rank as u8, round]).unwrap(), [[0, round], [1, round], [2, round]]);
            }
            ranks.sum(&mut sum, 2, ReduceDtype::F32).unwrap();
            let word = from_first(ranks, (rank == 0).then(|| "yes".to_owned())).unwrap();
            (sum, word, on_any(ranks, rank == 2).unwrap(), on_any(ranks, false).unwrap())
        });
        assert_eq!(found, vec![([3.0, 2.0], "yes".to_owned(), true, false); 3]);
    }

    /// 257 and 1 / 512 need more than the eight bits that a value has on its way.
    #[test]
    fn what_travels_as_bf16_is_rounded_on_both_ways() {
        let found = run(3, |ranks| {
            let mut values = [[257.0, 1.0], [2.0, 1.0 / 512.0], [9.0, 9.0]][ranks.rank()];
            ranks.sum(&mut values, 2, ReduceDtype::Bf16).unwrap();
            values
        });
        assert_eq!(found, [[258.0, 1.0]; 3]);
    }

    #[test]
    fn a_failure_anywhere_is_a_failure_everywhere() {
        let found = run(3, |ranks| {
            let lost = |rank| Err::<(), _>(Error::RankLost { rank: 7 + rank });
            let result = if ranks.rank() == 0 { Ok(()) } else { lost(ranks.rank()) };
            together(ranks, result).unwrap_err().to_string()
        });
        let of_1 = Error::RankLost { rank: 8 }.to_string();
        assert_eq!(found, [format!("rank 1: {of_1}"), of_1.clone(), format!("rank 1: {of_1}")]);
    }

    #[test]
    fn nobody_waits_for_a_rank_that_has_gone() {
        let found = run(2, |ranks| match ranks.rank() {
            0 => None,
            _ => Some(ranks.gather(&[]).unwrap_err().to_string()),
        });
        assert_eq!(found[1].as_deref(), Some("rank 0 has left the others"));
    }
}
