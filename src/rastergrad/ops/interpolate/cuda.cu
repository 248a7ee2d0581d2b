// SPDX-License-Identifier: MIT
// Interpolation on a GPU. Forward: a block takes 256 pixels in a row, each thread finds out what one of them sees, then all threads walk
// over the block's stretch of the output, whose elements lie one behind the other whatever the number of channels. Backward: a
// warp takes 8 x 4 pixels, which see few triangles, and adds up each triangle's share before it goes to memory.
#include "formulas.h"
#include "sums.h"
#include "triangle_id.h"
#include "warp_groups.h"

RG_BEGIN

constexpr int kPixels = 256;

struct ForwardArgs {
    const Real* attr;        // [images or 1][vertices][channels]
    const Real* rast;        // [images][pixels][4]
    const Real* rast_db;     // like rast, or null
    const int32_t* tri;      // [triangles][3]
    const int64_t* diff;     // [diff_count] channels with derivatives, -1 for none; null for all in order
    Real* out;               // [images][pixels][channels]
    Real* out_da;            // [images][pixels][2 diff_count]
    int64_t images, pixels, vertices, channels, triangles, diff_count;
    int64_t attr_image_stride;  // 0 where all images share one table
};

// The rows of its three corners in the attribute table; false where a pixel shows nothing that has attributes.
struct Rows { int64_t row[3]; };
RG_FN bool find_rows(Real id, const int32_t* tri, int64_t triangles, int64_t vertices, int64_t channels, Rows& rows) {
    const int64_t triangle = decode_id(id);
    if (triangle < 0 || triangle >= triangles) return false;
    bool inside = true;
    for (int k = 0; k < 3; k++) {
        const int64_t vertex = tri[3 * triangle + k];
        inside &= vertex >= 0 && vertex < vertices;
        rows.row[k] = vertex * channels;
    }
    return inside;
}

struct SeenPixel {
    int64_t row[3];  // row[0] is -1 at background
    Real u, v;
    Vec4<Real> slopes;
};

// `width` elements per pixel: body(pixel within the block, element within the pixel, offset within the block's stretch).
template <class Body> RG_FN void for_each_element(int64_t pixels, int64_t width, Body&& body) {
    if (width == 0) return;
    const int64_t count = pixels * width;
    const uint32_t wide = uint32_t(minimum(width, int64_t(kPixels) + 1));  // wider, and the quotients are 0 all the same
    const uint32_t whole = kPixels / wide;
    const int64_t rest = kPixels - whole * width;
    uint32_t pixel = threadIdx.x / wide;
    int64_t element = threadIdx.x - pixel * width;
    for (int64_t i = threadIdx.x; i < count; i += kPixels) {
        body(pixel, element, i);
        pixel += whole;
        element += rest;
        if (element >= width) { element -= width; pixel++; }
    }
}

RG_GLOBAL(interpolate_forward, kPixels, ForwardArgs, a) {
    RG_SHARED SeenPixel seen[kPixels];
    // Divisions of blocks and of a block's elements are of 32 bits: those of 64 take a hundred instructions.
    const uint32_t blocks = uint32_t((a.pixels + kPixels - 1) / kPixels);
    const int64_t image = blockIdx.x / blocks, begin = int64_t(blockIdx.x % blocks) * kPixels, count = minimum(a.pixels - begin, int64_t(kPixels));
    const int64_t first = image * a.pixels + begin;
    if (threadIdx.x < count) {
        const int64_t pixel = first + threadIdx.x;
        const Vec4<Real> fragment = load4(a.rast + 4 * pixel);
        SeenPixel& s = seen[threadIdx.x];
        Rows rows;
        const bool there = find_rows(fragment.w, a.tri, a.triangles, a.vertices, a.channels, rows);
        for (int k = 0; k < 3; k++) s.row[k] = there ? rows.row[k] + image * a.attr_image_stride : -1;
        s.u = fragment.x;
        s.v = fragment.y;
        if (there && a.diff_count) s.slopes = load4(a.rast_db + 4 * pixel);
    }
    __syncthreads();
    Real* const out = a.out + first * a.channels;
    for_each_element(count, a.channels, [&](int64_t pixel, int64_t channel, int64_t i) {
        const SeenPixel& s = seen[pixel];
        Real value(0);
        if (s.row[0] >= 0)
            value = attribute(slopes(a.attr[s.row[0] + channel], a.attr[s.row[1] + channel], a.attr[s.row[2] + channel]), s.u, s.v);
        out[i] = value;
    });
    Real* const out_da = a.out_da + first * 2 * a.diff_count;
    for_each_element(count, 2 * a.diff_count, [&](int64_t pixel, int64_t element, int64_t i) {
        const SeenPixel& s = seen[pixel];
        const int64_t entry = element >> 1, channel = a.diff ? a.diff[entry] : entry;
        Real value(0);
        if (s.row[0] >= 0 && channel >= 0) {
            const Slopes<Real> e = slopes(a.attr[s.row[0] + channel], a.attr[s.row[1] + channel], a.attr[s.row[2] + channel]);
            const bool along_y = element & 1;
            value = attribute_slope(e.e0, e.e1, along_y ? s.slopes.y : s.slopes.x, along_y ? s.slopes.w : s.slopes.z);
        }
        out_da[i] = value;
    });
}

struct BackwardArgs {
    const Real* attr;
    const Real* rast;
    const Real* rast_db;
    const int32_t* tri;
    const int64_t* diff;
    const Real* d_out;       // like out, or null: no gradient arrived
    const Real* d_out_da;    // like out_da, or null
    Sums<Real> d_attr;       // like attr, or null: not wanted
    Real* d_rast;            // like rast, or null
    Real* d_rast_db;         // like rast, or null
    int64_t images, height, width, vertices, channels, triangles, diff_count;
    int64_t attr_image_stride;
    int64_t by_four;         // channels are a multiple of four, all begins on 16 bytes, and upstream is d_out alone, or not in order
};

