//! What the model is, what it learnt from, and how.

use ff_model::BackboneMode;
use ff_model::summary::summarise;
use ff_train::Config;
use ff_train::config::ranges::IMAGE_SIZE;
use ff_train::run::SplitRecord;
use ff_train::setup::heads;

use super::ModelCard;
use super::markdown::{facts, table, text};
use crate::numbers::{duration, grouped};

/// Stands where a record says nothing.
const UNKNOWN: &str = "not recorded";

/// The model: network, input, tasks and classes.
pub fn model(card: &ModelCard) -> String {
    let encoders = &card.report.encoders;
    let tasks: Vec<&str> = encoders.names().map(|task| task.as_str()).collect();
    let n = if tasks.len() == 1 { "one task".to_owned() } else { format!("{} tasks", tasks.len()) };
    let side = card.setting("data", "image_size").unwrap_or_else(|| "224".to_owned());
    let network = card.architecture();
    // A damaged record may claim any size.
    let pixels = side.parse().ok().filter(|side| IMAGE_SIZE.contains(side)).map_or(0, |side| side as usize);
    let size = network.and_then(|network| {
        summarise(network, &heads(encoders), BackboneMode::Trainable, [1, pixels, pixels]).ok()
    });
    let size = size.map_or_else(
        || UNKNOWN.to_owned(),
        |size| {
            let macs = size.mult_adds as f64 / 1e9;
            format!(
                "{} parameters, {macs:.2} billion multiply-adds an image",
                grouped(size.total_params as u64)
            )
        },
    );
    let embedding = network.map_or(512, |network| network.embedding_len());
    let title = network.map_or(UNKNOWN, |network| network.title());
    let mut rows = vec![
        ("backbone", title.to_owned()),
        ("head", format!("Linear({embedding}, {embedding}), ReLU, dropout, then a linear layer a task")),
        ("size", size),
        ("input", format!("face crops, RGB, {side} x {side}, ImageNet mean and deviation taken off")),
        ("output", "a probability a class, each task for itself".to_owned()),
        ("checkpoint", checkpoint(card)),
    ];
    if let Some(file) = &card.file {
        rows.push(("file", format!("{}: {}", file.name, file.format)));
        rows.push(("SHA-256 of the file", file.sha256.clone()));
    }
    let classes = encoders.iter().map(|(task, encoder)| {
        let labels = card.report.display_order[task].iter().map(|&class| encoder.labels()[class].as_str());
        let order = if encoder.ranks().is_some() { "ordered" } else { "no order" };
        let labels = labels.collect::<Vec<_>>().join(", ");
        vec![task.to_string(), encoder.n_classes().to_string(), order.to_owned(), labels]
    });
    format!(
        "A network that looks at the crop of a face and says {}: {n} by one backbone.\n\n## What it is\n\n{}\n{}",
        text(&tasks.join(", ")),
        facts(&rows),
        table(&["task", "classes", "order", "labels"], &classes.collect::<Vec<_>>())
    )
}

fn checkpoint(card: &ModelCard) -> String {
    let run = &card.report.name;
    let Some(step) = card.step else { return format!("of {run}, before its first evaluated epoch") };
    let epoch = card.epoch();
    let at = epoch.map_or(String::new(), |epoch| format!(", the end of epoch {}", epoch.epoch));
    let averaged = epoch.is_some_and(|epoch| epoch.ema.is_some());
    let average = if averaged { "; moving average of the weights" } else { "" };
    format!("of {run}, step {}{at}{average}", grouped(step))
}

/// The data: rows, unknown labels, licence and credit.
pub fn data(card: &ModelCard) -> String {
    let mut out = String::from("## Data\n\n");
    let tasks: Vec<&str> = card.report.encoders.names().map(|task| task.as_str()).collect();
    match &card.report.provenance.data {
        None => out.push_str(
            "How many rows there were is not recorded: the run is of a version that did not say.\n",
        ),
        Some(data) => {
            let row = |(name, split): (&str, &SplitRecord)| {
                let unknown = tasks.iter().map(|task| grouped(split.unknown.get(task).copied().unwrap_or(0)));
                [name.to_owned(), grouped(split.rows)].into_iter().chain(unknown).collect()
            };
            let splits = [("training", &data.train), ("validation", &data.val), ("test", &data.test)];
            let unknown: Vec<String> = tasks.iter().map(|task| format!("{task} unknown")).collect();
            let header: Vec<&str> =
                ["split", "rows"].into_iter().chain(unknown.iter().map(String::as_str)).collect();
            out.push_str(&table(&header, &splits.map(row)));
        }
    }
    out.push_str(if card.is_fairface() {
        "\nThe data are FairFace, all or some of it: tasks, labels and file names are its own, which is how this \
         was told. Kimmo Kärkkäinen and Jungseock Joo, *FairFace: Face Attribute Dataset for Balanced Race, \
         Gender, and Age for Bias Measurement and Mitigation*, WACV 2021. Licence of the data: [CC BY \
         4.0](https://creativecommons.org/licenses/by/4.0/), which asks that they be credited. The splits are this \
         project's, not FairFace's own.\n"
    } else {
        "\nWhere the data come from, who labelled them, who agreed to what, and their licence: not stated; fill in.\n"
    });
    out + "\nLicence of the model itself: not stated; fill in, here and in the header. Mind data and initial weights.\n"
}

