// SPDX-License-Identifier: MIT
// Sums of texel gradients. Strips of pixels note in which bands of rows their texels lie; then one thread sums a band from the lists of all
// strips, in order, in accumulators that fit its cache. No atomics; the result does not depend on the thread count.
#pragma once
#include "arena.h"
#include "cpu_walk.h"

RG_BEGIN

constexpr int64_t kBandBytes = 400 * 1024;  // of accumulators: what a core keeps beside its other data

// Rows of a level (those of all faces) are cut into bands of 2^shift.
struct Bands {
    int shift[kMostLevels];
    int64_t first[kMostLevels + 1];  // number of a level's first band
    int64_t total(int levels) const { return first[levels]; }
};
template <class T> Bands bands_of(const Levels<T>& levels) {
    Bands bands;
    bands.first[0] = 0;
    for (int k = 0; k < levels.count; k++) {
        const Level<T>& level = levels.level[k];
        const int64_t row_bytes = level.width * levels.quads * int64_t(4 * sizeof(T));
        int shift = 0;
        // Small levels are cut as well, so that every thread has a share: up to 16 bands of at least 4 rows.
        while ((int64_t(2) << shift) * row_bytes <= kBandBytes && (int64_t(2) << shift) <= maximum(int64_t(4), level.rows / 16)) shift++;
        bands.shift[k] = shift;
        bands.first[k + 1] = bands.first[k] + ((level.rows - 1) >> shift) + 1;
    }
    return bands;
}

enum Weight : uint16_t { kWhole, kFiner, kCoarser };  // 1, 1 - f and f, where f is the pixel's fraction between two levels

// Some of 16 neighbouring pixels.
struct Record {
    uint32_t first;  // within their strip
    uint16_t lanes;  // one bit each
    uint16_t weight;
};

// Sums of neighbouring texels of a row, padded to four channels like the accumulators of a band.
template <class T> struct Run {
    const T* sums;
    int64_t first;  // number of the first sum, counted over the whole level
    int64_t count;
};

template <class T> struct Task {
    const BackwardArgs<T>& args;
    const Query<T>& q;
    Levels<T> levels;
    Layout layout;
    Bands bands;
    int64_t strip_rows, strip_columns;
    int64_t strips_across, strips;   // per row of strips, per image
    T* d_level[kMostLevels];         // where gradients of levels go; null: not wanted
    PieceList<Record>* lists;        // [images][strips][bands]; null: no texel gradients wanted
    PieceList<Run<T>>* runs;         // likewise
    T* fractions;                    // between two levels, of every pixel and kLanes more; where levels are mixed and texel gradients wanted
    bool stream;                     // past the caches

    PieceList<Record>* lists_of(int64_t strip_number) const { return lists + strip_number * bands.total(levels.count); }
    PieceList<Run<T>>* runs_of(int64_t strip_number) const { return runs + strip_number * bands.total(levels.count); }
    // Its first pixel.
    int64_t strip_begin(int64_t image, int64_t strip) const {
        return image * layout.pixels + strip / strips_across * strip_rows * layout.columns + strip % strips_across * strip_columns;
    }
};

