// The hub of the stand-in for NCCL.

#include "hub.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <optional>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake.h"

namespace nccl {

namespace {

sockaddr_in loopback(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
}

bool write_all(const Socket& to, const void* from, size_t len) {
    auto bytes = static_cast<const char*>(from);
    while (len > 0) {
        ssize_t n = ::send(to.number, bytes, len, MSG_NOSIGNAL);
        if (n <= 0) return false;
        bytes += n, len -= size_t(n);
    }
    return true;
}

bool read_all(const Socket& from, void* to, size_t len) {
    auto bytes = static_cast<char*>(to);
    while (len > 0) {
        ssize_t n = ::recv(from.number, bytes, len, 0);
        if (n <= 0) return false;
        bytes += n, len -= size_t(n);
    }
    return true;
}

bool write_bytes(const Socket& to, const char* bytes, uint64_t len) {
    return write_all(to, &len, sizeof len) && write_all(to, bytes, len);
}

template <typename Bytes>
bool read_bytes(const Socket& from, Bytes& bytes) {
    uint64_t len;
    if (!read_all(from, &len, sizeof len)) return false;
    bytes.resize(len);
    return read_all(from, bytes.data(), len);
}

// A call as it travels, before its input.
struct Header {
    int32_t kind, type, peer, ranks;
    uint64_t count;
};

// A rank, as its hub knows it.
struct Rank {
    Socket socket;
    int device = 0;
    bool said_farewell = false;
    // What it waits for.
    std::optional<Launch> launch = {};
    std::vector<bool> done = {};

    bool is_through() const {
        for (bool one : done)
            if (!one) return false;
        return true;
    }
};

struct Hub {
    std::vector<Rank> ranks;
    // Why nothing goes on.
    std::optional<Answer> broken = {};

    void fail(Result how, const std::string& says) {
        if (broken) return;
        if (how == INVALID_USAGE) fake::report("NCCL: " + says);
        broken = Answer{how, says};
        for (Rank& rank : ranks)
            if (rank.launch) answer(rank);
    }

    void answer(Rank& rank) {
        Answer said = broken ? *broken : Answer{SUCCESS, "", std::move(rank.launch->outputs)};
        rank.launch.reset();
        write(rank.socket, said);
    }

    std::string waits(size_t rank) const {
        const Rank& of = ranks[rank];
        std::string text = "rank " + std::to_string(rank);
        if (!of.launch) return text + (of.said_farewell ? " has left" : " does nothing");
        for (size_t i = 0; i < of.done.size(); i++)
            if (!of.done[i]) return text + " waits in " + of.launch->ops[i].text();
        return text + " is through";
    }

    // The first call of a kind that a rank still waits for; none is -1.
    int first(size_t rank, Kind kind, int peer = -1) const {
        const Rank& of = ranks[rank];
        if (!of.launch) return -1;
        for (size_t i = 0; i < of.done.size(); i++) {
            const Op& op = of.launch->ops[i];
            bool same = kind == ALL_GATHER ? op.kind == ALL_GATHER || op.kind == BROADCAST : op.kind == kind;
            if (!of.done[i] && same && (peer < 0 || op.peer == peer)) return int(i);
        }
        return -1;
    }

    Op& op(size_t rank, int i) { return ranks[rank].launch->ops[size_t(i)]; }

    void finish(size_t rank, int i, std::vector<char> output) {
        ranks[rank].launch->outputs[size_t(i)] = std::move(output);
        ranks[rank].done[size_t(i)] = true;
    }

    // A send that its receiver waits for; whether there is one.
    bool deliver() {
        for (size_t from = 0; from < ranks.size(); from++)
            for (size_t to = 0; to < ranks.size(); to++) {
                int sent = first(from, SEND, int(to)), received = first(to, RECV, int(from));
                if (sent < 0 || received < 0) continue;
                Op &send = op(from, sent), &recv = op(to, received);
                if (send.count != recv.count || send.type != recv.type) {
                    fail(INVALID_USAGE, "rank " + std::to_string(from) + " has " + send.text() + " and rank " +
                                            std::to_string(to) + " has " + recv.text());
                    return false;
                }
                finish(to, received, std::move(send.input));
                finish(from, sent, {});
                return true;
            }
        return false;
    }

