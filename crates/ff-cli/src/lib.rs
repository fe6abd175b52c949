//! ff-cli
