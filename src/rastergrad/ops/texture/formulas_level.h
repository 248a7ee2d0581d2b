// SPDX-License-Identifier: MIT
// Which mip level (docs/definition.md 4.2): the image of a pixel in the texture is an ellipse; its larger half axis, in texels of the base,
// is one texel of the wanted level. m is the larger eigenvalue of J J^T, J the 2x2 Jacobian of texels by pixels; level = log2(m) / 2.
#pragma once
#include "portable.h"

RG_BEGIN

// Derivatives of texture coordinates by pixels: columns of J.
template <class F> struct Derivatives { F s_x, s_y, t_x, t_y; };

template <class F> RG_FN Derivatives<F> in_texels(Derivatives<F> d, F width, F height) {
    return {width * d.s_x, width * d.s_y, height * d.t_x, height * d.t_y};
}

template <class F> struct Ellipse {
    F difference;  // (A - B) / 2
    F product;     // C
    F radius;      // sqrt(difference^2 + C^2): zero for a circle
    F major;       // (A + B) / 2 + radius
};
template <class F> RG_FN Ellipse<F> ellipse(Derivatives<F> d) {
    const F a = d.s_x * d.s_x + d.t_x * d.t_x, b = d.s_y * d.s_y + d.t_y * d.t_y;
    const F c = d.s_x * d.s_y + d.t_x * d.t_y;
    const F difference = F(0.5) * (a - b);
    const F radius = sqrt_of(difference * difference + c * c);
    return {difference, c, radius, F(0.5) * (a + b) + radius};
}

// No footprint at all is level -inf, which no bias lifts.
template <class F> RG_FN F level_of(F major) { return F(0.5) * log2_of(major); }
template <class F> RG_FN F level_in_range(F level, F top) {
    return minimum(maximum(level, F(0)), top);  // NaN becomes 0
}

// d level / d(ds/dX), ... of the derivatives in units of the whole texture; all four are zero where one is not finite, as for m = 0.
// A circle has one-sided derivatives only: their mean with `circular`, zero without (docs/definition.md 4.4).
template <class F> RG_FN Derivatives<F> level_adjoint(Derivatives<F> texels, Ellipse<F> e, F width, F height, bool circular) {
    const mask_of<F> round = e.radius == F(0);
    const F inverse = F(1) / e.radius;
    const F cosine = select(round, F(0), e.difference * inverse), sine = select(round, F(0), e.product * inverse);
    const F k = F(0.72134752044448170368) / e.major;  // 1 / (2 ln 2 m)
    const F ks = width * k, kt = height * k;
    const F along_x = F(1) + cosine, along_y = F(1) - cosine;
    const Derivatives<F> d = {ks * (texels.s_x * along_x + texels.s_y * sine), ks * (texels.s_y * along_y + texels.s_x * sine),
                              kt * (texels.t_x * along_x + texels.t_y * sine), kt * (texels.t_y * along_y + texels.t_x * sine)};
    mask_of<F> use = is_finite(d.s_x) & is_finite(d.s_y) & is_finite(d.t_x) & is_finite(d.t_y);
    if (!circular) use = use & (e.radius > F(0));
    return {select(use, d.s_x, F(0)), select(use, d.s_y, F(0)), select(use, d.t_x, F(0)), select(use, d.t_y, F(0))};
}

RG_END