/// The recipe.
pub fn recipe(card: &ModelCard) -> String {
    let report = card.report;
    let provenance = &report.provenance;
    let get = |section: &str, key: &str| card.setting(section, key).unwrap_or_else(|| UNKNOWN.to_owned());
    let with = |section: &str, keys: &[&str]| {
        let known = keys.iter().filter_map(|key| Some(format!("{key} {}", card.setting(section, key)?)));
        known.collect::<Vec<_>>().join(", ")
    };
    let init = match &provenance.init_weights {
        Some(weights) => {
            let file = provenance.init.as_deref().map(file_name).unwrap_or_default();
            let licence = weights.licence.as_deref().unwrap_or("not known");
            let known = weights.known.as_ref().map(|known| format!("{known}; ")).unwrap_or_default();
            format!("{known}{file}, SHA-256 {}, licence {licence}", weights.sha256)
        }
        None => provenance.init.as_deref().map_or_else(|| UNKNOWN.to_owned(), file_name),
    };
    let mut rows = vec![
        (
            "epochs",
            format!("{} of {}", report.epochs.last().map_or(0, |epoch| epoch.epoch), get("train", "epochs")),
        ),
        ("steps, images", format!("{}, {}", grouped(report.steps), grouped(report.images))),
        ("time", duration(report.wall_seconds)),
        (
            "batch",
            format!("{}, {} of them a step", get("data", "batch_size"), get("optimizer", "accumulate")),
        ),
        (
            "optimiser",
            format!(
                "{}: {}",
                get("optimizer", "kind"),
                with(
                    "optimizer",
                    &["lr", "weight_decay", "head_lr", "layer_decay", "clip_norm", "ema_decay"]
                )
            ),
        ),
        (
            "schedule",
            format!("{}: {}", get("schedule", "kind"), with("schedule", &["warmup_epochs", "final_factor"])),
        ),
        ("loss", with("loss", &["class_weights", "label_smoothing", "ordered", "task_weights"])),
        (
            "augmentation",
            format!("{}; {}", get("data", "augment"), with("data", &["align_jitter", "mixup", "cutmix"])),
        ),
        ("regularisation", with("model", &["dropout", "freeze_backbone", "freeze_epochs"])),
        ("best by", get("train", "criterion")),
        ("initial weights", init),
        ("seed", provenance.seed.map_or_else(|| UNKNOWN.to_owned(), |seed| seed.to_string())),
        ("computed on", with("train", &["device", "engine", "precision", "threads"])),
        ("fairface", provenance.version.clone().unwrap_or_else(|| UNKNOWN.to_owned())),
        ("commit", provenance.commit.clone().unwrap_or_else(|| UNKNOWN.to_owned())),
    ];
    let also = ingredients(card);
    if !also.is_empty() {
        rows.insert(8, ("further", also));
    }
    format!("## Recipe\n\nFrom config.toml and run.json.\n\n{}", facts(&rows))
}

/// Settings of the recipe that few runs have: those that are not the usual ones.
fn ingredients(card: &ModelCard) -> String {
    const KEYS: [(&str, &[&str]); 3] = [
        ("data", &["resized_crop", "trivial_augment", "random_erasing", "balance"]),
        ("optimizer", &["frozen_lr", "swa_from", "sam_rho"]),
        ("loss", &["teacher", "self_distill", "dro", "reweight"]),
    ];
    let usual = toml::Table::try_from(Config::default()).expect("a configuration is valid TOML");
    let keys = KEYS.iter().flat_map(|(section, keys)| keys.iter().map(move |key| (*section, *key)));
    let changed = keys.filter_map(|(section, key)| {
        let found = card.report.config.get(section)?.get(key)?;
        let same = usual.get(section).and_then(|usual| usual.get(key)) == Some(found);
        let value = card.setting(section, key)?;
        (!same).then(|| format!("{key} {}", if key == "teacher" { file_name(&value) } else { value }))
    });
    changed.collect::<Vec<_>>().join(", ")
}

/// A file without its folder: a card is given away.
fn file_name(path: &str) -> String {
    path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned()
}
