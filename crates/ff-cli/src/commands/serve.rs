//! `serve`: a model over HTTP, with a page.

mod views;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ArgGroup;
use ff_data::{FaceBox, ImageRules};
use ff_report::{GroupFigures, RunReport};
use ff_serve::{
    About, Engine, EngineOptions, Groups, Metrics, Options, Router, Served, Shutdown, Token, served_tasks,
};
use ff_train::infer::{Predictor, TrainedSource, open_trained};
use ff_train::run::RunDir;
use ff_train::{ConfigBuilder, Preset};
use serde::Serialize;

use self::views::ViewFlags;
use crate::flags::{ComputeFlags, settle};
use crate::model::ModelFlags;
use crate::output::{self, note, say};
use crate::ranges::{self, number, whole};
use crate::{Context, Ending};

/// Serve a model over HTTP: an API, a page at / to drop photos on, figures for Prometheus.
///
/// POST a photo to /v1/faces, or a form with several, and get the rows that `predict --json` writes; /v1/embed gives
/// embeddings, /v2/models/NAME/infer takes prepared tensors (Open Inference Protocol), /openapi.json says all of it.
/// Photos are in memory while they are worked on, and are never written or logged.
///
/// It listens for this machine alone, unless --address says otherwise, which needs a --token-file: clients then send
/// its first line as `Authorization: Bearer TOKEN`, browsers ask for it as a password. There is no TLS: put a proxy
/// before it.
///
/// Race is not answered unless --tasks names it: to infer race from faces of single persons is banned in the European
/// Union (AI Act, Article 5(1)(g)), save for labelling or filtering lawfully acquired data sets.
///
/// Ctrl-C or SIGTERM finishes what has begun and ends with exit code 0; a second one ends at once.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("trained").args(["model", "run", "weights"]))]
#[command(after_help = "Examples:\n  \
    serve                                       FairFace's own model, after `weights fairface`, at http://127.0.0.1:8080\n  \
    serve --run runs/train-001 --address 127.0.0.1:9000\n  \
    serve --address 0.0.0.0:8080 --token-file /etc/fairface/token --host faces.example.org\n  \
    serve --runs runs                           watch trainings, no model needed\n  \
    serve --audit audit.json --audit runs/train-001/evaluation/val.json --images photos\n  \
    curl --data-binary @photo.jpg -H 'content-type: image/jpeg' 'localhost:8080/v1/faces?faces=all'\n  \
    curl -F photo=@a.jpg -F photo=@b.jpg localhost:8080/v1/faces")]
pub struct Args {
    #[command(flatten)]
    model: ModelFlags,
    /// Where to listen; port 0 is any free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    address: SocketAddr,
    /// A file whose first line clients must send: 16 characters or more.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A name that clients call this machine by, beside localhost; may be given several times.
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// The tasks that are answered [default: all but race].
    #[arg(long, value_name = "TASK,...", value_delimiter = ',')]
    tasks: Option<Vec<String>>,
    /// How much of a face is added on every side; FairFace's crops have a quarter.
    #[arg(long, value_name = "SHARE", allow_hyphen_values = true, default_value_t = FaceBox::FAIRFACE_PADDING,
          value_parser = number(ranges::PADDING))]
    padding: f64,
    /// Height and width that crops are resized to [default: the run's, or 224].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::IMAGE_SIZE))]
    image_size: Option<usize>,
    /// The most faces in a batch; a batch is whatever waits, none is waited for.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = whole::<usize>(ranges::SERVED_BATCH))]
    batch_size: usize,
    /// Threads that decode and find faces [default: CPUs - 2, at least 2, at most 8].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::WORKERS))]
    workers: Option<usize>,
    /// Images that wait or are worked on; further ones are answered 429.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = whole::<usize>(ranges::QUEUE))]
    queue: usize,
    /// Longest body of a request, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 10, value_parser = whole::<usize>(ranges::BODY_MIB))]
    max_body: usize,
    /// Largest image, in pixels; one that claims more is refused before memory is taken.
    #[arg(long, value_name = "N", default_value_t = 50_000_000, value_parser = whole::<u64>(ranges::MAX_PIXELS))]
    max_pixels: u64,
    /// Connections at once; further ones wait.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = whole::<usize>(ranges::CONNECTIONS))]
    max_connections: usize,
    /// Seconds that a body may take to come, an answer to be made, and to be taken, and requests to be finished when
    /// asked to stop.
    #[arg(long, value_name = "S", default_value_t = 30.0, value_parser = number(ranges::REQUEST_SECONDS))]
    timeout: f64,
    #[command(flatten)]
    views: ViewFlags,
    #[command(flatten)]
    compute: ComputeFlags,
}

