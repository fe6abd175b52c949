//! Who is compared with: other people's programs, the scripts of `tests/peers` that run them, and the works that they
//! share with our benches.

use std::fmt;

use clap::ValueEnum;
use ff_model::Precision;
use serde::Serialize;

/// The scripts, by name; they lie in one folder and import each other.
pub const SCRIPTS: [(&str, &str); 4] = [
    ("common.py", include_str!("../../../../../../tests/peers/common.py")),
    ("infer.py", include_str!("../../../../../../tests/peers/infer.py")),
    ("train_step.py", include_str!("../../../../../../tests/peers/train_step.py")),
    ("loader.py", include_str!("../../../../../../tests/peers/loader.py")),
];

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Forward in evaluation mode; batches of 16, and of 1.
    Infer,
    /// Forward, backward and optimiser; batches of 32.
    Train,
    /// Reading, decoding, augmenting; batches of 256.
    Loader,
}

impl Work {
    pub const ALL: [Self; 3] = [Self::Infer, Self::Train, Self::Loader];

    /// The bench's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Train => "train",
            Self::Loader => "loader",
        }
    }

    /// Unless other ones are asked for.
    pub const fn batch_sizes(self) -> &'static [usize] {
        match self {
            Self::Infer => &[16, 1],
            Self::Train => &[32],
            Self::Loader => &[256],
        }
    }

    /// Steps that a process times, unless another number is asked for: some seconds' worth on two cores.
    pub const fn steps(self, batch_size: usize) -> usize {
        match self {
            Self::Infer if batch_size < 8 => 60,
            Self::Infer => 15,
            Self::Train => 4,
            Self::Loader => 3,
        }
    }

    /// What an image costs in forward passes; the loader computes none.
    pub const fn forward_passes(self) -> f64 {
        match self {
            Self::Infer => 1.0,
            Self::Train => 3.0,
            Self::Loader => 0.0,
        }
    }
}

/// What peers compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// float32.
    F32,
    /// bfloat16.
    Bf16,
    /// 8 bits, inference only; ours, which has none, stands beside in its fastest precision.
    Int8,
}

impl Numbers {
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// Ours beside it, on this machine.
    pub fn ours(self) -> Precision {
        match self {
            Self::Bf16 => Precision::Bf16,
            Self::Int8 if Precision::Bf16.runs_on_this_cpu() => Precision::Bf16,
            Self::F32 | Self::Int8 => Precision::F32 { tf32: false },
        }
    }

    /// The largest difference of a logit from ours, over the largest of ours, that the same network may have.
    const fn tolerance(self) -> f64 {
        match self {
            Self::F32 => 1e-3,
            Self::Bf16 => 0.1,
            // Calibrated on one synthetic batch: how good it is, is not what is measured.
            Self::Int8 => f64::INFINITY,
        }
    }
}

/// One line of the comparison: the same for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Case {
    pub work: Work,
    /// `None` of the loader.
    #[serde(rename = "precision")]
    pub numbers: Option<Numbers>,
    pub batch_size: usize,
    pub steps: usize,
}

impl Case {
    /// `infer f32`, and where ours computes in something else, in what.
    pub fn name(&self) -> String {
        let work = self.work.name();
        match self.numbers {
            None => work.to_owned(),
            Some(Numbers::Int8) => format!("{work} int8, ours {}", Numbers::Int8.ours()),
            Some(numbers) => format!("{work} {}", numbers.name()),
        }
    }

    pub fn described(&self) -> String {
        format!("{}, batch {}", self.name(), self.batch_size)
    }

    /// Whether a peer's logits are those of the same network.
    pub fn is_same_network(&self, difference: f64) -> bool {
        self.numbers.is_none_or(|numbers| difference <= numbers.tolerance())
    }
}

/// A program that does what one of our benches does.
#[derive(Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: &'static str,
    pub work: Work,
    /// Empty of loaders.
    numbers: &'static [Numbers],
    /// What has to be imported for it.
    pub modules: &'static [&'static str],
    pub script: &'static str,
    /// What tells it from others of the same script.
    pub args: [&'static str; 2],
}

impl Peer {
    pub fn takes_part(&self, case: &Case) -> bool {
        self.work == case.work && case.numbers.is_none_or(|numbers| self.numbers.contains(&numbers))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.numbers.iter().map(|numbers| numbers.name()).collect();
        write!(f, "{} ({})", self.name, [&[self.work.name()], &numbers[..]].concat().join(" "))
    }
}

/// Every peer. A program stands here more than once where it needs other modules for other numbers.
pub static PEERS: [Peer; 10] = {
    use Numbers::{Bf16, F32, Int8};
    const fn infer(
        name: &'static str,
        system: &'static str,
        numbers: &'static [Numbers],
        modules: &'static [&'static str],
    ) -> Peer {
        Peer { name, work: Work::Infer, numbers, modules, script: "infer.py", args: ["--system", system] }
    }
    const fn train(name: &'static str, layout: &'static str) -> Peer {
        let (numbers, modules) = (&[F32, Bf16], &["torch", "torchvision"]);
        Peer {
            name,
            work: Work::Train,
            numbers,
            modules,
            script: "train_step.py",
            args: ["--layout", layout],
        }
    }
    const fn loader(name: &'static str, system: &'static str, modules: &'static [&'static str]) -> Peer {
        Peer {
            name,
            work: Work::Loader,
            numbers: &[],
            modules,
            script: "loader.py",
            args: ["--system", system],
        }
    }
    [
        infer("PyTorch", "pytorch", &[F32, Bf16], &["torch", "torchvision"]),
        infer("ONNX Runtime", "onnxruntime", &[F32], &["onnxruntime"]),
        infer("ONNX Runtime", "onnxruntime", &[Int8], &["onnxruntime", "onnx"]),
        infer("OpenVINO", "openvino", &[F32, Bf16], &["openvino"]),
        infer("OpenVINO", "openvino", &[Int8], &["openvino", "onnxruntime", "onnx"]),
        train("PyTorch channels_last", "channels_last"),
        train("PyTorch contiguous", "contiguous"),
        loader("torchvision v2", "torchvision-v2", &["torch", "torchvision"]),
        loader("torchvision v1", "torchvision-v1", &["torch", "torchvision", "cv2"]),
        loader("albumentations", "albumentations", &["torch", "cv2", "albumentations"]),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_case_has_a_peer_twice_and_every_peer_has_a_case_and_a_script() {
        let cases = Work::ALL.into_iter().flat_map(|work| {
            let numbers: &[_] = match work {
                Work::Loader => &[None],
                _ => &[Some(Numbers::F32), Some(Numbers::Bf16), Some(Numbers::Int8)],
            };
            numbers.iter().map(move |&numbers| Case { work, numbers, batch_size: 1, steps: 1 })
        });
        let mut seen = Vec::new();
        for case in cases {
            let of_case: Vec<&Peer> = PEERS.iter().filter(|peer| peer.takes_part(&case)).collect();
            for (i, peer) in of_case.iter().enumerate() {
                assert!(of_case[..i].iter().all(|other| other.name != peer.name), "{peer} twice in {case:?}");
            }
            seen.extend(of_case);
        }
        for peer in &PEERS {
            assert!(seen.contains(&peer), "{peer} takes part in nothing");
            let (_, script) = SCRIPTS.iter().find(|(name, _)| *name == peer.script).unwrap();
            assert!(
                script.contains(&format!("\"{}\"", peer.args[1])),
                "{} knows no {}",
                peer.script,
                peer.args[1]
            );
        }
    }
}
