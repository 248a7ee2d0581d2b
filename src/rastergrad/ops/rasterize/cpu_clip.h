// SPDX-License-Identifier: MIT
// Vertices onto the screen grid, and triangles that leave the frustum into pieces (docs/definition.md 2.1, steps 1 to 3).
#pragma once
#include "arena.h"
#include "coverage.h"
#include "quads.h"

RG_BEGIN
namespace {

// 16 bytes, so that a vertex is one load.
struct alignas(16) ScreenVertex { int32_t x, y; float k; int32_t flags; };

struct ScreenSize { int32_t width, height; };

template <class T> void place_vertices(const T* pos, int64_t begin, int64_t end, ScreenSize size, ScreenVertex* out) {
    using L = Lanes<T>;
    using Bits = typename L::Integer;
    using Integers = Lanes<Bits>;
    const L scale_x(T(size.width * kHalfPixel)), scale_y(T(size.height * kHalfPixel)), one(T(1));
    const L low(T(-8388608)), high(T(8388608));
    const auto bit = [](typename L::Mask m, int32_t value) { return m & Integers(Bits(value)); };
    for (int64_t v = begin; v < end; v += kLanes) {
        const int count = int(minimum(end - v, int64_t(kLanes)));
        const Columns4<T> p = load_columns<T>([=](int l) { return pos + 4 * (v + (l < count ? l : 0)); });
        const L inverse_w = one / p.w;
        const L x = round_half_even(p.x * inverse_w * scale_x, RoundingShift<T>::kValue);
        const L y = round_half_even(p.y * inverse_w * scale_y, RoundingShift<T>::kValue);
        const L k = depth_value(p.z * inverse_w);
        const auto inside = (p.w >= abs_of(p.x)) & (p.w >= abs_of(p.y)) & (p.w >= abs_of(p.z));
        const auto finite = is_finite(p.x) & is_finite(p.y) & is_finite(p.z) & is_finite(p.w);
        const auto placed = is_finite(x) & is_finite(y) & is_finite(k);
        const Integers flags = bit(p.x > p.w, 1) | bit(p.x < -p.w, 2) | bit(p.y > p.w, 4) | bit(p.y < -p.w, 8) |
                               bit(p.z > p.w, 16) | bit(p.z < -p.w, 32) | bit(~inside, kNeedsClip) |
                               bit(~finite | (inside & ~placed), kUnusable);
        const auto to_grid = [&](L c) { return convert<int32_t>(convert<Bits>(minimum(maximum(c, low), high))); };
        const Columns4<float> record = {bits_as<float>(to_grid(x)), bits_as<float>(to_grid(y)), convert<float>(k),
                                        bits_as<float>(convert<int32_t>(flags))};
        store_columns<float>(record, count, false, [=](int l) { return reinterpret_cast<float*>(out + v + l); });
    }
}

// A piece of a clipped triangle, drawn under the number of the whole one.
struct Piece { ScreenVertex corner[3]; int32_t triangle; };

struct ClipPoint { double p[4]; ScreenVertex screen; };

// A plane adds at most half as many points as there are: 3, 4, 6, 9, 13, 19, 28 (at most 9 but for rounding).
constexpr int kMostPoints = 28;

// The point where the edge from the kept end a to the dropped end b meets the plane: it depends on the edge only, not on the
// triangle, so neighbours get the same point.
inline ClipPoint crossing(const ClipPoint& a, const ClipPoint& b, double distance_a, double distance_b, ScreenSize size) {
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
inline int clip_to_frustum(ClipPoint (&points)[kMostPoints], ScreenSize size) {
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

// Calls draw(piece) for each triangle of the fan over the visible part.
template <class T, class Draw>
void for_each_piece_of(int32_t triangle, const int32_t (&index)[3], const T* pos, const ScreenVertex* screen, ScreenSize size, Draw&& draw) {
    ClipPoint points[kMostPoints];
    for (int k = 0; k < 3; k++) {
        for (int c = 0; c < 4; c++) points[k].p[c] = double(pos[4 * int64_t(index[k]) + c]);
        points[k].screen = screen[index[k]];
    }
    const int count = clip_to_frustum(points, size);
    for (int k = 0; k < count; k++)
        if (points[k].screen.flags & kUnusable) return;
    for (int k = 2; k < count; k++) draw(Piece{{points[0].screen, points[k - 1].screen, points[k].screen}, triangle});
}

}  // namespace
RG_END
