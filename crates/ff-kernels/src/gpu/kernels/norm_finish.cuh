// From the partial sums of `norm.cuh` to a layer's statistics and coefficients. One block a channel; sums in f64.

// The `blocks` values of a channel's first or second sum.
static __device__ __forceinline__ const float* partial_of(const float* partial, unsigned which, unsigned channels,
                                                          unsigned blocks) {
    return partial + (size_t(which) * channels + blockIdx.x) * blocks;
}

// Means and squared deviations of the blocks -> mean, 1/std, scale and shift (4, channels), and the running statistics
// moved towards them. Chan, Golub and LeVeque, 1983.
KERNEL(norm_finish, const float* partial, unsigned blocks, unsigned n_rows, unsigned channels, unsigned rows_of_block,
       const float* gamma, const float* beta, float momentum, float eps, float* running_mean, float* running_var,
       float* norm) {
    const float* means = partial_of(partial, 0, channels, blocks);
    const float* deviations = partial_of(partial, 1, channels, blocks);
    double sum = 0;
    for (unsigned i = threadIdx.x; i < blocks; i += BLOCK) {
        unsigned rows = min(rows_of_block, n_rows - i * rows_of_block);
        sum += double(rows) * means[i];
    }
    double mean = block_sum(sum) / n_rows;
    double squares = 0;
    for (unsigned i = threadIdx.x; i < blocks; i += BLOCK) {
        unsigned rows = min(rows_of_block, n_rows - i * rows_of_block);
        double d = means[i] - mean;
        squares += deviations[i] + rows * d * d;
    }
    squares = block_sum(squares);
    if (threadIdx.x != 0) return;
    unsigned channel = blockIdx.x;
    double variance = squares / n_rows;
    double unbiased = n_rows > 1 ? squares / (n_rows - 1) : variance;
    double inv_std = 1.0 / sqrt(variance + eps);
    double scale = gamma[channel] * inv_std;
    norm[channel] = float(mean);
    norm[channels + channel] = float(inv_std);
    norm[2 * channels + channel] = float(scale);
    norm[3 * channels + channel] = float(beta[channel] - mean * scale);
    running_mean[channel] += momentum * float(mean - running_mean[channel]);
    running_var[channel] += momentum * float(unbiased - running_var[channel]);
}

// Sums g and g (raw - mean) of the blocks -> the gradients of gamma and beta, and the coefficients (3, channels) of
// the input's gradient a * g + b * raw + c.
KERNEL(norm_backward_finish, const float* partial, unsigned blocks, unsigned n_rows, unsigned channels,
       const float* gamma, const float* norm, float* grad_gamma, float* grad_beta, float* coefficients) {
    const float* sums = partial_of(partial, 0, channels, blocks);
    const float* moments = partial_of(partial, 1, channels, blocks);
    double sum = 0, moment = 0;
    for (unsigned i = threadIdx.x; i < blocks; i += BLOCK) {
        sum += sums[i];
        moment += moments[i];
    }
    sum = block_sum(sum);
    moment = block_sum(moment);
    if (threadIdx.x != 0) return;
    unsigned channel = blockIdx.x;
    double mean = norm[channel], inv_std = norm[channels + channel];
    double on_grad = gamma[channel] * inv_std;
    double on_raw = -on_grad * inv_std * inv_std * moment / n_rows;
    grad_gamma[channel] = float(moment * inv_std);
    grad_beta[channel] = float(sum);
    coefficients[channel] = float(on_grad);
    coefficients[channels + channel] = float(on_raw);
    coefficients[2 * channels + channel] = float(-on_grad * sum / n_rows - on_raw * mean);
}
