// CUDA's execution model on a processor, as far as our kernels use it, so that tests run the very sources that a GPU
// runs. A block's threads are fibres that take turns at barriers; blocks follow each other. Slow, deterministic, and
// strict: memory that a kernel reads or writes out of bounds is the host's.
#pragma once

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <type_traits>
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

// Fibres: one a thread of a block, each with a stack of its own. They live as long as the process and run one block
// after the other; jumps instead of context switches, because those ask the system about signals every time.
namespace fibres {
constexpr size_t STACK = 64 << 10;
constexpr unsigned THREADS = 256;
static jmp_buf scheduler, fibre[THREADS];
static bool done[THREADS];
static unsigned running;
static void (*body)(void**);
static void** arguments;

static void yield() {
    if (_setjmp(fibre[running]) == 0) _longjmp(scheduler, 1);
}

static void live() {
    for (;;) {
        body(arguments);
        done[running] = true;
        yield();
    }
}

static void begin(unsigned thread) {
    static ucontext_t here, there;
    getcontext(&there);
    there.uc_stack.ss_sp = std::malloc(STACK);
    there.uc_stack.ss_size = STACK;
    there.uc_link = nullptr;
    running = thread;
    makecontext(&there, live, 0);
    swapcontext(&here, &there);  // never comes back: it jumps
}

// Every turn takes each thread to its next barrier or to its end. Every other block goes through its threads from the
// last: a kernel that misses a barrier should not be saved by their order.
static void run_block(bool backwards) {
    static bool alive[THREADS];
    std::fill(done, done + THREADS, false);
    static unsigned i;
    for (static bool any; any = false, true;) {
        for (i = 0; i < THREADS; i++) {
            unsigned thread = backwards ? THREADS - 1 - i : i;
            if (done[thread]) continue;
            any = true;
            running = thread;
            threadIdx.x = thread;
            if (_setjmp(scheduler) == 0) {
                if (alive[thread]) _longjmp(fibre[thread], 1);
                alive[thread] = true;
                begin(thread);
            }
        }
        if (!any) return;
    }
}
}  // namespace fibres

#define __syncthreads() fibres::yield()

// The kernels by name, each taking its parameters as the driver does: an array of pointers to the values.
static std::map<std::string, void (*)(void**)>& kernels() {
    static std::map<std::string, void (*)(void**)> all;
    return all;
}

struct Parameter {
    size_t size;
    bool pointer;
};

template <auto KERNEL_FUNCTION>
struct Call;
template <typename... P, void (*F)(P...)>
struct Call<F> {
    static void from(void** arguments) { spread(arguments, std::index_sequence_for<P...>()); }
    template <size_t... I>
    static void spread(void** arguments, std::index_sequence<I...>) {
        F(*static_cast<std::remove_const_t<P>*>(arguments[I])...);
    }
    static std::vector<Parameter> parameters() { return {Parameter{sizeof(P), std::is_pointer_v<P>}...}; }
};

static std::map<std::string, std::vector<Parameter>>& parameters_of() {
    static std::map<std::string, std::vector<Parameter>> all;
    return all;
}

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
#define KERNEL(name, ...)                                                                \
    static void NAME(name)(__VA_ARGS__);                                                 \
    static const bool NAME(registered_##name) = [] {                                     \
        kernels()[TEXT(NAME(name))] = Call<&NAME(name)>::from;                           \
        parameters_of()[TEXT(NAME(name))] = Call<&NAME(name)>::parameters();             \
        return true;                                                                     \
    }();                                                                                 \
    static void NAME(name)(__VA_ARGS__)

// 0, or 1 for an unknown kernel, or 2 for a wrong number of arguments.
extern "C" int launch(const char* name, unsigned grid_x, unsigned grid_y, unsigned grid_z, void** arguments,
                      size_t count) {
    auto found = kernels().find(name);
    if (found == kernels().end()) return 1;
    if (parameters_of()[name].size() != count) return 2;
    fibres::body = found->second;
    fibres::arguments = arguments;
    gridDim = Index{grid_x, grid_y, grid_z};
    for (unsigned z = 0; z < grid_z; z++)
        for (unsigned y = 0; y < grid_y; y++)
            for (unsigned x = 0; x < grid_x; x++) {
                blockIdx = Index{x, y, z};
                fibres::run_block((x + y) % 2 == 1);
            }
    return 0;
}
