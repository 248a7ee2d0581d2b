// SPDX-License-Identifier: MIT
// The pool. Not OpenMP: that hangs after fork (DataLoader workers) and clashes with torch's copy of it.
#include "threads.h"

#include <mutex>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#endif

namespace rg {
namespace {

void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

struct Job {
    void (*body)(void*, int, int64_t, int64_t);
    void* context;
    int64_t count, chunk;
    int workers;
    std::atomic<int64_t> next{0};

    void work(int worker) {
        for (;;) {
            const int64_t begin = next.fetch_add(chunk, std::memory_order_relaxed);
            if (begin >= count) return;
            body(context, worker, begin, begin + chunk < count ? begin + chunk : count);
        }
    }
};

class Pool {
  public:
    std::mutex busy;

    void run(Job& job) {
        grow(job.workers);
        job_ = &job;
        finished_.store(0, std::memory_order_relaxed);
        gate_.store(0, std::memory_order_release);
        generation_.fetch_add(1, std::memory_order_release);
        generation_.notify_all();
        job.work(0);
        // Closing the gate: who has not entered by now never will, so only those inside are waited for.
        const uint64_t entered = gate_.fetch_or(kClosed, std::memory_order_acq_rel);
        while (finished_.load(std::memory_order_acquire) < entered) pause_briefly();
    }

  private:
    static constexpr uint64_t kClosed = uint64_t(1) << 63;
    // 0.15 to 0.3 ms, as long as the pause of the processor makes it: longer than the Python code between two operations, shorter
    // than a scheduler's slice. A third of it costs small images half their speed, since waking a worker takes 0.1 ms.
    static constexpr int kSpins = 6000;

    std::vector<std::thread> threads_;
    std::atomic<uint32_t> generation_{0};
    std::atomic<uint64_t> gate_{kClosed};
    std::atomic<uint64_t> finished_{0};
    Job* job_ = nullptr;

    void grow(int workers) {
        if (int(threads_.size()) >= workers - 1) return;
#if defined(__unix__) || defined(__APPLE__)
        sigset_t all, before;  // signals belong to Python's main thread
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
        while (int(threads_.size()) < workers - 1) {
            const int worker = int(threads_.size()) + 1;
            const uint32_t seen = generation_.load(std::memory_order_relaxed);
            threads_.emplace_back([this, worker, seen] { serve(worker, seen); });
            threads_.back().detach();
        }
#if defined(__unix__) || defined(__APPLE__)
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
    }

    void serve(int worker, uint32_t seen) {
        for (;;) {
            for (int spin = 0; generation_.load(std::memory_order_acquire) == seen; spin++) {
                if (spin < kSpins) pause_briefly();
                else generation_.wait(seen, std::memory_order_acquire);
            }
            seen = generation_.load(std::memory_order_acquire);
            uint64_t gate = gate_.load(std::memory_order_acquire);
            while (!(gate & kClosed) && !gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) {}
            if (gate & kClosed) continue;
            if (worker < job_->workers) job_->work(worker);
            finished_.fetch_add(1, std::memory_order_acq_rel);
        }
    }
};

// Never destroyed: workers may still wait when the process ends. A forked child has no workers; it starts with a fresh pool.
std::atomic<Pool*> pool{nullptr};

Pool& get_pool() {
    static std::once_flag once;
    std::call_once(once, [] {
        pool.store(new Pool);
#if defined(__unix__) || defined(__APPLE__)
        pthread_atfork(nullptr, nullptr, [] { pool.store(new Pool); });
#endif
    });
    return *pool.load(std::memory_order_acquire);
}

}  // namespace

void run_chunks(int threads, int64_t count, int64_t chunk, void (*body)(void*, int, int64_t, int64_t), void* context) {
    if (count <= 0) return;
    if (chunk < 1) chunk = 1;
    const int64_t chunks = (count + chunk - 1) / chunk;
    Job job{body, context, count, chunk, int(threads < chunks ? threads : chunks)};
    if (job.workers > 1) {
        Pool& workers = get_pool();
        std::unique_lock<std::mutex> lock(workers.busy, std::try_to_lock);
        if (lock.owns_lock()) {
            try {
                workers.run(job);
                return;
            } catch (const std::system_error&) {
                // No thread could be started (a process limit): nothing has run yet, and the caller does it alone.
            }
        }
    }
    job.work(0);
}

}  // namespace rg
