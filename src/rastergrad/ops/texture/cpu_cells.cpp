// SPDX-License-Identifier: MIT
// From coordinates to levels and texels, 16 pixels at a time. A file of its own: these loops are long in every number type, and called
// once per 16 pixels.
#include "cpu_cells.h"

RG_BEGIN
namespace {

// Columns of an array of rows, one row per pixel.
template <class T, int kColumns> RG_FN void load_rows(const T* from, const PixelNumbers& pixels, Lanes<T> (&columns)[kColumns]) {
    alignas(64) T values[kColumns][kLanes];
    if constexpr (kColumns == 4) {
        const bool whole = !pixels.list && pixels.count == kLanes;
        const Columns4<T> c = whole ? columns_of_lines(from + pixels.first * 4) : load_columns<T>([&](int l) { return from + pixels[l] * 4; });
        columns[0] = c.x;
        columns[1] = c.y;
        columns[2] = c.z;
        columns[3] = c.w;
        return;
    }
    if (!pixels.list && pixels.count == kLanes) {
        // Columns put together number by number in memory would be waited for: the processor cannot hand sixteen stores to one load.
        if constexpr (kColumns == 1) {
            columns[0] = Lanes<T>::load(from + pixels.first);
            return;
        }
        if constexpr (kColumns == 2) {
            load_pairs(from + 2 * pixels.first, columns[0], columns[1]);
            return;
        }
        const T* rows = from + pixels.first * kColumns;
        for (int l = 0; l < kLanes; l++)
            for (int k = 0; k < kColumns; k++) values[k][l] = rows[l * kColumns + k];
    } else {
        for (int l = 0; l < kLanes; l++)
            for (int k = 0; k < kColumns; k++) values[k][l] = from[pixels[l] * kColumns + k];
    }
    for (int k = 0; k < kColumns; k++) columns[k] = Lanes<T>::load(values[k]);
}

template <class T>
__attribute__((noinline)) void find_place(int64_t boundary, const T* uv, const PixelNumbers& at, Place<T>& place) {
    using F = Lanes<T>;
    place.valid = 0xffff;
    if (boundary == kCube) {
        F d[3];
        load_rows(uv, at, d);
        place.cube = cube_point(Vec3<F>{d[0], d[1], d[2]});
        place.s = face_coordinate(place.cube.p);
        place.t = face_coordinate(place.cube.q);
        place.valid = mask_bits(place.cube.valid);
        return;
    }
    F st[2];
    load_rows(uv, at, st);
    const bool wrap = boundary == kWrap;
    place.s = wrap ? wrapped(st[0]) : st[0];
    place.t = wrap ? wrapped(st[1]) : st[1];
}

// Lanes without a direction may hold anything: their texels stay in range all the same.
template <class F> __attribute__((noinline)) void cross_edges(CubeFace<F> face, F i, F j, F size, F& at_face, F& at_i, F& at_j) {
    const CubeTexel<F> there = across_edge(face, i, j, size);
    at_face = there.face;
    at_i = clamped(there.i, F(0), size - F(1));
    at_j = clamped(there.j, F(0), size - F(1));
}

template <class T>
__attribute__((noinline)) void find_cells(const Place<T>& place, int64_t boundary, bool nearest, Lanes<T> width, Lanes<T> height, Cells<T>& cells) {
    using F = Lanes<T>;
    using I = Lanes<Index<T>>;
    const I iw = whole(width);
    if (nearest) {
        const auto column = nearest_texel(place.s, width), row = nearest_texel(place.t, height);
        I texel = row.index * iw + column.index, rows = row.index;
        if (boundary == kCube) {
            rows = whole(face_number(place.cube.face)) * whole(height) + rows;
            texel = rows * iw + column.index;
        }
        if (boundary == kZero) texel = select(column.inside & row.inside, texel, I(-1));
        texel.store(cells.texel[0]);
        select(texel < I(0), I(kNoCell<T>), texel).store(cells.highest);
        rows.store(cells.row[0]);
        rows.store(cells.row[1]);
        return;
    }
    Neighbours<F> c, r;
    switch (boundary) {
        case kWrap: c = neighbours_wrap(place.s, width); r = neighbours_wrap(place.t, height); break;
        case kClamp: c = neighbours_clamp(place.s, width); r = neighbours_clamp(place.t, height); break;
        case kZero: c = neighbours_zero(place.s, width); r = neighbours_zero(place.t, height); break;
        default: c = neighbours_cube(place.s, width); r = neighbours_cube(place.t, height); break;
    }
    c.fraction.store(cells.a);
    r.fraction.store(cells.b);
    const F columns[2] = {c.low, c.high}, rows[2] = {r.low, r.high};
    if (boundary == kWrap || boundary == kClamp) {
        const I low = whole(c.low), high = whole(c.high), first = whole(r.low), second = whole(r.high);
        const I t00 = first * iw + low, t10 = first * iw + high, t01 = second * iw + low, t11 = second * iw + high;
        t00.store(cells.texel[0]);
        t10.store(cells.texel[1]);
        t01.store(cells.texel[2]);
        t11.store(cells.texel[3]);
        maximum(maximum(t00, t10), maximum(t01, t11)).store(cells.highest);
        first.store(cells.row[0]);
        second.store(cells.row[1]);
        return;
    }
    I highest(0);
    const F last_column = width - F(1), last_row = height - F(1);
    const F face = boundary == kCube ? face_number(place.cube.face) : F(0);
    for (int k = 0; k < 4; k++) {
        const F i = columns[k & 1], j = rows[k >> 1];
        const auto in_columns = on_axis(i, width), in_rows = on_axis(j, height);
        const I inside = in_columns & in_rows;
        F at_face = face, at_i = clamped(i, F(0), last_column), at_j = clamped(j, F(0), last_row);
        I there = inside;
        if (boundary == kCube) {
            there = in_columns | in_rows;
            if (!all(inside)) cross_edges(place.cube.face, i, j, width, at_face, at_i, at_j);
        }
        const I row = whole(at_face) * whole(height) + whole(at_j);
        const I texel = select(there, row * iw + whole(at_i), I(-1));
        texel.store(cells.texel[k]);
        highest = maximum(highest, select(there, texel, I(kNoCell<T>)));
        // The quick way of the backward pass takes a cell's rows from its first and last texel: wrong where edges are crossed.
        if (boundary == kCube) highest = select(inside, highest, I(kNoCell<T>));
        if (k == 0) row.store(cells.row[0]);
        if (k == 3) row.store(cells.row[1]);
    }
    highest.store(cells.highest);
}

template <class T>
__attribute__((noinline)) void find_slopes(const Place<T>& place, int64_t boundary, T width, T height, const T* uv_da, const PixelNumbers& at, Slopes2<T>& slopes) {
    using F = Lanes<T>;
    Derivatives<F> d;
    if (boundary == kCube) {
        F c[6];
        load_rows(uv_da, at, c);
        slopes.face = {into_face(place.cube.face, Vec3<F>{c[0], c[2], c[4]}), into_face(place.cube.face, Vec3<F>{c[1], c[3], c[5]})};
        d = face_derivatives(place.cube, slopes.face);
    } else {
        F c[4];
        load_rows(uv_da, at, c);
        d = {c[0], c[1], c[2], c[3]};
    }
    slopes.texels = in_texels(d, F(width), F(height));
    slopes.ellipse = ellipse(slopes.texels);
}
template <class T> RG_FN void find_heights(Lanes<T> level, int64_t filter, int depth, Heights<T>& h) {
    using F = Lanes<T>;
    const F in_range = level_in_range(level, F(T(depth)));
    const F low = floor_of(in_range);
    const F f = filter == kLinearMipmapLinear ? in_range - low : F(0);
    f.store(h.f);
    const auto lows = whole(low), highs = whole(minimum(low + F(1), F(T(depth))));
    if constexpr (sizeof(T) == sizeof(int32_t)) {
        lows.store(h.low);
        highs.store(h.high);
    } else {
        for (int l = 0; l < kLanes; l++) {
            h.low[l] = int32_t(lows[l]);
            h.high[l] = int32_t(highs[l]);
        }
    }
    h.uniform = all(lows == Lanes<Index<T>>(lows[0]));
}
}  // namespace

