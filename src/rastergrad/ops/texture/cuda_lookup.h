// SPDX-License-Identifier: MIT
// From the coordinates of a pixel to levels, texels and colours, one pixel at a time, for the GPU's forward and backward kernels.
#pragma once
#include "device.h"
#include "formulas.h"
#include "formulas_cube.h"
#include "formulas_level.h"
#include "triangle_id.h"

RG_BEGIN

enum Filter : int64_t { kNearest, kLinear, kLinearMipmapNearest, kLinearMipmapLinear };
enum Boundary : int64_t { kWrap, kClamp, kZero, kCube };

constexpr int kMostLevels = 25;  // the base included: sides are at most 2^24

struct Query {
    const Real* uv;         // [images][pixels][2], cube: 3
    const Real* uv_da;      // [images][pixels][4], cube: 6; or null
    const Real* bias;       // [images][pixels], or null
    const Real* rast;       // [images][pixels][4], fragments; or null: every pixel shows a triangle
    int64_t images, pixels;
    int64_t tex_images, height, width, channels;
    int64_t depth;          // levels above the base
    int64_t filter, boundary;
    int64_t circular;       // 1: the symmetric limit for circular footprints
    int64_t by_four;        // channels are a multiple of four, and all levels and outputs begin on 16 bytes
    const Real* level[kMostLevels];  // each [tex_images][faces][h][w][channels]

    RG_FN bool shows(int64_t pixel) const { return !rast || is_triangle(rast[4 * pixel + 3]); }
    RG_FN int64_t faces() const { return boundary == kCube ? 6 : 1; }
    RG_FN int64_t width_at(int k) const { return maximum(width >> k, int64_t(1)); }
    RG_FN int64_t height_at(int k) const { return maximum(height >> k, int64_t(1)); }
    // Texels of one image of a level.
    RG_FN int64_t texels_at(int k) const { return faces() * height_at(k) * width_at(k); }
};

using Whole = whole_of<Real>;

// The four texels around a point, numbered within an image of their level; -1: no such texel. With nearest filtering only the first.
struct Texels {
    Whole texel[4];
    Real a, b;
};

struct Place {
    Real s, t;
    CubePoint<Real> cube;
    bool valid;
};

RG_FN Place find_place(const Query& q, int64_t pixel) {
    Place p{};
    p.valid = true;
    if (q.boundary == kCube) {
        const Real* d = q.uv + 3 * pixel;
        p.cube = cube_point(Vec3<Real>{d[0], d[1], d[2]});
        p.s = face_coordinate(p.cube.p);
        p.t = face_coordinate(p.cube.q);
        p.valid = p.cube.valid;
        return p;
    }
    const Real s = q.uv[2 * pixel], t = q.uv[2 * pixel + 1];
    p.s = q.boundary == kWrap ? wrapped(s) : s;
    p.t = q.boundary == kWrap ? wrapped(t) : t;
    return p;
}

RG_FN Whole find_nearest(const Query& q, const Place& p) {
    const Real width = Real(q.width), height = Real(q.height);
    const auto column = nearest_texel(p.s, width), row = nearest_texel(p.t, height);
    if (q.boundary == kZero && !(column.inside && row.inside)) return -1;
    const Whole face = q.boundary == kCube ? whole(face_number(p.cube.face)) : Whole(0);
    return (face * Whole(q.height) + row.index) * Whole(q.width) + column.index;
}

// Out of line, as it is long, rare, and asked for eight times.
RG_OUT_OF_LINE CubeTexel<Real> beyond_edge(CubeFace<Real> face, Real i, Real j, Real size) { return across_edge(face, i, j, size); }

