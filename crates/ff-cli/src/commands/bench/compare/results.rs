//! What a comparison came to: medians over rounds, ratios to the best peer, and the table of them.

use ff_train::machine::Processor;
use serde::Serialize;

use super::super::median;
use super::peers::{Case, Work};
use super::process::{Answer, Failure};
use crate::output::{self, fixed, grouped};

/// All of it.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub processor: Processor,
    pub cpus: usize,
    /// Of the minute before the first process; null where the system does not say.
    pub load_average: Option<f64>,
    pub idle: bool,
    pub python: String,
    /// What was imported there, with what it says its version is.
    pub versions: Vec<Version>,
    pub left_out: Vec<LeftOut>,
    pub backbone: &'static str,
    pub image_size: usize,
    pub threads: usize,
    pub workers: usize,
    pub augment: &'static str,
    pub rounds: usize,
    pub interrupted: bool,
    pub cases: Vec<Compared>,
}

#[derive(Debug, Serialize)]
pub struct Version {
    pub module: &'static str,
    pub version: String,
}

/// A peer that does not take part.
#[derive(Debug, Serialize)]
pub struct LeftOut {
    pub name: &'static str,
    pub why: String,
}

/// What a program answered in a case, round by round, as far as it went.
#[derive(Debug)]
pub struct Measured {
    pub name: &'static str,
    pub answers: Vec<Answer>,
    pub failure: Option<Failure>,
}

/// A case, with everybody's figures.
#[derive(Debug, Serialize)]
pub struct Compared {
    #[serde(flatten)]
    pub case: Case,
    pub ours: Figures,
    pub peers: Vec<Figures>,
    /// The fastest peer, and how many times as fast as it ours is; null where there is none, or ours failed.
    pub best: Option<Best>,
}

/// Images a second, over rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub name: &'static str,
    /// The median; null where it failed.
    pub images_per_s: Option<f64>,
    pub rounds: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_mib: Option<u64>,
    /// The largest difference of a logit from ours, over the largest of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Ours beside the fastest peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Best {
    pub name: &'static str,
    /// Of the medians.
    pub ratio: f64,
    /// The least and the most of a round's.
    pub low: f64,
    pub high: f64,
}

impl Best {
    fn shown(&self) -> String {
        spread(self.ratio, (self.low, self.high), |ratio| fixed(ratio, 2))
    }
}

impl Figures {
    fn new(measured: Measured, batch_size: usize) -> Self {
        let Measured { name, answers, failure } = measured;
        let rounds: Vec<f64> = answers.iter().map(|a| 1e3 * batch_size as f64 / a.ms_per_batch).collect();
        let complete = failure.is_none() && !rounds.is_empty();
        Self {
            name,
            images_per_s: complete.then(|| median(rounds.clone())),
            rounds,
            peak_rss_mib: answers.iter().filter_map(|answer| answer.peak_rss_mib).max(),
            difference: answers.iter().filter_map(|answer| answer.difference).reduce(f64::max),
            failure,
        }
    }

    /// The median, with the least and the most.
    fn cell(&self) -> String {
        match self.images_per_s {
            None if self.failure.is_some() => "failed".to_owned(),
            None => String::new(),
            Some(median) => spread(median, least_and_most(&self.rounds), rate),
        }
    }
}

impl Compared {
    pub fn new(case: Case, ours: Measured, peers: Vec<Measured>) -> Self {
        let figures = |measured| Figures::new(measured, case.batch_size);
        let (ours, peers) = (figures(ours), peers.into_iter().map(figures).collect::<Vec<_>>());
        let best = best(&ours, &peers);
        Self { case, ours, peers, best }
    }

    pub fn all(&self) -> impl Iterator<Item = &Figures> {
        std::iter::once(&self.ours).chain(&self.peers)
    }

    /// The outcome in a line.
    pub fn in_a_line(&self) -> String {
        let (case, ours) = (self.case.described(), self.ours.cell());
        match &self.best {
            Some(best) => format!("{case}: {ours} images/s, {} times {}", best.shown(), best.name),
            None => format!("{case}: nothing to compare"),
        }
    }
}

fn best(ours: &Figures, peers: &[Figures]) -> Option<Best> {
    let of_ours = ours.images_per_s?;
    let known = peers.iter().filter_map(|peer| Some((peer, peer.images_per_s?)));
    let (peer, of_peer) = known.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    let ratios: Vec<f64> = ours.rounds.iter().zip(&peer.rounds).map(|(ours, peer)| ours / peer).collect();
    let (low, high) = least_and_most(&ratios);
    Some(Best { name: peer.name, ratio: of_ours / of_peer, low, high })
}

fn least_and_most(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
}

/// `121.0 (119.8-122.4)`, or without the brackets where there is one value only.
fn spread(median: f64, (low, high): (f64, f64), show: impl Fn(f64) -> String) -> String {
    if low == high { show(median) } else { format!("{} ({}-{})", show(median), show(low), show(high)) }
}

/// Images a second, to four digits or so.
fn rate(images_per_s: f64) -> String {
    match images_per_s {
        v if v >= 1000.0 => grouped(v.round() as u64),
        v if v >= 100.0 => fixed(v, 1),
        v => fixed(v, 2),
    }
}

