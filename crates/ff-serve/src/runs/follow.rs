//! A run's records as they come: whole lines of `metrics.jsonl`, each with the place after it.
//!
//! A place is an offset in bytes, so whoever was cut off goes on exactly where he was. Half a last line is waited for.
//! Where the file was cut back, as a run does that goes on from an earlier checkpoint, everything comes anew.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What is read at once.
const CHUNK: u64 = 1 << 20;

/// Follows the records of one run.
#[derive(Debug, Clone)]
pub struct Follower {
    path: PathBuf,
    offset: u64,
}

/// What a look at the file gave.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// Lines without their ends, each with the place after it; none where nothing is new.
    Lines(Vec<(u64, String)>),
    /// The file is shorter than it was, or another: the next look begins at its start.
    Anew,
}

impl Follower {
    /// After a place in a run's records, 0 from the first.
    pub fn new(run: &Path, offset: u64) -> Self {
        Self { path: run.join("metrics.jsonl"), offset }
    }

    /// Looks once.
    ///
    /// # Errors
    /// The file cannot be read. That there is none yet is no error.
    pub fn look(&mut self) -> std::io::Result<News> {
        let mut file = match fs_err::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(News::Lines(Vec::new())),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() < self.offset {
            self.offset = 0;
            return Ok(News::Anew);
        }
        let mut bytes = Vec::new();
        // The line end before the place is read too: without it this is not the file that the place is of.
        let before = u64::from(self.offset > 0);
        file.seek(SeekFrom::Start(self.offset - before))?;
        file.take(CHUNK + before).read_to_end(&mut bytes)?;
        if before == 1 && bytes.first() != Some(&b'\n') {
            self.offset = 0;
            return Ok(News::Anew);
        }
        let mut lines = Vec::new();
        for line in bytes[before as usize..].split_inclusive(|&byte| byte == b'\n') {
            let Some((b'\n', line)) = line.split_last() else { break };
            self.offset += line.len() as u64 + 1;
            lines.push((self.offset, String::from_utf8_lossy(line).into_owned()));
        }
        Ok(News::Lines(lines))
    }
}

#[cfg(test)]
mod tests {
    use ff_core::files::append;
    use proptest::prelude::*;

    use super::*;

    fn lines(follower: &mut Follower) -> Vec<(u64, String)> {
        match follower.look().unwrap() {
            News::Lines(lines) => lines,
            News::Anew => panic!("expected lines"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// However a file grows and however often somebody is cut off: every line once, in order, and no part of one.
        #[test]
        fn every_line_comes_once(
            texts in prop::collection::vec("[a-zü]{0,9}", 1..12),
            cuts in prop::collection::vec(1..9_usize, 1..40),
            reconnects: u64,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let all: String = texts.iter().map(|text| format!("{text}\n")).collect();
            let mut follower = Follower::new(dir.path(), 0);
            prop_assert_eq!(lines(&mut follower), vec![]);
            let (mut found, mut at) = (Vec::new(), 0);
            for (i, cut) in cuts.iter().cycle().enumerate() {
                let mut end = (at + cut).min(all.len());
                while !all.is_char_boundary(end) {
                    end += 1;
                }
                append(&dir.path().join("metrics.jsonl"), &all[at..end]).unwrap();
                at = end;
                for (offset, line) in lines(&mut follower) {
                    found.push(line);
                    let whole: usize = found.iter().map(|line| line.len() + 1).sum();
                    prop_assert_eq!(offset as usize, whole);
                    if reconnects >> (i % 64) & 1 == 1 {
                        // The rest of this look comes again: as a client has it that was cut off here.
                        follower = Follower::new(dir.path(), offset);
                        break;
                    }
                }
                if at == all.len() {
                    break;
                }
            }
            found.extend(lines(&mut follower).into_iter().map(|(_, line)| line));
            prop_assert_eq!(found, texts);
        }
    }

    #[test]
    fn a_file_that_was_cut_back_comes_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        fs_err::write(&path, "one\ntwo\nthree\n").unwrap();
        let mut follower = Follower::new(dir.path(), 8);
        assert_eq!(lines(&mut follower), [(14, "three".to_owned())]);
        fs_err::write(&path, "one\n2\n").unwrap();
        assert_eq!(follower.look().unwrap(), News::Anew);
        assert_eq!(lines(&mut follower).len(), 2);
        assert_eq!(Follower::new(dir.path(), 3).look().unwrap(), News::Anew, "no line ends there");
        assert_eq!(Follower::new(dir.path(), u64::MAX / 2).look().unwrap(), News::Anew);
    }

    #[test]
    fn a_long_file_comes_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let line = "x".repeat(600_000);
        fs_err::write(dir.path().join("metrics.jsonl"), format!("{line}\n{line}\n{line}\n")).unwrap();
        let mut follower = Follower::new(dir.path(), 0);
        assert_eq!([(); 4].map(|()| lines(&mut follower).len()), [1, 1, 1, 0]);
    }
}
