//! ff-data