RG_FN Texels find_texels(const Query& q, const Place& p, int k) {
    const Real width = Real(q.width_at(k)), height = Real(q.height_at(k));
    Neighbours<Real> c, r;
    switch (q.boundary) {
        case kWrap: c = neighbours_wrap(p.s, width); r = neighbours_wrap(p.t, height); break;
        case kClamp: c = neighbours_clamp(p.s, width); r = neighbours_clamp(p.t, height); break;
        case kZero: c = neighbours_zero(p.s, width); r = neighbours_zero(p.t, height); break;
        default: c = neighbours_cube(p.s, width); r = neighbours_cube(p.t, height); break;
    }
    Texels found;
    found.a = c.fraction;
    found.b = r.fraction;
    const bool cube = q.boundary == kCube;
#pragma unroll
    for (int n = 0; n < 4; n++) {
        const Real i = n & 1 ? c.high : c.low, j = n >> 1 ? r.high : r.low;
        Real face = cube ? face_number(p.cube.face) : Real(0), at_i = i, at_j = j;
        bool there = true;
        if (q.boundary >= kZero) {
            const bool in_columns = on_axis(i, width), in_rows = on_axis(j, height);
            there = cube ? in_columns || in_rows : in_columns && in_rows;
            if (cube && !(in_columns && in_rows)) {
                const CubeTexel<Real> across = beyond_edge(p.cube.face, i, j, width);
                face = across.face;
                at_i = across.i;
                at_j = across.j;
            }
            at_i = clamped(at_i, Real(0), width - Real(1));
            at_j = clamped(at_j, Real(0), height - Real(1));
        }
        const Whole texel = (whole(face) * Whole(q.height_at(k)) + whole(at_j)) * Whole(q.width_at(k)) + whole(at_i);
        found.texel[n] = there ? texel : Whole(-1);
    }
    return found;
}

// The level of a pixel, and what its gradient needs.
struct Footprint {
    Derivatives<Real> texels;
    Ellipse<Real> ellipse;
    FaceDerivatives<Real> face;
    int low, high;
    Real f;
};
RG_FN Footprint find_footprint(const Query& q, const Place& p, int64_t pixel) {
    Footprint h{};
    Real level(0);
    if (q.uv_da) {
        Derivatives<Real> d;
        if (q.boundary == kCube) {
            const Real* c = q.uv_da + 6 * pixel;
            h.face = {into_face(p.cube.face, Vec3<Real>{c[0], c[2], c[4]}), into_face(p.cube.face, Vec3<Real>{c[1], c[3], c[5]})};
            d = face_derivatives(p.cube, h.face);
        } else {
            const Vec4<Real> c = load4(q.uv_da + 4 * pixel);
            d = {c.x, c.y, c.z, c.w};
        }
        h.texels = in_texels(d, Real(q.width), Real(q.height));
        h.ellipse = ellipse(h.texels);
        level = level_of(h.ellipse.major);
    }
    if (q.bias) level = level + q.bias[pixel];
    const Real depth = Real(q.depth), in_range = level_in_range(level, depth), low = floor_of(in_range);
    h.f = q.filter == kLinearMipmapLinear ? in_range - low : Real(0);
    h.low = int(low);
    h.high = int(minimum(low + Real(1), depth));
    return h;
}

// One channel of a texel that may not exist.
RG_FN Real texel_of(const Real* image, Whole texel, int64_t channels, int64_t c) { return texel < 0 ? Real(0) : image[int64_t(texel) * channels + c]; }

// One channel of the four texels.
RG_FN Cell<Real> cell_of(const Query& q, const Real* image, const Texels& at, int64_t c) {
    Cell<Real> t = {texel_of(image, at.texel[0], q.channels, c), texel_of(image, at.texel[1], q.channels, c),
                    texel_of(image, at.texel[2], q.channels, c), texel_of(image, at.texel[3], q.channels, c)};
    if (q.boundary == kCube) {
        if (at.texel[0] < 0) t.t00 = average_of_three(t.t10, t.t01, t.t11);
        if (at.texel[1] < 0) t.t10 = average_of_three(t.t00, t.t01, t.t11);
        if (at.texel[2] < 0) t.t01 = average_of_three(t.t00, t.t10, t.t11);
        if (at.texel[3] < 0) t.t11 = average_of_three(t.t00, t.t10, t.t01);
    }
    return t;
}

RG_FN const Real* image_of(const Query& q, int k, int64_t image) {
    return q.level[k] + (q.tex_images == 1 ? 0 : image * q.texels_at(k) * q.channels);
}

RG_END
