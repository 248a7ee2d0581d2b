// SPDX-License-Identifier: MIT
// Half-edges are sorted by the sum of their two vertices, in parallel and keeping their order, into buckets of a few thousand; a small hash
// table then pairs up each bucket. The sum puts neighbours in memory into the same bucket, as one of the vertices would, but does not put
// a fan of a million triangles around one vertex into a single bucket.
#include "topology.h"

#include "memory.h"
#include "threads.h"

RG_BEGIN
namespace {

constexpr int64_t kSmallestChunk = 16384;  // triangles
constexpr int64_t kMostChunks = 64;
constexpr int64_t kBucketSize = 1536;      // half-edges on average: their table stays in the second-level cache
constexpr int64_t kMostBuckets = 8192;

struct Edge { int32_t low, high; };
RG_FN Edge edge_of(const int32_t* tri, int64_t half_edge) {
    const int64_t t = half_edge / 3, k = half_edge - 3 * t;
    const int32_t a = tri[3 * t + (k == 2 ? 0 : k + 1)], b = tri[3 * t + (k == 0 ? 2 : k - 1)];
    return a < b ? Edge{a, b} : Edge{b, a};
}

RG_FN bool has_edges(const int32_t* corner, int64_t vertices) {
    const int32_t a = corner[0], b = corner[1], c = corner[2];
    return minimum(a, minimum(b, c)) >= 0 && maximum(a, maximum(b, c)) < vertices && a != b && b != c && c != a;
}

struct Chunks {
    int64_t size, count;
    explicit Chunks(int64_t triangles)
        : size(maximum(kSmallestChunk, (triangles + kMostChunks - 1) / kMostChunks)), count((triangles + size - 1) / size) {}
};

void find_bounds(const TopologyArgs& a) {
    const Chunks chunks(a.triangles);
    Block<int32_t> lowest(size_t(chunks.count)), highest(size_t(chunks.count));
    parallel_for(a.threads, chunks.count, 1, [&](int, int64_t from, int64_t to) {
        for (int64_t c = from; c < to; c++) {
            int32_t low = INT32_MAX, high = INT32_MIN;
            for (int64_t i = 3 * c * chunks.size; i < 3 * minimum((c + 1) * chunks.size, a.triangles); i++) {
                low = minimum(low, a.tri[i]);
                high = maximum(high, a.tri[i]);
            }
            lowest[c] = low;
            highest[c] = high;
        }
    });
    a.bounds[0] = 0;
    a.bounds[1] = -1;
    for (int64_t c = 0; c < chunks.count; c++) {
        a.bounds[0] = c ? minimum(a.bounds[0], lowest[c]) : lowest[c];
        a.bounds[1] = maximum(a.bounds[1], highest[c]);
    }
}

// Numbers [0, range) cut into at most kMostBuckets buckets of equal width, a power of two.
struct Buckets {
    int shift = 0;
    int64_t count;
    Buckets(int64_t range, int64_t items) {
        int64_t wanted = 1;
        while (wanted < kMostBuckets && wanted * kBucketSize < items) wanted *= 2;
        while (((range - 1) >> shift) + 1 > wanted) shift++;
        count = ((range - 1) >> shift) + 1;
    }
    RG_FN int64_t of(Edge e) const { return (int64_t(e.low) + e.high) >> shift; }
};

// An edge with the first half-edge on it, and the first one with another opposite vertex, or -1. low < high, so 0 means free.
struct Slot { uint64_t key; int32_t first, other; };

// Half of the slots stay free even if no two half-edges share an edge.
int table_bits(int64_t half_edges) {
    int bits = 4;
    while (int64_t(1) << bits < 2 * half_edges) bits++;
    return bits;
}

void pair_up(const TopologyArgs& a, const int32_t* half_edges, int64_t count, Slot* slots, int32_t* slot_of) {
    const int bits = table_bits(count);
    const int64_t mask = (int64_t(1) << bits) - 1;
    memset(slots, 0, size_t(mask + 1) * sizeof(Slot));
    for (int64_t i = 0; i < count; i++) {
        const int32_t h = half_edges[i];
        const Edge e = edge_of(a.tri, h);
        const uint64_t key = uint64_t(uint32_t(e.low)) << 32 | uint32_t(e.high);
        int64_t s = int64_t((key * 0x9E3779B97F4A7C15u) >> (64 - bits));  // 2^64 / golden ratio
        while (slots[s].key != key && slots[s].key) s = (s + 1) & mask;
        Slot& slot = slots[s];
        if (!slot.key) slot = {key, h, -1};
        else if (slot.other < 0 && a.tri[h] != a.tri[slot.first]) slot.other = h;
        slot_of[i] = int32_t(s);
    }
    for (int64_t i = 0; i < count; i++) {
        const Slot& slot = slots[slot_of[i]];
        const int32_t h = half_edges[i], own = a.tri[h];
        int32_t twin = -1;
        if (slot.other >= 0) twin = own == a.tri[slot.first] ? slot.other : own == a.tri[slot.other] ? slot.first : -1;
        a.twins[h] = twin;
    }
}

RG_FN uint64_t mixed(uint64_t a, uint64_t b) {
    const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
    return uint64_t(product) ^ uint64_t(product >> 64);
}

}  // namespace

