// All kernels of the GPU engine, compiled as one file: by nvcc into what a GPU loads, and by the tests' C++ compiler
// for the host (tests/gpu/emulation.h). `src/gpu` launches them; the names end in the element type of the activations.
//
// Activations are NHWC with channels in multiples of 8: a thread works on 8 channels of one pixel, so that loads and
// stores are 16 bytes of bf16. Sums are f32 within a block about a value of the data, and f64 across blocks, always in
// the same order: the same input gives the same bits.

#include "prelude.cuh"

#define NAME(kernel) kernel
#include "grey.cuh"
#include "norm_finish.cuh"
#include "update.cuh"
#undef NAME

#define T float
#define NAME(kernel) kernel##_f32
#include "filters.cuh"
#include "images.cuh"
#include "norm.cuh"
#include "pool.cuh"
#undef T
#undef NAME

#define T bf16
#define NAME(kernel) kernel##_bf16
#include "filters.cuh"
#include "images.cuh"
#include "norm.cuh"
#include "pool.cuh"
#undef T
#undef NAME
