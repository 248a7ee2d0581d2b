// SPDX-License-Identifier: MIT
// From coordinates to texels, 16 pixels at a time; and from texels to the four colours of one pixel.
#pragma once
#include "cpu_query.h"
#include "formulas.h"
#include "formulas_cube.h"
#include "formulas_level.h"
#include "quads.h"
#include "stream.h"

RG_BEGIN

// The word of formulas.h for lanes.
template <class T> RG_FN Lanes<typename Lanes<T>::Integer> whole(Lanes<T> x) { return convert<typename Lanes<T>::Integer>(x); }

template <class T> using Index = typename Lanes<T>::Integer;

// Rows of the first `count` lanes, one behind the other; past the caches if asked for.
template <class T, int kColumns> RG_FN void store_rows(const Lanes<T> (&columns)[kColumns], int count, bool stream, T* to) {
    alignas(64) T rows[kLanes * kColumns];
    if constexpr (kColumns == 4 || kColumns == 2) {
        Lanes<T> lines[kColumns];
        if constexpr (kColumns == 2) {
            pair_up(columns[0], columns[1], lines);
        } else {
            for (int k = 0; k < 4; k++) lines[k] = columns[k];
            turn_to_lines(lines);
        }
        // Through memory, a line would wait for the smaller stores that it is made of.
        if (count == kLanes) return store_registers(lines, stream, to);
        store_registers(lines, false, rows);
    } else {
        alignas(64) T values[kColumns][kLanes];
        for (int k = 0; k < kColumns; k++) columns[k].store(values[k]);
        for (int l = 0; l < kLanes; l++)
            for (int k = 0; k < kColumns; k++) rows[l * kColumns + k] = values[k][l];
    }
    const size_t bytes = size_t(count) * kColumns * sizeof(T);
    if (stream) stream_bytes(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(rows), bytes);
    else if (count == kLanes) memcpy(to, rows, sizeof rows);
    else
        for (int k = 0; k < count * kColumns; k++) to[k] = rows[k];
}

// Not by memcpy: of up to 64 bytes gcc makes a string instruction, which takes longer than everything around it.
template <class T> RG_FN void store_first(Lanes<T> x, int count, T* to) {
    if (count == kLanes) return x.store(to);
    for (int l = 0; l < count; l++) to[l] = x[l];
}

// Sixteen pixels: neighbours, or the listed ones. Lanes beyond `count` repeat the last neighbour.
struct PixelNumbers {
    int64_t first;
    int count;
    const int64_t* list;  // null: neighbours
    RG_FN int64_t operator[](int l) const { return list ? list[l] : first + (l < count ? l : count - 1); }
};

// Where 16 pixels look: s and t in the range of their boundary mode.
template <class T> struct Place {
    Lanes<T> s, t;
    CubePoint<Lanes<T>> cube;
    unsigned valid;  // one bit per lane
};
// The texels under 16 pixels in one level (or in one level each), numbered within an image of that level; -1: no such texel.
template <class T> struct Cells {
    alignas(64) Index<T> texel[4][kLanes];  // t00, t10, t01, t11; only the first with nearest filtering
    alignas(64) Index<T> highest[kLanes];   // of the four; above all numbers when one does not exist
    alignas(64) Index<T> row[2][kLanes];    // of t00 and t11, faces stacked; meaningless when one does not exist
    alignas(64) T a[kLanes], b[kLanes];
};
template <class T> constexpr Index<T> kNoCell = sizeof(Index<T>) == 4 ? Index<T>(INT32_MAX) : Index<T>(INT64_MAX);

// The levels of 16 pixels and how far they are between two.
template <class T> struct Heights {
    alignas(64) int32_t low[kLanes], high[kLanes];
    alignas(64) T f[kLanes];
    bool uniform;  // all lanes look at the same levels
};

// Derivatives of the coordinates by pixels, for cubes through the direction's.
template <class T> struct Slopes2 {
    Derivatives<Lanes<T>> texels;
    Ellipse<Lanes<T>> ellipse;
    FaceDerivatives<Lanes<T>> face;
};
// Widths or heights of the levels of 16 pixels; `base` is that of the texture.
template <class T> RG_FN Lanes<T> sizes_at(int64_t base, const T* sizes, const int32_t* level, bool uniform) {
    if (uniform) return Lanes<T>(sizes[level[0]]);
    Lanes<Index<T>> halvings;
    if constexpr (sizeof(T) == sizeof(int32_t)) halvings = Lanes<int32_t>::load(level);
    else
        for (int l = 0; l < kLanes; l++) halvings.set(l, level[l]);
    return convert<T>(maximum(Lanes<Index<T>>(Index<T>(base)) >> halvings, Lanes<Index<T>>(1)));
}

