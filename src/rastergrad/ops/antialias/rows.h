// SPDX-License-Identifier: MIT
// Two rows of an image at a time: copied in, changed here and there while they lie in the nearest cache, and written out once.
#pragma once
#include "arena.h"
#include "stream.h"

RG_BEGIN

template <class T> class RowPair {
  public:
    // Rows of `width` numbers.
    RowPair(int64_t width, bool stream, Arena& arena) : width_(size_t(width)), stream_(stream) {
        for (auto& buffer : buffers_) buffer = static_cast<T*>(arena.take(width_ * sizeof(T)));
    }
    // The second row becomes the first; `from` is copied to be the second, or there is none.
    void advance(const T* from) {
        first_ = second_;
        at_ ^= 1;
        second_ = from ? buffers_[at_] : nullptr;
        if (from) memcpy(second_, from, width_ * sizeof(T));
    }
    void write_first(T* to) const {
        if (stream_) stream_bytes(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(first_), width_ * sizeof(T));
        else memcpy(to, first_, width_ * sizeof(T));
    }
    // Null for a row of another strip.
    T* first() const { return first_; }
    T* second() const { return second_; }

  private:
    size_t width_;
    bool stream_;
    T* buffers_[2];
    T *first_ = nullptr, *second_ = nullptr;
    int at_ = 0;
};

RG_END