/// What is said when clients may come.
#[derive(Debug, Serialize)]
struct Listening {
    address: SocketAddr,
    url: String,
    model: String,
    tasks: Vec<String>,
    off: Vec<String>,
}

pub fn run(args: &Args, context: &Context, json: bool) -> Result<Ending> {
    let options = args.options()?;
    options.check()?;
    let shutdown = Shutdown::new();
    let views = args.views.places();
    if !views.is_empty() && !args.model.any_said() {
        return listen(&options, args.views.routes_alone(&shutdown)?, &shutdown, |address| {
            let url = format!("http://{address}/");
            note!("serving {}; Ctrl-C to stop", views.join(", "));
            if json {
                let _ = output::print_json(
                    &serde_json::json!({ "address": address, "url": url, "views": views }),
                );
            } else {
                say!("{url}");
            }
        });
    }
    let served = args.served(context)?;
    let (model, tasks) = (served.about.name.clone(), served.tasks.clone());
    let off: Vec<String> = served.about.off.iter().map(|off| off.task.clone()).collect();
    for task in &off {
        note!("off     {task}; --tasks names what is answered, and `serve --help` says why race is off");
    }
    let routes = args.views.routes(&shutdown)?.merge(ff_serve::routes(served, &shutdown));
    listen(&options, routes, &shutdown, |address| {
        let url = format!("http://{address}/");
        note!("serving {model} ({}); Ctrl-C to stop", tasks.join(", "));
        if json {
            // A reader that has gone is no reason not to serve.
            let _ = output::print_json(&Listening { address, url, model, tasks, off });
        } else {
            say!("{url}");
        }
    })
}

/// Serves until Ctrl-C or SIGTERM.
fn listen(
    options: &Options,
    routes: Router,
    shutdown: &Shutdown,
    listening: impl FnOnce(SocketAddr),
) -> Result<Ending> {
    let stop = shutdown.clone();
    ctrlc::set_handler(move || {
        if stop.begin() {
            std::process::exit(130); // asked twice: at once
        }
    })
    .context("cannot listen for Ctrl-C")?;
    ff_serve::serve(options, routes, shutdown, listening)?;
    note!("stopped");
    Ok(Ending::Success)
}

impl Args {
    fn options(&self) -> Result<Options> {
        let token = self.token_file.as_deref().map(Token::read).transpose()?;
        let timeout = Duration::from_secs_f64(self.timeout);
        Ok(Options {
            address: self.address,
            token,
            hosts: self.host.clone(),
            max_connections: self.max_connections,
            write_timeout: timeout,
            shutdown_timeout: timeout,
            ..Options::default()
        })
    }

