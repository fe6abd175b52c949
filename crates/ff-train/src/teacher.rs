//! What a trained model answers to the training crops as they lie there, not augmented: computed once, and kept on
//! disk.
//!
//! The file stands in `[data] cache_dir` under a name that says which teacher, which images and which precision:
//! whoever trains with the same ones again finds it.

use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};
use ff_core::files::{sha256, write_atomic};
use ff_core::{Encoders, PerTask, TaskName};
use ff_data::Manifest;
use ff_model::weights::to_safetensors;

use crate::config::Config;
use crate::feed::InputBatch;
use crate::infer::{Trained, TrainedSource, check_finite, open_trained};
use crate::loss::Teacher;
use crate::run::{CheckpointName, RunDir};
use crate::setup::eval_feeder;
use crate::{Error, Result};

/// The teacher that a configuration asks for, over this training split.
///
/// # Errors
/// There is none, or none that knows a task of the run by the same labels; an answer that is no number; as
/// [`eval_feeder`].
pub fn open(config: &Config, train: &Manifest, encoders: &Encoders) -> Result<Option<Teacher>> {
    let Some(path) = &config.loss.teacher else { return Ok(None) };
    let source = match path.is_dir() {
        true => TrainedSource::Run { dir: path.clone(), which: CheckpointName::Best },
        false => TrainedSource::Weights(path.clone()),
    };
    let Trained { mut model, encoders: taught, .. } = open_trained(&source, &config.train.compute()?)?;
    let places = same_tasks(encoders, &taught, path)?;
    let of_teacher = weights_sha256(&source)?;
    let mut feeder = eval_feeder(config, train.clone(), &config.data.images, encoders, &model)?;
    let n = train.len();
    let parts = [
        of_teacher.clone(),
        feeder.loader().dataset().identity()?.to_string(),
        config.train.precision.name().to_owned(),
        serde_json::to_string(encoders).expect("labels are JSON"),
    ];
    let key = sha256(parts.join("\n").as_bytes());
    let file = config.data.cache_dir.join(format!("teacher-{}.safetensors", &key[..16]));
    let kept = read(&file, &places, n);
    if let Some(logits) = kept {
        tracing::info!("teacher {}: answers from {}", path.display(), file.display());
        return Ok(Some(Teacher { logits, sha256: of_teacher }));
    }
    tracing::info!("teacher {}: answers to {n} training images are computed once", path.display());
    let clock = Instant::now();
    let empty = |classes: &Vec<usize>| vec![vec![0.0; classes.len()]; n];
    let mut logits: PerTask<Vec<Vec<f32>>> =
        places.iter().map(|(task, _, classes)| (task.clone(), empty(classes))).collect();
    let mut batches = feeder.epoch(0, 0);
    while let Some(batch) = batches.next() {
        let InputBatch { images, samples } = batch?;
        let images = images.ready(None, model.device())?;
        let answers = model.predict(images.images())?.logits;
        batches.look_ahead();
        for (task, head, classes) in &places {
            let rows = answers[*head].to_vec2::<f32>()?;
            for ((row, &sample), file) in rows.iter().zip(&samples.sample_indices).zip(&samples.files) {
                check_finite(file, &format!("teacher's {task} logit"), row)?;
                logits[task][sample as usize] = classes.iter().map(|&class| row[class]).collect();
            }
        }
    }
    drop(batches);
    tracing::info!("teacher: {n} images in {:.0} s", clock.elapsed().as_secs_f64());
    write(&file, &logits)?;
    Ok(Some(Teacher { logits, sha256: of_teacher }))
}

/// A task of both, the teacher's head for it, and the teacher's class of every class of the run.
type Place = (TaskName, usize, Vec<usize>);

fn same_tasks(encoders: &Encoders, taught: &Encoders, path: &Path) -> Result<Vec<Place>> {
    let bad = |message| Error::BadFile { path: path.to_owned(), message };
    let mut places = Vec::new();
    for (task, own) in encoders.iter() {
        let Some(head) = taught.names().position(|name| name == task) else { continue };
        let theirs = taught[task].labels();
        let class = |label: &String| theirs.iter().position(|other| other == label);
        match own.labels().iter().map(class).collect::<Option<Vec<usize>>>() {
            Some(classes) if classes.len() == theirs.len() => places.push((task.clone(), head, classes)),
            _ => {
                let (own, theirs) = (own.labels().join(", "), theirs.join(", "));
                return Err(bad(format!(
                    "expected a teacher of {task} with the labels {own}, found {theirs}"
                )));
            }
        }
    }
    if places.is_empty() {
        let names =
            |encoders: &Encoders| encoders.names().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (own, theirs) = (names(encoders), names(taught));
        return Err(bad(format!("expected a teacher of one of the tasks {own}, found one of {theirs}")));
    }
    Ok(places)
}

/// SHA-256 of the file that the weights came from.
fn weights_sha256(source: &TrainedSource) -> Result<String> {
    match source {
        TrainedSource::Weights(path) => Ok(sha256(&fs_err::read(path)?)),
        // A checkpoint's state has the hash of every file.
        TrainedSource::Run { dir, which } => {
            let state = RunDir::open(dir)?.open_checkpoint(*which)?.state()?;
            let hashes = serde_json::to_string(&state.sha256_of_models()).expect("hashes are JSON");
            Ok(sha256(hashes.as_bytes()))
        }
    }
}

/// What was kept, if it is whole.
fn read(file: &Path, places: &[Place], n: usize) -> Option<PerTask<Vec<Vec<f32>>>> {
    let bytes = fs_err::read(file).ok()?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).ok()?;
    let of_task = |(task, _, classes): &Place| {
        let logits = tensors.get(task.as_str())?.to_vec2::<f32>().ok()?;
        let fits = logits.len() == n && logits.iter().all(|row| row.len() == classes.len());
        fits.then(|| (task.clone(), logits))
    };
    places.iter().map(of_task).collect::<Option<Vec<_>>>().map(|tasks| tasks.into_iter().collect())
}

fn write(file: &Path, logits: &PerTask<Vec<Vec<f32>>>) -> Result<()> {
    let tensors = logits.iter().map(|(task, rows)| {
        let shape = (rows.len(), rows.first().map_or(0, Vec::len));
        Ok((task.to_string(), Tensor::from_vec(rows.concat(), shape, &Device::Cpu)?))
    });
    let bytes = to_safetensors(tensors.collect::<Result<Vec<_>>>()?, &[])?;
    if let Some(folder) = file.parent() {
        fs_err::create_dir_all(folder)?;
    }
    Ok(write_atomic(file, &bytes)?)
}
