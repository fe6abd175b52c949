//! `weights`: models by name or from the hub, or a file of one's own made fit.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use ff_data::user_cache;
use ff_hub::catalogue::{self, KnownModel, MODELS, Place, Purpose, RESNET34};
use ff_model::weights::Kind;
use ff_train::weights::cached_weights;
use ff_train::weights::pretrained::{Installation, Installed, WeightsSource, install};
use serde::Serialize;

use crate::output::{self, grouped, note};
use crate::{Context, Ending};

/// Get models by name and put them where `train`, `predict` and the others find them, or convert a file.
///
/// Without arguments, torchvision's ImageNet weights are downloaded from the Hugging Face hub into its cache, checked
/// against the SHA-256 that this version knows of them, and copied to fairface/resnet34.safetensors in your cache
/// folder. Other names go there as NAME.safetensors: --list shows them, their licences, and what is there already.
/// After `weights fairface`, `predict photo.jpg` works in any folder.
///
/// Other repositories are checked against the SHA-256 that the hub announces. A broken download goes on where it
/// stopped when the command is run again. HF_ENDPOINT names a mirror of the hub, HF_TOKEN a token, HF_HOME the hub's
/// cache; FAIRFACE_MIRROR replaces https://github.com.
///
/// --file takes what you have: safetensors or PyTorch .pth/.pt state dicts (no code in them is run), of torchvision,
/// timm, this project, or FairFace's own 7-race ResNet-34, which becomes a model that predict and evaluate take. With a
/// NAME it is kept under that name.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    weights                                                  ImageNet weights for `train`\n  \
    weights resnet18                                         those for `train --backbone resnet18`\n  \
    weights fairface                                         FairFace's own model, for `predict`\n  \
    weights --file resnet34-b627a593.pth                     torchvision's file, for `train`\n  \
    weights fairface --file res34_fair_align_multi_7_20190809.pt\n  \
    weights --file mine.pt --out mine.safetensors            then `predict --model mine.safetensors`")]
pub struct Args {
    /// Which model [default: resnet34].
    #[arg(value_name = "NAME", value_parser = known_model())]
    name: Option<&'static KnownModel>,
    /// A repository of the hub instead; its model.safetensors is taken.
    #[arg(long, value_name = "OWNER/NAME", conflicts_with = "name", value_parser = NonEmptyStringValueParser::new())]
    source: Option<String>,
    /// Convert this file instead.
    #[arg(long, value_name = "FILE", conflicts_with = "source")]
    file: Option<PathBuf>,
    /// Show the models that are known by name: what, where, how large, known by which SHA-256, licence, whom to name.
    #[arg(long, conflicts_with_all = ["name", "source", "file", "out", "timeout"])]
    list: bool,
    /// Seconds without a byte after which a silent server is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Where to write [default: what has a name and backbones where others look for them, a whole model beside FILE as
    /// .safetensors].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Parses the name of a model.
fn known_model() -> impl TypedValueParser<Value = &'static KnownModel> {
    let names = PossibleValuesParser::new(MODELS.map(|model| model.name));
    names.map(|name| catalogue::find(&name).expect("it is one of the possible values"))
}

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    if args.list {
        return list(json);
    }
    let source = match (&args.file, &args.source) {
        (Some(path), _) => WeightsSource::File { path: path.clone(), kept_as: args.name },
        (None, Some(repository)) => WeightsSource::Hub(repository.clone()),
        (None, None) => WeightsSource::Known(args.name.unwrap_or(&RESNET34)),
    };
    let bar = output::progress(0, "[{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta}");
    let (cache, timeout) = (user_cache(), Duration::from_secs(args.timeout));
    let to = Installation { cache: cache.as_deref(), out: args.out.as_deref(), timeout };
    let installed = install(&source, to, &mut |transfer| {
        bar.set_length(transfer.total);
        bar.set_position(transfer.done);
    });
    bar.finish_and_clear();
    if matches!(installed, Err(ff_train::Error::Hub(_))) {
        let name = args.name.map_or(String::new(), |model| format!("{} ", model.name));
        let program = context.program;
        note!(
            "without a network, get the file on another machine and run `{program} weights {name}--file FILE`"
        );
    }
    let installed = installed?;
    if installed.verified == Some(false) {
        tracing::warn!("the hub announced no SHA-256 for this file, so it was not checked");
    }
    if let (Some(_), Some(model), None) = (&args.file, args.name, installed.known) {
        tracing::warn!("it is kept as {}, but is not the file that is known as {}", model.name, model.title);
    }
    if json {
        output::print_json(&installed)?;
    } else {
        print(&installed);
    }
    Ok(Ending::Success)
}