// Texels that lie on several faces, or not on the texture.
template <class T>
__attribute__((noinline)) void note_carefully(const Task<T>& task, PieceList<Record>* level_lists, Arena& arena, int k, const Cells<T>& cells, int l, Record record) {
    int64_t seen[4];
    int count = 0;
    record.lanes = uint16_t(1u << l);
    for (int corner = 0; corner < (task.q.filter == kNearest ? 1 : 4); corner++) {
        const int64_t texel = cells.texel[corner][l];
        if (texel < 0) continue;
        const int64_t band = texel / task.levels.level[k].width >> task.bands.shift[k];
        bool known = false;
        for (int i = 0; i < count; i++) known |= seen[i] == band;
        if (known) continue;
        seen[count++] = band;
        level_lists[band].push(arena, record);
    }
}
// Pixels that look at level k.
template <class T> void note(const Task<T>& task, PieceList<Record>* lists, Arena& arena, int k, const Cells<T>& cells, Record record) {
    using I = Lanes<Index<T>>;
    if (!task.d_level[k]) return;
    PieceList<Record>* level_lists = lists + task.bands.first[k];
    const unsigned special = record.lanes & mask_bits(I::load(cells.highest) == I(kNoCell<T>));
    for (unsigned left = special; left; left &= left - 1) note_carefully(task, level_lists, arena, k, cells, __builtin_ctz(left), record);
    const unsigned lanes = record.lanes & ~special;
    const I first = I::load(cells.row[0]) >> task.bands.shift[k], second = I::load(cells.row[1]) >> task.bands.shift[k];
    for (unsigned firsts = lanes, seconds = lanes; firsts | seconds;) {
        const int64_t band = firsts ? first[__builtin_ctz(firsts)] : second[__builtin_ctz(seconds)];
        const unsigned here = mask_bits(first == I(Index<T>(band))) & lanes, there = mask_bits(second == I(Index<T>(band))) & lanes;
        level_lists[band].push(arena, Record{record.first, uint16_t(here | there), record.weight});
        firsts &= ~here;
        seconds &= ~there;
    }
}
// Hands the gradient of a cube corner's made-up texel to the three real ones.
template <class T> Cell<Quad<T>> share_corner(Cell<Quad<T>> d, const Cells<T>& cells, int l) {
    Quad<T>* const parts[4] = {&d.t00, &d.t10, &d.t01, &d.t11};
    for (int k = 0; k < 4; k++) {
        if (cells.texel[k][l] >= 0) continue;
        const Quad<T> share = average_of_three_adjoint(*parts[k]);
        for (Quad<T>* part : parts) *part += share;
    }
    return d;
}

template <class T> RG_FN void add_texel(T* to, Quad<T> d) { (Quad<T>::load(to) + d).store(to); }

// A band of a level while it is summed. kChannels is the number of channels, or 0: any.
template <class T, int kChannels> class BandSums {
  public:
    BandSums(const Task<T>& task, int k, int64_t first_row, int64_t end_row, T* sums)
        : task_(task), k_(k), first_row_(first_row), end_row_(end_row), sums_(sums) {}

    RG_FN void add(int64_t begin, Record record) {
        const int64_t first = begin + record.first;
        alignas(64) T weights[kLanes];
        Lanes<T> weight(T(1));
        if (record.weight != kWhole) {
            const Lanes<T> f = Lanes<T>::load(task_.fractions + first);
            weight = record.weight == kCoarser ? f : Lanes<T>(T(1)) - f;
        }
        weight.store(weights);
        // All sixteen are located, as reading some of them takes longer; unless there are no more.
        const int count = int(minimum(int64_t(kLanes), task_.layout.images * task_.layout.pixels - first));
        if (__builtin_popcount(record.lanes) >= kFew) return add_pixels({first, count, nullptr}, record.lanes, weights);
        for (unsigned left = record.lanes; left; left &= left - 1) {
            const int l = __builtin_ctz(left);
            pixels_[waiting_] = first + l;
            weights_[waiting_++] = weights[l];
            if (waiting_ == kLanes) finish();
        }
    }
    RG_FN void add(const Run<T>& run) {
        const int64_t width = 4 * (kChannels ? 1 : task_.levels.quads);
        T* const to = sums_ + run.first - first_row_ * task_.levels.level[k_].width * width;
        int64_t i = 0;
        for (; i + kLanes <= run.count; i += kLanes) (Lanes<T>::load(to + i) + Lanes<T>::load(run.sums + i)).store(to + i);
        for (; i < run.count; i += 4) add_texel(to + i, Quad<T>::load(run.sums + i));
    }
    // What still waits.
    RG_FN void finish() {
        for (int l = waiting_; l < kLanes; l++) pixels_[l] = pixels_[0];
        if (waiting_) add_pixels({0, kLanes, pixels_}, (1u << waiting_) - 1, weights_);
        waiting_ = 0;
    }

  private:
    static constexpr int kFew = 4;  // pixels: fewer wait until there are sixteen to be located at once
    const Task<T>& task_;
    const int k_;
    const int64_t first_row_, end_row_;
    T* const sums_;
    int waiting_ = 0;
    int64_t pixels_[kLanes];
    T weights_[kLanes];

    void add_pixels(const PixelNumbers& at, unsigned lanes, const T* weights) {
        using I = Lanes<Index<T>>;
        const Query<T>& q = task_.q;
        const Level<T>& level = task_.levels.level[k_];
        const int64_t channels = kChannels ? kChannels : q.channels, width = kChannels ? 4 : 4 * task_.levels.quads;
        const int64_t first_texel = first_row_ * level.width, size = (end_row_ - first_row_) * level.width;
        const T* const d_out_end = task_.args.d_out + task_.layout.images * task_.layout.pixels * channels;
        const bool nearest = q.filter == kNearest;
        Cells<T> cells;
        locate_in_level(q, task_.levels, k_, at, cells);
        unsigned all_inside = 0;  // nothing that is missing, on another face or in another band
        if (!nearest) {
            const I top = I::load(cells.row[0]), bottom = I::load(cells.row[1]), begin = I(Index<T>(first_row_)), last = I(Index<T>(end_row_ - 1));
            all_inside = mask_bits((top >= begin) & (top <= last) & (bottom >= begin) & (bottom <= last) & (I::load(cells.highest) < I(kNoCell<T>)));
        }
        for (unsigned left = lanes; left; left &= left - 1) {
            const int l = __builtin_ctz(left);
            const T* d_pixel = task_.args.d_out + at[l] * channels;
            const auto sums_at = [&](int corner) { return sums_ + (int64_t(cells.texel[corner][l]) - first_texel) * width; };
            for (int64_t c = 0; c < width; c += 4) {
                const Quad<T> d = Quad<T>(weights[l]) * load_before(d_pixel + c, channels - c, d_out_end);
                Cell<Quad<T>> e = nearest ? Cell<Quad<T>>{d, d, d, d} : bilinear_adjoint(Quad<T>(cells.a[l]), Quad<T>(cells.b[l]), d);
                if (__builtin_expect(all_inside >> l & 1, 1)) {
                    add_texel(sums_at(0) + c, e.t00);
                    add_texel(sums_at(1) + c, e.t10);
                    add_texel(sums_at(2) + c, e.t01);
                    add_texel(sums_at(3) + c, e.t11);
                    continue;
                }
                if (q.boundary == kCube && !nearest && cells.highest[l] == kNoCell<T>) e = share_corner(e, cells, l);
                const Quad<T> parts[4] = {e.t00, e.t10, e.t01, e.t11};
                for (int corner = 0; corner < (nearest ? 1 : 4); corner++)
                    if (uint64_t(int64_t(cells.texel[corner][l]) - first_texel) < uint64_t(size)) add_texel(sums_at(corner) + c, parts[corner]);
            }
        }
    }
};

