//! The Open Inference Protocol, version 2: prepared images in, probabilities out, as the model's ONNX file has them.
//!
//! `images` is (n,3,S,S) f32, normalised as in training. Outputs are named by tasks; `embedding` comes where it is
//! asked for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use ff_core::text::shortened;
use ff_train::infer::Judged;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Api, timed};
use crate::engine::{Failed, Planes};
use crate::problem::{Cause, Problem};

const INPUT: &str = "images";
const EMBEDDING: &str = "embedding";
const FP32: &str = "FP32";

/// A request, as far as it counts here.
#[derive(Deserialize)]
struct InferRequest {
    id: Option<String>,
    inputs: Vec<InputTensor>,
    outputs: Option<Vec<OutputName>>,
}

#[derive(Deserialize)]
struct InputTensor {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    data: Vec<f32>,
}

#[derive(Deserialize)]
struct OutputName {
    name: String,
}

#[derive(Serialize)]
struct InferResponse {
    model_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: Vec<OutputTensor>,
}

#[derive(Serialize)]
struct OutputTensor {
    name: String,
    datatype: &'static str,
    shape: [usize; 2],
    data: Vec<f32>,
}

/// What a request asks for beside its images.
struct Asked {
    id: Option<String>,
    outputs: Vec<String>,
}

pub(super) async fn server() -> Json<Value> {
    Json(json!({ "name": "fairface", "version": env!("CARGO_PKG_VERSION"), "extensions": [] }))
}

pub(super) async fn model(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    api.named(&name)?;
    let served = &api.served;
    let side = served.engine.options().image_size;
    let output = |name: &str, n: usize| json!({ "name": name, "datatype": FP32, "shape": [-1, n] });
    let tasks =
        served.tasks.iter().filter_map(|task| Some(output(task, served.encoders.get(task)?.n_classes())));
    let outputs: Vec<Value> = tasks.chain([output(EMBEDDING, served.about.embedding_len)]).collect();
    Ok(Json(json!({
        "name": served.about.name,
        "versions": [],
        "platform": "fairface",
        "inputs": [{ "name": INPUT, "datatype": FP32, "shape": [-1, 3, side, side] }],
        "outputs": outputs,
    })))
}

pub(super) async fn ready(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    api.named(&name)?;
    api.admit().map(|()| StatusCode::OK)
}

pub(super) async fn infer(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    api.admit()?;
    api.named(&name)?;
    let (head, body) = request.into_parts();
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if let Some(kind) = kind.filter(|kind| !kind.to_ascii_lowercase().starts_with("application/json")) {
        let detail = format!("expected application/json, found {:?}", shortened(kind));
        return Err(Problem::new(Cause::UnsupportedType, detail));
    }
    let held = api.bodies.read(&head.headers, body).await?;
    let mut rooms = api.served.engine.reserve(1)?;
    let room = rooms.pop().expect("room for one");
    let (side, most) = (api.served.engine.options().image_size, api.served.engine.options().max_batch);
    let known: Vec<String> = api.served.tasks.iter().cloned().chain([EMBEDDING.to_owned()]).collect();
    let ticket = api.served.engine.submit(room, move |_| {
        let prepared = parse(&held.bytes, side, most, &known).map_err(Failed::Unusable);
        drop(held);
        prepared
    });
    let answers = api.answers(vec![ticket]).await?;
    let done = answers.into_iter().next().expect("there was one ticket")?;
    let outputs = outputs(&api, &done.prepared.outputs, &done.judged)?;
    let response = InferResponse { model_name: api.served.about.name.clone(), id: done.prepared.id, outputs };
    Ok(timed(done.times, Json(response)))
}

