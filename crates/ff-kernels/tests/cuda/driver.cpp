// libcuda.so.1 for a machine without a GPU: the part of the driver API that ff_kernels::gpu::device and cudarc call, so that
// tests run the very code that drives a GPU. Kernels are our own sources by tests/gpu/emulation.h, whatever module is
// loaded.
//
// Strict where a driver may be lenient: addresses must lie in live allocations, a capture refuses what could disturb it,
// every thread needs its context. Non-blocking streams only; devices, where there are several, share their memory.

#include "kernels.cu"

#include <cstdio>
#include <cuda.h>
#include <mutex>
#include <sys/uio.h>
#include <unistd.h>

#include "fake.h"
#include "streams.h"

struct CUfunc_st {
    std::string name;
    std::vector<Parameter> parameters;
};

namespace {

std::recursive_mutex all;
std::map<std::string, long>& settings() {
    static std::map<std::string, long> given;
    return given;
}
fake::Streams streams;
bool initialised;
// Of the devices' primary contexts, the only ones.
constexpr int MOST_DEVICES = 8;
unsigned context_users[MOST_DEVICES];
char primaries[MOST_DEVICES];
thread_local CUcontext current;
long graphs_launched;
// What callers did wrong.
long complaints;
// Events and graphs.
long objects;

#define LOCK std::lock_guard<std::recursive_mutex> lock(all)
#define ENTER                                            \
    LOCK;                                                \
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED; \
    if (streams.lost) return streams.lost
#define ENTER_CONTEXT \
    ENTER;            \
    if (!current || context_users[fake::device()] == 0) return CUDA_ERROR_INVALID_CONTEXT
#define CHECK(call) \
    if (CUresult failed = (call)) return failed
#define STREAM(handle)                         \
    StreamPtr stream = streams.find(handle);   \
    if (!stream) return CUDA_ERROR_INVALID_HANDLE

// Whether the call that a test counted down to has come: it fails, and nothing happens.
bool due(const char* name) {
    long& left = settings()[name];
    return left > 0 && --left == 0;
}

CUresult invalid(const std::string& what) {
    fake::report(what);
    return CUDA_ERROR_INVALID_VALUE;
}

std::string text(uint64_t address) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "0x%llx", static_cast<unsigned long long>(address));
    return digits;
}

// Work on device memory.
CUresult enqueue_on(const StreamPtr& stream, const std::string& what, const std::vector<fake::Range>& ranges,
                    std::function<void()> run, std::vector<fake::BlockPtr> also = {},
                    std::function<bool()> is_done = {}) {
    auto op = std::make_shared<Op>();
    op->what = what;
    op->touches = std::move(also);
    op->run = std::move(run);
    op->is_done = std::move(is_done);
    for (fake::Range range : ranges) {
        fake::BlockPtr block = streams.memory.holding(range.at, range.len);
        if (!block || block->kind != fake::Kind::Device)
            return streams.lose(what + ": " + std::to_string(range.len) + " bytes at " + text(range.at) +
                                " are in no live allocation of the device");
        op->touches.push_back(block);
    }
    return streams.enqueue(stream, op);
}

void* host(uint64_t address) { return reinterpret_cast<void*>(address); }

// A copy that the host does not wait for: page-locked memory is read and written when the copy runs; other memory is
// read at once, and written before this returns.
CUresult copy_from_host(const StreamPtr& stream, CUdeviceptr to, const void* from, size_t len) {
    fake::BlockPtr pinned = streams.memory.holding(reinterpret_cast<uint64_t>(from), len);
    if (pinned)
        return enqueue_on(stream, "copy to the device", {{to, len}}, [=] { std::memcpy(host(to), from, len); },
                          {pinned});
    if (stream->capture) return streams.invalidate(stream, "a copy from pageable memory");
    auto begin = static_cast<const char*>(from);
    auto staged = std::make_shared<std::vector<char>>(begin, begin + len);
    return enqueue_on(stream, "copy to the device", {{to, len}},
                      [=] { std::memcpy(host(to), staged->data(), len); });
}

CUresult copy_to_host(const StreamPtr& stream, void* to, CUdeviceptr from, size_t len) {
    fake::BlockPtr pinned = streams.memory.holding(reinterpret_cast<uint64_t>(to), len);
    auto copy = [=] { std::memcpy(to, host(from), len); };
    if (pinned) return enqueue_on(stream, "copy to the host", {{from, len}}, copy, {pinned});
    if (stream->capture) return streams.invalidate(stream, "a copy to pageable memory");
    CHECK(enqueue_on(stream, "copy to the host", {{from, len}}, copy));
    streams.drain(stream);
    return streams.lost;
}