    // A call that all ranks have come to; whether there is one.
    bool collect() {
        std::vector<int> calls;
        for (size_t rank = 0; rank < ranks.size(); rank++) calls.push_back(first(rank, ALL_GATHER));
        for (int call : calls)
            if (call < 0) return false;
        const Op model = op(0, calls[0]);
        for (size_t rank = 1; rank < ranks.size(); rank++) {
            const Op& other = op(rank, calls[rank]);
            if (other.kind == model.kind && other.type == model.type && other.count == model.count &&
                other.peer == model.peer)
                continue;
            fail(INVALID_USAGE,
                 "rank 0 has " + model.text() + " and rank " + std::to_string(rank) + " has " + other.text());
            return false;
        }
        std::vector<char> output;
        for (size_t rank = 0; rank < ranks.size(); rank++) {
            const std::vector<char>& input = op(rank, calls[rank]).input;
            if (model.kind == ALL_GATHER || int(rank) == model.peer)
                output.insert(output.end(), input.begin(), input.end());
        }
        for (size_t rank = 0; rank < ranks.size(); rank++) finish(rank, calls[rank], output);
        return true;
    }

    void go_on() {
        while (!broken && (deliver() || collect())) {}
        if (broken) return;
        bool all_wait = true;
        size_t gone = ranks.size();
        for (size_t i = 0; i < ranks.size(); i++) {
            Rank& rank = ranks[i];
            if (rank.launch && rank.is_through()) answer(rank);
            if (rank.said_farewell) gone = i;
            all_wait = all_wait && (rank.launch || rank.said_farewell);
        }
        if (!all_wait || gone_all()) return;
        if (gone < ranks.size()) return fail(REMOTE_ERROR, "rank " + std::to_string(gone) + " has left");
        std::string all = "ranks wait for each other for ever:";
        for (size_t i = 0; i < ranks.size(); i++) all += (i > 0 ? ", " : " ") + waits(i);
        fail(INVALID_USAGE, all);
    }

    bool gone_all() const {
        for (const Rank& rank : ranks)
            if (!rank.said_farewell) return false;
        return true;
    }

