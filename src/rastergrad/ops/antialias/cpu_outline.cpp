// SPDX-License-Identifier: MIT
// The outline method on the CPU. A strip of rows first lists its pairs and sums what they take off each pixel, then blends: how much of a
// pixel is left is known only when all of its four pairs are. Pairs across two strips are found by both.
#include "blended_pairs.h"
#include "cpu_kernels.h"
#include "formulas.h"
#include "outline_pairs.h"
#include "rows.h"
#include "scatter.h"

RG_BEGIN
namespace {

constexpr int64_t kForwardPixels = 16384;
// Backward looks two rows beyond its strip: strips are larger where that leaves sixteen of them.
RG_FN int64_t backward_pixels(int64_t all) { return minimum(maximum(all / 16, kForwardPixels), 4 * kForwardPixels); }

// A number for pixels of the rows [low, high): only those cleared before have one, as few do.
template <class T> class PixelSums {
  public:
    PixelSums(int64_t width, int64_t low, int64_t high, Arena& arena)
        : width_(width), low_(low), high_(high), sums_(static_cast<T*>(arena.take(size_t((high - low) * width) * sizeof(T)))) {}
    bool has(int64_t row) const { return row >= low_ && row < high_; }
    T& at(int64_t row, int64_t column) const { return sums_[(row - low_) * width_ + column]; }

  private:
    int64_t width_, low_, high_;
    T* sums_;
};

// The blended pairs that touch the rows [low, high), in order, and what they take off the pixels of these rows.
template <class T> class StripPairs {
  public:
    // Those kept before if `known`, else found, and kept if that is wanted.
    StripPairs(const OutlineRule<T>& rule, const Scene<T>& s, int64_t image, int64_t low, int64_t high, const BlendedPairs& kept, bool known, Arena& arena)
        : s_(s), rast_(s.rast + image * s.height * s.width * 4), arena_(arena), taken_(s.width, low, high, arena), pairs_{nullptr, nullptr} {
        if (known) recall(rule, kept, low, high);
        else find(rule, image, kept, low, high);
        const auto for_each_end = [&](auto&& visit) {
            for_each([&](const Blend<T>& b) {
                const bool vertical = b.axis == Axis::kVertical;
                if (taken_.has(b.row)) visit(taken_.at(b.row, b.column), b.taken.of0);
                if (taken_.has(b.row + vertical)) visit(taken_.at(b.row + vertical, b.column + !vertical), b.taken.of1);
            });
        };
        for_each_end([](T& sum, T) { sum = T(0); });
        for_each_end([](T& sum, T taken) { sum += taken; });
    }
    // Of a pixel of a pair in [low, high): everything that is taken off it.
    T taken(int64_t row, int64_t column) const { return taken_.at(row, column); }
    // In the order of rows.
    template <class Visit> void for_each(Visit&& visit) const {
        pairs_.for_each_piece([&](const Blend<T>* blends, int32_t count) {
            for (int32_t i = 0; i < count; i++) visit(blends[i]);
        });
    }

  private:
    struct Place { int64_t row; int32_t column; Axis axis; };
    static constexpr int kGroup = 256;  // pairs whose memory is asked for together
    const Scene<T>& s_;
    const T* rast_;
    Arena& arena_;
    PixelSums<T> taken_;
    PieceList<Blend<T>> pairs_;

    void find(const OutlineRule<T>& rule, int64_t image, const BlendedPairs& kept, int64_t low, int64_t high) {
        IdRows<T> ids(s_, image, arena_);
        if (kept.are_kept()) kept.clear(low, high);
        walk_strip(ids, s_.height, low, high, rule, arena_, [&](Axis axis, int64_t row, int64_t column, T id0, T id1) {
            Blend<T> blend;
            if (!rule.examine(axis, row, column, id0, id1, blend)) return;
            pairs_.push(arena_, blend);
            // The strip of its first pixel keeps it.
            if (kept.are_kept() && row >= low) kept.add(axis, row, column);
        });
    }
    // In the order of walk_strip.
    void recall(const OutlineRule<T>& rule, const BlendedPairs& kept, int64_t low, int64_t high) {
        Place places[kGroup];
        int count = 0;
        for (int64_t row = maximum(low - 1, int64_t(0)); row < high; row++)
            for (const Axis axis : {Axis::kHorizontal, Axis::kVertical}) {
                if (axis == Axis::kHorizontal && row < low) continue;
                kept.for_each(axis, row, [&](int64_t column) {
                    places[count++] = {row, int32_t(column), axis};
                    if (count < kGroup) return;
                    examine_again(rule, places, count);
                    count = 0;
                });
            }
        examine_again(rule, places, count);
    }
    void examine_again(const OutlineRule<T>& rule, const Place* places, int count) {
        const auto id0 = [&](int i) { return rast_ + (places[i].row * s_.width + places[i].column) * 4 + 3; };
        const auto id1 = [&](int i) { return id0(i) + (places[i].axis == Axis::kVertical ? s_.width * 4 : 4); };
        for (int i = 0; i < count; i++) {
            __builtin_prefetch(id0(i));
            __builtin_prefetch(id1(i));
        }
        if (rule.expects()) {
            for (int i = 0; i < count; i++) rule.expect(*id0(i), *id1(i));
            for (int i = 0; i < count; i++) rule.expect_further(*id0(i), *id1(i));
        }
        for (int i = 0; i < count; i++) {
            Blend<T> blend;
            if (rule.examine(places[i].axis, places[i].row, places[i].column, *id0(i), *id1(i), blend)) pairs_.push(arena_, blend);
        }
    }
};

// Where a pair's second pixel lies, and the offsets of both in the image.
struct Ends { int64_t row1, column1, at0, at1; };
template <class T> RG_FN Ends ends_of(const Blend<T>& blend, int64_t width, int64_t channels) {
    const bool vertical = blend.axis == Axis::kVertical;
    const int64_t row1 = blend.row + vertical, column1 = blend.column + !vertical;
    return {row1, column1, (blend.row * width + blend.column) * channels, (row1 * width + column1) * channels};
}

// They lie behind what OutlineEdges keeps.
template <class T> BlendedPairs kept_pairs(uint8_t* outlines, const Scene<T>& s, int64_t image) {
    return {outlines ? outlines + OutlineEdges<T>::size_of(s) : nullptr, image, s.height, s.width};
}

template <class T>
void forward_strip(const OutlineForwardArgs<T>& a, const OutlineEdges<T>& edges, int64_t image, int64_t begin, int64_t end) {
    const Scene<T>& s = a.base.scene;
    const int64_t channels = a.base.channels, width = s.width * channels;
    const T* const color = a.base.color + image * s.height * width;
    T* const out = a.base.out + image * s.height * width;
    Arena arena;
    const OutlineRule<T> rule(s, edges, image, a.intersections);
    const StripPairs<T> pairs(rule, s, image, begin, end, kept_pairs(a.outlines, s, image), false, arena);
    copy_rows(out, color, s.width, channels, begin, end, is_streamed(s, channels), edges.map(), edges.table_of(image), arena);
    pairs.for_each([&](const Blend<T>& b) {
        const Ends e = ends_of(b, s.width, channels);
        const auto give = [&](int64_t row, int64_t column, int64_t target, int64_t source, T taken) {
            if (row < begin || row >= end || !(taken > 0)) return;
            const T weight = taken * proportion(pairs.taken(row, column));
            for (int64_t c = 0; c < channels; c++) out[target + c] += blend(weight, color[target + c], color[source + c]);
        };
        give(b.row, b.column, e.at0, e.at1, b.taken.of0);
        give(e.row1, e.column1, e.at1, e.at0, b.taken.of1);
    });
}

// Gradients of the vertices behind one pair.
template <class T> class VertexGradients {
  public:
    VertexGradients(const Scene<T>& s, const OutlineRule<T>& rule, int64_t image, RowScatter<T>& scatter, int worker, int64_t strip)
        : rule_(rule), scatter_(scatter), worker_(worker), strip_(strip), base_(s.pos_image_stride ? image * s.vertices : 0) {}

    // For the gradients of what is taken off the first and the second pixel.
    void add(const Blend<T>& blend, Taken<T> d_taken) {
        const auto to_scatter = [this](int32_t vertex, auto d) { append(vertex, d); };
        if (blend.found.what == Between::kMeeting)
            meeting_adjoint(rule_.mesh(), rule_.template view<double>(blend.axis, blend.row, blend.column), blend.meeting, d_taken, to_scatter);
        else
            outline_adjoint(rule_.mesh(), rule_.template view<T>(blend.axis, blend.row, blend.column), blend.found, blend.axis == Axis::kVertical,
                            d_taken, to_scatter);
    }

  private:
    const OutlineRule<T>& rule_;
    RowScatter<T>& scatter_;
    int worker_;
    int64_t strip_, base_;

    template <class F> void append(int32_t vertex, Vec4<F> d) {
        if (d.x == 0 && d.y == 0 && d.z == 0 && d.w == 0) return;
        T* to = scatter_.append(worker_, strip_, base_ + vertex);
        to[0] = T(d.x);
        to[1] = T(d.y);
        to[2] = T(d.z);
        to[3] = T(d.w);
    }
};

template <class T>
void backward_strip(const OutlineBackwardArgs<T>& a, const OutlineEdges<T>& edges, RowScatter<T>* scatter, int worker, int64_t strip,
                    int64_t image, int64_t begin, int64_t end) {
    const Scene<T>& s = a.base.scene;
    const int64_t channels = a.base.channels, width = s.width * channels, first = image * s.height * width;
    const T *const color = a.base.color + first, *const d_out = a.base.d_out + first;
    Arena arena;
    const OutlineRule<T> rule(s, edges, image, a.intersections);
    // A pixel's neighbours in the rows above and below give it colour gradients, in proportion to what is taken off them.
    const StripPairs<T> pairs(rule, s, image, maximum(begin - 1, int64_t(0)), minimum(end + 1, s.height), kept_pairs(a.outlines, s, image),
                              a.outlines != nullptr, arena);
    const auto own = [=](int64_t row) { return row >= begin && row < end; };
    // Of pixels that give in proportion: the sum over all shares, by which each share weighs less as the others grow.
    T* crowded = nullptr;
    if (scatter) {
        const auto note = [&](int64_t row, int64_t column, int64_t target, int64_t source, T taken) {
            if (!own(row) || !(pairs.taken(row, column) > T(1)) || !(taken > T(0))) return;
            if (!crowded) {
                const size_t bytes = size_t((end - begin) * s.width) * sizeof(T);
                crowded = static_cast<T*>(arena.take(bytes));
                memset(crowded, 0, bytes);
            }
            T slope = 0, unused = 0;
            for (int64_t c = 0; c < channels; c++)
                blend_adjoint(T(0), color[target + c], color[source + c], d_out[target + c], slope, unused, unused);
            crowded[(row - begin) * s.width + column] += taken * slope;
        };
        pairs.for_each([&](const Blend<T>& b) {
            const Ends e = ends_of(b, s.width, channels);
            note(b.row, b.column, e.at0, e.at1, b.taken.of0);
            note(e.row1, e.column1, e.at1, e.at0, b.taken.of1);
        });
    }
    T* const d_color = a.base.d_color ? a.base.d_color + first : nullptr;
    if (d_color) copy_rows(d_color, d_out, s.width, channels, begin, end, is_streamed(s, channels), edges.map(), edges.table_of(image), arena);
    pairs.for_each([&](const Blend<T>& b) {
        const Ends e = ends_of(b, s.width, channels);
        T* const d_pixel0 = d_color && own(b.row) ? d_color + e.at0 : nullptr;
        T* const d_pixel1 = d_color && own(e.row1) ? d_color + e.at1 : nullptr;
        // One share: the target's colour gradient, the source's, and the gradient of the share itself.
        const auto give = [&](int64_t target_row, int64_t target_column, int64_t target, int64_t source, T* d_target, T* d_source, T taken) {
            if (!(taken > T(0)) || target_row < begin - 1 || target_row > end) return T(0);
            const T all = pairs.taken(target_row, target_column), weight = taken * proportion(all);
            T slope = 0;
            for (int64_t c = 0; c < channels; c++) {
                T d_color0 = 0, d_color1 = 0;
                blend_adjoint(weight, color[target + c], color[source + c], d_out[target + c], slope, d_color0, d_color1);
                if (d_target) d_target[c] += d_color0;
                if (d_source) d_source[c] += d_color1;
            }
            if (!scatter || !own(target_row)) return T(0);
            return taken_adjoint(all, slope, all > T(1) ? crowded[(target_row - begin) * s.width + target_column] : T(0));
        };
        const T d_taken0 = give(b.row, b.column, e.at0, e.at1, d_pixel0, d_pixel1, b.taken.of0);
        const T d_taken1 = give(e.row1, e.column1, e.at1, e.at0, d_pixel1, d_pixel0, b.taken.of1);
        if (d_taken0 == T(0) && d_taken1 == T(0)) return;
        VertexGradients<T>(s, rule, image, *scatter, worker, strip).add(b, Taken<T>{d_taken0 * T(a.base.boost), d_taken1 * T(a.base.boost)});
    });
}

}  // namespace

