// SPDX-License-Identifier: MIT
// A tile of pixels as runs: stretches that see one triangle. Ids are compared 16 at a time, and what the runs will read is asked for from
// memory before the first of them is worked on: with a million triangles each pixel is a run, and its rows are far apart.
#pragma once
#include <type_traits>

#include "arena.h"
#include "formulas.h"
#include "four_pixels.h"
#include "triangle_id.h"

RG_BEGIN

constexpr int64_t kStrip = 16384;  // pixels per chunk: 1 MB of fragments, well above the cost of a hand-over
constexpr int64_t kTile = 256;     // pixels whose results lie in the nearest cache before they are written

// Channels of one pixel in registers: four, or sixteen.
template <class V> struct ChannelsOf;
template <class T> struct ChannelsOf<Quad<T>> { using Number = T; static constexpr int64_t kCount = 4; };
template <class T> struct ChannelsOf<Lanes<T>> { using Number = T; static constexpr int64_t kCount = kLanes; };

// Vertices' attributes, as one image sees them.
template <class T> struct Attributes {
    const T* rows;       // [vertices][channels]
    const int32_t* tri;  // [triangles][3]
    int64_t vertices, channels, triangles;
};

// A vector from a table that ends at `end`; `count` numbers belong to the row, the others may be anything that is there.
template <class V, class T> RG_FN V load_row(const T* from, const T* end, int64_t count) {
    if (from + ChannelsOf<V>::kCount <= end) return V::load(from);
    T padded[ChannelsOf<V>::kCount] = {};
    for (int64_t c = 0; c < count && c < ChannelsOf<V>::kCount; c++) padded[c] = from[c];
    return V::load(padded);
}

// Image rows are crossed freely: neighbours in memory are what counts.
struct Run {
    int32_t begin, end;  // pixels of the tile
    int32_t row[3];      // the corners' vertices; -1: no triangle, or not all of its vertices exist
    RG_FN bool there() const { return row[0] >= 0; }
};

// Rows of four of all pixels, of which up to three beyond a tile are read: the last tiles are copied to where that is allowed.
template <class T> class PaddedRows {
  public:
    PaddedRows(const T* rows, int64_t pixels, Arena& arena)
        : rows_(rows), pixels_(pixels), copy_(rows ? static_cast<T*>(arena.take((kTile + 4) * 4 * sizeof(T))) : nullptr) {
        if (copy_) memset(copy_, 0, (kTile + 4) * 4 * sizeof(T));
    }
    RG_FN const T* at(int64_t first, int64_t count) const {
        if (!rows_ || first + count + 3 <= pixels_) return rows_ ? rows_ + 4 * first : nullptr;
        memcpy(copy_, rows_ + 4 * first, size_t(4 * count) * sizeof(T));
        return copy_;
    }

  private:
    const T* rows_;
    int64_t pixels_;
    T* copy_;
};

template <class T> class Runs {
  public:
    Runs() { for (auto& id : ids_) id = T(0); }

    // Of the `count` pixels whose fragments begin at `fragments`.
    void find(const T* fragments, int64_t count, const Attributes<T>& a) {
        find_starts(fragments, count);
        for (int64_t r = 0; r < size_; r++) {
            const int32_t triangle = decode_id(ids_[1 + runs_[r].begin]);
            const bool exists = triangle >= 0 && triangle < a.triangles;
            runs_[r].row[0] = exists ? triangle : -1;
            if (exists) __builtin_prefetch(a.tri + 3 * int64_t(triangle));
        }
        any_ = false;
        for (int64_t r = 0; r < size_; r++) {
            Run& run = runs_[r];
            run.end = r + 1 < size_ ? runs_[r + 1].begin : int32_t(count);
            if (run.row[0] < 0) continue;
            const int32_t* const corner = a.tri + 3 * int64_t(run.row[0]);
            bool exists = true;
            for (int k = 0; k < 3; k++) {
                run.row[k] = corner[k];
                exists &= corner[k] >= 0 && corner[k] < a.vertices;
            }
            if (!exists) {
                run.row[0] = -1;
                continue;
            }
            any_ = true;
            for (int k = 0; k < 3; k++) {
                const T* const row = a.rows + run.row[k] * a.channels;
                __builtin_prefetch(row);
                if (a.channels > 4) __builtin_prefetch(row + a.channels - 1);
            }
        }
    }
    // Whether there is a run with a triangle.
    bool any() const { return any_; }
    const Run* begin() const { return runs_; }
    const Run* end() const { return runs_ + size_; }

  private:
    alignas(64) T ids_[kTile + 2 * kLanes];
    Run runs_[kTile + kLanes];
    int64_t size_ = 0;
    bool any_ = false;

    void find_starts(const T* fragments, int64_t count) {
        int64_t i = 0;
        for (; i + kLanes <= count; i += kLanes) load_fourth(fragments + 4 * i).store(ids_ + 1 + i);
        for (; i < count; i++) ids_[1 + i] = fragments[4 * i + 3];
        ids_[0] = T(__builtin_nan(""));  // differs from every id
        size_ = 0;
        for (i = 0; i < count; i += kLanes) {
            unsigned differ = mask_bits(Lanes<T>::load(ids_ + 1 + i) != Lanes<T>::load(ids_ + i));
            if (count - i < kLanes) differ &= (1u << (count - i)) - 1;
            const int found = __builtin_popcount(differ);
            // Mostly at most four: written without asking, as their number is hard to foretell.
            for (int k = 0; k < 4; k++, differ &= differ - 1) runs_[size_ + k].begin = int32_t(i + __builtin_ctz(differ | 1u << 31));
            for (int k = 4; k < found; k++, differ &= differ - 1) runs_[size_ + k].begin = int32_t(i + __builtin_ctz(differ));
            size_ += found;
        }
    }
};

