// SPDX-License-Identifier: MIT
// Sums of texel gradients while pixels are visited. Neighbouring pixels look at neighbouring texels: those of one level that lie in a
// square are summed in accumulators small enough for the first cache. When pixels leave the square, each of its rows becomes a run in the
// list of its band (cpu_bands.h), and the square moves on. What fits no square is left to records.
#pragma once
#include "cpu_bands.h"

RG_BEGIN

// The accumulators of one level.
template <class T> struct Window {
    T* sums;             // all zero but for pixels since the square came here; null: not needed yet
    Index<T> row, column;
    int64_t stride;      // numbers from one row of sums to the next
    int64_t pixels;      // since it came here
    int64_t resting;     // groups for which the level does without: pixels jump about
    // One bit for a 32nd of the rows or columns, where something may have been added.
    alignas(64) Index<T> rows_used[kLanes], columns_used[kLanes];
};

template <class T> class Windows {
  public:
    static constexpr int64_t kMostQuads = 16;  // per texel
    Windows(const Task<T>& task, Arena& arena) : task_(task), arena_(arena), width_(4 * task.levels.quads) {
        for (Window<T>& w : window_) w.sums = nullptr;
    }
    void begin(int64_t image, int64_t strip) {
        image_ = image;
        runs_ = task_.runs ? task_.runs_of(image * task_.strips + strip) : nullptr;
        for (Window<T>& w : window_) w.row = w.column = kNowhere, w.pixels = w.resting = 0;
    }
    // Whether the cells of these lanes lie in the square of level k, perhaps after it has moved. Then `at` has where each of the four texels
    // is, t00, t10, t01, t11. Lanes must not have missing texels; `first` is the first one's pixel.
    RG_FN T* place(int k, int64_t first, const Cells<T>& cells, unsigned lanes, Index<T> (&at)[4][kLanes]) {
        using I = Lanes<Index<T>>;
        Window<T>& w = window_[k];
        const I t00 = I::load(cells.texel[0]), top = I::load(cells.row[0]), bottom = I::load(cells.row[1]);
        const I left = t00 - top * I(Index<T>(task_.levels.level[k].width)), right = left + (I::load(cells.texel[1]) - t00);
        I top_in = top - I(w.row), bottom_in = bottom - I(w.row), left_in = left - I(w.column), right_in = right - I(w.column);
        const unsigned outside = mask_bits(((top_in | bottom_in | left_in | right_in) & I(Index<T>(-kSide))) != I(0)) & lanes;
        if (__builtin_expect(outside, 0)) {
            if (!move(k, first, top, bottom, left, right, lanes)) return nullptr;
            top_in = top - I(w.row), bottom_in = bottom - I(w.row), left_in = left - I(w.column), right_in = right - I(w.column);
        }
        w.pixels += kLanes;
        const auto part = [&](I x) { return I(1) << ((x >> kPartShift) & I(kParts - 1)); };
        (I::load(w.rows_used) | part(top_in) | part(bottom_in)).store(w.rows_used);
        (I::load(w.columns_used) | part(left_in) | part(right_in)).store(w.columns_used);
        const I stride(static_cast<Index<T>>(w.stride)), width(static_cast<Index<T>>(width_));
        top_in = top_in * stride;
        bottom_in = bottom_in * stride;
        left_in = left_in * width;
        right_in = right_in * width;
        (top_in + left_in).store(at[0]);
        (top_in + right_in).store(at[1]);
        (bottom_in + left_in).store(at[2]);
        (bottom_in + right_in).store(at[3]);
        return w.sums;
    }
    // What has not been handed on.
    void finish() {
        for (int k = 0; k < task_.levels.count; k++)
            if (window_[k].pixels) empty(k);
    }

  private:
    // The side must not depend on the number of channels: each channel's sums are then the same as those of a texture of its own.
    static constexpr int kPartShift = 2;
    static constexpr int64_t kParts = 32, kSide = kParts << kPartShift;
    static constexpr Index<T> kNowhere = INT32_MIN / 2;
    static constexpr int64_t kRest = 32;     // groups
    static constexpr int64_t kWasteful = 8;  // texels handed on per pixel: records would be shorter
    const Task<T>& task_;
    Arena& arena_;
    PieceList<Run<T>>* runs_ = nullptr;
    int64_t image_ = 0;
    const int64_t width_;  // numbers per texel
    Window<T> window_[kMostLevels];

    // Smallest rows and columns that hold some cells.
    struct Box {
        Index<T> low_row, high_row, low_column, high_column;
        Box with(Index<T> top, Index<T> bottom, Index<T> left, Index<T> right) const {
            return {minimum(low_row, minimum(top, bottom)), maximum(high_row, maximum(top, bottom)), minimum(low_column, minimum(left, right)),
                    maximum(high_column, maximum(left, right))};
        }
        bool fits(int64_t side) const { return high_row - low_row < side && high_column - low_column < side - 3; }
    };

    __attribute__((noinline)) bool move(int k, int64_t first, Lanes<Index<T>> top, Lanes<Index<T>> bottom, Lanes<Index<T>> left, Lanes<Index<T>> right, unsigned lanes) {
        Window<T>& w = window_[k];
        if (w.resting > 0) {
            w.resting--;
            return false;
        }
        const int lane = __builtin_ctz(lanes);
        Box box{top[lane], top[lane], left[lane], left[lane]};
        for (unsigned rest = lanes; rest; rest &= rest - 1) {
            const int l = __builtin_ctz(rest);
            box = box.with(top[l], bottom[l], left[l], right[l]);
        }
        if (!box.fits(kSide)) return false;
        if (w.pixels) empty(k);
        if (w.resting) return false;
        if (!w.sums) {
            const Level<T>& level = task_.levels.level[k];
            w.stride = minimum(kSide, (level.width + 3) / 4 * 4) * width_ + kLanes;
            const size_t bytes = size_t(minimum(kSide, level.rows) * w.stride) * sizeof(T);
            w.sums = static_cast<T*>(arena_.take(bytes));
            memset(static_cast<void*>(w.sums), 0, bytes);
        }
        box = grown(box, k, first);
        // Columns by four, so that runs are aligned like the rows of a band.
        const Index<T> side = Index<T>(kSide);
        w.row = maximum(Index<T>(0), (box.low_row + box.high_row - side + 1) / 2);
        w.column = maximum(Index<T>(0), (box.low_column + box.high_column - side + 1) / 2) & Index<T>(-4);
        if (box.high_column - w.column >= side) w.column += 4;
        Lanes<Index<T>>(0).store(w.rows_used);
        Lanes<Index<T>>(0).store(w.columns_used);
        return true;
    }
    // The box and what fits beside it of the texels under the pixels that come next, of which sixteen are looked at.
    Box grown(Box box, int k, int64_t first) const {
        const Layout& layout = task_.layout;
        const int64_t start = image_ * layout.pixels, row = (first - start) / layout.columns / kBackwardRows * kBackwardRows, column = (first - start) % layout.columns;
        int64_t samples[kLanes];
        for (int l = 0; l < kLanes; l++) {
            const int64_t x = minimum(column + l / 2 * 16, layout.columns - 1), y = minimum(row + l % 2 * (kBackwardRows - 1), layout.rows - 1);
            samples[l] = start + minimum(y * layout.columns + x, layout.pixels - 1);
        }
        Cells<T> cells;
        locate_in_level(task_.q, task_.levels, k, {0, kLanes, samples}, cells);
        for (int l = 0; l < kLanes; l++) {
            if (cells.highest[l] == kNoCell<T>) continue;
            const Index<T> left = cells.texel[0][l] - cells.row[0][l] * Index<T>(task_.levels.level[k].width);
            const Box larger = box.with(cells.row[0][l], cells.row[1][l], left, left + (cells.texel[1][l] - cells.texel[0][l]));
            if (larger.fits(kSide)) box = larger;
        }
        return box;
    }

    // Hands the sums on and leaves zeros.
    __attribute__((noinline)) void empty(int k) {
        Window<T>& w = window_[k];
        const Level<T>& level = task_.levels.level[k];
        const auto parts = [](const Index<T>* used) {
            uint32_t bits = 0;
            for (int l = 0; l < kLanes; l++) bits |= uint32_t(used[l]);
            return bits;
        };
        const uint32_t rows = parts(w.rows_used), columns = parts(w.columns_used);
        const int64_t within = minimum(kSide, level.width - int64_t(w.column)) * width_, part = width_ << kPartShift;
        // Lanes that were not asked about may have left bits, too.
        const int64_t first = __builtin_ctz(columns) * part / kLanes, end = (minimum((32 - __builtin_clz(columns)) * part, within) + kLanes - 1) / kLanes;
        const auto used = [](const T* at) { return any(bits_as<Index<T>>(Lanes<T>::load(at)) != Lanes<Index<T>>(0)); };
        int64_t handed = 0;
        for (int64_t r = 0; r < minimum(kSide, level.rows - int64_t(w.row)); r++) {
            if (!(rows >> (r >> kPartShift) & 1)) continue;
            T* const row = w.sums + r * w.stride;
            int64_t low = first, high = end;
            while (low < high && !used(row + low * kLanes)) low++;
            if (low == high) continue;
            while (!used(row + (high - 1) * kLanes)) high--;
            const int64_t count = (high - low) * kLanes;
            T *const from = row + low * kLanes, *const to = static_cast<T*>(arena_.take(size_t(count) * sizeof(T)));
            if (task_.stream) {
                stream_bytes(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(from), size_t(count) * sizeof(T));
            } else {
                for (int64_t i = 0; i < count; i += kLanes) Lanes<T>::load(from + i).store(to + i);
            }
            for (int64_t i = 0; i < count; i += kLanes) Lanes<T>(T(0)).store(from + i);
            const int64_t texel_row = int64_t(w.row) + r, texel = texel_row * level.width + int64_t(w.column);
            runs_[task_.bands.first[k] + (texel_row >> task_.bands.shift[k])].push(
                arena_, Run<T>{to, texel * width_ + low * kLanes, minimum(count, within - low * kLanes)});
            handed += count;
        }
        w.resting = handed > kWasteful * w.pixels * width_ ? kRest : 0;
        w.pixels = 0;
    }
};

