// SPDX-License-Identifier: MIT
// What a pixel sees of its triangle: barycentrics, depth and their image-space derivatives, each followed by its adjoint (docs/definition.md
// 2.3 to 2.5). The homogeneous edge functions are those of Olano & Greer 1997; everything is taken relative to the pixel, where the
// numbers are as small as the triangle, so that float32 does not cancel.
// p0, p1, p2 are clip-space corners in input order; (fx, fy) is the pixel centre in normalised device coordinates.
#pragma once
#include "vec.h"

RG_BEGIN

// Corner k as seen from the pixel, A_k = twice the area opposite to it, and dA_k/dfx, dA_k/dfy, which are the same at all pixels.
template <class F> struct PixelAreas {
    Vec2<F> q[3];
    F area[3], per_x[3], per_y[3];
    F sum, sum_x, sum_y;
};

// The part of it that is the same along a row of pixels.
template <class F> struct RowAreas { F q_y[3], per_x[3], sum_x; };

template <class F> RG_FN RowAreas<F> row_areas(const Vec4<F> (&p)[3], F fy) {
    RowAreas<F> r;
    for (int k = 0; k < 3; k++) r.q_y[k] = p[k].y - fy * p[k].w;
    for (int k = 0; k < 3; k++) {
        const int j = (k + 1) % 3, l = (k + 2) % 3;
        r.per_x[k] = r.q_y[j] * p[l].w - r.q_y[l] * p[j].w;
    }
    r.sum_x = r.per_x[0] + r.per_x[1] + r.per_x[2];
    return r;
}

template <class F> RG_FN PixelAreas<F> pixel_areas(const Vec4<F> (&p)[3], const RowAreas<F>& row, F fx) {
    PixelAreas<F> r;
    for (int k = 0; k < 3; k++) r.q[k] = {p[k].x - fx * p[k].w, row.q_y[k]};
    for (int k = 0; k < 3; k++) {
        const int j = (k + 1) % 3, l = (k + 2) % 3;
        r.area[k] = cross(r.q[j], r.q[l]);
        r.per_x[k] = row.per_x[k];
        r.per_y[k] = p[j].w * r.q[l].x - p[l].w * r.q[j].x;
    }
    r.sum = r.area[0] + r.area[1] + r.area[2];
    r.sum_x = row.sum_x;
    r.sum_y = r.per_y[0] + r.per_y[1] + r.per_y[2];
    return r;
}
template <class F> RG_FN PixelAreas<F> pixel_areas(const Vec4<F> (&p)[3], F fx, F fy) { return pixel_areas(p, row_areas(p, fy), fx); }

// The areas at (dx, dy) from the pixel of `at`: those of one triangle S at many pixels F. `q` stays that of the pixel of `at`.
template <class F, class S> RG_FN PixelAreas<F> areas_at(const PixelAreas<S>& at, F dx, F dy) {
    PixelAreas<F> r;
    for (int k = 0; k < 3; k++) {
        r.per_x[k] = F(at.per_x[k]);
        r.per_y[k] = F(at.per_y[k]);
        r.area[k] = F(at.area[k]) + (dx * r.per_x[k] + dy * r.per_y[k]);
        r.q[k] = {F(at.q[k].x), F(at.q[k].y)};
    }
    r.sum = r.area[0] + r.area[1] + r.area[2];
    r.sum_x = F(at.sum_x);
    r.sum_y = F(at.sum_y);
    return r;
}

// Gradients of the nine numbers that all pixels of a triangle share: A_k(f) = area[k] + (f - reference).x per_x[k] + (f - reference).y per_y[k].
template <class F> struct AreaGradients { F area[3], per_x[3], per_y[3]; };

// Adds the gradients of the corners; q are the corners seen from the reference pixel (fx, fy).
template <class F>
RG_FN void corner_adjoint(const Vec4<F> (&p)[3], F fx, F fy, const AreaGradients<F>& d, Vec4<F> (&d_p)[3]) {
    Vec2<F> q[3], d_q[3];
    for (int k = 0; k < 3; k++) {
        q[k] = {p[k].x - fx * p[k].w, p[k].y - fy * p[k].w};
        d_q[k] = {F(0), F(0)};
    }
    for (int k = 0; k < 3; k++) {
        const int j = (k + 1) % 3, l = (k + 2) % 3;
        // area = q_j.x q_l.y - q_j.y q_l.x;  per_x = q_j.y w_l - q_l.y w_j;  per_y = w_j q_l.x - w_l q_j.x
        d_q[j].x += d.area[k] * q[l].y - d.per_y[k] * p[l].w;
        d_q[j].y += d.per_x[k] * p[l].w - d.area[k] * q[l].x;
        d_q[l].x += d.per_y[k] * p[j].w - d.area[k] * q[j].y;
        d_q[l].y += d.area[k] * q[j].x - d.per_x[k] * p[j].w;
        d_p[j].w += d.per_y[k] * q[l].x - d.per_x[k] * q[l].y;
        d_p[l].w += d.per_x[k] * q[j].y - d.per_y[k] * q[j].x;
    }
    for (int k = 0; k < 3; k++) {
        d_p[k].x += d_q[k].x;
        d_p[k].y += d_q[k].y;
        d_p[k].w -= fx * d_q[k].x + fy * d_q[k].y;
    }
}