template <class T> int64_t outline_forward(const OutlineForwardArgs<T>& a) {
    const Scene<T>& s = a.base.scene;
    if (s.images * a.base.channels == 0) return -1;
    const OutlineEdges<T> edges(s, a.outlines);
    if (edges.bad_triangle() >= 0) return edges.bad_triangle();
    const Strips strips(s.height, s.width, kForwardPixels);
    for_each_strip(s.threads, s.images, s.height, strips, [&](int, int64_t, int64_t image, int64_t begin, int64_t end) {
        forward_strip(a, edges, image, begin, end);
        stream_fence();
    });
    return -1;
}

template <class T> int64_t outline_backward(const OutlineBackwardArgs<T>& a) {
    const Scene<T>& s = a.base.scene;
    const int64_t vertex_rows = s.pos_image_stride ? s.images * s.vertices : s.vertices;
    if (s.images * a.base.channels == 0) {
        if (a.base.d_pos && vertex_rows) memset(a.base.d_pos, 0, size_t(vertex_rows) * 4 * sizeof(T));
        return -1;
    }
    const OutlineEdges<T> edges(s, a.outlines, a.outlines != nullptr);
    if (edges.bad_triangle() >= 0) return edges.bad_triangle();
    const Strips strips(s.height, s.width, backward_pixels(s.images * s.height * s.width));
    const auto run = [&](RowScatter<T>* scatter) {
        for_each_strip(s.threads, s.images, s.height, strips, [&](int worker, int64_t strip, int64_t image, int64_t begin, int64_t end) {
            backward_strip(a, edges, scatter, worker, strip, image, begin, end);
            stream_fence();
        });
    };
    if (!a.base.d_pos) {
        run(nullptr);
        return -1;
    }
    RowScatter<T> scatter(s.threads, s.images * strips.per_image, vertex_rows, 4);
    run(&scatter);
    scatter.sum_into(a.base.d_pos);
    return -1;
}

template int64_t outline_forward(const OutlineForwardArgs<float>&);
RG_FLOAT64(template int64_t outline_forward(const OutlineForwardArgs<double>&);)
template int64_t outline_backward(const OutlineBackwardArgs<float>&);
RG_FLOAT64(template int64_t outline_backward(const OutlineBackwardArgs<double>&);)

RG_END
