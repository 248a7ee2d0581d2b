// SPDX-License-Identifier: MIT
// The nearest triangle at each pixel of one tile. The tile lies in the nearest cache as blocks of 4 x 4 pixels, the 16 lanes. The test is
// a total order (nearer first, then the higher triangle number), so triangles may come in any order.
#pragma once
#include <algorithm>

#include "cpu_bins.h"
#include "shape.h"

RG_BEGIN
namespace {

constexpr int kBlocksAcross = kTile / 4, kBlocks = kBlocksAcross * kBlocksAcross;
constexpr float kFar = __builtin_inff();

struct alignas(64) Tile {
    float key[kTile * kTile];      // depth of what is nearest so far, kFar where nothing is
    int32_t id[kTile * kTile + 1]; // its triangle, or -1; one more, as neighbours are compared
    float region_far[kLanes];      // no pixel of region (16 x 16 pixels) r is farther than this
    int32_t x, y;                  // centre of the tile's first pixel on the grid

    void clear(const TileGrid& grid, int64_t tile) {
        for (int i = 0; i < kTile * kTile; i += kLanes) {
            lanes_f(kFar).store(key + i);
            lanes_i(-1).store(id + i);
        }
        id[kTile * kTile] = -1;
        lanes_f(kFar).store(region_far);
        x = int32_t(tile % grid.across) * kTile * kSubPixels + kHalfPixel - grid.size.width * kHalfPixel;
        y = int32_t(tile / grid.across) * kTile * kSubPixels + kHalfPixel - grid.size.height * kHalfPixel;
    }
};

// Position of a lane in its block: column by column, the order in which store_square writes whole lines.
RG_FN lanes_i lane_x() { return lanes_i::iota() >> 2; }
RG_FN lanes_i lane_y() { return lanes_i::iota() & lanes_i(3); }
// Where pixel (i, j) of a tile is kept; i and j may be lanes.
template <class I> RG_FN I place_in_tile(I i, I j) { return ((j >> 2) << 8) + (i << 2) + (j & I(3)); }

// The bits of a where those of the mask are set, else of b.
RG_FN int32_t blended(int32_t mask, int32_t a, int32_t b) { return b ^ ((a ^ b) & mask); }

template <bool kLayered> class Painter {
  public:
    // previous: keys of the layer before in the order of the tile's blocks, used if kLayered.
    Painter(Tile& tile, const float* previous) : tile_(tile), previous_(previous) {}

    void draw(const ScreenVertex& p, const ScreenVertex& q, const ScreenVertex& r, int32_t id);
    // Up to 16 triangles with an extent below kSmallExtent.
    void draw_small(const ScreenVertex* screen, const int32_t* tri, const int32_t* ids, int count);

  private:
    Tile& tile_;
    const float* previous_;

    // What a triangle needs per block, the same in all lanes.
    struct Shape : TriangleShape { int32_t id; };
    struct LaneShape {
        lanes_i edge[3];  // a i + b j over the block
        lanes_f x, y;
        DepthPlane<lanes_f> plane;
        explicit RG_FN LaneShape(const Shape& s)
            : x(convert<float>(lane_x()) + lanes_f(s.x)), y(convert<float>(lane_y()) + lanes_f(s.y)),
              plane{s.plane.origin, s.plane.per_x, s.plane.per_y, s.plane.low, s.plane.high} {
            for (int k = 0; k < 3; k++) edge[k] = lane_x() * lanes_i(s.edge[k].a) + lane_y() * lanes_i(s.edge[k].b);
        }
    };

    RG_FN void keep_nearer(int at, lanes_f depth, lanes_i mine, lanes_i inside) {
        const lanes_f key = lanes_f::load(tile_.key + at);
        const lanes_i id = lanes_i::load(tile_.id + at);
        lanes_i wins = ((depth < key) | ((depth == key) & (mine > id))) & inside;
        if (kLayered) wins &= depth > lanes_f::load(previous_ + at);
        select(wins, depth, key).store(tile_.key + at);
        select(wins, mine, id).store(tile_.id + at);
    }
    // The block whose first pixel is (i, j).
    template <bool kWhole> RG_FN void draw_block(const Shape& s, const LaneShape& l, int i, int j) {
        const int at = (j / 4 * kBlocksAcross + i / 4) * kLanes;
        const lanes_f depth = depth_at(l.plane, l.x + lanes_f(float(i)), l.y + lanes_f(float(j)));
        lanes_i signs(0);
        if (!kWhole)
            for (int k = 0; k < 3; k++) signs |= l.edge[k] + lanes_i(s.edge[k].c + s.edge[k].a * i + s.edge[k].b * j);
        keep_nearer(at, depth, lanes_i(s.id), signs >= lanes_i(0));
    }
    // All blocks of a box; edges and columns advance by sums, which are exact.
    void draw_blocks(const Shape& s, int bx0, int by0, int bx1, int by1) {
        const LaneShape l(s);
        const lanes_f left = l.x + lanes_f(float(4 * bx0)), four(4);
        const lanes_i step[3] = {s.edge[0].a * 4, s.edge[1].a * 4, s.edge[2].a * 4}, mine(s.id);
        for (int by = by0; by <= by1; by++) {
            lanes_i edge[3];
            for (int k = 0; k < 3; k++) edge[k] = l.edge[k] + lanes_i(s.edge[k].c + s.edge[k].a * 4 * bx0 + s.edge[k].b * 4 * by);
            const lanes_f row = depth_of_row(l.plane, l.y + lanes_f(float(4 * by)));
            lanes_f x = left;
            int at = (by * kBlocksAcross + bx0) * kLanes;
            for (int bx = bx0; bx <= bx1; bx++, at += kLanes) {
                keep_nearer(at, depth_in_row(l.plane, row, x), mine, (edge[0] | edge[1] | edge[2]) >= lanes_i(0));
                x = x + four;
                for (int k = 0; k < 3; k++) edge[k] += step[k];
            }
        }
    }
    void draw_regions(const Shape& s, int bx0, int by0, int bx1, int by1);
    RG_FN void draw_pixel(int at, float depth, int32_t id) {
        if (kLayered && !(depth > previous_[at])) return;
        // Without a branch: which of two surfaces comes first cannot be foretold.
        const float key = tile_.key[at];
        const int32_t old = tile_.id[at];
        const int32_t wins = -int32_t((depth < key) | ((depth == key) & (id > old)));
        tile_.key[at] = __builtin_bit_cast(float, blended(wins, __builtin_bit_cast(int32_t, depth), __builtin_bit_cast(int32_t, key)));
        tile_.id[at] = blended(wins, id, old);
    }
};

// Of the 4 x 4 squares with `span` + 1 pixels a side from (i, j) on: which have any pixel inside, and which have all.
struct Squares { unsigned touched, whole; };
template <class EdgeLanes> RG_FN Squares squares(const Edge<int32_t> (&edge)[3], const EdgeLanes& lanes, int shift, int i, int j) {
    const int32_t span = (1 << shift) - 1;
    lanes_i touched(0), whole(0);
    for (int k = 0; k < 3; k++) {
        const lanes_i corner = (lanes[k] << shift) + lanes_i(edge[k].c + edge[k].a * i + edge[k].b * j);
        touched |= corner + lanes_i(most(edge[k], span, span));
        whole |= corner + lanes_i(least(edge[k], span, span));
    }
    return {mask_bits(touched >= lanes_i(0)), mask_bits(whole >= lanes_i(0))};
}

// From regions of 16 x 16 pixels down to blocks; regions that are hidden by nearer triangles are left out.
template <bool kLayered> void Painter<kLayered>::draw_regions(const Shape& s, int bx0, int by0, int bx1, int by1) {
    const LaneShape l(s);
    const Squares regions = squares(s.edge, l.edge, 4, 0, 0);
    unsigned box = 0;
    const unsigned box_column = ((2u << (by1 >> 2)) - 1) & ~((1u << (by0 >> 2)) - 1);
    for (int rx = bx0 >> 2; rx <= bx1 >> 2; rx++) box |= box_column << (4 * rx);
    // Rounding is monotone, hence the depths at two corners of a region bound those of all its pixels as computed.
    const lanes_f rx = convert<float>(lane_x() << 4) + lanes_f(s.x), ry = convert<float>(lane_y() << 4) + lanes_f(s.y), zero(0), last(15);
    const lanes_f near_x = rx + (s.plane.per_x < 0 ? last : zero), near_y = ry + (s.plane.per_y < 0 ? last : zero);
    const lanes_f far_x = rx + (s.plane.per_x < 0 ? zero : last), far_y = ry + (s.plane.per_y < 0 ? zero : last);
    const lanes_i hidden = lanes_f::load(tile_.region_far) < depth_at(l.plane, near_x, near_y);
    alignas(64) float farthest[kLanes];
    depth_at(l.plane, far_x, far_y).store(farthest);
    for (unsigned left = regions.touched & box & ~mask_bits(hidden); left; left &= left - 1) {
        const int region = __builtin_ctz(left), i = (region >> 2) * 16, j = (region & 3) * 16;
        const bool whole_region = regions.whole >> region & 1;
        const Squares blocks = whole_region ? Squares{0xffff, 0xffff} : squares(s.edge, l.edge, 2, i, j);
        for (unsigned b = blocks.touched; b; b &= b - 1) {
            const int block = __builtin_ctz(b), bi = i + (block >> 2) * 4, bj = j + (block & 3) * 4;
            if (blocks.whole >> block & 1) draw_block<true>(s, l, bi, bj);
            else draw_block<false>(s, l, bi, bj);
        }
        // In a further layer a triangle that covers the region may still have drawn nothing.
        if (!kLayered && whole_region) tile_.region_far[region] = minimum(tile_.region_far[region], farthest[region]);
    }
}

template <bool kLayered>
void Painter<kLayered>::draw(const ScreenVertex& p, const ScreenVertex& q, const ScreenVertex& r, int32_t id) {
    const int64_t signed_area = int64_t(q.x - p.x) * (r.y - p.y) - int64_t(r.x - p.x) * (q.y - p.y);
    if (signed_area == 0) return;
    const ScreenTriangle<int32_t, float> t = screen_triangle(p, q, r, signed_area);
    const int32_t low_x = t.x[0] < t.x[1] ? minimum(t.x[0], t.x[2]) : minimum(t.x[1], t.x[2]), low_y = t.y[0];
    const int32_t high_x = maximum(t.x[0], maximum(t.x[1], t.x[2])), high_y = maximum(t.y[1], t.y[2]);
    const int32_t i0 = maximum((low_x - tile_.x + kSubPixels - 1) >> kSubPixelBits, 0), i1 = minimum((high_x - tile_.x) >> kSubPixelBits, kTile - 1);
    const int32_t j0 = maximum((low_y - tile_.y + kSubPixels - 1) >> kSubPixelBits, 0), j1 = minimum((high_y - tile_.y) >> kSubPixelBits, kTile - 1);
    if (i0 > i1 || j0 > j1) return;
    Shape s;
    static_cast<TriangleShape&>(s) = triangle_shape(t, signed_area, tile_.x, tile_.y);
    s.id = id;
    const int bx0 = i0 >> 2, bx1 = i1 >> 2, by0 = j0 >> 2, by1 = j1 >> 2;
    if ((bx1 - bx0 + 1) * (by1 - by0 + 1) <= 8) draw_blocks(s, bx0, by0, bx1, by1);
    else draw_regions(s, bx0, by0, bx1, by1);
}

// Triangles of at most this many pixels (of their box) are drawn lane by lane, each a triangle; larger ones block by block.
constexpr int32_t kTinyBox = 9;
// Those of 16 triangles.
struct PixelList {
    static constexpr int kMost = kTinyBox * kLanes + kLanes;
    int count = 0;
    alignas(64) int32_t at[kMost], id[kMost];
    alignas(64) float depth[kMost];
    RG_FN void add(unsigned lanes, lanes_i place, lanes_f z, lanes_i ids) {
#if RG_VECTOR_BYTES == 64
        _mm512_storeu_si512(at + count, _mm512_maskz_compress_epi32(__mmask16(lanes), (__m512i)place.p[0]));
        _mm512_storeu_si512(id + count, _mm512_maskz_compress_epi32(__mmask16(lanes), (__m512i)ids.p[0]));
        _mm512_storeu_ps(depth + count, _mm512_maskz_compress_ps(__mmask16(lanes), (__m512)z.p[0]));
        count += __builtin_popcount(lanes);
#else
        if (!lanes) return;
        alignas(64) int32_t places[kLanes], numbers[kLanes];
        alignas(64) float depths[kLanes];
        place.store(places);
        ids.store(numbers);
        z.store(depths);
        for (; lanes; lanes &= lanes - 1, count++) {
            const int l = __builtin_ctz(lanes);
            at[count] = places[l];
            id[count] = numbers[l];
            depth[count] = depths[l];
        }
#endif
    }
};

template <bool kLayered>
void Painter<kLayered>::draw_small(const ScreenVertex* screen, const int32_t* tri, const int32_t* ids, int count) {
    alignas(64) int32_t lane_id[kLanes];
    for (int l = 0; l < kLanes; l++) lane_id[l] = ids[l < count ? l : 0];
    const auto corner = [&](int k) {
        return load_columns<float>([&](int l) { return reinterpret_cast<const float*>(screen + tri[3 * int64_t(lane_id[l]) + k]); });
    };
    const Columns4<float> p = corner(0), q = corner(1), r = corner(2);
    const lanes_i tile_x(tile_.x), tile_y(tile_.y), zero(0), one(1);
    const auto local = [](lanes_f c, lanes_i origin) { return bits_as<int32_t>(c) - origin; };
    ScreenTriangle<lanes_i, lanes_f> t = {{local(p.x, tile_x), local(q.x, tile_x), local(r.x, tile_x)},
                                          {local(p.y, tile_y), local(q.y, tile_y), local(r.y, tile_y)}, {p.z, q.z, r.z}};
    const lanes_i signed_area = (t.x[1] - t.x[0]) * (t.y[2] - t.y[0]) - (t.x[2] - t.x[0]) * (t.y[1] - t.y[0]);
    const lanes_i clockwise = signed_area < zero;
    t = in_standard_order(t, clockwise);
    const lanes_i area = select(clockwise, -signed_area, signed_area);
    const lanes_i up(kSubPixels - 1), last(kTile - 1);
    const lanes_i i0 = maximum((minimum(t.x[0], minimum(t.x[1], t.x[2])) + up) >> kSubPixelBits, zero);
    const lanes_i i1 = minimum(maximum(t.x[0], maximum(t.x[1], t.x[2])) >> kSubPixelBits, last);
    const lanes_i j0 = maximum((t.y[0] + up) >> kSubPixelBits, zero), j1 = minimum(maximum(t.y[1], t.y[2]) >> kSubPixelBits, last);
    const lanes_i wide = i1 - i0 + one, high = j1 - j0 + one;
    const lanes_i drawn = (lanes_i::iota() < lanes_i(count)) & (area > zero) & (wide > zero) & (high > zero);
    if (!any(drawn)) return;

    lanes_i a[3], b[3], c[3];
    for (int k = 0; k < 3; k++) {
        const int to = (k + 1) % 3;
        a[k] = t.y[k] - t.y[to];
        b[k] = t.x[to] - t.x[k];
        c[k] = (edge_bias(a[k], b[k]) - a[k] * t.x[k] - b[k] * t.y[k]) >> kSubPixelBits;
    }
    const DepthPlane<lanes_f> plane = depth_plane<lanes_f>(
        {convert<float>(t.x[1] - t.x[0]), convert<float>(t.y[1] - t.y[0])}, {convert<float>(t.x[2] - t.x[0]), convert<float>(t.y[2] - t.y[0])},
        convert<float>(area), t.k[0], t.k[1], t.k[2]);
    const lanes_f to_pixels(1.0f / kSubPixels), x = convert<float>(-t.x[0]) * to_pixels, y = convert<float>(-t.y[0]) * to_pixels;

    const lanes_i tiny = drawn & (wide * high <= lanes_i(kTinyBox));
    const unsigned tiny_bits = mask_bits(tiny);
    if (tiny_bits) {
        // Exact edges are negative outside the box, so beside them only the end of the tile needs a test; what is not tiny is never inside.
        const lanes_i tiny_high = high & tiny, tiny_wide = wide & tiny;
        const int32_t rows = largest(tiny_high);
        // Pixels are collected first: how many of a step's lanes are inside cannot be foretold.
        PixelList pixels;
        const lanes_i ids_of_lanes = lanes_i::load(lane_id);
        lanes_i row_edge[3], step_x[3];
        for (int k = 0; k < 3; k++) {
            row_edge[k] = select(tiny, c[k] + a[k] * i0 + b[k] * j0, lanes_i(-1));
            step_x[k] = a[k] & tiny;
        }
        for (int32_t dj = 0; dj < rows; dj++) {
            const lanes_i j = j0 + lanes_i(dj);
            const int32_t columns = largest(select(lanes_i(dj) < high, tiny_wide, zero));
            const lanes_f row = depth_of_row(plane, y + convert<float>(j));
            lanes_i edge[3] = {row_edge[0], row_edge[1], row_edge[2]}, i = i0;
            for (int32_t di = 0; di < columns; di++) {
                const unsigned outside = mask_bits((edge[0] | edge[1] | edge[2] | (last - i) | (last - j)) >> 31);
                pixels.add(outside ^ 0xffff, place_in_tile(i, j), depth_in_row(plane, row, x + convert<float>(i)), ids_of_lanes);
                i += one;
                for (int k = 0; k < 3; k++) edge[k] += step_x[k];
            }
            for (int k = 0; k < 3; k++) row_edge[k] += b[k] & tiny;
        }
        for (int n = 0; n < pixels.count; n++) draw_pixel(pixels.at[n], pixels.depth[n], pixels.id[n]);
    }
    unsigned rest = mask_bits(drawn) & ~tiny_bits;
    if (!rest) return;
    struct alignas(64) Table { int32_t a[3][kLanes], b[3][kLanes], c[3][kLanes], i0[kLanes], i1[kLanes], j0[kLanes], j1[kLanes]; float plane[5][kLanes], x[kLanes], y[kLanes]; } table;
    for (int k = 0; k < 3; k++) { a[k].store(table.a[k]); b[k].store(table.b[k]); c[k].store(table.c[k]); }
    i0.store(table.i0); i1.store(table.i1); j0.store(table.j0); j1.store(table.j1);
    plane.origin.store(table.plane[0]); plane.per_x.store(table.plane[1]); plane.per_y.store(table.plane[2]);
    plane.low.store(table.plane[3]); plane.high.store(table.plane[4]);
    x.store(table.x); y.store(table.y);
    for (; rest; rest &= rest - 1) {
        const int l = __builtin_ctz(rest);
        Shape s;
        for (int k = 0; k < 3; k++) s.edge[k] = {table.a[k][l], table.b[k][l], table.c[k][l]};
        s.plane = {table.plane[0][l], table.plane[1][l], table.plane[2][l], table.plane[3][l], table.plane[4][l]};
        s.x = table.x[l];
        s.y = table.y[l];
        s.id = lane_id[l];
        draw_blocks(s, table.i0[l] >> 2, table.j0[l] >> 2, table.i1[l] >> 2, table.j1[l] >> 2);
    }
}

// What is not small, for drawing near to far.
struct Nearest { float k; int32_t triangle; const Piece* piece; };

// Sorting pays where a pixel is drawn more often than this.
constexpr int64_t kOverdraw = 6;

// Corner numbers two groups ahead, corners one group ahead: the order of a tile is not that of memory.
template <class T> RG_FN void prefetch_group(const Scene<T>& scene, const int32_t* items, int32_t i, int32_t count) {
    for (int32_t l = i + 2 * kLanes; l < minimum(i + 3 * kLanes, count); l++) __builtin_prefetch(scene.tri + 3 * int64_t(items[l]));
    for (int32_t l = i + kLanes; l < minimum(i + 2 * kLanes, count); l++)
        for (int k = 0; k < 3; k++) __builtin_prefetch(scene.screen + scene.tri[3 * int64_t(items[l]) + k]);
}

template <class T, bool kLayered>
void paint_tile(const Scene<T>& scene, const Bins* bins, int64_t workers, int64_t tile_index, Tile& tile, const float* previous) {
    Painter<kLayered> painter(tile, previous);
    const auto draw_one = [&](int32_t triangle, const Piece* piece) {
        const int32_t* n = scene.tri + 3 * int64_t(triangle);
        if (piece) painter.draw(piece->corner[0], piece->corner[1], piece->corner[2], triangle);
        else painter.draw(scene.screen[n[0]], scene.screen[n[1]], scene.screen[n[2]], triangle);
    };
    const auto visit = [&](auto&& one) {
        for (int64_t w = 0; w < workers; w++) {
            bins[w].tiles[tile_index].large.for_each_piece([&](const int32_t* items, int32_t count) {
                for (int32_t i = 0; i < count; i++) one(items[i], nullptr);
            });
            bins[w].tiles[tile_index].clipped.for_each_piece([&](const Piece* const* items, int32_t count) {
                for (int32_t i = 0; i < count; i++) one(items[i]->triangle, items[i]);
            });
        }
    };
    int64_t cover = 0, count = 0;
    for (int64_t w = 0; w < workers; w++) cover += bins[w].tiles[tile_index].cover;
    if (cover > kOverdraw * kTile * kTile) {
        visit([&](int32_t, const Piece*) { count++; });
        Block<Nearest> order(static_cast<size_t>(count));
        Nearest* next = order.data();
        visit([&](int32_t triangle, const Piece* piece) {
            const int32_t* n = scene.tri + 3 * int64_t(triangle);
            const float k = piece ? minimum(piece->corner[0].k, minimum(piece->corner[1].k, piece->corner[2].k))
                                  : minimum(scene.screen[n[0]].k, minimum(scene.screen[n[1]].k, scene.screen[n[2]].k));
            *next++ = {k, triangle, piece};
        });
        std::sort(order.data(), next, [](const Nearest& a, const Nearest& b) { return a.k < b.k; });
        float farthest = kFar;
        for (const Nearest* item = order.data(); item != next; item++) {
            if (((item - order.data()) & 15) == 15) {
                farthest = tile.region_far[0];
                for (int k = 1; k < kLanes; k++) farthest = maximum(farthest, tile.region_far[k]);
            }
            if (item->k > farthest) break;
            draw_one(item->triangle, item->piece);
        }
    } else {
        visit(draw_one);
    }
    for (int64_t w = 0; w < workers; w++)
        bins[w].tiles[tile_index].small.for_each_piece([&](const int32_t* items, int32_t count_of_piece) {
            for (int32_t i = 0; i < count_of_piece; i += kLanes) {
                prefetch_group(scene, items, i, count_of_piece);
                painter.draw_small(scene.screen, scene.tri, items + i, int(minimum(count_of_piece - i, int32_t(kLanes))));
            }
        });
}

}  // namespace
RG_END