// Sums of a row's texels to memory, and half or a quarter of the gradient above them.
template <class T, int kChannels>
RG_FN void write_row(const T* sums, int64_t width, int64_t channels, int64_t quads, const T* coarse, bool halve_rows, bool stream, T* to, const T* to_end) {
    const bool halve_columns = width > 1, both = halve_rows && halve_columns;
    int64_t i = 0;
    if constexpr (kChannels != 0) {
        // Sixteen texels at a time. Their upper neighbours are eight, the last of which has another behind it in its row.
        for (; i + 16 < width && (!coarse || both); i += 16) {
            Lanes<T> x[4];
            for (int k = 0; k < 4; k++) {
                x[k] = Lanes<T>::load(sums + 4 * i + 16 * k);
                if (!coarse) continue;
                x[k] += average_of_four_adjoint(neighbours_twice<kChannels>(coarse + (i / 2 + 2 * k) * kChannels));
            }
            if constexpr (kChannels == 3) {
                store_sixteen_threes(x, stream, to + 3 * i);
            } else {
                for (int k = 0; k < 4; k++) {
                    if (stream) stream_bytes(reinterpret_cast<char*>(to + 4 * i + 16 * k), reinterpret_cast<const char*>(&x[k]), sizeof(x[k]));
                    else x[k].store(to + 4 * i + 16 * k);
                }
            }
        }
    }
    for (; i < width; i++) {
        T* const texel = to + i * channels;
        for (int64_t c = 0; c < 4 * quads; c += 4) {
            Quad<T> x = Quad<T>::load(sums + i * 4 * quads + c);
            if (coarse) {
                const Quad<T> up = Quad<T>::load(coarse + (halve_columns ? i / 2 : i) * channels + c);
                x += both ? average_of_four_adjoint(up) : average_of_two_adjoint(up);
            }
            store_some(x, texel + c, texel + c + 4 <= to_end ? 4 : channels - c);
        }
    }
}

