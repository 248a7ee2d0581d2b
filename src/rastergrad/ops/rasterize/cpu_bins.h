// SPDX-License-Identifier: MIT
// Which triangles may touch which tile of 64 x 64 pixels: 16 triangles at a time, into lists of each worker.
#pragma once
#include "cpu_clip.h"
#include "shape.h"
#include "threads.h"

RG_BEGIN
namespace {

constexpr int kTileShift = 6, kTile = 1 << kTileShift;
// Up to this extent in pixels, edge functions relative to any tile that the triangle touches fit int32 whole: |a|, |b| <= 60 * 256
// and |x|, |y| <= 125 * 256 give products below 2^29.
constexpr int32_t kSmallExtent = 60 * kSubPixels;
constexpr int64_t kTriangleChunk = 4096;

struct TileGrid {
    ScreenSize size;
    int32_t across, down;
    explicit TileGrid(ScreenSize s) : size(s), across((s.width + kTile - 1) / kTile), down((s.height + kTile - 1) / kTile) {}
    int64_t count() const { return int64_t(across) * down; }
};

struct TileBin {
    PieceList<int32_t> small, large;    // triangle numbers
    PieceList<const Piece*> clipped;
    int64_t cover;                      // pixels of the bounding boxes of what is not small
};

// The lists of one worker for one image.
struct Bins {
    Arena* arena;
    TileBin* tiles;
    int64_t first_bad;  // the lowest triangle with a vertex index out of range, or INT64_MAX

    void clear(const TileGrid& grid) {
        memset(static_cast<void*>(tiles), 0, size_t(grid.count()) * sizeof(TileBin));
        first_bad = INT64_MAX;
    }
};

// One image as the rasteriser sees it.
template <class T> struct Scene {
    const T* pos;
    const ScreenVertex* screen;
    const int32_t* tri;
    int32_t vertices;
    int64_t first, count;  // triangles of this image
};

// Whether any part of the tile at (x, y), in grid units, may be inside all three edges. Exact at the tile's corners.
struct TileTest {
    int64_t a[3], b[3], c[3];
    TileTest(const ScreenVertex& p, const ScreenVertex& q, const ScreenVertex& r) {
        const int64_t area = int64_t(q.x - p.x) * (r.y - p.y) - int64_t(r.x - p.x) * (q.y - p.y);
        const ScreenVertex* v[3] = {&p, area < 0 ? &r : &q, area < 0 ? &q : &r};
        for (int k = 0; k < 3; k++) {
            const ScreenVertex &from = *v[k], &to = *v[(k + 1) % 3];
            a[k] = from.y - to.y;
            b[k] = to.x - from.x;
            c[k] = -(a[k] * from.x + b[k] * from.y);
        }
    }
    bool touches(int64_t x, int64_t y) const {
        constexpr int64_t kSpan = (kTile - 1) * kSubPixels;
        for (int k = 0; k < 3; k++)
            if (a[k] * (a[k] > 0 ? x + kSpan : x) + b[k] * (b[k] > 0 ? y + kSpan : y) + c[k] < 0) return false;
        return true;
    }
};

// What is not small goes to every tile it may touch.
template <class Add> void for_each_tile_of(const TileGrid& grid, const ScreenVertex& p, const ScreenVertex& q, const ScreenVertex& r, Add&& add) {
    const PixelBox box = pixel_box(p, q, r, grid.size);
    if (box.empty()) return;
    const int32_t tx0 = box.x0 >> kTileShift, tx1 = box.x1 >> kTileShift, ty0 = box.y0 >> kTileShift, ty1 = box.y1 >> kTileShift;
    const TileTest test(p, q, r);
    const bool worth_testing = tx1 - tx0 + ty1 - ty0 >= 2;
    for (int32_t ty = ty0; ty <= ty1; ty++)
        for (int32_t tx = tx0; tx <= tx1; tx++) {
            const int32_t x = tx << kTileShift, y = ty << kTileShift;
            if (worth_testing && !test.touches(int64_t(2 * x + 1 - grid.size.width) * kHalfPixel, int64_t(2 * y + 1 - grid.size.height) * kHalfPixel))
                continue;
            const int32_t w = minimum(box.x1, x + kTile - 1) - maximum(box.x0, x) + 1, h = minimum(box.y1, y + kTile - 1) - maximum(box.y0, y) + 1;
            add(int64_t(ty) * grid.across + tx, int64_t(w) * h);
        }
}

// Vertex numbers of 16 triangles; those of triangles that have a number out of range become 0 and leave `valid`.
class CornerNumbers {
  public:
    unsigned valid;
    CornerNumbers(const int32_t* tri, int32_t vertices, int count) : valid((1u << count) - 1), at_(tri) {
        if (count == kLanes) {
            const lanes_i low(0), high(vertices);
            const lanes_i n0 = lanes_i::load(tri), n1 = lanes_i::load(tri + kLanes), n2 = lanes_i::load(tri + 2 * kLanes);
            if (!any((n0 < low) | (n0 >= high) | (n1 < low) | (n1 >= high) | (n2 < low) | (n2 >= high))) return;
        }
        for (int l = 0; l < kLanes; l++) {
            const int32_t* n = tri + 3 * (l < count ? l : 0);
            const bool good = n[0] >= 0 && n[0] < vertices && n[1] >= 0 && n[1] < vertices && n[2] >= 0 && n[2] < vertices;
            for (int k = 0; k < 3; k++) own_[3 * l + k] = good ? n[k] : 0;
            if (!good) valid &= ~(1u << l);
        }
        at_ = own_;
    }
    CornerNumbers(const CornerNumbers&) = delete;
    CornerNumbers& operator=(const CornerNumbers&) = delete;
    RG_FN int32_t at(int k, int l) const { return at_[3 * l + k]; }

