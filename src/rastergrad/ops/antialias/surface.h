// SPDX-License-Identifier: MIT
// Steps over a mesh: from a pixel centre along a line until the surface ends, and around a vertex from one outline edge to the next.
// One lane of work, for any processor. A Mesh answers, for half-edges h = 3 t + k (the edge of triangle t opposite to its corner k):
//   int32_t corner(int32_t h)       the vertex at corner k
//   int32_t twin(int32_t h)         the half-edge on the other side; asked only where the surface goes on
//   bool ends_at(int32_t h)         whether the edge is a border or a fold on the screen
//   bool adjoins(int32_t t, int32_t other)   whether t has a neighbour `other`
// and a view of it:  Vec4<F> at(int32_t v), the vertex as formulas_outline.h wants it.
#pragma once
#include "formulas_outline.h"

RG_BEGIN

constexpr int kMostSteps = 1024;      // triangles that a walk crosses on its way to the next pixel
constexpr int kMostFan = 4096;        // triangles around a vertex
constexpr int kMostOutlineEdges = 64; // edges of an outline within a row of pixels

// The half-edges of the other two corners of the same triangle.
RG_FN int32_t next_corner(int32_t h) { return h % 3 == 2 ? h - 2 : h + 1; }
RG_FN int32_t last_corner(int32_t h) { return h % 3 == 0 ? h + 2 : h - 1; }
// Of these two, the one opposite to vertex v.
template <class Mesh> RG_FN int32_t opposite_to(const Mesh& mesh, int32_t h, int32_t v) {
    const int32_t next = next_corner(h);
    return mesh.corner(next) == v ? next : last_corner(h);
}

enum class WalkEnd { kLost, kNeighbour, kGoal, kOutline };

template <class F> struct Walk {
    WalkEnd end;
    int32_t half_edge;    // where it ended
    int32_t arrived;      // the triangle at the goal, or -1
    int32_t below, above; // the ends of the outline edge
    Crossing<F> at;       // where the outline edge is crossed
    int32_t steps;
};

// From the origin of the view along its first axis, starting on `triangle`, until an outline or triangle `neighbour` is met, or nothing up to
// the distance `reach`, which is the goal or a little more. Lost: the origin does not lie on the triangle after all, or there are too
// many triangles on the way.
template <class F, class Mesh, class View>
RG_LONG_FN Walk<F> walk(const Mesh& mesh, const View& view, int32_t triangle, int32_t neighbour, F goal, F reach) {
    Walk<F> w{WalkEnd::kLost, 3 * triangle, -1, -1, -1, {F(0), F(0), F(1)}, 0};
    int32_t vertex[3];
    Vec4<F> p[3];
    int above = 0;
    for (int k = 0; k < 3; k++) {
        vertex[k] = mesh.corner(3 * triangle + k);
        p[k] = view.at(vertex[k]);
        above |= int(lies_above(p[k])) << k;
    }
    if (above == 0 || above == 7) return w;
    // One corner has a side for itself; the line crosses its two edges.
    const bool up = (above & (above - 1)) == 0;
    const int only = up ? above : 7 - above, tip = only == 4 ? 2 : only - 1, a = tip == 2 ? 0 : tip + 1, b = tip == 0 ? 2 : tip - 1;
    const Crossing<F> to_a = up ? crossing_of(p[a], p[tip]) : crossing_of(p[tip], p[a]);
    const Crossing<F> to_b = up ? crossing_of(p[b], p[tip]) : crossing_of(p[tip], p[b]);
    const bool through_b = leads_along(to_a, to_b);
    const int end = through_b ? b : a;
    Vec4<F> low = up ? p[end] : p[tip], high = up ? p[tip] : p[end];
    w.below = up ? vertex[end] : vertex[tip];
    w.above = up ? vertex[tip] : vertex[end];
    w.at = through_b ? to_b : to_a;
    w.half_edge = 3 * triangle + (through_b ? a : b);
    if (lies_behind_start(w.at)) return w;
    for (; w.steps < kMostSteps; w.steps++) {
        if (w.arrived < 0 && lies_beyond(w.at, goal)) {
            w.arrived = w.half_edge / 3;
            if (mesh.adjoins(w.arrived, neighbour)) {
                w.end = WalkEnd::kNeighbour;
                return w;
            }
        }
        if (lies_beyond(w.at, reach)) {
            w.end = WalkEnd::kGoal;
            return w;
        }
        if (mesh.ends_at(w.half_edge)) {
            w.end = WalkEnd::kOutline;
            return w;
        }
        const int32_t entered = mesh.twin(w.half_edge);
        if (entered / 3 == neighbour) {
            w.end = WalkEnd::kNeighbour;
            return w;
        }
        const int32_t apex = mesh.corner(entered);
        const Vec4<F> q = view.at(apex);
        // The edge between the apex and the vertex on its other side is crossed next.
        if (lies_above(q)) {
            w.half_edge = opposite_to(mesh, entered, w.above);
            w.above = apex;
            high = q;
        } else {
            w.half_edge = opposite_to(mesh, entered, w.below);
            w.below = apex;
            low = q;
        }
        w.at = crossing_of(low, high);
    }
    return w;
}

// Around the end of an outline edge that is not `from`, over the surface that half-edge h bounds, to the next edge at which this surface ends:
// its half-edge, or -1 if there are too many triangles on the way. `to` becomes the next edge's other end.
template <class Mesh> RG_FN int32_t next_outline_edge(const Mesh& mesh, int32_t h, int32_t from, int32_t& to) {
    for (int turn = 0; turn < kMostFan; turn++) {
        to = mesh.corner(h);
        const int32_t edge = opposite_to(mesh, h, from);
        if (mesh.ends_at(edge)) return edge;
        h = mesh.twin(edge);
        from = to;
    }
    return -1;
}

RG_END
