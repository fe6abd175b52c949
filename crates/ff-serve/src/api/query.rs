//! What a request asks for, in its address: options as `predict` has them.

use std::fmt::Display;
use std::ops::RangeInclusive;

use ff_core::text::{list, nearest};
use ff_train::config::ranges;
use ff_train::infer::{FaceSearch, FacesWanted};

use crate::problem::Problem;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct FaceQuery {
    /// Which faces; `None` where images are crops.
    pub wanted: Option<FacesWanted>,
    /// What the detector looks for.
    pub search: FaceSearch,
    /// Less sharp faces are set aside.
    pub min_sharpness: Option<f32>,
    /// Which tasks, where not all that are served.
    pub tasks: Option<Vec<String>>,
    /// What a body that is one image is called.
    pub name: Option<String>,
}

impl Default for FaceQuery {
    fn default() -> Self {
        Self {
            wanted: Some(FacesWanted::Auto),
            search: FaceSearch::default(),
            min_sharpness: None,
            tasks: None,
            name: None,
        }
    }
}

/// The names of what can be asked for.
pub const NAMES: [&str; 7] =
    ["faces", "min_face", "min_score", "max_faces", "min_sharpness", "tasks", "name"];

impl FaceQuery {
    /// Reads an address's part after the question mark.
    ///
    /// # Errors
    /// A name that is not known or stands twice, a value that is none.
    pub fn read(query: &str) -> Result<Self, Problem> {
        let (mut found, mut seen) = (Self::default(), Vec::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let (name, value) = (name.as_ref(), value.as_ref());
            if seen.iter().any(|before| before == name) {
                return Err(Problem::bad_request(format!("{name}: expected once, found twice")));
            }
            seen.push(name.to_owned());
            match name {
                "faces" => {
                    found.wanted = match value {
                        "auto" => Some(FacesWanted::Auto),
                        "all" => Some(FacesWanted::All),
                        "largest" => Some(FacesWanted::Largest),
                        "crop" => None,
                        _ => return Err(bad(name, "auto, all, largest or crop", value)),
                    }
                }
                "min_face" => found.search.min_face = Some(number(name, value, ranges::FACE_WIDTH)?),
                "min_score" => found.search.min_score = number(name, value, 0.0..=1.0)?,
                "min_sharpness" => found.min_sharpness = Some(number(name, value, ranges::SHARPNESS)?),
                "max_faces" => {
                    let (least, most) = (*ranges::FACES.start(), *ranges::FACES.end());
                    let n = value.parse().ok().filter(|n: &u64| ranges::FACES.contains(n));
                    let n =
                        n.ok_or_else(|| bad(name, format!("a whole number from {least} to {most}"), value))?;
                    found.search.max_faces = usize::try_from(n).ok();
                }
                "tasks" => found.tasks = Some(value.split(',').map(|task| task.trim().to_owned()).collect()),
                "name" => found.name = Some(crate::multipart::shown_name(value)),
                _ => {
                    let meant = nearest(name, NAMES.into_iter());
                    let meant = meant.map_or(String::new(), |meant| format!(": did you mean {meant}?"));
                    let names = list(&NAMES.map(str::to_owned));
                    let detail = format!("expected one of {names}, found {}{meant}", short(name));
                    return Err(Problem::bad_request(detail));
                }
            }
        }
        Ok(found)
    }
}

fn number(name: &str, value: &str, range: RangeInclusive<f64>) -> Result<f32, Problem> {
    // NaN is in no range.
    let number = value.parse().ok().filter(|number| range.contains(number));
    let expected = || format!("a number from {} to {}", range.start(), range.end());
    number.map(|number: f64| number as f32).ok_or_else(|| bad(name, expected(), value))
}

fn bad(name: &str, expected: impl Display, value: &str) -> Problem {
    Problem::bad_request(format!("{name}: expected {expected}, found {}", short(value)))
}

/// No more of what a client wrote than helps it.
fn short(text: &str) -> String {
    format!("{:?}", ff_core::text::shortened(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_predicts() {
        assert_eq!(FaceQuery::read("").unwrap(), FaceQuery::default());
        let all = "faces=largest&min_face=12.5&min_score=0.25&max_faces=3&min_sharpness=0.002&tasks=age,%20gender&name=a%2Fb";
        let found = FaceQuery::read(all).unwrap();
        assert_eq!(found.wanted, Some(FacesWanted::Largest));
        assert_eq!(found.search, FaceSearch { min_score: 0.25, min_face: Some(12.5), max_faces: Some(3) });
        assert_eq!(found.min_sharpness, Some(0.002));
        assert_eq!(found.tasks.unwrap(), ["age", "gender"]);
        assert_eq!(found.name.as_deref(), Some("a/b"));
        assert_eq!(FaceQuery::read("faces=crop").unwrap().wanted, None);
    }

    #[test]
    fn what_cannot_be_says_what_could() {
        for (query, said) in [
            ("faces=some", "faces: expected auto, all, largest or crop, found \"some\""),
            ("min_score=NaN", "min_score: expected a number from 0 to 1, found \"NaN\""),
            ("min_face=1e9", "min_face: expected a number from 1 to 100000"),
            ("max_faces=-1", "max_faces: expected a whole number from 1 to 100000"),
            ("min_fase=1", "found \"min_fase\": did you mean min_face?"),
            ("faces=all&faces=crop", "faces: expected once, found twice"),
            ("path=%2Fetc%2Fpasswd", "expected one of faces"),
        ] {
            let detail = FaceQuery::read(query).unwrap_err().detail;
            assert!(detail.contains(said), "{detail}");
        }
    }
}
