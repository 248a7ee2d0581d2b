// SPDX-License-Identifier: MIT
// Analytic antialiasing of visibility edges between two neighbouring pixels (Laine et al. 2020, section 3.5; docs/definition.md 5).
// F is one number, or a dual number in tests. Screen positions are in pixels. "Along" is the direction from one pixel of the pair to
// the other, "across" is perpendicular to it: x and y of a Vec2 for horizontal pairs, exchanged (see `turned`) for vertical ones.
#pragma once
#include "vec.h"

RG_BEGIN

// 5.3: x/w, y/w in pixels, relative to `origin`, which is itself relative to the centre of the image. half = (W/2, H/2).
// No clipping: a point behind the camera is mirrored, w = 0 gives an infinity or NaN.
template <class F> RG_FN Vec2<F> screen_position(F x, F y, F w, Vec2<F> half, Vec2<F> origin) {
    return {x / w * half.x - origin.x, y / w * half.y - origin.y};
}
// The gradient at (x, y, w); the one at z is zero.
template <class F> RG_FN void screen_position_adjoint(F x, F y, F w, Vec2<F> half, Vec2<F> d_p, F& d_x, F& d_y, F& d_w) {
    const F gx = half.x * d_p.x / w, gy = half.y * d_p.y / w;
    d_x += gx;
    d_y += gy;
    d_w -= (x * gx + y * gy) / w;
}

// Of a vertical pair: the same geometry with the axes exchanged.
template <class F> RG_FN Vec2<F> turned(Vec2<F> p) { return {p.y, p.x}; }

// Twice the signed area of a triangle.
template <class F> RG_FN F doubled_area(Vec2<F> p0, Vec2<F> p1, Vec2<F> p2) { return cross(p1 - p0, p2 - p0); }

// 5.4: whether the edge (p1, p2) is a silhouette: the triangle on its other side, whose third corner is `opposite`, lies on screen where
// the triangle itself lies, so that the surface folds over at this edge. `area` is the triangle's own. (A border edge always is.)
template <class F> RG_FN mask_of<F> folds(F area, Vec2<F> opposite, Vec2<F> p1, Vec2<F> p2) {
    return sign_bit(doubled_area(opposite, p1, p2)) == sign_bit(area);
}

// 5.5: whether an edge meets the line through the two pixel centres (across = 0), ...
template <class F> RG_FN mask_of<F> meets_line(Vec2<F> p1, Vec2<F> p2) { return sign_bit(p1.y) != sign_bit(p2.y); }
// ... where on it, ...
template <class F> RG_FN F crossing(Vec2<F> p1, Vec2<F> p2) { return p1.x - p1.y * (p2.x - p1.x) / (p2.y - p1.y); }
// ... and whether it is at least as steep as a diagonal.
template <class F> RG_FN mask_of<F> is_steep(Vec2<F> p1, Vec2<F> p2) { return abs_of(p2.y - p1.y) >= abs_of(p2.x - p1.x); }

// The edge through which the line from the chosen pixel toward its neighbour (side = +1 or -1 along) leaves the triangle, named by the
// corner opposite to it, and its distance; -1 if the line meets none. Equal distances: the first one.
template <class F> RG_FN int exit_edge(const Vec2<F> (&p)[3], F side, F& distance) {
    int edge = -1;
    for (int k = 0; k < 3; k++) {
        const Vec2<F> p1 = p[(k + 1) % 3], p2 = p[(k + 2) % 3];
        if (!meets_line(p1, p2)) continue;
        const F c = side * crossing(p1, p2);
        if (edge >= 0 && !(c > distance)) continue;
        if (!(c == c)) continue;
        edge = k;
        distance = c;
    }
    return edge;
}

// The crossing lies between the two centres, with a margin of 1/16 pixel for what rasterising has rounded. False for NaN.
template <class F> RG_FN mask_of<F> lies_between(F distance) { return (distance > F(-0.0625)) & (distance < F(1.0625)); }

// 5.6: how much of the pair's colour step goes over the pixel border, in [-1/2, 1/2]. Above 0 the first pixel of the pair takes it, else
// the second: at exactly 0 nothing moves, and the gradient is the one-sided one at the second pixel, whatever the sign of the zero.
template <class F> RG_FN F blend_weight(F distance, F side) {
    return side * (F(0.5) - minimum(maximum(distance, F(0.0)), F(1.0)));
}
template <class F> RG_FN mask_of<F> blends_first(F weight) { return weight > F(0.0); }
// A clamped crossing has no gradient.
template <class F> RG_FN mask_of<F> weight_moves(F weight) { return abs_of(weight) < F(0.5); }

// What the target pixel gains.
template <class F> RG_FN F blend(F weight, F color0, F color1) { return weight * (color1 - color0); }
// For upstream g at the target; a zero one contributes nothing, even where a colour is not finite.
template <class F> RG_FN void blend_adjoint(F weight, F color0, F color1, F g, F& d_weight, F& d_color0, F& d_color1) {
    const mask_of<F> silent = g == F(0.0);
    d_weight += select(silent, F(0.0), g * (color1 - color0));
    d_color0 -= select(silent, F(0.0), weight * g);
    d_color1 += select(silent, F(0.0), weight * g);
}

// 5.7: the crossing with its denominator kept away from zero. Gradients are those of this form: the weight is a constant minus it.
template <class F> RG_FN F steady_inverse(F height) { return F(1.0) / (height + F(1e-3) * sign_of(height)); }
template <class F> RG_FN F steady_crossing(Vec2<F> p1, Vec2<F> p2) {
    const Vec2<F> d = p2 - p1;
    return (p1.x * d.y - p1.y * d.x) * steady_inverse(d.y);
}
template <class F> RG_FN void steady_crossing_adjoint(Vec2<F> p1, Vec2<F> p2, F g, Vec2<F>& d_p1, Vec2<F>& d_p2) {
    const F slope = g * steady_inverse(p2.y - p1.y), along = steady_crossing(p1, p2);
    d_p1.x += slope * p2.y;
    d_p1.y += slope * (along - p2.x);
    d_p2.x -= slope * p1.y;
    d_p2.y -= slope * (along - p1.x);
}

RG_END
