// SPDX-License-Identifier: MIT
// Which cells of 8 x 8 pixels an edge on the screen passes.
#pragma once
#include "formulas_outline.h"

RG_BEGIN

constexpr int64_t kCellSide = 8;  // pixels

// mark(column, row) for the cells of an edge that lies in [left, right] x [low, high] and, where `steep`, at along(y); all of it widened by
// `margin`. Extents that are NaN mark nothing.
template <class T, class Along, class Mark>
RG_FN void mark_cells(int64_t width, int64_t height, T left, T right, T low, T high, T margin, bool steep, Along&& along, Mark&& mark) {
    low = maximum(low - margin, T(0));
    high = minimum(high + margin, T(height) - T(0.5));
    left = maximum(left - margin, T(0));
    right = minimum(right + margin, T(width) - T(0.5));
    if (!(low <= high) || !(left <= right)) return;
    // Of edges as short as cells nothing is left out by following them.
    steep = steep && int64_t(right) / kCellSide - int64_t(left) / kCellSide > 1;
    for (int64_t r = int64_t(low) / kCellSide; r <= int64_t(high) / kCellSide; r++) {
        T from = left, to = right;
        if (steep) {
            const T enter = along(maximum(low, T(r * kCellSide) - margin)), leave = along(minimum(high, T((r + 1) * kCellSide) + margin));
            if (is_finite(enter) && is_finite(leave)) {
                from = maximum(minimum(enter, leave) - margin, left);
                to = minimum(maximum(enter, leave) + margin, right);
            }
        }
        if (!(from <= to)) continue;
        for (int64_t c = int64_t(from) / kCellSide; c <= int64_t(to) / kCellSide; c++) mark(c, r);
    }
}

// The extent on the screen, in pixels from its corner, of the edge between two clip-space vertices: nothing if it lies behind the eye.
template <class T> struct EdgeExtent {
    bool visible;
    T left, right, low, high;
    bool steep;
    Vec3<T> line;
};
template <class T> RG_FN EdgeExtent<T> edge_extent(Vec4<T> a, Vec4<T> b, Vec2<T> half) {
    EdgeExtent<T> e{};
    if (!(a.w > T(0))) {
        const Vec4<T> c = a;
        a = b;
        b = c;
    }
    e.visible = a.w > T(0);
    if (!e.visible) return e;
    const Vec2<T> corner{-half.x, -half.y};
    const Vec4<T> p = seen_from(a, half, corner), q = seen_from(b, half, corner);
    e.line = line_through(p, q);
    const T x0 = p.x / p.w, y0 = p.y / p.w;
    // The far end; behind the eye it lies at infinity on the screen.
    const T x1 = q.w > T(0) ? q.x / q.w : direction(e.line).x * T(1e30), y1 = q.w > T(0) ? q.y / q.w : direction(e.line).y * T(1e30);
    e.left = minimum(x0, x1);
    e.right = maximum(x0, x1);
    e.low = minimum(y0, y1);
    e.high = maximum(y0, y1);
    // Level lines have no crossing worth the name: then all of the edge's own extent.
    e.steep = abs_of(e.line.x) * T(256) > abs_of(e.line.y);
    return e;
}
constexpr double kOutlineMargin = 0.25;  // pixels: the reach of a crossing, 1/16, and rounding

RG_END
