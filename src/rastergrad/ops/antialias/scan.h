// SPDX-License-Identifier: MIT
// Finds the pairs of neighbouring pixels to blend: rows of ids are compared 16 at a time, and what differs is examined one by one.
#pragma once
#include "formulas.h"
#include "quads.h"
#include "silhouettes.h"
#include "triangle_id.h"

RG_BEGIN

enum class Axis { kHorizontal, kVertical };

template <class T> struct Pair {
    Axis axis;
    int64_t column;          // of the first pixel; the second lies to the right, or one row on
    T weight;
    int32_t vertex1, vertex2;  // the edge that crosses, ...
    Vec2<T> p1, p2;          // ... seen from the chosen pixel, axes turned for vertical pairs
};

template <class T> class PairScan {
  public:
    PairScan(const Scene<T>& scene, const Silhouettes<T>& silhouettes, int64_t image, Arena& arena)
        : s_(scene), silhouettes_(silhouettes), image_(image), rast_(scene.rast + image * scene.height * scene.width * 4),
          pos_(scene.pos + image * scene.pos_image_stride), half_{T(scene.width) / 2, T(scene.height) / 2} {
        const size_t padded = size_t((scene.width + kLanes) / kLanes + 1) * kLanes;
        ids_ = static_cast<T*>(arena.take(padded * sizeof(T)));
        next_ids_ = static_cast<T*>(arena.take(padded * sizeof(T)));
    }

    // The ids that row() compares with those of the row loaded before.
    void load(int64_t row) {
        T* swapped = ids_;
        ids_ = next_ids_;
        next_ids_ = swapped;
        const T* from = rast_ + row * s_.width * 4;
        int64_t i = 0;
        for (; i + kLanes <= s_.width; i += kLanes) load_columns<T>(from + 4 * i, 4).w.store(next_ids_ + i);
        for (; i < s_.width; i++) next_ids_[i] = from[4 * i + 3];
    }

    // Pairs within the row loaded last, left to right.
    template <class Visit> RG_FN void horizontal(int64_t row, Visit&& visit) {
        scan<Axis::kHorizontal>(row, next_ids_, next_ids_ + 1, s_.width - 1, visit);
    }
    // Pairs between `row`, loaded before, and the next one, loaded last.
    template <class Visit> RG_FN void vertical(int64_t row, Visit&& visit) {
        scan<Axis::kVertical>(row, ids_, next_ids_, s_.width, visit);
    }

  private:
    const Scene<T>& s_;
    const Silhouettes<T>& silhouettes_;
    int64_t image_;
    const T* rast_;
    const T* pos_;
    Vec2<T> half_;
    T *ids_, *next_ids_;

    template <Axis axis, class Visit>
    RG_FN void scan(int64_t row, const T* first, const T* second, int64_t count, Visit&& visit) {
        for (int64_t i = 0; i < count; i += kLanes) {
            unsigned differ = mask_bits(Lanes<T>::load(first + i) != Lanes<T>::load(second + i));
            if (count - i < kLanes) differ &= (1u << (count - i)) - 1;
            for (; differ; differ &= differ - 1) {
                const int64_t column = i + __builtin_ctz(differ);
                Pair<T> pair;
                if (examine<axis>(row, column, first[column], second[column], pair)) visit(pair);
            }
        }
    }

    RG_FN int32_t triangle_of(T id) const {
        const int32_t triangle = decode_id(id);
        return triangle < s_.triangles ? triangle : -1;
    }

    // 5.2: the triangle that may own the edge is the only one, or the nearer one.
    template <Axis axis> RG_FN bool examine(int64_t row, int64_t column, T id0, T id1, Pair<T>& pair) const {
        constexpr bool vertical = axis == Axis::kVertical;
        const int32_t triangle0 = triangle_of(id0), triangle1 = triangle_of(id1);
        bool first = triangle1 < 0;
        if (triangle0 >= 0 && triangle1 >= 0) {
            const T* fragment = rast_ + (row * s_.width + column) * 4;
            first = fragment[2] < fragment[(vertical ? s_.width * 4 : 4) + 2];
        }
        const int32_t triangle = first ? triangle0 : triangle1;
        if (triangle < 0) return false;
        const int silhouettes = silhouettes_.edges(image_, triangle);
        if (!silhouettes) return false;
        pair.axis = axis;
        pair.column = column;
        return cross_edge<axis>(triangle, silhouettes, column + (first || vertical ? 0 : 1), row + (first || !vertical ? 0 : 1),
                                first ? T(1) : T(-1), pair);
    }

    // 5.5 and 5.6, from the centre of the chosen pixel.
    template <Axis axis>
    bool cross_edge(int32_t triangle, int silhouettes, int64_t column, int64_t row, T side, Pair<T>& pair) const {
        const int32_t* corner = s_.tri + 3 * int64_t(triangle);
        const Vec2<T> origin{T(column) + T(0.5) - half_.x, T(row) + T(0.5) - half_.y};
        Vec2<T> p[3];
        for (int k = 0; k < 3; k++) {
            const T* v = pos_ + 4 * int64_t(corner[k]);
            p[k] = screen_position(v[0], v[1], v[3], half_, origin);
            if (axis == Axis::kVertical) p[k] = turned(p[k]);
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