/// A table a work, a column a program, images a second.
pub fn tables(cases: &[Compared]) -> String {
    let of = |work: Work| cases.iter().filter(move |compared| compared.case.work == work);
    let table = |work: Work| {
        let mut names: Vec<&str> = Vec::new();
        for figures in of(work).flat_map(Compared::all) {
            if !names.contains(&figures.name) {
                names.push(figures.name);
            }
        }
        let row = |compared: &Compared| {
            let cell = |name: &&str| {
                compared.all().find(|figures| figures.name == *name).map_or(String::new(), Figures::cell)
            };
            let best = compared.best.as_ref();
            let ratio = best.map_or(String::new(), |best| format!("{} {}", best.shown(), best.name));
            let case = [compared.case.name(), compared.case.batch_size.to_string()];
            case.into_iter().chain(names.iter().map(cell)).chain([ratio]).collect()
        };
        let rows: Vec<Vec<String>> = of(work).map(row).collect();
        let header =
            ["images/s", "batch"].into_iter().chain(names.iter().copied()).chain(["ours to the best"]);
        output::table(&header.collect::<Vec<_>>(), &rows)
    };
    let works = Work::ALL.into_iter().filter(|work| of(*work).next().is_some());
    works.map(table).collect::<Vec<_>>().join("\n\n")
}

/// Who failed in what, with the end of its stderr.
pub fn failures(cases: &[Compared]) -> Vec<String> {
    let of_case = |compared: &Compared| {
        let name = compared.case.described();
        let said = |figures: &Figures| {
            let Failure { message, stderr } = figures.failure.as_ref()?;
            let indented: String = stderr.lines().map(|line| format!("\n    {line}")).collect();
            Some(format!("{}, {name}: {message}{indented}", figures.name))
        };
        compared.all().filter_map(said).collect::<Vec<_>>()
    };
    cases.iter().flat_map(of_case).collect()
}

#[cfg(test)]
mod tests {
    use super::super::peers::Numbers;
    use super::*;

    fn measured(name: &'static str, ms: &[f64]) -> Measured {
        let answer = |&ms_per_batch| Answer { ms_per_batch, peak_rss_mib: None, difference: None };
        Measured { name, answers: ms.iter().map(answer).collect(), failure: None }
    }

    fn failed(name: &'static str, ms: &[f64]) -> Measured {
        let failure = Failure { message: "ended with signal 9".into(), stderr: "one\ntwo".into() };
        Measured { failure: Some(failure), ..measured(name, ms) }
    }

    fn case(work: Work, numbers: Option<Numbers>, batch_size: usize) -> Case {
        Case { work, numbers, batch_size, steps: 1 }
    }

    #[test]
    fn a_ratio_is_of_medians_to_the_fastest_that_went_all_the_way() {
        let peers = vec![
            measured("slow", &[100.0, 100.0, 100.0]),
            measured("fast", &[20.0, 40.0, 32.0]),
            failed("fastest", &[1.0]),
        ];
        let compared =
            Compared::new(case(Work::Infer, None, 16), measured("ours", &[10.0, 16.0, 20.0]), peers);
        let best = compared.best.unwrap();
        assert_eq!((best.name, best.ratio), ("fast", 2.0));
        // 20 to 10, 40 to 16, 32 to 20.
        assert!((best.low - 1.6).abs() < 1e-12 && (best.high - 2.5).abs() < 1e-12, "{best:?}");
        assert_eq!(compared.ours.rounds, [1600.0, 1000.0, 800.0]);
        assert_eq!((compared.peers[2].images_per_s, compared.peers[2].rounds.len()), (None, 1));

        let without = |ours, peers| Compared::new(case(Work::Infer, None, 1), ours, peers).best;
        assert_eq!(without(failed("ours", &[]), vec![measured("fast", &[1.0])]), None);
        assert_eq!(without(measured("ours", &[1.0]), vec![failed("fast", &[])]), None);
        assert_eq!(without(measured("ours", &[1.0]), vec![]), None);
    }

    #[test]
    fn tables_have_a_column_a_program_and_say_who_failed() {
        let cases = [
            Compared::new(
                case(Work::Infer, Some(Numbers::F32), 16),
                measured("ours", &[125.0, 128.0, 160.0]),
                vec![measured("A", &[250.0, 256.0, 200.0]), failed("B", &[])],
            ),
            Compared::new(
                case(Work::Infer, Some(Numbers::Bf16), 1),
                measured("ours", &[10.0]),
                vec![measured("C", &[8.0])],
            ),
            Compared::new(case(Work::Loader, None, 256), measured("ours", &[50.0]), vec![]),
        ];
        assert_eq!(
            tables(&cases),
            "images/s    batch                 ours                    A       B      C    ours to the best\n\
             infer f32      16  125.0 (100.0-128.0)  64.00 (62.50-80.00)  failed         1.95 (1.25-2.00) A\n\
             infer bf16      1                100.0                               125.0              0.80 C\n\n\
             images/s  batch   ours  ours to the best\n\
             loader      256  5,120"
        );
        assert_eq!(
            cases.each_ref().map(Compared::in_a_line),
            [
                "infer f32, batch 16: 125.0 (100.0-128.0) images/s, 1.95 (1.25-2.00) times A",
                "infer bf16, batch 1: 100.0 images/s, 0.80 times C",
                "loader, batch 256: nothing to compare"
            ]
        );
        assert_eq!(failures(&cases), ["B, infer f32, batch 16: ended with signal 9\n    one\n    two"]);
    }
}