fn print(installed: &Installed) {
    let Installed { path, sha256, kind, tensors, params, name, known, licence, credit, verified } = installed;
    output::say!("{}", path.display());
    let as_announced = *verified == Some(true) && known.is_none();
    output::say!("sha256 {sha256}{}", if as_announced { ", as the hub announced it" } else { "" });
    if let Some(known) = known {
        output::say!("{known}, known by their SHA-256");
    }
    if let (Some(licence), Some(credit)) = (licence, credit) {
        output::say!("{licence}: {credit}");
    }
    output::say!("{tensors} tensors, {} parameters", grouped(*params as u64));
    note!(
        "{}",
        match (kind, name) {
            (Kind::Backbone, _) => "a backbone: `train` starts from it".to_owned(),
            (_, Some(name)) =>
                format!("a whole model: predict, embed and evaluate take it with --model {name}"),
            (_, None) =>
                format!("a whole model: predict and evaluate take it with --model {}", path.display()),
        }
    );
}

/// A model that is known by name, as `--list --json` shows it.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    title: &'static str,
    purpose: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'static str>,
    bytes: Option<u64>,
    sha256: Option<&'static str>,
    licence: &'static str,
    credit: &'static str,
    path: Option<PathBuf>,
    here: bool,
}

impl Listed {
    fn new(model: &KnownModel) -> Self {
        let (hub, address) = match model.place {
            Place::Hub(file) => (Some(file), None),
            Place::Address(file) => (None, Some(file.address)),
        };
        let path = cached_weights(model.name);
        Self {
            name: model.name,
            title: model.title,
            purpose: match model.purpose {
                Purpose::Backbone => "backbone",
                Purpose::Prediction => "prediction",
            },
            repository: hub.map(|file| file.repository),
            revision: hub.map(|file| file.revision),
            file: hub.map(|file| file.file),
            address,
            bytes: model.bytes,
            sha256: model.file_sha256,
            licence: model.licence,
            credit: model.credit,
            here: path.as_ref().is_some_and(|path| path.is_file()),
            path,
        }
    }
}

fn list(json: bool) -> Result<Ending> {
    let models = MODELS.map(Listed::new);
    if json {
        output::print_json(&serde_json::json!({ "models": models }))?;
        return Ok(Ending::Success);
    }
    output::say!("{:<10}{:<12}{:>15}  {:<14}{}", "name", "for", "bytes", "licence", "here");
    for model in &models {
        let bytes = model.bytes.map_or("unknown".to_owned(), grouped);
        let here = match (&model.path, model.here) {
            (Some(path), true) => path.display().to_string(),
            _ => "no".to_owned(),
        };
        output::say!("{:<10}{:<12}{bytes:>15}  {:<14}{here}", model.name, model.purpose, model.licence);
    }
    for model in &models {
        let place = match (model.repository, model.file, model.revision, model.address) {
            (Some(repository), Some(file), Some(revision), _) => {
                format!("{file} of {repository} at {revision}")
            }
            (.., address) => address.unwrap_or_default().to_owned(),
        };
        output::say!("\n{}: {}", model.name, model.title);
        output::say!("  from    {place}");
        output::say!(
            "  sha256  {}",
            model.sha256.unwrap_or("unknown: the one that the hub announces is taken")
        );
        output::say!("  credit  {}", model.credit);
    }
    Ok(Ending::Success)
}
