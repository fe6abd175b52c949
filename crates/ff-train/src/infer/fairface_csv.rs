//! Predictions as a CSV in the columns of FairFace's `predict.py`, for tools that were made for its output.
//!
//! Columns `face_name_align, race, gender, age, race_scores_fair, gender_scores_fair, age_scores_fair`; tasks that
//! FairFace does not have come after them in the same way. Scores are probabilities, as NumPy prints a vector, in the
//! order of FairFace's classes (see [`FAIRFACE_LABELS`]); classes that FairFace does not have come after them, by id.
//! Where faces were found in photos, further columns say where, and what the picture is like.
//! The columns of its 4-race model, `race4` and `race_scores_fair_4`, are left out: there is no such model here.

use ff_core::labels::FAIRFACE_LABELS;
use ff_core::table::quoted;
use ff_core::{PerTask, TaskName};
use ff_faces::{Quality, Rect};

use super::faces::PhotoPrediction;
use super::photos::{PhotoFace, SetAside};
use super::predictor::{FacePrediction, TaskPrediction};

/// The header's line for predictions of these tasks.
pub fn header<T>(tasks: &PerTask<T>) -> String {
    line(header_fields(tasks))
}

/// A prediction's line.
pub fn row(prediction: &FacePrediction) -> String {
    line(row_fields(&prediction.file, &prediction.tasks))
}

/// What stands in the columns after FairFace's own for faces of photos.
const FACE_COLUMNS: [&str; 14] = [
    "face",
    "x",
    "y",
    "w",
    "h",
    "score",
    "roll",
    "scale",
    "sharpness",
    "brightness",
    "clipped",
    "yaw",
    "whole_image",
    "set_aside",
];

/// As [`header`], for faces of photos.
pub fn photo_header<T>(tasks: &PerTask<T>) -> String {
    let columns = FACE_COLUMNS.iter().map(|&name| name.to_owned());
    line(header_fields(tasks).into_iter().chain(columns).collect())
}

/// A face's line; cells that have nothing to say are empty.
pub fn photo_row<T>(tasks: &PerTask<T>, prediction: &PhotoPrediction) -> String {
    let mut fields = match &prediction.tasks {
        Some(tasks) => row_fields(&prediction.file, tasks),
        None => [prediction.file.clone()].into_iter().chain(vec![String::new(); 2 * tasks.len()]).collect(),
    };
    match &prediction.face {
        None => fields.extend(FACE_COLUMNS.map(|_| String::new())),
        Some(PhotoFace { index, face, quality, whole_image, set_aside }) => {
            let Rect { x, y, width, height } = face.bounds;
            let score = face.score.map_or(String::new(), |score| score.to_string());
            fields.extend([index.to_string(), x.to_string(), y.to_string()]);
            fields.extend([width.to_string(), height.to_string(), score]);
            fields.extend([face.roll, face.scale].map(|v| v.to_string()));
            let Quality { sharpness, brightness, clipped, yaw } = quality;
            fields.extend([sharpness, brightness, clipped, yaw].map(|v| v.to_string()));
            let set_aside = set_aside.map_or("", SetAside::name);
            fields.extend([whole_image.to_string(), set_aside.to_owned()]);
        }
    }
    line(fields)
}

fn header_fields<T>(tasks: &PerTask<T>) -> Vec<String> {
    let tasks = in_fairfaces_order(tasks);
    let labels = tasks.iter().map(|task| task.to_string());
    let scores = tasks.iter().map(|task| format!("{task}_scores_fair"));
    ["face_name_align".to_owned()].into_iter().chain(labels).chain(scores).collect()
}

fn row_fields(file: &str, answers: &PerTask<TaskPrediction>) -> Vec<String> {
    let tasks = in_fairfaces_order(answers);
    let labels = tasks.iter().map(|task| answers[*task].label.clone());
    let scores = tasks.iter().map(|task| scores(task, &answers[*task]));
    [file.to_owned()].into_iter().chain(labels).chain(scores).collect()
}

fn line(fields: Vec<String>) -> String {
    fields.iter().map(|field| quoted(field)).collect::<Vec<_>>().join(",") + "\n"
}

/// FairFace's tasks as its own output has them, then the others.
fn in_fairfaces_order<T>(tasks: &PerTask<T>) -> Vec<&TaskName> {
    let mut names: Vec<&TaskName> = tasks.names().collect();
    let place = |task: &TaskName| FAIRFACE_LABELS.iter().position(|(name, _)| task == name);
    names.sort_by_key(|task| place(task).unwrap_or(FAIRFACE_LABELS.len()));
    names
}

fn scores(task: &TaskName, prediction: &TaskPrediction) -> String {
    let order = FAIRFACE_LABELS.iter().find(|(name, _)| task == name).map_or(&[][..], |(_, o)| o);
    let place = |label: &str| order.iter().position(|known| *known == label).unwrap_or(order.len());
    let mut classes: Vec<&(String, f32)> = prediction.probabilities.iter().collect();
    classes.sort_by_key(|(label, _)| place(label));
    let scores: Vec<String> = classes.iter().map(|(_, p)| format!("{p:?}")).collect();
    format!("[{}]", scores.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_stand_in_fairfaces_order_whatever_the_ids_are() {
        let task = |classes: &[(&str, f32)]| TaskPrediction {
            label: classes[0].0.into(),
            probability: classes[0].1,
            probabilities: classes.iter().map(|(label, p)| ((*label).to_owned(), *p)).collect(),
        };
        let tasks = [
            ("age", task(&[("0-2", 0.5), ("10-19", 0.25), ("3-9", 0.125), ("more than 70", 0.125)])),
            ("gender", task(&[("Female", 0.75), ("Male", 0.25)])),
            ("hat", task(&[("no", 1.0)])),
            ("race", task(&[("Black", 0.5), ("Klingon", 0.125), ("White", 0.375)])),
        ];
        let tasks = tasks.map(|(name, task)| (TaskName::new(name).unwrap(), task)).into_iter().collect();
        let prediction = FacePrediction { file: "a, \"b\".jpg".into(), face: None, tasks };
        assert_eq!(
            row(&prediction),
            "\"a, \"\"b\"\".jpg\",Black,Female,0-2,no,[0.375 0.5 0.125],[0.25 0.75],[0.5 0.125 0.25 0.125],[1.0]\n"
        );
        assert_eq!(
            header(&prediction.tasks),
            "face_name_align,race,gender,age,hat,race_scores_fair,gender_scores_fair,age_scores_fair,hat_scores_fair\n"
        );
    }
}
