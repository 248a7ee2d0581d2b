// SPDX-License-Identifier: MIT
// The outline rule on the CPU: a mesh and its views for the lane functions of outline.h, and which pairs need asking at all.
#pragma once
#include "outline_edges.h"
#include "outline_mesh.h"

RG_BEGIN

// A pair that is blended.
template <class T> struct Blend {
    int64_t row;
    int32_t column;
    Axis axis;
    Taken<T> taken;
    Found<T> found;            // an outline, or ...
    Meeting<double> meeting;   // ... two surfaces that meet: their depths are too alike for float32
};

template <class T> class OutlineRule {
  public:
    // `counts_all`: visitors see pairs even if nothing can come of them.
    OutlineRule(const Scene<T>& scene, const OutlineEdges<T>& edges, int64_t image, bool intersections, bool counts_all = false)
        : s_(scene), edges_(edges), image_(image), intersections_(intersections), counts_all_(counts_all), mesh_{scene.tri, scene.twins, edges.edges(image)},
          pos_(scene.pos + image * scene.pos_image_stride) {}

    RG_FN const MeshTables& mesh() const { return mesh_; }
    template <class F> RG_FN PixelView<T, F> view(Axis axis, int64_t row, int64_t column) const {
        const Vec2<F> half{F(s_.width) / 2, F(s_.height) / 2};
        return {pos_, half, {F(column) + F(0.5) - half.x, F(row) + F(0.5) - half.y}, axis == Axis::kVertical};
    }

    // As for PairRule; but surfaces may pass through each other anywhere.
    RG_FN int64_t band_end(int64_t row) const { return (row / EdgeMap<T>::kCell + 1) * EdgeMap<T>::kCell; }
    RG_FN bool asks_everywhere() const { return intersections_ || counts_all_; }
    Spans spans(int64_t first, int64_t last, Arena& arena) const {
        if (!counts_all_) return edges_.map().spans(edges_.table_of(image_), first, last, intersections_, arena);
        Spans all{static_cast<Span*>(arena.take(sizeof(Span))), 0};
        all.add(0, s_.width, false);
        return all;
    }
    // Of pairs in columns far from outlines: moves those forward that `look` may want, and returns how many they are. Almost all have a vertex
    // in common; without a branch for each, a forward pass over 100,000 triangles takes 7.7 ms on one thread in place of 8.4.
    RG_FN int64_t keep(const T* first, const T* second, int32_t* columns, int64_t count) const {
        const uint32_t last = uint32_t(s_.triangles - 1);  // a register would reach beyond the table
        if (s_.triangles < 2) return count;
        int64_t kept = 0;
        for (int64_t k = 0; k < count; k += kLanes) {
            const int lanes = int(minimum(count - k, int64_t(kLanes)));
            alignas(64) T at0[kLanes] = {}, at1[kLanes] = {};
            for (int l = 0; l < lanes; l++) {
                at0[l] = first[columns[k + l]];
                at1[l] = second[columns[k + l]];
            }
            alignas(64) int32_t triangle0[kLanes], triangle1[kLanes];
            decode_id(Lanes<T>::load(at0)).store(triangle0);
            decode_id(Lanes<T>::load(at1)).store(triangle1);
            for (int l = 0; l < lanes; l++) {
                const int32_t a = triangle0[l], b = triangle1[l];
                const bool known = uint32_t(a) < last && uint32_t(b) < last;
                const bool wanted = known ? !corners_in_common(a, b) : a >= 0 && b >= 0;
                columns[kept] = columns[k + l];
                kept += wanted;
            }
        }
        return kept;
    }
    // Asks for what examine will soon read of a pair, ...
    RG_FN void expect(T id0, T id1) const {
        for (const int32_t triangle : {s_.triangle_of(id0), s_.triangle_of(id1)}) {
            if (triangle < 0) continue;
            __builtin_prefetch(s_.tri + 3 * int64_t(triangle));
            __builtin_prefetch(s_.twins + 3 * int64_t(triangle));
            __builtin_prefetch(mesh_.edges + triangle);
        }
    }
    // ... and for where a walk begins, ...
    RG_FN void expect_further(T id0, T id1) const {
        for (const int32_t triangle : {s_.triangle_of(id0), s_.triangle_of(id1)}) {
            if (triangle < 0) continue;
            for (int k = 0; k < 3; k++) __builtin_prefetch(pos_ + 4 * int64_t(s_.tri[3 * int64_t(triangle) + k]));
        }
    }
    // ... if that is too much for the nearer caches.
    RG_FN bool expects() const { return s_.triangles >= kLargeMesh; }
    // Whether the pair is blended.
    RG_FN bool examine(Axis axis, int64_t row, int64_t column, T id0, T id1, Blend<T>& blend) const {
        return look(axis, row, column, id0, id1, blend) && take(blend);
    }
    // Whether walks were needed; blend.found is then what they found.
    RG_FN bool look(Axis axis, int64_t row, int64_t column, T id0, T id1, Blend<T>& blend) const {
        const int32_t triangle0 = s_.triangle_of(id0), triangle1 = s_.triangle_of(id1);
        const bool vertical = axis == Axis::kVertical, both = triangle0 >= 0 && triangle1 >= 0;
        const bool outline = edges_.may_pass(image_, column, row) | edges_.may_pass(image_, column + !vertical, row + vertical);
        // Without an outline near only surfaces that pass through each other are of interest.
        if (outline ? triangle0 == triangle1 : !(both && intersections_)) return false;
        if (both && (outline ? mesh_.continues_to(triangle0, triangle1) : have_a_vertex_in_common(triangle0, triangle1))) return false;
        walk_between(axis, row, column, triangle0, triangle1, blend);
        return true;
    }
    // What is taken from the two pixels; whether it is anything.
    bool take(Blend<T>& blend) const {
        const auto seen = [&](auto number) { return view<decltype(number)>(blend.axis, blend.row, blend.column); };
        blend.taken = taken_by<T>(mesh_, seen, blend.found, blend.axis == Axis::kVertical, intersections_, blend.meeting);
        return takes_anything(blend.taken);
    }

  private:
    static constexpr int64_t kLargeMesh = 32768;  // triangles

    // share_a_vertex for one lane of work in three comparisons: it is asked of all pairs inside of surfaces.
    RG_FN bool have_a_vertex_in_common(int32_t a, int32_t b) const {
        if (maximum(a, b) + int64_t(1) >= s_.triangles) return share_a_vertex(mesh_, a, b);  // a register would reach beyond the table
        return corners_in_common(a, b);
    }
    RG_FN bool corners_in_common(int32_t a, int32_t b) const {
        typedef int32_t Corners __attribute__((vector_size(16)));
        Corners of_a, of_b;
        memcpy(&of_a, s_.tri + 3 * int64_t(a), sizeof of_a);
        memcpy(&of_b, s_.tri + 3 * int64_t(b), sizeof of_b);
        of_a = __builtin_shufflevector(of_a, of_a, 0, 1, 2, 0);
        const Corners equal = (of_a == __builtin_shufflevector(of_b, of_b, 0, 1, 2, 0)) | (of_a == __builtin_shufflevector(of_b, of_b, 1, 2, 0, 1)) |
                              (of_a == __builtin_shufflevector(of_b, of_b, 2, 0, 1, 2));
        uint64_t words[2];
        memcpy(words, &equal, sizeof equal);
        return (words[0] | words[1]) != 0;
    }

    const Scene<T>& s_;
    const OutlineEdges<T>& edges_;
    int64_t image_;
    bool intersections_, counts_all_;
    MeshTables mesh_;
    const T* pos_;

    void walk_between(Axis axis, int64_t row, int64_t column, int32_t triangle0, int32_t triangle1, Blend<T>& blend) const {
        const PixelView<T, T> seen = view<T>(axis, row, column);
        blend.row = row;
        blend.column = int32_t(column);
        blend.axis = axis;
        blend.found = find_between<T>(mesh_, seen, BackView<PixelView<T, T>>{seen}, triangle0, triangle1);
    }
};

RG_END
