// SPDX-License-Identifier: MIT
// Deterministic sums into rows of a table (gradients of vertices). Work is cut into fixed strips; a strip appends records
// (row, values) to buckets of neighbouring rows; then each bucket is summed by one thread in strip order. No atomics (8x slower), and
// the order of additions to a row depends on neither threads nor luck. Cost over private tables: 20-45 %, without their memory.
#pragma once
#include "arena.h"
#include "threads.h"

RG_BEGIN

template <class T> class RowScatter {
  public:
    // rows x width table; strip indices are in [0, strips); worker indices in [0, threads).
    RowScatter(int64_t threads, int64_t strips, int64_t rows, int64_t width)
        : threads_(threads), strips_(strips), rows_(rows), width_(width), shift_(0),
          record_bytes_((sizeof(int64_t) + size_t(width) * sizeof(T) + 7) / 8 * 8),
          arenas_(new Arena[size_t(threads)]), buckets_(count_buckets(rows)), lists_(size_t(strips) * size_t(buckets_)) {
        if (lists_.data()) memset(static_cast<void*>(lists_.data()), 0, size_t(strips) * size_t(buckets_) * sizeof(List));
    }
    ~RowScatter() { delete[] arenas_; }
    RowScatter(const RowScatter&) = delete;
    RowScatter& operator=(const RowScatter&) = delete;

    // Room for the `width` values of one record; the caller fills all of them. Each strip belongs to one worker at a time.
    RG_FN T* append(int worker, int64_t strip, int64_t row) {
        List& list = lists_[strip * buckets_ + (row >> shift_)];
        if (!list.last || list.last->used == list.last->capacity) extend(list, arenas_[worker]);
        char* record = reinterpret_cast<char*>(list.last + 1) + size_t(list.last->used++) * record_bytes_;
        memcpy(record, &row, sizeof row);
        return reinterpret_cast<T*>(record + sizeof row);
    }

    // Writes every row of out[rows][width], zero where no record fell.
    void sum_into(T* out) {
        parallel_for(threads_, buckets_, 1, [&](int, int64_t begin, int64_t end) {
            for (int64_t b = begin; b < end; b++) sum_bucket(b, out);
        });
    }

  private:
    struct Piece { Piece* next; int32_t used, capacity; };
    struct List { Piece* first; Piece* last; };

    int64_t threads_, strips_, rows_, width_;
    int shift_;
    size_t record_bytes_;
    Arena* arenas_;
    int64_t buckets_;
    Block<List> lists_;

    // At most 32 buckets: enough for balance over threads, few enough that their tails stay in the nearest cache.
    int64_t count_buckets(int64_t rows) {
        while ((rows + (int64_t(1) << shift_) - 1) >> shift_ > 32) shift_++;
        const int64_t count = (rows + (int64_t(1) << shift_) - 1) >> shift_;
        return count > 0 ? count : 1;
    }
    void extend(List& list, Arena& arena) {
        const int32_t capacity = !list.last ? 8 : list.last->capacity < 512 ? list.last->capacity * 2 : 512;
        auto* piece = static_cast<Piece*>(arena.take(sizeof(Piece) + size_t(capacity) * record_bytes_));
        piece->next = nullptr;
        piece->used = 0;
        piece->capacity = capacity;
        (list.last ? list.last->next : list.first) = piece;
        list.last = piece;
    }
    void sum_bucket(int64_t b, T* out) {
        const int64_t begin = b << shift_, end = begin + (int64_t(1) << shift_) < rows_ ? begin + (int64_t(1) << shift_) : rows_;
        if (begin >= end) return;
        memset(out + begin * width_, 0, size_t(end - begin) * size_t(width_) * sizeof(T));
        for (int64_t s = 0; s < strips_; s++)
            for (Piece* piece = lists_[s * buckets_ + b].first; piece; piece = piece->next) {
                const char* record = reinterpret_cast<const char*>(piece + 1);
                for (int32_t i = 0; i < piece->used; i++, record += record_bytes_) {
                    int64_t row;
                    memcpy(&row, record, sizeof row);
                    const T* values = reinterpret_cast<const T*>(record + sizeof row);
                    T* to = out + row * width_;
                    for (int64_t c = 0; c < width_; c++) to[c] += values[c];
                }
            }
    }
};

RG_END
