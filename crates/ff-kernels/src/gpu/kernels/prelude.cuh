// What every kernel file needs: the element types, 8 channels at a time, sums over a block.
#pragma once

#if defined(EMULATED)
#include "emulation.h"
#else
#include <cuda_bf16.h>
typedef __nv_bfloat16 bf16;
// A kernel with its parameters; `NAME` gives it the suffix of the element type.
#define KERNEL(name, ...) extern "C" __global__ void __launch_bounds__(BLOCK) NAME(name)(__VA_ARGS__)
#endif

// Threads of every block.
constexpr unsigned BLOCK = 256;
// Channels that a thread works on.
constexpr unsigned LANES = 8;

struct Eight {
    float at[LANES];
};

static __device__ __forceinline__ float to_float(float x) { return x; }
static __device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
static __device__ __forceinline__ void from_float(float x, float* to) { *to = x; }
static __device__ __forceinline__ void from_float(float x, bf16* to) { *to = __float2bfloat16_rn(x); }

// 16 bytes, moved at once.
struct alignas(16) Sixteen {
    unsigned words[4];
};

static __device__ __forceinline__ Eight load(const float* from) {
    const Sixteen* halves = reinterpret_cast<const Sixteen*>(from);
    Sixteen low = halves[0], high = halves[1];
    Eight x;
#pragma unroll
    for (unsigned i = 0; i < 4; i++) {
        x.at[i] = __uint_as_float(low.words[i]);
        x.at[4 + i] = __uint_as_float(high.words[i]);
    }
    return x;
}

static __device__ __forceinline__ Eight load(const bf16* from) {
    Sixteen packed = *reinterpret_cast<const Sixteen*>(from);
    Eight x;
#pragma unroll
    for (unsigned i = 0; i < 4; i++) {
        x.at[2 * i] = __uint_as_float(packed.words[i] << 16);
        x.at[2 * i + 1] = __uint_as_float(packed.words[i] & 0xffff0000u);
    }
    return x;
}

static __device__ __forceinline__ void store(float* to, const Eight& x) {
    Sixteen low, high;
#pragma unroll
    for (unsigned i = 0; i < 4; i++) {
        low.words[i] = __float_as_uint(x.at[i]);
        high.words[i] = __float_as_uint(x.at[4 + i]);
    }
    Sixteen* halves = reinterpret_cast<Sixteen*>(to);
    halves[0] = low;
    halves[1] = high;
}

static __device__ __forceinline__ void store(bf16* to, const Eight& x) {
    alignas(16) bf16 packed[LANES];
#pragma unroll
    for (unsigned i = 0; i < LANES; i++) packed[i] = __float2bfloat16_rn(x.at[i]);
    *reinterpret_cast<Sixteen*>(to) = *reinterpret_cast<const Sixteen*>(packed);
}

// x as it would come back from memory.
static __device__ __forceinline__ float rounded(float x, const float*) { return x; }
static __device__ __forceinline__ float rounded(float x, const bf16*) {
    return __bfloat162float(__float2bfloat16_rn(x));
}

// The BatchNorm of a layer in the arena, each (channels): what `norm_finish` writes.
struct Norm {
    const float *mean, *inv_std, *scale, *shift;
    __device__ __forceinline__ Norm(const float* at, unsigned channels)
        : mean(at), inv_std(at + channels), scale(at + 2 * channels), shift(at + 3 * channels) {}
};

static __device__ __forceinline__ float normed(const Norm& norm, unsigned channel, float raw) {
    return fmaf(raw, norm.scale[channel], norm.shift[channel]);
}

// Keeps NaN, which fmaxf would turn into 0: a network that breaks down must show it.
static __device__ __forceinline__ float relu_of(float x) { return x < 0.0f ? 0.0f : x; }

// Sum of one f64 a thread over the block, for every thread. All threads of the block must call it.
static __device__ __forceinline__ double block_sum(double x) {
    __shared__ double sums[BLOCK];
    __syncthreads();
    sums[threadIdx.x] = x;
    __syncthreads();
    for (unsigned half = BLOCK / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    return sums[0];
}

// A block's part of the rows of a map, split over its threads: `groups` threads side by side hold the channels of a row
// (channels / 8, at most 256), and the block works on `lanes` rows at once.
struct Rows {
    unsigned groups, lanes, group, lane, first, end;
    __device__ __forceinline__ Rows(unsigned rows, unsigned channels, unsigned rows_of_block) {
        groups = channels / LANES;
        lanes = BLOCK / groups;
        group = threadIdx.x % groups;
        lane = threadIdx.x / groups;
        first = blockIdx.x * rows_of_block;
        end = min(first + rows_of_block, rows);
        if (lane >= lanes) lane = end;  // left over where `groups` does not divide the block: no rows
    }
    __device__ __forceinline__ unsigned channel() const { return group * LANES; }
};

// Adds up each thread's 8 channels over the lanes of the block and leaves the sums at `to[channel * blocks]`.
// All threads of the block must call it.
static __device__ __forceinline__ void store_channel_sums(const Rows& rows, unsigned channels, const Eight& x, float* to) {
    __shared__ float sums[BLOCK * LANES];
    __syncthreads();
#pragma unroll
    for (unsigned i = 0; i < LANES; i++) sums[threadIdx.x * LANES + i] = x.at[i];
    __syncthreads();
    for (unsigned channel = threadIdx.x; channel < channels; channel += BLOCK) {
        float sum = 0;
        for (unsigned lane = 0; lane < rows.lanes; lane++) sum += sums[lane * channels + channel];
        to[channel * gridDim.x + blockIdx.x] = sum;
    }
}
