//! ff-train
