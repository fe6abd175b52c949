//! ff-kernels
