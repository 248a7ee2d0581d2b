// SPDX-License-Identifier: MIT
// In which order pixels are visited, and how far ahead of their colours their texels are located and fetched.
#pragma once
#include "cpu_cells.h"

RG_BEGIN

// Blocks 16 pixels wide and 16 high: the texels under one fit the first-level cache, so that each comes from afar only once. A row of
// the image would sweep over more texels than that and fetch them again for the next row.
constexpr int64_t kBlockRows = 16;

// Pixels of the rows [row, row_end) and columns [column, column_end) of an image, 16 neighbours of a row at a time.
class BlockWalk {
  public:
    BlockWalk(const Layout& layout, int64_t row, int64_t row_end, int64_t column, int64_t column_end)
        : row_(row), block_(row), block_end_(minimum(row + kBlockRows, row_end)), row_end_(row_end), column_(column), first_column_(column),
          column_end_(column_end), columns_(layout.columns), pixels_(layout.pixels) {}
    // Number of the first pixel in its image, and how many there are.
    RG_FN bool next(int64_t& first, int& count) {
        for (;;) {
            if (row_ == block_end_) {
                row_ = block_;
                column_ += kLanes;
                if (column_ >= column_end_) {
                    column_ = first_column_;
                    row_ = block_ = block_end_;
                    block_end_ = minimum(block_ + kBlockRows, row_end_);
                }
            }
            if (row_ >= row_end_) return false;
            first = row_++ * columns_ + column_;
            count = int(minimum(minimum(int64_t(kLanes), column_end_ - column_), pixels_ - first));
            if (count > 0) return true;
        }
    }

  private:
    int64_t row_, block_, block_end_, row_end_, column_, first_column_, column_end_, columns_, pixels_;
};

// Groups that are located but not yet looked up. Memory answers after some 150 ns; four groups are that long.
template <class T> class Ahead {
  public:
    struct Slot {
        Group<T> group;
        int64_t first;    // pixel of its image
        int count;
        unsigned active;  // lanes that matter: for callers
    };
    // Calls visit(slot) for every group in order; locate_group(slot) has been called for it and the next ones before.
    template <class Locate, class Visit> RG_FN void run(BlockWalk walk, Locate&& locate_group, Visit&& visit) {
        int64_t located = 0;
        for (int64_t visited = 0;; visited++) {
            while (located - visited < kSlots) {
                Slot& slot = slots_[located % kSlots];
                if (!walk.next(slot.first, slot.count)) break;
                locate_group(slot);
                located++;
            }
            if (visited == located) return;
            visit(slots_[visited % kSlots]);
        }
    }

  private:
    static constexpr int kSlots = 4;
    Slot slots_[kSlots];
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
template <class T, int kChannels> RG_FN void fetch_group(const View<T>* views, const Group<T>& g, int64_t filter) {
    const bool mipmapped = filter >= kLinearMipmapNearest, mixed = filter == kLinearMipmapLinear;
    for (int l = 0; l < kLanes; l++) fetch_texels<T, kChannels>(views[mipmapped ? g.heights.low[l] : 0], g.cells, l, filter == kNearest);
    if (!mixed) return;
    for (int l = 0; l < kLanes; l++) fetch_texels<T, kChannels>(views[g.heights.high[l]], g.coarser, l, false);
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

// body(number) with the usual numbers of channels known to the compiler; 0 stands for any. Of float32 only: each variant takes its share of
// the wheel, three times over.
template <int kNumber> struct ChannelCount { static constexpr int value = kNumber; };
template <class T, class Body> RG_FN void with_channels(int64_t channels, Body&& body) {
    if constexpr (sizeof(T) == sizeof(float)) {
        if (channels == 3) return body(ChannelCount<3>());
        if (channels == 4) return body(ChannelCount<4>());
    }
    body(ChannelCount<0>());
}

RG_END
