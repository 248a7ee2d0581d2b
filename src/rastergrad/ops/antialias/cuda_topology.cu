// SPDX-License-Identifier: MIT
// Twin half-edges on a GPU (topology.h): a hash table of edges in which the lowest half-edge on each is found by atomic minima, then the lowest
// one with another opposite vertex. Who comes first does not show.
#include "device.h"

RG_BEGIN

using Key = unsigned long long;

struct EdgeTableArgs {
    const int32_t* tri;    // [triangles][3]
    int32_t* twins;        // [triangles][3]
    int32_t* bounds;       // [2]: the smallest and the largest index in tri; 0 and -1 if there are none
    Key* keys;             // [slots]: both vertices of an edge; 0 is free, as no edge has vertex 0 twice
    int32_t* first;        // [slots]
    int32_t* other;        // [slots]
    uint32_t* slot_of;     // [triangles][3]
    int64_t triangles, vertices, slots;  // a power of two
};

constexpr int32_t kNone = 2147483647;
constexpr uint32_t kNoSlot = 0xffffffffu;

RG_GLOBAL(topology_clear, 256, EdgeTableArgs, a) {
    for (int64_t i = thread_number(); i < a.slots; i += thread_count()) {
        a.keys[i] = 0;
        a.first[i] = a.other[i] = kNone;
    }
    if (thread_number() == 0) {
        a.bounds[0] = a.triangles ? kNone : 0;
        a.bounds[1] = a.triangles ? -kNone - 1 : -1;
    }
}

RG_GLOBAL(topology_enter, 256, EdgeTableArgs, a) {
    const int64_t t = thread_number();
    int32_t low = kNone, high = -kNone - 1;
    if (t < a.triangles) {
        const int32_t n[3] = {a.tri[3 * t], a.tri[3 * t + 1], a.tri[3 * t + 2]};
        low = minimum(n[0], minimum(n[1], n[2]));
        high = maximum(n[0], maximum(n[1], n[2]));
        const bool entered = low >= 0 && high < a.vertices && n[0] != n[1] && n[1] != n[2] && n[2] != n[0];
        for (int k = 0; k < 3; k++) {
            uint32_t slot = kNoSlot;
            if (entered) {
                const int32_t p = n[(k + 1) % 3], q = n[(k + 2) % 3];
                const Key key = Key(uint32_t(minimum(p, q))) << 32 | uint32_t(maximum(p, q));
                const Key mask = Key(a.slots) - 1;
                // 2^64 / golden ratio; the upper half of the product is the well mixed one.
                Key s = (key * 0x9E3779B97F4A7C15ull >> 32) & mask;
                for (;; s = (s + 1) & mask) {
                    const Key found = atomicCAS(a.keys + s, Key(0), key);
                    if (found == 0 || found == key) break;
                }
                slot = uint32_t(s);
                atomicMin(a.first + s, int32_t(3 * t + k));
            }
            a.slot_of[3 * t + k] = slot;
        }
    }
    for (int step = kWarpSize / 2; step > 0; step /= 2) {
        low = minimum(low, __shfl_xor_sync(kWarp, low, step));
        high = maximum(high, __shfl_xor_sync(kWarp, high, step));
    }
    if (lane_number() == 0 && low <= high) {
        atomicMin(a.bounds, low);
        atomicMax(a.bounds + 1, high);
    }
}

RG_GLOBAL(topology_second, 256, EdgeTableArgs, a) {
    const int64_t h = thread_number();
    if (h >= 3 * a.triangles) return;
    const uint32_t slot = a.slot_of[h];
    if (slot != kNoSlot && a.tri[h] != a.tri[a.first[slot]]) atomicMin(a.other + slot, int32_t(h));
}

RG_GLOBAL(topology_pair, 256, EdgeTableArgs, a) {
    const int64_t h = thread_number();
    if (h >= 3 * a.triangles) return;
    const uint32_t slot = a.slot_of[h];
    int32_t twin = -1;
    if (slot != kNoSlot && a.other[slot] != kNone) {
        const int32_t first = a.first[slot], other = a.other[slot], own = a.tri[h];
        twin = own == a.tri[first] ? other : own == a.tri[other] ? first : -1;
    }
    a.twins[h] = twin;
}

// ---- components: union-find without locks. A larger root is hung below a smaller one, so the root of all is the lowest triangle. --------

struct JoinArgs {
    const int32_t* twins;
    int32_t* parents;  // [triangles]
    int64_t triangles;
};

RG_FN int32_t root_of(const int32_t* parents, int32_t t) {
    const volatile int32_t* p = parents;
    for (int32_t up = p[t]; up != t; up = p[t]) t = up;
    return t;
}

RG_GLOBAL(components_begin, 256, JoinArgs, a) {
    const int64_t t = thread_number();
    if (t < a.triangles) a.parents[t] = int32_t(t);
}
RG_GLOBAL(components_join, 256, JoinArgs, a) {
    const int64_t h = thread_number();
    if (h >= 3 * a.triangles) return;
    const int32_t twin = a.twins[h];
    if (twin < 0 || twin >= 3 * a.triangles) return;
    int32_t p = root_of(a.parents, int32_t(h / 3)), q = root_of(a.parents, twin / 3);
    while (p != q) {
        const int32_t high = maximum(p, q), low = minimum(p, q);
        const int32_t found = atomicCAS(a.parents + high, high, low);
        if (found == high) break;
        // Another thread has hung it below something else meanwhile.
        p = root_of(a.parents, found);
        q = root_of(a.parents, low);
    }
}
RG_GLOBAL(components_end, 256, JoinArgs, a) {
    const int64_t t = thread_number();
    if (t < a.triangles) a.parents[t] = root_of(a.parents, int32_t(t));
}

RG_END