// The gradient of one band of level k of one image; `coarser` is the finished gradient of level k + 1, to be handed down, or null.
template <class T, int kChannels> void sum_band(const Task<T>& task, int64_t image, int k, int64_t band, const T* coarser) {
    constexpr int32_t kAhead = 4;  // records or runs: what they read is on the way from memory
    const Query<T>& q = task.q;
    const Level<T>& level = task.levels.level[k];
    const int64_t channels = kChannels ? kChannels : q.channels, quads = kChannels ? 1 : task.levels.quads;
    const int64_t first_row = band << task.bands.shift[k], end_row = minimum((band + 1) << task.bands.shift[k], level.rows);
    const int64_t first_texel = first_row * level.width, size = (end_row - first_row) * level.width;
    const int64_t point_bytes = (q.boundary == kCube ? 3 : 2) * int64_t(sizeof(T)), colour_bytes = channels * int64_t(sizeof(T));
    Block<T> block(size_t(size * quads * 4));
    T* sums = block.data();
    memset(static_cast<void*>(sums), 0, size_t(size * quads * 4) * sizeof(T));
    BandSums<T, kChannels> band_sums(task, k, first_row, end_row, sums);
    const auto list_of = [&](int64_t s) { return task.lists_of(image * task.strips + s) + task.bands.first[k] + band; };
    const auto fetch_record = [&](int64_t begin, const Record& record) {
        const int64_t first = begin + record.first;
        for (int64_t line = 0; line < kLanes * point_bytes; line += 64) fetch(q.uv, first * point_bytes + line);
        for (int64_t line = 0; line < kLanes * colour_bytes; line += 64) fetch(task.args.d_out, first * colour_bytes + line);
    };
    const auto runs_of = [&](int64_t s) { return task.runs_of(image * task.strips + s) + task.bands.first[k] + band; };
    const auto fetch_run = [&](const Run<T>& run) {
        for (int64_t i = 0; i < run.count; i += 64 / int64_t(sizeof(T))) fetch(run.sums, i * int64_t(sizeof(T)));
    };
    for (int64_t s = 0; s < task.strips; s++) {
        if (s + 2 < task.strips && runs_of(s + 2)->first) fetch(runs_of(s + 2)->first, 0);
        if (s + 1 < task.strips && runs_of(s + 1)->first) {
            typename PieceList<Run<T>>::Piece* const next = runs_of(s + 1)->first;
            for (int32_t r = 0; r < minimum(next->used, kAhead); r++) fetch_run(next->items()[r]);
        }
        // Lists are short, some sixteen records: without this, a quarter of them would be waited for.
        if (s + 2 < task.strips && list_of(s + 2)->first) fetch(list_of(s + 2)->first, 0);
        if (s + 1 < task.strips && list_of(s + 1)->first) {
            PieceList<Record>::Piece* const next = list_of(s + 1)->first;
            for (int32_t r = 0; r < minimum(next->used, kAhead); r++) fetch_record(task.strip_begin(image, s + 1), next->items()[r]);
        }
        const int64_t begin = task.strip_begin(image, s);
        runs_of(s)->for_each_piece([&](const Run<T>* runs, int32_t used) {
            for (int32_t r = 0; r < used; r++) {
                if (r + kAhead < used) fetch_run(runs[r + kAhead]);
                band_sums.add(runs[r]);
            }
        });
        list_of(s)->for_each_piece([&](const Record* records, int32_t used) {
            for (int32_t r = 0; r < used; r++) {
                if (r + kAhead < used) fetch_record(begin, records[r + kAhead]);
                band_sums.add(begin, records[r]);
            }
        });
    }
    band_sums.finish();
    T* to = task.d_level[k] + (image * level.texels_per_image + first_texel) * channels;
    T* const to_end = to + size * channels;
    const bool halve_rows = level.height > 1, stream = task.q.tex_images * level.texels_per_image * colour_bytes >= kStreamBytes;
    for (int64_t row = first_row; row < end_row; row++) {
        const T* coarse = nullptr;
        if (coarser) {
            const Level<T>& next = task.levels.level[k + 1];
            coarse = coarser + (image * next.texels_per_image + (halve_rows ? row / 2 : row) * next.width) * channels;
        }
        write_row<T, kChannels>(sums, level.width, channels, quads, coarse, halve_rows, stream, to, to_end);
        sums += level.width * 4 * quads;
        to += level.width * channels;
    }
    stream_fence();
}

RG_END
