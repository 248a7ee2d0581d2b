// SPDX-License-Identifier: MIT
// Antialiasing on the CPU. An image is cut into strips of rows. A strip writes its own rows only, so a pair across the border of two strips
// is examined by both, and each applies what falls to its side: no order depends on threads.
#include "cpu_kernels.h"
#include "gather.h"
#include "kernels.h"
#include "pixel_pair.h"
#include "rows.h"
#include "scatter.h"
#include "topology.h"

RG_BEGIN
namespace {

constexpr int64_t kStripPixels = 16384;

template <class T> void forward_strip(const ForwardArgs<T>& a, const Silhouettes<T>& silhouettes, int64_t image, int64_t begin, int64_t end) {
    const Scene<T>& s = a.scene;
    const int64_t width = s.width * a.channels, first = image * s.height * width;
    const T* const color = a.color + first;
    T* const out = a.out + first;
    Arena arena;
    copy_rows(out, color, s.width, a.channels, begin, end, is_streamed(s, a.channels), silhouettes.map(), silhouettes.table_of(image), arena);
    IdRows<T> ids(s, image, arena);
    const PairRule<T> rule(s, silhouettes, image);
    walk_strip(ids, s.height, begin, end, rule, arena, [&](Axis axis, int64_t row, int64_t column, T id0, T id1) {
        Pair<T> pair;
        if (!rule.examine(axis, row, column, id0, id1, pair)) return;
        const int64_t target_row = row + (axis == Axis::kVertical && !blends_first(pair.weight));
        if (target_row < begin || target_row >= end) return;
        const int64_t at0 = row * width + column * a.channels, at1 = at0 + (axis == Axis::kHorizontal ? a.channels : width);
        T* const target = out + (blends_first(pair.weight) ? at0 : at1);
        for (int64_t c = 0; c < a.channels; c++) target[c] += blend(pair.weight, color[at0 + c], color[at1 + c]);
    });
}

template <class T> int64_t forward(const ForwardArgs<T>& a) {
    const Scene<T>& s = a.scene;
    if (s.images * a.channels == 0) return 0;
    const Silhouettes<T> silhouettes(s);
    const Strips strips(s.height, s.width, kStripPixels);
    for_each_strip(s.threads, s.images, s.height, strips, [&](int, int64_t, int64_t image, int64_t begin, int64_t end) {
        forward_strip(a, silhouettes, image, begin, end);
        stream_fence();
    });
    return 0;
}

// The gradient of the pair's two edge vertices, for d_weight; nothing where the crossing itself has no finite derivative.
template <class T>
void scatter_edge(const Scene<T>& s, int64_t image, const Pair<T>& pair, T d_weight, RowScatter<T>& scatter, int worker, int64_t strip) {
    const Vec2<T> half{T(s.width) / 2, T(s.height) / 2};
    Vec2<T> d_p[2] = {{0, 0}, {0, 0}};
    steady_crossing_adjoint(pair.p1, pair.p2, T(-1), d_p[0], d_p[1]);
    const int64_t vertex[2] = {pair.vertex1, pair.vertex2};
    T d_vertex[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    for (int e = 0; e < 2; e++) {
        const T* v = s.pos + image * s.pos_image_stride + 4 * vertex[e];
        T* d = d_vertex[e];
        screen_position_adjoint(v[0], v[1], v[3], half, pair.axis == Axis::kVertical ? turned(d_p[e]) : d_p[e], d[0], d[1], d[3]);
        if (!is_finite(d[0]) || !is_finite(d[1]) || !is_finite(d[3])) return;
    }
    const int64_t base = s.pos_image_stride ? image * s.vertices : 0;
    for (int e = 0; e < 2; e++) {
        T* to = scatter.append(worker, strip, base + vertex[e]);
        for (int k = 0; k < 4; k++) to[k] = d_weight * d_vertex[e][k];
    }
}

template <class T>
void backward_strip(const BackwardArgs<T>& a, const Silhouettes<T>& silhouettes, RowScatter<T>* scatter, int worker, int64_t strip,
                    int64_t image, int64_t begin, int64_t end) {
    const Scene<T>& s = a.scene;
    const int64_t width = s.width * a.channels, first = image * s.height * width;
    Arena arena;
    IdRows<T> ids(s, image, arena);
    const PairRule<T> rule(s, silhouettes, image);
    if (a.d_color)
        copy_rows(a.d_color + first, a.d_out + first, s.width, a.channels, begin, end, is_streamed(s, a.channels), silhouettes.map(), silhouettes.table_of(image), arena);
    walk_strip(ids, s.height, begin, end, rule, arena, [&](Axis axis, int64_t row, int64_t column, T id0, T id1) {
        Pair<T> pair;
        if (!rule.examine(axis, row, column, id0, id1, pair)) return;
        const int64_t row1 = row + (axis == Axis::kVertical);
        const int64_t at0 = first + row * width + column * a.channels, at1 = at0 + (axis == Axis::kHorizontal ? a.channels : width);
        const T* const g = a.d_out + (blends_first(pair.weight) ? at0 : at1);
        T* const d_pixel0 = a.d_color && row >= begin ? a.d_color + at0 : nullptr;
        T* const d_pixel1 = a.d_color && row1 < end ? a.d_color + at1 : nullptr;
        T d_weight = 0;
        for (int64_t c = 0; c < a.channels; c++) {
            T d_color0 = 0, d_color1 = 0;
            blend_adjoint(pair.weight, a.color[at0 + c], a.color[at1 + c], g[c], d_weight, d_color0, d_color1);
            if (d_pixel0) d_pixel0[c] += d_color0;
            if (d_pixel1) d_pixel1[c] += d_color1;
        }
        // A pair across strips belongs to the strip of its first pixel.
        if (!scatter || row < begin || d_weight == 0 || !weight_moves(pair.weight)) return;
        scatter_edge(s, image, pair, d_weight * T(a.boost), *scatter, worker, strip);
    });
}

template <class T> int64_t backward(const BackwardArgs<T>& a) {
    const Scene<T>& s = a.scene;
    const int64_t vertex_rows = s.pos_image_stride ? s.images * s.vertices : s.vertices;
    if (s.images * a.channels == 0) {
        if (a.d_pos && vertex_rows) memset(a.d_pos, 0, size_t(vertex_rows) * 4 * sizeof(T));
        return 0;
    }
    const Silhouettes<T> silhouettes(s);
    const Strips strips(s.height, s.width, kStripPixels);
    auto run = [&](RowScatter<T>* scatter) {
        for_each_strip(s.threads, s.images, s.height, strips, [&](int worker, int64_t strip, int64_t image, int64_t begin, int64_t end) {
            backward_strip(a, silhouettes, scatter, worker, strip, image, begin, end);
            stream_fence();
        });
    };
    if (!a.d_pos) {
        run(nullptr);
        return 0;
    }
    RowScatter<T> scatter(s.threads, s.images * strips.per_image, vertex_rows, 4);
    run(&scatter);
    scatter.sum_into(a.d_pos);
    return 0;
}

}  // namespace

constexpr Kernel kAntialiasKernels[] = {
    RG_KERNEL("antialias_forward_f32", ForwardArgs<float>, forward<float>),
    RG_FLOAT64(RG_KERNEL("antialias_forward_f64", ForwardArgs<double>, forward<double>), )
    RG_KERNEL("antialias_backward_f32", BackwardArgs<float>, backward<float>),
    RG_FLOAT64(RG_KERNEL("antialias_backward_f64", BackwardArgs<double>, backward<double>), )
    RG_KERNEL("outline_forward_f32", OutlineForwardArgs<float>, outline_forward<float>),
    RG_FLOAT64(RG_KERNEL("outline_forward_f64", OutlineForwardArgs<double>, outline_forward<double>), )
    RG_KERNEL("outline_backward_f32", OutlineBackwardArgs<float>, outline_backward<float>),
    RG_FLOAT64(RG_KERNEL("outline_backward_f64", OutlineBackwardArgs<double>, outline_backward<double>), )
    RG_KERNEL("outline_counts_f32", OutlineCountArgs<float>, count_outlines<float>),
    RG_FLOAT64(RG_KERNEL("outline_counts_f64", OutlineCountArgs<double>, count_outlines<double>), )
    RG_KERNEL("antialias_topology", TopologyArgs, build_topology),
    RG_KERNEL("antialias_fingerprint", FingerprintArgs, fingerprint),
    RG_KERNEL("antialias_components", ComponentsArgs, connect_triangles),
    RG_KERNEL("antialias_gather_forward_f32", GatherArgs<float>, gather_forward<float>),
    RG_FLOAT64(RG_KERNEL("antialias_gather_forward_f64", GatherArgs<double>, gather_forward<double>), )
    RG_KERNEL("antialias_gather_backward_f32", GatherBackwardArgs<float>, gather_backward<float>),
    RG_FLOAT64(RG_KERNEL("antialias_gather_backward_f64", GatherBackwardArgs<double>, gather_backward<double>), )
    RG_KERNEL("antialias_average_forward_f32", AverageArgs<float>, average_forward<float>),
    RG_FLOAT64(RG_KERNEL("antialias_average_forward_f64", AverageArgs<double>, average_forward<double>), )
    RG_KERNEL("antialias_average_backward_f32", AverageArgs<float>, average_backward<float>),
    RG_FLOAT64(RG_KERNEL("antialias_average_backward_f64", AverageArgs<double>, average_backward<double>), )
};

RG_END

RG_ROOM_TABLE(antialias, rg::RG_ISA::kAntialiasKernels)
