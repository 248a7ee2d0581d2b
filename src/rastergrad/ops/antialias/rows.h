// SPDX-License-Identifier: MIT
// Two rows of an image at a time: copied in, changed here and there while they lie in the nearest cache, and written out once.
#pragma once
#include "arena.h"
#include "lanes.h"

RG_BEGIN

// Past the caches: what is written is read again only after the whole image.
inline void stream_bytes(char* to, const char* from, size_t bytes) {
#if defined(__SSE2__)
    size_t head = size_t(-reinterpret_cast<intptr_t>(to)) & 63;
    if (head > bytes) head = bytes;
    memcpy(to, from, head);
    to += head;
    from += head;
    bytes -= head;
    for (; bytes >= 64; bytes -= 64, to += 64, from += 64)
        for (int q = 0; q < 4; q++)
            _mm_stream_si128(reinterpret_cast<__m128i*>(to) + q, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + q));
#endif
    memcpy(to, from, bytes);
}

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
