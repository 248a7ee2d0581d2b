// SPDX-License-Identifier: MIT
// Gradients of coordinates and levels: what the colours of 16 pixels say about them, summed over channels, and where that goes.
#pragma once
#include "cpu_cells.h"

RG_BEGIN

// Sums over channels of upstream gradient times slope, of 16 pixels.
template <class T> struct PointSums {
    Lanes<T> slope_s, slope_t;      // in the finer level, or the only one
    Lanes<T> coarser_s, coarser_t;  // in the coarser one
    Lanes<T> step;                  // times the difference of the two
};

template <class T> RG_FN Lanes<T> only(unsigned lanes, Lanes<T> x) { return select(mask_from_bits<Index<T>>(lanes), x, Lanes<T>(T(0))); }
template <class T> RG_FN Vec3<Lanes<T>> zero_unless_finite(Vec3<Lanes<T>> v) {
    const auto use = is_finite(v.x) & is_finite(v.y) & is_finite(v.z);
    const Lanes<T> zero(T(0));
    return {select(use, v.x, zero), select(use, v.y, zero), select(use, v.z, zero)};
}

template <class T> RG_FN void clear_rows(T* to, int64_t width, int64_t first, int count, bool stream) {
    if (!to) return;
    to += width * first;
    if (stream) stream_zeros(reinterpret_cast<char*>(to), size_t(width * count) * sizeof(T));
    else if (count == kLanes)
        for (int64_t k = 0; k < width; k++) Lanes<T>(T(0)).store(to + k * kLanes);
    else
        for (int64_t k = 0; k < width * count; k++) to[k] = 0;
}
// Those of pixels that nothing depends on.
template <class T> RG_FN void clear_point_gradients(const BackwardArgs<T>& a, int64_t first, int count, bool stream) {
    const int64_t axes = a.query.boundary == kCube ? 3 : 2;
    clear_rows(a.d_uv, axes, first, count, stream);
    clear_rows(a.d_uv_da, 2 * axes, first, count, stream);
    clear_rows(a.d_bias, 1, first, count, stream);
}

// Gradients of uv, uv_da and bias for 16 pixels from the sums over channels.
template <class T>
__attribute__((noinline)) void store_point_gradients(const BackwardArgs<T>& a, const Levels<T>& levels, const Group<T>& g, const PointSums<T>& sums, unsigned active, int64_t first, int count, bool stream) {
    using F = Lanes<T>;
    const Query<T>& q = a.query;
    const bool mixed = q.filter == kLinearMipmapLinear, mipmapped = q.filter >= kLinearMipmapNearest, cube = q.boundary == kCube;
    const F zero(T(0));
    const F step = mixed ? sums.step : zero;
    if (a.d_bias) {
        const F d_bias[1] = {step};
        store_rows(d_bias, count, stream, a.d_bias + first);
    }
    Derivatives<F> d_slopes = {zero, zero, zero, zero};
    if (mixed && q.uv_da && (a.d_uv_da || (a.d_uv && cube))) {
        const Derivatives<F> d = level_adjoint(g.slopes.texels, g.slopes.ellipse, F(levels.widths[0]), F(levels.heights[0]), q.circular != 0);
        d_slopes = {step * d.s_x, step * d.s_y, step * d.t_x, step * d.t_y};
    }
    if (a.d_uv_da) {
        if (cube) {
            const FaceDerivatives<F> d = face_derivatives_adjoint(g.place.cube, d_slopes);
            const Vec3<F> x = out_of_face(g.place.cube.face, d.x), y = out_of_face(g.place.cube.face, d.y);
            const F rows[6] = {only(active, x.x), only(active, y.x), only(active, x.y), only(active, y.y), only(active, x.z), only(active, y.z)};
            store_rows(rows, count, stream, a.d_uv_da + 6 * first);
        } else {
            const F rows[4] = {d_slopes.s_x, d_slopes.s_y, d_slopes.t_x, d_slopes.t_y};
            store_rows(rows, count, stream, a.d_uv_da + 4 * first);
        }
    }
    if (!a.d_uv) return;
    F d_s, d_t;
    if (mixed) {
        const Heights<T>& h = g.heights;
        const F f = F::load(h.f);
        d_s = coordinate_adjoint(sums.slope_s, sizes_at(q.width, levels.widths, h.low, h.uniform), sums.coarser_s,
                                 sizes_at(q.width, levels.widths, h.high, h.uniform), f);
        d_t = coordinate_adjoint(sums.slope_t, sizes_at(q.height, levels.heights, h.low, h.uniform), sums.coarser_t,
                                 sizes_at(q.height, levels.heights, h.high, h.uniform), f);
    } else {
        const Heights<T>& h = g.heights;
        d_s = sums.slope_s * (mipmapped ? sizes_at(q.width, levels.widths, h.low, h.uniform) : F(levels.widths[0]));
        d_t = sums.slope_t * (mipmapped ? sizes_at(q.height, levels.heights, h.low, h.uniform) : F(levels.heights[0]));
    }
    if (!cube) {
        const F rows[2] = {d_s, d_t};
        store_rows(rows, count, stream, a.d_uv + 2 * first);
        return;
    }
    Vec3<F> d = zero_unless_finite(face_coordinate_adjoint(g.place.cube, d_s, d_t));
    if (mixed && q.uv_da) d = d + zero_unless_finite(face_derivatives_point_adjoint(g.place.cube, g.slopes.face, d_slopes));
    d = out_of_face(g.place.cube.face, d);
    const F rows[3] = {only(active, d.x), only(active, d.y), only(active, d.z)};
    store_rows(rows, count, stream, a.d_uv + 3 * first);
}

RG_END