// Adds the shares of the pixels k, 4 + k, 8 + k and 12 + k, all of them active.
template <int k, int kChannels, class T>
RG_FN void four_shares(const T* d_out, int64_t any_channels, const Cells<T>& cells, Lanes<T> weight, const Index<T> (&at)[4][kLanes], T* sums) {
    using F = Lanes<T>;
    const int64_t channels = kChannels ? kChannels : any_channels;
    const F a = spread_each<k>(F::load(cells.a)), b = spread_each<k>(F::load(cells.b)), w = spread_each<k>(weight);
    for (int64_t c = 0; c < channels; c += 4) {
        const T* d_pixel = d_out + k * channels + c;
        const int64_t apart = 4 * channels;
        const F d = join_quads(Quad<T>::load(d_pixel), Quad<T>::load(d_pixel + apart), Quad<T>::load(d_pixel + 2 * apart), Quad<T>::load(d_pixel + 3 * apart));
        const Cell<F> e = bilinear_adjoint(a, b, w * d);
        for (int r = 0; r < 4; r++) {
            const int l = 4 * r + k;
            add_texel(sums + at[0][l] + c, quad_of(e.t00, r));
            add_texel(sums + at[1][l] + c, quad_of(e.t10, r));
            add_texel(sums + at[2][l] + c, quad_of(e.t01, r));
            add_texel(sums + at[3][l] + c, quad_of(e.t11, r));
        }
    }
}
// Adds those of some of 16 pixels; d_out is the first one's. `roomy` says that four channels of the last can be read.
template <class T, int kChannels>
RG_FN void add_shares(const T* d_out, const T* d_out_end, int64_t channels, const Cells<T>& cells, unsigned lanes, bool roomy, Lanes<T> weight, const Index<T> (&at)[4][kLanes], T* sums) {
    if (lanes == 0xffff && roomy) {
        four_shares<0, kChannels>(d_out, channels, cells, weight, at, sums);
        four_shares<1, kChannels>(d_out, channels, cells, weight, at, sums);
        four_shares<2, kChannels>(d_out, channels, cells, weight, at, sums);
        four_shares<3, kChannels>(d_out, channels, cells, weight, at, sums);
        return;
    }
    alignas(64) T weights[kLanes];
    weight.store(weights);
    for (unsigned rest = lanes; rest; rest &= rest - 1) {
        const int l = __builtin_ctz(rest);
        for (int64_t c = 0; c < channels; c += 4) {
            const Quad<T> d = Quad<T>(weights[l]) * load_before(d_out + l * channels + c, channels - c, d_out_end);
            const Cell<Quad<T>> e = bilinear_adjoint(Quad<T>(cells.a[l]), Quad<T>(cells.b[l]), d);
            add_texel(sums + at[0][l] + c, e.t00);
            add_texel(sums + at[1][l] + c, e.t10);
            add_texel(sums + at[2][l] + c, e.t01);
            add_texel(sums + at[3][l] + c, e.t11);
        }
    }
}

