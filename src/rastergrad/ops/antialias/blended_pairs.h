// SPDX-License-Identifier: MIT
// Which pairs of neighbouring pixels were blended, a bit for each: kept by the forward pass, as few of many pairs are.
#pragma once
#include "strips.h"

RG_BEGIN

class BlendedPairs {
  public:
    // Bytes for all images. Each row of pixels has words of its own, so that strips never write to the same one.
    static int64_t size_of(int64_t images, int64_t height, int64_t width) { return images * height * 2 * words_of(width) * int64_t(sizeof(uint64_t)); }
    // Of one image; `memory`, of all of them, need not be aligned. Nothing is kept if it is null.
    BlendedPairs(uint8_t* memory, int64_t image, int64_t height, int64_t width)
        : words_(words_of(width)), memory_(memory ? memory + size_of(image, height, width) : nullptr) {}

    bool are_kept() const { return memory_; }
    void clear(int64_t begin, int64_t end) const { memset(at(begin, 0), 0, size_t((end - begin) * 2 * words_) * sizeof(uint64_t)); }
    // By the first pixel of the pair.
    void add(Axis axis, int64_t row, int64_t column) const {
        uint8_t* const to = at(row, plane(axis) + column / 64);
        uint64_t word;
        memcpy(&word, to, sizeof word);
        word |= uint64_t(1) << column % 64;
        memcpy(to, &word, sizeof word);
    }
    // visit(column) for those of a row, left to right.
    template <class Visit> RG_FN void for_each(Axis axis, int64_t row, Visit&& visit) const {
        for (int64_t i = 0; i < words_; i++) {
            uint64_t word;
            memcpy(&word, at(row, plane(axis) + i), sizeof word);
            for (; word; word &= word - 1) visit(i * 64 + __builtin_ctzll(word));
        }
    }

  private:
    int64_t words_;
    uint8_t* memory_;

    static int64_t words_of(int64_t width) { return (width + 63) / 64; }
    int64_t plane(Axis axis) const { return axis == Axis::kVertical ? words_ : 0; }
    uint8_t* at(int64_t row, int64_t word) const { return memory_ + (row * 2 * words_ + word) * int64_t(sizeof(uint64_t)); }
};

RG_END
