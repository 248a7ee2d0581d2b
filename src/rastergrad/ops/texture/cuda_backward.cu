// SPDX-License-Identifier: MIT
// Gradients of texture lookups on a GPU. A thread per pixel: those of coordinates and levels are its own, those of texels are added to a
// buffer that holds all levels, with three channels padded to four so that a texel is one transaction. Pixels of a warp that look between the
// same four texels, as all do where a texture is magnified, add up theirs first. Then each texel of the base gathers what came to it and,
// through the averages, to the levels above it.
#include "cuda_lookup.h"
#include "sums.h"
#include "warp_groups.h"

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

// Where a pixel's gradients go in one level.
struct Receiver {
    int64_t first;  // texel of the image of that level; -1: nowhere
    Texels at;
};
RG_FN Receiver receiver_of(const BackwardArgs& a, int k, int64_t image, const Texels& at) {
    const Query& q = a.query;
    if (!a.d_levels.wanted() || a.offset[k] < 0) return {-1, at};
    return {a.offset[k] + (q.tex_images == 1 ? 0 : image * q.texels_at(k)), at};
}

// Equal for pixels that look between the same four texels. The first of them decides, and whether neighbours coincide at a clamped border;
// not so across the edges of a cube.
RG_FN int64_t group_key(const Query& q, const Receiver& to) {
    if (to.first < 0 || to.at.texel[0] < 0 || q.boundary == kCube) return -1 - lane_number();
    const int coincide = int(to.at.texel[1] == to.at.texel[0]) | int(to.at.texel[2] == to.at.texel[0]) << 1;
    return (to.first + int64_t(to.at.texel[0])) * 4 + coincide;
}

// Adds the gradients of the four texels, channels c to c + 3, for upstream g. Where a cube's corner has no texel, the three others share.
// Every lane of the warp calls it.
RG_FN void give(const BackwardArgs& a, const WarpGroups& groups, const Receiver& to, const Real (&g)[4], int64_t c) {
    const Query& q = a.query;
    Real rows[4][4];
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const Cell<Real> d = bilinear_adjoint(to.at.a, to.at.b, g[k]);
        rows[0][k] = groups.sum(d.t00);
        rows[1][k] = groups.sum(d.t10);
        rows[2][k] = groups.sum(d.t01);
        rows[3][k] = groups.sum(d.t11);
    }
    if (to.first < 0 || !groups.leads()) return;
    if (q.boundary == kCube) {
#pragma unroll
        for (int n = 0; n < 4; n++) {
            if (to.at.texel[n] >= 0) continue;
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
        if (to.at.texel[n] < 0) continue;
        const int64_t i = (to.first + int64_t(to.at.texel[n])) * a.stride + c;
        if (a.stride % 4 == 0) {
            a.d_levels.add4(i, Vec4<Real>{rows[n][0], rows[n][1], rows[n][2], rows[n][3]});
        } else {
#pragma unroll
            for (int k = 0; k < 4; k++)
                if (c + k < q.channels) a.d_levels.add(i + k, rows[n][k]);
        }
    }
}

RG_GLOBAL(texture_backward_nearest, 256, BackwardArgs, a) {
    const Query& q = a.query;
    const int64_t pixel = thread_number();
    const Real* const d_out = a.d_out + pixel * q.channels;
    bool active = false;
    if (pixel < q.images * q.pixels && q.shows(pixel))
        for (int64_t c = 0; c < q.channels; c++) active |= d_out[c] != Real(0);
    int64_t texel = -1;
    if (active) {
        const Place place = find_place(q, pixel);
        const int64_t image = q.tex_images == 1 ? 0 : pixel / q.pixels;
        const Whole found = place.valid ? find_nearest(q, place) : Whole(-1);
        if (found >= 0) texel = image * q.texels_at(0) + found;
    }
    const WarpGroups groups(texel >= 0 ? texel : int64_t(-1 - lane_number()));
    for (int64_t c = 0; c < q.channels; c++) {
        const Real total = groups.sum(texel >= 0 ? d_out[c] : Real(0));
        if (texel >= 0 && groups.leads()) a.d_levels.add(texel * a.stride + c, total);
    }
}

RG_GLOBAL_SHARING(texture_backward, 128, 3, BackwardArgs, a) {
    const Query& q = a.query;
    const int64_t pixel = thread_number(), axes = q.boundary == kCube ? 3 : 2;
    const bool inside = pixel < q.images * q.pixels;
    const Real zero(0);
    const Real* const d_out = a.d_out + pixel * q.channels;
    bool active = false;
    if (inside && q.shows(pixel))
        for (int64_t c = 0; c < q.channels; c++) active |= d_out[c] != zero;
    Place place{};
    if (active) {
        place = find_place(q, pixel);
        active = place.valid;
    }
    if (inside && !active) {
        for (int64_t k = 0; k < axes; k++)
            if (a.d_uv) a.d_uv[axes * pixel + k] = zero;
        for (int64_t k = 0; k < 2 * axes; k++)
            if (a.d_uv_da) a.d_uv_da[2 * axes * pixel + k] = zero;
        if (a.d_bias) a.d_bias[pixel] = zero;
    }
    // The same in all lanes, as sums over the warp want it.
    if (!__any_sync(kWarp, active)) return;
    Footprint h{};
    Receiver fine{-1, {}}, coarse{-1, {}};
    const int64_t image = !active || q.tex_images == 1 ? 0 : pixel / q.pixels;
    if (active) {
        if (q.filter >= kLinearMipmapNearest) h = find_footprint(q, place, pixel);
        fine = receiver_of(a, h.low, image, find_texels(q, place, h.low));
    }
    const bool mixed = h.f != zero, points = active && (a.d_uv || a.d_uv_da || a.d_bias);
    if (mixed) coarse = receiver_of(a, h.high, image, find_texels(q, place, h.high));
    const bool any_mixed = __any_sync(kWarp, mixed);
    const WarpGroups fine_groups(group_key(q, fine)), coarse_groups(group_key(q, coarse));
    Real slope_s = zero, slope_t = zero, coarser_s = zero, coarser_t = zero, step = zero;
    for (int64_t c = 0; c < q.channels; c += 4) {
        Real g[4], part[4], below[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            g[k] = active && c + k < q.channels ? d_out[c + k] : zero;
            part[k] = g[k] - h.f * g[k];
            below[k] = zero;
            if (!points || g[k] == zero) continue;
            const Cell<Real> t = cell_of(q, image_of(q, h.low, image), fine.at, c + k);
            slope_s += g[k] * bilinear_slope_s(t, fine.at.b);
            slope_t += g[k] * bilinear_slope_t(t, fine.at.a);
            below[k] = bilinear(t, fine.at.a, fine.at.b);
        }
        if (a.d_levels.wanted()) give(a, fine_groups, fine, part, c);
        if (!any_mixed) continue;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            part[k] = h.f * g[k];
            if (!points || !mixed || g[k] == zero) continue;
            const Cell<Real> t = cell_of(q, image_of(q, h.high, image), coarse.at, c + k);
            coarser_s += g[k] * bilinear_slope_s(t, coarse.at.b);
            coarser_t += g[k] * bilinear_slope_t(t, coarse.at.a);
            step += g[k] * (bilinear(t, coarse.at.a, coarse.at.b) - below[k]);
        }
        if (a.d_levels.wanted()) give(a, coarse_groups, coarse, part, c);
    }
    if (!active) return;

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
        const Real own = a.d_levels[(a.offset[k] + (plane * h + (y >> (k - 1))) * w + (x >> (k - 1))) * a.stride + c];
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
