//! `weights`: pretrained weights from the hub, or a file of one's own made fit.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use ff_model::weights::Kind;
use ff_train::weights::pretrained::{DEFAULT_REPOSITORY, Installed, WeightsSource, install};

use crate::Ending;
use crate::output::{self, grouped, note};

/// Get pretrained weights and put them where `train` finds them, or convert a file.
///
/// Without arguments, torchvision's ImageNet weights are downloaded from the Hugging Face hub into its cache, checked
/// against the SHA-256 that this version knows of them, and copied to fairface/resnet34.safetensors in your cache
/// folder. Other repositories are checked against the SHA-256 that the hub announces. A broken download goes on where it
/// stopped when the command is run again. HF_ENDPOINT names a mirror, HF_TOKEN a token, HF_HOME the hub's cache.
///
/// --file takes what you have: safetensors or PyTorch .pth/.pt state dicts (no code in them is run), of torchvision,
/// timm, this project, or FairFace's own 7-race ResNet-34, which becomes a model that predict and evaluate take.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    weights                                                  ImageNet weights for `train`\n  \
    weights --file resnet34-b627a593.pth                     torchvision's file, for `train`\n  \
    weights --file res34_fair_align_multi_7_20190809.pt --out fairface.safetensors\n  \
    predict --weights fairface.safetensors photo.jpg         FairFace's own model")]
pub struct Args {
    /// The hub's repository; its model.safetensors is taken.
    #[arg(long, value_name = "OWNER/NAME", default_value = DEFAULT_REPOSITORY,
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    source: String,
    /// Convert this file instead.
    #[arg(long, value_name = "FILE", conflicts_with = "source")]
    file: Option<PathBuf>,
    /// Seconds without a byte after which a silent hub is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Where to write [default: a backbone where `train` looks for it, a whole model beside FILE as .safetensors].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn run(args: &Args, json: bool) -> Result<Ending> {
    let source = match &args.file {
        Some(file) => WeightsSource::File(file.clone()),
        None => WeightsSource::Hub(args.source.clone()),
    };
    let bar = output::progress(0, "[{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta}");
    let timeout = Duration::from_secs(args.timeout);
    let installed = install(&source, args.out.as_deref(), timeout, &mut |transfer| {
        bar.set_length(transfer.total);
        bar.set_position(transfer.done);
    });
    bar.finish_and_clear();
    if matches!(installed, Err(ff_train::Error::Hub(_))) {
        note!("without a network, get the file on another machine and run `fairface weights --file FILE`");
    }
    let installed = installed?;
    if installed.verified == Some(false) {
        tracing::warn!("the hub announced no SHA-256 for this file, so it was not checked");
    }
    if json {
        output::print_json(&installed)?;
    } else {
        print(&installed);
    }
    Ok(Ending::Success)
}

fn print(installed: &Installed) {
    let Installed { path, sha256, kind, tensors, params, known, verified } = installed;
    output::say!("{}", path.display());
    output::say!("sha256 {sha256}{}", if *verified == Some(true) { ", as the hub announced it" } else { "" });
    if let Some(known) = known {
        output::say!("{known}, known by their SHA-256");
    }
    output::say!("{tensors} tensors, {} parameters", grouped(*params as u64));
    note!(
        "{}",
        match kind {
            Kind::Backbone => "a backbone: `train` starts from it",
            Kind::Model => "a whole model: predict and evaluate take it with --weights",
            Kind::Fairface => "FairFace's model: predict and evaluate take it with --weights",
        }
    );
}
