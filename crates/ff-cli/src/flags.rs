//! Flags that several commands share, and how they become configuration.
//!
//! A flag that was not given changes nothing; names of engines and the like stay strings here, as the configuration
//! checks them the same way wherever they come from.

use std::path::{Path, PathBuf};

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use ff_core::Schema;
use ff_data::duplicates::{HashFile, default_hash_file};
use ff_data::{Augment, ImageRules};
use ff_eval::{Bootstrap, TestTimeAugmentation};
use ff_model::{Architecture, DeviceSpec, Engine, Precision};
use ff_train::config::{AUTO_PRECISION, CacheKind};
use ff_train::trainer::batch_size::{self, BatchSize};
use ff_train::{Config, ConfigBuilder, Preset, Result};

use crate::Context;
use crate::output::note;
use crate::ranges::{self, number, whole};

/// Where to compute, and with what.
#[derive(Debug, Clone, Default, Args)]
pub struct ComputeFlags {
    /// Where to compute: cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceSpec>,
    /// How the backbone is executed.
    #[arg(long, value_parser = PossibleValuesParser::new(Engine::ALL.map(Engine::name)))]
    pub engine: Option<String>,
    /// What activations are computed in; auto is bf16 wherever that is fast [default: bf16 on CUDA, f32 elsewhere].
    #[arg(long, value_parser = PossibleValuesParser::new(precisions()))]
    pub precision: Option<String>,
    /// Threads that compute [default: one a CPU].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::THREADS))]
    pub threads: Option<usize>,
}

/// What to read, and how fast.
#[derive(Debug, Clone, Default, Args)]
pub struct DataFlags {
    /// Folder with ff_train.csv, ff_val.csv and ff_test.csv.
    #[arg(long, value_name = "DIR", value_parser = recorded_path())]
    pub splits: Option<PathBuf>,
    /// Folder that the CSVs' `file` column is relative to.
    #[arg(long, value_name = "DIR", value_parser = recorded_path())]
    pub images: Option<PathBuf>,
    /// Take rows whose file lies outside the images folder too: absolute paths, and those that `..` leads out.
    #[arg(long)]
    pub outside_root: bool,
    #[command(flatten)]
    pub decisions: DecisionsFlag,
    #[command(flatten)]
    pub schema: SchemaFlag,
    /// Height and width that images are resized to: a multiple of 32 from 64 to 512 [default: 224].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::IMAGE_SIZE))]
    pub image_size: Option<usize>,
    /// Images in a batch; auto is the largest power of two that the GPU has room for.
    #[arg(long, value_name = "N|auto")]
    pub batch_size: Option<BatchSize>,
    /// Threads that decode and augment [default: CPUs - 2, at least 2, at most 8].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::WORKERS))]
    pub workers: Option<usize>,
    /// What augmentation draws from.
    #[arg(long, value_parser = PossibleValuesParser::new(Augment::ALL.map(Augment::name)))]
    pub augment: Option<String>,
    /// Turns, scales and shifts crops as a face detector's are off, 0 to 1 of it, so that the model forgives them
    /// [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = number(ranges::ALIGN_JITTER))]
    pub align_jitter: Option<f64>,
    /// Where decoded images are kept for the next epoch: 150,528 bytes each at 224 pixels.
    #[arg(long, value_parser = PossibleValuesParser::new(CacheKind::ALL.map(CacheKind::name)))]
    pub cache: Option<String>,
    /// Folder of the disk cache [default: cache].
    #[arg(long, value_name = "DIR", value_parser = recorded_path())]
    pub cache_dir: Option<PathBuf>,
    #[command(flatten)]
    pub limits: LimitFlags,
}

/// How large image files may be.
#[derive(Debug, Clone, Default, Args)]
pub struct LimitFlags {
    /// Largest image, in pixels; one that claims more is refused before memory is taken [default: 64000000].
    #[arg(long, value_name = "N", value_parser = whole::<u64>(ranges::MAX_PIXELS))]
    pub max_pixels: Option<u64>,
    /// Longest image file, in MiB [default: 64].
    #[arg(long, value_name = "MIB", value_parser = whole::<u64>(ranges::MAX_FILE_MIB))]
    pub max_file: Option<u64>,
}

/// How images are hashed.
#[derive(Debug, Clone, Default, Args)]
pub struct HashFlags {
    /// File that remembers hashes, so that a scan goes on where it was stopped; another kind of file is refused
    /// [default: in the user's cache folder].
    #[arg(long, value_name = "FILE")]
    pub hashes: Option<PathBuf>,
    /// Threads that read and compare images [default: one a CPU].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(ranges::WORKERS))]
    pub workers: Option<usize>,
    #[command(flatten)]
    pub limits: LimitFlags,
}

/// How intervals are resampled.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
pub struct BootstrapFlags {
    /// Resamples for the bootstrap's intervals; 0 leaves them out.
    #[arg(long, value_name = "N", default_value_t = Bootstrap::default().resamples,
          value_parser = whole::<u32>(ranges::RESAMPLES))]
    bootstrap: u32,
    /// Seed of the resamples.
    #[arg(long, value_name = "S", default_value_t = Bootstrap::default().seed,
          value_parser = whole::<u64>(ranges::SEED))]
    seed: u64,
}

impl From<BootstrapFlags> for Bootstrap {
    fn from(flags: BootstrapFlags) -> Self {
        Self { resamples: flags.bootstrap, seed: flags.seed }
    }
}

/// A named set of defaults.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum PresetFlag {
    /// The bundled 799 faces.
    #[default]
    Sample,
    /// The full FairFace, expected in data/fairface.
    Fairface,
}

impl From<PresetFlag> for Preset {
    fn from(flag: PresetFlag) -> Self {
        match flag {
            PresetFlag::Sample => Self::Sample,
            PresetFlag::Fairface => Self::FairFace,
        }
    }
}