// Everything about 16 pixels that does not depend on colours.
template <class T> struct Group {
    Place<T> place;
    Slopes2<T> slopes;          // with uv_da only
    Heights<T> heights;         // of mip filters only
    Cells<T> cells, coarser;    // `coarser` where two levels are mixed
};
// Coordinates, then levels, then texels of the pixels first .. first + count; lanes beyond repeat the last pixel. Each waits for what came
// before, so that groups take turns (cpu_walk.h). Pixels that are not `active` look where one does that is, so that background, whose
// coordinates are zero, does not make the way for all longer; not so for cubes, where its direction has no face.
template <class T> void find_point(const Query<T>& q, const Levels<T>& levels, int64_t first, int count, unsigned active, Group<T>& g);
template <class T> void find_level(const Query<T>& q, const Levels<T>& levels, int64_t first, int count, unsigned active, Group<T>& g);
template <class T> void find_texels(const Query<T>& q, const Levels<T>& levels, Group<T>& g);
// The texels in level k.
template <class T> void locate_in_level(const Query<T>& q, const Levels<T>& levels, int k, const PixelNumbers& at, Cells<T>& cells);

template <class T> __attribute__((noinline)) Quad<T> load_few(const T* from, int64_t count) {
    T four[4] = {0, 0, 0, 0};
    for (int64_t k = 0; k < count; k++) four[k] = from[k];
    return Quad<T>::load(four);
}
// The first `count` channels at least; zeros for what lies behind them only where there is no more memory.
template <class T> RG_FN Quad<T> load_some(const T* from, int64_t count) {
    if (__builtin_expect(count < 4, 0)) return load_few(from, count);
    return Quad<T>::load(from);
}
template <class T> RG_FN Quad<T> load_before(const T* from, int64_t count, const T* end) {
    return load_some(from, from + 4 <= end ? 4 : count);
}
// One image of one level, as pixels read it.
template <class T> struct View {
    const T* texels;
    int64_t channels;
    Index<T> readable;  // below this number four channels can always be read
    bool cube;
};
template <class T> RG_FN View<T> view_of(const Level<T>& level, int64_t image, int64_t channels, bool cube) {
    const int64_t before = image * level.texels_per_image;
    int64_t readable = level.readable - before;
    if (readable > level.texels_per_image) readable = level.texels_per_image;
    return {level.texels + before * channels, channels, Index<T>(readable), cube};
}

template <class T> __attribute__((noinline)) Quad<T> careful_texel(const View<T>& v, Index<T> texel, int64_t c) {
    if (texel < 0) return Quad<T>(T(0));
    return load_some(v.texels + int64_t(texel) * v.channels + c, texel < v.readable ? 4 : v.channels - c);
}
template <class T> __attribute__((noinline)) Cell<Quad<T>> careful_cell(const View<T>& v, const Cells<T>& cells, int l, int64_t c) {
    Cell<Quad<T>> t = {careful_texel(v, cells.texel[0][l], c), careful_texel(v, cells.texel[1][l], c),
                       careful_texel(v, cells.texel[2][l], c), careful_texel(v, cells.texel[3][l], c)};
    if (!v.cube) return t;
    if (cells.texel[0][l] < 0) t.t00 = average_of_three(t.t10, t.t01, t.t11);
    if (cells.texel[1][l] < 0) t.t10 = average_of_three(t.t00, t.t01, t.t11);
    if (cells.texel[2][l] < 0) t.t01 = average_of_three(t.t00, t.t10, t.t11);
    if (cells.texel[3][l] < 0) t.t11 = average_of_three(t.t00, t.t10, t.t01);
    return t;
}
// Channels c to c + 3 of the four texels under lane l.
template <class T> RG_FN Cell<Quad<T>> cell_at(const View<T>& v, const Cells<T>& cells, int l, int64_t channels, int64_t c) {
    if (__builtin_expect(cells.highest[l] >= v.readable, 0)) return careful_cell(v, cells, l, c);
    const T* base = v.texels + c;
    return {Quad<T>::load(base + int64_t(cells.texel[0][l]) * channels), Quad<T>::load(base + int64_t(cells.texel[1][l]) * channels),
            Quad<T>::load(base + int64_t(cells.texel[2][l]) * channels), Quad<T>::load(base + int64_t(cells.texel[3][l]) * channels)};
}