CUresult synchronise(const StreamPtr& stream) {
    if (stream->capture) return streams.invalidate(stream, "waiting for it");
    CHECK(streams.refuse_in_capture("waiting for a stream"));
    streams.drain(stream);
    return streams.lost;
}

// Whether the bytes can be read at all.
bool readable(const void* at, size_t len) {
    std::vector<char> to(len);
    iovec local{to.data(), len}, remote{const_cast<void*>(at), len};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == ssize_t(len);
}

struct Named {
    CUresult error;
    const char *name, *says;
};
const Named NAMES[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE",
     "the operation cannot be performed in the present state"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
     "capture was not ended in the same stream as it began"},
    {CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {CUDA_ERROR_CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
};

}  // namespace

namespace fake {

void report(const std::string& what) {
    LOCK;
    complaints++;
    std::fprintf(stderr, "fake CUDA: %s\n", what.c_str());
}

long setting(const std::string& name, long otherwise) {
    LOCK;
    auto given = settings().find(name);
    if (given != settings().end()) return given->second;
    std::string variable = "FAKE_CUDA_";
    for (char letter : name) variable += char(std::toupper(letter));
    const char* value = std::getenv(variable.c_str());
    return value ? std::strtol(value, nullptr, 0) : otherwise;
}

int enqueue(void* handle, const std::string& what, const std::vector<Range>& touches, std::function<void()> run) {
    ENTER_CONTEXT;
    STREAM(static_cast<CUstream>(handle));
    return enqueue_on(stream, what, touches, std::move(run));
}

int enqueue_elsewhere(void* handle, const std::string& what, const std::vector<Range>& touches,
                      std::function<bool()> is_done) {
    ENTER_CONTEXT;
    STREAM(static_cast<CUstream>(handle));
    return enqueue_on(stream, what, touches, {}, {}, std::move(is_done));
}

bool is_captured(void* handle) {
    LOCK;
    StreamPtr stream = streams.find(static_cast<CUstream>(handle));
    return stream && stream->capture;
}

int device() { return current ? int(reinterpret_cast<char*>(current) - primaries) : -1; }

void count_object(int change) {
    LOCK;
    objects += change;
}

}  // namespace fake

