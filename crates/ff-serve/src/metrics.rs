//! What is counted, and its text for Prometheus (exposition format 0.0.4).
//!
//! Nothing here tells one client from another, or says what was in a photo.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Part of a job's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waiting.
    Queue,
    /// Decoding, searching and cutting.
    Detect,
    /// A batch.
    Model,
}

/// Seconds, upper ends.
const SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
/// Crops in a batch, upper ends.
const BATCHES: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    /// By place and status.
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    photos: AtomicU64,
    faces: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
    panics: AtomicU64,
    stages: [Mutex<Histogram<{ SECONDS.len() }>>; 3],
    batches: Mutex<Histogram<{ BATCHES.len() }>>,
}

impl Metrics {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            requests: Mutex::default(),
            photos: AtomicU64::new(0),
            faces: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            stages: std::array::from_fn(|_| Mutex::new(Histogram::new(SECONDS))),
            batches: Mutex::new(Histogram::new(BATCHES)),
        }
    }

    /// A request was answered; `place` is the route's pattern, never what a client wrote.
    pub fn answered(&self, place: &str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((place.to_owned(), status)).or_default() += 1;
    }

    /// A photo was searched.
    pub fn photo(&self, faces: usize) {
        self.photos.fetch_add(1, Ordering::Relaxed);
        self.faces.fetch_add(faces as u64, Ordering::Relaxed);
    }

    /// There was no room for an image.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Work was dropped, as nobody waited for it.
    pub fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// A panic was caught.
    pub fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// A stage took so long.
    pub fn took(&self, stage: Stage, time: Duration) {
        let mut histogram = self.stages[stage as usize].lock().unwrap_or_else(PoisonError::into_inner);
        histogram.add(time.as_secs_f64());
    }

    /// A batch of so many crops took so long.
    pub fn batch(&self, crops: usize, time: Duration) {
        self.took(Stage::Model, time);
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).add(crops as f64);
    }

    /// All of it as text; `in_house` images are being worked on of `queue` that may be.
    pub fn text(&self, in_house: usize, queue: usize) -> String {
        let mut text = String::new();
        head(&mut text, "requests_total", "counter", "Answers by place and status.");
        for ((place, status), n) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            line(&mut text, format_args!("requests_total{{place=\"{place}\",status=\"{status}\"}} {n}"));
        }
        let counters = [
            ("photos_total", "Photos that were searched.", &self.photos),
            ("faces_total", "Faces in them, and crops taken as they are.", &self.faces),
            ("refused_total", "Requests without room in the queue.", &self.refused),
            ("dropped_total", "Images and crops that nobody waited for any more.", &self.dropped),
            ("panics_total", "Bugs that were caught.", &self.panics),
        ];
        for (name, help, value) in counters {
            head(&mut text, name, "counter", help);
            line(&mut text, format_args!("{name} {}", value.load(Ordering::Relaxed)));
        }
        for (name, help, value) in [
            ("images_in_house", "Images that wait or are worked on.", in_house),
            ("images_in_house_limit", "How many there may be.", queue),
        ] {
            head(&mut text, name, "gauge", help);
            line(&mut text, format_args!("{name} {value}"));
        }
        for (name, help, stage) in [
            ("queue_seconds", "Waiting, an image.", Stage::Queue),
            ("detect_seconds", "Decoding, searching and cutting, an image.", Stage::Detect),
            ("model_seconds", "The network, a batch.", Stage::Model),
        ] {
            let histogram = self.stages[stage as usize].lock().unwrap_or_else(PoisonError::into_inner);
            histogram.write(&mut text, name, help);
        }
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.write(&mut text, "batch_size", "Crops in a batch.");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// How often values lay within bounds.
#[derive(Debug)]
struct Histogram<const N: usize> {
    ends: [f64; N],
    counts: [u64; N],
    sum: f64,
    n: u64,
}

impl<const N: usize> Histogram<N> {
    fn new(ends: [f64; N]) -> Self {
        Self { ends, counts: [0; N], sum: 0.0, n: 0 }
    }

    fn add(&mut self, value: f64) {
        if let Some(bucket) = self.ends.iter().position(|&end| value <= end) {
            self.counts[bucket] += 1;
        }
        self.sum += value;
        self.n += 1;
    }

    fn write(&self, text: &mut String, name: &str, help: &str) {
        head(text, name, "histogram", help);
        let mut so_far = 0;
        for (end, count) in self.ends.iter().zip(self.counts) {
            so_far += count;
            line(text, format_args!("{name}_bucket{{le=\"{end}\"}} {so_far}"));
        }
        line(text, format_args!("{name}_bucket{{le=\"+Inf\"}} {}", self.n));
        line(text, format_args!("{name}_sum {}", self.sum));
        line(text, format_args!("{name}_count {}", self.n));
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    write!(text, "# HELP fairface_{name} {help}\n# TYPE fairface_{name} {kind}\n").expect("a text grows");
}

fn line(text: &mut String, sample: std::fmt::Arguments) {
    writeln!(text, "fairface_{sample}").expect("a text grows");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_cumulative() {
        let metrics = Metrics::new();
        for crops in [1, 3, 4, 100] {
            metrics.batch(crops, Duration::from_millis(20));
        }
        metrics.answered("/v1/faces", 200);
        metrics.answered("/v1/faces", 200);
        let text = metrics.text(2, 64);
        for line in [
            "fairface_requests_total{place=\"/v1/faces\",status=\"200\"} 2",
            "fairface_batch_size_bucket{le=\"1\"} 1",
            "fairface_batch_size_bucket{le=\"2\"} 1",
            "fairface_batch_size_bucket{le=\"4\"} 3",
            "fairface_batch_size_bucket{le=\"64\"} 3",
            "fairface_batch_size_bucket{le=\"+Inf\"} 4",
            "fairface_batch_size_sum 108",
            "fairface_model_seconds_bucket{le=\"0.01\"} 0",
            "fairface_model_seconds_bucket{le=\"0.025\"} 4",
            "fairface_images_in_house 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
