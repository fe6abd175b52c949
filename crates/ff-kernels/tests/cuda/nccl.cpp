// libnccl.so.2 for machines without GPUs: ranks are processes or threads of one machine, and what they say to each
// other goes through a hub, a thread of the process that made the job's id.
//
// Strict where NCCL takes callers at their word: the hub holds the ranks' calls against each other, in kind, order,
// type and length, and says which ones wait for each other for ever; a communicator is used by one call at a time, on
// the GPU that it was made for, never in a capture; buffers lie in live memory of the device and overlap only where
// they may. Communicators do not block: a call is on its stream only when the caller has asked often enough how it is.

#include <condition_variable>
#include <cstring>
#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "fake.h"
#include "hub.h"

using namespace fake;
using namespace nccl;

struct ncclComm {
    int rank, size, device;
    Socket socket;
    std::string last_error;
    std::mutex mutex;
    std::condition_variable changed;
    Result state = IN_PROGRESS;
    bool aborted = false, finalised = false;
    // Asks that the last call still needs before it is on its stream.
    long late = 0;
    std::shared_ptr<Launch> waiting;
    void* stream = nullptr;
    // What the hub is to hear of, in order.
    std::list<std::shared_ptr<Launch>> given;
    // On streams, and not over.
    int open = 0;
    std::thread worker;

    void fail(Result how, const std::string& why) {
        std::lock_guard<std::mutex> lock(mutex);
        if (state == SUCCESS || state == IN_PROGRESS) state = how, last_error = why;
        changed.notify_all();
    }
};

