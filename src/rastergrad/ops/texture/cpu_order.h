// SPDX-License-Identifier: MIT
// In which order pixels are worked on. A row of an image crosses a texture at some angle: what it touches, often one line of memory per
// pixel, is evicted before the next row wants it again. So an image is walked in blocks of 64 columns, down and then across, whose texels
// stay in the nearest cache; and 64 pixels are located, and their texels prefetched, while those before are blended.
#pragma once
#include "cpu_cells.h"

RG_BEGIN

constexpr int64_t kStrip = 16384;                // pixels that one thread works on, unless there would be too many strips
constexpr int kGroups = 4, kBatch = kGroups * kLanes;  // pixels located in advance: 150 ns of latency at some 3 ns per pixel
constexpr int64_t kNearBytes = 128 * 1024;        // a texture that the second cache keeps is not prefetched
constexpr int64_t kWideRow = 2 * kBatch;         // narrower images are walked in memory order

// A broadcast texture serves all pixels of all images as if they were one.
struct Order {
    int64_t images, pixels;  // pixels per image
    int64_t row;             // 0: in memory order
    int64_t strip, strips;   // pixels per strip, strips per image
};
template <class T> Order order_of(const Query<T>& q, int64_t most_strips) {
    Order o = q.tex_images == 1 ? Order{1, q.images * q.pixels, 0, 0, 0} : Order{q.images, q.pixels, 0, 0, 0};
    o.strip = maximum(kStrip, (o.pixels + most_strips - 1) / most_strips);
    o.strip = (o.strip + kLanes - 1) / kLanes * kLanes;
    if (q.row >= kWideRow && q.row <= kStrip / 4) {
        o.row = q.row;
        o.strip = o.strip / q.row * q.row;
    }
    o.strips = (o.pixels + o.strip - 1) / o.strip;
    return o;
}

// Batches of neighbours that cover the pixels begin .. end, whole rows if there are rows.
class Walk {
  public:
    Walk(int64_t begin, int64_t end, int64_t row) : begin_(begin), end_(end), row_(row ? row : end - begin), line_(begin), column_(0) {}
    bool next(int64_t& first, int& count) {
        if (line_ >= end_) {
            line_ = begin_;
            column_ += kBatch;
        }
        if (column_ >= row_ || begin_ >= end_) return false;
        first = line_ + column_;
        count = int(minimum(int64_t(kBatch), row_ - column_));
        line_ += row_;
        return true;
    }

  private:
    int64_t begin_, end_, row_, line_, column_;
};

// Located pixels of one batch. Their texels are on the way from memory.
template <class T> struct Batch {
    int64_t first;
    int count;
    Group<T> groups[kGroups];
    int size() const { return (count + kLanes - 1) / kLanes; }
    int count_of(int group) const { return int(minimum(kLanes, count - group * kLanes)); }
};

// Up to four lines of each texel; the processor itself goes on from there. Texels of 16 bytes and less share lines with the next column.
template <class T, int kChannels> RG_FN void prefetch(const View<T>& v, const Cells<T>& cells, int l, bool nearest) {
    const int64_t channels = kChannels ? kChannels : v.channels, bytes = channels * int64_t(sizeof(T));
    const int step = bytes <= 16 ? 2 : 1;
    for (int k = 0; k < (nearest ? 1 : 4); k += step) {
        const char* texel = reinterpret_cast<const char*>(v.texels + int64_t(cells.texel[k][l]) * channels);
        for (int64_t at = 0; at < bytes && at < 256; at += 64) __builtin_prefetch(texel + at);
    }
}
template <class T, int kChannels>
RG_FN void locate_batch(const Query<T>& q, const Levels<T>& levels, const View<T>* views, bool ahead, Batch<T>& batch) {
    const bool nearest = q.filter == kNearest, mipmapped = q.filter >= kLinearMipmapNearest, mixed = q.filter == kLinearMipmapLinear;
    for (int i = 0; i < batch.size(); i++) {
        Group<T>& g = batch.groups[i];
        const int count = batch.count_of(i);
        locate(q, levels, batch.first + i * kLanes, count, g);
        if (!ahead) continue;
        for (int l = 0; l < count; l++) {
            prefetch<T, kChannels>(views[mipmapped ? g.heights.low[l] : 0], g.cells, l, nearest);
            if (mixed) prefetch<T, kChannels>(views[g.heights.high[l]], g.coarser, l, false);
        }
    }
}
// visit(batch) for all pixels from begin to end, each batch located while the one before is visited. `reads`: visit looks at texels.
template <class T, int kChannels, class Visit>
RG_FN void for_each_batch(const Query<T>& q, const Levels<T>& levels, const View<T>* views, int64_t begin, int64_t end, int64_t row, bool reads, Visit&& visit) {
    const bool ahead = reads && levels.level[0].texels_per_image * q.channels * int64_t(sizeof(T)) > kNearBytes;
    Batch<T> batches[2];
    Walk walk(begin, end, row);
    bool more = walk.next(batches[0].first, batches[0].count);
    if (more) locate_batch<T, kChannels>(q, levels, views, ahead, batches[0]);
    for (int now = 0; more; now ^= 1) {
        Batch<T>& next = batches[now ^ 1];
        more = walk.next(next.first, next.count);
        if (more) locate_batch<T, kChannels>(q, levels, views, ahead, next);
        visit(batches[now]);
    }
}

RG_END