// Perspective-correct weights of corners 0 and 1, kept inside the triangle; a NaN becomes 0.
template <class F> RG_FN Vec2<F> barycentrics(const PixelAreas<F>& r, F inverse_sum) {
    const F u = minimum(maximum(r.area[0] * inverse_sum, F(0)), F(1)), v = minimum(maximum(r.area[1] * inverse_sum, F(0)), F(1));
    const F excess = u + v;
    if (!any(excess > F(1))) return {u, v};
    const F whole = maximum(excess, F(1));
    return {u / whole, v / whole};
}

// du/dX, du/dY, dv/dX, dv/dY of the pixel for pixels of size (step_x, step_y).
template <class F> struct Slopes { F u_x, u_y, v_x, v_y; };

template <class F> RG_FN Slopes<F> barycentric_slopes(const PixelAreas<F>& r, F inverse_sum, Vec2<F> uv, F step_x, F step_y) {
    const F kx = step_x * inverse_sum, ky = step_y * inverse_sum;
    return {kx * (r.per_x[0] - uv.x * r.sum_x), ky * (r.per_y[0] - uv.x * r.sum_y),
            kx * (r.per_x[1] - uv.y * r.sum_x), ky * (r.per_y[1] - uv.y * r.sum_y)};
}

// The sum of areas with the stabiliser that keeps gradients of edge-on triangles finite.
template <class F> RG_FN F stabilised(F sum) { return sum + F(1e-6) * sign_of(sum); }

// Whether the pixel centre lies in the triangle, edges included: no two areas differ in sign, and not all are zero. Coverage is decided
// on snapped corners, so it may not; u, v and z/w are then extrapolated, on a sliver without bound, and so are their gradients.
// A NaN decides nothing: an overflow stays visible.
// How sharp: (fx, fy), q and the products are rounded, so in float32 centres nearer to an edge than 2^-23 of the image's side (0.0001
// pixel at 1024) may fall on either side of it; in float64 2^-52. With corners 10 half images away, twice that (measured).
template <class F> RG_FN mask_of<F> lies_inside(const PixelAreas<F>& r) {
    const F zero(0);
    const mask_of<F> negative = (r.area[0] < zero) | (r.area[1] < zero) | (r.area[2] < zero);
    const mask_of<F> positive = (r.area[0] > zero) | (r.area[1] > zero) | (r.area[2] > zero);
    return (negative ^ positive) | (r.sum != r.sum);
}

// What a fragment depends on: four planes over the image, of areas 0 and 1, of the sum of areas and of z/w, in this order. Gradients of their
// values at a reference pixel and of their slopes, which are sums over the pixels of a triangle.
template <class F> struct PlaneGradients { Vec4<F> at, per_x, per_y; };

// Gradients at the pixel itself from upstream g of the barycentrics. Clamping is not gated.
template <class F> RG_FN PlaneGradients<F> barycentrics_adjoint(const PixelAreas<F>& r, Vec2<F> g) {
    const F inverse = F(1) / stabilised(r.sum), zero(0);
    const F alpha = g.x * inverse, beta = g.y * inverse;
    const F gamma = alpha * (r.area[0] * inverse) + beta * (r.area[1] * inverse);
    return {{alpha, beta, zero - gamma, zero}, {zero, zero, zero, zero}, {zero, zero, zero, zero}};
}
// The same from upstream g of the slopes and g_uv of the barycentrics: slopes depend on these, too.
template <class F>
RG_FN PlaneGradients<F> barycentric_slopes_adjoint(const PixelAreas<F>& r, Vec2<F> g_uv, Slopes<F> g, F step_x, F step_y) {
    const F inverse = F(1) / stabilised(r.sum), zero(0);
    const F u = r.area[0] * inverse, v = r.area[1] * inverse, kx = step_x * inverse, ky = step_y * inverse;
    const F h1 = g.u_x * kx, h2 = g.u_y * ky, h3 = g.v_x * kx, h4 = g.v_y * ky;
    const F m_x = h1 * u + h3 * v, m_y = h2 * u + h4 * v;
    PlaneGradients<F> d = barycentrics_adjoint(r, {g_uv.x - (h1 * r.sum_x + h2 * r.sum_y), g_uv.y - (h3 * r.sum_x + h4 * r.sum_y)});
    d.at.z += ((r.sum_x * m_x + r.sum_y * m_y) - (h1 * r.per_x[0] + h2 * r.per_y[0] + h3 * r.per_x[1] + h4 * r.per_y[1])) * inverse;
    d.per_x = {h1, h3, zero - m_x, zero};
    d.per_y = {h2, h4, zero - m_y, zero};
    return d;
}
// From a pixel to the reference pixel, from which it lies (dx, dy) away.
template <class F> RG_FN PlaneGradients<F> referred(const PlaneGradients<F>& d, F dx, F dy) {
    return {d.at, d.per_x + dx * d.at, d.per_y + dy * d.at};
}

