//! `sanity`: trust but verify.

use anyhow::Result;
use ff_model::Architecture;
use ff_train::sanity::Depth;

use crate::flags::{ComputeFlags, DataFlags, backbone, sample_config, settle};
use crate::output::{self, alert, note};
use crate::ranges::{self, whole};
use crate::{Context, Ending};

/// Prove that the network learns as it should: shapes, gradients, BatchNorm, overfitting, checkpoints.
///
/// Each check is named and says what it saw; the exit code is 1 when any fails. With --freeze-backbone the gradient
/// checks fail, as they should.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Compare with another engine too: the CPU's on CUDA, where each kernel is also held against its twin on the
    /// processor, and the reference engine on the CPU.
    #[arg(long)]
    full: bool,
    /// Freeze the backbone first, to see the gradient checks fail.
    #[arg(long)]
    freeze_backbone: bool,
    /// The backbone [default: resnet34].
    #[arg(long, value_parser = backbone())]
    backbone: Option<Architecture>,
    /// Seed of the initial values.
    #[arg(long, value_name = "S", value_parser = whole::<u64>(ranges::SEED))]
    seed: Option<u64>,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    compute: ComputeFlags,
}

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    let builder = sample_config(context, &args.data, &args.compute)
        .set("train.seed", args.seed)
        .set("model.backbone", args.backbone)
        .set("model.freeze_backbone", args.freeze_backbone.then_some(true));
    let mut config = settle(builder)?;
    args.data.find_batch_size(&mut config)?;
    let depth = if args.full { Depth::Full } else { Depth::Usual };
    let report = ff_train::sanity::run(&config, depth, |check| {
        if check.passed {
            note!("ok   {:<32} {}", check.name, check.detail);
        } else {
            alert!("FAIL {:<32} {}", check.name, check.detail);
        }
    })?;
    let n_passed = report.checks.iter().filter(|c| c.passed).count();
    if json {
        output::print_json(&report)?;
    } else {
        output::say!("{n_passed} of {} checks passed", report.checks.len());
    }
    Ok(if report.passed { Ending::Success } else { Ending::Failure })
}
