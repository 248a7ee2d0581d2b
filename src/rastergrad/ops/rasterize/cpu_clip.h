// SPDX-License-Identifier: MIT
// Vertices onto the screen grid 16 at a time, and the pieces of clipped triangles.
#pragma once
#include "arena.h"
#include "clip.h"
#include "quads.h"

RG_BEGIN
namespace {

template <class T> void place_vertices(const T* pos, int64_t begin, int64_t end, ScreenSize size, ScreenVertex* out) {
    using L = Lanes<T>;
    using Bits = typename L::Integer;
    for (int64_t v = begin; v < end; v += kLanes) {
        const int count = int(minimum(end - v, int64_t(kLanes)));
        const Columns4<T> p = load_columns<T>([=](int l) { return pos + 4 * (v + (l < count ? l : 0)); });
        const auto placed = placed_vertex<T, Lanes<Bits>>(Vec4<L>{p.x, p.y, p.z, p.w}, size);
        const auto to_grid = [](L c) { return bits_as<float>(convert<int32_t>(convert<Bits>(c))); };
        const Columns4<float> record = {to_grid(placed.x), to_grid(placed.y), convert<float>(placed.k),
                                        bits_as<float>(convert<int32_t>(placed.flags))};
        store_columns<float>(record, count, false, [=](int l) { return reinterpret_cast<float*>(out + v + l); });
    }
}

// A piece of a clipped triangle, drawn under the number of the whole one.
struct Piece { ScreenVertex corner[3]; int32_t triangle; };

// Calls draw(piece) for each triangle of the fan over the visible part.
template <class T, class Draw>
void for_each_piece_of(int32_t triangle, const int32_t (&index)[3], const T* pos, const ScreenVertex* screen, ScreenSize size, Draw&& draw) {
    ClipPoint points[kMostPoints];
    load_clip_points(pos, screen, index, points);
    const int count = clip_to_frustum(points, size);
    for (int k = 0; k < count; k++)
        if (points[k].screen.flags & kUnusable) return;
    for (int k = 2; k < count; k++) draw(Piece{{points[0].screen, points[k - 1].screen, points[k].screen}, triangle});
}

}  // namespace
RG_END