int64_t build_topology(const TopologyArgs& a) {
    find_bounds(a);
    const Chunks chunks(a.triangles);
    const Buckets buckets(2 * maximum(minimum(int64_t(a.bounds[1]) + 1, a.vertices), int64_t(1)), 3 * a.triangles);

    // starts[chunk][bucket]: first how many half-edges, then where they go.
    Block<int32_t> starts(size_t(chunks.count * buckets.count)), bucket_starts(size_t(buckets.count + 1));
    parallel_for(a.threads, chunks.count, 1, [&](int, int64_t from, int64_t to) {
        for (int64_t c = from; c < to; c++) {
            int32_t* counts = starts.data() + c * buckets.count;
            memset(counts, 0, size_t(buckets.count) * sizeof(int32_t));
            for (int64_t t = c * chunks.size; t < minimum((c + 1) * chunks.size, a.triangles); t++)
                if (has_edges(a.tri + 3 * t, a.vertices))
                    for (int k = 0; k < 3; k++) counts[buckets.of(edge_of(a.tri, 3 * t + k))]++;
        }
    });
    int32_t total = 0;
    for (int64_t b = 0; b < buckets.count; b++) {
        bucket_starts[b] = total;
        for (int64_t c = 0; c < chunks.count; c++) {
            int32_t& start = starts[c * buckets.count + b];
            const int32_t here = start;
            start = total;
            total += here;
        }
    }
    bucket_starts[buckets.count] = total;

    Block<int32_t> sorted{size_t(total)};
    parallel_for(a.threads, chunks.count, 1, [&](int, int64_t from, int64_t to) {
        for (int64_t c = from; c < to; c++) {
            int32_t* next = starts.data() + c * buckets.count;
            for (int64_t t = c * chunks.size; t < minimum((c + 1) * chunks.size, a.triangles); t++) {
                const bool entered = has_edges(a.tri + 3 * t, a.vertices);
                for (int k = 0; k < 3; k++) {
                    if (entered) sorted[next[buckets.of(edge_of(a.tri, 3 * t + k))]++] = int32_t(3 * t + k);
                    else a.twins[3 * t + k] = -1;
                }
            }
        }
    });

    parallel_for(a.threads, buckets.count, 16, [&](int, int64_t from, int64_t to) {
        int64_t largest = 0;
        for (int64_t b = from; b < to; b++) largest = maximum(largest, int64_t(bucket_starts[b + 1] - bucket_starts[b]));
        Block<Slot> slots(size_t(1) << table_bits(largest));
        Block<int32_t> slot_of{size_t(largest)};
        for (int64_t b = from; b < to; b++)
            pair_up(a, sorted.data() + bucket_starts[b], bucket_starts[b + 1] - bucket_starts[b], slots.data(), slot_of.data());
    });
    return 0;
}

int64_t fingerprint(const FingerprintArgs& a) {
    constexpr uint64_t kOdd1 = 0x9E3779B97F4A7C15u, kOdd2 = 0xC2B2AE3D27D4EB4Fu;  // multipliers with well-spread bits
    constexpr int64_t kChunk = int64_t(1) << 18;                                 // bytes
    const int64_t bytes = 12 * a.triangles, chunks = (bytes + kChunk - 1) / kChunk;
    Block<uint64_t> parts{size_t(chunks)};
    parallel_for(a.threads, chunks, 1, [&](int, int64_t from, int64_t to) {
        for (int64_t c = from; c < to; c++) {
            const char* data = reinterpret_cast<const char*>(a.tri) + c * kChunk;
            int64_t left = minimum(kChunk, bytes - c * kChunk);
            uint64_t one = kOdd1, two = kOdd2;
            for (; left > 0; left -= 32, data += 32) {
                uint64_t w[4] = {0, 0, 0, 0};
                memcpy(w, data, size_t(minimum(left, int64_t(32))));
                one = mixed(w[0] ^ kOdd1, w[1] ^ one);
                two = mixed(w[2] ^ kOdd2, w[3] ^ two);
            }
            parts[c] = mixed(one ^ kOdd2, two ^ kOdd1);
        }
    });
    uint64_t all = uint64_t(a.triangles) ^ kOdd1;
    for (int64_t c = 0; c < chunks; c++) all = mixed(all ^ kOdd2, parts[c] ^ kOdd1);
    return int64_t(all >> 1);
}

RG_END
