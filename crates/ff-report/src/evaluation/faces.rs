//! Faces to look at: the surest mistakes, and the labels that are probably wrong.

use ff_core::TaskName;
use maud::{Markup, html};

use super::NamedEvaluation;
use crate::numbers::{grouped, percent};
use crate::page::{capital, more};
use crate::thumbnails::Thumbnails;

/// Faces in sight a task; the others are folded away.
const IN_SIGHT: usize = 12;

/// The mistakes with the highest confidence.
pub fn mistakes(evaluation: &NamedEvaluation, thumbnails: &Thumbnails) -> Markup {
    let images = evaluation.record.source.images.as_deref();
    let gallery = |task: &TaskName| {
        let faces = evaluation.record.mistakes[task].iter().map(|mistake| Face {
            class: images.and_then(|images| thumbnails.class(images, &mistake.file)),
            file: &mistake.file,
            lines: [
                (mistake.predicted.clone(), mistake.probability),
                (format!("label {}", mistake.label), mistake.label_probability),
            ],
        });
        let id = evaluation.id(&format!("mistakes-{task}"));
        gallery(&id, &capital(task.as_str()), &faces.collect::<Vec<_>>())
    };
    html! {
        h3 { "The most confident mistakes" }
        p { "Wrong predictions, the surest first: prediction and label, each with its probability." }
        @for task in evaluation.tasks() { (gallery(task)) }
    }
}

/// Suspected label errors, ranked.
pub fn suspects(evaluation: &NamedEvaluation, thumbnails: &Thumbnails) -> Markup {
    let images = evaluation.record.source.images.as_deref();
    let gallery = |task: &TaskName| {
        let errors = &evaluation.record.label_errors[task];
        let faces = errors.suspects.iter().map(|suspect| Face {
            class: images.and_then(|images| thumbnails.class(images, &suspect.file)),
            file: &suspect.file,
            lines: [
                (format!("label {}", suspect.label), suspect.label_probability),
                (format!("rather {}", suspect.suggested), suspect.suggested_probability),
            ],
        });
        let heading = format!("{}: {} suspected", capital(task.as_str()), grouped(errors.n_suspects));
        gallery(&evaluation.id(&format!("suspects-{task}")), &heading, &faces.collect::<Vec<_>>())
    };
    html! {
        h3 { "Suspected label errors" }
        p {
            "Labels that confident learning (Northcutt et al. 2021) suspects, the most suspect first. A suspicion is the \
             model's: where the model is poor or has learnt the image, it says little."
        }
        @for task in evaluation.tasks() { (gallery(task)) }
    }
}

/// A face, its file, and two classes with their probabilities.
struct Face<'a> {
    class: Option<&'a str>,
    file: &'a str,
    lines: [(String, f64); 2],
}

/// Faces in a row, numbered.
fn gallery(id: &str, heading: &str, faces: &[Face]) -> Markup {
    let list = |faces: &[Face], first: usize| {
        html! { ol class="faces" start=(first) { @for face in faces { (item(face)) } } }
    };
    let (shown, folded) = faces.split_at(faces.len().min(IN_SIGHT));
    html! {
        div id=(id) {
            h4 { (heading) }
            @if shown.is_empty() { p { "None." } } @else { (list(shown, 1)) }
            @if !folded.is_empty() {
                (more(format!("{} more", folded.len()), &list(folded, IN_SIGHT + 1)))
            }
        }
    }
}

fn item(face: &Face) -> Markup {
    let [first, second] = &face.lines;
    html! {
        li {
            @if let Some(class) = face.class {
                i class={ "face " (class) } role="img" aria-label=(face.file) {}
            } @else {
                i class="face missing" { "not readable" }
            }
            b { (first.0) " " u { (percent(first.1)) } }
            span { (second.0) " " u { (percent(second.1)) } }
            code { (face.file) }
        }
    }
}
