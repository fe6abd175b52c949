// Max-pool 3x3, stride 2, padding 1, behind the stem's BatchNorm and ReLU; and the global average pool.
// Which of the nine places won is one byte an output: the first maximum in row-major order, and NaN wins (PyTorch's
// rule).

#ifndef POOL_ONCE
#define POOL_ONCE
// Sizes of a map (B, height, width, channels) and of what the max-pool makes of it.
struct PoolSize {
    unsigned batch, height, width, channels, out_height, out_width;
};
struct Bytes {
    unsigned char at[LANES];
};
#endif

// One thread an output pixel and 8 channels. Without a BatchNorm (null) the map is behind its ReLU already; without
// `places` (null) nobody asks who won.
KERNEL(max_pool, const T* raw, const float* norm_at, PoolSize size, T* pooled, Bytes* places) {
    unsigned channels = size.channels, groups = channels / LANES;
    size_t i = size_t(blockIdx.x) * BLOCK + threadIdx.x;
    if (i >= size_t(size.batch) * size.out_height * size.out_width * groups) return;
    unsigned channel = unsigned(i % groups) * LANES;
    size_t pixel = i / groups;
    unsigned column = unsigned(pixel % size.out_width), row = unsigned(pixel / size.out_width % size.out_height);
    const T* image = raw + pixel / size.out_width / size.out_height * size.height * size.width * channels;
    Norm norm(norm_at, channels);
    Eight best;
    Bytes place = {};
    for (unsigned l = 0; l < LANES; l++) best.at[l] = -1.0f;  // below every ReLU: the first place inside wins over it
    for (unsigned tap = 0; tap < 9; tap++) {
        unsigned y = 2 * row + tap / 3 - 1, x = 2 * column + tap % 3 - 1;  // outside wraps to a large number
        if (y >= size.height || x >= size.width) continue;
        Eight value = load(image + (size_t(y) * size.width + x) * channels + channel);
        for (unsigned l = 0; l < LANES; l++) {
            float after = relu_of(norm_at != nullptr ? normed(norm, channel + l, value.at[l]) : value.at[l]);
            if (after > best.at[l] || after != after) {
                best.at[l] = after;
                place.at[l] = (unsigned char)tap;
            }
        }
    }
    store(pooled + i * LANES, best);
    if (places != nullptr) places[i] = place;
}

#ifndef POOL_GATHER_ONCE
#define POOL_GATHER_ONCE
// The gradient of 8 channels of an input pixel: of those outputs, at most four, whose winner it is, behind the ReLU.
template <typename E>
static __device__ __forceinline__ Eight pooled_gradient(const E* grad, const Bytes* places, const PoolSize& size,
                                                        const Norm& norm, const Eight& raw, unsigned row,
                                                        unsigned channel) {
    unsigned groups = size.channels / LANES;
    unsigned x = row % size.width, y = row / size.width % size.height, image = row / size.width / size.height;
    Eight g = {};
    for (unsigned p = y / 2; p <= (y + 1) / 2 && p < size.out_height; p++) {
        for (unsigned q = x / 2; q <= (x + 1) / 2 && q < size.out_width; q++) {
            unsigned place = (y + 1 - 2 * p) * 3 + (x + 1 - 2 * q);
            size_t at = ((size_t(image) * size.out_height + p) * size.out_width + q) * groups + channel / LANES;
            Bytes winners = places[at];
            Eight from = load(grad + at * LANES);
            for (unsigned l = 0; l < LANES; l++) g.at[l] += winners.at[l] == place ? from.at[l] : 0.0f;
        }
    }
    for (unsigned l = 0; l < LANES; l++)
        if (!(normed(norm, channel + l, raw.at[l]) > 0.0f)) g.at[l] = 0.0f;
    return g;
}
#endif

// As `norm_backward_sums`, for the BatchNorm before the max-pool: the gradient before the pool is never stored.
KERNEL(max_pool_backward_sums, const T* grad, const Bytes* places, const T* raw, const float* norm_at, PoolSize size,
       unsigned rows_of_block, float* partial) {
    unsigned channels = size.channels;
    Rows rows(size.batch * size.height * size.width, channels, rows_of_block);
    Norm norm(norm_at, channels);
    unsigned channel = rows.channel();
    Eight sum = {}, moment = {};
    for (unsigned row = rows.first + rows.lane; row < rows.end; row += rows.lanes) {
        Eight x = load(raw + size_t(row) * channels + channel);
        Eight g = pooled_gradient(grad, places, size, norm, x, row, channel);
        for (unsigned i = 0; i < LANES; i++) {
            sum.at[i] += g.at[i];
            moment.at[i] = fmaf(g.at[i], x.at[i] - norm.mean[channel + i], moment.at[i]);
        }
    }
    store_channel_sums(rows, channels, sum, partial);
    store_channel_sums(rows, channels, moment, partial + size_t(channels) * gridDim.x);
}

// As `norm_backward_apply`, for the BatchNorm before the max-pool.
KERNEL(max_pool_backward_apply, const T* grad, const Bytes* places, const T* raw, const float* norm_at,
       const float* coefficients, PoolSize size, T* out) {
    unsigned channels = size.channels;
    size_t i = (size_t(blockIdx.x) * BLOCK + threadIdx.x) * LANES;
    if (i >= size_t(size.batch) * size.height * size.width * channels) return;
    unsigned channel = unsigned(i % channels);
    Norm norm(norm_at, channels);
    const float *a = coefficients + channel, *b = a + channels, *c = b + channels;
    Eight x = load(raw + i);
    Eight g = pooled_gradient(grad, places, size, norm, x, unsigned(i / channels), channel);
    for (unsigned l = 0; l < LANES; l++) g.at[l] = fmaf(a[l], g.at[l], fmaf(b[l], x.at[l], c[l]));
    store(out + i, g);
}

// to = a + b, a thread for 8 values.
KERNEL(add, const T* a, const T* b, T* to, unsigned eights) {
    size_t i = size_t(blockIdx.x) * BLOCK + threadIdx.x;
    if (i >= eights) return;
    Eight x = load(a + i * LANES), y = load(b + i * LANES);
    for (unsigned l = 0; l < LANES; l++) x.at[l] += y.at[l];
    store(to + i * LANES, x);
}

// One thread an image and 8 channels: (B, pixels, C) -> (B, C) f32.
KERNEL(average, const T* map, unsigned batch, unsigned pixels, unsigned channels, float* embedding) {
    size_t i = (size_t(blockIdx.x) * BLOCK + threadIdx.x) * LANES;
    if (i >= size_t(batch) * channels) return;
    const T* from = map + i / channels * pixels * channels + i % channels;
    Eight sum = {};
    for (unsigned pixel = 0; pixel < pixels; pixel++) {
        Eight x = load(from + size_t(pixel) * channels);
        for (unsigned l = 0; l < LANES; l++) sum.at[l] += x.at[l];
    }
    for (unsigned l = 0; l < LANES; l++) sum.at[l] /= float(pixels);
    store(embedding + i, sum);
}

// One thread a pixel and 8 channels: (B, C) f32 -> (B, pixels, C).
KERNEL(average_backward, const float* grad, unsigned batch, unsigned pixels, unsigned channels, T* out) {
    size_t i = (size_t(blockIdx.x) * BLOCK + threadIdx.x) * LANES;
    if (i >= size_t(batch) * pixels * channels) return;
    Eight g = load(grad + i / (size_t(pixels) * channels) * channels + i % channels);
    for (unsigned l = 0; l < LANES; l++) g.at[l] /= float(pixels);
    store(out + i, g);
}
