//! What can go wrong in this crate.

use std::path::PathBuf;

use ff_model::Architecture;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What to tell somebody who has no pretrained weights.
pub const HOW_TO_GET_WEIGHTS: &str = "run `fairface weights` once to download them (in the repository `cargo xtask weights`; with a name after \
     it for another backbone than resnet34), or pass a file as --init FILE, or start from random weights with --init random";

/// Everything that can go wrong while training and evaluating.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration that cannot be used: unknown key, wrong type, value out of range.
    #[error("{origin}: {message}")]
    Config {
        /// The file, flag or preset that it came from.
        origin: String,
        /// What was expected and what was found.
        message: String,
    },
    /// Labels, images or splits.
    #[error(transparent)]
    Data(#[from] ff_data::Error),
    /// Tasks or labels.
    #[error(transparent)]
    Schema(#[from] ff_core::schema::Error),
    /// Predictions or what is found out about them.
    #[error(transparent)]
    Eval(#[from] ff_eval::Error),
    /// Network or weights.
    #[error(transparent)]
    Model(#[from] ff_model::Error),
    /// A tensor operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A GPU, its driver or cuDNN refuse.
    #[error(transparent)]
    Gpu(#[from] ff_kernels::gpu::error::Error),
    /// A file could not be read or written; the message carries its path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file of a run or checkpoint is not what it should be.
    #[error("{}: {message}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// A set of crops of other photos, or made with other settings.
    #[error("{}: expected crops of the same photos and settings, found others: {differences}", path.display())]
    OtherCrops {
        /// The set's journal.
        path: PathBuf,
        /// What is not the same.
        differences: String,
    },
    /// A tensor of the optimiser's state is not as long as the parameters.
    #[error("{name}: expected {expected} values, found {found}")]
    StateLength {
        /// The tensor.
        name: String,
        /// Number of parameters.
        expected: usize,
        /// Number of values.
        found: usize,
    },
    /// `--init pretrained` without weights at hand.
    #[error("no pretrained weights of {backbone}: looked for {looked_for}; {how}", how = HOW_TO_GET_WEIGHTS)]
    NoPretrained {
        /// The backbone, of which none are bundled.
        backbone: Architecture,
        /// The places tried.
        looked_for: String,
    },
    /// A model that is asked for by name and has not been downloaded.
    #[error(
        "no model {name} on this machine: looked for {looked_for}; run `fairface weights {name}` once to download it \
             (in the repository `cargo xtask weights {name}`)"
    )]
    NotDownloaded {
        /// What it is called.
        name: &'static str,
        /// The place tried.
        looked_for: String,
    },
    /// Something could not be fetched from the network.
    #[error(transparent)]
    Hub(#[from] ff_hub::Error),
    /// The loss or the gradient is not a number any more.
    #[error("step {step}: the loss is {loss}, the gradient's norm {grad_norm}; batch: {}; {last_good}; {advice}", files.join(", "), advice = "lower optimizer.lr, set optimizer.clip_norm, or look at these images; train.on_non_finite = \"skip\" passes over such steps")]
    NonFinite {
        /// The step that it happened at.
        step: u64,
        /// The loss.
        loss: f64,
        /// The l2 norm of the gradient.
        grad_norm: f64,
        /// Where the last good checkpoint is, or that there is none.
        last_good: String,
        /// The batch's files.
        files: Vec<String>,
    },
    /// A model that must not be kept: a parameter or statistic is not a number any more.
    #[error("{}: expected finite values, found others in {tensor}", path.display())]
    NonFiniteWeights {
        /// The file that would have held it.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The weights are where no step leads back from.
    #[error("step {step}: {what}; {last_good}; lower optimizer.lr, or set optimizer.clip_norm")]
    Diverged {
        /// The step after which it was seen.
        step: u64,
        /// What was seen.
        what: String,
        /// Where the last good checkpoint is, or that there is none.
        last_good: String,
    },
    /// There is nothing to judge a model by.
    #[error("expected samples to evaluate, found {found}")]
    NoSamples {
        /// What there was instead.
        found: String,
    },
    /// A model's answer about an image is no number.
    #[error("{file}: expected finite {what}, found {value}; the weights are damaged or have diverged")]
    NonFiniteOutput {
        /// The image.
        file: String,
        /// What the model gave.
        what: String,
        /// The first value of it that is not finite.
        value: f32,
    },
    /// A launcher and this program do not go together.
    #[error("{message}")]
    Launcher {
        /// What was expected and what was found.
        message: String,
    },
    /// MPI refuses.
    #[error("MPI: {message}")]
    Mpi {
        /// What it said.
        message: String,
    },
    /// Ranks do not find each other.
    #[error("rank {rank} at {at}: {message}")]
    Rendezvous {
        /// Which rank says so.
        rank: usize,
        /// Where they were to meet.
        at: String,
        /// What was expected and what was found.
        message: String,
    },
    /// Something failed on another rank.
    #[error("rank {rank}: {message}")]
    OnRank {
        /// The rank.
        rank: usize,
        /// What it said.
        message: String,
    },
    /// A rank is not there any more.
    #[error("rank {rank} has left the others")]
    RankLost {
        /// The rank.
        rank: usize,
    },
    /// Ranks that were not started alike, or have come apart.
    #[error("rank {rank} differs from rank 0 in {what}: expected {expected}, found {found}")]
    RanksDiffer {
        /// The first rank that differs.
        rank: usize,
        /// What differs.
        what: String,
        /// What rank 0 has.
        expected: String,
        /// What the other one has.
        found: String,
    },
    /// The run folder cannot be used as asked.
    #[error("{}: {message}", path.display())]
    RunDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        message: String,
    },
}

impl Error {
    /// Whether every rank of a run ends with it, at the same place: one of them is enough to say so.
    pub fn is_everywhere(&self) -> bool {
        matches!(
            self,
            Self::OnRank { .. }
                | Self::Diverged { .. }
                | Self::RanksDiffer { .. }
                | Self::NonFinite { .. }
                | Self::NonFiniteOutput { .. }
        )
    }

    /// Whether a GPU's memory was too small, for our engine or for candle.
    pub fn is_out_of_memory(&self) -> bool {
        // candle has no error of its own for it: it passes on the driver's words.
        let message = self.to_string();
        ["out of GPU memory", "OUT_OF_MEMORY", "out of memory"].iter().any(|words| message.contains(words))
    }
}

#[cfg(test)]
mod tests {
    use ff_kernels::gpu::error::Error as GpuError;

    use super::*;

    #[test]
    fn a_full_gpu_is_told_apart() {
        let full = GpuError::OutOfMemory { asked: 2, free: 1, total: 2, batch: None };
        assert!(Error::from(full).is_out_of_memory());
        let candle =
            candle_core::Error::Msg("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into());
        assert!(Error::from(candle).is_out_of_memory());
        assert!(!Error::from(GpuError::NoGpu { asked: 0, found: 0 }).is_out_of_memory());
    }
}
