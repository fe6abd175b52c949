//! Predictions of anybody, from a file, judged by a table of labels.

use std::path::Path;

use anyhow::Result;
use ff_eval::{
    EvaluationRecord, EvaluationSource, FilePredictions, Join, SchemaFile, Unmatched, per_sample_csv,
    read_predictions,
};

use super::{Args, Wanted};
use crate::Ending;
use crate::output::note;

pub fn run(args: &Args, wanted: &Wanted, predictions: &Path, labels: &Path, json: bool) -> Result<Ending> {
    let schema = args.schema.as_deref().map(SchemaFile::read).transpose()?.unwrap_or_default();
    let FilePredictions { predictions: judged, encoders, join } =
        read_predictions(predictions, labels, &schema)?;
    if args.strict {
        join.require_complete()?;
    }
    tell_join(&join);
    let group_by = args.group_by(&encoders);
    wanted.gates.expect(|requirement| requirement.can_check(encoders.names(), &group_by))?;
    let source = EvaluationSource {
        predictions: Some(predictions.to_owned()),
        csv: labels.to_owned(),
        images: args.images.clone(),
        join: Some(join),
        ..EvaluationSource::default()
    };
    let record = EvaluationRecord::new(&judged, &encoders, source, &args.settings(&group_by))?;
    let samples = per_sample_csv(&judged, &encoders, &group_by)?;
    let name = predictions.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    wanted.tell(&name, &record, &samples, json)
}

/// Says how many rows went together, and which did not.
pub fn tell_join(join: &Join) {
    let by_base_name = match join.n_by_base_name {
        0 => String::new(),
        n => format!(", {n} of them by base name"),
    };
    note!("{} predictions have labels{by_base_name}", join.n);
    let warn = |rows: &Unmatched, what: &str| {
        if rows.n > 0 {
            let more = if rows.n > rows.first.len() { ", ..." } else { "" };
            tracing::warn!("{} {what}: {}{more}", rows.n, rows.first.join(", "));
        }
    };
    warn(&join.without_prediction, "labels have no prediction");
    warn(&join.without_label, "predictions have no labels");
}
