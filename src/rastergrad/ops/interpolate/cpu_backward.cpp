// SPDX-License-Identifier: MIT
// The gradients of interpolation on the CPU: one pass over the pixels, run by run. Gradients of fragments lie in the nearest cache until a tile
// is done; those of vertices are summed in registers along a run and then added to tables of the strips' group, or become records.
#include <type_traits>

#include "cpu_kernels.h"
#include "row_tables.h"
#include "runs.h"
#include "scatter.h"
#include "stream.h"

RG_BEGIN
namespace {

// Gradients at the three corners of a run, padded with zeros to whole registers.
template <class T> struct CornerSums { T* d[3]; };

// Where the sums of runs go. A private table has rows of whole registers, ...
template <class V, class T> struct TableSink {
    T* table;
    int64_t stride;
    RG_FN void add(const Run& run, const CornerSums<T>& sums, int64_t blocks, int64_t) const {
        constexpr int64_t kCount = ChannelsOf<V>::kCount;
        for (int k = 0; k < 3; k++) {
            T* const to = table + run.row[k] * stride;
            for (int64_t b = 0; b < blocks; b++) (V::load(to + b * kCount) + V::load(sums.d[k] + b * kCount)).store(to + b * kCount);
        }
    }
};
// ... a record exactly the channels.
template <class T> struct RecordSink {
    RowScatter<T>& scatter;
    int worker;
    int64_t strip, base;
    RG_FN void add(const Run& run, const CornerSums<T>& sums, int64_t, int64_t channels) const {
        for (int k = 0; k < 3; k++) {
            T* to = scatter.append(worker, strip, base + run.row[k]);
            for (int64_t c = 0; c < channels; c++) to[c] = sums.d[k][c];
        }
    }
};
struct NoSink {};

// Channels beyond the last one belong to the next pixel.
template <class V> struct Tail;
template <class T> struct Tail<Quad<T>> {
    FirstChannels<T> first;
    explicit Tail(int64_t count) : first(count) {}
    RG_FN Quad<T> of(Quad<T> x) const { return first.of(x); }
};
template <class T> struct Tail<Lanes<T>> {
    typename Lanes<T>::Mask mask;
    explicit Tail(int64_t count) : mask(Lanes<typename Lanes<T>::Integer>::iota() < Lanes<typename Lanes<T>::Integer>(typename Lanes<T>::Integer(count))) {}
    RG_FN Lanes<T> of(Lanes<T> x) const { return select(mask, x, Lanes<T>(T(0))); }
};

template <class T> struct Tile {
    const T *fragments, *slopes;  // of rast and rast_db
    const T *g, *g_da;            // of d_out and d_out_da, or null
    const T *g_end, *g_da_end;    // of the whole tensors
    T *d_rast, *d_rast_db;        // buffers, or null
};

// The processor's own prefetchers lose track of the upstream between runs.
template <class T> RG_FN void prefetch_ahead(const T* g) { __builtin_prefetch(reinterpret_cast<const char*>(g) + 2048); }

// The attributes along a run.
template <class V, int B, bool kAttr, bool kRast, class T>
RG_FN void adjoint_run(const Slopes<V>* from, const Tail<V>& tail, const Run& run, const Tile<T>& tile, int64_t channels, CornerSums<T>& sums) {
    constexpr int64_t kCount = ChannelsOf<V>::kCount;
    V e0[B], e1[B], d0[B], d1[B], d2[B];
    for (int b = 0; b < B; b++) {
        e0[b] = from[b].e0;
        e1[b] = from[b].e1;
        d0[b] = d1[b] = d2[b] = V(T(0));
    }
    const T* g = tile.g + run.begin * channels;
    for (int64_t i = run.begin; i < run.end; i++, g += channels) {
        for (int b = 0; b < B; b++) prefetch_ahead(g + b * kCount);
        const V u(tile.fragments[4 * i]), v(tile.fragments[4 * i + 1]);
        V d_u(T(0)), d_v(T(0));
        for (int b = 0; b < B; b++) {
            V upstream = load_row<V>(g + b * kCount, tile.g_end, channels - b * kCount);
            if (b == B - 1) upstream = tail.of(upstream);
            if constexpr (kAttr) attribute_adjoint(u, v, upstream, d0[b], d1[b], d2[b]);
            if constexpr (kRast) barycentric_adjoint(Slopes<V>{e0[b], e1[b], V(T(0))}, upstream, d_u, d_v);
        }
        if constexpr (kRast) two_sums(sum_of_quads(d_u), sum_of_quads(d_v)).store(tile.d_rast + 4 * i);
    }
    if constexpr (kAttr)
        for (int b = 0; b < B; b++) {
            d0[b].store(sums.d[0] + b * kCount);
            d1[b].store(sums.d[1] + b * kCount);
            d2[b].store(sums.d[2] + b * kCount);
        }
}

// Four pixels at a time: for those beyond the run the upstream counts as zero, and what is written for them is overwritten by the next run.
template <bool kAttr, bool kRast>
RG_FN void adjoint_run(Slopes<Quad<float>> from, const FourPixels& four, const Run& run, const Tile<float>& tile, int64_t channels, CornerSums<float>& sums) {
    using F = Lanes<float>;
    const Slopes<F> s{four_times(from.e0), four_times(from.e1), F(0.0f)};
    F d0(0.0f), d1(0.0f), d2(0.0f);
    for (int64_t i = run.begin; i < run.end; i += 4) {
        prefetch_ahead(tile.g + i * channels);
        const F rows = F::load(tile.fragments + 4 * i), upstream = four.load(tile.g + i * channels, run.end - i, tile.g_end);
        if constexpr (kAttr) attribute_adjoint(spread<0>(rows), spread<1>(rows), upstream, d0, d1, d2);
        if constexpr (kRast) {
            F d_u(0.0f), d_v(0.0f);
            barycentric_adjoint(s, upstream, d_u, d_v);
            two_sums(d_u, d_v).store(tile.d_rast + 4 * i);
        }
    }
    if constexpr (kAttr) {
        sum_of_quads(d0).store(sums.d[0]);
        sum_of_quads(d1).store(sums.d[1]);
        sum_of_quads(d2).store(sums.d[2]);
    }
}

// The same for more channels than registers hold: block after block along the run.
template <class V, bool kAttr, bool kRast, class T>
RG_FN void wide_adjoint_run(const Slopes<V>* from, const Tail<V>& tail, int64_t blocks, const Run& run, const Tile<T>& tile, int64_t channels, CornerSums<T>& sums) {
    constexpr int64_t kCount = ChannelsOf<V>::kCount;
    for (int64_t b = 0; b < blocks; b++) {
        V d0(T(0)), d1(T(0)), d2(T(0));
        for (int64_t i = run.begin; i < run.end; i++) {
            const V u(tile.fragments[4 * i]), v(tile.fragments[4 * i + 1]);
            V upstream = load_row<V>(tile.g + i * channels + b * kCount, tile.g_end, channels - b * kCount), d_u(T(0)), d_v(T(0));
            if (b == blocks - 1) upstream = tail.of(upstream);
            if constexpr (kAttr) attribute_adjoint(u, v, upstream, d0, d1, d2);
            if constexpr (kRast) {
                barycentric_adjoint(from[b], upstream, d_u, d_v);
                Quad<T> row = two_sums(sum_of_quads(d_u), sum_of_quads(d_v));
                if (b) row += Quad<T>::load(tile.d_rast + 4 * i);
                row.store(tile.d_rast + 4 * i);
            }
        }
        if constexpr (kAttr) {
            d0.store(sums.d[0] + b * kCount);
            d1.store(sums.d[1] + b * kCount);
            d2.store(sums.d[2] + b * kCount);
        }
    }
}

// A channel's gradient comes from both of its derivatives.
template <class T> RG_FN void add_pairs(const Pairs<T>& pairs, int64_t q, Quad<T> d0, Quad<T> d1, Quad<T> d2, CornerSums<T>& sums) {
    for (int k = 0; k < 2; k++) {
        const int32_t c = pairs.channel(q, k);
        if (c < 0) continue;
        sums.d[0][c] += d0[2 * k] + d0[2 * k + 1];
        sums.d[1][c] += d1[2 * k] + d1[2 * k + 1];
        sums.d[2][c] += d2[2 * k] + d2[2 * k + 1];
    }
}

// The derivative channels along a run.
template <bool kAttr, class T> RG_FN void slope_adjoint_run(const Pairs<T>& pairs, const Run& run, const Tile<T>& tile, int64_t width, CornerSums<T>& sums) {
    for (int64_t q = 0; q < pairs.quads(); q++) {
        const Quad<T> e0 = pairs.e0(q), e1 = pairs.e1(q);
        Quad<T> d0(T(0)), d1(T(0)), d2(T(0));
        for (int64_t i = run.begin; i < run.end; i++) {
            const Quad<T> db = Quad<T>::load(tile.slopes + 4 * i);
            const Quad<T> upstream = pairs.existing(q, load_row<Quad<T>>(tile.g_da + i * width + 4 * q, tile.g_da_end, width - 4 * q));
            if constexpr (kAttr) attribute_slope_adjoint(low_twice(db), high_twice(db), upstream, d0, d1, d2);
            if (tile.d_rast_db) {
                Quad<T> d_u(T(0)), d_v(T(0));
                barycentric_slope_adjoint(e0, e1, upstream, d_u, d_v);
                Quad<T> row = sums_of_halves(d_u, d_v);
                if (q) row += Quad<T>::load(tile.d_rast_db + 4 * i);
                row.store(tile.d_rast_db + 4 * i);
            }
        }
        if constexpr (kAttr) add_pairs(pairs, q, d0, d1, d2, sums);
    }
}

// Up to two derivative channels, four pixels at a time.
template <bool kAttr>
RG_FN void slope_adjoint_run(const Pairs<float>& pairs, const FourPixels& four, const Run& run, const Tile<float>& tile, int64_t width, CornerSums<float>& sums) {
    using F = Lanes<float>;
    const F e0 = four_times(pairs.e0(0)), e1 = four_times(pairs.e1(0));
    F d0(0.0f), d1(0.0f), d2(0.0f);
    for (int64_t i = run.begin; i < run.end; i += 4) {
        const F db = F::load(tile.slopes + 4 * i), upstream = four.load(tile.g_da + i * width, run.end - i, tile.g_da_end);
        if constexpr (kAttr) attribute_slope_adjoint(low_twice(db), high_twice(db), upstream, d0, d1, d2);
        if (tile.d_rast_db) {
            F d_u(0.0f), d_v(0.0f);
            barycentric_slope_adjoint(e0, e1, upstream, d_u, d_v);
            sums_of_halves(d_u, d_v).store(tile.d_rast_db + 4 * i);
        }
    }
    if constexpr (kAttr) add_pairs(pairs, 0, sum_of_quads(d0), sum_of_quads(d1), sum_of_quads(d2), sums);
}

// Rows of zeros for the pixels of a run.
template <class T> RG_FN void clear_rows(const Run& run, T* rows) {
    for (int64_t i = run.begin; i < run.end; i++) Quad<T>(T(0)).store(rows + 4 * i);
}

template <class T> RG_FN const T* beyond(const T* from, int64_t count) { return from ? from + count : nullptr; }

// What all strips share, and the buffers of one of them.
template <class V, int B, class T> class StripBackward {
    static constexpr int64_t kCount = ChannelsOf<V>::kCount;

  public:
    explicit StripBackward(const InterpolateBackwardArgs<T>& a)
        : a_(a), blocks_((a.channels + kCount - 1) / kCount), tail_(a.channels - (blocks_ - 1) * kCount),
          d_rast_(a.d_rast, a.images * a.pixels * 4), d_rast_db_(a.d_rast_db, a.images * a.pixels * 4), pairs_(a.diff, a.diff_count, arena_),
          fragments_(a.rast, a.images * a.pixels, arena_), fragment_slopes_(a.rast_db, a.images * a.pixels, arena_), four_(a.channels),
          four_pairs_(2 * a.diff_count) {
        const size_t padded = size_t(blocks_ + 1) * size_t(kCount) * sizeof(T);
        slopes_ = static_cast<Slopes<V>*>(arena_.take(size_t(blocks_ + 1) * sizeof(Slopes<V>)));
        for (auto& sums : sums_.d) sums = static_cast<T*>(arena_.take(padded));
        tile_.d_rast = a.d_rast ? static_cast<T*>(arena_.take((kTile + 4) * 4 * sizeof(T))) : nullptr;
        tile_.d_rast_db = a.d_rast_db ? static_cast<T*>(arena_.take((kTile + 4) * 4 * sizeof(T))) : nullptr;
        tile_.g_end = beyond(a.d_out, a.images * a.pixels * a.channels);
        tile_.g_da_end = beyond(a.d_out_da, a.images * a.pixels * 2 * a.diff_count);
    }

    // Strips are counted over all images.
    template <class Sink> void run(int64_t strip, const Sink& sink) {
        const int64_t strips = strips_of(a_.pixels), image = strip / strips, from = strip % strips * kStrip;
        const int64_t begin = image * a_.pixels + from, end = image * a_.pixels + minimum(from + kStrip, a_.pixels);
        const Attributes<T> attributes{a_.attr + image * a_.attr_image_stride, a_.tri, a_.vertices, a_.channels, a_.triangles};
        const bool slopes = a_.d_out_da && a_.diff_count, values = a_.d_out && a_.channels;
        for (int64_t at = begin; at < end; at += kTile) {
            const int64_t count = minimum(kTile, end - at);
            tile_.fragments = fragments_.at(at, count);
            tile_.slopes = fragment_slopes_.at(at, count);
            tile_.g = beyond(a_.d_out, at * a_.channels);
            tile_.g_da = beyond(a_.d_out_da, at * 2 * a_.diff_count);
            runs_.find(tile_.fragments, count, attributes);
            if (!runs_.any() || !(values || slopes)) {
                if (d_rast_) d_rast_.clear(4 * at, 4 * count);
                if (d_rast_db_) d_rast_db_.clear(4 * at, 4 * count);
                continue;
            }
            for (const Run& run : runs_) {
                if (tile_.d_rast && !(run.there() && values)) clear_rows(run, tile_.d_rast);
                if (tile_.d_rast_db && !(run.there() && slopes)) clear_rows(run, tile_.d_rast_db);
                if (run.there()) one_run(attributes, run, values, slopes, sink);
            }
            if (d_rast_) d_rast_.write(4 * at, tile_.d_rast, 4 * count);
            if (d_rast_db_) d_rast_db_.write(4 * at, tile_.d_rast_db, 4 * count);
        }
        stream_fence();
    }

  private:
    const InterpolateBackwardArgs<T>& a_;
    Arena arena_;
    int64_t blocks_;
    Tail<V> tail_;
    Output<T> d_rast_, d_rast_db_;
    Pairs<T> pairs_;
    PaddedRows<T> fragments_, fragment_slopes_;
    FourPixels four_, four_pairs_;
    Slopes<V>* slopes_;
    CornerSums<T> sums_;
    Tile<T> tile_;
    Runs<T> runs_;

    template <bool kAttr, bool kRast> RG_FN void values_run(const Run& run) {
        if constexpr (std::is_same_v<V, Quad<float>>) adjoint_run<kAttr, kRast>(slopes_[0], four_, run, tile_, a_.channels, sums_);
        else if constexpr (B) adjoint_run<V, B, kAttr, kRast>(slopes_, tail_, run, tile_, a_.channels, sums_);
        else wide_adjoint_run<V, kAttr, kRast>(slopes_, tail_, blocks_, run, tile_, a_.channels, sums_);
    }
    template <bool kAttr> RG_FN void slopes_run(const Run& run) {
        if constexpr (sizeof(T) == 4)
            if (pairs_.fill_quads()) return slope_adjoint_run<kAttr>(pairs_, four_pairs_, run, tile_, 2 * a_.diff_count, sums_);
        slope_adjoint_run<kAttr>(pairs_, run, tile_, 2 * a_.diff_count, sums_);
    }
    template <class Sink> RG_FN void one_run(const Attributes<T>& attributes, const Run& run, bool values, bool slopes, const Sink& sink) {
        constexpr bool kAttr = !std::is_same_v<Sink, NoSink>;
        load_slopes(attributes, run, blocks_, slopes_);
        if (values) {
            if (tile_.d_rast) values_run<kAttr, true>(run);
            else if constexpr (kAttr) values_run<true, false>(run);
        } else if constexpr (kAttr) {
            for (auto* sums : sums_.d) memset(sums, 0, size_t(blocks_ * kCount) * sizeof(T));
        }
        if (slopes) {
            pairs_.read(slopes_);
            slopes_run<kAttr>(run);
        }
        if constexpr (kAttr) sink.add(run, sums_, blocks_, a_.channels);
    }
};

template <class V, int B, class T> void backward_with(const InterpolateBackwardArgs<T>& a) {
    using Strip = StripBackward<V, B, T>;
    const int64_t strips = strips_of(a.pixels), all = a.images * strips;
    if (!a.d_attr) {
        parallel_for(a.threads, all, 1, [&](int, int64_t first, int64_t last) {
            Strip strip(a);
            for (int64_t s = first; s < last; s++) strip.run(s, NoSink());
        });
        return;
    }
    constexpr int64_t kCount = ChannelsOf<V>::kCount;
    const bool shared = a.attr_image_stride == 0;
    const int64_t lists = shared ? 1 : a.images, strips_each = shared ? all : strips, stride = (a.channels + kCount - 1) / kCount * kCount;
    RowTables<T> tables(a.threads, lists, strips_each, a.vertices, a.channels, stride);
    if (tables.fits(a.images * a.pixels)) {
        tables.sum_into(a.d_attr, [&](int64_t list, int64_t first, int64_t last, T* table) {
            Strip strip(a);
            for (int64_t s = first; s < last; s++) strip.run(list * strips_each + s, TableSink<V, T>{table, stride});
        });
        return;
    }
    RowScatter<T> scatter(a.threads, all, shared ? a.vertices : a.images * a.vertices, a.channels);
    parallel_for(a.threads, all, 1, [&](int worker, int64_t first, int64_t last) {
        Strip strip(a);
        for (int64_t s = first; s < last; s++) strip.run(s, RecordSink<T>{scatter, worker, s, shared ? 0 : s / strips * a.vertices});
    });
    scatter.sum_into(a.d_attr);
}

}  // namespace

template <class T> int64_t interpolate_backward(const InterpolateBackwardArgs<T>& a) {
    with_channels<T>(a.channels, [&](auto channels, auto blocks) { backward_with<decltype(channels), blocks.value>(a); });
    return 0;
}

template int64_t interpolate_backward(const InterpolateBackwardArgs<float>&);
RG_FLOAT64(template int64_t interpolate_backward(const InterpolateBackwardArgs<double>&);)

RG_END
