// SPDX-License-Identifier: MIT
// A coarse map of the pixels that edges of interest pass, in cells of 8 x 8 pixels: what lies far from all of them need not be looked at.
#pragma once
#include "arena.h"
#include "edge_cells.h"
#include "memory.h"
#include "strips.h"

RG_BEGIN

template <class T> class EdgeMap {
  public:
    static constexpr int64_t kCell = kCellSide;

    static int64_t cells_of(const Scene<T>& s) { return (s.width + kCell - 1) / kCell * ((s.height + kCell - 1) / kCell); }
    // With nothing marked, or everything.
    EdgeMap(const Scene<T>& s, int64_t tables, bool marked)
        : width_(s.width), height_(s.height), across_((s.width + kCell - 1) / kCell), cells_(cells_of(s)), own_(size_t(tables * cells_)), map_(own_.data()) {
        if (map_) memset(map_, marked, size_t(tables * cells_));
    }
    // In memory that is given, as it is.
    EdgeMap(const Scene<T>& s, uint8_t* map)
        : width_(s.width), height_(s.height), across_((s.width + kCell - 1) / kCell), cells_(cells_of(s)), own_(0), map_(map) {}

    RG_FN bool is_marked(int64_t table, int64_t column, int64_t row) const {
        return map_[table * cells_ + int64_t(uint64_t(row) / kCell) * across_ + int64_t(uint64_t(column) / kCell)];
    }

    // mark_cells into one of the tables. Several threads may do so at once.
    template <class Along> void mark(int64_t table, T left, T right, T low, T high, T margin, bool steep, Along&& along) const {
        uint8_t* const map = map_ + table * cells_;
        mark_cells(width_, height_, left, right, low, high, margin, steep, along, [=, this](int64_t column, int64_t row) {
            uint8_t* const cell = map + row * across_ + column;
            if (!__atomic_load_n(cell, __ATOMIC_RELAXED)) __atomic_store_n(cell, uint8_t(1), __ATOMIC_RELAXED);
        });
    }

    // Where the first pixels of pairs within the rows [first, last], or between two of them, may lie if such a pair touches a marked cell;
    // and all others as well, as far ones, if `all`.
    Spans spans(int64_t table, int64_t first, int64_t last, bool all, Arena& arena) const {
        constexpr int64_t kCells = kLanes / kCell;
        const int64_t blocks = (width_ + kLanes - 1) / kLanes;
        auto* const marked = static_cast<uint8_t*>(arena.take(size_t((blocks + 1) * kCells)));
        memset(marked, 0, size_t((blocks + 1) * kCells));
        for (int64_t r = first / kCell; r <= last / kCell; r++)
            for (int64_t c = 0; c < across_; c++) marked[c] |= map_[table * cells_ + r * across_ + c];
        Spans spans{static_cast<Span*>(arena.take(size_t(blocks) * sizeof(Span))), 0};
        for (int64_t b = 0; b < blocks; b++) {
            // The last column's neighbour lies in the next cell.
            uint8_t any_marked = 0;
            for (int64_t c = 0; c <= kCells; c++) any_marked |= marked[b * kCells + c];
            if (any_marked || all) spans.add(b * kLanes, minimum((b + 1) * kLanes, width_), !any_marked);
        }
        return spans;
    }

  private:
    int64_t width_, height_, across_, cells_;
    Block<uint8_t> own_;
    uint8_t* const map_;
};

RG_END
