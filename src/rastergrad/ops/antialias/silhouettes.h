// SPDX-License-Identifier: MIT
// Which edges of a triangle are silhouettes (docs/definition.md 5.4). The answer depends on neither pixel nor pair, so it is worked out once per triangle,
// unless the mesh is so large for the image that asking per pair is less work.
#pragma once
#include "edge_map.h"
#include "formulas.h"
#include "memory.h"
#include "strips.h"

RG_BEGIN

template <class T> class Silhouettes {
  public:
    explicit Silhouettes(const Scene<T>& s)
        : s_(s), half_{T(s.width) / 2, T(s.height) / 2}, tables_(s.pos_image_stride ? s.images : 1),
          tabled_(s.triangles <= 8 * s.height * s.width * (s.images / tables_)),
          table_(tabled_ ? size_t(tables_ * s.triangles) : 0), map_(s, tables_, !tabled_) {
        if (tabled_) fill();
    }

    // Bit k: the edge opposite to corner k. None if a vertex of the triangle does not exist.
    RG_FN int edges(int64_t image, int32_t triangle) const {
        const int64_t table = table_of(image);
        if (tabled_) return table_.data()[table * s_.triangles + triangle];
        const T* pos = s_.pos + table * s_.pos_image_stride;
        return work_out(triangle, [=, this](int32_t v) { return on_screen(pos + 4 * int64_t(v)); });
    }

    // Asks for what edges() will read.
    RG_FN void expect(int64_t image, int32_t triangle) const {
        __builtin_prefetch(table_.data() + table_of(image) * s_.triangles + triangle);
    }
    // What silhouettes pass, or may pass.
    const EdgeMap<T>& map() const { return map_; }
    RG_FN int64_t table_of(int64_t image) const { return s_.pos_image_stride ? image : 0; }
    RG_FN bool is_large() const { return tabled_ && s_.triangles >= kLargeTable; }

  private:
    static constexpr int64_t kLargeTable = 32768;
    static constexpr int64_t kChunk = 4096;
    const Scene<T>& s_;
    Vec2<T> half_;
    int64_t tables_;
    bool tabled_;
    mutable Block<uint8_t> table_;
    EdgeMap<T> map_;

    RG_FN Vec2<T> on_screen(const T* v) const { return screen_position(v[0], v[1], v[3], half_, Vec2<T>{0, 0}); }

    template <class At> RG_FN int work_out(int64_t triangle, At&& at) const {
        const int32_t* corner = s_.tri + 3 * triangle;
        for (int k = 0; k < 3; k++)
            if (corner[k] < 0 || corner[k] >= s_.vertices) return 0;
        const Vec2<T> p[3] = {at(corner[0]), at(corner[1]), at(corner[2])};
        const T area = doubled_area(p[0], p[1], p[2]);
        int bits = 0;
        for (int k = 0; k < 3; k++) {
            const int32_t twin = s_.twins[3 * triangle + k];
            // Twins of another mesh may point anywhere: then the edge counts as a border.
            const int32_t opposite = twin >= 0 && twin < 3 * s_.triangles ? s_.tri[twin] : -1;
            const bool border = opposite < 0 || opposite >= s_.vertices;
            if (border || folds(area, at(opposite), p[(k + 1) % 3], p[(k + 2) % 3])) bits |= 1 << k;
        }
        return bits;
    }

    void fill() {
        Block<Vec2<T>> screen(size_t(tables_ * s_.vertices));
        Vec2<T>* const positions = screen.data();
        parallel_for(s_.threads, tables_ * s_.vertices, kChunk, [&](int, int64_t begin, int64_t end) {
            for (int64_t v = begin; v < end; v++) positions[v] = on_screen(s_.pos + 4 * v);
        });
        uint8_t* const bits = table_.data();
        parallel_for(s_.threads, tables_ * s_.triangles, kChunk, [&](int, int64_t begin, int64_t end) {
            for (int64_t t = begin; t < end;) {
                const int64_t table = t / s_.triangles, own = t % s_.triangles;
                const Vec2<T>* const of_image = positions + table * s_.vertices;
                const int count = minimum(end - t, s_.triangles - own) >= kLanes && work_out_lanes(own, of_image, bits + t) ? kLanes : 1;
                if (count == 1) bits[t] = uint8_t(work_out(own, [=](int32_t v) { return of_image[v]; }));
                for (int l = 0; l < count; l++)
                    if (bits[t + l]) mark(table, s_.tri + 3 * (own + l), of_image, bits[t + l]);
                t += count;
            }
        });
    }

    // work_out for sixteen triangles; false, and nothing done, if one of them has a vertex that does not exist.
    bool work_out_lanes(int64_t first, const Vec2<T>* positions, uint8_t* bits) const {
        alignas(64) T x[6][kLanes], y[6][kLanes];  // corners, then what lies opposite to them
        unsigned borders[3] = {0, 0, 0};
        for (int l = 0; l < kLanes; l++)
            for (int k = 0; k < 3; k++) {
                const int64_t half_edge = 3 * (first + l) + k;
                const uint32_t corner = uint32_t(s_.tri[half_edge]);
                if (corner >= uint64_t(s_.vertices)) return false;
                const int64_t twin = s_.twins[half_edge];
                const bool apart = uint64_t(twin) >= uint64_t(3 * s_.triangles);
                const uint32_t opposite = uint32_t(s_.tri[apart ? 0 : twin]);
                const bool border = apart || opposite >= uint64_t(s_.vertices);
                borders[k] |= unsigned(border) << l;
                const Vec2<T> p = positions[corner], q = positions[border ? 0 : opposite];
                x[k][l] = p.x;
                y[k][l] = p.y;
                x[3 + k][l] = q.x;
                y[3 + k][l] = q.y;
            }
        Vec2<Lanes<T>> p[6];
        for (int k = 0; k < 6; k++) p[k] = {Lanes<T>::load(x[k]), Lanes<T>::load(y[k])};
        const Lanes<T> area = doubled_area(p[0], p[1], p[2]);
        unsigned folded[3];
        for (int k = 0; k < 3; k++) folded[k] = borders[k] | mask_bits(folds(area, p[3 + k], p[(k + 1) % 3], p[(k + 2) % 3]));
        for (int l = 0; l < kLanes; l++)
            bits[l] = uint8_t((folded[0] >> l & 1) | (folded[1] >> l & 1) << 1 | (folded[2] >> l & 1) << 2);
        return true;
    }

    void mark(int64_t table, const int32_t* corner, const Vec2<T>* positions, unsigned bits) const {
        for (int k = 0; k < 3; k++) {
            if (!(bits >> k & 1)) continue;
            const Vec2<T> p = positions[corner[(k + 1) % 3]] + half_, q = positions[corner[(k + 2) % 3]] + half_;
            // The reach of a crossing, 1/16, and rounding, which grows with what lies far outside of the image.
            const T margin = T(0.25) + (abs_of(p.x) + abs_of(p.y) + abs_of(q.x) + abs_of(q.y)) / T(65536);
            const T slope = (q.x - p.x) / (q.y - p.y);
            map_.mark(table, minimum(p.x, q.x), maximum(p.x, q.x), minimum(p.y, q.y), maximum(p.y, q.y), margin, abs_of(slope) < T(16),
                      [=](T y) { return p.x + (y - p.y) * slope; });
        }
    }
};

RG_END