/// What somebody decided about the faces.
#[derive(Debug, Clone, Default, Args)]
pub struct DecisionsFlag {
    /// A CSV of decisions, as `serve --audit` writes it: keep, drop or relabel a file.
    #[arg(long, value_name = "FILE", value_parser = recorded_path())]
    pub decisions: Option<PathBuf>,
}

/// What the columns of a CSV say.
#[derive(Debug, Clone, Default, Args)]
pub struct SchemaFlag {
    /// A TOML file of `[[tasks]]`, as a run's config.toml; without it the tasks are age, gender, race.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
}

impl SchemaFlag {
    /// The tasks.
    pub fn read(&self) -> Result<Schema> {
        let schema = self.schema.as_deref().map(ff_train::config::read_tasks).transpose()?;
        Ok(schema.unwrap_or_default())
    }
}

impl ComputeFlags {
    /// Lays these flags over a configuration.
    pub fn over(&self, builder: ConfigBuilder) -> ConfigBuilder {
        builder
            .set("train.device", self.device)
            .set("train.engine", self.engine.as_deref())
            .set("train.precision", self.precision.as_deref())
            .set("train.threads", self.threads)
    }
}

impl LimitFlags {
    /// Lays these flags over a configuration.
    pub fn over(&self, builder: ConfigBuilder) -> ConfigBuilder {
        builder.set("data.max_pixels", self.max_pixels).set("data.max_file_mib", self.max_file)
    }

    /// The rules of a command that has no configuration.
    pub fn rules(&self) -> ImageRules {
        let defaults = ImageRules::default();
        ImageRules {
            max_file: self.max_file.map_or(defaults.max_file, |mib| mib.saturating_mul(1 << 20)),
            max_pixels: self.max_pixels.unwrap_or(defaults.max_pixels),
            ..defaults
        }
    }
}

impl HashFlags {
    /// The file of hashes of a folder of images; none where the default one cannot be had.
    pub fn open(&self, images: &Path) -> ff_data::Result<Option<HashFile>> {
        match &self.hashes {
            Some(path) => HashFile::open(path).map(Some),
            None => Ok(default_hash_file(images).and_then(|path| {
                let not_remembered = |error| tracing::warn!("hashes are not remembered: {error}");
                HashFile::open(path).map_err(not_remembered).ok()
            })),
        }
    }

    /// Threads to use.
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
    }
}

impl DataFlags {
    /// Lays these flags over a configuration.
    pub fn over(&self, builder: ConfigBuilder) -> ConfigBuilder {
        let builder = self.limits.over(builder).tasks_of(self.schema.schema.as_deref());
        builder
            .set("data.splits", self.splits.as_deref())
            .set("data.images", self.images.as_deref())
            .set("data.outside_root", self.outside_root.then_some(true))
            .decisions(self.decisions.decisions.as_deref())
            .set("data.image_size", self.image_size)
            .set("data.batch_size", self.batch_size.and_then(BatchSize::images))
            .set("data.workers", self.workers)
            .set("data.augment", self.augment.as_deref())
            .set("data.align_jitter", self.align_jitter)
            .set("data.cache", self.cache.as_deref())
            .set("data.cache_dir", self.cache_dir.as_deref())
    }
}

impl DataFlags {
    /// Finds the batch size where that is asked for; to be called with the settled configuration.
    pub fn find_batch_size(&self, config: &mut Config) -> Result<()> {
        if self.batch_size == Some(BatchSize::Auto) {
            config.data.batch_size = batch_size::find(config)?;
            note!("batch   {} images, the largest power of two that fits", config.data.batch_size);
        }
        Ok(())
    }
}

/// Every precision's name, and the word for the best one.
fn precisions() -> impl Iterator<Item = &'static str> {
    Precision::ALL.map(Precision::name).into_iter().chain([AUTO_PRECISION])
}

/// Parses a backbone's name.
pub fn backbone() -> impl TypedValueParser<Value = Architecture> {
    let names = PossibleValuesParser::new(Architecture::ALL.map(Architecture::name));
    names.map(|name| name.parse().expect("it is one of the possible values"))
}

/// Parses paths that configurations or records are going to hold, which are text.
pub fn recorded_path() -> impl TypedValueParser<Value = PathBuf> {
    NonEmptyStringValueParser::new().map(PathBuf::from)
}

/// The sample's configuration under these flags, for commands without a run.
pub fn sample_config(context: &Context, data: &DataFlags, compute: &ComputeFlags) -> ConfigBuilder {
    compute.over(data.over(ConfigBuilder::new(Preset::Sample, &context.root)))
}

/// Resolves a configuration and gives candle its threads; to be called before the first tensor is made.
pub fn settle(builder: ConfigBuilder) -> Result<Config> {
    let config = builder.resolve()?;
    if !ff_kernels::host::process::limit_threads(config.train.threads) {
        tracing::warn!("candle chooses its own number of threads: it cannot be told once others run");
    }
    Ok(config)
}

/// Views of an image whose answers are averaged.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum TtaFlag {
    /// The image alone.
    #[default]
    None,
    /// The image and its mirror image.
    Flip,
    /// Both, as they are and moved four ways by a 28th of their side: ten views, ten times the work.
    Shifts,
}

impl TtaFlag {
    /// What it adds to a record's name.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Flip => Some("flip"),
            Self::Shifts => Some("shifts"),
        }
    }
}

impl From<TtaFlag> for TestTimeAugmentation {
    fn from(flag: TtaFlag) -> Self {
        match flag {
            TtaFlag::None => Self::None,
            TtaFlag::Flip => Self::Flip,
            TtaFlag::Shifts => Self::Shifts,
        }
    }
}