constexpr int kTileX = 32, kTileY = 8;  // of a block; of a warp: 8 x 4

RG_GLOBAL(interpolate_backward, 256, BackwardArgs, a) {
    const uint32_t tiles_x = uint32_t((a.width + kTileX - 1) / kTileX), tiles_y = uint32_t((a.height + kTileY - 1) / kTileY);
    const uint32_t row = blockIdx.x / tiles_x;
    const int64_t image = row / tiles_y;
    const int64_t x = int64_t(blockIdx.x - row * tiles_x) * kTileX + warp_number() % 4 * 8 + lane_number() % 8;
    const int64_t y = int64_t(row % tiles_y) * kTileY + warp_number() / 4 * 4 + lane_number() / 8;
    const bool in_image = x < a.width && y < a.height;
    const int64_t pixel = (image * a.height + y) * a.width + x;

    Vec4<Real> fragment{Real(0), Real(0), Real(0), Real(0)}, db = fragment;
    if (in_image) fragment = load4(a.rast + 4 * pixel);
    Rows rows;
    const bool there = in_image && find_rows(fragment.w, a.tri, a.triangles, a.vertices, a.channels, rows);
    Vec2<Real> d_uv{Real(0), Real(0)};
    Vec4<Real> d_db{Real(0), Real(0), Real(0), Real(0)};
    // The same in all lanes, as all collectives below want it.
    if (__any_sync(kWarp, there)) {
        const WarpGroups groups(there ? int64_t(decode_id(fragment.w)) : int64_t(-1));
        const Real u = fragment.x, v = fragment.y;
        const bool in_order = a.d_out_da && !a.diff;
        if (there && a.d_out_da) db = load4(a.rast_db + 4 * pixel);
        const Real* const attr = a.attr + image * a.attr_image_stride;

        const auto give = [&](int64_t channel, const Real (&d)[3]) {
            if (!a.d_attr.wanted()) return;
#pragma unroll
            for (int k = 0; k < 3; k++) {
                const Real total = groups.sum(d[k]);
                if (there && groups.leads()) a.d_attr.add(image * a.attr_image_stride + rows.row[k] + channel, total);
            }
        };
        const auto look = [&](int64_t channel) { return slopes(attr[rows.row[0] + channel], attr[rows.row[1] + channel], attr[rows.row[2] + channel]); };
        const auto take = [&](const Slopes<Real>& s, Real g, Real& d0, Real& d1, Real& d2) {
            attribute_adjoint(u, v, g, d0, d1, d2);
            barycentric_adjoint(s, g, d_uv.x, d_uv.y);
        };
        const auto take_pair = [&](const Slopes<Real>& s, int64_t entry, Real (&d)[3]) {
            const Real* const pair = a.d_out_da + (pixel * a.diff_count + entry) * 2;
            const Real p = pair[0], q = pair[1];
            attribute_slope_adjoint(db.x, db.z, p, d[0], d[1], d[2]);
            attribute_slope_adjoint(db.y, db.w, q, d[0], d[1], d[2]);
            barycentric_slope_adjoint(s.e0, s.e1, p, d_db.x, d_db.z);
            barycentric_slope_adjoint(s.e0, s.e1, q, d_db.y, d_db.w);
        };

        int64_t c = 0;
        if (a.by_four) {
            for (; c < a.channels; c += 4) {
                const Vec4<Real> none{Real(0), Real(0), Real(0), Real(0)};
                Vec4<Real> d[3] = {none, none, none};
                if (there) {
                    const Vec4<Real> g = load4(a.d_out + pixel * a.channels + c), a0 = load4(attr + rows.row[0] + c),
                                     a1 = load4(attr + rows.row[1] + c), a2 = load4(attr + rows.row[2] + c);
                    take(slopes(a0.x, a1.x, a2.x), g.x, d[0].x, d[1].x, d[2].x);
                    take(slopes(a0.y, a1.y, a2.y), g.y, d[0].y, d[1].y, d[2].y);
                    take(slopes(a0.z, a1.z, a2.z), g.z, d[0].z, d[1].z, d[2].z);
                    take(slopes(a0.w, a1.w, a2.w), g.w, d[0].w, d[1].w, d[2].w);
                }
                if (!a.d_attr.wanted()) continue;
#pragma unroll
                for (int k = 0; k < 3; k++) {
                    const Vec4<Real> total{groups.sum(d[k].x), groups.sum(d[k].y), groups.sum(d[k].z), groups.sum(d[k].w)};
                    if (there && groups.leads()) a.d_attr.add4(image * a.attr_image_stride + rows.row[k] + c, total);
                }
            }
        }
        for (; c < a.channels; c++) {
            Real d[3] = {Real(0), Real(0), Real(0)};
            if (there) {
                const Slopes<Real> s = look(c);
                if (a.d_out) take(s, a.d_out[pixel * a.channels + c], d[0], d[1], d[2]);
                if (in_order) take_pair(s, c, d);
            }
            give(c, d);
        }
        if (a.d_out_da && a.diff) {
            for (int64_t e = 0; e < a.diff_count; e++) {
                const int64_t c = a.diff[e];
                if (c < 0) continue;
                Real d[3] = {Real(0), Real(0), Real(0)};
                if (there) take_pair(look(c), e, d);
                give(c, d);
            }
        }
    }
    if (!in_image) return;
    if (a.d_rast) store4(a.d_rast + 4 * pixel, Vec4<Real>{d_uv.x, d_uv.y, Real(0), Real(0)});
    if (a.d_rast_db) store4(a.d_rast_db + 4 * pixel, d_db);
}

RG_END