    /// The model, its threads started.
    fn served(&self, context: &Context) -> Result<Served> {
        let source = self.model.source()?;
        let builder = self.compute.over(ConfigBuilder::new(Preset::Sample, &context.root));
        let builder = builder.set("data.image_size", self.image_size).set("data.workers", self.workers);
        let config = settle(builder)?;
        let trained = open_trained(&source, &config.train.compute()?)?;
        let image_size = self.image_size.or(trained.image_size).unwrap_or(config.data.image_size);
        let (tasks, off) = served_tasks(&trained.encoders, self.tasks.as_deref())?;
        let known = self.model.known();
        let about = About {
            name: known.map_or_else(|| name_of(&source), |known| known.name.to_owned()),
            title: known.map_or_else(|| title_of(&source, trained.step), |known| known.title.to_owned()),
            trained_on: match known {
                Some(_) => "FairFace, by its authors".to_owned(),
                None => trained_on(&source)?,
            },
            credit: known.map(|known| format!("{} ({})", known.credit, known.licence)),
            architecture: trained.model.architecture().name().to_owned(),
            precision: trained.model.precision().to_string(),
            embedding_len: trained.model.architecture().embedding_len(),
            off,
            groups: groups(&source, trained.step, &tasks),
        };
        let encoders = trained.encoders.clone();
        let mut predictor = Predictor::new(trained);
        // The first client does not wait for memory, and what cannot be computed is told before anybody asks.
        predictor.judge(&vec![0.0; 3 * image_size * image_size], image_size)?;
        let rules = ImageRules {
            max_file: (self.max_body as u64) << 20,
            max_pixels: self.max_pixels,
            ..ImageRules::default()
        };
        let engine = EngineOptions {
            workers: config.data.workers,
            max_batch: self.batch_size,
            queue: self.queue,
            image_size,
        };
        Ok(Served {
            engine: Engine::start(predictor, engine, Arc::new(Metrics::new()))?,
            encoders,
            tasks,
            about,
            rules,
            padding: self.padding as f32,
            max_body: self.max_body << 20,
            timeout: Duration::from_secs_f64(self.timeout),
        })
    }
}

/// What a model is called in addresses: its run's folder or its file, as far as that can stand in one.
fn name_of(source: &TrainedSource) -> String {
    let name = match source {
        TrainedSource::Run { dir, .. } => {
            dir.canonicalize().ok().as_deref().and_then(Path::file_name).map(Into::into)
        }
        TrainedSource::Weights(path) => path.file_stem().map(std::ffi::OsStr::to_owned),
    };
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    if name.chars().all(|c| matches!(c, '.' | '-')) { "model".to_owned() } else { name }
}

fn title_of(source: &TrainedSource, step: Option<u64>) -> String {
    let name = name_of(source);
    match (source, step) {
        (TrainedSource::Run { .. }, Some(step)) => {
            format!("{name}: a model of a run here, after {step} steps")
        }
        _ => format!("{name}: a model of a file"),
    }
}

/// What a model was trained on, as far as that is known: the last names of a folder, as no client needs all of them.
fn trained_on(source: &TrainedSource) -> Result<String> {
    let TrainedSource::Run { dir, .. } = source else {
        return Ok("not known: the file does not say it".to_owned());
    };
    let splits = RunDir::open(dir)?.config()?.data.splits;
    let parts: Vec<_> =
        splits.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    Ok(format!("the training split of {}", parts[parts.len().saturating_sub(2)..].join("/")))
}

/// How often a model is right by group, as far as a run's evaluations say it.
fn groups(source: &TrainedSource, step: Option<u64>, tasks: &[String]) -> Groups {
    let TrainedSource::Run { dir, .. } = source else {
        return Groups::Unknown("a model file brings no record of an evaluation, as a run does".to_owned());
    };
    let read = || anyhow::Ok(RunReport::without_faces(&RunDir::open(dir)?)?);
    match read() {
        Ok(report) => GroupFigures::of_checkpoint(&report, step, tasks).map_or_else(
            || {
                let how = "`fairface evaluate --run RUN --split test --group-by race,gender` makes one";
                Groups::Unknown(format!("no evaluation of this checkpoint by group is on record; {how}"))
            },
            Groups::Figures,
        ),
        // The model is what was asked for: it does not wait for what may be wrong with a run's records.
        Err(error) => {
            tracing::warn!("no figures by group: {error:#}");
            Groups::Unknown("the run's records cannot be read; the server has said why".to_owned())
        }
    }
}
