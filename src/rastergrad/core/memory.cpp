// SPDX-License-Identifier: MIT
#include "memory.h"

#include <cstdlib>
#include <list>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace rg {
namespace {

constexpr size_t kHugePage = size_t(2) << 20;
constexpr size_t kSmallest = size_t(64) << 10;  // below, malloc recycles well by itself

// A sanitizer sees what is out of bounds or used too late only if each block is exactly as long as was asked for, and lives once.
#if defined(RASTERGRAD_SANITIZE)
constexpr bool kRecycle = false;
#else
constexpr bool kRecycle = true;
#endif

// Large blocks in whole huge pages; small ones in powers of two, so that few sizes serve many requests.
size_t rounded(size_t bytes) {
    if (!kRecycle) return bytes;
    if (bytes < kSmallest) return (bytes + 63) / 64 * 64;
    if (bytes >= kHugePage) return (bytes + kHugePage - 1) / kHugePage * kHugePage;
    size_t size = kSmallest;
    while (size < bytes) size *= 2;
    return size;
}

struct Idle { void* block; size_t size; };

struct Shelf {
    std::mutex guard;
    std::list<Idle> idle;  // most recently used first
    size_t idle_bytes = 0, used_bytes = 0, limit = size_t(1) << 30;
};

Shelf& shelf() {
    static Shelf* const one = [] {
        auto* s = new Shelf;  // never destroyed: tensors may die after static destructors
#if defined(__unix__) || defined(__APPLE__)
        // Another thread may hold the lock while this one forks; the child must find it free.
        pthread_atfork([] { shelf().guard.lock(); }, [] { shelf().guard.unlock(); }, [] { shelf().guard.unlock(); });
#endif
        return s;
    }();
    return *one;
}

void* from_system(size_t size) {
#if defined(RASTERGRAD_SANITIZE)
    void* block = nullptr;
    return posix_memalign(&block, 64, size) ? nullptr : block;
#else
    void* block = std::aligned_alloc(size >= kHugePage ? kHugePage : 64, size);
#if defined(__linux__)
    if (block && size >= kHugePage) madvise(block, size, MADV_HUGEPAGE);
#endif
    return block;
#endif
}

// The caller holds the lock.
size_t shrink(Shelf& s, size_t to) {
    size_t freed = 0;
    while (s.idle_bytes > to) {
        const Idle last = s.idle.back();
        s.idle.pop_back();
        s.idle_bytes -= last.size;
        freed += last.size;
        std::free(last.block);
    }
    return freed;
}

}  // namespace

void* take_block(size_t bytes) {
    if (bytes > size_t(1) << 62) throw std::bad_alloc();
    const size_t size = rounded(bytes ? bytes : 1);
    Shelf& s = shelf();
    {
        std::lock_guard<std::mutex> lock(s.guard);
        if (kRecycle && size >= kSmallest) {
            for (auto it = s.idle.begin(); it != s.idle.end(); ++it) {
                if (it->size != size) continue;
                void* block = it->block;
                s.idle.erase(it);
                s.idle_bytes -= size;
                s.used_bytes += size;
                return block;
            }
        }
        s.used_bytes += size;
    }
    void* block = from_system(size);
    if (!block) {
        release_idle();
        block = from_system(size);
    }
    if (!block) {
        std::lock_guard<std::mutex> lock(s.guard);
        s.used_bytes -= size;
        throw std::bad_alloc();
    }
    return block;
}

void give_block(void* block, size_t bytes) noexcept {
    const size_t size = rounded(bytes ? bytes : 1);
    Shelf& s = shelf();
    std::lock_guard<std::mutex> lock(s.guard);
    s.used_bytes -= size;
    if (kRecycle && size >= kSmallest && size <= s.limit) {
        try {
            s.idle.push_front({block, size});
            s.idle_bytes += size;
            shrink(s, s.limit);
            return;
        } catch (const std::bad_alloc&) {
            // No room even for the list's node: the block itself goes back instead.
        }
    }
    std::free(block);
}

void set_idle_limit(size_t bytes) noexcept {
    Shelf& s = shelf();
    std::lock_guard<std::mutex> lock(s.guard);
    s.limit = bytes;
    shrink(s, bytes);
}

size_t release_idle() noexcept {
    Shelf& s = shelf();
    std::lock_guard<std::mutex> lock(s.guard);
    return shrink(s, 0);
}

MemoryUse memory_use() noexcept {
    Shelf& s = shelf();
    std::lock_guard<std::mutex> lock(s.guard);
    return {s.used_bytes, s.idle_bytes, s.limit};
}

}  // namespace rg
