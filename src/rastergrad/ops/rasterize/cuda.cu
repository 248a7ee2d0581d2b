// SPDX-License-Identifier: MIT
// The rasteriser on a GPU. What is nearest at a pixel is decided by atomic minima on one 64-bit word per pixel, depth above, the
// complement of the triangle's number below: nearer first, then the higher number, whatever the order in which threads come. So triangles
// need no bins. Tiny ones are drawn by the thread that looks at them; larger ones, and those cut into pieces, go to one of two queues and
// are drawn by warps, in chunks of the image, so that one huge triangle is as well spread over the GPU as ten million small ones. Last,
// each pixel is shaded once.
#include "formulas.h"
#include "device.h"
#include "shape.h"
#include "triangle_id.h"

RG_BEGIN

using Word = unsigned long long;
constexpr Word kBackground = ~Word(0);

RG_FN Word word_of(float depth, int32_t triangle) { return Word(__float_as_uint(depth)) << 32 | (~uint32_t(triangle)); }
RG_FN int32_t triangle_of(Word word) { return int32_t(~uint32_t(word)); }
RG_FN float depth_of(Word word) { return __uint_as_float(uint32_t(word >> 32)); }

// A triangle for warps. 64 bytes.
struct alignas(16) Large {
    ScreenVertex corner[3];
    int32_t triangle, image;
    int64_t first_chunk;  // of those of the queue
};

// How full the queues are. `parted`: entries in the lower 28 bits, their chunks above.
struct Counts { Word single, parted; };
constexpr int kEntryBits = 28;
RG_FN int64_t entries_of(Word parted) { return int64_t(parted & ((Word(1) << kEntryBits) - 1)); }
constexpr int64_t kMostChunks = 255;  // of one triangle: 2^28 entries have fewer than 2^36
constexpr int32_t kChunkSide = 64;    // of the smallest chunk, and of what an Edge serves

struct DrawArgs {
    const Real* pos;            // [images][vertices][4], or [vertices][4] with ranges
    const int32_t* tri;         // [triangles][3]
    const int64_t* ranges;      // [images][2], or null
    const float* previous_key;  // [images][height][width], or null
    Word* words;                // [images][height][width]
    ScreenVertex* screen;       // like pos
    Large* single;              // [capacity]: triangles of one chunk
    Large* parted;              // [parted_capacity]: of several
    Counts* counts;
    int64_t images, vertices, triangles, height, width;
    int64_t most_of_image;      // triangles that any image has
    int64_t capacity, parted_capacity;
    int64_t tiny;               // pixels of a box that one thread draws
};

RG_FN ScreenSize screen_size(const DrawArgs& a) { return {int32_t(a.width), int32_t(a.height)}; }

RG_GLOBAL(rasterize_begin, 256, DrawArgs, a) {
    const int64_t pixels = a.images * a.height * a.width, vertices = (a.ranges ? 1 : a.images) * a.vertices;
    if (thread_number() == 0) *a.counts = {0, 0};
    for (int64_t i = thread_number(); i < pixels; i += thread_count()) a.words[i] = kBackground;
    for (int64_t i = thread_number(); i < vertices; i += thread_count()) {
        const auto p = placed_vertex<Real, int32_t>(load4(a.pos + 4 * i), screen_size(a));
        a.screen[i] = {int32_t(p.x), int32_t(p.y), float(p.k), p.flags};
    }
}

// One image as those that draw see it.
struct Canvas {
    Word* words;
    const float* previous;
    ScreenSize size;

    RG_FN void offer(int32_t x, int32_t y, float depth, int32_t triangle) const {
        const int64_t at = int64_t(y) * size.width + x;
        if (previous && !(depth > previous[at])) return;
        const Word mine = word_of(depth, triangle);
        // A look first: most of what is hidden costs no atomic. What another thread writes meanwhile does no harm.
        if (mine < *static_cast<const volatile Word*>(words + at)) atomicMin(words + at, mine);
    }
};
RG_FN Canvas canvas(const DrawArgs& a, int64_t image) {
    const int64_t first = image * a.height * a.width;
    return {a.words + first, a.previous_key ? a.previous_key + first : nullptr, screen_size(a)};
}

