//! `export`: a model that other tools open.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{ArgGroup, ValueEnum};
use ff_core::files::sha256;
use ff_model::onnx::{self, BatchNorm, Input, Options, Output};
use ff_model::weights::{Kind as FileKind, WeightFile, compact, labels_metadata, serialise};
use ff_model::{Compute, Engine};
use ff_report::{CardFile, ModelCard, ModelFile, RunReport};
use ff_train::infer::{TrainedSource, open_trained};
use ff_train::run::RunDir;

use crate::model::ModelFlags;
use crate::output::note;
use crate::output_file::{ForceFlag, Kind, OutputFile};
use crate::{Ending, output};

/// Write a trained model as ONNX, or as one safetensors file, whole or in 8 bits.
///
/// ONNX: opset 17, any batch size, the run's image size (224 of a file), one output a task (as age, gender, race); the
/// labels stand in the metadata under `labels`, in the order of the outputs. safetensors: the file that `predict
/// --weights` and PyTorch read. compact: a quarter as long, in 8 bits with a scale an output channel; every command
/// here reads it, and --weights may be a backbone without heads.
///
/// A run's model gets a card beside it, FILE.card.md: what it is, learnt from what, its figures by group, use, limits
/// and law, with the header that the Hugging Face hub reads. A card there that is no longer as it was made stays as it
/// is.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("trained").args(["model", "run", "weights"]).required(true))]
#[command(after_help = "Examples:\n  \
    export --run runs/train-001 --format onnx --out face.onnx\n  \
    export --run runs/train-001 --format onnx --input bytes --output softmax --fold-bn --out face.onnx\n  \
    export --run runs/train-001 --format safetensors --out face.safetensors\n  \
    export --run runs/train-001 --format compact --out face-8bit.safetensors")]
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
    /// For this project: safetensors in 8 bits.
    Compact,
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
        Format::Safetensors | Format::Compact => Kind::Model,
    };
    let out = OutputFile::claim(&args.out, kind, args.force)?;
    let source = args.model.source()?;
    if let (Format::Compact, TrainedSource::Weights(path)) = (args.format, &source) {
        let file = WeightFile::read(path)?;
        if file.kind() == FileKind::Backbone {
            out.write(&compact(&file.parameters()?.0, &[])?)?;
            return args.tell(out.path(), None, json);
        }
    }
    let trained = open_trained(&source, &Compute::cpu(Engine::Reference))?;
    let (parameters, tasks) = (trained.model.parameters(), trained.labels());
    let bytes = match args.format {
        Format::Compact => compact(parameters, &tasks)?,
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
    // The model is what was asked for: it does not wait for what may be wrong with a run's records.
    let card = match &source {
        TrainedSource::Run { dir, .. } => args.write_card(dir, trained.step, &bytes),
        TrainedSource::Weights(_) => Ok(None),
    };
    let card = card.unwrap_or_else(|e| {
        tracing::warn!("no model card: {e}");
        None
    });
    args.tell(out.path(), card, json)
}

impl Args {
    fn tell(&self, path: &Path, card: Option<PathBuf>, json: bool) -> Result<Ending> {
        let (path, opset) =
            (path.display().to_string(), (self.format == Format::Onnx).then_some(onnx::OPSET));
        if json {
            output::print_json(&serde_json::json!({ "path": path, "opset": opset, "card": card }))?;
        } else {
            output::say!("{path}");
        }
        Ok(Ending::Success)
    }

    /// Writes the model's card beside it; gives its place, `None` where there is none to write.
    fn write_card(&self, run: &Path, step: Option<u64>, model: &[u8]) -> Result<Option<PathBuf>> {
        // Nothing lies beside a pipe or a device.
        let Some(name) = self.out.file_name().filter(|_| self.out.is_file()) else { return Ok(None) };
        let name = name.to_string_lossy().into_owned();
        let path = self.out.with_file_name(format!("{name}.card.md"));
        let report = RunReport::without_faces(&RunDir::open(run)?)?;
        let file = ModelFile {
            name,
            format: self.format_in_words(),
            library: self.library(),
            sha256: sha256(model),
        };
        match ModelCard::of_file(&report, step, file).write(&path)? {
            CardFile::Written => {
                note!("model card {}", path.display());
                Ok(Some(path))
            }
            CardFile::TheirOwn => {
                note!("{} does not say that fairface made it: it stays as it is", path.display());
                Ok(None)
            }
        }
    }

    fn format_in_words(&self) -> String {
        let in_8_bits = match self.format {
            Format::Safetensors => Some(""),
            Format::Compact => Some(" in 8 bits"),
            Format::Onnx => None,
        };
        if let Some(in_8_bits) = in_8_bits {
            return format!(
                "safetensors{in_8_bits}, parameters under torchvision's names, labels in its metadata"
            );
        }
        let input = match self.input {
            InputFlag::Normalised => "(batch, 3, height, width) f32, normalised by the caller",
            InputFlag::Bytes => "(batch, height, width, 3) u8 RGB",
        };
        let output = match self.output {
            OutputFlag::Logits => "logits",
            OutputFlag::Softmax => "probabilities",
        };
        let folded = if self.fold_bn { ", BatchNorm folded" } else { "" };
        format!("ONNX, opset {}; takes {input}; gives {output}{folded}", onnx::OPSET)
    }

    fn library(&self) -> &'static str {
        match self.format {
            Format::Onnx => "onnx",
            Format::Safetensors | Format::Compact => "fairface",
        }
    }
}
