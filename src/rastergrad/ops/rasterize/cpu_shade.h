// SPDX-License-Identifier: MIT
// From triangle numbers to fragments, 16 pixels at a time (docs/definition.md 2.3 and 2.4).
#pragma once
#include "cpu_tile.h"
#include "formulas.h"
#include "triangle_id.h"

RG_BEGIN
namespace {

// Pixel centres in normalised device coordinates: 2/W i + (1/W - 1).
template <class T> struct PixelGrid {
    T step_x, step_y, first_x, first_y;
    explicit PixelGrid(ScreenSize s)
        : step_x(T(2) / T(s.width)), step_y(T(2) / T(s.height)), first_x(T(1) / T(s.width) - T(1)), first_y(T(1) / T(s.height) - T(1)) {}
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

template <class T> struct Target {
    T* rast;         // of one image
    T* rast_db;
    float* key;      // or null
    ScreenSize size;
    bool stream;     // write past the caches: for what does not fit them anyway
};

// A block of 4 x 4 rows of 4 numbers whose first pixel is (i, j).
template <class T> RG_FN void store_block(const Target<T>& to, T* image, Columns4<T> c, int32_t i, int32_t j) {
    T* first = image + 4 * (int64_t(j) * to.size.width + i);
    const int64_t row = 4 * int64_t(to.size.width);
    if (i + 4 <= to.size.width && j + 4 <= to.size.height) {
        store_square<T>(c, to.stream, first, row);
        return;
    }
    alignas(64) T pixels[kLanes][4];
    store_columns<T>(c, kLanes, false, [&](int l) { return pixels[l]; });
    for (int l = 0; l < kLanes; l++)
        if (i + (l & 3) < to.size.width && j + (l >> 2) < to.size.height) memcpy(first + (l >> 2) * row + (l & 3) * 4, pixels[l], sizeof pixels[l]);
}

template <class T> RG_FN void shade_block(const Scene<T>& scene, const PixelGrid<T>& pixels, const Target<T>& to, const int32_t* ids, int32_t i, int32_t j) {
    using L = Lanes<T>;
    const lanes_i id = lanes_i::load(ids), empty = id < lanes_i(0);
    const unsigned empty_bits = mask_bits(empty);
    const L zero(T(0));
    if (empty_bits == 0xffff) {
        store_block(to, to.rast, {zero, zero, zero, zero}, i, j);
        store_block(to, to.rast_db, {zero, zero, zero, zero}, i, j);
        return;
    }
    const int32_t some = ids[__builtin_ctz(~empty_bits)];
    alignas(64) int32_t triangles[kLanes];
    select(empty, lanes_i(some), id).store(triangles);
    const bool uniform = (mask_bits(id == lanes_i(some)) | empty_bits) == 0xffff;
    Vec4<L> p[3];
    load_corners(scene.pos, scene.tri, triangles, uniform, p);
    const PixelAreas<L> areas = pixel_areas(p, pixels.x(i), pixels.y(j));
    const L inverse = L(T(1)) / areas.sum;
    const Vec2<L> uv = barycentrics(areas, inverse);
    const L depth = clamped_depth(plane_depth(areas, p).ratio);
    const Slopes<L> db = barycentric_slopes(areas, inverse, uv, L(pixels.step_x), L(pixels.step_y));
    const auto none = mask_as<typename L::Integer>(empty);
    const L encoded = convert<T>(encode_id(id + lanes_i(1)));
    store_block(to, to.rast, {select(none, zero, uv.x), select(none, zero, uv.y), select(none, zero, depth), select(none, zero, encoded)}, i, j);
    store_block(to, to.rast_db, {select(none, zero, db.u_x), select(none, zero, db.u_y), select(none, zero, db.v_x), select(none, zero, db.v_y)}, i, j);
}

template <class T> void shade_tile(const Scene<T>& scene, const PixelGrid<T>& pixels, const Target<T>& to, const Tile& tile, int32_t i0, int32_t j0) {
    for (int32_t j = 0; j < kTile && j0 + j < to.size.height; j += 4)
        for (int32_t i = 0; i < kTile && i0 + i < to.size.width; i += 4)
            shade_block(scene, pixels, to, tile.id + (j / 4 * kBlocksAcross + i / 4) * kLanes, i0 + i, j0 + j);
    if (!to.key) return;
    for (int32_t j = 0; j < kTile && j0 + j < to.size.height; j++)
        for (int32_t i = 0; i < kTile && i0 + i < to.size.width; i++)
            to.key[int64_t(j0 + j) * to.size.width + i0 + i] = tile.key[(j / 4 * kBlocksAcross + i / 4) * kLanes + (j & 3) * 4 + (i & 3)];
}

// Zero rows for a tile that nothing touches.
template <class T> void clear_tile(const Target<T>& to, int32_t i0, int32_t j0) {
    const int32_t width = minimum(kTile, to.size.width - i0), height = minimum(kTile, to.size.height - j0);
    const Lanes<T> zero(T(0));
    for (int32_t j = j0; j < j0 + height; j++) {
        const int64_t first = int64_t(j) * to.size.width + i0;
        for (T* image : {to.rast, to.rast_db}) {
            T* row = image + 4 * first;
            int32_t i = 0;
            for (; i + kLanes <= width; i += kLanes)
                store_columns<T>({zero, zero, zero, zero}, kLanes, to.stream, [=](int l) { return row + 4 * (i + l); });
            if (i < width) memset(row + 4 * i, 0, size_t(width - i) * 4 * sizeof(T));
        }
        if (to.key)
            for (int32_t i = 0; i < width; i++) to.key[first + i] = kFar;
    }
}

}  // namespace
RG_END