// By one thread, squares of 64 pixels at a time.
RG_FN void draw_alone(const Canvas& to, const ScreenVertex& p, const ScreenVertex& q, const ScreenVertex& r, int64_t area, const PixelBox& box, int32_t triangle) {
    const ScreenTriangle<int32_t, float> t = screen_triangle(p, q, r, area);
    for (int32_t top = box.y0; top <= box.y1; top += kChunkSide)
        for (int32_t left = box.x0; left <= box.x1; left += kChunkSide) {
            const TriangleShape s = triangle_shape(t, area, grid_of_pixel(left, to.size.width), grid_of_pixel(top, to.size.height));
            const int32_t columns = minimum(box.x1 - left + 1, kChunkSide), rows = minimum(box.y1 - top + 1, kChunkSide);
            int32_t e0 = s.edge[0].c, e1 = s.edge[1].c, e2 = s.edge[2].c;
            for (int32_t j = 0; j < rows; j++) {
                const float row = depth_of_row(s.plane, s.y + float(j));
                int32_t f0 = e0, f1 = e1, f2 = e2;
                for (int32_t i = 0; i < columns; i++) {
                    if ((f0 | f1 | f2) >= 0) to.offer(left + i, top + j, depth_in_row(s.plane, row, s.x + float(i)), triangle);
                    f0 += s.edge[0].a;
                    f1 += s.edge[1].a;
                    f2 += s.edge[2].a;
                }
                e0 += s.edge[0].b;
                e1 += s.edge[1].b;
                e2 += s.edge[2].b;
            }
        }
}

// The chunks of a box: 64 << shift pixels a side, from a corner that suits blocks of 8 x 4 on.
struct Chunks {
    int32_t x, y, shift, across, down;
    RG_FN int64_t count() const { return int64_t(across) * down; }
};
RG_FN Chunks chunks_of(const PixelBox& box) {
    Chunks c{box.x0 & ~7, box.y0 & ~3, 6, 0, 0};
    for (;; c.shift++) {
        c.across = ((box.x1 - c.x) >> c.shift) + 1;
        c.down = ((box.y1 - c.y) >> c.shift) + 1;
        if (c.count() <= kMostChunks) return c;
    }
}

RG_FN void draw_or_queue(const DrawArgs& a, const Canvas& to, const ScreenVertex& p, const ScreenVertex& q, const ScreenVertex& r, int32_t triangle, int32_t image) {
    const int64_t area = signed_area_of(p, q, r);
    const PixelBox box = pixel_box(p, q, r, to.size);
    if (area == 0 || box.empty()) return;
    const int64_t pixels = int64_t(box.x1 - box.x0 + 1) * (box.y1 - box.y0 + 1);
    if (pixels > a.tiny) {
        const Chunks chunks = chunks_of(box);
        if (chunks.count() == 1) {
            const Word entry = atomicAdd(&a.counts->single, 1);
            if (int64_t(entry) < a.capacity) {
                a.single[entry] = {{p, q, r}, triangle, image, 0};
                return;
            }
        } else {
            // Once the queue is full nobody counts on: the entries could reach the chunks' bits.
            if (entries_of(*static_cast<const volatile Word*>(&a.counts->parted)) < a.parted_capacity) {
                const Word before = atomicAdd(&a.counts->parted, Word(chunks.count()) << kEntryBits | 1);
                if (entries_of(before) < a.parted_capacity) {
                    a.parted[entries_of(before)] = {{p, q, r}, triangle, image, int64_t(before >> kEntryBits)};
                    return;
                }
            }
        }
    }
    draw_alone(to, p, q, r, area, box, triangle);
}

// Rare, and full of arrays: not to burden the others' registers.
RG_OUT_OF_LINE void draw_clipped(const DrawArgs& a, const Canvas& to, const Real* pos, const ScreenVertex* screen, const int32_t (&n)[3], int32_t triangle, int32_t image) {
    ClipPoint points[kMostPoints];
    load_clip_points(pos, screen, n, points);
    const int count = clip_to_frustum(points, to.size);
    for (int k = 0; k < count; k++)
        if (points[k].screen.flags & kUnusable) return;
    for (int k = 2; k < count; k++) draw_or_queue(a, to, points[0].screen, points[k - 1].screen, points[k].screen, triangle, image);
}

