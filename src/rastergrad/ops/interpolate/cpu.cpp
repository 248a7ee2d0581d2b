// SPDX-License-Identifier: MIT
// Interpolation on the CPU: four channels at a time, and the corners of a triangle are read once per run of pixels that see it.
#include "formulas.h"
#include "kernels.h"
#include "quads.h"
#include "scatter.h"
#include "triangle_id.h"

RG_BEGIN
namespace {

constexpr int64_t kStrip = 16384;  // pixels per chunk: 1 MB of fragments, well above the cost of a hand-over

template <class T> struct ForwardArgs {
    const T* attr;         // [images or 1][vertices][channels]
    const T* rast;         // [images][pixels][4]
    const T* rast_db;      // [images][pixels][4], or null
    const int32_t* tri;    // [triangles][3]
    const int32_t* diff;   // [diff_count] channels with derivatives; -1 gives zeros
    T* out;                // [images][pixels][channels]
    T* out_da;             // [images][pixels][2 diff_count]
    int64_t images, pixels, vertices, channels, triangles, diff_count;
    int64_t attr_image_stride;  // elements between the attributes of two images; 0 when all share one table
    int64_t threads;
};

template <class T> struct BackwardArgs {
    const T* attr;         // as in ForwardArgs
    const T* rast;
    const T* rast_db;
    const int32_t* tri;
    const int32_t* diff;
    const T* d_out;        // like out, or null: no gradient arrived
    const T* d_out_da;     // like out_da, or null
    T* d_attr;             // like attr, or null: not wanted
    T* d_rast;             // like rast, or null
    T* d_rast_db;          // like rast_db, or null
    int64_t images, pixels, vertices, channels, triangles, diff_count;
    int64_t attr_image_stride;
    int64_t threads;
};

template <class T> RG_FN Quad<T> load_some(const T* from, int64_t count) {
    if (count >= 4) return Quad<T>::load(from);
    T four[4] = {0, 0, 0, 0};
    for (int64_t k = 0; k < count; k++) four[k] = from[k];
    return Quad<T>::load(four);
}
template <class T> RG_FN void store_some(Quad<T> x, T* to, int64_t count) {
    if (count >= 4) x.store(to);
    else for (int64_t k = 0; k < count; k++) to[k] = x[int(k)];
}

// The corners of one triangle, padded with zeros to whole quads.
template <class T> class Corners {
  public:
    Corners(Arena& arena, int64_t channels, int64_t diff_count)
        : channels_(channels), quads_((channels + 3) / 4), diff_quads_((2 * diff_count + 3) / 4),
          slopes_(static_cast<Slopes<Quad<T>>*>(arena.take(size_t(quads_ + 1) * sizeof(Slopes<Quad<T>>)))),
          pairs_(static_cast<Slopes<Quad<T>>*>(arena.take(size_t(diff_quads_ + 1) * sizeof(Slopes<Quad<T>>)))) {}

    // False if the triangle or one of its vertices does not exist.
    bool read(int32_t triangle, const T* attr, const int32_t* tri, int64_t triangles, int64_t vertices) {
        if (triangle < 0 || triangle >= triangles) return false;
        const int32_t* corner = tri + 3 * int64_t(triangle);
        for (int k = 0; k < 3; k++) {
            if (corner[k] < 0 || corner[k] >= vertices) return false;
            row_[k] = corner[k];
        }
        const T *a0 = attr + row_[0] * channels_, *a1 = attr + row_[1] * channels_, *a2 = attr + row_[2] * channels_;
        for (int64_t q = 0; q < quads_; q++) {
            const int64_t left = channels_ - 4 * q;
            slopes_[q] = slopes(load_some(a0 + 4 * q, left), load_some(a1 + 4 * q, left), load_some(a2 + 4 * q, left));
        }
        return true;
    }
    // Slopes of the chosen channels, each twice: once for d/dX, once for d/dY.
    void read_pairs(const int32_t* diff, int64_t diff_count) {
        for (int64_t q = 0; q < diff_quads_; q++) {
            T e0[4] = {0, 0, 0, 0}, e1[4] = {0, 0, 0, 0};
            for (int64_t e = 2 * q; e < 2 * q + 2 && e < diff_count; e++) {
                const int32_t c = diff[e];
                if (c < 0) continue;
                const int at = int(2 * (e - 2 * q));
                e0[at] = e0[at + 1] = e0_of(c);
                e1[at] = e1[at + 1] = e1_of(c);
            }
            pairs_[q] = {Quad<T>::load(e0), Quad<T>::load(e1), Quad<T>(T(0))};
        }
    }
    RG_FN const Slopes<Quad<T>>& quad(int64_t q) const { return slopes_[q]; }
    RG_FN const Slopes<Quad<T>>& pair(int64_t q) const { return pairs_[q]; }
    RG_FN T e0_of(int64_t c) const { return slopes_[c / 4].e0[int(c % 4)]; }
    RG_FN T e1_of(int64_t c) const { return slopes_[c / 4].e1[int(c % 4)]; }
    RG_FN int64_t row(int k) const { return row_[k]; }
    int64_t quads() const { return quads_; }
    int64_t diff_quads() const { return diff_quads_; }

  private:
    int64_t channels_, quads_, diff_quads_;
    int64_t row_[3] = {0, 0, 0};
    Slopes<Quad<T>>* slopes_;
    Slopes<Quad<T>>* pairs_;
};

// A whole quad may be written over the start of the next pixel, which is written afterwards; not so at the end of the strip.
template <class T> RG_FN void store_pixel_quad(Quad<T> x, T* to, int64_t count, const T* strip_end) {
    if (to + 4 <= strip_end) x.store(to);
    else store_some(x, to, count);
}

template <class T> void forward_strip(const ForwardArgs<T>& a, int64_t image, int64_t begin, int64_t end) {
    Arena arena;
    Corners<T> corners(arena, a.channels, a.diff_count);
    const T* attr = a.attr + image * a.attr_image_stride;
    const int64_t first = image * a.pixels, pair_width = 2 * a.diff_count;
    const T *out_end = a.out + (first + end) * a.channels, *da_end = a.out_da + (first + end) * pair_width;
    int32_t seen = -1;
    bool there = false;
    for (int64_t i = first + begin; i < first + end; i++) {
        const Quad<T> fragment = Quad<T>::load(a.rast + 4 * i);
        const int32_t triangle = decode_id(fragment[3]);
        if (triangle != seen) {
            seen = triangle;
            there = corners.read(triangle, attr, a.tri, a.triangles, a.vertices);
            if (there && a.diff_count) corners.read_pairs(a.diff, a.diff_count);
        }
        T* out = a.out + i * a.channels;
        const Quad<T> u(fragment[0]), v(fragment[1]), zero(T(0));
        for (int64_t q = 0; q < corners.quads(); q++)
            store_pixel_quad(there ? attribute(corners.quad(q), u, v) : zero, out + 4 * q, a.channels - 4 * q, out_end);
        if (!a.diff_count) continue;
        T* out_da = a.out_da + i * pair_width;
        const Quad<T> db = Quad<T>::load(a.rast_db + 4 * i);
        const T u_slopes[4] = {db[0], db[1], db[0], db[1]}, v_slopes[4] = {db[2], db[3], db[2], db[3]};
        const Quad<T> du = Quad<T>::load(u_slopes), dv = Quad<T>::load(v_slopes);
        for (int64_t q = 0; q < corners.diff_quads(); q++)
            store_pixel_quad(there ? attribute_slope(corners.pair(q).e0, corners.pair(q).e1, du, dv) : zero, out_da + 4 * q,
                             pair_width - 4 * q, da_end);
    }
}

int64_t strips_of(int64_t pixels) { return (pixels + kStrip - 1) / kStrip; }

template <class T> int64_t forward(const ForwardArgs<T>& a) {
    const int64_t strips = strips_of(a.pixels);
    parallel_for(a.threads, a.images * strips, 1, [&](int, int64_t begin, int64_t end) {
        for (int64_t s = begin; s < end; s++) {
            const int64_t from = s % strips * kStrip;
            forward_strip(a, s / strips, from, minimum(from + kStrip, a.pixels));
        }
    });
    return 0;
}

// Gradients at the corners, summed over a run of pixels that see one triangle.
template <class T> struct CornerSums {
    Quad<T>* d[3];
    int64_t quads;
    bool used = false;

    CornerSums(Arena& arena, int64_t quad_count) : quads(quad_count) {
        for (auto& sums : d) sums = static_cast<Quad<T>*>(arena.take(size_t(quads + 1) * sizeof(Quad<T>)));
        clear();
    }
    void clear() {
        for (auto& sums : d)
            for (int64_t q = 0; q < quads; q++) sums[q] = Quad<T>(T(0));
        used = false;
    }
    T* channel(int corner, int64_t c) { return reinterpret_cast<T*>(d[corner]) + c; }
};

template <class T> RG_FN bool all_zero(const T* values, int64_t count) {
    for (int64_t k = 0; k < count; k++)
        if (values[k] != 0) return false;
    return true;
}

template <class T>
void backward_strip(const BackwardArgs<T>& a, RowScatter<T>* scatter, int worker, int64_t strip, int64_t image, int64_t begin, int64_t end) {
    Arena arena;
    const int64_t pairs = a.d_out_da ? a.diff_count : 0;
    Corners<T> corners(arena, a.channels, 0);
    CornerSums<T> sums(arena, corners.quads());
    const T* attr = a.attr + image * a.attr_image_stride;
    const int64_t row_base = a.attr_image_stride ? image * a.vertices : 0, first = image * a.pixels;
    int32_t seen = -1;
    bool there = false;
    auto flush = [&] {
        if (!sums.used) return;
        for (int k = 0; k < 3; k++) memcpy(scatter->append(worker, strip, row_base + corners.row(k)), sums.d[k], size_t(a.channels) * sizeof(T));
        sums.clear();
    };
    for (int64_t i = first + begin; i < first + end; i++) {
        const Quad<T> fragment = Quad<T>::load(a.rast + 4 * i);
        const int32_t triangle = decode_id(fragment[3]);
        if (triangle != seen) {
            flush();
            seen = triangle;
            there = corners.read(triangle, attr, a.tri, a.triangles, a.vertices);
        }
        const T* g = a.d_out ? a.d_out + i * a.channels : nullptr;
        const T* pq = pairs ? a.d_out_da + i * 2 * pairs : nullptr;
        const bool values = there && g && !all_zero(g, a.channels), derivatives = there && pq && !all_zero(pq, 2 * pairs);
        Quad<T> d_u(T(0)), d_v(T(0));
        if (values) {
            const Quad<T> u(fragment[0]), v(fragment[1]);
            for (int64_t q = 0; q < corners.quads(); q++) {
                const Quad<T> upstream = load_some(g + 4 * q, a.channels - 4 * q);
                if (scatter) attribute_adjoint(u, v, upstream, sums.d[0][q], sums.d[1][q], sums.d[2][q]);
                if (a.d_rast) barycentric_adjoint(corners.quad(q), upstream, d_u, d_v);
            }
            sums.used = scatter != nullptr;
        }
        if (a.d_rast) {
            const T row[4] = {sum(d_u), sum(d_v), 0, 0};
            Quad<T>::load(row).store(a.d_rast + 4 * i);
        }
        T d_db[4] = {0, 0, 0, 0};
        if (derivatives) {
            const Quad<T> db = Quad<T>::load(a.rast_db + 4 * i);
            for (int64_t e = 0; e < pairs; e++) {
                const int32_t c = a.diff[e];
                if (c < 0) continue;
                const T p = pq[2 * e], q = pq[2 * e + 1];
                if (scatter)
                    attribute_slope_adjoint(db[0], db[1], db[2], db[3], p, q, *sums.channel(0, c), *sums.channel(1, c), *sums.channel(2, c));
                barycentric_slope_adjoint(corners.e0_of(c), corners.e1_of(c), p, q, d_db[0], d_db[1], d_db[2], d_db[3]);
            }
            sums.used = scatter != nullptr;
        }
        if (a.d_rast_db) Quad<T>::load(d_db).store(a.d_rast_db + 4 * i);
    }
    flush();
}

template <class T> int64_t backward(const BackwardArgs<T>& a) {
    const int64_t strips = strips_of(a.pixels), all = a.images * strips;
    const int64_t rows = a.attr_image_stride ? a.images * a.vertices : a.vertices;
    auto run = [&](RowScatter<T>* scatter) {
        parallel_for(a.threads, all, 1, [&](int worker, int64_t begin, int64_t end) {
            for (int64_t s = begin; s < end; s++) {
                const int64_t from = s % strips * kStrip;
                backward_strip(a, scatter, worker, s, s / strips, from, minimum(from + kStrip, a.pixels));
            }
        });
    };
    if (!a.d_attr) {
        run(nullptr);
        return 0;
    }
    RowScatter<T> scatter(a.threads, all, rows, a.channels);
    run(&scatter);
    scatter.sum_into(a.d_attr);
    return 0;
}

}  // namespace

constexpr Kernel kInterpolateKernels[] = {
    RG_KERNEL("interpolate_forward_f32", ForwardArgs<float>, forward<float>),
    RG_KERNEL("interpolate_forward_f64", ForwardArgs<double>, forward<double>),
    RG_KERNEL("interpolate_backward_f32", BackwardArgs<float>, backward<float>),
    RG_KERNEL("interpolate_backward_f64", BackwardArgs<double>, backward<double>),
};

RG_END

RG_ROOM_TABLE(interpolate, rg::RG_ISA::kInterpolateKernels)