// z/w of the triangle's plane at the pixel, before clamping: linear on the screen.
template <class F> struct PlaneDepth { F ratio, inverse_w; };

template <class F> RG_FN PlaneDepth<F> plane_depth(const PixelAreas<F>& r, const Vec4<F> (&p)[3]) {
    const F z = r.area[0] * p[0].z + r.area[1] * p[1].z + r.area[2] * p[2].z;
    const F w = r.area[0] * p[0].w + r.area[1] * p[1].w + r.area[2] * p[2].w;
    const F inverse = F(1) / w;
    return {z * inverse, inverse};
}
template <class F> RG_FN F clamped_depth(F ratio) { return minimum(maximum(ratio, F(-1)), F(1)); }

// What a pixel sees of a triangle.
template <class F> struct Fragment { Vec2<F> uv; F depth; Slopes<F> slopes; };

template <class F> RG_FN Fragment<F> fragment(const PixelAreas<F>& r, const Vec4<F> (&p)[3], F step_x, F step_y) {
    const F inverse_sum = F(1) / r.sum;
    const Vec2<F> uv = barycentrics(r, inverse_sum);
    return {uv, clamped_depth(plane_depth(r, p).ratio), barycentric_slopes(r, inverse_sum, uv, step_x, step_y)};
}

// The centre of a pixel column or row in normalised device coordinates, as step i + first.
template <class S> RG_FN S pixel_step(S side) { return S(2) / side; }
template <class S> RG_FN S first_centre(S side) { return S(1) / side - S(1); }

// Adds the gradients that g of the plane of z/w brings to areas and to z and w of the corners; r are the areas at the reference pixel.
// Relative to the depth there: corners of z near w would cancel. A zero g contributes nothing, not even 0 x inf.
template <class F>
RG_FN void plane_depth_adjoint(const PixelAreas<F>& r, const Vec4<F> (&p)[3], Vec3<F> g, AreaGradients<F>& d, Vec4<F> (&d_p)[3]) {
    const PlaneDepth<F> depth = plane_depth(r, p);
    const mask_of<F> silent = (g.x == F(0)) & (g.y == F(0)) & (g.z == F(0));
    const F inverse = select(silent, F(0), depth.inverse_w), ratio = select(silent, F(0), depth.ratio);
    const Vec3<F> h = inverse * g;
    F z[3], along_x(0), along_y(0);
    for (int k = 0; k < 3; k++) {
        z[k] = p[k].z - ratio * p[k].w;
        along_x += r.per_x[k] * z[k];
        along_y += r.per_y[k] * z[k];
    }
    const F d_whole = F(0) - (h.y * along_x + h.z * along_y) * inverse;  // of w, the sum over the areas, which is the same at all pixels
    for (int k = 0; k < 3; k++) {
        d.area[k] += h.x * z[k] + d_whole * p[k].w;
        d.per_x[k] += h.y * z[k];
        d.per_y[k] += h.z * z[k];
        const F d_z = h.x * r.area[k] + h.y * r.per_x[k] + h.z * r.per_y[k];
        d_p[k].z += d_z;
        d_p[k].w += d_whole * r.area[k] - ratio * d_z;
    }
}

// Adds the gradients of the corners from those of the planes, whose reference pixel is (fx, fy).
template <class F>
RG_FN void planes_adjoint(const Vec4<F> (&p)[3], F fx, F fy, const PlaneGradients<F>& g, bool depth, Vec4<F> (&d_p)[3]) {
    AreaGradients<F> d{{g.at.x + g.at.z, g.at.y + g.at.z, g.at.z},
                       {g.per_x.x + g.per_x.z, g.per_x.y + g.per_x.z, g.per_x.z},
                       {g.per_y.x + g.per_y.z, g.per_y.y + g.per_y.z, g.per_y.z}};
    if (depth) plane_depth_adjoint(pixel_areas(p, fx, fy), p, Vec3<F>{g.at.w, g.per_x.w, g.per_y.w}, d, d_p);
    corner_adjoint(p, fx, fy, d, d_p);
}

RG_END
