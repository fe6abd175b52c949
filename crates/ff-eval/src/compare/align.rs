//! The samples, tasks and labels that two sets of predictions have in common.

use std::collections::HashMap;

use ff_core::text::shortened;
use ff_core::{Encoders, LabelEncoder, PerTask, TaskName, UNKNOWN};

use super::Side;
use crate::input::{normalised, pairs};
use crate::{Attribute, Error, Predictions, Result, Unmatched};

/// Both sets of predictions, sample by sample and class by class.
pub(super) struct Aligned {
    /// With the same files, targets and attributes.
    pub predictions: [Predictions; 2],
    pub encoders: Encoders,
    pub only_a: Unmatched,
    pub only_b: Unmatched,
    pub left_out: Vec<TaskName>,
}

pub(super) fn align(a: &Side, b: &Side) -> Result<Aligned> {
    let (places_a, places_b) = (places(&a.predictions.files), places(&b.predictions.files));
    let keys = keys(&b.predictions.files);
    let (pairs, _) = pairs(&places_a, &places_b, &keys);
    if pairs.is_empty() {
        let first = |side: &Side| {
            side.predictions.files.first().map_or("none".to_owned(), |file| format!("{:?}", shortened(file)))
        };
        let reason = format!("found no file in both: {} in {}, {} in {}", first(a), a.name, first(b), b.name);
        return Err(Error::NotComparable(reason));
    }
    let [mut in_b, mut in_a] = [vec![false; a.predictions.len()], vec![false; b.predictions.len()]];
    pairs.iter().for_each(|&(i, j)| (in_b[i], in_a[j]) = (true, true));
    let (encoders, left_out) = common_encoders(a.encoders, b.encoders)?;
    // In the order of the first.
    let mut pairs = pairs;
    pairs.sort_unstable();
    let places =
        [pairs.iter().map(|pair| pair.0).collect::<Vec<_>>(), pairs.iter().map(|pair| pair.1).collect()];
    let mut first = chosen(a, &places[0], &encoders);
    let mut second = chosen(b, &places[1], &encoders);
    for task in encoders.names() {
        let both = first.targets[task].iter_mut().zip(second.targets[task].iter_mut()).zip(&first.files);
        for ((x, y), file) in both {
            match (*x, *y) {
                (UNKNOWN, known) | (known, UNKNOWN) => (*x, *y) = (known, known),
                (x, y) if x == y => {}
                (x, y) => {
                    let label = |id| encoders[task].decode(id).unwrap_or_default();
                    return Err(Error::NotComparable(format!(
                        "found {task} of {} labelled {:?} in {} and {:?} in {}",
                        shortened(file),
                        label(x),
                        a.name,
                        label(y),
                        b.name
                    )));
                }
            }
        }
    }
    for attribute in &second.attributes {
        if first.attributes.iter().all(|other| other.name != attribute.name) {
            first.attributes.push(attribute.clone());
        }
    }
    second.attributes = first.attributes.clone();
    Ok(Aligned {
        predictions: [first, second],
        encoders,
        only_a: Unmatched::of(&a.predictions.files, |i| in_b[i]),
        only_b: Unmatched::of(&b.predictions.files, |i| in_a[i]),
        left_out,
    })
}

/// The tasks of both, with the labels of both; and the tasks of one alone.
fn common_encoders(a: &Encoders, b: &Encoders) -> Result<(Encoders, Vec<TaskName>)> {
    let mut encoders = Vec::new();
    let mut left_out: Vec<TaskName> =
        b.names().filter(|name| a.get(name.as_str()).is_none()).cloned().collect();
    for (name, encoder) in a.iter() {
        match b.get(name.as_str()) {
            Some(other) => {
                let labels = encoder.labels().iter().chain(other.labels()).map(String::as_str);
                encoders.push((name.clone(), LabelEncoder::fit(encoder.task().clone(), labels)?));
            }
            None => left_out.push(name.clone()),
        }
    }
    if encoders.is_empty() {
        let names =
            |encoders: &Encoders| encoders.names().map(TaskName::as_str).collect::<Vec<_>>().join(", ");
        return Err(Error::NotComparable(format!("found the tasks {} and {}", names(a), names(b))));
    }
    Ok((Encoders::new(encoders.into_iter().collect::<PerTask<_>>())?, left_out))
}

/// Some samples of one side, in the classes of both.
fn chosen(side: &Side, places: &[usize], encoders: &Encoders) -> Predictions {
    let from = side.predictions;
    let mut to = Predictions::of(encoders);
    for (task, encoder) in encoders.iter() {
        let old = &side.encoders[task];
        let id = |label: &String| encoder.encode(label).expect("the labels of both are in it");
        let ids: Vec<u32> = old.labels().iter().map(id).collect();
        let (n_old, n_new) = (old.n_classes(), encoder.n_classes());
        let mut rows = vec![0.0; places.len() * n_new];
        for (&place, row) in places.iter().zip(rows.chunks_exact_mut(n_new)) {
            let given = &from.probabilities[task][place * n_old..][..n_old];
            ids.iter().zip(given).for_each(|(&id, &p)| row[id as usize] = p);
        }
        to.probabilities[task] = rows;
        let target = |&place: &usize| ids.get(from.targets[task][place] as usize).copied().unwrap_or(UNKNOWN);
        to.targets[task] = places.iter().map(target).collect();
        if !from.has_probabilities(task) {
            to.labels_only.push(task.clone());
        }
    }
    to.files = places.iter().map(|&place| from.files[place].clone()).collect();
    let attribute = |attribute: &Attribute| {
        let label =
            |&place: &usize| attribute.labels.get(attribute.values[place] as usize).map(String::as_str);
        Attribute::new(attribute.name.clone(), places.iter().map(label))
    };
    to.attributes = from.attributes.iter().map(attribute).collect();
    to
}

/// The place of every file.
fn places(files: &[String]) -> HashMap<String, usize> {
    keys(files).into_iter().enumerate().map(|(place, key)| (key, place)).collect()
}

/// A name of its own for every sample: the second face of a photo is not the first.
fn keys(files: &[String]) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let key = |file: &String| {
        let file = normalised(file);
        let n = seen.entry(file.clone()).or_default();
        *n += 1;
        if *n == 1 { file } else { format!("{file}\0{n}") }
    };
    files.iter().map(key).collect()
}
