// SPDX-License-Identifier: MIT
// In which order pixels are visited, and how far ahead of their colours their texels are located and fetched.
#pragma once
#include "cpu_cells.h"
#include "triangle_id.h"

RG_BEGIN

// Blocks 16 pixels wide and 16 high: the texels under one fit the first-level cache, so that each comes from afar only once. A row of
// the image would sweep over more texels than that and fetch them again for the next row. Backward they are twice as high: texel
// gradients are handed on by the edges of what pixels look at (cpu_windows.h).
constexpr int64_t kBlockRows = 16, kBackwardRows = 32;

// Pixels of the rows [row, row_end) and columns [column, column_end) of an image, 16 neighbours of a row at a time.
class BlockWalk {
  public:
    BlockWalk(const Layout& layout, int64_t block_rows, int64_t row, int64_t row_end, int64_t column, int64_t column_end)
        : block_rows_(block_rows), row_(row), block_(row), block_end_(minimum(row + block_rows, row_end)), row_end_(row_end), column_(column),
          first_column_(column), column_end_(column_end), columns_(layout.columns), pixels_(layout.pixels), groups_(layout.groups), group_(row * groups_ + column / kLanes) {}
    // The numbers of a group and of its first pixel in the image, and how many pixels there are.
    RG_FN bool next(int64_t& group, int64_t& first, int& count) {
        for (;;) {
            if (row_ == block_end_) {
                row_ = block_;
                column_ += kLanes;
                if (column_ >= column_end_) {
                    column_ = first_column_;
                    row_ = block_ = block_end_;
                    block_end_ = minimum(block_ + block_rows_, row_end_);
                }
                group_ = row_ * groups_ + column_ / kLanes;
            }
            if (row_ >= row_end_) return false;
            group = group_;
            group_ += groups_;
            first = row_++ * columns_ + column_;
            count = int(minimum(minimum(int64_t(kLanes), column_end_ - column_), pixels_ - first));
            if (count > 0) return true;
        }
    }

  private:
    const int64_t block_rows_;
    int64_t row_, block_, block_end_, row_end_, column_, first_column_, column_end_, columns_, pixels_, groups_, group_;
};

// A group on its way.
template <class T> struct Slot {
    Group<T> group;
    int64_t number;   // of the group in its image
    int64_t first;    // pixel of its image
    int count;
    unsigned active;  // lanes that matter, the others' colours are zero
    bool quick;       // see prepare_texels
    bool roomy;       // whether memory goes on behind them: for callers
    CellRows<T> rows, coarser_rows;
};
RG_FN void fetch(const void* base, int64_t bytes) {
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(base) + uintptr_t(bytes)));
}
// Lines under the texels of one pixel, up to four of each texel: the processor itself goes on from there. Columns of small texels share lines.
template <class T, int kChannels> RG_FN void fetch_texels(const View<T>& v, const Cells<T>& cells, int l, bool nearest) {
    const int64_t bytes = (kChannels ? kChannels : v.channels) * int64_t(sizeof(T));
    if (bytes <= 16) {
        fetch(v.texels, int64_t(cells.texel[0][l]) * bytes);
        if (!nearest) fetch(v.texels, int64_t(cells.texel[2][l]) * bytes);
        return;
    }
    for (int k = 0; k < (nearest ? 1 : 4); k++)
        for (int64_t line = 0; line < bytes && line < 256; line += 64) fetch(v.texels, int64_t(cells.texel[k][l]) * bytes + line);
}
// Whether both texels of a cell's row are read at once: one register holds two such rows.
template <int kChannels> constexpr bool kNeighbours = kChannels >= 3 && RG_VECTOR_BYTES == 64;
// The texels that a located group looks at are on their way after this. Sets `quick` if all lanes look at texels that can be read four
// channels at once; with kNeighbours they must lie side by side, and `rows` are then known. kChannels is their number, or 0: any.
template <class T, int kChannels> RG_FN void prepare_texels(const View<T>* views, int64_t filter, Slot<T>& slot) {
    const Group<T>& g = slot.group;
    const bool mipmapped = filter >= kLinearMipmapNearest, mixed = filter == kLinearMipmapLinear, uniform = !mipmapped || g.heights.uniform;
    const int32_t *const low = mipmapped ? g.heights.low : nullptr, *const high = g.heights.high;
    slot.quick = filter != kNearest && slot.count == kLanes && all_readable(views, low, uniform, g.cells) && (!mixed || all_readable(views, high, uniform, g.coarser));
    if constexpr (kNeighbours<kChannels>) {
        slot.quick = slot.quick && side_by_side(g.cells) && (!mixed || side_by_side(g.coarser));
        if (slot.quick) {
            // Between two levels a pixel is at most two texels of the finer and one of the coarser from the next: some share their lines.
            find_rows<kChannels>(views, low, uniform, g.cells, slot.rows);
            for (int l = 0; l < kLanes; l += mixed ? 2 : 1) {
                fetch(nullptr, slot.rows.first[l]);
                fetch(nullptr, slot.rows.second[l]);
            }
            if (!mixed) return;
            find_rows<kChannels>(views, high, uniform, g.coarser, slot.coarser_rows);
            for (int l = 0; l < kLanes; l += 4) {
                fetch(nullptr, slot.coarser_rows.first[l]);
                fetch(nullptr, slot.coarser_rows.second[l]);
            }
            return;
        }
    }
    for (int l = 0; l < kLanes; l++) fetch_texels<T, kChannels>(views[mipmapped ? low[l] : 0], g.cells, l, filter == kNearest);
    if (!mixed) return;
    for (int l = 0; l < kLanes; l++) fetch_texels<T, kChannels>(views[high[l]], g.coarser, l, false);
}
// Rows of an array that belong to the pixels right of a group: what the next column of blocks reads.
template <class T> RG_FN void fetch_rows(const T* from, int64_t columns, int64_t pixel) {
    const int64_t bytes = columns * int64_t(sizeof(T));
    for (int64_t line = 0; line < kLanes * bytes; line += 64) fetch(from, (pixel + kLanes) * bytes + line);
}
template <class T> RG_FN void fetch_places(const Query<T>& q, int64_t pixel) {
    const int64_t axes = q.boundary == kCube ? 3 : 2;
    fetch_rows(q.uv, axes, pixel);
    if (q.uv_da) fetch_rows(q.uv_da, 2 * axes, pixel);
}