namespace {

std::mutex all;
std::set<ncclComm*> comms;
thread_local int depth;
struct Called {
    ncclComm* comm;
    void* stream;
    Op op;
};
thread_local std::vector<Called> called;
thread_local std::string last_misuse;

Result misuse(const std::string& what, Result how = INVALID_USAGE) {
    report("NCCL: " + what);
    last_misuse = what;
    return how;
}

// Tells the hub of a communicator's launches, one after the other, and brings back what it answers.
void work(ncclComm* comm) {
    Answer joined;
    if (!read(comm->socket, joined)) return comm->fail(REMOTE_ERROR, "the job's first rank has gone");
    if (joined.how != SUCCESS) return comm->fail(joined.how, joined.says);
    {
        std::lock_guard<std::mutex> lock(comm->mutex);
        if (comm->state == IN_PROGRESS) comm->state = SUCCESS;
        comm->changed.notify_all();
    }
    for (;;) {
        std::shared_ptr<Launch> launch;
        {
            std::unique_lock<std::mutex> lock(comm->mutex);
            comm->changed.wait(lock, [&] { return !comm->given.empty() || comm->aborted || comm->finalised; });
            if (comm->given.empty() || comm->aborted) return;
            launch = comm->given.front();
            comm->given.pop_front();
        }
        Answer answer;
        if (!write(comm->socket, *launch) || !read(comm->socket, answer))
            return comm->fail(REMOTE_ERROR, "the job's first rank has gone");
        if (answer.how != SUCCESS) return comm->fail(answer.how, answer.says);
        std::lock_guard<std::mutex> lock(comm->mutex);
        launch->outputs = std::move(answer.outputs);
        launch->is_answered = true;
    }
}

// One turn of a launch on its stream; whether it is over.
bool turn(ncclComm* comm, const std::shared_ptr<Launch>& launch) {
    std::lock_guard<std::mutex> lock(comm->mutex);
    if (launch->is_over) return true;
    // As a kernel that waits for the others: only an abort ends it.
    if (comm->aborted) {
        comm->open--;
        return launch->is_over = true;
    }
    if (!launch->is_given) {
        launch->is_given = true;
        for (Op& op : launch->ops) op.take_input();
        comm->given.push_back(launch);
        comm->changed.notify_all();
    }
    if (!launch->is_answered) return false;
    for (size_t i = 0; i < launch->ops.size(); i++)
        if (launch->ops[i].to != 0)
            std::memcpy(reinterpret_cast<void*>(launch->ops[i].to), launch->outputs[i].data(),
                        launch->outputs[i].size());
    comm->open--;
    return launch->is_over = true;
}

bool overlap(Range a, Range b) { return a.len > 0 && b.len > 0 && a.at < b.at + b.len && b.at < a.at + a.len; }

// What is wrong with a launch's buffers; empty if nothing is.
std::string wrong_buffers(const Launch& launch) {
    std::vector<Range> inputs, outputs;
    for (const Op& op : launch.ops) {
        Range from{op.from, op.from_len()}, to{op.to, op.to_len()};
        bool own_place = (op.kind == ALL_GATHER && op.from == op.to + uint64_t(launch.rank) * op.from_len()) ||
                         (op.kind == BROADCAST && op.from == op.to);
        if (!own_place && overlap(from, to)) return op.text() + ": its buffers overlap";
        if (!own_place && op.from != 0) inputs.push_back(from);
        if (op.to != 0) outputs.push_back(to);
    }
    for (size_t i = 0; i < outputs.size(); i++) {
        for (Range input : inputs)
            if (overlap(outputs[i], input)) return "a group writes what it also reads";
        for (size_t j = 0; j < i; j++)
            if (overlap(outputs[i], outputs[j])) return "a group writes the same bytes twice";
    }
    return "";
}

Result put_on_stream(ncclComm* comm, const std::shared_ptr<Launch>& launch, void* stream) {
    std::vector<Range> touches;
    std::string what = "NCCL:";
    for (const Op& op : launch->ops) {
        if (op.from_len() > 0 && op.from != 0) touches.push_back({op.from, op.from_len()});
        if (op.to_len() > 0 && op.to != 0) touches.push_back({op.to, op.to_len()});
        what += " " + op.text();
    }
    {
        std::lock_guard<std::mutex> lock(comm->mutex);
        comm->open++;
    }
    if (enqueue_elsewhere(stream, what, touches, [=] { return turn(comm, launch); }) == 0) return SUCCESS;
    comm->fail(UNHANDLED_CUDA_ERROR, "the driver refuses");
    return UNHANDLED_CUDA_ERROR;
}

// A communicator that a call may use.
Result usable(ncclComm* comm, const std::string& call) {
    {
        std::lock_guard<std::mutex> lock(all);
        if (comms.count(comm) == 0) return misuse(call + ": no such communicator", INVALID_ARGUMENT);
    }
    std::lock_guard<std::mutex> lock(comm->mutex);
    if (comm->aborted || comm->finalised) return misuse(call + ": the communicator has ended");
    if (comm->state == IN_PROGRESS) return misuse(call + ": the call before is still in progress");
    if (comm->state != SUCCESS) return comm->state;
    if (device() != comm->device) return misuse(call + ": another GPU than the communicator's is current");
    return SUCCESS;
}

Result end_group() {
    std::vector<Called> group = std::move(called);
    called.clear();
    if (group.empty()) return SUCCESS;
    ncclComm* comm = group[0].comm;
    auto launch = std::make_shared<Launch>();
    launch->rank = comm->rank;
    for (Called& one : group) {
        if (one.comm != comm || one.stream != group[0].stream)
            return misuse("a group over several communicators or streams is not emulated");
        launch->ops.push_back(one.op);
    }
    if (is_captured(group[0].stream)) return misuse("a call while its stream is captured");
    std::string wrong = wrong_buffers(*launch);
    if (!wrong.empty()) return misuse(wrong);
    long late = setting("nccl_late", 2);
    if (late == 0) return put_on_stream(comm, launch, group[0].stream);
    std::lock_guard<std::mutex> lock(comm->mutex);
    comm->late = late;
    comm->waiting = launch;
    comm->stream = group[0].stream;
    return comm->state = IN_PROGRESS;
}

Result call(ncclComm* comm, void* stream, Op op) {
    if (Result refused = usable(comm, op.text()); refused != SUCCESS) return refused;
    if (bytes_of(op.type) == 0) return misuse(op.text() + ": no such type", INVALID_ARGUMENT);
    if (op.kind != ALL_GATHER && (op.peer < 0 || op.peer >= comm->size))
        return misuse(op.text() + ": no such rank", INVALID_ARGUMENT);
    if ((op.kind == SEND || op.kind == RECV) && op.peer == comm->rank)
        return misuse(op.text() + ": to itself, which is not emulated");
    op.ranks = comm->size;
    if (op.kind == BROADCAST && op.peer != comm->rank) op.from = 0;
    bool reads = op.kind != RECV && !(op.kind == BROADCAST && op.peer != comm->rank);
    if (op.count > 0 && ((reads && op.from == 0) || (op.kind != SEND && op.to == 0)))
        return misuse(op.text() + ": no buffer", INVALID_ARGUMENT);
    called.push_back({comm, stream, op});
    return depth > 0 ? SUCCESS : end_group();
}

uint64_t at(const void* buffer) { return reinterpret_cast<uint64_t>(buffer); }

// Takes a communicator away, when its thread has ended.
void end(ncclComm* comm) {
    comm->socket.shut();
    if (comm->worker.joinable()) comm->worker.join();
    count_object(-1);
    {
        std::lock_guard<std::mutex> lock(all);
        comms.erase(comm);
    }
    // Work on streams may still refer to an aborted one.
    if (comm->open == 0) delete comm;
}

}  // namespace

