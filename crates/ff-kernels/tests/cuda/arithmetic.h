// What a plan computes: operations over f32 values in NHWC order, one after the other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

#include "backend.h"

struct Tensor {
    int64_t uid, alignment;
    int type;
    bool is_virtual;
    int64_t n, c, h, w;

    int64_t len() const { return n * c * h * w; }
    int64_t bytes() const { return len() * (type == backend::DATA_FLOAT ? 4 : 2); }
};

// Either `y = f(x, w)` of a convolution, with the roles of its gradients, or pointwise `y = x + b`, `y = max(x, 0)`.
struct Operation {
    backend::Kind kind;
    Tensor x, w, y;
    int64_t stride = 1, padding = 0;
    int mode = 0;

    bool is_pointwise() const { return kind == backend::OPERATION_POINTWISE; }
    bool has_second() const { return !is_pointwise() || mode == backend::ADD; }
    const Tensor& output() const {
        return kind == backend::BACKWARD_DATA ? x : kind == backend::BACKWARD_FILTER ? w : y;
    }
    std::vector<Tensor> inputs() const {
        if (kind == backend::BACKWARD_DATA) return {w, y};
        if (kind == backend::BACKWARD_FILTER) return {x, y};
        if (has_second()) return {x, w};
        return {x};
    }
};

using Values = std::vector<float>;

inline float from_bf16(uint16_t x) {
    uint32_t bits = uint32_t(x) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// Keeps this many bits less, half to even.
inline uint32_t rounded_bits(float x, int dropped) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if (x != x) return bits | 0x400000;
    uint32_t half = (1u << (dropped - 1)) - 1;
    return (bits + half + (bits >> dropped & 1)) >> dropped << dropped;
}

inline Values load(const Tensor& tensor, const void* at) {
    Values values(tensor.len());
    if (tensor.type == backend::DATA_FLOAT) {
        std::memcpy(values.data(), at, tensor.bytes());
    } else {
        auto from = static_cast<const uint16_t*>(at);
        std::transform(from, from + tensor.len(), values.begin(), from_bf16);
    }
    return values;
}

inline void store(const Tensor& tensor, const Values& values, void* at) {
    if (tensor.type == backend::DATA_FLOAT) {
        std::memcpy(at, values.data(), tensor.bytes());
    } else {
        auto to = static_cast<uint16_t*>(at);
        std::transform(values.begin(), values.end(), to, [](float x) { return uint16_t(rounded_bits(x, 16) >> 16); });
    }
}

// As tensor cores take f32: 10 bits of precision.
inline void to_tf32(Values& values) {
    for (float& x : values) {
        uint32_t bits = rounded_bits(x, 13);
        std::memcpy(&x, &bits, 4);
    }
}

// Calls `visit(x, w, y)` with where the channels of x (C), w (C of the first filter) and y (K) begin, for every output
// pixel and every tap that lies inside the map.
template <typename F>
void each_tap(const Operation& of, F visit) {
    const Tensor &x = of.x, &w = of.w, &y = of.y;
    for (int64_t n = 0; n < y.n; n++)
        for (int64_t p = 0; p < y.h; p++)
            for (int64_t q = 0; q < y.w; q++)
                for (int64_t r = 0; r < w.h; r++)
                    for (int64_t s = 0; s < w.w; s++) {
                        int64_t row = p * of.stride + r - of.padding, column = q * of.stride + s - of.padding;
                        if (row < 0 || row >= x.h || column < 0 || column >= x.w) continue;
                        visit(((n * x.h + row) * x.w + column) * x.c, (r * w.w + s) * x.c,
                              ((n * y.h + p) * y.w + q) * y.c);
                    }
}

inline Values convolve(const Operation& of, const Values& x, const Values& w) {
    int64_t channels = of.x.c, filters = of.y.c, filter_len = of.w.len() / filters;
    // (R,S,C,K), so that the innermost loop goes over neighbours.
    Values turned(w.size());
    for (int64_t k = 0; k < filters; k++)
        for (int64_t i = 0; i < filter_len; i++) turned[i * filters + k] = w[k * filter_len + i];
    Values y(of.y.len());
    each_tap(of, [&](int64_t at_x, int64_t at_w, int64_t at_y) {
        for (int64_t c = 0; c < channels; c++)
            for (int64_t k = 0; k < filters; k++)
                y[at_y + k] += x[at_x + c] * turned[(at_w + c) * filters + k];
    });
    return y;
}

inline Values gradient_of_input(const Operation& of, const Values& w, const Values& y) {
    int64_t channels = of.x.c, filters = of.y.c, filter_len = of.w.len() / filters;
    Values x(of.x.len());
    each_tap(of, [&](int64_t at_x, int64_t at_w, int64_t at_y) {
        for (int64_t k = 0; k < filters; k++)
            for (int64_t c = 0; c < channels; c++) x[at_x + c] += y[at_y + k] * w[k * filter_len + at_w + c];
    });
    return x;
}

inline Values gradient_of_filters(const Operation& of, const Values& x, const Values& y) {
    int64_t channels = of.x.c, filters = of.y.c, filter_len = of.w.len() / filters;
    Values w(of.w.len());
    each_tap(of, [&](int64_t at_x, int64_t at_w, int64_t at_y) {
        for (int64_t k = 0; k < filters; k++)
            for (int64_t c = 0; c < channels; c++) w[k * filter_len + at_w + c] += y[at_y + k] * x[at_x + c];
    });
    return w;
}

// `x + b`, b as long as x or a value a channel; without b: `max(x, 0)`.
inline Values pointwise(const Values& x, const Values* b) {
    Values y(x.size());
    for (size_t i = 0; i < y.size(); i++)
        y[i] = b ? x[i] + (*b)[i % b->size()] : std::max(x[i], 0.0f);
    return y;
}

// Runs them on the memory that `at` has for each unique id.
inline void run(const std::vector<Operation>& operations, const std::map<int64_t, void*>& at, bool tf32) {
    std::map<int64_t, Values> between;
    auto read = [&](const Tensor& tensor) {
        Values values = tensor.is_virtual ? between.at(tensor.uid) : load(tensor, at.at(tensor.uid));
        if (tf32 && !tensor.is_virtual) to_tf32(values);
        return values;
    };
    for (const Operation& of : operations) {
        Values result;
        switch (of.kind) {
            case backend::FORWARD: result = convolve(of, read(of.x), read(of.w)); break;
            case backend::BACKWARD_DATA: result = gradient_of_input(of, read(of.w), read(of.y)); break;
            case backend::BACKWARD_FILTER: result = gradient_of_filters(of, read(of.x), read(of.y)); break;
            default: {
                Values second = of.has_second() ? read(of.w) : Values();
                result = pointwise(read(of.x), of.has_second() ? &second : nullptr);
            }
        }
        if (of.output().is_virtual)
            between[of.output().uid] = std::move(result);
        else
            store(of.output(), result, at.at(of.output().uid));
    }
}
