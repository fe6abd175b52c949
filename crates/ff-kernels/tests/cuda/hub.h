// Where ranks of the stand-in for NCCL meet: their calls, held against each other, and what each gets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace nccl {

enum Result {
    SUCCESS,
    UNHANDLED_CUDA_ERROR,
    SYSTEM_ERROR,
    INTERNAL_ERROR,
    INVALID_ARGUMENT,
    INVALID_USAGE,
    REMOTE_ERROR,
    IN_PROGRESS,
};

constexpr uint32_t MAGIC = 0x6e63636c;

struct Address {
    uint32_t magic;
    uint16_t port;
};

// As ncclUniqueId.
struct UniqueId {
    char bytes[128];
    Address* address() { return reinterpret_cast<Address*>(bytes); }
};

// As ncclConfig_t begins.
struct Config {
    size_t size;
    unsigned magic, version;
    int blocking;
    int rest;
};

// Bytes of an ncclDataType_t; 0 for one that is none.
inline size_t bytes_of(int type) {
    constexpr size_t BYTES[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
    return type >= 0 && type < 12 ? BYTES[type] : 0;
}

enum Kind { SEND, RECV, ALL_GATHER, BROADCAST };

// A call.
struct Op {
    Kind kind;
    int type;
    // The other rank, or the root.
    int peer;
    uint64_t count;
    // Device memory; 0 where there is none.
    uint64_t from, to;
    int ranks = 1;
    std::vector<char> input = {};

    size_t len() const { return count * bytes_of(type); }
    size_t from_len() const { return from == 0 ? 0 : len(); }
    size_t to_len() const { return to == 0 ? 0 : kind == ALL_GATHER ? len() * ranks : len(); }
    void take_input() {
        auto bytes = reinterpret_cast<const char*>(from);
        if (from_len() > 0) input.assign(bytes, bytes + from_len());
    }
    std::string text() const;
};

// Calls of one group, on a stream as one.
struct Launch {
    int rank = 0;
    std::vector<Op> ops = {};
    bool is_given = false, is_answered = false, is_over = false;
    std::vector<std::vector<char>> outputs = {};
};

// A rank's first word.
struct Hello {
    uint32_t magic;
    int32_t rank, size, device;
};

// To a hello or a launch.
struct Answer {
    Result how = SUCCESS;
    std::string says = {};
    std::vector<std::vector<char>> outputs = {};
};

// A socket that closes with its owner.
class Socket {
  public:
    Socket() = default;
    explicit Socket(int number) : number(number) {}
    Socket(Socket&& other) : number(other.number) { other.number = -1; }
    Socket& operator=(Socket&& other) {
        std::swap(number, other.number);
        return *this;
    }
    ~Socket();
    explicit operator bool() const { return number >= 0; }
    // Ends what anybody reads or writes there.
    void shut();
    uint16_t port() const;
    int number = -1;
};

Socket listen();
Socket connect(uint16_t port);

// Whole values; false where the other side has gone.
bool write(const Socket& to, const Hello& hello);
bool write(const Socket& to, const Launch& launch);
bool write(const Socket& to, const Answer& answer);
bool read(const Socket& from, Hello& hello);
bool read(const Socket& from, Launch& launch);
bool read(const Socket& from, Answer& answer);

// Is the hub of a job until all its ranks have gone.
void serve(Socket socket);

}  // namespace nccl
