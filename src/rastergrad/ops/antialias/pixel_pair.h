// SPDX-License-Identifier: MIT
// The pair of pixels of Laine et al. 2020: examines the edges of the nearer pixel's own triangle (docs/definition.md 5.2 to 5.6).
#pragma once
#include "formulas.h"
#include "silhouettes.h"
#include "strips.h"

RG_BEGIN

template <class T> struct Pair {
    Axis axis;
    int64_t column;          // of the first pixel; the second lies to the right, or one row on
    T weight;
    int32_t vertex1, vertex2;  // the edge that crosses, ...
    Vec2<T> p1, p2;          // ... seen from the chosen pixel, axes turned for vertical pairs
};

template <class T> class PairRule {
  public:
    PairRule(const Scene<T>& scene, const Silhouettes<T>& silhouettes, int64_t image)
        : s_(scene), silhouettes_(silhouettes), image_(image), rast_(scene.rast + image * scene.height * scene.width * 4),
          pos_(scene.pos + image * scene.pos_image_stride), half_{T(scene.width) / 2, T(scene.height) / 2} {}

    // The rows from `row` on whose spans are found together, and where in [first, last] there may be pairs that are blended: the crossing with a
    // silhouette lies in one of a pair's two pixels.
    RG_FN int64_t band_end(int64_t row) const { return (row / EdgeMap<T>::kCell + 1) * EdgeMap<T>::kCell; }
    Spans spans(int64_t first, int64_t last, Arena& arena) const {
        return silhouettes_.map().spans(silhouettes_.table_of(image_), first, last, false, arena);
    }
    RG_FN bool asks_everywhere() const { return false; }
    RG_FN int64_t keep(const T*, const T*, const int32_t*, int64_t count) const { return count; }
    // Asks for what examine will soon read of a pair, ...
    RG_FN void expect(T id0, T id1) const {
        for (const int32_t triangle : {s_.triangle_of(id0), s_.triangle_of(id1)}) {
            if (triangle < 0) continue;
            silhouettes_.expect(image_, triangle);
            __builtin_prefetch(s_.tri + 3 * int64_t(triangle));
        }
    }
    // ... and for what the answers lead to, ...
    RG_FN void expect_further(T id0, T id1) const {
        for (const int32_t triangle : {s_.triangle_of(id0), s_.triangle_of(id1)}) {
            if (triangle < 0 || !silhouettes_.edges(image_, triangle)) continue;
            for (int k = 0; k < 3; k++) __builtin_prefetch(pos_ + 4 * int64_t(s_.tri[3 * int64_t(triangle) + k]));
        }
    }
    // ... if that is too much for the nearer caches.
    RG_FN bool expects() const { return silhouettes_.is_large(); }
    // Whether the pair is blended. 5.2: the triangle that may own the edge is the only one, or the nearer one.
    RG_FN bool examine(Axis axis, int64_t row, int64_t column, T id0, T id1, Pair<T>& pair) const {
        const bool vertical = axis == Axis::kVertical;
        const int32_t triangle0 = s_.triangle_of(id0), triangle1 = s_.triangle_of(id1);
        // Inside of surfaces neither has one, and which is nearer could not be foretold.
        const int silhouettes0 = triangle0 < 0 ? 0 : silhouettes_.edges(image_, triangle0);
        const int silhouettes1 = triangle1 < 0 ? 0 : silhouettes_.edges(image_, triangle1);
        if (!(silhouettes0 | silhouettes1)) return false;
        bool first = triangle1 < 0;
        if (triangle0 >= 0 && triangle1 >= 0) {
            const T* fragment = rast_ + (row * s_.width + column) * 4;
            first = fragment[2] < fragment[(vertical ? s_.width * 4 : 4) + 2];
        }
        const int32_t triangle = first ? triangle0 : triangle1;
        const int silhouettes = first ? silhouettes0 : silhouettes1;
        if (!silhouettes) return false;
        pair.axis = axis;
        pair.column = column;
        return cross_edge(vertical, triangle, silhouettes, column + (first || vertical ? 0 : 1), row + (first || !vertical ? 0 : 1),
                          first ? T(1) : T(-1), pair);
    }

  private:
    const Scene<T>& s_;
    const Silhouettes<T>& silhouettes_;
    int64_t image_;
    const T* rast_;
    const T* pos_;
    Vec2<T> half_;

    // 5.5 and 5.6, from the centre of the chosen pixel.
    bool cross_edge(bool vertical, int32_t triangle, int silhouettes, int64_t column, int64_t row, T side, Pair<T>& pair) const {
        const int32_t* corner = s_.tri + 3 * int64_t(triangle);
        const Vec2<T> origin{T(column) + T(0.5) - half_.x, T(row) + T(0.5) - half_.y};
        Vec2<T> p[3];
        for (int k = 0; k < 3; k++) {
            const T* v = pos_ + 4 * int64_t(corner[k]);
            p[k] = screen_position(v[0], v[1], v[3], half_, origin);
            if (vertical) p[k] = turned(p[k]);
        }
        T distance = 0;
        const int edge = exit_edge(p, side, distance);
        if (edge < 0 || !(silhouettes >> edge & 1)) return false;
        pair.p1 = p[(edge + 1) % 3];
        pair.p2 = p[(edge + 2) % 3];
        if (!is_steep(pair.p1, pair.p2) || !lies_between(distance)) return false;
        pair.vertex1 = corner[(edge + 1) % 3];
        pair.vertex2 = corner[(edge + 2) % 3];
        pair.weight = blend_weight(distance, side);
        return true;
    }
};

RG_END
