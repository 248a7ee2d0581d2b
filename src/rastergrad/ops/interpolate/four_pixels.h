// SPDX-License-Identifier: MIT
// Four pixels of up to four channels in one register: a quad for each. Triangles that are a few pixels wide then take one step.
#pragma once
#include "quads.h"

RG_BEGIN

template <int k> RG_FN Lanes<float> spread(Lanes<float> a) {
    for (auto& p : a.p) p = RG_IN_QUADS(p, p, k, k, k, k);
    return a;
}
RG_FN Lanes<float> low_twice(Lanes<float> a) {
    for (auto& p : a.p) p = RG_IN_QUADS(p, p, 0, 1, 0, 1);
    return a;
}
RG_FN Lanes<float> high_twice(Lanes<float> a) {
    for (auto& p : a.p) p = RG_IN_QUADS(p, p, 2, 3, 2, 3);
    return a;
}
RG_FN Lanes<float> two_sums(Lanes<float> a, Lanes<float> b) {
    for (int q = 0; q < Lanes<float>::kParts; q++) {
        auto& p = a.p[q];
        p = RG_IN_QUADS(p, b.p[q], 0, 4, 1, 5) + RG_IN_QUADS(p, b.p[q], 2, 6, 3, 7);
        p = p + RG_IN_QUADS(p, p, 2, 3, 2, 3);
        p = RG_IN_QUADS(p, Lanes<float>::Part{}, 0, 1, 4, 5);
    }
    return a;
}
// One quad four times.
RG_FN Lanes<float> four_times(Quad<float> a) {
    Lanes<float> r;
#if RG_VECTOR_BYTES == 64
    r.p[0] = (Lanes<float>::Part)_mm512_broadcast_f32x4((__m128)a.p);
#elif RG_VECTOR_BYTES == 32
    r.p[0] = r.p[1] = (Lanes<float>::Part)_mm256_insertf128_ps(_mm256_castps128_ps256((__m128)a.p), (__m128)a.p, 1);
#else
    for (auto& p : r.p) p = (Lanes<float>::Part)a.p;
#endif
    return r;
}
RG_FN Lanes<float> four_quads(Quad<float> a, Quad<float> b, Quad<float> c, Quad<float> d) {
    Lanes<float> r;
    float at[kLanes];
    a.store(at); b.store(at + 4); c.store(at + 8); d.store(at + 12);
    for (int q = 0; q < Lanes<float>::kParts; q++) memcpy(&r.p[q], at + q * Lanes<float>::kWidth, sizeof r.p[q]);
    return r;
}

// Four neighbouring pixels of one to four channels, as four quads and back.
class FourPixels {
  public:
    explicit FourPixels(int64_t channels) : channels_(channels) {
        for (int lane = 0; lane < kLanes; lane++) {
            const int pixel = lane / 4, channel = lane % 4, count = int(channels);
            apart_.set(lane, channel < count ? pixel * count + channel : 0);
            together_.set(lane, count && lane < 4 * count ? lane / count * 4 + lane % count : 0);
            for (int pixels = 0; pixels <= 4; pixels++) kept_[pixels].set(lane, pixel < pixels && channel < count ? -1 : 0);
        }
    }
    // The first `pixels` of four, the rest zero. Nothing at or beyond `end` is read.
    RG_FN Lanes<float> load(const float* from, int64_t pixels, const float* end) const {
        Lanes<float> r;
        if (from + kLanes <= end) {
#if RG_VECTOR_BYTES == 64
            r.p[0] = (Lanes<float>::Part)_mm512_permutexvar_ps((__m512i)apart_.p[0], _mm512_loadu_ps(from));
#else
            const int64_t c = channels_;
            r = four_quads(Quad<float>::load(from), Quad<float>::load(from + c), Quad<float>::load(from + 2 * c), Quad<float>::load(from + 3 * c));
#endif
        } else {
            r = Lanes<float>(0.0f);
            for (int64_t p = 0; p < pixels && p < 4; p++)
                for (int64_t c = 0; c < channels_; c++) r.set(int(4 * p + c), from[p * channels_ + c]);
        }
        return select(kept_[pixels < 4 ? pixels : 4], r, Lanes<float>(0.0f));
    }
    // All four; up to 16 numbers from `to` on are overwritten, whatever the number of channels.
    RG_FN void store(Lanes<float> x, float* to) const {
#if RG_VECTOR_BYTES == 64
        _mm512_storeu_ps(to, _mm512_permutexvar_ps((__m512i)together_.p[0], (__m512)x.p[0]));
#else
        float at[kLanes];
        x.store(at);
        for (int p = 0; p < 4; p++) Quad<float>::load(at + 4 * p).store(to + p * channels_);
#endif
    }

  private:
    int64_t channels_;
    Lanes<int32_t> apart_, together_, kept_[5];
};

RG_END
