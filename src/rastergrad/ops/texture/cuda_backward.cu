// SPDX-License-Identifier: MIT
// Gradients of texture lookups on a GPU. A thread per pixel: those of coordinates and levels are its own, those of texels are added to a
// buffer that holds all levels, with three channels padded to four so that a texel is one transaction. Then each texel of the base gathers
// what came to it and, through the averages, to the levels above it.
#include "cuda_lookup.h"
#include "sums.h"

RG_BEGIN

struct BackwardArgs {
    Query query;
    const Real* d_out;            // like out
    Sums<Real> d_levels;          // [all texels of all levels][stride], or null: not wanted
    int64_t stride;               // channels, or four for three of them
    Real* d_uv;                   // like uv, or null
    Real* d_uv_da;                // like uv_da, or null
    Real* d_bias;                 // like bias, or null
    int64_t offset[kMostLevels];  // texels before each level in d_levels; -1 where its gradient is not wanted
};

RG_FN Vec3<Real> zero_unless_finite(Vec3<Real> v) {
    return is_finite(v.x) && is_finite(v.y) && is_finite(v.z) ? v : Vec3<Real>{Real(0), Real(0), Real(0)};
}

// Where a level's gradients go; null if nowhere.
struct Receiver {
    const Sums<Real>& sums;
    int64_t first, stride;  // elements
    bool wanted;
};
RG_FN Receiver receiver_of(const BackwardArgs& a, int k, int64_t image) {
    const Query& q = a.query;
    const bool wanted = a.d_levels.wanted() && a.offset[k] >= 0;
    return {a.d_levels, (a.offset[k] + (q.tex_images == 1 ? 0 : image * q.texels_at(k))) * a.stride, a.stride, wanted};
}

// Gradients of four texels, `count` channels from c on. Where a cube's corner has no texel, the three others share.
RG_FN void give(const Query& q, const Receiver& to, const Texels& at, const Cell<Real> (&d)[4], int64_t c, int count) {
    Real rows[4][4];
#pragma unroll
    for (int k = 0; k < 4; k++) {
        rows[0][k] = d[k].t00;
        rows[1][k] = d[k].t10;
        rows[2][k] = d[k].t01;
        rows[3][k] = d[k].t11;
    }
    if (q.boundary == kCube) {
#pragma unroll
        for (int n = 0; n < 4; n++) {
            if (at.texel[n] >= 0) continue;
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const Real share = average_of_three_adjoint(rows[n][k]);
#pragma unroll
                for (int m = 0; m < 4; m++)
                    if (m != n) rows[m][k] += share;
            }
        }
    }
#pragma unroll
    for (int n = 0; n < 4; n++) {
        if (at.texel[n] < 0) continue;
        const int64_t i = to.first + int64_t(at.texel[n]) * to.stride + c;
        if (to.stride % 4 == 0) {
            to.sums.add4(i, Vec4<Real>{rows[n][0], rows[n][1], rows[n][2], rows[n][3]});
        } else {
#pragma unroll
            for (int k = 0; k < 4; k++)
                if (k < count) to.sums.add(i + k, rows[n][k]);
        }
    }
}