// Which of 16 pixels show a triangle.
template <class T> RG_FN unsigned covered_lanes(const T* rast, int64_t first, int count) {
    const T* const ids = rast + 4 * first;
    unsigned covered = 0;
    if (count == kLanes) {
        for (int r = 0; r < 4; r++) {
            const unsigned x = mask_bits(is_triangle(Lanes<T>::load(ids + r * kLanes))) >> 3 & 0x1111;
            covered |= ((x | x >> 3 | x >> 6 | x >> 9) & 0xf) << (4 * r);
        }
        return covered;
    }
    for (int l = 0; l < count; l++) covered |= (is_triangle(ids[4 * l + 3]) ? 1u : 0u) << l;
    return covered;
}

// Groups on their way. What is computed about one is a long chain, each step of which waits for the last; so three groups are at
// different steps of it at once. Then three more wait for their texels: memory answers after some 150 ns.
template <class T> class Ahead {
  public:
    // For every group in order: begin(slot) when it is reached and says whether it matters (`slot.active`); prepare(slot) for those that do
    // when its texels are known; visit(slot).
    template <class Begin, class Prepare, class Visit>
    RG_FN void run(const Query<T>& q, const Levels<T>& levels, int64_t base, BlockWalk walk, Begin&& begin, Prepare&& prepare, Visit&& visit) {
        int64_t end = INT64_MAX - 64;  // number of groups
        for (int64_t i = 0; i < end + kTexels + kVisit; i++) {
            if (i < end) {
                Slot<T>& slot = slots_[uint64_t(i) % kSlots];
                if (!walk.next(slot.number, slot.first, slot.count)) {
                    end = i;
                    if (end == 0) return;
                } else {
                    begin(slot);
                    if (slot.active) find_point(q, levels, base + slot.first, slot.count, slot.active, slot.group);
                }
            }
            if (const int64_t k = i - kLevel; k >= 0 && k < end) {
                Slot<T>& slot = slots_[uint64_t(k) % kSlots];
                if (slot.active) find_level(q, levels, base + slot.first, slot.count, slot.active, slot.group);
            }
            if (const int64_t k = i - kTexels; k >= 0 && k < end) {
                Slot<T>& slot = slots_[uint64_t(k) % kSlots];
                if (slot.active) {
                    find_texels(q, levels, slot.group);
                    prepare(slot);
                }
            }
            if (const int64_t k = i - kTexels - kVisit; k >= 0) visit(slots_[uint64_t(k) % kSlots]);
        }
    }

  private:
    static constexpr int kLevel = 1, kTexels = 2, kVisit = 3, kSlots = 8;  // groups from one step to the next
    Slot<T> slots_[kSlots];
};

// body(number) with the usual numbers of channels known to the compiler; 0 stands for any. Of float32 only, and not four for old processors:
// each variant takes its share of the wheel, three times over.
template <int kNumber> struct ChannelCount { static constexpr int value = kNumber; };
template <class T, class Body> RG_FN void with_channels(int64_t channels, Body&& body) {
    if constexpr (sizeof(T) == sizeof(float)) {
        if (channels == 3) return body(ChannelCount<3>());
#if !defined(__SSE4_2__) || defined(__AVX__)
        if (channels == 4) return body(ChannelCount<4>());
#endif
    }
    body(ChannelCount<0>());
}

RG_END
