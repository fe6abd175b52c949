//! ff-model