// The corners' slopes of a run, block by block of channels.
template <class V, class T> RG_FN void load_slopes(const Attributes<T>& a, const Run& run, int64_t blocks, Slopes<V>* to) {
    constexpr int64_t kCount = ChannelsOf<V>::kCount;
    const T* const end = a.rows + a.vertices * a.channels;
    const T *const a0 = a.rows + run.row[0] * a.channels, *const a1 = a.rows + run.row[1] * a.channels, *const a2 = a.rows + run.row[2] * a.channels;
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t at = b * kCount, left = a.channels - at;
        to[b] = slopes(load_row<V>(a0 + at, end, left), load_row<V>(a1 + at, end, left), load_row<V>(a2 + at, end, left));
    }
}

// Slopes of the chosen channels, each twice: once for d/dX, once for d/dY. Two channels to a quad.
template <class T> class Pairs {
  public:
    Pairs(const int32_t* diff, int64_t count, Arena& arena)
        : diff_(diff), count_(count), quads_((count + 1) / 2),
          e0_(static_cast<Quad<T>*>(arena.take(size_t(quads_ + 1) * sizeof(Quad<T>)))),
          e1_(static_cast<Quad<T>*>(arena.take(size_t(quads_ + 1) * sizeof(Quad<T>)))),
          mask_(static_cast<QuadMask<T>*>(arena.take(size_t(quads_ + 1) * sizeof(QuadMask<T>)))) {
        for (int64_t q = 0; q < quads_; q++)
            for (int k = 0; k < 4; k++) mask_[q].p[k] = channel(q, k / 2) < 0 ? 0 : -1;
    }
    template <class V> RG_FN void read(const Slopes<V>* slopes) {
        constexpr int64_t kCount = ChannelsOf<V>::kCount;
        for (int64_t q = 0; q < quads_; q++) {
            T e0[2] = {0, 0}, e1[2] = {0, 0};
            for (int k = 0; k < 2; k++) {
                const int32_t c = channel(q, k);
                if (c < 0) continue;
                e0[k] = reinterpret_cast<const T*>(&slopes[c / kCount].e0)[c % kCount];
                e1[k] = reinterpret_cast<const T*>(&slopes[c / kCount].e1)[c % kCount];
            }
            e0_[q] = Quad<T>::of(e0[0], e0[0], e0[1], e0[1]);
            e1_[q] = Quad<T>::of(e1[0], e1[0], e1[1], e1[1]);
        }
    }
    RG_FN int32_t channel(int64_t q, int k) const { return 2 * q + k < count_ ? diff_[2 * q + k] : -1; }
    RG_FN Quad<T> e0(int64_t q) const { return e0_[q]; }
    RG_FN Quad<T> e1(int64_t q) const { return e1_[q]; }
    // Zero for channels that do not exist.
    RG_FN Quad<T> existing(int64_t q, Quad<T> x) const { return select(mask_[q], x, Quad<T>(T(0))); }
    int64_t quads() const { return quads_; }
    // Whether there are one or two channels, and they exist: then four pixels make a register.
    bool fill_quads() const { return quads_ == 1 && channel(0, 0) >= 0 && (count_ == 1 || channel(0, 1) >= 0); }

  private:
    const int32_t* diff_;
    int64_t count_, quads_;
    Quad<T> *e0_, *e1_;
    QuadMask<T>* mask_;
};

// Old processors get one variant for all numbers of blocks, as float64 does: each takes its share of the wheel.
#if defined(__SSE4_2__) && !defined(__AVX__)
constexpr bool kVariantsByBlocks = false;
#else
constexpr bool kVariantsByBlocks = true;
#endif

// work(V{}, blocks): with four channels at a time, or sixteen in one block, two, or (0) any number of them.
template <class T, class Work> RG_FN void with_channels(int64_t channels, Work&& work) {
    if (channels <= 4) return work(Quad<T>(T(0)), std::integral_constant<int, 1>());
    if constexpr (sizeof(T) == sizeof(double) || !kVariantsByBlocks) return work(Lanes<T>(T(0)), std::integral_constant<int, 0>());
    else if (channels <= kLanes) work(Lanes<T>(T(0)), std::integral_constant<int, 1>());
    else if (channels <= 2 * kLanes) work(Lanes<T>(T(0)), std::integral_constant<int, 2>());
    else work(Lanes<T>(T(0)), std::integral_constant<int, 0>());
}

inline int64_t strips_of(int64_t pixels) { return (pixels + kStrip - 1) / kStrip; }

RG_END
