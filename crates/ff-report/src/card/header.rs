//! The metadata that the hub reads: YAML before the first heading.

use ff_data::Split;
use ff_eval::TaskMetrics;
use serde_json::{Map, Value, json};

use super::figures::Judged;
use super::{ModelCard, markdown};

/// What the second line of a card begins with that is ours to replace.
pub const MARK: &str = "# Made by fairface";

const COMMENT: &str = " from the run's records; training, evaluating and reporting make it anew. To keep changes \
     of your own, delete this line.";

/// The data set's name on the hub.
const FAIRFACE: &str = "HuggingFaceM4/FairFace";

/// The header, with its marks.
pub fn header(card: &ModelCard) -> String {
    let mut tags = vec!["image-classification", "face-attributes"];
    tags.extend(card.architecture().map(|architecture| architecture.name()));
    tags.extend(card.report.encoders.names().map(|task| task.as_str()));
    let mut meta = Map::new();
    meta.insert("license".into(), json!("other"));
    meta.insert("license_name".into(), json!("not-stated"));
    meta.insert("library_name".into(), json!(card.library()));
    meta.insert("pipeline_tag".into(), json!("image-classification"));
    meta.insert("tags".into(), json!(tags));
    if card.is_fairface() {
        meta.insert("datasets".into(), json!([FAIRFACE]));
    }
    let results: Vec<Value> = card.judged().iter().flat_map(|judged| results(card, judged)).collect();
    if !results.is_empty() {
        meta.insert("model-index".into(), json!([{ "name": card.name(), "results": results }]));
    }
    format!("---\n{MARK}{COMMENT}\n{}---\n", markdown::yaml(&Value::Object(meta)))
}

/// A result a task. The hub requires a type of the task, type and name of the data set, type and value of every metric.
fn results(card: &ModelCard, judged: &Judged) -> Vec<Value> {
    let split = judged.split;
    let of_fairface = card.is_fairface() && split.is_some();
    let kind = if of_fairface { FAIRFACE.to_owned() } else { slug(&judged.csv) };
    let mut name = if of_fairface { format!("FairFace, {}", judged.csv) } else { judged.csv.clone() };
    if let Some(subset) = judged.subset() {
        name.push_str(&format!(", only rows with {subset}"));
    }
    let mut dataset = json!({ "type": kind, "name": name });
    if let Some(split) = split {
        let split = if split == Split::Val { "validation" } else { split.name() };
        dataset["split"] = json!(split);
    }
    let result = |(task, metrics): (&str, &TaskMetrics)| {
        let metric = |kind: &str, name: &str, value: f64| {
            value.is_finite().then(|| json!({ "type": kind, "name": name, "value": value }))
        };
        let metrics = [
            metric("accuracy", "accuracy", metrics.accuracy),
            metric("balanced_accuracy", "balanced accuracy", metrics.balanced_accuracy),
            metric("f1", "macro F1", metrics.macro_f1),
            metric("expected_calibration_error", "expected calibration error", metrics.ece),
        ];
        let metrics: Vec<Value> = metrics.into_iter().flatten().collect();
        let task = json!({ "type": "image-classification", "name": task });
        (!metrics.is_empty()).then(|| json!({ "task": task, "dataset": dataset, "metrics": metrics }))
    };
    judged.metrics().filter_map(result).collect()
}

/// A name without anything that a URL would have to quote.
fn slug(name: &str) -> String {
    let kept: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let kept = kept.trim_matches('-').to_lowercase();
    if kept.is_empty() { "own".to_owned() } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_file_has_a_slug() {
        assert_eq!(
            ["ff_val.csv", "My Faces (2).csv", "顔", ""].map(slug),
            ["ff-val-csv", "my-faces--2--csv", "own", "own"]
        );
    }
}
