// SPDX-License-Identifier: MIT
// Vertices onto the screen grid, and triangles that leave the frustum into pieces (docs/definition.md 2.1, steps 1 to 3).
#pragma once
#include "coverage.h"

RG_BEGIN

// 16 bytes, so that a vertex is one load.
struct alignas(16) ScreenVertex { int32_t x, y; float k; int32_t flags; };

struct ScreenSize { int32_t width, height; };

// A vertex on the grid, its depth value, and how it lies to the frustum. S is the number type behind F, I the integers beside it.
template <class F, class I> struct PlacedVertex { F x, y, k; I flags; };

template <class S, class I, class F> RG_FN PlacedVertex<F, I> placed_vertex(Vec4<F> p, ScreenSize size) {
    const auto bit = [](mask_of<F> m, int32_t value) { return select(m, I(value), I(0)); };
    const F inverse_w = F(S(1)) / p.w;
    const F x = round_half_even(p.x * inverse_w * F(S(size.width * kHalfPixel)), RoundingShift<S>::kValue);
    const F y = round_half_even(p.y * inverse_w * F(S(size.height * kHalfPixel)), RoundingShift<S>::kValue);
    const F k = depth_value(p.z * inverse_w);
    const mask_of<F> inside = (p.w >= abs_of(p.x)) & (p.w >= abs_of(p.y)) & (p.w >= abs_of(p.z));
    const mask_of<F> finite = is_finite(p.x) & is_finite(p.y) & is_finite(p.z) & is_finite(p.w);
    const mask_of<F> placed = is_finite(x) & is_finite(y) & is_finite(k);
    const I unplaced = select(inside, select(placed, I(0), I(kUnusable)), I(0));
    const I flags = bit(p.x > p.w, 1) | bit(p.x < -p.w, 2) | bit(p.y > p.w, 4) | bit(p.y < -p.w, 8) | bit(p.z > p.w, 16) |
                    bit(p.z < -p.w, 32) | select(inside, I(0), I(kNeedsClip)) | select(finite, unplaced, I(kUnusable));
    const F low = F(S(-8388608)), high = F(S(8388608));
    return {minimum(maximum(x, low), high), minimum(maximum(y, low), high), k, flags};
}

struct ClipPoint { double p[4]; ScreenVertex screen; };

// A plane adds at most half as many points as there are: 3, 4, 6, 9, 13, 19, 28 (at most 9 but for rounding).
constexpr int kMostPoints = 28;

// The point where the edge from the kept end a to the dropped end b meets the plane: it depends on the edge only, not on the
// triangle, so neighbours get the same point.
RG_FN ClipPoint crossing(const ClipPoint& a, const ClipPoint& b, double distance_a, double distance_b, ScreenSize size) {
    const double t = distance_a / (distance_a - distance_b);
    ClipPoint r;
    for (int c = 0; c < 4; c++) r.p[c] = a.p[c] + t * (b.p[c] - a.p[c]);
    const double inverse_w = 1.0 / r.p[3];
    double ndc[3];
    for (int c = 0; c < 3; c++) ndc[c] = minimum(maximum(r.p[c] * inverse_w, -1.0), 1.0);
    constexpr double kShift = RoundingShift<double>::kValue;
    r.screen.x = int32_t(round_half_even(ndc[0] * double(size.width * kHalfPixel), kShift));
    r.screen.y = int32_t(round_half_even(ndc[1] * double(size.height * kHalfPixel), kShift));
    r.screen.k = float(depth_value(ndc[2]));
    r.screen.flags = is_finite(r.p[0]) & is_finite(r.p[1]) & is_finite(r.p[2]) & is_finite(r.p[3]) & is_finite(inverse_w) ? 0 : kUnusable;
    return r;
}

// Homogeneous Sutherland-Hodgman in float64: points[0..3) become the visible polygon; returns how many points it has.
RG_FN int clip_to_frustum(ClipPoint (&points)[kMostPoints], ScreenSize size) {
    ClipPoint next[kMostPoints];
    int count = 3, violated = 0;
    for (int k = 0; k < 3; k++) violated |= points[k].screen.flags;
    for (int axis = 0; axis < 3; axis++) {
        if (!(violated >> (2 * axis) & 3)) continue;
        for (int side = 0; side < 2; side++) {
            int made = 0;
            for (int k = 0; k < count; k++) {
                const ClipPoint &from = points[k ? k - 1 : count - 1], &to = points[k];
                const double d_from = plane_distance(from.p, axis, side), d_to = plane_distance(to.p, axis, side);
                const bool keep_from = d_from >= 0, keep_to = d_to >= 0;
                if (keep_from && !keep_to) next[made++] = crossing(from, to, d_from, d_to, size);
                if (!keep_from && keep_to) next[made++] = crossing(to, from, d_to, d_from, size);
                if (keep_to) next[made++] = to;
            }
            count = made;
            for (int k = 0; k < count; k++) points[k] = next[k];
        }
    }
    return count;
}

// The corners of a triangle in the order of the buffer.
template <class T> RG_FN void load_clip_points(const T* pos, const ScreenVertex* screen, const int32_t (&index)[3], ClipPoint (&points)[kMostPoints]) {
    for (int k = 0; k < 3; k++) {
        for (int c = 0; c < 4; c++) points[k].p[c] = double(pos[4 * int64_t(index[k]) + c]);
        points[k].screen = screen[index[k]];
    }
}

RG_END
