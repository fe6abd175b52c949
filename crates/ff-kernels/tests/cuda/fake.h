// What the stand-ins for cuDNN and NCCL ask of the stand-in for the driver.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace fake {

// Device memory that work touches: an address and bytes.
struct Range {
    uint64_t at;
    size_t len;
};

// Says on stderr what the caller did wrong.
void report(const std::string& what);

// A setting: what `fake_set` gave it, else the environment's FAKE_CUDA_<NAME>, else `otherwise`.
long setting(const std::string& name, long otherwise);

// Puts work on a stream, or into the graph that it is capturing; 0, or the driver's error.
int enqueue(void* stream, const std::string& what, const std::vector<Range>& touches, std::function<void()> run);

// The same of work that goes on elsewhere: `is_done` is called from when its turn comes until it says so.
int enqueue_elsewhere(void* stream, const std::string& what, const std::vector<Range>& touches,
                      std::function<bool()> is_done);

// Whether this stream is being captured.
bool is_captured(void* stream);

// The device of this thread's context; -1 without one.
int device();

// Counts things that tests must give back.
void count_object(int change);

}  // namespace fake
