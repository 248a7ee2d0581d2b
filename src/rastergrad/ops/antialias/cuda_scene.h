// SPDX-License-Identifier: MIT
// What the GPU's kernels of both methods share: the scene, the pairs of a pixel, and walking over the elements of a block of pixels.
#pragma once
#include "sums.h"
#include "triangle_id.h"

RG_BEGIN

struct Scene {
    const Real* rast;      // [images][height][width][4]
    const Real* pos;       // [images or 1][vertices][4]
    const int32_t* tri;    // [triangles][3]
    const int32_t* twins;  // [triangles][3] half-edges, see topology.h
    int64_t images, height, width, vertices, triangles;
    int64_t pos_image_stride;  // elements between the vertices of two images; 0 when all share one table

    RG_FN int64_t pixels() const { return images * height * width; }
    RG_FN int64_t table_of(int64_t image) const { return pos_image_stride ? image : 0; }
    RG_FN int64_t tables() const { return pos_image_stride ? images : 1; }
    RG_FN Vec2<Real> half() const { return {Real(width) / Real(2), Real(height) / Real(2)}; }
    RG_FN int32_t triangle_of(Real id) const {
        const int32_t triangle = decode_id(id);
        return triangle < triangles ? triangle : -1;
    }
    RG_FN bool exists(int32_t vertex) const { return vertex >= 0 && vertex < vertices; }
    RG_FN bool all_exist(int64_t triangle) const { return exists(tri[3 * triangle]) && exists(tri[3 * triangle + 1]) && exists(tri[3 * triangle + 2]); }
};

struct PixelPlace { int64_t image, row, column; };
RG_FN PixelPlace place_of(const Scene& s, int64_t pixel) {
    // Divisions of 32 bits where they suffice, as they do but for a few images of record size.
    const int64_t per_image = s.height * s.width;
    if (s.pixels() <= 0xffffffffll) {
        const uint32_t p = uint32_t(pixel), row = p / uint32_t(s.width), image = row / uint32_t(s.height);
        return {int64_t(image), int64_t(row - image * uint32_t(s.height)), int64_t(p - row * uint32_t(s.width))};
    }
    const int64_t image = pixel / per_image, inside = pixel - image * per_image, row = inside / s.width;
    return {image, row, inside - row * s.width};
}

constexpr int kBlockPixels = 256;

// body(pixel of the block, channel, element of the block's stretch), all threads together, in the order of memory.
template <class Body> RG_FN void for_each_element(int64_t pixels, int64_t channels, Body&& body) {
    const int64_t count = pixels * channels;
    const uint32_t wide = uint32_t(minimum(channels, int64_t(kBlockPixels) + 1));  // wider, and the quotients are 0 all the same
    const uint32_t whole = kBlockPixels / wide;
    const int64_t rest = kBlockPixels - int64_t(whole) * channels;
    uint32_t pixel = threadIdx.x / wide;
    int64_t channel = threadIdx.x - int64_t(pixel) * channels;
    for (int64_t i = threadIdx.x; i < count; i += kBlockPixels) {
        body(pixel, channel, i);
        pixel += whole;
        channel += rest;
        if (channel >= channels) {
            channel -= channels;
            pixel++;
        }
    }
}

RG_END