RG_GLOBAL_SHARING(rasterize_triangles, 128, 5, DrawArgs, a) {
    const int64_t blocks = (a.most_of_image + blockDim.x - 1) / blockDim.x;
    for (int64_t block = blockIdx.x; block < blocks * a.images; block += gridDim.x) {
        const int64_t image = block / blocks, number = (block - image * blocks) * blockDim.x + threadIdx.x;
        int64_t first = 0, count = a.triangles;
        if (a.ranges) {
            first = a.ranges[2 * image];
            count = minimum(a.ranges[2 * image + 1], a.triangles - first);
        }
        if (number >= count) continue;
        const int64_t triangle = first + number;
        const int32_t n[3] = {a.tri[3 * triangle], a.tri[3 * triangle + 1], a.tri[3 * triangle + 2]};
        const int32_t vertices = int32_t(minimum(a.vertices, int64_t(2147483647)));
        if (n[0] < 0 || n[1] < 0 || n[2] < 0 || n[0] >= vertices || n[1] >= vertices || n[2] >= vertices) continue;
        const int64_t row = a.ranges ? 0 : image * a.vertices;
        const ScreenVertex* const screen = a.screen + row;
        const ScreenVertex p = screen[n[0]], q = screen[n[1]], r = screen[n[2]];
        if (p.flags & q.flags & r.flags & kOutside) continue;
        const int32_t flags = p.flags | q.flags | r.flags;
        if (flags & kUnusable) continue;
        const Canvas to = canvas(a, image);
        if (flags & kNeedsClip) draw_clipped(a, to, a.pos + 4 * row, screen, n, int32_t(triangle), int32_t(image));
        else draw_or_queue(a, to, p, q, r, int32_t(triangle), int32_t(image));
    }
}

// By a warp: the part of a triangle's box within a square of 64 x 64 pixels. Lanes first try a block of 8 x 4 pixels each, then all of them
// go over the blocks that may be touched.
RG_FN void draw_square(const Canvas& to, const ScreenTriangle<int32_t, float>& t, int64_t area, int32_t triangle, const PixelBox& box, int32_t left, int32_t top) {
    const int32_t x0 = maximum(box.x0, left), x1 = minimum(box.x1, left + kChunkSide - 1);
    const int32_t y0 = maximum(box.y0, top), y1 = minimum(box.y1, top + kChunkSide - 1);
    if (x0 > x1 || y0 > y1) return;
    const TriangleShape s = triangle_shape(t, area, grid_of_pixel(left, to.size.width), grid_of_pixel(top, to.size.height));
    const int32_t column0 = (x0 - left) >> 3, row0 = (y0 - top) >> 2;
    const int32_t columns = ((x1 - left) >> 3) - column0 + 1, blocks = columns * (((y1 - top) >> 2) - row0 + 1);
    const int lane = lane_number(), lane_x = lane & 7, lane_y = lane >> 3;
    for (int32_t begin = 0; begin < blocks; begin += kWarpSize) {
        const int32_t mine = begin + lane, row = mine / columns;
        const int32_t bx = (column0 + mine - row * columns) << 3, by = (row0 + row) << 2;
        bool touched = mine < blocks;
        if (touched)
            for (int k = 0; k < 3; k++) touched &= s.edge[k].c + s.edge[k].a * bx + s.edge[k].b * by + most(s.edge[k], 7, 3) >= 0;
        for (unsigned left_over = __ballot_sync(kWarp, touched); left_over; left_over &= left_over - 1) {
            const int from = __ffs(int(left_over)) - 1;
            const int32_t i = __shfl_sync(kWarp, bx, from) + lane_x, j = __shfl_sync(kWarp, by, from) + lane_y;
            int32_t signs = 0;
            for (int k = 0; k < 3; k++) signs |= s.edge[k].c + s.edge[k].a * i + s.edge[k].b * j;
            if (signs >= 0 && left + i <= box.x1 && top + j <= box.y1)
                to.offer(left + i, top + j, depth_at(s.plane, s.x + float(i), s.y + float(j)), triangle);
        }
    }
}

// The last entry whose first chunk is not behind `chunk`: 32 ways at a time, all lanes together.
RG_FN int64_t entry_of(const Large* queue, int64_t entries, int64_t chunk) {
    int64_t begin = 0, end = entries;  // it is in [begin, end)
    while (end - begin > 1) {
        const int64_t step = (end - begin + kWarpSize - 1) / kWarpSize, probe = begin + step * lane_number();
        const bool before = probe < end && queue[probe].first_chunk <= chunk;
        const int last = kWarpSize - 1 - __clz(int(__ballot_sync(kWarp, before)));
        begin += step * last;
        end = minimum(begin + step, end);
    }
    return begin;
}

