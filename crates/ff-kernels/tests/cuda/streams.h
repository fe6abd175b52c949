// Streams, events and graphs. Work waits in its stream's queue until somebody waits for it, so that whoever forgets to
// wait finds old values; a stream made while the setting `eager` is 1 runs its work as soon as events allow instead, so
// that whoever forgets to hold it back finds new ones.
#pragma once

#include <chrono>
#include <cuda.h>
#include <deque>
#include <set>
#include <thread>

#include "memory.h"

struct Moment;
using MomentPtr = std::shared_ptr<Moment>;

// Something that a stream does.
struct Op {
    std::string what;
    std::vector<fake::BlockPtr> touches;
    std::function<void()> run;
    // Of work that goes on elsewhere: called until it says that it is done.
    std::function<bool()> is_done;
    MomentPtr waits, marks;
};
using OpPtr = std::shared_ptr<Op>;

struct CUgraph_st {
    std::vector<OpPtr> ops;
};
struct CUgraphExec_st {
    std::shared_ptr<const CUgraph_st> graph;
};

struct Capture {
    CUstreamCaptureMode mode;
    std::thread::id owner;
    bool broken = false;
    CUgraph_st graph;
};

struct CUstream_st : std::enable_shared_from_this<CUstream_st> {
    std::deque<OpPtr> queue;
    std::unique_ptr<Capture> capture;
    bool eager = false;
    int device = 0;
};
using StreamPtr = std::shared_ptr<CUstream_st>;

// A point in a stream that an event recorded.
struct Moment {
    StreamPtr stream;
    bool reached = false;
    std::chrono::steady_clock::time_point at;
};

struct CUevent_st {
    bool timed;
    MomentPtr last;
    bool captured = false;
};

namespace fake {

// All streams and what has gone wrong with them.
struct Streams {
    // Work beyond this runs, as a driver makes the host wait.
    static constexpr size_t LONGEST_QUEUE = 1024;

    Memory memory;
    StreamPtr legacy = std::make_shared<CUstream_st>();
    std::set<StreamPtr> made;
    // An error of the device stays: its context is lost.
    CUresult lost = CUDA_SUCCESS;

    CUresult lose(const std::string& what) {
        report(what);
        return lost = CUDA_ERROR_ILLEGAL_ADDRESS;
    }

    // Null for a handle that is none.
    StreamPtr find(CUstream handle) const {
        if (handle == nullptr || handle == CU_STREAM_LEGACY) return legacy;
        for (const StreamPtr& stream : made)
            if (stream.get() == handle) return stream;
        return nullptr;
    }

    CUresult enqueue(const StreamPtr& stream, OpPtr op) {
        if (stream->capture) {
            if (stream->capture->broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
            stream->capture->graph.ops.push_back(std::move(op));
            return CUDA_SUCCESS;
        }
        stream->queue.push_back(std::move(op));
        if (stream->queue.size() > LONGEST_QUEUE) run_next(stream);
        run_eager();
        return lost;
    }

    // Checks that nobody captures whom a call like this would disturb; else the capture is lost. Stricter than CUDA: a
    // relaxed capture allows its own thread to allocate, which our engine is not to do either.
    CUresult refuse_in_capture(const std::string& what) {
        for (const StreamPtr& stream : made) {
            Capture* capture = stream->capture.get();
            bool disturbed = capture && (capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
                                         capture->owner == std::this_thread::get_id());
            if (disturbed) return invalidate(stream, what);
        }
        return CUDA_SUCCESS;
    }

    CUresult invalidate(const StreamPtr& stream, const std::string& what,
                        CUresult with = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED) {
        report(what + " while a stream is captured");
        stream->capture->broken = true;
        return with;
    }

    // Runs all that a stream has, and before each wait what it waits for.
    void drain(const StreamPtr& stream) {
        while (!stream->queue.empty()) run_next(stream);
        run_eager();
        check_guards();
    }

    void reach(const MomentPtr& moment) {
        while (!moment->reached) run_next(moment->stream);
        run_eager();
    }

    // As far as that goes without waiting for what goes on elsewhere.
    void reach_at_once(const MomentPtr& moment) {
        advance(moment);
        run_eager();
    }

    void advance(const MomentPtr& moment) {
        while (!moment->reached && is_ready(moment->stream->queue.front())) run_next(moment->stream);
    }

    bool is_ready(const OpPtr& op) {
        if (op->is_done && lost == CUDA_SUCCESS) return op->is_done();
        if (op->waits) advance(op->waits);
        return !op->waits || op->waits->reached;
    }

    // All of a device.
    void drain_all(int device) {
        drain(legacy);
        for (const StreamPtr& stream : made)
            if (stream->device == device) drain(stream);
    }

    void run_eager() {
        for (bool any = true; any;) {
            any = false;
            for (const StreamPtr& stream : made)
                while (stream->eager && !stream->queue.empty() && !stream->queue.front()->is_done &&
                       (!stream->queue.front()->waits || stream->queue.front()->waits->reached)) {
                    run_next(stream);
                    any = true;
                }
        }
    }

    void run_next(const StreamPtr& stream) {
        OpPtr op = stream->queue.front();
        if (op->waits && !op->waits->reached) reach_from(*op);
        while (lost == CUDA_SUCCESS && op->is_done && !op->is_done())
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        stream->queue.pop_front();
        run(*op);
    }

    void reach_from(const Op& op) {
        while (!op.waits->reached) run_next(op.waits->stream);
    }

    void run(const Op& op) {
        for (const BlockPtr& block : op.touches)
            if (lost == CUDA_SUCCESS && !block->alive) lose(op.what + ": touches memory that was freed before it ran");
        if (lost == CUDA_SUCCESS && op.run) op.run();
        for (const BlockPtr& block : op.touches)
            if (lost == CUDA_SUCCESS && !block->intact())
                lose(op.what + ": wrote outside an allocation of " + std::to_string(block->len) + " bytes");
        if (op.marks) {
            op.marks->at = std::chrono::steady_clock::now();
            op.marks->reached = true;
        }
    }

    void check_guards() {
        for (auto& [address, block] : memory.live)
            if (lost == CUDA_SUCCESS && !block->intact())
                lose("something wrote outside an allocation of " + std::to_string(block->len) + " bytes");
    }
};

}  // namespace fake
