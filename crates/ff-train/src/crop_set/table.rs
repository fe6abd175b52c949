//! The CSV of a set of crops.
//!
//! Where a face is in its photo stands under `photo_x` and the like: `x`, `y`, `w`, `h` would say where it is in the crop.

use std::fmt::Write;

use ff_core::table::quoted;
use ff_data::FacePointsKind;
use ff_faces::{Landmarks, Rect};

use super::{CropSpec, Entry};
use crate::{Error, Result};

const COLUMNS: [&str; 10] =
    ["file", "photo", "face", "photo_x", "photo_y", "photo_w", "photo_h", "score", "roll", "sharpness"];

/// Kinds of landmarks that occur, and so have columns: those that are found, and those that were given.
fn kinds(spec: &CropSpec) -> Vec<FacePointsKind> {
    let given = |kind| spec.photos.inputs.iter().any(|input| input.points.is_some_and(|p| p.kind == kind));
    FacePointsKind::ALL.into_iter().filter(|&kind| kind == FacePointsKind::Corners || given(kind)).collect()
}

fn header(spec: &CropSpec) -> Vec<String> {
    let points = kinds(spec).into_iter().flat_map(FacePointsKind::columns);
    let own = COLUMNS.into_iter().map(str::to_owned);
    own.chain(points.map(|name| format!("photo_{name}"))).collect()
}

/// Refuses labels under a name of the set's own columns.
pub(super) fn check_columns(spec: &CropSpec) -> Result<()> {
    let (own, labels) = (header(spec), spec.labels.iter().flat_map(|labels| &labels.columns));
    match labels.into_iter().find(|name| own.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let message = format!("column {name}: expected another name, as the crops' own CSV has that one");
            Err(Error::Config { origin: "labels".into(), message })
        }
    }
}

/// All of it: a line a crop.
pub(super) fn csv(spec: &CropSpec, entries: &[Entry]) -> String {
    let (kinds, mut text) = (kinds(spec), String::new());
    let labels = spec.labels.as_ref();
    let mut line = |fields: Vec<String>| {
        let fields: Vec<_> = fields.iter().map(|field| quoted(field)).collect();
        writeln!(text, "{}", fields.join(",")).expect("strings take all");
    };
    let names = labels.map_or(Vec::new(), |labels| labels.columns.clone());
    line([header(spec), names].concat());
    for entry in entries {
        for crop in &entry.crops {
            let Rect { x, y, width, height } = crop.face.bounds;
            let mut fields =
                vec![crop.file.clone(), spec.photos.inputs[entry.photo].name.clone(), crop.index.to_string()];
            fields.extend([x, y, width, height].map(|v| v.to_string()));
            fields.push(crop.face.score.map_or(String::new(), |score| score.to_string()));
            fields.extend([crop.face.roll, crop.sharpness].map(|v| v.to_string()));
            let kind = match crop.face.landmarks {
                Landmarks::Corners { .. } => FacePointsKind::Corners,
                Landmarks::Centres { .. } => FacePointsKind::Centres,
            };
            for of in &kinds {
                let points = crop.face.landmarks.points();
                fields.extend(points.into_iter().flat_map(|p| match *of == kind {
                    true => [p.x.to_string(), p.y.to_string()],
                    false => [String::new(), String::new()],
                }));
            }
            fields.extend(labels.map_or(Vec::new(), |labels| labels.rows[entry.photo].clone()));
            line(fields);
        }
    }
    text
}
