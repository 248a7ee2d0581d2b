// SPDX-License-Identifier: MIT
// Interpolation on the CPU: a tile of pixels is worked out run by run in the nearest cache, all channels of a pixel at once, and written past
// the caches. A whole register may be stored over the start of the next pixel, which is written afterwards.
#include <type_traits>

#include "cpu_kernels.h"
#include "runs.h"
#include "stream.h"
#include "threads.h"

RG_BEGIN
namespace {

template <class T> struct Tile {
    const T *fragments, *slopes;  // of rast and rast_db
    T *out, *out_da;              // buffers with room for one register more than the tile
};

template <class V, int B, class T>
RG_FN void attribute_run(const Slopes<V>* from, int64_t blocks, const Run& run, const Tile<T>& tile, int64_t channels) {
    constexpr int64_t kCount = ChannelsOf<V>::kCount;
    Slopes<V> s[B ? B : 1];
    for (int b = 0; b < B; b++) s[b] = from[b];
    T* to = tile.out + run.begin * channels;
    for (int64_t i = run.begin; i < run.end; i++, to += channels) {
        const V u(tile.fragments[4 * i]), v(tile.fragments[4 * i + 1]);
        if constexpr (B) for (int b = 0; b < B; b++) attribute(s[b], u, v).store(to + b * kCount);
        else for (int64_t b = 0; b < blocks; b++) attribute(from[b], u, v).store(to + b * kCount);
    }
}

// Four pixels at a time: those beyond the run are worked out in vain and overwritten by the next one, so that runs of up to four pixels, whose
// lengths cannot be foretold, take one way.
RG_FN void attribute_run(Slopes<Quad<float>> from, const Run& run, const Tile<float>& tile, int64_t channels, const FourPixels& four) {
    using F = Lanes<float>;
    const Slopes<F> s{four_times(from.e0), four_times(from.e1), four_times(from.a2)};
    for (int64_t i = run.begin; i < run.end; i += 4) {
        const F rows = F::load(tile.fragments + 4 * i);
        four.store(attribute(s, spread<0>(rows), spread<1>(rows)), tile.out + i * channels);
    }
}
RG_FN void slope_run(Quad<float> e0, Quad<float> e1, const Run& run, const Tile<float>& tile, int64_t width, const FourPixels& four) {
    using F = Lanes<float>;
    const F e0s = four_times(e0), e1s = four_times(e1);
    for (int64_t i = run.begin; i < run.end; i += 4) {
        const F db = F::load(tile.slopes + 4 * i);
        four.store(attribute_slope(e0s, e1s, low_twice(db), high_twice(db)), tile.out_da + i * width);
    }
}

template <class T> RG_FN void slope_run(const Pairs<T>& pairs, const Run& run, const Tile<T>& tile, int64_t width) {
    T* to = tile.out_da + run.begin * width;
    for (int64_t i = run.begin; i < run.end; i++, to += width) {
        const Quad<T> db = Quad<T>::load(tile.slopes + 4 * i), du = low_twice(db), dv = high_twice(db);
        for (int64_t q = 0; q < pairs.quads(); q++) attribute_slope(pairs.e0(q), pairs.e1(q), du, dv).store(to + 4 * q);
    }
}

template <class V, class T> RG_FN void clear_run(T* to, T* end) {
    for (; to < end; to += ChannelsOf<V>::kCount) V(T(0)).store(to);
}

template <class V, int B, class T>
void forward_strip(const InterpolateForwardArgs<T>& a, const Output<T>& out, const Output<T>& out_da, int64_t image, int64_t begin, int64_t end) {
    const int64_t width = a.channels, pair_width = 2 * a.diff_count, blocks = (width + ChannelsOf<V>::kCount - 1) / ChannelsOf<V>::kCount;
    Arena arena;
    auto* const many_slopes = static_cast<Slopes<V>*>(arena.take(size_t(blocks + 1) * sizeof(Slopes<V>)));
    Pairs<T> pairs(a.diff, a.diff_count, arena);
    const FourPixels four(width), four_pairs(pair_width);
    Tile<T> tile;
    tile.out = static_cast<T*>(arena.take(size_t((kTile + 4) * width + kLanes) * sizeof(T)));
    tile.out_da = static_cast<T*>(arena.take(size_t((kTile + 4) * pair_width + kLanes) * sizeof(T)));
    const PaddedRows<T> fragments(a.rast, a.images * a.pixels, arena), slopes_of_fragments(a.rast_db, a.images * a.pixels, arena);
    const Attributes<T> attributes{a.attr + image * a.attr_image_stride, a.tri, a.vertices, width, a.triangles};
    Runs<T> runs;
    for (int64_t at = begin; at < end; at += kTile) {
        const int64_t count = minimum(kTile, end - at);
        tile.fragments = fragments.at(at, count);
        tile.slopes = slopes_of_fragments.at(at, count);
        runs.find(tile.fragments, count, attributes);
        if (!runs.any()) {
            out.clear(at * width, count * width);
            out_da.clear(at * pair_width, count * pair_width);
            continue;
        }
        for (const Run& run : runs) {
            if (!run.there()) {
                clear_run<V>(tile.out + run.begin * width, tile.out + run.end * width);
                clear_run<Quad<T>>(tile.out_da + run.begin * pair_width, tile.out_da + run.end * pair_width);
                continue;
            }
            Slopes<V> in_registers[B ? B : 1];
            Slopes<V>* const slopes = B ? in_registers : many_slopes;
            load_slopes(attributes, run, B ? B : blocks, slopes);
            if constexpr (std::is_same_v<V, Quad<float>>) {
                if (width) attribute_run(slopes[0], run, tile, width, four);
            } else {
                attribute_run<V, B>(slopes, blocks, run, tile, width);
            }
            if (!a.diff_count) continue;
            pairs.read(slopes);
            if constexpr (sizeof(T) == 4) {
                if (pair_width <= 4) {
                    slope_run(pairs.e0(0), pairs.e1(0), run, tile, pair_width, four_pairs);
                    continue;
                }
            }
            slope_run(pairs, run, tile, pair_width);
        }
        out.write(at * width, tile.out, count * width);
        out_da.write(at * pair_width, tile.out_da, count * pair_width);
    }
}

}  // namespace

template <class T> int64_t interpolate_forward(const InterpolateForwardArgs<T>& a) {
    const int64_t strips = strips_of(a.pixels);
    const Output<T> out(a.out, a.images * a.pixels * a.channels), out_da(a.out_da, a.images * a.pixels * 2 * a.diff_count);
    with_channels<T>(a.channels, [&](auto channels, auto blocks) {
        parallel_for(a.threads, a.images * strips, 1, [&](int, int64_t first, int64_t last) {
            for (int64_t s = first; s < last; s++) {
                const int64_t image = s / strips, from = s % strips * kStrip;
                forward_strip<decltype(channels), blocks.value>(a, out, out_da, image, image * a.pixels + from,
                                                                image * a.pixels + minimum(from + kStrip, a.pixels));
            }
            stream_fence();
        });
    });
    return 0;
}

template int64_t interpolate_forward(const InterpolateForwardArgs<float>&);
RG_FLOAT64(template int64_t interpolate_forward(const InterpolateForwardArgs<double>&);)

RG_END
