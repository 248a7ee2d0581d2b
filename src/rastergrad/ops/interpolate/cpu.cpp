// SPDX-License-Identifier: MIT
// Interpolation on the CPU: four channels at a time, and the corners of a triangle are read once per run of pixels that see it.
#include <type_traits>

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

// `count` channels, the rest zero. No detour through memory: a load of what was just stored in pieces waits for the stores.
template <class T> RG_FN Quad<T> load_some(const T* from, int64_t count) {
    switch (count) {
        case 1: return Quad<T>::of(from[0], 0, 0, 0);
        case 2: return Quad<T>::of(from[0], from[1], 0, 0);
        case 3: return Quad<T>::of(from[0], from[1], from[2], 0);
        default: return Quad<T>::load(from);
    }
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

// Channels are taken in blocks of up to four quads, so that a block's slopes and sums stay in registers along a run.
constexpr int64_t kBlock = 4;
template <class Work> RG_FN void for_each_block(int64_t quads, Work&& work) {
    for (int64_t q = 0; q < quads; q += kBlock) {
        switch (quads - q) {
            case 1: work(q, std::integral_constant<int, 1>()); break;
            case 2: work(q, std::integral_constant<int, 2>()); break;
            case 3: work(q, std::integral_constant<int, 3>()); break;
            default: work(q, std::integral_constant<int, 4>()); break;
        }
    }
}

// A stretch of pixels with one id. Image rows are crossed freely: neighbours in memory are what counts.
struct Run { int64_t begin, end; };

template <class T> RG_FN Run next_run(const T* rast, int64_t begin, int64_t end) {
    const T id = rast[4 * begin + 3];
    int64_t i = begin + 1;
    while (i < end && rast[4 * i + 3] == id) i++;
    return {begin, i};
}

template <int Q, class T>
void attribute_run(const Slopes<Quad<T>>* from, const T* rast, Run run, T* out, int64_t width, int64_t offset, const T* end) {
    Slopes<Quad<T>> s[Q];
    for (int q = 0; q < Q; q++) s[q] = from[q];
    for (int64_t i = run.begin; i < run.end; i++) {
        const Quad<T> u(rast[4 * i]), v(rast[4 * i + 1]);
        T* to = out + i * width + offset;
        for (int q = 0; q < Q; q++) store_pixel_quad(attribute(s[q], u, v), to + 4 * q, width - offset - 4 * q, end);
    }
}

template <int Q, class T>
void slope_run(const Slopes<Quad<T>>* from, const T* rast_db, Run run, T* out, int64_t width, int64_t offset, const T* end) {
    Slopes<Quad<T>> s[Q];
    for (int q = 0; q < Q; q++) s[q] = from[q];
    for (int64_t i = run.begin; i < run.end; i++) {
        const T* db = rast_db + 4 * i;
        const Quad<T> du = Quad<T>::of(db[0], db[1], db[0], db[1]), dv = Quad<T>::of(db[2], db[3], db[2], db[3]);
        T* to = out + i * width + offset;
        for (int q = 0; q < Q; q++)
            store_pixel_quad(attribute_slope(s[q].e0, s[q].e1, du, dv), to + 4 * q, width - offset - 4 * q, end);
    }
}

template <class T> void forward_strip(const ForwardArgs<T>& a, Arena& arena, int64_t image, int64_t begin, int64_t end) {
    Corners<T> corners(arena, a.channels, a.diff_count);
    const T* attr = a.attr + image * a.attr_image_stride;
    const int64_t width = a.channels, pair_width = 2 * a.diff_count;
    // Several blocks go over a run one after another: what the first wrote must not be written over by the last.
    const T* out_end = corners.quads() > kBlock ? a.out : a.out + end * width;
    const T* da_end = corners.diff_quads() > kBlock ? a.out_da : a.out_da + end * pair_width;
    for (int64_t at = begin; at < end;) {
        const Run run = next_run(a.rast, at, end);
        at = run.end;
        if (!corners.read(decode_id(a.rast[4 * run.begin + 3]), attr, a.tri, a.triangles, a.vertices)) {
            if (width) memset(a.out + run.begin * width, 0, size_t((run.end - run.begin) * width) * sizeof(T));
            if (a.diff_count) memset(a.out_da + run.begin * pair_width, 0, size_t((run.end - run.begin) * pair_width) * sizeof(T));
            continue;
        }
        for_each_block(corners.quads(), [&](int64_t q, auto count) {
            attribute_run<count.value>(&corners.quad(q), a.rast, run, a.out, width, 4 * q, out_end);
        });
        if (!a.diff_count) continue;
        corners.read_pairs(a.diff, a.diff_count);
        for_each_block(corners.diff_quads(), [&](int64_t q, auto count) {
            slope_run<count.value>(&corners.pair(q), a.rast_db, run, a.out_da, pair_width, 4 * q, da_end);
        });
    }
}

int64_t strips_of(int64_t pixels) { return (pixels + kStrip - 1) / kStrip; }

// work(worker, arena, strip, image, begin, end) for every strip; begin and end count pixels from the first image's first.
template <class Work> void for_each_strip(int64_t threads, int64_t images, int64_t pixels, Work&& work) {
    const int64_t strips = strips_of(pixels);
    parallel_for(threads, images * strips, 1, [&](int worker, int64_t first, int64_t last) {
        for (int64_t s = first; s < last; s++) {
            Arena arena;
            const int64_t image = s / strips, from = s % strips * kStrip;
            work(worker, arena, s, image, image * pixels + from, image * pixels + minimum(from + kStrip, pixels));
        }
    });
}

template <class T> int64_t forward(const ForwardArgs<T>& a) {
    for_each_strip(a.threads, a.images, a.pixels, [&](int, Arena& arena, int64_t, int64_t image, int64_t begin, int64_t end) {
        forward_strip(a, arena, image, begin, end);
    });
    return 0;
}

// Gradients at the three corners, summed over a run of pixels that see one triangle; padded to whole quads.
template <class T> struct CornerSums {
    Quad<T>* d[3];
    CornerSums(Arena& arena, int64_t quads) {
        for (auto& sums : d) sums = static_cast<Quad<T>*>(arena.take(size_t(quads + 1) * sizeof(Quad<T>)));
    }
    T& channel(int corner, int64_t c) { return reinterpret_cast<T*>(d[corner])[c]; }
};

// One block of channels along a run: sums for the corners, and the gradient of (u, v), added to what earlier blocks left there.
template <int Q, class T>
void adjoint_run(const Slopes<Quad<T>>* from, const BackwardArgs<T>& a, Run run, int64_t offset, CornerSums<T>& sums) {
    Slopes<Quad<T>> s[Q];
    Quad<T> d0[Q], d1[Q], d2[Q];
    for (int q = 0; q < Q; q++) {
        s[q] = from[q];
        d0[q] = d1[q] = d2[q] = Quad<T>(T(0));
    }
    const int64_t width = a.channels;
    const FirstChannels<T> tail(width - offset - 4 * (Q - 1));
    const T* const last_quad = a.d_out + a.images * a.pixels * width - 4 * Q;
    for (int64_t i = run.begin; i < run.end; i++) {
        const T* g = a.d_out + i * width + offset;
        Quad<T> upstream[Q], d_u(T(0)), d_v(T(0));
        bool zero = true;
        for (int q = 0; q < Q; q++) {
            upstream[q] = g <= last_quad ? Quad<T>::load(g + 4 * q) : load_some(g + 4 * q, width - offset - 4 * q);
            if (q == Q - 1) upstream[q] = tail.of(upstream[q]);
            zero = zero && is_zero(upstream[q]);
        }
        if (!zero) {  // nothing, not even 0 x inf, comes from a pixel without upstream
            const Quad<T> u(a.rast[4 * i]), v(a.rast[4 * i + 1]);
            for (int q = 0; q < Q; q++) {
                attribute_adjoint(u, v, upstream[q], d0[q], d1[q], d2[q]);
                barycentric_adjoint(s[q], upstream[q], d_u, d_v);
            }
        }
        if (a.d_rast) {
            T* to = a.d_rast + 4 * i;
            Quad<T> row = Quad<T>::of(sum(d_u), sum(d_v), 0, 0);
            if (offset) row += Quad<T>::load(to);
            row.store(to);
        }
    }
    for (int q = 0; q < Q; q++) {
        const int64_t at = offset / 4 + q;
        sums.d[0][at] = d0[q];
        sums.d[1][at] = d1[q];
        sums.d[2][at] = d2[q];
    }
}

// The derivative channels along a run.
template <class T> void adjoint_slope_run(const Corners<T>& corners, const BackwardArgs<T>& a, Run run, CornerSums<T>& sums) {
    for (int64_t i = run.begin; i < run.end; i++) {
        const T *db = a.rast_db + 4 * i, *pq = a.d_out_da + 2 * a.diff_count * i;
        T d_db[4] = {0, 0, 0, 0};
        for (int64_t e = 0; e < a.diff_count; e++) {
            const int32_t c = a.diff[e];
            const T p = pq[2 * e], q = pq[2 * e + 1];
            if (c < 0 || (p == 0 && q == 0)) continue;
            attribute_slope_adjoint(db[0], db[1], db[2], db[3], p, q, sums.channel(0, c), sums.channel(1, c), sums.channel(2, c));
            barycentric_slope_adjoint(corners.e0_of(c), corners.e1_of(c), p, q, d_db[0], d_db[1], d_db[2], d_db[3]);
        }
        if (a.d_rast_db) Quad<T>::load(d_db).store(a.d_rast_db + 4 * i);
    }
}

template <class T>
void backward_strip(const BackwardArgs<T>& a, Arena& arena, RowScatter<T>* scatter, int worker, int64_t strip, int64_t image,
                    int64_t begin, int64_t end) {
    Corners<T> corners(arena, a.channels, 0);
    CornerSums<T> sums(arena, corners.quads());
    const T* attr = a.attr + image * a.attr_image_stride;
    const int64_t row_base = a.attr_image_stride ? image * a.vertices : 0;
    const bool derivatives = a.d_out_da && a.diff_count;
    for (int64_t at = begin; at < end;) {
        const Run run = next_run(a.rast, at, end);
        at = run.end;
        const size_t bytes = size_t(run.end - run.begin) * 4 * sizeof(T);
        const bool there = corners.read(decode_id(a.rast[4 * run.begin + 3]), attr, a.tri, a.triangles, a.vertices);
        if (a.d_rast && !(there && a.d_out && a.channels)) memset(a.d_rast + 4 * run.begin, 0, bytes);
        if (a.d_rast_db && !(there && derivatives)) memset(a.d_rast_db + 4 * run.begin, 0, bytes);
        if (!there) continue;
        if (a.d_out)
            for_each_block(corners.quads(), [&](int64_t q, auto count) {
                adjoint_run<count.value>(&corners.quad(q), a, run, 4 * q, sums);
            });
        else
            for (auto& corner : sums.d) memset(static_cast<void*>(corner), 0, size_t(corners.quads()) * sizeof(Quad<T>));
        if (derivatives) adjoint_slope_run(corners, a, run, sums);
        if (!scatter || !(a.d_out || derivatives)) continue;
        for (int k = 0; k < 3; k++) {
            T* to = scatter->append(worker, strip, row_base + corners.row(k));
            for (int64_t c = 0; c < a.channels; c++) to[c] = sums.channel(k, c);
        }
    }
}

template <class T> int64_t backward(const BackwardArgs<T>& a) {
    auto run = [&](RowScatter<T>* scatter) {
        for_each_strip(a.threads, a.images, a.pixels,
                       [&](int worker, Arena& arena, int64_t strip, int64_t image, int64_t begin, int64_t end) {
                           backward_strip(a, arena, scatter, worker, strip, image, begin, end);
                       });
    };
    if (!a.d_attr) {
        run(nullptr);
        return 0;
    }
    const int64_t rows = a.attr_image_stride ? a.images * a.vertices : a.vertices;
    RowScatter<T> scatter(a.threads, a.images * strips_of(a.pixels), rows, a.channels);
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
