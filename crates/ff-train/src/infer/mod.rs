//! A trained model put to use: over labelled images for an evaluation, over any images for answers or embeddings.

mod evaluate;
pub mod fairface_csv;
mod predictor;
mod shared;
mod trained;

pub use evaluate::{predict, predict_with};
pub use predictor::{Embeddings, FacePrediction, Failure, Predictor, TaskPrediction};
pub use shared::predict_on_ranks;
pub use trained::{Trained, TrainedSource, open_trained};
