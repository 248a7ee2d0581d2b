// SPDX-License-Identifier: MIT
// The outline method on the CPU. A strip of rows first lists its pairs and sums what they take off each pixel, then blends: how much of a
// pixel is left is known only when all of its four pairs are. Pairs across two strips are found by both.
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

// The blended pairs that touch the rows [low, high), in order, and what they take off the pixels of these rows.
template <class T> class StripPairs {
  public:
    StripPairs(const OutlineRule<T>& rule, const Scene<T>& s, int64_t image, int64_t low, int64_t high, Arena& arena)
        : width_(s.width), low_(low), high_(high), taken_(static_cast<T*>(arena.take(size_t((high - low) * s.width) * sizeof(T)))), pairs_{nullptr, nullptr} {
        memset(taken_, 0, size_t((high - low) * width_) * sizeof(T));
        IdRows<T> ids(s.rast + image * s.height * s.width * 4, s.width, arena);
        walk_strip(ids, s.height, low, high, rule, arena, [&](Axis axis, int64_t row, int64_t column, T id0, T id1) {
            Blend<T> blend;
            if (!rule.examine(axis, row, column, id0, id1, blend)) return;
            pairs_.push(arena, blend);
            add(row, column, blend.taken.of0);
            if (axis == Axis::kHorizontal) add(row, column + 1, blend.taken.of1);
            else add(row + 1, column, blend.taken.of1);
        });
    }
    // Of a pixel in [low, high): everything that is taken off it.
    T taken(int64_t row, int64_t column) const { return taken_[(row - low_) * width_ + column]; }
    // In the order of rows.
    template <class Visit> void for_each(Visit&& visit) const {
        pairs_.for_each_piece([&](const Blend<T>* blends, int32_t count) {
            for (int32_t i = 0; i < count; i++) visit(blends[i]);
        });
    }

  private:
    int64_t width_, low_, high_;
    T* taken_;
    PieceList<Blend<T>> pairs_;

    void add(int64_t row, int64_t column, T taken) {
        if (row >= low_ && row < high_) taken_[(row - low_) * width_ + column] += taken;
    }
};

// Where a pair's second pixel lies, and the offsets of both in the image.
struct Ends { int64_t row1, column1, at0, at1; };
template <class T> RG_FN Ends ends_of(const Blend<T>& blend, int64_t width, int64_t channels) {
    const bool vertical = blend.axis == Axis::kVertical;
    const int64_t row1 = blend.row + vertical, column1 = blend.column + !vertical;
    return {row1, column1, (blend.row * width + blend.column) * channels, (row1 * width + column1) * channels};
}

template <class T>
void forward_strip(const OutlineForwardArgs<T>& a, const OutlineEdges<T>& edges, int64_t image, int64_t begin, int64_t end) {
    const Scene<T>& s = a.base.scene;
    const int64_t channels = a.base.channels, width = s.width * channels;
    const T* const color = a.base.color + image * s.height * width;
    T* const out = a.base.out + image * s.height * width;
    Arena arena;
    const OutlineRule<T> rule(s, edges, image, a.intersections);
    StripPairs<T> pairs(rule, s, image, begin, end, arena);
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
    StripPairs<T> pairs(rule, s, image, maximum(begin - 1, int64_t(0)), minimum(end + 1, s.height), arena);
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
template int64_t outline_forward(const OutlineForwardArgs<double>&);
template int64_t outline_backward(const OutlineBackwardArgs<float>&);
template int64_t outline_backward(const OutlineBackwardArgs<double>&);

RG_END
