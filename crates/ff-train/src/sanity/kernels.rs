//! Every GPU kernel beside its twin on the processor.

use ff_model::FaceModel;

use super::Verdict;

/// Runs them all on the model's GPU.
#[cfg(feature = "cuda")]
pub fn agree_with_their_twins(model: &FaceModel) -> Verdict {
    let Some(gpu) = model.gpu() else { return Ok((false, "the model uses none of our kernels".to_owned())) };
    let verdicts = ff_kernels::gpu::device::check_kernels(gpu)?;
    let say = |verdict: &ff_kernels::gpu::check::Verdict| {
        format!("{} is off by {:.1e}, {:.0e} is allowed", verdict.name, verdict.difference, verdict.tolerance)
    };
    let failed: Vec<_> = verdicts.iter().filter(|verdict| !verdict.passed()).map(say).collect();
    let mut detail = format!("{} of {} agree", verdicts.len() - failed.len(), verdicts.len());
    if !failed.is_empty() {
        detail += &format!("; {}", failed.join("; "));
    }
    Ok((failed.is_empty(), detail))
}

/// There are none in this build.
#[cfg(not(feature = "cuda"))]
pub fn agree_with_their_twins(_: &FaceModel) -> Verdict {
    Ok((false, "this build has no CUDA".to_owned()))
}
