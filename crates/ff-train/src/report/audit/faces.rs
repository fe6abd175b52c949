//! Faces to look at: the surest mistakes, and the labels that are probably wrong.

use ff_data::Task;

use super::Audit;
use crate::report::charts::escape;
use crate::report::findings::capital;
use crate::report::numbers::{grouped, percent};
use crate::report::page::more;
use crate::report::thumbnails::Thumbnails;

/// Faces in sight a task; the others are folded away.
const IN_SIGHT: usize = 12;

/// The mistakes with the highest confidence.
pub fn mistakes(audit: &Audit, thumbnails: &Thumbnails) -> String {
    let images = &audit.record.source.images;
    let gallery = |task: Task| {
        let faces = audit.record.mistakes[task].iter().map(|mistake| Face {
            class: thumbnails.class(images, &mistake.file),
            file: &mistake.file,
            lines: [
                (mistake.predicted.clone(), mistake.probability),
                (format!("label {}", mistake.label), mistake.label_probability),
            ],
        });
        gallery(&audit.id(&format!("mistakes-{task}")), capital(task), &faces.collect::<Vec<_>>())
    };
    let note =
        "<p>Wrong predictions, the surest first: prediction and label, each with its probability.</p>\n";
    format!("<h3>The most confident mistakes</h3>\n{note}{}", Task::ALL.map(gallery).concat())
}

/// Suspected label errors, ranked.
pub fn suspects(audit: &Audit, thumbnails: &Thumbnails) -> String {
    let images = &audit.record.source.images;
    let gallery = |task: Task| {
        let errors = &audit.record.label_errors[task];
        let faces = errors.suspects.iter().map(|suspect| Face {
            class: thumbnails.class(images, &suspect.file),
            file: &suspect.file,
            lines: [
                (format!("label {}", suspect.label), suspect.label_probability),
                (format!("rather {}", suspect.suggested), suspect.suggested_probability),
            ],
        });
        let heading = format!("{}: {} suspected", capital(task), grouped(errors.n_suspects));
        gallery(&audit.id(&format!("suspects-{task}")), &heading, &faces.collect::<Vec<_>>())
    };
    let note = "<p>Labels that confident learning (Northcutt et al. 2021) suspects, the most suspect first. A suspicion \
                is the model's: where the model is poor or has learnt the image, it says little.</p>\n";
    format!("<h3>Suspected label errors</h3>\n{note}{}", Task::ALL.map(gallery).concat())
}

/// A face, its file, and two classes with their probabilities.
struct Face<'a> {
    class: Option<String>,
    file: &'a str,
    lines: [(String, f64); 2],
}

/// Faces in a row, numbered.
fn gallery(id: &str, heading: &str, faces: &[Face]) -> String {
    let list = |faces: &[Face], first: usize| {
        let items: String = faces.iter().map(item).collect();
        format!("<ol class=\"faces\" start=\"{first}\">{items}</ol>\n")
    };
    let (shown, folded) = faces.split_at(faces.len().min(IN_SIGHT));
    let mut body = match shown {
        [] => "<p>None.</p>\n".to_owned(),
        shown => list(shown, 1),
    };
    if !folded.is_empty() {
        body += &more(&format!("{} more", folded.len()), &list(folded, IN_SIGHT + 1));
    }
    format!("<div id=\"{id}\"><h4>{}</h4>{body}</div>\n", escape(heading))
}

fn item(face: &Face) -> String {
    let file = escape(face.file);
    let picture = match &face.class {
        Some(class) => format!("<i class=\"face {class}\" role=\"img\" aria-label=\"{file}\"></i>"),
        None => "<i class=\"face missing\">not readable</i>".to_owned(),
    };
    let [first, second] =
        face.lines.each_ref().map(|(text, share)| format!("{} <u>{}</u>", escape(text), percent(*share)));
    format!("<li>{picture}<b>{first}</b><span>{second}</span><code>{file}</code></li>")
}
