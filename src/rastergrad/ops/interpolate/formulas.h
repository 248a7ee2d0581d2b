// SPDX-License-Identifier: MIT
// Barycentric interpolation of attributes and of their image-space derivatives (Laine et al. 2020, section 3.3; docs/definition.md 3).
// a0, a1, a2 are an attribute at the three corners; u, v weigh the first two. F is one channel or several.
#pragma once
#include "portable.h"

RG_BEGIN

// The attribute relative to corner 2: a constant attribute then comes out exactly, whatever u and v round to.
template <class F> struct Slopes { F e0, e1, a2; };

template <class F> RG_FN Slopes<F> slopes(F a0, F a1, F a2) { return {a0 - a2, a1 - a2, a2}; }

// u a0 + v a1 + (1 - u - v) a2
template <class F> RG_FN F attribute(Slopes<F> s, F u, F v) { return s.a2 + u * s.e0 + v * s.e1; }

// Gradient at the corners for upstream g; the corners' shares add up to g. A zero one contributes nothing here and below, not even 0 x inf.
template <class F> RG_FN void attribute_adjoint(F u, F v, F g, F& d_a0, F& d_a1, F& d_a2) {
    const mask_of<F> silent = g == F(0);
    const F g0 = select(silent, F(0), u * g), g1 = select(silent, F(0), v * g);
    d_a0 += g0;
    d_a1 += g1;
    d_a2 += g - g0 - g1;
}
// Gradient with respect to (u, v), to be summed over channels.
template <class F> RG_FN void barycentric_adjoint(Slopes<F> s, F g, F& d_u, F& d_v) {
    const mask_of<F> silent = g == F(0);
    d_u += select(silent, F(0), g * s.e0);
    d_v += select(silent, F(0), g * s.e1);
}

// d attribute / dX from du/dX and dv/dX; the same for Y.
template <class F> RG_FN F attribute_slope(F e0, F e1, F u_x, F v_x) { return u_x * e0 + v_x * e1; }

// With upstream p for d/dX: gradient at the corners, ...
template <class F> RG_FN void attribute_slope_adjoint(F u_x, F v_x, F p, F& d_a0, F& d_a1, F& d_a2) {
    const mask_of<F> silent = p == F(0);
    const F g0 = select(silent, F(0), p * u_x), g1 = select(silent, F(0), p * v_x);
    d_a0 += g0;
    d_a1 += g1;
    d_a2 -= g0 + g1;
}
// ... and with respect to du/dX, dv/dX.
template <class F> RG_FN void barycentric_slope_adjoint(F e0, F e1, F p, F& d_u_x, F& d_v_x) {
    const mask_of<F> silent = p == F(0);
    d_u_x += select(silent, F(0), e0 * p);
    d_v_x += select(silent, F(0), e1 * p);
}

RG_END
