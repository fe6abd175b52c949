// The gradient's norm, and AdamW and SGD over the flat vectors with clipping and the moving average in the same pass.
// Arithmetic as in `ff_kernels::optim`, which follows PyTorch's.

// `Scalars` of src/gpu/update.rs.
constexpr unsigned MOST_LOSSES = 65;
struct Scalars {
    float grad_norm, factor;
    unsigned finite;
    float losses[MOST_LOSSES];
};

// Each block: the sum of squares of its part of the gradient.
KERNEL(norm_partial, const float* gradient, unsigned len, double* partial) {
    double sum = 0;
    for (unsigned i = blockIdx.x * BLOCK + threadIdx.x; i < len; i += gridDim.x * BLOCK)
        sum += double(gradient[i]) * gradient[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// One block: the scalars of the step.
KERNEL(scalars_finish, const double* partial, unsigned n_partial, const float* losses, unsigned n_losses,
       float grad_scale, float max_norm, Scalars* scalars) {
    double sum = 0;
    for (unsigned i = threadIdx.x; i < n_partial; i += BLOCK) sum += partial[i];
    double norm = grad_scale * sqrt(block_sum(sum));
    if (threadIdx.x != 0) return;
    bool finite = isfinite(float(norm));
    for (unsigned i = 0; i < n_losses; i++) {
        scalars->losses[i] = losses[i];
        finite = finite && isfinite(losses[i]);
    }
    scalars->grad_norm = float(norm);
    scalars->factor = grad_scale * float(fmin(max_norm / (norm + 1e-6), 1.0));
    scalars->finite = finite ? 1 : 0;
}

// A run of parameters that learn alike: its range, and constants that depend on the optimiser.
struct Group {
    unsigned start, end;
    float constants[4];
};
struct Groups {
    Group at[128];
};

// Blocks (x, groups). Constants: what weight decay leaves of a parameter, the step size, 1 / sqrt(1 - beta2^step).
KERNEL(update_adamw, float* parameters, float* first, float* second, const float* gradient, float* average, float follow,
       const Scalars* scalars, float keep1, float beta2, float keep2, float eps, Groups groups) {
    if (scalars->finite == 0) return;
    Group group = groups.at[blockIdx.y];
    float factor = scalars->factor;
    for (unsigned i = group.start + blockIdx.x * BLOCK + threadIdx.x; i < group.end; i += gridDim.x * BLOCK) {
        float g = gradient[i] * factor;
        float m = first[i] + (g - first[i]) * keep1;
        float v = second[i] * beta2 + g * g * keep2;
        first[i] = m;
        second[i] = v;
        float p = parameters[i] * group.constants[0] -
                  group.constants[1] * m / (sqrtf(v) * group.constants[2] + eps);
        parameters[i] = p;
        if (average != nullptr) average[i] += (p - average[i]) * follow;
    }
}

// Blocks (x, groups). Constants: learning rate, weight decay.
KERNEL(update_sgd, float* parameters, float* velocity, const float* gradient, float* average, float follow,
       const Scalars* scalars, float momentum, unsigned nesterov, Groups groups) {
    if (scalars->finite == 0) return;
    Group group = groups.at[blockIdx.y];
    float factor = scalars->factor, lr = group.constants[0], weight_decay = group.constants[1];
    for (unsigned i = group.start + blockIdx.x * BLOCK + threadIdx.x; i < group.end; i += gridDim.x * BLOCK) {
        float g = gradient[i] * factor + weight_decay * parameters[i];
        float v = momentum * velocity[i] + g;
        velocity[i] = v;
        float p = parameters[i] - lr * (nesterov != 0 ? g + momentum * v : v);
        parameters[i] = p;
        if (average != nullptr) average[i] += (p - average[i]) * follow;
    }
}