extern "C" {

// For tests: `fail_copy`, `fail_record` and `fail_wait`, which copy to the device, record of an event or wait for a
// stream from now on fails; `memory` in bytes, `devices`, `driver` as cuDriverGetVersion says it, `eager` for streams to come.
void fake_set(const char* name, long value) {
    LOCK;
    settings()[name] = value;
}

// The context is not lost any more, and nobody did anything wrong.
void fake_forgive() {
    LOCK;
    streams.lost = CUDA_SUCCESS;
    complaints = 0;
}

long fake_complaints() {
    LOCK;
    return complaints;
}

// What is allocated, created or retained and has not been given back.
long fake_live() {
    LOCK;
    long contexts = 0;
    for (unsigned users : context_users) contexts += users;
    return long(streams.memory.live.size() + streams.made.size()) + objects + contexts;
}

long fake_queued() {
    LOCK;
    size_t queued = streams.legacy->queue.size();
    for (const StreamPtr& stream : streams.made) queued += stream->queue.size();
    return long(queued);
}

long fake_graphs_launched() {
    LOCK;
    return graphs_launched;
}

CUresult cuGetErrorName(CUresult error, const char** to) {
    for (const Named& named : NAMES)
        if (named.error == error) return *to = named.name, CUDA_SUCCESS;
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char** to) {
    for (const Named& named : NAMES)
        if (named.error == error) return *to = named.says, CUDA_SUCCESS;
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDriverGetVersion(int* version) {
    *version = int(fake::setting("driver", 13000));
    return CUDA_SUCCESS;
}

// ---- the device and its context

CUresult cuInit(unsigned flags) {
    LOCK;
    if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
    if (fake::setting("devices", 1) == 0) return CUDA_ERROR_NO_DEVICE;
    initialised = true;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
    ENTER;
    *count = int(fake::setting("devices", 1));
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    ENTER;
    if (ordinal < 0 || ordinal >= fake::setting("devices", 1)) return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char* name, int len, CUdevice) {
    ENTER;
    std::snprintf(name, size_t(len), "Emulated GPU");
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) {
    ENTER;
    *bytes = fake::Memory::total();
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice) {
    ENTER;
    switch (which) {
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = int(fake::setting("capability", 90)) / 10; break;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = int(fake::setting("capability", 90)) % 10; break;
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 1; break;
        case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: *value = 1000000; break;
        case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: *value = 1; break;
        default: return invalid("device attribute " + std::to_string(which) + " is not emulated");
    }
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* to, CUdevice device) {
    ENTER;
    if (device < 0 || device >= MOST_DEVICES) return CUDA_ERROR_INVALID_DEVICE;
    context_users[device]++;
    *to = reinterpret_cast<CUcontext>(&primaries[device]);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    ENTER;
    if (device < 0 || device >= MOST_DEVICES) return CUDA_ERROR_INVALID_DEVICE;
    if (context_users[device] == 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (--context_users[device] == 0) streams.drain_all(device);
    return streams.lost;
}

CUresult cuCtxSetCurrent(CUcontext to) {
    ENTER;
    current = to;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* to) {
    ENTER;
    *to = current;
    return CUDA_SUCCESS;
}

// Of contexts that are not primary, which nobody makes.
CUresult cuCtxDestroy(CUcontext) { return CUDA_ERROR_NOT_SUPPORTED; }

CUresult cuCtxSynchronize() {
    ENTER_CONTEXT;
    CHECK(streams.refuse_in_capture("waiting for the device"));
    streams.drain_all(fake::device());
    return streams.lost;
}

// ---- memory

CUresult cuMemGetInfo(size_t* free, size_t* total) {
    ENTER_CONTEXT;
    *total = fake::Memory::total();
    *free = *total - std::min(*total, streams.memory.device_bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr* to, size_t len) {
    ENTER_CONTEXT;
    CHECK(streams.refuse_in_capture("allocating"));
    if (len == 0) return invalid("an allocation of nothing");
    fake::BlockPtr block = streams.memory.allocate(fake::Kind::Device, len);
    if (!block) return CUDA_ERROR_OUT_OF_MEMORY;
    *to = block->address();
    return CUDA_SUCCESS;
}

CUresult cuMemFree(CUdeviceptr address) {
    ENTER_CONTEXT;
    CHECK(streams.refuse_in_capture("freeing"));
    streams.check_guards();
    if (!streams.memory.free(fake::Kind::Device, address))
        return invalid(text(address) + " was not allocated on the device, or is freed already");
    return streams.lost;
}

CUresult cuMemAllocAsync(CUdeviceptr* to, size_t len, CUstream handle) {
    {
        ENTER_CONTEXT;
        STREAM(handle);
    }
    return cuMemAlloc(to, len);
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream handle) {
    ENTER_CONTEXT;
    STREAM(handle);
    CHECK(streams.refuse_in_capture("freeing"));
    return enqueue_on(stream, "freeing", {{address, 1}},
                      [=] { streams.memory.free(fake::Kind::Device, address); });
}

CUresult cuMemHostAlloc(void** to, size_t len, unsigned) {
    ENTER_CONTEXT;
    CHECK(streams.refuse_in_capture("page-locking memory"));
    if (len == 0) return invalid("an allocation of nothing");
    *to = streams.memory.allocate(fake::Kind::Host, len)->begin();
    return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void* at) {
    ENTER_CONTEXT;
    CHECK(streams.refuse_in_capture("freeing page-locked memory"));
    streams.check_guards();
    if (!streams.memory.free(fake::Kind::Host, reinterpret_cast<uint64_t>(at)))
        return invalid(text(reinterpret_cast<uint64_t>(at)) + " is no page-locked memory, or is freed already");
    return streams.lost;
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t len, CUstream handle) {
    ENTER_CONTEXT;
    STREAM(handle);
    if (due("fail_copy")) return CUDA_ERROR_LAUNCH_FAILED;
    return copy_from_host(stream, to, from, len);
}

CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t len, CUstream handle) {
    ENTER_CONTEXT;
    STREAM(handle);
    return copy_to_host(stream, to, from, len);
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t len, CUstream handle) {
    ENTER_CONTEXT;
    STREAM(handle);
    return enqueue_on(stream, "copy on the device", {{to, len}, {from, len}},
                      [=] { std::memmove(host(to), host(from), len); });
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char byte, size_t len, CUstream handle) {
    ENTER_CONTEXT;
    STREAM(handle);
    return enqueue_on(stream, "memset", {{to, len}}, [=] { std::memset(host(to), byte, len); });
}

// The synchronous ones are on the legacy stream, which the streams that we know do not wait for.

CUresult cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t len) {
    ENTER_CONTEXT;
    CHECK(streams.refuse_in_capture("a synchronous copy"));
    CHECK(copy_from_host(streams.legacy, to, from, len));
    return synchronise(streams.legacy);
}

CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, size_t len) {
    ENTER_CONTEXT;
    CHECK(streams.refuse_in_capture("a synchronous copy"));
    CHECK(copy_to_host(streams.legacy, to, from, len));
    return synchronise(streams.legacy);
}

CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t len) {
    ENTER_CONTEXT;
    CHECK(streams.refuse_in_capture("a synchronous copy"));
    return cuMemcpyDtoDAsync(to, from, len, nullptr);
}

