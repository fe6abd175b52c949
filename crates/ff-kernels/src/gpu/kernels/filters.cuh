// Filters between the flat f32 vectors (torchvision's order, OIHW) and what convolutions read (KRSC, padded channels).

#ifndef FILTERS_ONCE
#define FILTERS_ONCE
// `Filter` of src/gpu/layers.rs: one convolution's place in the flat vectors and in the arena, in elements.
struct Filter {
    unsigned flat, packed, outputs, inputs, padded, taps, norm, running, bias;
};

// A channel of a filter is contiguous in OIHW; threads side by side take channels side by side, so that both ends are
// read and written in order.
struct FilterChannel {
    unsigned k, c;
    size_t packed;
    __device__ __forceinline__ FilterChannel(const Filter& filter, unsigned i)
        : k(i / filter.padded), c(i % filter.padded),
          packed(filter.packed + size_t(k) * filter.taps * filter.padded + c) {}
};
#endif

// Blocks (x, convolutions): parameters -> packed filters.
KERNEL(pack_filters, const float* parameters, const Filter* filters, T* packed) {
    Filter filter = filters[blockIdx.y];
    for (unsigned i = blockIdx.x * BLOCK + threadIdx.x; i < filter.outputs * filter.padded; i += gridDim.x * BLOCK) {
        FilterChannel at(filter, i);
        const float* from = parameters + filter.flat + (size_t(at.k) * filter.inputs + at.c) * filter.taps;
        for (unsigned tap = 0; tap < filter.taps; tap++)
            from_float(at.c < filter.inputs ? from[tap] : 0.0f, packed + at.packed + size_t(tap) * filter.padded);
    }
}

// Blocks (x, convolutions): parameters and running statistics -> filters and biases that include the BatchNorm.
KERNEL(fold_filters, const float* parameters, const float* statistics, const Filter* filters, float eps, T* packed,
       T* biases) {
    Filter filter = filters[blockIdx.y];
    const float *gamma = parameters + filter.norm, *beta = gamma + filter.outputs;
    const float *mean = statistics + filter.running, *variance = mean + filter.outputs;
    for (unsigned i = blockIdx.x * BLOCK + threadIdx.x; i < filter.outputs * filter.padded; i += gridDim.x * BLOCK) {
        FilterChannel at(filter, i);
        float scale = gamma[at.k] / sqrtf(variance[at.k] + eps);
        if (at.c == 0) from_float(beta[at.k] - mean[at.k] * scale, biases + filter.bias + at.k);
        const float* from = parameters + filter.flat + (size_t(at.k) * filter.inputs + at.c) * filter.taps;
        for (unsigned tap = 0; tap < filter.taps; tap++)
            from_float(at.c < filter.inputs ? scale * from[tap] : 0.0f,
                       packed + at.packed + size_t(tap) * filter.padded);
    }
}

// Blocks (x, convolutions): gradients of packed filters -> the flat gradient.
KERNEL(unpack_gradients, const T* packed, const Filter* filters, float* gradient) {
    Filter filter = filters[blockIdx.y];
    for (unsigned i = blockIdx.x * BLOCK + threadIdx.x; i < filter.outputs * filter.padded; i += gridDim.x * BLOCK) {
        FilterChannel at(filter, i);
        if (at.c >= filter.inputs) continue;
        float* to = gradient + filter.flat + (size_t(at.k) * filter.inputs + at.c) * filter.taps;
        for (unsigned tap = 0; tap < filter.taps; tap++)
            to[tap] = to_float(packed[at.packed + size_t(tap) * filter.padded]);
    }
}
