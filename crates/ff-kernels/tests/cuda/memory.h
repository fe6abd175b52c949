// The device's memory and the host's page-locked memory: allocations between guards, all bytes 0xff at first, which is
// NaN in f32 and bf16.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>

#include "fake.h"

namespace fake {

enum class Kind { Device, Host };

struct Block {
    static constexpr size_t GUARD = 256;

    Kind kind;
    size_t len;
    bool alive = true;
    unsigned char* whole;
    size_t whole_len;

    Block(Kind kind, size_t len) : kind(kind), len(len) {
        whole_len = (len + GUARD - 1) / GUARD * GUARD + 2 * GUARD;
        whole = static_cast<unsigned char*>(std::aligned_alloc(GUARD, whole_len));
        std::memset(whole, 0xff, whole_len);
    }
    ~Block() { std::free(whole); }
    Block(const Block&) = delete;

    unsigned char* begin() const { return whole + GUARD; }
    uint64_t address() const { return reinterpret_cast<uint64_t>(begin()); }

    // Whether nothing was written outside since the last time.
    bool intact() const {
        auto untouched = [](unsigned char byte) { return byte == 0xff; };
        unsigned char *end = begin() + len, *whole_end = whole + whole_len;
        bool so = std::all_of(whole, begin(), untouched) && std::all_of(end, whole_end, untouched);
        if (!so) {
            std::fill(whole, begin(), 0xff);
            std::fill(end, whole_end, 0xff);
        }
        return so;
    }
};

using BlockPtr = std::shared_ptr<Block>;

// Everything allocated and not freed, by address.
struct Memory {
    std::map<uint64_t, BlockPtr> live;
    size_t device_bytes = 0;

    // Of the device; small, so that running out of it is cheap.
    static size_t total() { return size_t(setting("memory", 1L << 30)); }

    // Null if the device has no room.
    BlockPtr allocate(Kind kind, size_t len) {
        if (kind == Kind::Device && len > total() - std::min(total(), device_bytes)) return nullptr;
        auto block = std::make_shared<Block>(kind, len);
        if (kind == Kind::Device) device_bytes += len;
        live[block->address()] = block;
        return block;
    }

    // Whether there was such an allocation. Its bytes stay as long as work refers to them, to be found out.
    bool free(Kind kind, uint64_t address) {
        auto found = live.find(address);
        if (found == live.end() || found->second->kind != kind) return false;
        found->second->alive = false;
        if (kind == Kind::Device) device_bytes -= found->second->len;
        live.erase(found);
        return true;
    }

    // The allocation that holds all these bytes; null if none does.
    BlockPtr holding(uint64_t address, size_t len) const {
        auto after = live.upper_bound(address);
        if (after == live.begin()) return nullptr;
        const BlockPtr& block = std::prev(after)->second;
        return address - block->address() + len <= block->len ? block : nullptr;
    }
};

}  // namespace fake
