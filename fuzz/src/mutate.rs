//! A small fuzzer for the tests on stable: the files of `fuzz/seeds/TARGET`, changed in a few places.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

/// Inputs a target: a second or two altogether.
const CASES: u32 = 1000;

/// Calls a target with what becomes of its seeds; a failure is made small and shown.
pub fn run(target: &str, call: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let seeds = fs_err::read_dir(&folder).expect("every target has seeds");
    let seeds: Vec<_> =
        seeds.map(|seed| fs_err::read(seed.expect("a seed").path()).expect("a seed")).collect();
    seeds.iter().for_each(|seed| call(seed));
    let change = (0..5, any::<Index>(), any::<Index>(), vec(any::<u8>(), 1..9));
    let inputs = (select(seeds), vec(change, 0..6)).prop_map(|(mut input, changes)| {
        for (kind, from, to, bytes) in changes {
            let place = from.index(input.len() + 1);
            let other = to.index(input.len() + 1);
            match kind {
                0 => input.truncate(place),
                1 => drop(input.splice(place..place, bytes)),
                2 => drop(input.drain(place.min(other)..place.max(other))),
                // A part of it once more.
                3 => {
                    let part = input[place.min(other)..place.max(other)]
                        .iter()
                        .take(64)
                        .copied()
                        .collect::<Vec<_>>();
                    input.splice(place..place, part);
                }
                _ => input[place..].iter_mut().zip(bytes).for_each(|(old, new)| *old = new),
            }
        }
        input
    });
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&inputs, |input| {
        call(&input);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{target}: {failure}"));
}
