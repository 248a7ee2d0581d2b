// SPDX-License-Identifier: MIT
// Sums over the lanes of a warp that work for the same receiver, e.g. pixels that see one triangle: the first of them adds the total to
// memory, one addition in place of many. In each step every other remaining lane takes what the next one has, so a group of n lanes
// needs log2(n) steps; which lane takes from which follows from the keys alone, so the order of the sum is always the same.
#pragma once
#include "device.h"

RG_BEGIN

class WarpGroups {
  public:
    // Every lane of the warp makes one at the same time.
    explicit RG_FN WarpGroups(int64_t key) {
        const int lane = lane_number();
        const unsigned lower = (1u << lane) - 1;
        unsigned left = __match_any_sync(kWarp, (long long)(key));
        leads_ = (left & lower) == 0;
        bool in = true;
        for (int s = 0; s < kSteps; s++) {
            const unsigned higher = left & ~(lower | 1u << lane);
            const bool even = in && (__popc(left & lower) & 1) == 0, takes = even && higher != 0;
            if (!__any_sync(kWarp, takes)) break;
            steps_ = s + 1;
            sources_ |= uint32_t(takes ? __ffs(int(higher)) : 0) << (kBits * s);
            left &= __ballot_sync(kWarp, even);
            in = even;
        }
    }

    // Whether this lane is the one that has the total.
    RG_FN bool leads() const { return leads_; }

    // The total of the lane's group in the lane that leads it; elsewhere a part of it. Every lane calls it.
    template <class T> RG_FN T sum(T v) const {
#pragma unroll
        for (int s = 0; s < kSteps; s++) {
            if (s >= steps_) break;  // the same in all lanes
            const int source = int(sources_ >> (kBits * s) & 63) - 1;
            const T other = __shfl_sync(kWarp, v, source < 0 ? lane_number() : source);
            if (source >= 0) v += other;
        }
        return v;
    }

  private:
    static constexpr int kSteps = 5, kBits = 6;
    uint32_t sources_ = 0;  // lane + 1 for each step, 0 for none
    int steps_ = 0;
    bool leads_;
};

RG_END