  private:
    const int32_t* at_;
    int32_t own_[3 * kLanes];
};

template <class T> class Binner {
  public:
    Binner(const Scene<T>& scene, const TileGrid& grid, Bins& bins) : scene_(scene), grid_(grid), bins_(bins) {}

    // Triangles [begin, end), counted from the first of the image.
    void add(int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += kLanes) add_group(scene_.first + i, int(minimum(end - i, int64_t(kLanes))));
    }

  private:
    static constexpr int kWorthTogether = 4;  // of sixteen triangles
    const Scene<T>& scene_;
    const TileGrid& grid_;
    Bins& bins_;

    RG_FN void add_group(int64_t first, int count) {
        const CornerNumbers n(scene_.tri + 3 * first, scene_.vertices, count);
        const unsigned all = (1u << count) - 1;
        if (n.valid != all) {
            const int64_t bad = first + __builtin_ctz(all & ~n.valid);
            if (bad < bins_.first_bad) bins_.first_bad = bad;
            if (!n.valid) return;
        }
        const auto corner = [&](int k) {
            return load_columns<float>([&](int l) { return reinterpret_cast<const float*>(scene_.screen + n.at(k, l)); });
        };
        const Columns4<float> p = corner(0), q = corner(1), r = corner(2);
        const auto integer = [](lanes_f c) { return bits_as<int32_t>(c); };
        const lanes_i px = integer(p.x), qx = integer(q.x), rx = integer(r.x), py = integer(p.y), qy = integer(q.y), ry = integer(r.y);
        const lanes_i flags_and = integer(p.w) & integer(q.w) & integer(r.w), flags_or = integer(p.w) | integer(q.w) | integer(r.w);
        const lanes_i zero(0);
        const unsigned usable = n.valid & mask_bits(((flags_and & lanes_i(kOutside)) == zero) & ((flags_or & lanes_i(kUnusable)) == zero));
        const unsigned to_clip = usable & mask_bits((flags_or & lanes_i(kNeedsClip)) != zero);
        const lanes_i low_x = minimum(px, minimum(qx, rx)), high_x = maximum(px, maximum(qx, rx));
        const lanes_i low_y = minimum(py, minimum(qy, ry)), high_y = maximum(py, maximum(qy, ry));
        const lanes_i half_x(grid_.size.width * kHalfPixel), half_y(grid_.size.height * kHalfPixel);
        const lanes_i up(kHalfPixel - 1), down(kHalfPixel);
        const lanes_i x0 = maximum((low_x + half_x + up) >> kSubPixelBits, zero), y0 = maximum((low_y + half_y + up) >> kSubPixelBits, zero);
        const lanes_i x1 = minimum((high_x + half_x - down) >> kSubPixelBits, lanes_i(grid_.size.width - 1));
        const lanes_i y1 = minimum((high_y + half_y - down) >> kSubPixelBits, lanes_i(grid_.size.height - 1));
        unsigned drawn = usable & ~to_clip & mask_bits((x0 <= x1) & (y0 <= y1));
        const unsigned small = mask_bits((high_x - low_x <= lanes_i(kSmallExtent)) & (high_y - low_y <= lanes_i(kSmallExtent)));
        const lanes_i tx0 = x0 >> kTileShift, tx1 = x1 >> kTileShift, ty0 = y0 >> kTileShift, ty1 = y1 >> kTileShift;
        alignas(64) int32_t column[kLanes], row[kLanes], right[kLanes], up_to[kLanes];
        tx0.store(column); ty0.store(row); tx1.store(right); ty1.store(up_to);
        unsigned single = drawn & small;
        while (single) {
            // Neighbours in a mesh mostly share a tile, or two: they go into its list together.
            const int l = __builtin_ctz(single);
            const lanes_i tx(column[l]), ty(row[l]);
            const unsigned same = single & mask_bits((tx0 == tx) & (tx1 == tx) & (ty0 == ty) & (ty1 == ty));
            if (__builtin_popcount(same) < kWorthTogether) break;
            auto* piece = bins_.tiles[int64_t(row[l]) * grid_.across + column[l]].small.room_for(*bins_.arena, kLanes);
            piece->used += put_set_bits(same, first, piece->items() + piece->used);
            single &= ~same;
        }
        for (unsigned left = single; left; left &= left - 1) {
            const int l = __builtin_ctz(left);
            for (int32_t ty = row[l]; ty <= up_to[l]; ty++)
                for (int32_t tx = column[l]; tx <= right[l]; tx++)
                    bins_.tiles[int64_t(ty) * grid_.across + tx].small.push(*bins_.arena, int32_t(first + l));
        }
        for (unsigned left = drawn & ~small; left; left &= left - 1) {
            const int l = __builtin_ctz(left);
            const ScreenVertex* v = scene_.screen;
            for_each_tile_of(grid_, v[n.at(0, l)], v[n.at(1, l)], v[n.at(2, l)], [&](int64_t tile, int64_t pixels) {
                bins_.tiles[tile].large.push(*bins_.arena, int32_t(first + l));
                bins_.tiles[tile].cover += pixels;
            });
        }
        for (unsigned left = to_clip; left; left &= left - 1) {
            const int l = __builtin_ctz(left);
            add_clipped(int32_t(first + l), {n.at(0, l), n.at(1, l), n.at(2, l)});
        }
    }

    __attribute__((noinline)) void add_clipped(int32_t triangle, const int32_t (&index)[3]) {
        for_each_piece_of(triangle, index, scene_.pos, scene_.screen, grid_.size, [&](const Piece& made) {
            const Piece* piece = nullptr;
            for_each_tile_of(grid_, made.corner[0], made.corner[1], made.corner[2], [&](int64_t tile, int64_t pixels) {
                if (!piece) piece = new (bins_.arena->take(sizeof(Piece))) Piece(made);
                bins_.tiles[tile].clipped.push(*bins_.arena, piece);
                bins_.tiles[tile].cover += pixels;
            });
        });
    }
};

}  // namespace
RG_END
