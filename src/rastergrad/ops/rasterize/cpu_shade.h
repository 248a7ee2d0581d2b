// SPDX-License-Identifier: MIT
// From triangle numbers to fragments, 16 pixels at a time (docs/definition.md 2.3 and 2.4).
#pragma once
#include "cpu_tile.h"
#include "formulas.h"
#include "triangle_id.h"

RG_BEGIN
namespace {

// Pixel centres in normalised device coordinates.
template <class T> struct PixelGrid {
    T step_x, step_y, first_x, first_y;
    explicit PixelGrid(ScreenSize s)
        : step_x(pixel_step(T(s.width))), step_y(pixel_step(T(s.height))), first_x(first_centre(T(s.width))), first_y(first_centre(T(s.height))) {}
    RG_FN Lanes<T> x(int32_t column) const {
        return (convert<T>(convert<typename Lanes<T>::Integer>(lane_x())) + Lanes<T>(T(column))) * Lanes<T>(step_x) + Lanes<T>(first_x);
    }
    RG_FN Lanes<T> y(int32_t row) const {
        return (convert<T>(convert<typename Lanes<T>::Integer>(lane_y())) + Lanes<T>(T(row))) * Lanes<T>(step_y) + Lanes<T>(first_y);
    }
};

// The corners of up to 16 triangles, a lane each; `triangles` are valid numbers.
template <class T> RG_FN void load_corners(const T* pos, const int32_t* tri, const int32_t* triangles, bool uniform, Vec4<Lanes<T>> (&p)[3]) {
    if (uniform) {
        const int32_t* n = tri + 3 * int64_t(triangles[0]);
#pragma GCC unroll 3
        for (int k = 0; k < 3; k++) {
            const T* v = pos + 4 * int64_t(n[k]);
            p[k] = {Lanes<T>(v[0]), Lanes<T>(v[1]), Lanes<T>(v[2]), Lanes<T>(v[3])};
        }
        return;
    }
#pragma GCC unroll 3
    for (int k = 0; k < 3; k++) {
        const Columns4<T> c = load_columns<T>([&](int l) { return pos + 4 * int64_t(tri[3 * int64_t(triangles[l]) + k]); });
        p[k] = {c.x, c.y, c.z, c.w};
    }
}

// The same where few triangles share the lanes: a masked broadcast each instead of 48 rows and their transpose.
template <class T> RG_FN void load_few_corners(const T* pos, const int32_t* tri, const int32_t* triangles, Vec4<Lanes<T>> (&p)[3]) {
    load_corners(pos, tri, triangles, true, p);
    const lanes_i all_of_them = lanes_i::load(triangles);
    for (unsigned left = mask_bits(all_of_them != lanes_i(triangles[0])); left;) {
        const int32_t one = triangles[__builtin_ctz(left)];
        const lanes_i mine = all_of_them == lanes_i(one);
        left &= ~mask_bits(mine);
        const auto m = mask_as<typename Lanes<T>::Integer>(mine);
        const int32_t* n = tri + 3 * int64_t(one);
#pragma GCC unroll 3
        for (int k = 0; k < 3; k++) {
            const T* v = pos + 4 * int64_t(n[k]);
            p[k] = {select(m, Lanes<T>(v[0]), p[k].x), select(m, Lanes<T>(v[1]), p[k].y), select(m, Lanes<T>(v[2]), p[k].z),
                    select(m, Lanes<T>(v[3]), p[k].w)};
        }
    }
}

template <class T> struct Target {
    T* rast;         // of one image
    T* rast_db;
    float* key;      // or null
    ScreenSize size;
    bool stream;     // write past the caches: for what does not fit them anyway
    bool whole;      // sides are multiples of 4, and both images begin at a multiple of 64 bytes: lines of four pixels are lines of the cache
};

// A block of 4 x 4 rows of 4 numbers whose first pixel is (i, j).
template <bool kStreamWhole, class T> RG_FN void store_block(const Target<T>& to, T* image, Columns4<T> c, int32_t i, int32_t j) {
    T* first = image + 4 * (int64_t(j) * to.size.width + i);
    const int64_t row = 4 * int64_t(to.size.width);
    if (kStreamWhole || (i + 4 <= to.size.width && j + 4 <= to.size.height)) {
        store_square<T>(c, kStreamWhole || to.stream, kStreamWhole || to.whole, first, row);
        return;
    }
    alignas(64) T pixels[kLanes][4];
    store_columns<T>(c, kLanes, false, [&](int l) { return pixels[l]; });
    for (int l = 0; l < kLanes; l++)
        if (i + (l >> 2) < to.size.width && j + (l & 3) < to.size.height) memcpy(first + (l & 3) * row + (l >> 2) * 4, pixels[l], sizeof pixels[l]);
}

// What 16 pixels see of their triangles.
template <class T> struct Fragments { Columns4<T> rast, rast_db; };

template <class T>
RG_FN Fragments<T> fragments(const PixelAreas<Lanes<T>>& areas, const Vec4<Lanes<T>> (&p)[3], const PixelGrid<T>& pixels, Lanes<T> encoded) {
    using L = Lanes<T>;
    const Fragment<L> f = fragment(areas, p, L(pixels.step_x), L(pixels.step_y));
    return {{f.uv.x, f.uv.y, f.depth, encoded}, {f.slopes.u_x, f.slopes.u_y, f.slopes.v_x, f.slopes.v_y}};
}

// Up to so many changes from lane to lane a block is taken for one of few triangles.
constexpr int kFewChanges = 7;

// A block that is neither empty nor covered by one triangle alone.
template <class T> void shade_mixed(const Scene<T>& scene, const PixelGrid<T>& pixels, const Target<T>& to, const int32_t* ids, int32_t i, int32_t j) {
    using L = Lanes<T>;
    const lanes_i id = lanes_i::load(ids), empty = id < lanes_i(0);
    const unsigned empty_bits = mask_bits(empty);
    const int32_t some = ids[__builtin_ctz(~empty_bits)];
    alignas(64) int32_t triangles[kLanes];
    select(empty, lanes_i(some), id).store(triangles);
    // Along the lanes; the last one looks at the next block.
    const int changes = __builtin_popcount(mask_bits(id != lanes_i::load(ids + 1)));
    Vec4<L> p[3];
    if (changes <= kFewChanges) load_few_corners(scene.pos, scene.tri, triangles, p);
    else load_corners(scene.pos, scene.tri, triangles, false, p);
    const Fragments<T> f = fragments(pixel_areas(p, pixels.x(i), pixels.y(j)), p, pixels, convert<T>(encode_id(id + lanes_i(1))));
    const auto none = mask_as<typename L::Integer>(empty);
    const L zero(T(0));
    const auto seen = [&](const Columns4<T>& c) {
        return Columns4<T>{select(none, zero, c.x), select(none, zero, c.y), select(none, zero, c.z), select(none, zero, c.w)};
    };
    store_block<false>(to, to.rast, seen(f.rast), i, j);
    store_block<false>(to, to.rast_db, seen(f.rast_db), i, j);
}

// Most blocks of a coarse mesh belong to one triangle, as does the block before: what is the same along a row is kept.
// kStreamWhole: to.stream and to.whole, known beforehand; the tests between the stores make gcc spill what it computed.
template <bool kStreamWhole, class T> __attribute__((noinline)) void shade_tile(const Scene<T>& scene, const PixelGrid<T>& pixels, const Target<T>& to, const Tile& tile, int32_t i0, int32_t j0) {
    using L = Lanes<T>;
    const L zero(T(0));
    L x[kBlocksAcross];
    for (int32_t b = 0; b < kBlocksAcross; b++) x[b] = pixels.x(i0 + 4 * b);
    for (int32_t j = 0; j < kTile && j0 + j < to.size.height; j += 4) {
        const L y = pixels.y(j0 + j);
        int32_t current = -1;
        Vec4<L> p[3];
        RowAreas<L> row;
        L encoded;
        const int32_t* ids = tile.id + j / 4 * kBlocksAcross * kLanes;
        for (int32_t i = 0; i < kTile && i0 + i < to.size.width; i += 4, ids += kLanes) {
            const int32_t first = ids[0];
            if (!all(lanes_i::load(ids) == lanes_i(first))) {
                shade_mixed(scene, pixels, to, ids, i0 + i, j0 + j);
                continue;
            }
            if (first < 0) {
                store_block<kStreamWhole, T>(to, to.rast, {zero, zero, zero, zero}, i0 + i, j0 + j);
                store_block<kStreamWhole, T>(to, to.rast_db, {zero, zero, zero, zero}, i0 + i, j0 + j);
                continue;
            }
            if (first != current) {
                current = first;
                load_corners(scene.pos, scene.tri, ids, true, p);
                row = row_areas(p, y);
                encoded = L(T(encode_id(first + 1)));
            }
            const Fragments<T> f = fragments(pixel_areas(p, row, x[i / 4]), p, pixels, encoded);
            store_block<kStreamWhole>(to, to.rast, f.rast, i0 + i, j0 + j);
            store_block<kStreamWhole>(to, to.rast_db, f.rast_db, i0 + i, j0 + j);
        }
    }
    if (!to.key) return;
    for (int32_t j = 0; j < kTile && j0 + j < to.size.height; j++)
        for (int32_t i = 0; i < kTile && i0 + i < to.size.width; i++)
            to.key[int64_t(j0 + j) * to.size.width + i0 + i] = tile.key[place_in_tile(i, j)];
}

// Zero rows for a tile that nothing touches.
template <class T> void clear_tile(const Target<T>& to, int32_t i0, int32_t j0) {
    const int32_t width = minimum(kTile, to.size.width - i0), height = minimum(kTile, to.size.height - j0);
    for (int32_t j = j0; j < j0 + height; j++) {
        const int64_t first = int64_t(j) * to.size.width + i0;
        for (T* image : {to.rast, to.rast_db}) store_zeros(image + 4 * first, 4 * int64_t(width), to.stream);
        if (to.key)
            for (int32_t i = 0; i < width; i++) to.key[first + i] = kFar;
    }
}

}  // namespace
RG_END
