// SPDX-License-Identifier: MIT
// Where surfaces end on the screen, worked out once per mesh and image: a byte per triangle that tells which of its edges are outlines
// (borders and folds), and a coarse map of the pixels that outlines pass, so that the inside of a surface costs next to nothing.
#pragma once
#include <atomic>

#include "edge_map.h"
#include "memory.h"
#include "outline.h"
#include "strips.h"

RG_BEGIN

template <class T> class OutlineEdges {
  public:
    // Bytes: those of triangles, then the map's.
    static int64_t size_of(const Scene<T>& s) { return (s.pos_image_stride ? s.images : 1) * (s.triangles + EdgeMap<T>::cells_of(s)); }
    // Found, and kept in `memory` if that is not null; or `known`: found and kept there before.
    explicit OutlineEdges(const Scene<T>& s, uint8_t* memory = nullptr, bool known = false)
        : s_(s), half_{T(s.width) / 2, T(s.height) / 2}, tables_(s.pos_image_stride ? s.images : 1), own_(memory ? 0 : size_t(size_of(s))),
          edges_(memory ? memory : own_.data()), map_(s, edges_ + tables_ * s.triangles) {
        if (known) return;
        memset(edges_ + tables_ * s.triangles, 0, size_t(tables_ * EdgeMap<T>::cells_of(s)));
        find_edges();
    }

    // The first triangle with a vertex that does not exist, or -1. If there is one nothing else may be asked.
    int64_t bad_triangle() const {
        const int64_t bad = bad_;
        return bad == kNone ? -1 : bad;
    }

    // [triangles]; bit k: the edge opposite to corner k is an outline.
    const uint8_t* edges(int64_t image) const { return edges_ + table_of(image) * s_.triangles; }
    // Whether an outline may pass the pixel or its neighbours' centres.
    RG_FN bool may_pass(int64_t image, int64_t column, int64_t row) const {
        return map_.is_marked(table_of(image), column, row);
    }
    const EdgeMap<T>& map() const { return map_; }
    int64_t table_of(int64_t image) const { return s_.pos_image_stride ? image : 0; }

  private:
    static constexpr int64_t kChunk = 4096;   // triangles
    static constexpr int64_t kNone = INT64_MAX;
    const Scene<T>& s_;
    Vec2<T> half_;
    int64_t tables_;
    Block<uint8_t> own_;
    uint8_t* const edges_;
    EdgeMap<T> map_;
    std::atomic<int64_t> bad_{kNone};

    RG_FN const T* vertex(int64_t table, int32_t v) const { return s_.pos + table * s_.pos_image_stride + 4 * int64_t(v); }

    // A half-edge leads "down" if its triangle shows its front and it starts at the larger index, or if neither is so. Two triangles
    // that show the same face, and are wound alike, run along their edge in opposite directions: one of them leads down. So an edge is a
    // fold if both of its half-edges lead down or neither does, whichever way the triangles are wound.
    void find_edges() {
        const int64_t bytes = (3 * s_.triangles + 7) / 8 + kLanes;
        Block<uint8_t> down(size_t(tables_ * bytes));
        for_each_part([&](int64_t table, int64_t begin, int64_t end) { find_down(table, begin, end, down.data() + table * bytes); });
        if (bad_ != kNone) return;
        for_each_part([&](int64_t table, int64_t begin, int64_t end) { find_outlines(table, begin, end, down.data() + table * bytes); });
    }
    // body(table, first triangle, triangle after the last)
    template <class Body> void for_each_part(Body&& body) {
        const int64_t parts = (s_.triangles + kChunk - 1) / kChunk;
        parallel_for(s_.threads, tables_ * parts, 1, [&](int, int64_t from, int64_t to) {
            for (int64_t i = from; i < to; i++) {
                const int64_t begin = i % parts * kChunk;
                body(i / parts, begin, minimum(begin + kChunk, s_.triangles));
            }
        });
    }

    // Three bits per triangle, sixteen triangles at a time: even a million triangles' bits stay in the second cache, where pass two looks up
    // those of neighbours.
    void find_down(int64_t table, int64_t begin, int64_t end, uint8_t* down) {
        if (has_bad(begin, end)) return;
        const T* const pos = vertex(table, 0);
        int32_t rest[kInterleaved] = {};
        for (int64_t i = begin; i < end; i += kLanes) {
            const int32_t* const corners = padded(s_.tri, i, rest);
            Vec3<Lanes<T>> p[3];
            for (int k = 0; k < 3; k++) {
                const Columns4<T> c = load_columns<T>([&](int l) { return pos + 4 * int64_t(corners[3 * l + k]); });
                p[k] = {c.x, c.y, c.w};
            }
            const uint64_t back = every_third(mask_bits(facing(p[0], p[1], p[2]) < Lanes<T>(T(0))));
            // Corners lie one after another: of every third the next two are its triangle's other ones.
            uint64_t falls = 0, rises_by_two = 0;
            for (int q = 0; q < 3; q++) {
                const Lanes<int32_t> corner = Lanes<int32_t>::load(corners + q * kLanes);
                falls |= uint64_t(mask_bits(corner > Lanes<int32_t>::load(corners + q * kLanes + 1))) << (q * kLanes);
                rises_by_two |= uint64_t(mask_bits(corner < Lanes<int32_t>::load(corners + q * kLanes + 2))) << (q * kLanes);
            }
            const uint64_t bits = back * 7 ^ ((falls & kThirds << 1) >> 1 | (rises_by_two & kThirds) << 1 | (falls & kThirds) << 2);
            memcpy(down + 3 * i / 8, &bits, 6);
        }
    }
    static constexpr uint64_t kThirds = 0x249249249249u;        // every third of 48 bits
    static constexpr int kInterleaved = 3 * kLanes + kLanes;  // three numbers for each of sixteen triangles, and what is read behind them
    // Those from triangle i on, where enough of them lie in memory; else what there is, and behind it anything that was there before.
    const int32_t* padded(const int32_t* numbers, int64_t i, int32_t (&rest)[kInterleaved]) const {
        const int64_t left = 3 * (s_.triangles - i);
        if (left >= kInterleaved) return numbers + 3 * i;
        memcpy(rest, numbers + 3 * i, size_t(minimum(left, int64_t(kInterleaved))) * sizeof(int32_t));
        return rest;
    }
    // Bit n of sixteen becomes bit 3 n.
    static RG_FN uint64_t every_third(uint64_t bits) {
        bits = (bits | bits << 16) & 0x0000ff0000ffu;
        bits = (bits | bits << 8) & 0x00f00f00f00fu;
        bits = (bits | bits << 4) & 0x0c30c30c30c3u;
        return (bits | bits << 2) & kThirds;
    }

    // A topology of another mesh has not seen these triangles.
    bool has_bad(int64_t begin, int64_t end) {
        const auto exists = [this](int64_t corner) { return uint32_t(s_.tri[corner]) < uint64_t(s_.vertices); };
        int32_t least = 0, most = -1;
        for (int64_t i = 3 * begin; i < 3 * end; i++) {
            least = minimum(least, s_.tri[i]);
            most = maximum(most, s_.tri[i]);
        }
        if (least == 0 && most < s_.vertices) return false;
        int64_t i = 3 * begin, seen = bad_.load();
        while (exists(i)) i++;
        while (i / 3 < seen && !bad_.compare_exchange_weak(seen, i / 3)) {}
        return true;
    }

    void find_outlines(int64_t table, int64_t begin, int64_t end, const uint8_t* down) const {
        // Twins of another mesh may point anywhere: then the edge counts as a border.
        const int64_t half_edges = 3 * s_.triangles;
        const Lanes<int32_t> none(0), last(int32_t(half_edges - 1));
        uint8_t* const edges = edges_ + table * s_.triangles;
        int32_t rest[kInterleaved] = {}, inside[3 * kLanes];
        for (int64_t i = begin; i < end; i += kLanes) {
            const int32_t* const twins = padded(s_.twins, i, rest);
            uint64_t borders = 0, across = 0, own = 0;
            for (int q = 0; q < 3; q++) {
                const Lanes<int32_t> twin = Lanes<int32_t>::load(twins + q * kLanes);
                const Lanes<int32_t> border = (twin < none) | (twin > last);
                borders |= uint64_t(mask_bits(border)) << (q * kLanes);
                select(border, none, twin).store(inside + q * kLanes);
            }
            for (int q = 0; q < 3; q++) {
                uint64_t sixteen = 0;
                for (int l = 0; l < kLanes; l++) sixteen |= uint64_t(bit_of(down, inside[q * kLanes + l])) << l;
                across |= sixteen << (q * kLanes);
            }
            memcpy(&own, down + 3 * i / 8, 6);
            const int64_t count = minimum(end - i, int64_t(kLanes));
            uint64_t bits = (borders | ~(own ^ across)) & ((uint64_t(1) << 3 * count) - 1);
            memset(edges + i, 0, size_t(count));
            while (bits) {
                const int64_t t = __builtin_ctzll(bits) / 3;
                edges[i + t] = uint8_t(bits >> 3 * t & 7);
                mark(table, 3 * (i + t), edges[i + t]);
                bits &= ~(uint64_t(7) << 3 * t);
            }
        }
    }

    static RG_FN uint32_t bit_of(const uint8_t* bits, int32_t i) {
        uint32_t word;
        memcpy(&word, bits + (i >> 5) * int64_t(sizeof word), sizeof word);
        return word >> (i & 31) & 1;
    }

    // Marks the cells that the outlines of a triangle pass.
    void mark(int64_t table, int64_t half_edge, unsigned bits) const {
        const int32_t* corner = s_.tri + half_edge;
        for (int k = 0; k < 3; k++) {
            const int64_t twin = s_.twins[half_edge + k];
            // A fold is marked from one side.
            if ((bits >> k & 1) && !(twin >= 0 && twin < half_edge)) mark(table, vertex(table, corner[(k + 1) % 3]), vertex(table, corner[(k + 2) % 3]));
        }
    }

    void mark(int64_t table, const T* a, const T* b) const {
        const EdgeExtent<T> e = edge_extent(Vec4<T>{a[0], a[1], a[2], a[3]}, Vec4<T>{b[0], b[1], b[2], b[3]}, half_);
        if (!e.visible) return;
        map_.mark(table, e.left, e.right, e.low, e.high, T(kOutlineMargin), e.steep, [&](T y) { return along_at(e.line, y); });
    }
};

RG_END
