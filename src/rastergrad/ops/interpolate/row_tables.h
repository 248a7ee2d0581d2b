// SPDX-License-Identifier: MIT
// Deterministic sums into the rows of a small table, without records: consecutive strips of pixels form at most sixteen groups, each group
// adds into a table of its own, and the tables are added up in order. For tables that are small beside the image; larger ones: scatter.h.
#pragma once
#include "memory.h"
#include "stream.h"
#include "threads.h"

RG_BEGIN

template <class T> class RowTables {
  public:
    // `lists` independent tables of rows x width numbers lie one after another in the result; each sums `strips` strips. `stride`: numbers
    // from row to row in the private tables, at least width.
    RowTables(int64_t threads, int64_t lists, int64_t strips, int64_t rows, int64_t width, int64_t stride)
        : threads_(threads), lists_(lists), strips_(strips), rows_(rows), width_(width), stride_(stride),
          groups_(strips < kMostGroups ? (strips > 0 ? strips : 1) : kMostGroups) {}

    // Whether zeroing and adding up the tables is little beside a pass over an image of so many pixels.
    bool fits(int64_t pixels) const { return lists_ * groups_ * rows_ * stride_ <= 4 * pixels; }

    // body(list, first strip, strip after the last, table) for each group; then writes out[lists][rows][width].
    template <class Body> void sum_into(T* out, Body&& body) {
        const int64_t size = rows_ * stride_;
        Block<T> tables(size_t(lists_ * groups_ * size));
        parallel_for(threads_, lists_ * groups_, 1, [&](int, int64_t from, int64_t to) {
            for (int64_t unit = from; unit < to; unit++) {
                T* const table = tables.data() + unit * size;
                if (size) memset(static_cast<void*>(table), 0, size_t(size) * sizeof(T));
                const int64_t group = unit % groups_;
                body(unit / groups_, strips_ * group / groups_, strips_ * (group + 1) / groups_, table);
            }
        });
        constexpr int64_t kRows = 2048;
        const int64_t chunks = (rows_ + kRows - 1) / kRows;
        parallel_for(threads_, lists_ * chunks, 1, [&](int, int64_t from, int64_t to) {
            for (int64_t i = from; i < to; i++) {
                const int64_t begin = i % chunks * kRows, end = begin + kRows < rows_ ? begin + kRows : rows_;
                add_up(tables.data() + i / chunks * groups_ * size, begin, end, out + i / chunks * rows_ * width_);
            }
        });
    }

  private:
    static constexpr int64_t kMostGroups = 16;
    int64_t threads_, lists_, strips_, rows_, width_, stride_, groups_;

    void add_up(T* tables, int64_t begin, int64_t end, T* out) const {
        const int64_t size = rows_ * stride_;
        T* const first = tables + begin * stride_;
        const int64_t count = (end - begin) * stride_;
        for (int64_t g = 1; g < groups_; g++) {
            const T* const other = first + g * size;
            for (int64_t i = 0; i < count; i++) first[i] += other[i];
        }
        if (width_ == stride_) {
            if (count) memcpy(out + begin * width_, first, size_t(count) * sizeof(T));
            return;
        }
        for (int64_t row = begin; row < end; row++)
            for (int64_t c = 0; c < width_; c++) out[row * width_ + c] = first[(row - begin) * stride_ + c];
    }
};

RG_END
