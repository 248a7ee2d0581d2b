// SPDX-License-Identifier: MIT
// Gradients of fragments alone, through one or two channels: texture coordinates, mostly. There is nothing to be summed along a run, so
// sixteen pixels are worked on at a time, whatever triangles they show. Lanes are in the order of load_square.
#pragma once
#include "cpu_kernels.h"
#include "runs.h"
#include "stream.h"
#include "threads.h"

RG_BEGIN

template <class T> class FragmentsOnly {
  public:
    static constexpr int64_t kMost = 2;  // channels, and derivatives of channels
    static bool covers(const InterpolateBackwardArgs<T>& a) { return !a.d_attr && a.channels <= kMost && a.diff_count <= kMost; }

    explicit FragmentsOnly(const InterpolateBackwardArgs<T>& a)
        : a_(a), d_rast_(a.d_rast, a.images * a.pixels * 4), d_rast_db_(a.d_rast_db, a.images * a.pixels * 4),
          rows_(static_cast<T*>(arena_.take(kRows * sizeof(T)))), slope_rows_(static_cast<T*>(arena_.take(kRows * sizeof(T)))),
          spare_(static_cast<T*>(arena_.take(4 * kLanes * sizeof(T)))) {}

    // Strips are counted over all images.
    void run(int64_t strip) {
        const int64_t strips = strips_of(a_.pixels), image = strip / strips, from = strip % strips * kStrip;
        const int64_t begin = image * a_.pixels + from, end = image * a_.pixels + minimum(from + kStrip, a_.pixels);
        const Attributes<T> attributes{a_.attr + image * a_.attr_image_stride, a_.tri, a_.vertices, a_.channels, a_.triangles};
        for (int64_t at = begin; at < end; at += kTile) {
            const int64_t count = minimum(kTile, end - at);
            runs_.find(a_.rast + 4 * at, count, attributes);
            if (!runs_.any()) {
                if (d_rast_) d_rast_.clear(4 * at, 4 * count);
                if (d_rast_db_) d_rast_db_.clear(4 * at, 4 * count);
                continue;
            }
            const Run* run = runs_.begin();
            for (int64_t i = 0; i < count; i += kLanes) group(attributes, run, at, i, minimum(count - i, int64_t(kLanes)));
            if (d_rast_) d_rast_.write(4 * at, rows_, 4 * count);
            if (d_rast_db_) d_rast_db_.write(4 * at, slope_rows_, 4 * count);
        }
        stream_fence();
    }

  private:
    using F = Lanes<T>;
    static constexpr int64_t kRows = (kTile + kLanes) * 4;
    const InterpolateBackwardArgs<T>& a_;
    Arena arena_;
    Output<T> d_rast_, d_rast_db_;
    T *rows_, *slope_rows_, *spare_;
    Runs<T> runs_;

    // Slopes of the attributes under sixteen pixels: from corner 2 to corners 0 and 1.
    struct Corners { F e0[kMost], e1[kMost]; };

    // Those of the pixels i to i + count of the tile; `run` is the first run that reaches them, and then the next group's.
    RG_FN Corners corners(const Attributes<T>& attributes, const Run*& run, int64_t i, int64_t count) const {
        Corners s;
        for (int c = 0; c < kMost; c++) s.e0[c] = s.e1[c] = F(T(0));
        for (;; run++) {
            const int64_t low = maximum(int64_t(run->begin) - i, int64_t(0)), high = minimum(int64_t(run->end) - i, count);
            if (run->there()) {
                const unsigned lanes = transposed_bits(((1u << high) - 1) & ~((1u << low) - 1));
                for (int64_t c = 0; c < a_.channels; c++) {
                    const Slopes<T> own = slopes(attributes.rows[run->row[0] * a_.channels + c], attributes.rows[run->row[1] * a_.channels + c],
                                                 attributes.rows[run->row[2] * a_.channels + c]);
                    s.e0[c] = blend_bits(lanes, F(own.e0), s.e0[c]);
                    s.e1[c] = blend_bits(lanes, F(own.e1), s.e1[c]);
                }
            }
            if (run->end >= i + count) break;
        }
        if (run->end == i + count) run++;
        return s;
    }

    // Upstream rows of `width` numbers, from pixel `first` on; those of pixels that do not exist count as zero.
    RG_FN const T* upstream(const T* rows, int64_t width, int64_t first, int64_t count) {
        if (count == kLanes) return rows + first * width;
        memset(spare_, 0, 4 * kLanes * sizeof(T));
        for (int64_t k = 0; k < count * width; k++) spare_[k] = rows[first * width + k];
        return spare_;
    }

    RG_FN void group(const Attributes<T>& attributes, const Run*& run, int64_t at, int64_t i, int64_t count) {
        const Corners s = corners(attributes, run, i, count);
        const F zero(T(0));
        if (d_rast_) {
            F d_u = zero, d_v = zero, g[kMost];
            if (a_.d_out && a_.channels) {
                const T* const from = upstream(a_.d_out, a_.channels, at + i, count);
                if (a_.channels == 2) load_pairs(from, g[0], g[1]);
                else g[0] = F::load(from);
                for (int64_t c = 0; c < a_.channels; c++) barycentric_adjoint(Slopes<F>{s.e0[c], s.e1[c], zero}, transposed(g[c]), d_u, d_v);
            }
            store_square(Columns4<T>{d_u, d_v, zero, zero}, false, false, rows_ + 4 * i, 4 * 4);
        }
        if (!d_rast_db_) return;
        Columns4<T> d{zero, zero, zero, zero};
        if (a_.d_out_da && a_.diff_count) {
            const T* const from = upstream(a_.d_out_da, 2 * a_.diff_count, at + i, count);
            Columns4<T> p{zero, zero, zero, zero};
            if (a_.diff_count == 2) {
                p = load_square(from, 4 * 4);
            } else {
                load_pairs(from, p.x, p.y);
                p.x = transposed(p.x);
                p.y = transposed(p.y);
            }
            for (int64_t k = 0; k < a_.diff_count; k++) {
                const int32_t c = a_.diff[k];
                if (c < 0) continue;
                barycentric_slope_adjoint(s.e0[c], s.e1[c], k ? p.z : p.x, d.x, d.z);
                barycentric_slope_adjoint(s.e0[c], s.e1[c], k ? p.w : p.y, d.y, d.w);
            }
        }
        store_square(d, false, false, slope_rows_ + 4 * i, 4 * 4);
    }
};

template <class T> void fragment_gradients(const InterpolateBackwardArgs<T>& a) {
    parallel_for(a.threads, a.images * strips_of(a.pixels), 1, [&](int, int64_t first, int64_t last) {
        FragmentsOnly<T> fragments(a);
        for (int64_t s = first; s < last; s++) fragments.run(s);
    });
}

RG_END
