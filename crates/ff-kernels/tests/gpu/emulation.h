// CUDA's execution model on a processor, as far as our kernels use it, so that tests run the very sources that a GPU
// runs. A block's threads are fibres that take turns at barriers; blocks follow each other. Slow, deterministic, and
// strict: memory that a kernel reads or writes out of bounds is the host's.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __device__
#define __forceinline__ inline
#define __shared__ static

struct Index {
    unsigned x = 0, y = 0, z = 0;
};
static Index threadIdx, blockIdx, gridDim;

using std::max;
using std::min;

static inline float __uint_as_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}
// The host compiler must not contract these: it is called with -ffp-contract=off.
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
using std::fabs;
using std::isfinite;

struct bf16 {
    uint16_t bits;
};
static inline float __bfloat162float(bf16 x) { return __uint_as_float(unsigned(x.bits) << 16); }
static inline bf16 __float2bfloat16_rn(float x) {
    unsigned bits = __float_as_uint(x);
    if (x != x) return bf16{uint16_t(bits >> 16 | 0x40)};
    return bf16{uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

// Fibres: one a thread of the block, each with a stack of its own, and the scheduler that they return to.
namespace fibres {
constexpr size_t STACK = 64 << 10;
constexpr unsigned THREADS = 256;
static ucontext_t scheduler, fibre[THREADS];
static bool done[THREADS];
static unsigned running;
static void (*body)(void**);
static void** arguments;

static void enter() {
    body(arguments);
    done[running] = true;
}

static void barrier() {
    unsigned self = running;
    swapcontext(&fibre[self], &scheduler);
}

static void run_block() {
    static char* stacks = static_cast<char*>(std::malloc(STACK * THREADS));
    for (unsigned t = 0; t < THREADS; t++) {
        getcontext(&fibre[t]);
        fibre[t].uc_stack.ss_sp = stacks + t * STACK;
        fibre[t].uc_stack.ss_size = STACK;
        fibre[t].uc_link = &scheduler;
        makecontext(&fibre[t], enter, 0);
        done[t] = false;
    }
    // Every turn takes each thread to its next barrier or to its end.
    for (bool any = true; any;) {
        any = false;
        for (unsigned t = 0; t < THREADS; t++) {
            if (done[t]) continue;
            any = true;
            running = t;
            threadIdx.x = t;
            swapcontext(&scheduler, &fibre[t]);
        }
    }
}
}  // namespace fibres

#define __syncthreads() fibres::barrier()

// The kernels by name, each taking its parameters as the driver does: an array of pointers to the values.
static std::map<std::string, void (*)(void**)>& kernels() {
    static std::map<std::string, void (*)(void**)> all;
    return all;
}

template <auto KERNEL_FUNCTION>
struct Call;
template <typename... P, void (*F)(P...)>
struct Call<F> {
    static void from(void** arguments) { spread(arguments, std::index_sequence_for<P...>()); }
    template <size_t... I>
    static void spread(void** arguments, std::index_sequence<I...>) {
        F(*static_cast<std::remove_const_t<P>*>(arguments[I])...);
    }
    static constexpr size_t COUNT = sizeof...(P);
};

static std::map<std::string, size_t>& parameter_counts() {
    static std::map<std::string, size_t> all;
    return all;
}

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
#define KERNEL(name, ...)                                                                \
    static void NAME(name)(__VA_ARGS__);                                                 \
    static const bool NAME(registered_##name) = [] {                                     \
        kernels()[TEXT(NAME(name))] = Call<&NAME(name)>::from;                           \
        parameter_counts()[TEXT(NAME(name))] = Call<&NAME(name)>::COUNT;                 \
        return true;                                                                     \
    }();                                                                                 \
    static void NAME(name)(__VA_ARGS__)

// 0, or 1 for an unknown kernel, or 2 for a wrong number of arguments.
extern "C" int launch(const char* name, unsigned grid_x, unsigned grid_y, unsigned grid_z, void** arguments,
                      size_t count) {
    auto found = kernels().find(name);
    if (found == kernels().end()) return 1;
    if (parameter_counts()[name] != count) return 2;
    fibres::body = found->second;
    fibres::arguments = arguments;
    gridDim = Index{grid_x, grid_y, grid_z};
    for (unsigned z = 0; z < grid_z; z++)
        for (unsigned y = 0; y < grid_y; y++)
            for (unsigned x = 0; x < grid_x; x++) {
                blockIdx = Index{x, y, z};
                fibres::run_block();
            }
    return 0;
}