CUresult cuMemsetD8(CUdeviceptr to, unsigned char byte, size_t len) {
    ENTER_CONTEXT;
    CHECK(streams.refuse_in_capture("a synchronous memset"));
    return cuMemsetD8Async(to, byte, len, nullptr);
}

// ---- streams and events

CUresult cuStreamCreate(CUstream* to, unsigned flags) {
    ENTER_CONTEXT;
    if (flags != CU_STREAM_NON_BLOCKING) return invalid("only non-blocking streams are emulated");
    auto stream = std::make_shared<CUstream_st>();
    stream->eager = fake::setting("eager", 0) != 0;
    stream->device = fake::device();
    streams.made.insert(stream);
    *to = stream.get();
    return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream handle) {
    ENTER_CONTEXT;
    STREAM(handle);
    if (stream == streams.legacy) return CUDA_ERROR_INVALID_HANDLE;
    streams.drain(stream);
    streams.made.erase(stream);
    return streams.lost;
}

CUresult cuStreamSynchronize(CUstream handle) {
    ENTER_CONTEXT;
    STREAM(handle);
    if (due("fail_wait")) return CUDA_ERROR_LAUNCH_FAILED;
    return synchronise(stream);
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned) {
    ENTER_CONTEXT;
    STREAM(handle);
    if (stream->capture)
        return event->captured ? streams.invalidate(stream, "a fork or join, which is not emulated,")
                               : streams.invalidate(stream, "a wait for an event from outside",
                                                    CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    if (event->captured) return CUDA_ERROR_CAPTURED_EVENT;
    if (!event->last) return CUDA_SUCCESS;
    auto op = std::make_shared<Op>();
    op->what = "wait for an event";
    op->waits = event->last;
    return streams.enqueue(stream, op);
}

CUresult cuEventCreate(CUevent* to, unsigned flags) {
    ENTER_CONTEXT;
    objects++;
    *to = new CUevent_st{(flags & CU_EVENT_DISABLE_TIMING) == 0, nullptr};
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event) {
    ENTER_CONTEXT;
    objects--;
    delete event;
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream handle) {
    ENTER_CONTEXT;
    STREAM(handle);
    if (due("fail_record")) return CUDA_ERROR_LAUNCH_FAILED;
    event->captured = stream->capture != nullptr;
    if (event->captured) return stream->capture->broken ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
    auto op = std::make_shared<Op>();
    op->what = "record an event";
    event->last = op->marks = std::make_shared<Moment>();
    op->marks->stream = stream;
    return streams.enqueue(stream, op);
}

// Work that is not over when it is first asked about is the next time, unless it goes on elsewhere.
CUresult cuEventQuery(CUevent event) {
    ENTER;
    if (event->captured) return CUDA_ERROR_CAPTURED_EVENT;
    CHECK(streams.refuse_in_capture("asking about an event"));
    if (!event->last || event->last->reached) return CUDA_SUCCESS;
    streams.reach_at_once(event->last);
    return streams.lost ? streams.lost : CUDA_ERROR_NOT_READY;
}

CUresult cuEventSynchronize(CUevent event) {
    ENTER_CONTEXT;
    if (event->captured) return CUDA_ERROR_CAPTURED_EVENT;
    CHECK(streams.refuse_in_capture("waiting for an event"));
    if (event->last) streams.reach(event->last);
    return streams.lost;
}

// Named after the version, as the header's plain name depends on its release.
CUresult cuEventElapsedTime_v2(float* to, CUevent start, CUevent end) {
    ENTER_CONTEXT;
    if (start->captured || end->captured) return CUDA_ERROR_CAPTURED_EVENT;
    if (!start->timed || !end->timed || !start->last || !end->last) return CUDA_ERROR_INVALID_HANDLE;
    if (!start->last->reached || !end->last->reached) return CUDA_ERROR_NOT_READY;
    *to = std::chrono::duration<float, std::milli>(end->last->at - start->last->at).count();
    return CUDA_SUCCESS;
}

// ---- kernels

CUresult cuModuleLoadData(CUmodule* to, const void* image) {
    ENTER_CONTEXT;
    CHECK(streams.refuse_in_capture("loading a module"));
    if (!image) return CUDA_ERROR_INVALID_VALUE;
    *to = reinterpret_cast<CUmodule>(&primaries[0]);
    return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule) {
    ENTER_CONTEXT;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* to, CUmodule, const char* name) {
    ENTER_CONTEXT;
    static std::map<std::string, CUfunc_st> functions;
    auto found = parameters_of().find(name);
    if (found == parameters_of().end()) return CUDA_ERROR_NOT_FOUND;
    *to = &functions.try_emplace(name, CUfunc_st{name, found->second}).first->second;
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y,
                        unsigned threads_z, unsigned shared, CUstream handle, void** arguments, void** extra) {
    ENTER_CONTEXT;
    STREAM(handle);
    const auto& [name, parameters] = *function;
    if (threads != fibres::THREADS || threads_y != 1 || threads_z != 1 || shared != 0 || extra)
        return invalid(name + ": expected blocks of 256 threads and no shared memory of the launch's own");
    if (x == 0 || x > 0x7fffffff || y == 0 || y > 65535 || z == 0 || z > 65535)
        return invalid(name + ": no such grid");
    // A list that is too short ends in something that is no argument, more often than not.
    if (!readable(arguments, parameters.size() * sizeof(void*))) return invalid(name + ": no argument list");
    auto values = std::make_shared<std::vector<std::vector<uint64_t>>>();
    std::vector<fake::Range> touches;
    for (size_t i = 0; i < parameters.size(); i++) {
        auto [size, pointer] = parameters[i];
        if (!readable(arguments[i], size)) return invalid(name + ": no argument " + std::to_string(i));
        values->emplace_back((size + 7) / 8);
        std::memcpy(values->back().data(), arguments[i], size);
        if (pointer && values->back()[0] != 0) touches.push_back({values->back()[0], 1});
    }
    auto run = [=] {
        std::vector<void*> pointers;
        for (auto& value : *values) pointers.push_back(value.data());
        launch(name.c_str(), x, y, z, pointers.data(), pointers.size());
    };
    return enqueue_on(stream, "kernel " + name, touches, run);
}

// ---- graphs

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
    ENTER_CONTEXT;
    STREAM(handle);
    if (stream == streams.legacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    stream->capture = std::make_unique<Capture>();
    stream->capture->mode = mode;
    stream->capture->owner = std::this_thread::get_id();
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph* to) {
    ENTER_CONTEXT;
    STREAM(handle);
    *to = nullptr;
    if (!stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    bool own = stream->capture->owner == std::this_thread::get_id();
    if (!own && stream->capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    std::unique_ptr<Capture> capture = std::move(stream->capture);
    if (capture->broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    objects++;
    *to = new CUgraph_st(capture->graph);
    return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* to) {
    ENTER_CONTEXT;
    STREAM(handle);
    *to = !stream->capture          ? CU_STREAM_CAPTURE_STATUS_NONE
          : stream->capture->broken ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                    : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* to, CUgraph graph, unsigned long long) {
    ENTER_CONTEXT;
    objects++;
    *to = new CUgraphExec_st{std::make_shared<const CUgraph_st>(*graph)};
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream handle) {
    ENTER_CONTEXT;
    STREAM(handle);
    if (stream->capture) return streams.invalidate(stream, "launching a graph");
    auto op = std::make_shared<Op>();
    graphs_launched++;
    op->what = "graph";
    op->run = [graph = exec->graph] {
        for (const OpPtr& node : graph->ops) streams.run(*node);
    };
    return streams.enqueue(stream, op);
}

CUresult cuGraphUpload(CUgraphExec, CUstream) {
    ENTER_CONTEXT;
    return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
    ENTER_CONTEXT;
    objects--;
    delete exec;
    return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
    ENTER_CONTEXT;
    objects--;
    delete graph;
    return CUDA_SUCCESS;
}

}  // extern "C"