extern "C" {

// Communicators that have not ended.
long fake_communicators() {
    std::lock_guard<std::mutex> lock(all);
    return long(comms.size());
}

const char* ncclGetErrorString(Result result) {
    switch (result) {
        case SUCCESS: return "no error";
        case UNHANDLED_CUDA_ERROR: return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
        case INVALID_ARGUMENT: return "invalid argument (run with NCCL_DEBUG=WARN for details)";
        case INVALID_USAGE: return "invalid usage (run with NCCL_DEBUG=WARN for details)";
        case REMOTE_ERROR: return "remote process exited or there was a network error";
        case IN_PROGRESS: return "NCCL operation in progress";
        default: return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    }
}

const char* ncclGetLastError(ncclComm* comm) {
    std::lock_guard<std::mutex> lock(all);
    if (comms.count(comm) == 0) return last_misuse.c_str();
    return comm->last_error.c_str();
}

Result ncclGetVersion(int* version) {
    *version = 22809;
    return SUCCESS;
}

Result ncclGetUniqueId(UniqueId* id) {
    Socket socket = listen();
    if (!socket) return SYSTEM_ERROR;
    std::memset(id, 0, sizeof *id);
    *id->address() = {MAGIC, socket.port()};
    std::thread(serve, std::move(socket)).detach();
    return SUCCESS;
}

Result ncclCommInitRankConfig(ncclComm** to, int size, UniqueId id, int rank, Config* config) {
    if (!config || config->magic != 0xcafebeef || config->size < offsetof(Config, rest))
        return misuse("a configuration that is none", INVALID_ARGUMENT);
    if (config->blocking != 0) return misuse("communicators that block are not emulated");
    if (size < 1 || rank < 0 || rank >= size) return misuse("no such rank", INVALID_ARGUMENT);
    if (id.address()->magic != MAGIC) return misuse("an id that nobody made", INVALID_ARGUMENT);
    if (device() < 0) return misuse("no GPU is current");
    auto comm = new ncclComm;
    comm->rank = rank, comm->size = size, comm->device = device();
    comm->socket = connect(id.address()->port);
    {
        std::lock_guard<std::mutex> lock(all);
        comms.insert(comm);
    }
    count_object(1);
    *to = comm;
    if (!comm->socket || !write(comm->socket, Hello{MAGIC, rank, size, comm->device})) {
        comm->fail(REMOTE_ERROR, "nobody answers at the job's id");
        return IN_PROGRESS;
    }
    comm->worker = std::thread(work, comm);
    return IN_PROGRESS;
}

Result ncclCommGetAsyncError(ncclComm* comm, Result* how) {
    std::shared_ptr<Launch> launch;
    {
        std::lock_guard<std::mutex> lock(all);
        if (comms.count(comm) == 0) return misuse("ncclCommGetAsyncError: no such communicator", INVALID_ARGUMENT);
    }
    {
        std::lock_guard<std::mutex> lock(comm->mutex);
        if (comm->waiting && --comm->late == 0) {
            launch = std::move(comm->waiting);
            if (comm->state == IN_PROGRESS) comm->state = SUCCESS;
        }
    }
    if (launch) put_on_stream(comm, launch, comm->stream);
    std::lock_guard<std::mutex> lock(comm->mutex);
    *how = comm->state;
    return SUCCESS;
}

Result ncclCommFinalize(ncclComm* comm) {
    if (Result refused = usable(comm, "ncclCommFinalize"); refused != SUCCESS) return refused;
    std::lock_guard<std::mutex> lock(comm->mutex);
    if (comm->open > 0) return misuse("ncclCommFinalize: calls are still on a stream");
    comm->finalised = true;
    comm->changed.notify_all();
    return SUCCESS;
}

Result ncclCommDestroy(ncclComm* comm) {
    {
        std::lock_guard<std::mutex> lock(all);
        if (comms.count(comm) == 0) return misuse("ncclCommDestroy: no such communicator", INVALID_ARGUMENT);
        if (!comm->finalised) return misuse("ncclCommDestroy: expected ncclCommFinalize before");
    }
    comm->worker.join();
    write(comm->socket, Launch{});
    end(comm);
    return SUCCESS;
}

Result ncclCommAbort(ncclComm* comm) {
    {
        std::lock_guard<std::mutex> lock(all);
        if (comms.count(comm) == 0) return misuse("ncclCommAbort: no such communicator", INVALID_ARGUMENT);
    }
    {
        std::lock_guard<std::mutex> lock(comm->mutex);
        comm->aborted = true;
        comm->changed.notify_all();
    }
    end(comm);
    return SUCCESS;
}

Result ncclGroupStart() {
    depth++;
    return SUCCESS;
}

Result ncclGroupEnd() {
    if (depth == 0) return misuse("ncclGroupEnd without ncclGroupStart");
    return --depth > 0 ? SUCCESS : end_group();
}

Result ncclSend(const void* from, size_t count, int type, int peer, ncclComm* comm, void* stream) {
    return call(comm, stream, Op{SEND, type, peer, count, at(from), 0});
}

Result ncclRecv(void* to, size_t count, int type, int peer, ncclComm* comm, void* stream) {
    return call(comm, stream, Op{RECV, type, peer, count, 0, at(to)});
}

Result ncclAllGather(const void* from, void* to, size_t count, int type, ncclComm* comm, void* stream) {
    return call(comm, stream, Op{ALL_GATHER, type, 0, count, at(from), at(to)});
}

Result ncclBroadcast(const void* from, void* to, size_t count, int type, int root, ncclComm* comm, void* stream) {
    return call(comm, stream, Op{BROADCAST, type, root, count, at(from), at(to)});
}

}  // extern "C"
