// SPDX-License-Identifier: MIT
// Which samples a triangle covers and which surface is nearest (docs/definition.md 2.1 and 2.2). Exact integers decide coverage.
//
// Number format: a vertex lies on a grid of 1/256 pixel (24.8 fixed point, round half to even) with its origin in the image centre, so
// the centre of pixel i is at 256 i + 128 - 128 W. Sizes up to 32768 keep every edge function inside a tile within int32 (see Edge).
// I is int32_t or Lanes<int32_t>; F is the float type of the same width.
#pragma once
#include "vec.h"

RG_BEGIN

constexpr int kSubPixelBits = 8;
constexpr int32_t kSubPixels = 1 << kSubPixelBits, kHalfPixel = kSubPixels / 2;

// A vertex outside one of the planes +-x = w, +-y = w, +-z = w, in this order of bits.
constexpr int32_t kOutside = 63;
constexpr int32_t kNeedsClip = 64;   // w < max(|x|, |y|, |z|)
constexpr int32_t kUnusable = 128;   // not a finite place on the screen

// Sums with this number leave no room for a fraction: adding and taking away rounds half to even, for |v| <= 2^22.
template <class F> struct RoundingShift { static constexpr double kValue = 6755399441055744.0; };  // 1.5 * 2^52
template <> struct RoundingShift<float> { static constexpr float kValue = 12582912.0f; };          // 1.5 * 2^23

template <class F, class S> RG_FN F round_half_even(F v, S shift) { return (v + F(shift)) - F(shift); }

// The depth value K of the vertices, 2^32 steps between the near and the far plane, to be rounded to float32.
template <class F> RG_FN F depth_value(F z_over_w) { return z_over_w * F(2147483648.0 - 0.5 - 17600.0) + F(2147483648.0 - 0.5); }

// Linear function whose sign says on which side of an edge the sample at pixel (i, j) of a tile lies: inside iff c + a i + b j >= 0.
// Steps from pixel to pixel are whole multiples of 256, so the fraction of c below 256 never matters and is dropped, after a
// bias of one unit has turned "on the edge" of exclusive edges into "outside". |a|, |b| <= 2^23, i and j < 64: with c held within
// +-2^30, sums stay below 2^31 and keep their sign.
template <class I> struct Edge { I a, b, c; };

// Inclusive are the min-x and the min-y side of a triangle in counter-clockwise order.
template <class I> RG_FN I edge_bias(I a, I b) {
    const I zero(0);
    return select(a > zero, zero, select(a == zero, select(b > zero, zero, I(-1)), I(-1)));
}

// Depth over the screen as seen from vertex 0: origin + x per_x + y per_y, x and y in pixels from that vertex, kept within the depths
// of the corners. All code paths evaluate it in this one way, so that a pixel gets the same bits from each.
template <class F> struct DepthPlane { F origin, per_x, per_y, low, high; };

template <class F> RG_FN F depth_of_row(const DepthPlane<F>& p, F y) { return p.origin + p.per_y * y; }
template <class F> RG_FN F depth_in_row(const DepthPlane<F>& p, F row, F x) { return minimum(maximum(row + p.per_x * x, p.low), p.high); }
template <class F> RG_FN F depth_at(const DepthPlane<F>& p, F x, F y) { return depth_in_row(p, depth_of_row(p, y), x); }
// Screen corners relative to corner 0 in grid units, twice the area in grid units squared.
template <class F> RG_FN DepthPlane<F> depth_plane(Vec2<F> e1, Vec2<F> e2, F area, F k0, F k1, F k2) {
    const F d1 = k1 - k0, d2 = k2 - k0, per_pixel = F(float(kSubPixels)) / area;
    return {k0, (d1 * e2.y - d2 * e1.y) * per_pixel, (d2 * e1.x - d1 * e2.x) * per_pixel, minimum(k0, minimum(k1, k2)),
            maximum(k0, maximum(k1, k2))};
}

// Corners of a triangle on the grid with their depth values.
template <class I, class F> struct ScreenTriangle { I x[3], y[3]; F k[3]; };

// One order for all ways to list the same corners: counter-clockwise, the lowest (then leftmost) first. Coincident triangles then have
// bitwise equal depths, whatever their winding. `clockwise` comes from the exact area.
template <class I, class F, class M> RG_FN ScreenTriangle<I, F> in_standard_order(ScreenTriangle<I, F> t, M clockwise) {
    ScreenTriangle<I, F> s = t;
    s.x[1] = select(clockwise, t.x[2], t.x[1]); s.x[2] = select(clockwise, t.x[1], t.x[2]);
    s.y[1] = select(clockwise, t.y[2], t.y[1]); s.y[2] = select(clockwise, t.y[1], t.y[2]);
    s.k[1] = select(clockwise, t.k[2], t.k[1]); s.k[2] = select(clockwise, t.k[1], t.k[2]);
    const M one_first = (s.y[1] < s.y[0]) | ((s.y[1] == s.y[0]) & (s.x[1] < s.x[0]));
    const I y01 = select(one_first, s.y[1], s.y[0]), x01 = select(one_first, s.x[1], s.x[0]);
    const M two_first = (s.y[2] < y01) | ((s.y[2] == y01) & (s.x[2] < x01));
    ScreenTriangle<I, F> r;
    for (int k = 0; k < 3; k++) {
        const int j = (k + 1) % 3, l = (k + 2) % 3;
        r.x[k] = select(two_first, s.x[l], select(one_first, s.x[j], s.x[k]));
        r.y[k] = select(two_first, s.y[l], select(one_first, s.y[j], s.y[k]));
        r.k[k] = select(two_first, s.k[l], select(one_first, s.k[j], s.k[k]));
    }
    return r;
}

// Signed distance to plane `side` of axis `axis` (x, y, z): at least 0 inside.
RG_FN double plane_distance(const double (&p)[4], int axis, int side) { return side ? p[3] - p[axis] : p[3] + p[axis]; }

RG_END