/// A request's images, one after the other.
fn parse(bytes: &[u8], side: usize, most: usize, known: &[String]) -> Result<(Asked, Vec<Planes>), String> {
    let InferRequest { id, inputs, outputs } =
        serde_json::from_slice(bytes).map_err(|error| format!("no request to infer: {error}"))?;
    let [InputTensor { name, shape, datatype, data }] = inputs
        .try_into()
        .map_err(|inputs: Vec<_>| format!("inputs: expected one, {INPUT}, found {}", inputs.len()))?;
    if name != INPUT || datatype != FP32 {
        let (name, datatype) = (shortened(&name), shortened(&datatype));
        return Err(format!("inputs: expected {INPUT} of {FP32}, found {name:?} of {datatype:?}"));
    }
    let n = match shape[..] {
        [n, 3, height, width] if (height, width) == (side, side) && (1..=most).contains(&n) => n,
        _ => {
            let found = shortened(&format!("{:?}", &shape[..shape.len().min(5)]));
            return Err(format!("{INPUT}: expected shape [1..={most}, 3, {side}, {side}], found {found}"));
        }
    };
    let length = 3 * side * side;
    if data.len() != n * length {
        return Err(format!("{INPUT}: expected {} values, found {}", n * length, data.len()));
    }
    let outputs = match outputs {
        None => known.iter().filter(|name| *name != EMBEDDING).cloned().collect(),
        Some(asked) => asked.into_iter().map(|output| output.name).collect::<Vec<_>>(),
    };
    if let Some(other) = outputs.iter().find(|name| !known.contains(name)) {
        let (known, other) = (known.join(", "), shortened(other));
        return Err(format!("outputs: expected some of {known}, found {other:?}"));
    }
    // All of them are known: the first that is named again is among the first few.
    if let Some((_, again)) = outputs.iter().enumerate().find(|(i, name)| outputs[..*i].contains(name)) {
        return Err(format!("outputs: expected each once, found {again:?} again"));
    }
    Ok((Asked { id, outputs }, data.chunks(length).map(<[f32]>::to_vec).collect()))
}

/// The outputs that were asked for, (n, classes) or (n, 512) each.
fn outputs(api: &Api, names: &[String], judged: &[Judged]) -> Result<Vec<OutputTensor>, Problem> {
    let answers = judged.iter().map(|judged| api.answers_of(INPUT, judged, &api.served.tasks));
    let answers = answers.collect::<Result<Vec<_>, _>>()?;
    let output = |name: &String| {
        let rows: Vec<Vec<f32>> = match name.as_str() {
            EMBEDDING => judged.iter().map(|judged| judged.embedding.clone()).collect(),
            task => {
                let of = |answer: &ff_core::PerTask<ff_train::infer::TaskPrediction>| {
                    answer[task].probabilities.iter().map(|(_, probability)| *probability).collect()
                };
                answers.iter().map(of).collect()
            }
        };
        let shape = [rows.len(), rows.first().map_or(0, Vec::len)];
        OutputTensor { name: name.clone(), datatype: FP32, shape, data: rows.concat() }
    };
    Ok(names.iter().map(output).collect())
}

impl Api {
    /// # Errors
    /// The model is called otherwise.
    fn named(&self, name: &str) -> Result<(), Problem> {
        if name == self.served.about.name {
            return Ok(());
        }
        let (model, name) = (&self.served.about.name, shortened(name));
        Err(Problem::new(Cause::NotFound, format!("expected the model {model}, found {name:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is changed of a sound request, and what is said then.
    type Case<'a> = (&'a dyn Fn(&mut Value), &'a str);

    #[test]
    fn a_tensor_that_does_not_fit_says_what_would() {
        let known = ["age".to_owned(), EMBEDDING.to_owned()];
        let request = |change: &dyn Fn(&mut Value)| {
            let mut request = json!({ "inputs": [{
                "name": "images", "shape": [2, 3, 2, 2], "datatype": "FP32", "data": vec![0.5; 24],
            }] });
            change(&mut request);
            parse(request.to_string().as_bytes(), 2, 4, &known)
        };
        let (asked, planes) = request(&|_| {}).unwrap();
        assert_eq!((asked.outputs, planes), (vec!["age".to_owned()], vec![vec![0.5; 12]; 2]));
        let cases: [Case; 8] = [
            (&|r| r["inputs"] = json!([]), "inputs: expected one, images, found 0"),
            (&|r| r["inputs"][0]["name"] = "image".into(), "expected images of FP32, found \"image\""),
            (&|r| r["inputs"][0]["datatype"] = "FP64".into(), "of \"FP64\""),
            (
                &|r| r["inputs"][0]["shape"] = json!([5, 3, 2, 2]),
                "expected shape [1..=4, 3, 2, 2], found [5, 3, 2, 2]",
            ),
            (&|r| r["inputs"][0]["shape"] = json!([1, 3, 2, 2]), "expected 12 values, found 24"),
            (&|r| r["inputs"][0]["data"][7] = json!(1e39), "number out of range"),
            (
                &|r| r["outputs"] = json!([{ "name": "race" }]),
                "expected some of age, embedding, found \"race\"",
            ),
            // What is asked for many times would be answered as often.
            (
                &|r| r["outputs"] = json!([{ "name": "age" }, { "name": "age" }]),
                "expected each once, found \"age\" again",
            ),
        ];
        for (change, said) in cases {
            let error = request(change).err().unwrap();
            assert!(error.contains(said), "{error}");
        }
    }
}