// Whether all texels of all lanes exist and can be read four channels at a time.
template <class T> RG_FN bool all_readable(const View<T>* views, const int32_t* level, bool uniform, const Cells<T>& cells) {
    const Lanes<Index<T>> highest = Lanes<Index<T>>::load(cells.highest);
    if (uniform) return all(highest < Lanes<Index<T>>(views[level ? level[0] : 0].readable));
    const Lanes<int32_t> levels = Lanes<int32_t>::load(level);
    for (unsigned left = 0xffff; left;) {
        const int k = level[__builtin_ctz(left)];
        const unsigned same = mask_bits(levels == Lanes<int32_t>(k));
        if (same & ~mask_bits(highest < Lanes<Index<T>>(views[k].readable))) return false;
        left &= ~same;
    }
    return true;
}

// Whether the right one of two texels lies behind the left one in memory, in all lanes.
template <class T> RG_FN bool side_by_side(const Cells<T>& cells) {
    using I = Lanes<Index<T>>;
    return all(I::load(cells.texel[1]) == I::load(cells.texel[0]) + I(1));
}
// Where both rows of 16 cells begin in memory, when their texels are side by side.
template <class T> struct CellRows { alignas(64) int64_t first[kLanes], second[kLanes]; };
template <int kChannels, class T> void find_rows(const View<T>* views, const int32_t* level, bool uniform, const Cells<T>& cells, CellRows<T>& rows);

// The cells of four pixels, `apart` lanes from one to the next. What lies behind the channels is zero.
template <int kChannels, class T> RG_FN Cell<Lanes<T>> neighbour_cells(const CellRows<T>& rows, int lane, int apart) {
    const T *first[4], *second[4];
    for (int r = 0; r < 4; r++) {
        first[r] = reinterpret_cast<const T*>(uintptr_t(rows.first[lane + r * apart]));
        second[r] = reinterpret_cast<const T*>(uintptr_t(rows.second[lane + r * apart]));
    }
    Cell<Lanes<T>> c;
    join_neighbours<kChannels>(first[0], first[1], first[2], first[3], c.t00, c.t10);
    join_neighbours<kChannels>(second[0], second[1], second[2], second[3], c.t01, c.t11);
    return c;
}
template <class T> RG_FN Lanes<T> four_texels(const T* const (&from)[4], const Index<T>* texel, int apart, int64_t channels) {
    return join_quads(Quad<T>::load(from[0] + int64_t(texel[0]) * channels), Quad<T>::load(from[1] + int64_t(texel[apart]) * channels),
                      Quad<T>::load(from[2] + int64_t(texel[2 * apart]) * channels), Quad<T>::load(from[3] + int64_t(texel[3 * apart]) * channels));
}
// The same for any number of channels, from channel c on, with what lies behind them. No levels: the texture itself.
template <class T> RG_FN Cell<Lanes<T>> four_cells(const View<T>* views, const int32_t* level, const Cells<T>& cells, int lane, int apart, int64_t channels, int64_t c) {
    const T* from[4];
    for (int r = 0; r < 4; r++) from[r] = views[level ? level[lane + r * apart] : 0].texels + c;
    return {four_texels(from, cells.texel[0] + lane, apart, channels), four_texels(from, cells.texel[1] + lane, apart, channels),
            four_texels(from, cells.texel[2] + lane, apart, channels), four_texels(from, cells.texel[3] + lane, apart, channels)};
}

// The same of the one texel of nearest filtering.
template <class T> RG_FN Quad<T> texel_at(const View<T>& v, const Cells<T>& cells, int l, int64_t channels, int64_t c) {
    if (__builtin_expect(cells.highest[l] >= v.readable, 0)) return careful_texel(v, cells.texel[0][l], c);
    return Quad<T>::load(v.texels + c + int64_t(cells.texel[0][l]) * channels);
}

// A broadcast texture serves all pixels of all images as if they were one. Pixels in narrow columns, as general queries have them, are
// laid out in wider rows, the last of which may be shorter.
struct Layout {
    int64_t images, rows, columns;
    int64_t pixels;  // per image
    int64_t groups;  // of 16 neighbours, per row
};
template <class T> Layout layout_of(const Query<T>& q) {
    constexpr int64_t kNarrow = 4 * kLanes, kWide = 32 * kLanes;
    const bool one = q.tex_images == 1;
    Layout l{one ? 1 : q.images, one ? q.images * q.rows : q.rows, q.columns, 0, 0};
    l.pixels = l.rows * l.columns;
    if (l.columns < kNarrow) {
        l.columns = kWide;
        l.rows = (l.pixels + kWide - 1) / kWide;
    }
    l.groups = (l.columns + kLanes - 1) / kLanes;
    return l;
}

RG_END