// One lane's value in place of those that are not active.
template <class T> Lanes<T> with_active(unsigned active, Lanes<T> x) {
    return select(mask_from_bits<Index<T>>(active), x, Lanes<T>(x[__builtin_ctz(active)]));
}

template <class T> void find_point(const Query<T>& q, const Levels<T>& levels, int64_t first, int count, unsigned active, Group<T>& g) {
    const PixelNumbers at = {first, count, nullptr};
    find_place(q.boundary, q.uv, at, g.place);
    if (active != kAllLanes && q.boundary != kCube) {
        g.place.s = with_active(active, g.place.s);
        g.place.t = with_active(active, g.place.t);
    }
    if (q.filter >= kLinearMipmapNearest && q.uv_da) find_slopes(g.place, q.boundary, levels.widths[0], levels.heights[0], q.uv_da, at, g.slopes);
}
template <class T> void find_level(const Query<T>& q, const Levels<T>& levels, int64_t first, int count, unsigned active, Group<T>& g) {
    if (q.filter < kLinearMipmapNearest) return;
    Lanes<T> level(T(0));
    if (q.uv_da) level = level_of(g.slopes.ellipse.major);
    if (q.bias) {
        Lanes<T> bias[1];
        load_rows(q.bias, {first, count, nullptr}, bias);
        level = level + bias[0];
    }
    if (active != kAllLanes) level = with_active(active, level);
    find_heights(level, q.filter, levels.count - 1, g.heights);
}
template <class T> void find_texels(const Query<T>& q, const Levels<T>& levels, Group<T>& g) {
    using F = Lanes<T>;
    if (q.filter < kLinearMipmapNearest) return find_cells(g.place, q.boundary, q.filter == kNearest, F(levels.widths[0]), F(levels.heights[0]), g.cells);
    const bool uniform = g.heights.uniform;
    find_cells(g.place, q.boundary, false, sizes_at(q.width, levels.widths, g.heights.low, uniform), sizes_at(q.height, levels.heights, g.heights.low, uniform), g.cells);
    if (q.filter == kLinearMipmapLinear)
        find_cells(g.place, q.boundary, false, sizes_at(q.width, levels.widths, g.heights.high, uniform), sizes_at(q.height, levels.heights, g.heights.high, uniform), g.coarser);
}

