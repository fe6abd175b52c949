// BatchNorm over rows of channels (B*H*W, C): statistics, the forward pass with residual and ReLU, and the gradients.
// Ioffe and Szegedy, 2015; variances are biased in the normalisation and unbiased in the running statistics.

#ifndef NORM_ONCE
#define NORM_ONCE
// Which gradients a ReLU lets through.
enum Mask : unsigned {
    MASK_NONE = 0,
    MASK_ACTIVATION = 1,  // where the activation after it is positive
    MASK_NORMED = 2,      // where the BatchNorm before it is positive
};
#endif

// Each block: for its rows and every channel, the sum and the sum of squares about a value of the data, as mean and
// squared deviations. partial (2, channels, blocks).
KERNEL(norm_sums, const T* raw, unsigned n_rows, unsigned channels, unsigned rows_of_block, float* partial) {
    Rows rows(n_rows, channels, rows_of_block);
    Eight sum = {}, squares = {};
    const T* column = raw + rows.channel();
    Eight pivot = load(column + size_t(rows.first) * channels);
#pragma unroll 4
    for (unsigned row = rows.first + rows.lane; row < rows.end; row += rows.lanes) {
        Eight x = load(column + size_t(row) * channels);
        for (unsigned i = 0; i < LANES; i++) {
            float d = x.at[i] - pivot.at[i];
            sum.at[i] += d;
            squares.at[i] = fmaf(d, d, squares.at[i]);
        }
    }
    float* sums = partial;
    float* deviations = partial + size_t(channels) * gridDim.x;
    store_channel_sums(rows, channels, sum, sums);
    store_channel_sums(rows, channels, squares, deviations);
    // Each thread goes on with the channels that it has just stored.
    float n = float(rows.end - rows.first);
    for (unsigned channel = threadIdx.x; channel < channels; channel += BLOCK) {
        size_t at = size_t(channel) * gridDim.x + blockIdx.x;
        float total = sums[at];
        float first = to_float(raw[size_t(rows.first) * channels + channel]);
        deviations[at] = fmaxf(deviations[at] - total * total / n, 0.0f);
        sums[at] = first + total / n;
    }
}

// out = act(raw * scale + shift + residual); the residual may be null, or has a BatchNorm of its own.
KERNEL(norm_apply, const T* raw, const float* norm_at, const T* residual, const float* residual_norm_at, T* out,
       unsigned n_rows, unsigned channels) {
    size_t i = (size_t(blockIdx.x) * BLOCK + threadIdx.x) * LANES;
    if (i >= size_t(n_rows) * channels) return;
    unsigned channel = unsigned(i % channels);
    Norm norm(norm_at, channels);
    Eight x = load(raw + i), more = {};
    if (residual != nullptr) more = load(residual + i);
    if (residual_norm_at != nullptr) {
        Norm residual_norm(residual_norm_at, channels);
        for (unsigned l = 0; l < LANES; l++) more.at[l] = normed(residual_norm, channel + l, more.at[l]);
    }
    for (unsigned l = 0; l < LANES; l++) x.at[l] = relu_of(normed(norm, channel + l, x.at[l]) + more.at[l]);
    store(out + i, x);
}

// x = act(x + bias + residual), where a convolution could not do it itself; bias and residual may be null.
KERNEL(bias_act, T* x_at, const T* bias, const T* residual, unsigned n_rows, unsigned channels, unsigned relu) {
    size_t i = (size_t(blockIdx.x) * BLOCK + threadIdx.x) * LANES;
    if (i >= size_t(n_rows) * channels) return;
    unsigned channel = unsigned(i % channels);
    Eight x = load(x_at + i), more = {}, constant = {};
    if (residual != nullptr) more = load(residual + i);
    if (bias != nullptr) constant = load(bias + channel);
    for (unsigned l = 0; l < LANES; l++) {
        float y = x.at[l] + more.at[l] + constant.at[l];
        x.at[l] = relu != 0 ? relu_of(y) : y;
    }
    store(x_at + i, x);
}

// Each block: for its rows and every channel, sum g and sum g (raw - mean), where g = grad + more behind the mask.
// `more` and `masked` may be null; g is stored in `masked`. partial (2, channels, blocks).
KERNEL(norm_backward_sums, const T* grad, const T* more, unsigned mask, const T* activation, const T* raw,
       const float* norm_at, T* masked, unsigned n_rows, unsigned channels, unsigned rows_of_block, float* partial) {
    Rows rows(n_rows, channels, rows_of_block);
    Norm norm(norm_at, channels);
    unsigned channel = rows.channel();
    Eight sum = {}, moment = {};
#pragma unroll 2
    for (unsigned row = rows.first + rows.lane; row < rows.end; row += rows.lanes) {
        size_t at = size_t(row) * channels + channel;
        Eight g = load(grad + at), x = load(raw + at), open = {};
        if (more != nullptr) {
            Eight other = load(more + at);
            for (unsigned i = 0; i < LANES; i++) g.at[i] += other.at[i];
        }
        if (mask == MASK_ACTIVATION) open = load(activation + at);
        for (unsigned i = 0; i < LANES; i++) {
            if (mask == MASK_NORMED) open.at[i] = normed(norm, channel + i, x.at[i]);
            if (mask != MASK_NONE && !(open.at[i] > 0.0f)) g.at[i] = 0.0f;
            g.at[i] = rounded(g.at[i], grad);
            sum.at[i] += g.at[i];
            moment.at[i] = fmaf(g.at[i], x.at[i] - norm.mean[channel + i], moment.at[i]);
        }
        if (masked != nullptr) store(masked + at, g);
    }
    store_channel_sums(rows, channels, sum, partial);
    store_channel_sums(rows, channels, moment, partial + size_t(channels) * gridDim.x);
}

// out = a * g + b * raw + c, with the coefficients (3, channels) and g = grad behind the mask.
KERNEL(norm_backward_apply, const T* grad, unsigned mask, const T* raw, const float* norm_at,
       const float* coefficients, T* out, unsigned n_rows, unsigned channels) {
    size_t i = (size_t(blockIdx.x) * BLOCK + threadIdx.x) * LANES;
    if (i >= size_t(n_rows) * channels) return;
    unsigned channel = unsigned(i % channels);
    Norm norm(norm_at, channels);
    const float *a = coefficients + channel, *b = a + channels, *c = b + channels;
    Eight g = load(grad + i), x = load(raw + i);
    for (unsigned l = 0; l < LANES; l++) {
        bool open = mask == MASK_NONE || normed(norm, channel + l, x.at[l]) > 0.0f;
        g.at[l] = fmaf(a[l], open ? g.at[l] : 0.0f, fmaf(b[l], x.at[l], c[l]));
    }
    store(out + i, g);
}
