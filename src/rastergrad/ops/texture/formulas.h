// SPDX-License-Identifier: MIT
// Texture lookup in one level (docs/definition.md 4.1): which texels, with which weights, and the averages that make a smaller level.
// Texel (i, j) covers [i, i + 1) x [j, j + 1) in texel units; bilinear filtering looks at centres, hence the -1/2.
// F is one number, or a row of 16 pixels for coordinates, or four channels for colours.
#pragma once
#include "portable.h"

RG_BEGIN

// Whole numbers beside F: int32 beside float, int64 beside double, the same in lanes. The value must be finite and in range.
RG_FN int32_t whole(float x) { return int32_t(x); }
RG_FN int64_t whole(double x) { return int64_t(x); }
template <class F> using whole_of = decltype(whole(F()));

// ---- coordinates ----------------------------------------------------------------------------------------------------------------

// The periodic coordinate in [0, 1]; an infinite one becomes NaN. The same value serves all levels. Its derivative is 1.
template <class F> RG_FN F wrapped(F s) { return s - floor_of(s); }

template <class F> RG_FN F clamped(F x, F low, F high) { return minimum(maximum(x, low), high); }  // NaN gives low
template <class F> RG_FN F zero_if_nan(F x) { return select(x == x, x, F(0)); }

// Nearest filtering along one axis. Piecewise constant: no adjoint.
template <class F> struct NearestTexel {
    whole_of<F> index;   // always in range
    mask_of<F> inside;   // whether the point was on the texture
};
template <class F> RG_FN NearestTexel<F> nearest_texel(F s, F size) {
    const F x = zero_if_nan(floor_of(s * size));
    const mask_of<F> inside = (x >= F(0)) & (x < size);
    return {whole(clamped(x, F(0), size - F(1))), inside};
}

// Linear filtering along one axis: two neighbours and the fraction between them. d fraction / ds = size inside a cell.
template <class F> struct Neighbours {
    F low, high;     // texel numbers
    F fraction;      // weight of `high`
};

// s in [0, 1] or NaN. NaN keeps a NaN fraction: the lookup is NaN, yet safe.
template <class F> RG_FN Neighbours<F> neighbours_wrap(F s, F size) {
    const F x = s * size - F(0.5);
    const F i = zero_if_nan(floor_of(x));
    return {select(i < F(0), size - F(1), i), select(i >= size - F(1), F(0), i + F(1)), x - i};
}

// On and beyond the outermost centres both neighbours are one texel: the derivative is then exactly zero.
template <class F> RG_FN Neighbours<F> neighbours_clamp(F s, F size) {
    const F x = clamped(s * size - F(0.5), F(0), size - F(1));
    const F i = floor_of(x);
    const mask_of<F> flat = (x <= F(0)) | (x >= size - F(1));
    return {i, select(flat, i, i + F(1)), x - i};
}

// Neighbours may lie outside, down to -2 and up to size + 2; those count as zero.
template <class F> RG_FN Neighbours<F> neighbours_zero(F s, F size) {
    const F raw = s * size - F(0.5);
    const F x = select(raw == raw, clamped(raw, F(-2), size + F(1)), raw);
    const F i = zero_if_nan(floor_of(x));
    return {i, i + F(1), x - i};
}

// s in [0, 1] on one face of a cube; -1 and size belong to neighbouring faces.
template <class F> RG_FN Neighbours<F> neighbours_cube(F s, F size) {
    const F x = s * size - F(0.5);
    const F i = floor_of(x);
    return {i, i + F(1), x - i};
}

template <class F> RG_FN mask_of<F> on_axis(F i, F size) {
    const mask_of<F> inside = (i >= F(0)) & (i < size);
    return inside;
}

// ---- colours --------------------------------------------------------------------------------------------------------------------

template <class F> struct Cell { F t00, t10, t01, t11; };  // first digit: column, second: row

// Differences, not weights: a constant comes out exactly.
template <class F> RG_FN F bilinear(Cell<F> c, F a, F b) {
    const F first = c.t00 + a * (c.t10 - c.t00);
    const F second = c.t01 + a * (c.t11 - c.t01);
    return first + b * (second - first);
}
// Gradient at the four texels for upstream g; the shares add up to g.
template <class F> RG_FN Cell<F> bilinear_adjoint(F a, F b, F g) {
    const F second = b * g, first = g - second;
    const F d10 = a * first, d11 = a * second;
    return {first - d10, d10, second - d11, d11};
}
// Derivative along the columns and along the rows, per texel.
template <class F> RG_FN F bilinear_slope_s(Cell<F> c, F b) {
    const F first = c.t10 - c.t00;
    return first + b * ((c.t11 - c.t01) - first);
}
template <class F> RG_FN F bilinear_slope_t(Cell<F> c, F a) {
    const F first = c.t01 - c.t00;
    return first + a * ((c.t11 - c.t10) - first);
}

// The same summed over channels: dot products of an upstream gradient with the differences that make up the blend.
template <class F> struct Rises {
    F top, bottom;  // along the columns, in both rows
    F side;         // along the rows, in the first column
};
template <class F> RG_FN Rises<F> rises(Cell<F> c, F g) { return {g * (c.t10 - c.t00), g * (c.t11 - c.t01), g * (c.t01 - c.t00)}; }
template <class F> RG_FN F slope_s(Rises<F> r, F b) { return r.top + b * (r.bottom - r.top); }
template <class F> RG_FN F slope_t(Rises<F> r, F a) { return r.side + a * (r.bottom - r.top); }
// How far the blend is above its first texel.
template <class F> RG_FN F rise(Rises<F> r, F a, F b) { return a * r.top + b * slope_t(r, a); }

// The gradient of the fraction between two levels: that of their first texels, and how far each blend is above its own.
template <class F> RG_FN F first_step(Cell<F> finer, Cell<F> coarser, F g) { return g * (coarser.t00 - finer.t00); }
template <class F> RG_FN F level_step(F first, F finer_rise, F coarser_rise) { return first + (coarser_rise - finer_rise); }

// Between two levels; the derivative with respect to f is finer's difference to coarser.
template <class F> RG_FN F between_levels(F finer, F coarser, F f) { return finer + f * (coarser - finer); }
// Gradient with respect to the coordinate, from the slopes of both levels and their sizes.
template <class F> RG_FN F coordinate_adjoint(F slope0, F size0, F slope1, F size1, F f) {
    return (F(1) - f) * (size0 * slope0) + f * (size1 * slope1);
}

// At the corner of a cube three texels meet; a fourth is made up as their average.
template <class F> RG_FN F average_of_three(F p, F q, F r) { return p + F(1.0 / 3.0) * ((q - p) + (r - p)); }
template <class F> RG_FN F average_of_three_adjoint(F g) { return F(1.0 / 3.0) * g; }  // to each of the three

// ---- smaller levels -------------------------------------------------------------------------------------------------------------

template <class F> RG_FN F average_of_four(F a, F b, F c, F d) { return F(0.25) * ((a + b) + (c + d)); }
template <class F> RG_FN F average_of_four_adjoint(F g) { return F(0.25) * g; }
template <class F> RG_FN F average_of_two(F a, F b) { return F(0.5) * (a + b); }
template <class F> RG_FN F average_of_two_adjoint(F g) { return F(0.5) * g; }

RG_END