template <class T> void locate_in_level(const Query<T>& q, const Levels<T>& levels, int k, const PixelNumbers& at, Cells<T>& cells) {
    using F = Lanes<T>;
    Place<T> place;
    find_place(q.boundary, q.uv, at, place);
    find_cells(place, q.boundary, q.filter == kNearest, F(levels.widths[k]), F(levels.heights[k]), cells);
}

template <int kChannels, class T> void find_rows(const View<T>* views, const int32_t* level, bool uniform, const Cells<T>& cells, CellRows<T>& rows) {
    using I = Lanes<int64_t>;
    I base;
    if (uniform) {
        base = I(int64_t(reinterpret_cast<uintptr_t>(views[level ? level[0] : 0].texels)));
    } else {
        alignas(64) int64_t bases[kLanes];
        for (int l = 0; l < kLanes; l++) bases[l] = int64_t(reinterpret_cast<uintptr_t>(views[level[l]].texels));
        base = I::load(bases);
    }
    // By shifts: most processors have no product of 64 bits.
    const auto bytes = [](I texel) {
        static_assert(sizeof(T) == 4, "of float32 only");
        return kChannels == 4 ? texel << 4 : (texel << 3) + (texel << 2);
    };
    (base + bytes(widened(Lanes<Index<T>>::load(cells.texel[0])))).store(rows.first);
    (base + bytes(widened(Lanes<Index<T>>::load(cells.texel[2])))).store(rows.second);
}

template void find_rows<3>(const View<float>*, const int32_t*, bool, const Cells<float>&, CellRows<float>&);
template void find_rows<4>(const View<float>*, const int32_t*, bool, const Cells<float>&, CellRows<float>&);
template void find_point<float>(const Query<float>&, const Levels<float>&, int64_t, int, unsigned, Group<float>&);
template void find_level<float>(const Query<float>&, const Levels<float>&, int64_t, int, unsigned, Group<float>&);
template void find_texels<float>(const Query<float>&, const Levels<float>&, Group<float>&);
RG_FLOAT64(template void find_point<double>(const Query<double>&, const Levels<double>&, int64_t, int, unsigned, Group<double>&);)
RG_FLOAT64(template void find_level<double>(const Query<double>&, const Levels<double>&, int64_t, int, unsigned, Group<double>&);)
RG_FLOAT64(template void find_texels<double>(const Query<double>&, const Levels<double>&, Group<double>&);)
template void locate_in_level<float>(const Query<float>&, const Levels<float>&, int, const PixelNumbers&, Cells<float>&);
RG_FLOAT64(template void locate_in_level<double>(const Query<double>&, const Levels<double>&, int, const PixelNumbers&, Cells<double>&);)

RG_END
