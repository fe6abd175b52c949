//! `export`: a model that other tools open.

use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgGroup, ValueEnum};
use ff_model::onnx::{self, BatchNorm, Input, Options, Output};
use ff_model::weights::{labels_metadata, serialise};
use ff_model::{Compute, Engine};
use ff_train::infer::open_trained;

use crate::model::ModelFlags;
use crate::output_file::{ForceFlag, Kind, OutputFile};
use crate::{Ending, output};

/// Write a trained model as ONNX, or as one safetensors file.
///
/// ONNX: opset 17, any batch size, the run's image size (224 of a file), one output a task (as age, gender, race); the labels stand in the
/// metadata under `labels`, in the order of the outputs. safetensors: the file that `predict --weights` and PyTorch read.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("trained").args(["model", "run", "weights"]).required(true))]
#[command(after_help = "Examples:\n  \
    export --run runs/train-001 --format onnx --out face.onnx\n  \
    export --run runs/train-001 --format onnx --input bytes --output softmax --fold-bn --out face.onnx\n  \
    export --run runs/train-001 --format safetensors --out face.safetensors")]
pub struct Args {
    #[command(flatten)]
    model: ModelFlags,
    /// What to write.
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    force: ForceFlag,
    /// What an ONNX model takes.
    #[arg(long, value_enum, default_value_t)]
    input: InputFlag,
    /// What an ONNX model gives.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFlag,
    /// Fold BatchNorm into the convolutions of an ONNX model.
    #[arg(long)]
    fold_bn: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For ONNX Runtime, TensorRT, OpenVINO, browsers, ...
    Onnx,
    /// For this project and PyTorch.
    Safetensors,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum InputFlag {
    /// (batch,3,height,width) f32, ImageNet's mean and deviation already taken off.
    #[default]
    Normalised,
    /// (batch,height,width,3) u8 RGB; the model normalises.
    Bytes,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum OutputFlag {
    /// Logits.
    #[default]
    Logits,
    /// Probabilities.
    Softmax,
}

pub fn run(args: &Args, json: bool) -> Result<Ending> {
    let kind = match args.format {
        Format::Onnx => Kind::Onnx,
        Format::Safetensors => Kind::Model,
    };
    let out = OutputFile::claim(&args.out, kind, args.force)?;
    let trained = open_trained(&args.model.source()?, &Compute::cpu(Engine::Reference))?;
    let (parameters, tasks) = (trained.model.parameters(), trained.labels());
    let bytes = match args.format {
        Format::Safetensors => serialise(parameters, labels_metadata(&tasks))?,
        Format::Onnx => {
            let input = match args.input {
                InputFlag::Normalised => Input::Normalised,
                InputFlag::Bytes => Input::Bytes,
            };
            let output = match args.output {
                OutputFlag::Logits => Output::Logits,
                OutputFlag::Softmax => Output::Probabilities,
            };
            let size = trained.image_size.map_or_else(Options::default, |size| Options {
                height: size,
                width: size,
                ..Options::default()
            });
            let batch_norm = if args.fold_bn { BatchNorm::Folded } else { BatchNorm::Kept };
            onnx::export(parameters, &tasks, &Options { input, output, batch_norm, ..size })?
        }
    };
    out.write(&bytes)?;
    let opset = (args.format == Format::Onnx).then_some(onnx::OPSET);
    if json {
        output::print_json(&serde_json::json!({ "path": out.path().display().to_string(), "opset": opset }))?;
    } else {
        output::say!("{}", out.path().display());
    }
    Ok(Ending::Success)
}