RG_GLOBAL_SHARING(rasterize_chunks, 128, 6, DrawArgs, a) {
    const int64_t singles = minimum(int64_t(a.counts->single), a.capacity);
    const int64_t parted = minimum(entries_of(a.counts->parted), a.parted_capacity);
    int64_t chunks = 0;
    if (parted) {
        const Large& last = a.parted[parted - 1];
        chunks = last.first_chunk + chunks_of(pixel_box(last.corner[0], last.corner[1], last.corner[2], screen_size(a))).count();
    }
    const int64_t warps = thread_count() / kWarpSize;
    for (int64_t item = thread_number() / kWarpSize; item < singles + chunks; item += warps) {
        const bool single = item < singles;
        const Large& entry = single ? a.single[item] : a.parted[entry_of(a.parted, parted, item - singles)];
        const ScreenVertex p = entry.corner[0], q = entry.corner[1], r = entry.corner[2];
        const int64_t area = signed_area_of(p, q, r);
        const ScreenTriangle<int32_t, float> t = screen_triangle(p, q, r, area);
        const Canvas to = canvas(a, entry.image);
        const PixelBox box = pixel_box(p, q, r, to.size);
        const Chunks c = chunks_of(box);
        const int32_t number = single ? 0 : int32_t(item - singles - entry.first_chunk), row = number / c.across;
        const int32_t x = c.x + ((number - row * c.across) << c.shift), y = c.y + (row << c.shift), side = 1 << c.shift;
        for (int32_t top = y; top < y + side && top <= box.y1; top += kChunkSide)
            for (int32_t left = x; left < x + side && left <= box.x1; left += kChunkSide) draw_square(to, t, area, entry.triangle, box, left, top);
    }
}

struct ShadeArgs {
    const Real* pos;
    const int32_t* tri;
    const Word* words;
    Real* rast;           // [images][height][width][4]
    Real* rast_db;        // like rast
    float* depth_key;     // [images][height][width], or null
    int64_t images, vertices, height, width;
    int64_t instanced;
};

constexpr int kTileX = 32, kTileY = 8;  // of a block; of a warp: 8 x 4

RG_GLOBAL(rasterize_shade, 256, ShadeArgs, a) {
    const uint32_t tiles_x = uint32_t((a.width + kTileX - 1) / kTileX), tiles_y = uint32_t((a.height + kTileY - 1) / kTileY);
    const uint32_t tile_row = blockIdx.x / tiles_x;
    const int64_t image = tile_row / tiles_y;
    const int32_t x = int32_t(blockIdx.x - tile_row * tiles_x) * kTileX + warp_number() % 4 * 8 + lane_number() % 8;
    const int32_t y = int32_t(tile_row % tiles_y) * kTileY + warp_number() / 4 * 4 + lane_number() / 8;
    if (x >= a.width || y >= a.height) return;
    const int64_t pixel = (image * a.height + y) * a.width + x;
    const Word word = a.words[pixel];
    Vec4<Real> rast{Real(0), Real(0), Real(0), Real(0)}, db = rast;
    if (word != kBackground) {
        const int32_t triangle = triangle_of(word);
        const Real* const pos = a.pos + (a.instanced ? image * a.vertices * 4 : 0);
        Vec4<Real> p[3];
        for (int k = 0; k < 3; k++) p[k] = load4(pos + 4 * int64_t(a.tri[3 * int64_t(triangle) + k]));
        const Real step_x = pixel_step(Real(a.width)), step_y = pixel_step(Real(a.height));
        const Real fx = Real(x) * step_x + first_centre(Real(a.width)), fy = Real(y) * step_y + first_centre(Real(a.height));
        const Fragment<Real> f = fragment(pixel_areas(p, fx, fy), p, step_x, step_y);
        rast = {f.uv.x, f.uv.y, f.depth, Real(encode_id(triangle + 1))};
        db = {f.slopes.u_x, f.slopes.u_y, f.slopes.v_x, f.slopes.v_y};
    }
    store4(a.rast + 4 * pixel, rast);
    store4(a.rast_db + 4 * pixel, db);
    if (a.depth_key) a.depth_key[pixel] = word == kBackground ? __uint_as_float(0x7f800000u) : depth_of(word);
}

RG_END
