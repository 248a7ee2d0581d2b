// SPDX-License-Identifier: MIT
// Parallel loops over fixed chunks. What a chunk computes must not depend on which worker runs it: that makes results
// independent of the number of threads.
#pragma once
#include <atomic>
#include <cstdint>
#include <new>

#include "portable.h"

namespace rg {
// Calls body(context, worker, begin, end) for every chunk of [0, count); worker is in [0, threads). The caller works too and never
// waits for a worker that has not started. If the pool is busy (another Python thread, or a nested call) the caller does all of it.
void run_chunks(int threads, int64_t count, int64_t chunk, void (*body)(void*, int, int64_t, int64_t), void* context);
}

RG_BEGIN

template <class Body> void parallel_for(int64_t threads, int64_t count, int64_t chunk, Body&& body) {
    // Not bool: its accessors are not always inlined, and would be shared by instruction sets (core/kernels.h).
    struct Context { Body& body; std::atomic<int> out_of_memory; } context{body, {0}};
    run_chunks(int(threads), count, chunk, [](void* raw, int worker, int64_t begin, int64_t end) {
        Context& c = *static_cast<Context*>(raw);
        try {
            c.body(worker, begin, end);
        } catch (const std::bad_alloc&) {
            c.out_of_memory.store(1, std::memory_order_relaxed);
        }
    }, &context);
    if (context.out_of_memory.load(std::memory_order_relaxed)) throw std::bad_alloc();
}

RG_END