// Hands the gradients of one strip's pixels to texels: to squares where they fit, else to the lists of bands.
template <class T, int kChannels> class TexelGradients {
  public:
    TexelGradients(const Task<T>& task, Arena& arena, Windows<T>& windows, int64_t image, int64_t strip)
        : task_(task), arena_(arena), windows_(windows), lists_(task.lists ? task.lists_of(image * task.strips + strip) : nullptr), begin_(task.strip_begin(image, strip)),
          d_out_end_(task.args.d_out + task.layout.images * task.layout.pixels * task.q.channels) {
        windows_.begin(image, strip);
    }
    // Of the pixels `active` of a group, of which `between` look at two levels. `first` is the number of its first pixel.
    RG_FN void add(const Slot<T>& slot, int64_t first, unsigned active, unsigned between) {
        const bool mixed = task_.q.filter == kLinearMipmapLinear;
        const Heights<T>& h = slot.group.heights;
        const uint32_t at = uint32_t(first - begin_);
        if (task_.q.filter < kLinearMipmapNearest) return add_level(slot, first, 0, slot.group.cells, {at, uint16_t(active), kWhole});
        add_levels(slot, first, h.low, slot.group.cells, {at, uint16_t(active), mixed ? kFiner : kWhole});
        if (between) add_levels(slot, first, h.high, slot.group.coarser, {at, uint16_t(between), kCoarser});
    }
    void finish() { windows_.finish(); }

  private:
    const Task<T>& task_;
    Arena& arena_;
    Windows<T>& windows_;
    PieceList<Record>* const lists_;
    const int64_t begin_;
    const T* const d_out_end_;

    RG_FN void add_levels(const Slot<T>& slot, int64_t first, const int32_t* level, const Cells<T>& cells, Record record) {
        if (slot.group.heights.uniform) return add_level(slot, first, level[0], cells, record);
        for (unsigned left = record.lanes; left;) {
            const int k = level[__builtin_ctz(left)];
            const unsigned same = mask_bits(Lanes<int32_t>::load(level) == Lanes<int32_t>(k)) & left;
            add_level(slot, first, k, cells, {record.first, uint16_t(same), record.weight});
            left &= ~same;
        }
    }
    __attribute__((noinline)) void add_level(const Slot<T>& slot, int64_t first, int k, const Cells<T>& cells, Record record) {
        if (!task_.d_level[k]) return;
        const bool mixed = task_.q.filter == kLinearMipmapLinear;
        const Lanes<T> f = mixed ? Lanes<T>::load(slot.group.heights.f) : Lanes<T>(T(0));
        if (task_.q.filter != kNearest && task_.levels.quads <= Windows<T>::kMostQuads) {
            alignas(64) Index<T> texels[4][kLanes];
            const unsigned whole = record.lanes & mask_bits(Lanes<Index<T>>::load(cells.highest) < Lanes<Index<T>>(kNoCell<T>));
            if (T* const sums = whole ? windows_.place(k, first, cells, whole, texels) : nullptr) {
                const int64_t channels = kChannels ? kChannels : task_.q.channels;
                const Lanes<T> weight = record.weight == kWhole ? Lanes<T>(T(1)) : record.weight == kFiner ? Lanes<T>(T(1)) - f : f;
                add_shares<T, kChannels>(task_.args.d_out + first * channels, d_out_end_, channels, cells, whole, slot.roomy, weight, texels, sums);
                record.lanes &= ~whole;
                if (!record.lanes) return;
            }
        }
        if (mixed) store_first(f, slot.count, task_.fractions + first);
        note(task_, lists_, arena_, k, cells, record);
    }
};

RG_END
