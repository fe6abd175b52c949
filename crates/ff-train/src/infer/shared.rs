//! An evaluation that ranks share: whole batches each, and everybody's answers everywhere.
//!
//! Answers are put together by place, so nothing is counted twice or padded, and the predictions are those of a process
//! that had seen all samples itself.

use std::ops::ControlFlow;

use ff_core::PerTask;
use ff_eval::{Predictions, TestTimeAugmentation};
use ff_model::FaceModel;
use serde::{Deserialize, Serialize};

use super::evaluate::Answers;
use crate::feed::Feeder;
use crate::ranks::{Ranks, share_of};
use crate::{Error, Result};

/// What became of a rank's batches.
#[derive(Serialize, Deserialize)]
enum Said {
    /// Probabilities as bits of f32.
    Answers { rows: Vec<u32>, probabilities: PerTask<Vec<u32>>, skipped: Option<String> },
    /// It was asked to stop.
    Stopped,
    /// [`Error::NonFiniteOutput`], the value as bits.
    NonFinite { file: String, what: String, value: u32 },
    /// Anything else.
    Failed(String),
}

/// As [`predict`](super::predict()), each rank over its own batches; `progress` hears the samples that it has done.
///
/// # Errors
/// As `predict`, and the same everywhere: [`Error::OnRank`] where a batch failed, on whichever rank; a rank is gone.
pub fn predict_on_ranks(
    ranks: &mut dyn Ranks,
    model: &mut FaceModel,
    feeder: &mut Feeder,
    progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Predictions>> {
    let own = share_of(ranks.rank(), ranks.size(), feeder.loader().n_batches());
    let here = Answers::to(own, TestTimeAugmentation::None, model, feeder, progress);
    let said = match here {
        Ok(Some(Answers { rows, probabilities, skipped })) => {
            let bits = |values: &Vec<f32>| values.iter().copied().map(f32::to_bits).collect();
            Said::Answers { rows, probabilities: probabilities.each(|_, values| bits(values)), skipped }
        }
        Ok(None) => Said::Stopped,
        Err(Error::NonFiniteOutput { file, what, value }) => {
            Said::NonFinite { file, what, value: value.to_bits() }
        }
        Err(why) => Said::Failed(why.to_string()),
    };
    let all = ranks.gather(&serde_json::to_vec(&said).expect("it is JSON"))?;
    let mut together: Option<Answers> = None;
    for (rank, bytes) in all.iter().enumerate() {
        let (rows, probabilities, skipped) =
            match serde_json::from_slice(bytes).expect("it was written above") {
                Said::Answers { rows, probabilities, skipped } => (rows, probabilities, skipped),
                Said::Stopped => return Ok(None),
                Said::NonFinite { file, what, value } => {
                    return Err(Error::NonFiniteOutput { file, what, value: f32::from_bits(value) });
                }
                Said::Failed(message) => return Err(Error::OnRank { rank, message }),
            };
        let values = |bits: &Vec<u32>| bits.iter().copied().map(f32::from_bits).collect::<Vec<_>>();
        let probabilities = probabilities.each(|_, bits| values(bits));
        match &mut together {
            None => together = Some(Answers { rows, probabilities, skipped }),
            Some(so_far) => {
                so_far.rows.extend(rows);
                for (task, values) in probabilities {
                    so_far.probabilities[&task].extend(values);
                }
                so_far.skipped = so_far.skipped.take().or(skipped);
            }
        }
    }
    let together = together.expect("there is at least one rank");
    together.predictions(feeder.loader()).map(Some)
}
