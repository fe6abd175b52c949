//! A trained model put to use: over labelled images for an evaluation, over any images or the faces in photos for answers
//! or embeddings.

mod evaluate;
mod face_check;
mod faces;
pub mod fairface_csv;
mod in_order;
mod photos;
mod predictor;
mod shared;
mod trained;
mod views;

pub(crate) use evaluate::check_finite;
pub use evaluate::{predict, predict_with};
pub use face_check::{BadlyPlaced, FaceCheck};
pub use faces::PhotoPrediction;
pub use ff_faces::{Face, Landmarks, Options as FaceSearch, Quality, Rect};
pub use photos::{
    CROP_ERROR, FacesWanted, PhotoFace, PhotoOptions, PhotoSearcher, Photos, SearchedPhoto, SetAside,
};
pub use predictor::{Embeddings, FacePrediction, Failure, Judged, Predictor, TaskPrediction, answers};
pub use shared::predict_on_ranks;
pub use trained::{Trained, TrainedSource, open_trained};
