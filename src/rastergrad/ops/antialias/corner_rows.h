// SPDX-License-Identifier: MIT
// Which neighbouring pixels show triangles with a vertex in common, sixteen pairs at a time: that settles almost all pairs inside of surfaces.
// The corners of a pixel's triangle are read once, for the pairs to all sides.
#pragma once
#include "arena.h"
#include "lanes.h"
#include "quads.h"
#include "triangle_id.h"

RG_BEGIN

template <class T> class CornerRows {
  public:
    // `padded`: ids of a row that may be read, a multiple of kLanes.
    CornerRows(const int32_t* tri, int64_t triangles, int64_t padded, Arena& arena)
        : tri_(tri), last_(triangles - 1), padded_(padded), before_(planes(padded, arena)), now_(planes(padded, arena)) {}

    // A register reaches into a second triangle.
    bool can_read() const { return last_ > 0; }
    // The ids of another row come.
    void advance() {
        const Row row = before_;
        before_ = now_;
        now_ = row;
        now_.decoded = false;
    }
    // Before the functions below, for the row before and for the last one.
    void decode_before(const T* ids) { decode(before_, ids); }
    void decode_now(const T* ids) { decode(now_, ids); }
    // A bit for each of sixteen pairs within the last row from column i on, ...
    RG_FN unsigned joined_right(int64_t i) const {
        read(now_, i);
        read(now_, i + kLanes);
        Lanes<int32_t> own[3], other[3];
        for (int k = 0; k < 3; k++) {
            own[k] = now_.corner(k, i);
            other[k] = next_lanes(own[k], now_.corner(k, i + kLanes));
        }
        return joined(own, other);
    }
    // ... and between the row before it and the last.
    RG_FN unsigned joined_up(int64_t i) const {
        read(before_, i);
        read(now_, i);
        Lanes<int32_t> own[3], other[3];
        for (int k = 0; k < 3; k++) {
            own[k] = before_.corner(k, i);
            other[k] = now_.corner(k, i);
        }
        return joined(own, other);
    }

  private:
    // Triangles, and three planes of vertices, of which some groups of sixteen pixels have been read.
    struct Row {
        int32_t *triangles, *corners;
        uint8_t* known;
        int64_t padded;
        bool decoded;
        RG_FN Lanes<int32_t> corner(int k, int64_t i) const { return Lanes<int32_t>::load(corners + k * padded + i); }
    };
    // No vertex: of what shows no triangle, and of the last one, where a register would reach beyond the table. It joins no such pixel with
    // a triangle, and nothing can come of two of them.
    static constexpr int32_t kNoVertex = INT32_MAX;
    const int32_t* tri_;
    int64_t last_, padded_;
    Row before_, now_;

    static Row planes(int64_t padded, Arena& arena) {
        auto* const triangles = static_cast<int32_t*>(arena.take(size_t(4 * padded) * sizeof(int32_t)));
        return {triangles, triangles + padded, static_cast<uint8_t*>(arena.take(size_t(padded / kLanes))), padded, false};
    }
    // All of a row, away from where indices are used: next to it, gcc takes sixteen of them out of a register one by one.
    void decode(Row& row, const T* ids) const {
        if (row.decoded) return;
        row.decoded = true;
        for (int64_t i = 0; i < padded_; i += kLanes) decode_id(Lanes<T>::load(ids + i)).store(row.triangles + i);
        memset(row.known, 0, size_t(padded_) / kLanes);
    }
    RG_FN void read(const Row& row, int64_t i) const {
        if (row.known[i / kLanes]) return;
        row.known[i / kLanes] = 1;
        const Lanes<int32_t> triangle = Lanes<int32_t>::load(row.triangles + i), last{int32_t(last_)}, zero(0);
        const Lanes<int32_t> usable = (triangle >= zero) & (triangle < last);
        const Columns4<int32_t> c = load_columns<int32_t>([&](int l) {
            const int32_t at = row.triangles[i + l];
            return tri_ + 3 * int64_t(uint32_t(at) < uint32_t(last_) ? at : 0);
        });
        const Lanes<int32_t> none(kNoVertex);
        select(usable, c.x, none).store(row.corners + i);
        select(usable, c.y, none).store(row.corners + padded_ + i);
        select(usable, c.z, none).store(row.corners + 2 * padded_ + i);
    }
    static RG_FN unsigned joined(const Lanes<int32_t> (&own)[3], const Lanes<int32_t> (&other)[3]) {
        // No difference is negative, so the smallest of nine tells whether one is zero.
        Lanes<int32_t> least = own[0] ^ other[0];
        for (int k = 1; k < 9; k++) least = minimum(least, own[k / 3] ^ other[k % 3]);
        return equal_bits(least, Lanes<int32_t>(0));
    }
    // Lanes 1 to 15, then the first of `after`.
    static RG_FN Lanes<int32_t> next_lanes(Lanes<int32_t> a, Lanes<int32_t> after) {
        using L = Lanes<int32_t>;
        L::Part from;
        for (int l = 0; l < L::kWidth; l++) from[l] = l + 1;
        L r;
        for (int q = 0; q < L::kParts; q++) r.p[q] = shuffled(a.p[q], q + 1 < L::kParts ? a.p[q + 1] : after.p[0], from);
        return r;
    }
};

RG_END
