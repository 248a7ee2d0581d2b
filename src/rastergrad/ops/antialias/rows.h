// SPDX-License-Identifier: MIT
// An image is copied, then changed here and there.
#pragma once
#include "edge_map.h"
#include "stream.h"

RG_BEGIN

// Whether an output is too large for the caches.
template <class T> RG_FN bool is_streamed(const Scene<T>& s, int64_t channels) {
    return s.images * s.height * s.width * channels * int64_t(sizeof(T)) >= kStreamBytes;
}

// Copies the rows [begin, end) of an image of `channels`: what lies near marked cells through the caches, as pixels there are going to be
// changed, the rest past them if `stream`.
template <class T>
void copy_rows(T* to, const T* from, int64_t width, int64_t channels, int64_t begin, int64_t end, bool stream, const EdgeMap<T>& map, int64_t table, Arena& arena) {
    const auto offset = [=](int64_t row, int64_t column) { return (row * width + column) * channels; };
    const auto copy = [=](int64_t at, int64_t after) { memcpy(to + at, from + at, size_t(after - at) * sizeof(T)); };
    if (!stream) {
        copy(offset(begin, 0), offset(end, 0));
        return;
    }
    const auto pass = [=](int64_t at, int64_t after) {
        stream_bytes(reinterpret_cast<char*>(to + at), reinterpret_cast<const char*>(from + at), size_t(after - at) * sizeof(T));
    };
    for (int64_t band = begin; band < end;) {
        const int64_t after = minimum((band / map.kCell + 1) * map.kCell, end);
        const Spans spans = map.spans(table, band, after - 1, false, arena);
        int64_t done = offset(band, 0);
        for (int64_t row = band; row < after; row++)
            for (int64_t k = 0; k < spans.count; k++) {
                pass(done, offset(row, spans.items[k].begin));
                done = offset(row, spans.items[k].end);
                copy(offset(row, spans.items[k].begin), done);
            }
        pass(done, offset(after, 0));
        band = after;
    }
}

RG_END