    void hear(size_t i) {
        Rank& rank = ranks[i];
        Launch launch;
        if (!read(rank.socket, launch)) {
            rank.socket = Socket();
            if (!rank.said_farewell) fail(REMOTE_ERROR, "rank " + std::to_string(i) + " has gone");
            return;
        }
        if (launch.ops.empty()) {
            rank.said_farewell = true;
        } else {
            launch.outputs.resize(launch.ops.size());
            rank.done.assign(launch.ops.size(), false);
            rank.launch = std::move(launch);
            if (broken) return answer(rank);
        }
        go_on();
    }
};

// Waits for all ranks; what is wrong with them is in the answer.
Answer gather(const Socket& socket, Hub& hub, std::vector<Socket>& strangers) {
    size_t missing = 1;
    while (missing > 0) {
        Socket one(::accept(socket.number, nullptr, nullptr));
        Hello hello;
        if (!one || !read(one, hello) || hello.magic != MAGIC) continue;
        if (hub.ranks.empty()) {
            hub.ranks.resize(size_t(hello.size));
            missing = hub.ranks.size();
        }
        auto refuse = [&](const std::string& says) {
            fake::report("NCCL: " + says);
            strangers.push_back(std::move(one));
            return Answer{INVALID_USAGE, says};
        };
        if (hub.ranks.size() != size_t(hello.size))
            return refuse("ranks of jobs of " + std::to_string(hub.ranks.size()) + " and of " +
                          std::to_string(hello.size));
        for (size_t i = 0; i < hub.ranks.size(); i++)
            if (hub.ranks[i].socket && hub.ranks[i].device == hello.device)
                return refuse("Duplicate GPU detected : rank " + std::to_string(hello.rank) + " and rank " +
                              std::to_string(i) + " both on CUDA device " + std::to_string(hello.device));
        Rank& rank = hub.ranks[size_t(hello.rank)];
        if (rank.socket) return refuse("two ranks " + std::to_string(hello.rank));
        rank.socket = std::move(one);
        rank.device = hello.device;
        missing--;
    }
    return {};
}

}  // namespace

std::string Op::text() const {
    const char* KINDS[] = {"a send to rank ", "a receive from rank ", "an all-gather", "a broadcast from rank "};
    std::string text = KINDS[kind];
    if (kind != ALL_GATHER) text += std::to_string(peer);
    return text + " of " + std::to_string(count) + " of type " + std::to_string(type);
}

Socket::~Socket() {
    if (number >= 0) ::close(number);
}

void Socket::shut() {
    if (number >= 0) ::shutdown(number, SHUT_RDWR);
}

uint16_t Socket::port() const {
    sockaddr_in address{};
    socklen_t len = sizeof address;
    ::getsockname(number, reinterpret_cast<sockaddr*>(&address), &len);
    return ntohs(address.sin_port);
}

Socket listen() {
    Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = loopback(0);
    bool fine = socket && ::bind(socket.number, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
                ::listen(socket.number, 64) == 0;
    return fine ? std::move(socket) : Socket();
}

Socket connect(uint16_t port) {
    Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = loopback(port);
    bool fine = socket && ::connect(socket.number, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    return fine ? std::move(socket) : Socket();
}

bool write(const Socket& to, const Hello& hello) { return write_all(to, &hello, sizeof hello); }

bool read(const Socket& from, Hello& hello) { return read_all(from, &hello, sizeof hello); }

// Without any call, a farewell.
bool write(const Socket& to, const Launch& launch) {
    uint64_t n = launch.ops.size();
    if (!write_all(to, &n, sizeof n)) return false;
    for (const Op& op : launch.ops) {
        Header header{op.kind, op.type, op.peer, op.ranks, op.count};
        if (!write_all(to, &header, sizeof header) || !write_bytes(to, op.input.data(), op.input.size())) return false;
    }
    return true;
}

bool read(const Socket& from, Launch& launch) {
    uint64_t n;
    if (!read_all(from, &n, sizeof n)) return false;
    for (uint64_t i = 0; i < n; i++) {
        Header header;
        std::vector<char> input;
        if (!read_all(from, &header, sizeof header) || !read_bytes(from, input)) return false;
        launch.ops.push_back(
            Op{Kind(header.kind), header.type, header.peer, header.count, 0, 0, header.ranks, std::move(input)});
    }
    return true;
}

bool write(const Socket& to, const Answer& answer) {
    int32_t how = answer.how;
    uint64_t n = answer.outputs.size();
    bool fine = write_all(to, &how, sizeof how) && write_bytes(to, answer.says.data(), answer.says.size()) &&
                write_all(to, &n, sizeof n);
    for (const auto& output : answer.outputs) fine = fine && write_bytes(to, output.data(), output.size());
    return fine;
}

bool read(const Socket& from, Answer& answer) {
    int32_t how;
    uint64_t n;
    if (!read_all(from, &how, sizeof how) || !read_bytes(from, answer.says)) return false;
    if (!read_all(from, &n, sizeof n)) return false;
    answer.how = Result(how);
    answer.outputs.resize(n);
    for (auto& output : answer.outputs)
        if (!read_bytes(from, output)) return false;
    return true;
}

void serve(Socket socket) {
    Hub hub;
    std::vector<Socket> strangers;
    Answer met = gather(socket, hub, strangers);
    for (const Rank& rank : hub.ranks)
        if (rank.socket) write(rank.socket, met);
    for (const Socket& stranger : strangers) write(stranger, met);
    if (met.how != SUCCESS) return;
    for (;;) {
        std::vector<pollfd> open;
        std::vector<size_t> whose;
        for (size_t i = 0; i < hub.ranks.size(); i++)
            if (hub.ranks[i].socket) {
                open.push_back({hub.ranks[i].socket.number, POLLIN, 0});
                whose.push_back(i);
            }
        if (open.empty()) return;
        ::poll(open.data(), nfds_t(open.size()), -1);
        for (size_t i = 0; i < open.size(); i++)
            if (open[i].revents != 0) hub.hear(whose[i]);
    }
}

}  // namespace nccl
