// SPDX-License-Identifier: MIT
// CUDA's words on a CPU, so that kernels can be tried where there is no GPU: included in front of a cuda.cu that g++ compiles.
//
// Blocks run one after the other, the threads of a block as fibers that go on until they reach a barrier, a warp's collective or their end;
// then the next one runs. Order of blocks and of threads is forward, backward or shuffled: a missing barrier, or a result that
// depends on who comes first, shows as a difference between them. A barrier or collective that some thread never reaches is an error,
// and so is a misaligned 16-byte access. Blocks never wait for each other here, and must not elsewhere.
#pragma once
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#define RG_EMULATED
#define __device__
#define __forceinline__ inline __attribute__((always_inline))

struct Index3 { unsigned x, y, z; };
static Index3 threadIdx, blockIdx, blockDim, gridDim;

extern "C" char __start_emulated_shared[] __attribute__((weak));
extern "C" char __stop_emulated_shared[] __attribute__((weak));

namespace emulator {

constexpr int kMostThreads = 1024;
constexpr int kLanes = 32;
constexpr size_t kStackBytes = 256 << 10;

enum class State { kReady, kBarrier, kCollective, kDone };
enum Collective { kShuffle, kVote, kMatch, kFence };

struct Entry {
    int32_t threads, fields;
    void (*run)(const void*);
};

struct Fiber {
    jmp_buf resume;
    void* stack = nullptr;
    bool made = false;
    State state = State::kDone;
    int collective = 0;
    uint64_t posted = 0, seen[kLanes];
};

static Fiber fibers[kMostThreads];
static jmp_buf scheduler;
static ucontext_t starter;
static int running = 0;
static const Entry* entry;
static const void* arguments;
static std::string error;
static std::mutex one_launch;

[[noreturn]] static void leave() { _longjmp(scheduler, 1); }

// Runs one kernel after the other in this fiber.
static void live() {
    for (;;) {
        entry->run(arguments);
        Fiber& self = fibers[threadIdx.x];
        self.state = State::kDone;
        if (!_setjmp(self.resume)) leave();
    }
}

static void wait(State state) {
    Fiber& self = fibers[threadIdx.x];
    self.state = state;
    if (!_setjmp(self.resume)) leave();
}

[[noreturn]] static void fail(const std::string& text) {
    if (error.empty()) error = text + " (thread " + std::to_string(threadIdx.x) + " of block " + std::to_string(blockIdx.x) + ")";
    fibers[threadIdx.x].made = false;
    fibers[threadIdx.x].state = State::kDone;
    leave();
}

static void resume(int thread) {
    threadIdx = {unsigned(thread), 0, 0};
    running = thread;
    Fiber& fiber = fibers[thread];
    if (_setjmp(scheduler)) return;
    if (fiber.made) _longjmp(fiber.resume, 1);
    if (!fiber.stack) fiber.stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    fiber.made = true;
    getcontext(&starter);
    starter.uc_stack.ss_sp = fiber.stack;
    starter.uc_stack.ss_size = kStackBytes;
    starter.uc_link = nullptr;
    makecontext(&starter, live, 0);
    setcontext(&starter);
}

// Lets go what waits together; false when nothing can go on.
static bool release(int threads) {
    bool released = false;
    for (int first = 0; first < threads; first += kLanes) {
        Fiber* lanes = fibers + first;
        const auto waits = [](const Fiber& f) { return f.state == State::kCollective; };
        if (!std::all_of(lanes, lanes + kLanes, waits)) continue;
        for (int l = 0; l < kLanes; l++) {
            if (lanes[l].collective != lanes[0].collective) { error = "lanes of a warp meet in different collectives"; return false; }
            for (int k = 0; k < kLanes; k++) lanes[l].seen[k] = lanes[k].posted;
        }
        for (int l = 0; l < kLanes; l++) lanes[l].state = State::kReady;
        released = true;
    }
    if (std::all_of(fibers, fibers + threads, [](const Fiber& f) { return f.state == State::kBarrier; })) {
        for (int t = 0; t < threads; t++) fibers[t].state = State::kReady;
        released = true;
    }
    return released;
}

static void run_block(const std::vector<int>& order) {
    const int threads = int(order.size());
    if (__start_emulated_shared) memset(__start_emulated_shared, 0xA5, size_t(__stop_emulated_shared - __start_emulated_shared));
    for (int t = 0; t < threads; t++) fibers[t].state = State::kReady;
    while (error.empty()) {
        bool left = false;
        for (int t : order) {
            if (fibers[t].state == State::kReady) resume(t);
            left |= fibers[t].state != State::kDone;
            if (!error.empty()) break;
        }
        if (!left) return;
        if (error.empty() && !release(threads) && error.empty())
            error = "threads wait for others that never come (block " + std::to_string(blockIdx.x) + ")";
    }
    for (Fiber& f : fibers) f.made = false;
}

static uint64_t shuffle_seed;
static void arrange(std::vector<int>& order, int64_t kind) {
    for (size_t i = 0; i < order.size(); i++) order[i] = int(i);
    if (kind == 1) std::reverse(order.begin(), order.end());
    if (kind != 2) return;
    for (size_t i = order.size(); i > 1; i--) {
        shuffle_seed = shuffle_seed * 6364136223846793005ull + 1442695040888963407ull;
        std::swap(order[i - 1], order[size_t((shuffle_seed >> 33) % i)]);
    }
}

template <class V> uint64_t bits_of(V v) {
    static_assert(sizeof(V) <= 8);
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    return bits;
}
template <class V> V from_bits(uint64_t bits) {
    V v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
inline const uint64_t* meet(unsigned mask, uint64_t posted, Collective kind) {
    if (mask != 0xffffffffu) fail("a collective of part of a warp");
    Fiber& self = fibers[threadIdx.x];
    self.posted = posted;
    self.collective = kind;
    wait(State::kCollective);
    return self.seen;
}
inline unsigned lane() { return threadIdx.x % kLanes; }

}  // namespace emulator

extern "C" const char* emulator_launch(const emulator::Entry* entry, const int64_t* fields, int64_t x, int64_t y, int64_t z, int64_t kind) {
    using namespace emulator;
    const std::lock_guard<std::mutex> guard(one_launch);
    emulator::entry = entry;
    arguments = fields;
    error.clear();
    gridDim = {unsigned(x), unsigned(y), unsigned(z)};
    blockDim = {unsigned(entry->threads), 1, 1};
    const int64_t blocks = x * y * z;
    std::vector<int> threads(size_t(entry->threads)), stretch(size_t(std::min<int64_t>(blocks, 64)));
    for (int64_t begin = 0; begin < blocks && error.empty(); begin += 64) {
        arrange(stretch, kind);
        for (int place : stretch) {
            const int64_t forward = begin + place, block = kind == 1 ? blocks - 1 - forward : forward;
            if (forward >= blocks || !error.empty()) continue;
            blockIdx = {unsigned(block % x), unsigned(block / x % y), unsigned(block / (x * y))};
            arrange(threads, kind);
            run_block(threads);
        }
    }
    return error.c_str();
}

#define RG_OUT_OF_LINE __attribute__((noinline))
#define RG_CHECK_ALIGNED(P) ((reinterpret_cast<uintptr_t>(P) & 15) ? ::emulator::fail("a misaligned access of 16 bytes") : void())
// Of its own section, so that each block finds it as a GPU leaves it: full of something else.
#define RG_SHARED static __attribute__((section("emulated_shared")))
#define RG_GLOBAL_SHARING(NAME, THREADS, BLOCKS, ARGS, A) RG_GLOBAL(NAME, THREADS, ARGS, A)
#define RG_GLOBAL(NAME, THREADS, ARGS, A)                                                                       \
    static void NAME##_body(const ARGS& A);                                                                     \
    extern "C" const ::emulator::Entry NAME##_entry;                                                            \
    static_assert(sizeof(ARGS) % 8 == 0 && (THREADS) % 32 == 0 && (THREADS) <= ::emulator::kMostThreads);       \
    extern "C" const ::emulator::Entry NAME##_entry = {                                                         \
        THREADS, int32_t(sizeof(ARGS) / 8), [](const void* a) { NAME##_body(*static_cast<const ARGS*>(a)); }};  \
    static void NAME##_body([[maybe_unused]] const ARGS& A)

// ---- CUDA's words (CUDA C++ Programming Guide) -------------------------------------------------------------------------------------

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline void __syncthreads() { emulator::wait(emulator::State::kBarrier); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulator::meet(mask, 0, emulator::kFence); }
inline void __threadfence() {}

template <class V> V __shfl_sync(unsigned mask, V v, int from) {
    return emulator::from_bits<V>(emulator::meet(mask, emulator::bits_of(v), emulator::kShuffle)[from & 31]);
}
template <class V> V __shfl_xor_sync(unsigned mask, V v, int step) {
    return emulator::from_bits<V>(emulator::meet(mask, emulator::bits_of(v), emulator::kShuffle)[(emulator::lane() ^ unsigned(step)) & 31]);
}
template <class V> V __shfl_down_sync(unsigned mask, V v, unsigned step) {
    const unsigned from = emulator::lane() + step;
    return emulator::from_bits<V>(emulator::meet(mask, emulator::bits_of(v), emulator::kShuffle)[from < 32 ? from : emulator::lane()]);
}
template <class V> V __shfl_up_sync(unsigned mask, V v, unsigned step) {
    const unsigned self = emulator::lane();
    return emulator::from_bits<V>(emulator::meet(mask, emulator::bits_of(v), emulator::kShuffle)[self >= step ? self - step : self]);
}
inline unsigned __ballot_sync(unsigned mask, bool vote) {
    const uint64_t* seen = emulator::meet(mask, vote, emulator::kVote);
    unsigned bits = 0;
    for (int l = 0; l < 32; l++) bits |= unsigned(seen[l] != 0) << l;
    return bits;
}
inline bool __any_sync(unsigned mask, bool vote) { return __ballot_sync(mask, vote) != 0; }
inline bool __all_sync(unsigned mask, bool vote) { return __ballot_sync(mask, vote) == 0xffffffffu; }
template <class V> unsigned __match_any_sync(unsigned mask, V v) {
    const uint64_t mine = emulator::bits_of(v);
    const uint64_t* seen = emulator::meet(mask, mine, emulator::kMatch);
    unsigned bits = 0;
    for (int l = 0; l < 32; l++) bits |= unsigned(seen[l] == mine) << l;
    return bits;
}

inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll(static_cast<unsigned long long>(v)) : 64; }
inline int __float2int_rn(float v) { return int(nearbyintf(v)); }
inline unsigned __float_as_uint(float v) { return emulator::from_bits<unsigned>(emulator::bits_of(v)); }
inline int __float_as_int(float v) { return emulator::from_bits<int>(emulator::bits_of(v)); }
inline float __uint_as_float(unsigned v) { return emulator::from_bits<float>(emulator::bits_of(v)); }
inline float __int_as_float(int v) { return emulator::from_bits<float>(emulator::bits_of(v)); }
inline long long __double_as_longlong(double v) { return emulator::from_bits<long long>(emulator::bits_of(v)); }
inline double __longlong_as_double(long long v) { return emulator::from_bits<double>(emulator::bits_of(v)); }
template <class V> V __ldg(const V* p) { return *p; }
template <class V> V __ldcs(const V* p) { return *p; }
template <class V> void __stcs(V* p, V v) { *p = v; }

// The second argument converts to the type of the first, as the overloads of CUDA let it.
template <class V> V atomicAdd(V* p, std::type_identity_t<V> v) { const V old = *p; *p = V(old + v); return old; }
template <class V> V atomicMin(V* p, std::type_identity_t<V> v) { const V old = *p; *p = std::min(old, v); return old; }
template <class V> V atomicMax(V* p, std::type_identity_t<V> v) { const V old = *p; *p = std::max(old, v); return old; }
template <class V> V atomicOr(V* p, std::type_identity_t<V> v) { const V old = *p; *p = old | v; return old; }
template <class V> V atomicAnd(V* p, std::type_identity_t<V> v) { const V old = *p; *p = old & v; return old; }
template <class V> V atomicExch(V* p, std::type_identity_t<V> v) { const V old = *p; *p = v; return old; }
template <class V> V atomicCAS(V* p, std::type_identity_t<V> expected, std::type_identity_t<V> v) {
    const V old = *p;
    if (old == expected) *p = v;
    return old;
}