RG_GLOBAL(texture_backward, 256, BackwardArgs, a) {
    const Query& q = a.query;
    const int64_t pixel = thread_number();
    if (pixel >= q.images * q.pixels) return;
    const Real zero(0);
    const int64_t axes = q.boundary == kCube ? 3 : 2;
    const Real* const d_out = a.d_out + pixel * q.channels;
    bool active = false;
    for (int64_t c = 0; c < q.channels; c++) active |= d_out[c] != zero;
    Place place{};
    if (active) {
        place = find_place(q, pixel);
        active = place.valid;
    }
    if (!active) {
        for (int64_t k = 0; k < axes; k++)
            if (a.d_uv) a.d_uv[axes * pixel + k] = zero;
        for (int64_t k = 0; k < 2 * axes; k++)
            if (a.d_uv_da) a.d_uv_da[2 * axes * pixel + k] = zero;
        if (a.d_bias) a.d_bias[pixel] = zero;
        return;
    }
    const int64_t image = q.tex_images == 1 ? 0 : pixel / q.pixels;
    if (q.filter == kNearest) {
        const Receiver to = receiver_of(a, 0, image);
        const Whole texel = find_nearest(q, place);
        if (to.wanted && texel >= 0)
            for (int64_t c = 0; c < q.channels; c++) a.d_levels.add(to.first + int64_t(texel) * to.stride + c, d_out[c]);
        return;
    }
    Footprint h{};
    if (q.filter >= kLinearMipmapNearest) h = find_footprint(q, place, pixel);
    const bool mixed = h.f != zero;
    const Real *const fine = image_of(q, h.low, image), *const coarse = image_of(q, h.high, image);
    const Receiver to_fine = receiver_of(a, h.low, image), to_coarse = receiver_of(a, h.high, image);
    const Texels at = find_texels(q, place, h.low);
    Texels above = at;
    if (mixed) above = find_texels(q, place, h.high);
    const bool points = a.d_uv || a.d_uv_da || a.d_bias;
    Real slope_s = zero, slope_t = zero, coarser_s = zero, coarser_t = zero, step = zero;
    for (int64_t c = 0; c < q.channels; c += 4) {
        const int count = int(minimum(q.channels - c, int64_t(4)));
        Cell<Real> d_fine[4], d_coarse[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const Real g = k < count ? d_out[c + k] : zero, to_upper = h.f * g;
            d_fine[k] = bilinear_adjoint(at.a, at.b, g - to_upper);
            d_coarse[k] = bilinear_adjoint(above.a, above.b, to_upper);
            if (!points || g == zero) continue;
            const Cell<Real> t = cell_of(q, fine, at, c + k);
            slope_s += g * bilinear_slope_s(t, at.b);
            slope_t += g * bilinear_slope_t(t, at.a);
            if (!mixed) continue;
            const Cell<Real> u = cell_of(q, coarse, above, c + k);
            coarser_s += g * bilinear_slope_s(u, above.b);
            coarser_t += g * bilinear_slope_t(u, above.a);
            step += g * (bilinear(u, above.a, above.b) - bilinear(t, at.a, at.b));
        }
        if (to_fine.wanted) give(q, to_fine, at, d_fine, c, count);
        if (to_coarse.wanted && mixed) give(q, to_coarse, above, d_coarse, c, count);
    }

    if (a.d_bias) a.d_bias[pixel] = step;
    Derivatives<Real> d_slopes{zero, zero, zero, zero};
    const bool cube = q.boundary == kCube;
    if (q.filter == kLinearMipmapLinear && q.uv_da && (a.d_uv_da || (a.d_uv && cube))) {
        const Derivatives<Real> d = level_adjoint(h.texels, h.ellipse, Real(q.width), Real(q.height), q.circular != 0);
        d_slopes = {step * d.s_x, step * d.s_y, step * d.t_x, step * d.t_y};
    }
    if (a.d_uv_da) {
        if (cube) {
            const FaceDerivatives<Real> d = face_derivatives_adjoint(place.cube, d_slopes);
            const Vec3<Real> x = out_of_face(place.cube.face, d.x), y = out_of_face(place.cube.face, d.y);
            Real* const to = a.d_uv_da + 6 * pixel;
            to[0] = x.x;
            to[1] = y.x;
            to[2] = x.y;
            to[3] = y.y;
            to[4] = x.z;
            to[5] = y.z;
        } else {
            store4(a.d_uv_da + 4 * pixel, Vec4<Real>{d_slopes.s_x, d_slopes.s_y, d_slopes.t_x, d_slopes.t_y});
        }
    }
    if (!a.d_uv) return;
    const Real d_s = coordinate_adjoint(slope_s, Real(q.width_at(h.low)), coarser_s, Real(q.width_at(h.high)), h.f);
    const Real d_t = coordinate_adjoint(slope_t, Real(q.height_at(h.low)), coarser_t, Real(q.height_at(h.high)), h.f);
    if (!cube) {
        a.d_uv[2 * pixel] = d_s;
        a.d_uv[2 * pixel + 1] = d_t;
        return;
    }
    Vec3<Real> d = zero_unless_finite(face_coordinate_adjoint(place.cube, d_s, d_t));
    if (q.filter == kLinearMipmapLinear && q.uv_da) d = d + zero_unless_finite(face_derivatives_point_adjoint(place.cube, h.face, d_slopes));
    d = out_of_face(place.cube.face, d);
    a.d_uv[3 * pixel] = d.x;
    a.d_uv[3 * pixel + 1] = d.y;
    a.d_uv[3 * pixel + 2] = d.z;
}

struct GatherArgs {
    const Real* d_levels;         // [all texels of all levels][stride]
    Real* d_tex;                  // [texels of the base][channels]
    int64_t planes, height, width, channels, stride, depth;
    int64_t offset[kMostLevels];  // texels before each level
};

// A thread takes one channel of the texels of the base that share a texel of level 1: at most four. From the top down, each level hands what
// it has to the next one.
RG_GLOBAL(texture_gather, 256, GatherArgs, a) {
    const int64_t height = maximum(a.height / 2, int64_t(1)), width = maximum(a.width / 2, int64_t(1));
    const int64_t item = thread_number(), cell = item / a.channels, c = item - cell * a.channels;
    if (cell >= a.planes * height * width) return;
    const int64_t row = cell / width, x = cell - row * width, plane = row / height, y = row - plane * height;
    // What came to the texel over (x, y) of level 1, level by level.
    Real d(0);
    for (int k = int(a.depth); k >= 1; k--) {
        const int64_t h = maximum(a.height >> k, int64_t(1)), w = maximum(a.width >> k, int64_t(1));
        const int64_t i = minimum(x >> (k - 1), w - 1), j = minimum(y >> (k - 1), h - 1);
        const Real own = a.d_levels[(a.offset[k] + (plane * h + j) * w + i) * a.stride + c];
        // Texels of level k that the average above took: four, or two along a side that is down to one.
        const bool both = (a.height >> k) > 1 && (a.width >> k) > 1;
        d = k == int(a.depth) ? own : own + (both ? average_of_four_adjoint(d) : average_of_two_adjoint(d));
    }
    const bool halve_rows = a.height > 1, halve_columns = a.width > 1;
    const Real share = halve_rows && halve_columns ? average_of_four_adjoint(d) : average_of_two_adjoint(d);
    for (int64_t j = 0; j < (halve_rows ? 2 : 1); j++)
        for (int64_t i = 0; i < (halve_columns ? 2 : 1); i++) {
            const int64_t texel = (plane * a.height + (halve_rows ? 2 * y : 0) + j) * a.width + (halve_columns ? 2 * x : 0) + i;
            a.d_tex[texel * a.channels + c] = a.d_levels[(a.offset[0] + texel) * a.stride + c] + share;
        }
}

struct CompactArgs {
    const Real* padded;  // [texels][stride]
    Real* to;            // [texels][channels]
    int64_t texels, stride, channels;
};
RG_GLOBAL(texture_compact, 256, CompactArgs, a) {
    const int64_t i = thread_number(), texel = i / a.channels;
    if (texel < a.texels) a.to[i] = a.padded[texel * a.stride + i - texel * a.channels];
}

RG_END
