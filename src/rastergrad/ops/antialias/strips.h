// SPDX-License-Identifier: MIT
// An image cut into strips of rows, and the pairs of neighbouring pixels in them whose ids differ, found 16 at a time.
#pragma once
#include "arena.h"
#include "corner_rows.h"
#include "lanes.h"
#include "quads.h"
#include "threads.h"
#include "triangle_id.h"

RG_BEGIN

template <class T> struct Scene {
    const T* rast;         // [images][height][width][4]
    const T* pos;          // [images or 1][vertices][4]
    const int32_t* tri;    // [triangles][3]
    const int32_t* twins;  // [triangles][3] half-edges, see topology.h
    int64_t images, height, width, vertices, triangles;
    int64_t pos_image_stride;  // elements between the vertices of two images; 0 when all share one table
    int64_t threads;

    RG_FN int32_t triangle_of(T id) const {
        const int32_t triangle = decode_id(id);
        return triangle < triangles ? triangle : -1;
    }
};

// Rows of an image in strips of about `pixels`.
struct Strips {
    int64_t rows, per_image;
    Strips(int64_t height, int64_t width, int64_t pixels)
        : rows(maximum(pixels / width, int64_t(1))), per_image((height + rows - 1) / rows) {}
};

// body(worker, strip, image, first row, row after the last)
template <class Body> void for_each_strip(int64_t threads, int64_t images, int64_t height, const Strips& strips, Body&& body) {
    parallel_for(threads, images * strips.per_image, 1, [&](int worker, int64_t from, int64_t to) {
        for (int64_t s = from; s < to; s++) {
            const int64_t begin = s % strips.per_image * strips.rows;
            body(worker, s, s / strips.per_image, begin, minimum(begin + strips.rows, height));
        }
    });
}

enum class Axis { kHorizontal, kVertical };

// Columns of some rows, in order. Of those `far` from all edges of interest, pairs of triangles that have a vertex in common are not wanted.
struct Span { int64_t begin, end; bool far; };
struct Spans {
    Span* items;
    int64_t count;
    // Joined to the last one if it goes on with it.
    void add(int64_t begin, int64_t end, bool far) {
        if (begin == end) return;
        if (count && items[count - 1].end == begin && items[count - 1].far == far) items[count - 1].end = end;
        else items[count++] = {begin, end, far};
    }
};

// Two rows of ids at a time, in some spans only.
template <class T> class IdRows {
  public:
    IdRows(const Scene<T>& s, int64_t image, Arena& arena)
        : rast_(s.rast + image * s.height * s.width * 4), width_(s.width), padded_((s.width + kLanes) / kLanes * kLanes + kLanes),
          corners_(s.tri, s.triangles, padded_, arena) {
        ids_ = static_cast<T*>(arena.take(size_t(padded_) * sizeof(T)));
        next_ids_ = static_cast<T*>(arena.take(size_t(padded_) * sizeof(T)));
        columns_ = static_cast<int32_t*>(arena.take(size_t(padded_) * sizeof(int32_t)));
    }

    // The ids that are compared with those of the row loaded before.
    void load(int64_t row, const Spans& spans) {
        T* swapped = ids_;
        ids_ = next_ids_;
        next_ids_ = swapped;
        corners_.advance();
        const T* from = rast_ + row * width_ * 4;
        for (int64_t k = 0; k < spans.count; k++) {
            const int64_t end = minimum(spans.items[k].end + 1, width_);
            int64_t i = spans.items[k].begin;
            for (; i + kLanes <= end; i += kLanes) load_fourth(from + 4 * i).store(next_ids_ + i);
            for (; i < end; i++) next_ids_[i] = from[4 * i + 3];
        }
    }

    // visit(column of the first pixel, its id, the other id) for pairs within the row loaded last, left to right, ...
    template <class Rule, class Visit> RG_FN void horizontal(const Spans& spans, const Rule& rule, Visit&& visit) {
        scan<false>(next_ids_, next_ids_ + 1, width_ - 1, spans, rule, visit);
    }
    // ... and between the row before and the one loaded last. All of a row's pairs are expected before the first of them is visited.
    template <class Rule, class Visit> RG_FN void vertical(const Spans& spans, const Rule& rule, Visit&& visit) {
        scan<true>(ids_, next_ids_, width_, spans, rule, visit);
    }

  private:
    static constexpr int64_t kSparse = 8;  // a pair in so many places; where there are more the corners of all pixels are read
    const T* rast_;
    int64_t width_, padded_;
    CornerRows<T> corners_;
    T *ids_, *next_ids_;
    int32_t* columns_;  // of what differs

    template <bool kUp, class Rule, class Visit>
    RG_FN void scan(const T* first, const T* second, int64_t width, const Spans& spans, const Rule& rule, Visit&& visit) {
        int64_t found = 0;
        for (int64_t s = 0; s < spans.count; s++) {
            const int64_t begin = spans.items[s].begin, end = minimum(spans.items[s].end, width), before = found;
            for (int64_t i = begin; i < end; i += kLanes) found += put_set_bits(differing(first, second, i, end), i, columns_ + found);
            if (!spans.items[s].far || found == before) continue;
            if (corners_.can_read() && (found - before) * kSparse > end - begin) found = before + put_apart<kUp>(first, second, begin, end, columns_ + before);
            found = before + rule.keep(first, second, columns_ + before, found - before);
        }
        if (rule.expects()) {
            for (int64_t k = 0; k < found; k++) rule.expect(first[columns_[k]], second[columns_[k]]);
            for (int64_t k = 0; k < found; k++) rule.expect_further(first[columns_[k]], second[columns_[k]]);
        }
        for (int64_t k = 0; k < found; k++) visit(columns_[k], first[columns_[k]], second[columns_[k]]);
    }
    static RG_FN unsigned differing(const T* first, const T* second, int64_t i, int64_t end) {
        const unsigned differ = mask_bits(Lanes<T>::load(first + i) != Lanes<T>::load(second + i));
        return end - i < kLanes ? differ & ((1u << (end - i)) - 1) : differ;
    }
    // Of the pairs from column `begin` to `end` those whose triangles have no vertex in common. Not inlined: it would take registers from the loops around.
    template <bool kUp> [[gnu::noinline]] int64_t put_apart(const T* first, const T* second, int64_t begin, int64_t end, int32_t* to) {
        int64_t found = 0;
        corners_.decode_now(next_ids_);
        if (kUp) corners_.decode_before(ids_);
        for (int64_t i = begin; i < end; i += kLanes) {
            unsigned differ = differing(first, second, i, end);
            if (!differ) continue;
            differ &= ~(kUp ? corners_.joined_up(i) : corners_.joined_right(i));
            found += put_set_bits(differ, i, to + found);
        }
        return found;
    }
};

// visit(axis, row of the first pixel, column, id, id) for the pairs that touch a row of [begin, end) and that `rule` may want, after it has
// been told to expect them: row by row those within it, then those to the next one. Pairs to the row above the first come before all others.
template <class T, class Rule, class Visit>
void walk_strip(IdRows<T>& ids, int64_t height, int64_t begin, int64_t end, const Rule& rule, Arena& arena, Visit&& visit) {
    const int64_t start = maximum(begin - 1, int64_t(0));
    for (int64_t band = start; band < end;) {
        const int64_t after = minimum(rule.band_end(band), end);
        const Spans spans = rule.spans(band, minimum(after, height - 1), arena);
        if (spans.count) {
            // A row that lies between two bands is loaded for both, unless the first has loaded all of it.
            if (band == start || !rule.asks_everywhere()) ids.load(band, spans);
            for (int64_t row = band; row < after; row++) {
                if (row >= begin) ids.horizontal(spans, rule, [&](int64_t column, T id0, T id1) { visit(Axis::kHorizontal, row, column, id0, id1); });
                if (row + 1 == height) break;
                ids.load(row + 1, spans);
                ids.vertical(spans, rule, [&](int64_t column, T id0, T id1) { visit(Axis::kVertical, row, column, id0, id1); });
            }
        }
        band = after;
    }
}

RG_END
