// SPDX-License-Identifier: MIT
// What lies between two neighbouring pixels: an outline, the line in which two surfaces meet, or nothing (docs/definition.md 5.8). One lane of
// work, for any processor; Mesh and View as in surface.h.
#pragma once
#include "surface.h"

RG_BEGIN

constexpr double kBorder = 0.5;       // between the two pixels, as seen from the first centre
constexpr int kMostMeetingSteps = 32;  // towards the point where two surfaces meet: one for each bend on the way, or a bit of its place

// A straight piece of an outline within the row of the pair, and what it takes off the two pixels.
template <class F> struct Piece {
    int32_t vertex1, vertex2;  // the edge's ends, or -1: the outline's last direction goes on without it
    Share<F> of0, of1;
};

enum class Between { kNothing, kOutline, kMeeting };

// What two walks have found. An outline edge crosses at distance `along` from the first centre.
template <class F> struct Found {
    Between what;
    int32_t half_edge, below, above;
    F along;
    int32_t triangle0, triangle1, under0, under1;  // of a meeting: what the two pixels show, and what lies behind it
    int32_t steps;
    bool lost;  // by the limit of a walk
};

template <class F> RG_FN bool gave_up(const Walk<F>& w) { return w.end == WalkEnd::kLost && w.steps == kMostSteps; }

template <class Mesh> RG_FN bool share_a_vertex(const Mesh& mesh, int32_t a, int32_t b) {
    const int32_t b0 = mesh.corner(3 * b), b1 = mesh.corner(3 * b + 1), b2 = mesh.corner(3 * b + 2);
    bool shared = false;
    for (int k = 0; k < 3; k++) {
        const int32_t v = mesh.corner(3 * a + k);
        shared |= (v == b0) | (v == b1) | (v == b2);
    }
    return shared;
}

// triangle0 and triangle1 are what the two pixels show, -1 for nothing. `view` is that from the first pixel, `back` from the second.
template <class F, class Mesh, class View, class BackView>
RG_FN Found<F> find_between(const Mesh& mesh, const View& view, const BackView& back, int32_t triangle0, int32_t triangle1) {
    Found<F> found{Between::kNothing, -1, -1, -1, F(0), triangle0, triangle1, -1, -1, 0, false};
    Walk<F> from0{WalkEnd::kLost, -1, -1, -1, -1, {F(0), F(0), F(1)}, 0}, from1 = from0;
    if (triangle0 >= 0) from0 = walk<F>(mesh, view, triangle0, triangle1, F(1), F(1 + kSlackPx));
    if (from0.end != WalkEnd::kNeighbour && triangle1 >= 0) from1 = walk<F>(mesh, back, triangle1, triangle0, F(1), F(1 + kSlackPx));
    found.steps = from0.steps + from1.steps;
    found.lost = gave_up(from0) || gave_up(from1);
    if (from0.end == WalkEnd::kNeighbour || from1.end == WalkEnd::kNeighbour) return found;
    const bool hit0 = from0.end == WalkEnd::kOutline, hit1 = from1.end == WalkEnd::kOutline;
    if (!hit0 && !hit1) {
        if (from0.end != WalkEnd::kGoal || from1.end != WalkEnd::kGoal || share_a_vertex(mesh, triangle0, triangle1)) return found;
        found.what = Between::kMeeting;
        found.under0 = from1.arrived;
        found.under1 = from0.arrived;
        return found;
    }
    // Of two surfaces that end the nearer one hides what the other does.
    const bool first = hit0 && !(hit1 && from1.at.z * from0.at.w < from0.at.z * from1.at.w);
    const Walk<F>& hit = first ? from0 : from1;
    const F distance = hit.at.along / hit.at.w;
    found.what = Between::kOutline;
    found.half_edge = hit.half_edge;
    found.below = hit.below;
    found.above = hit.above;
    found.along = first ? distance : F(1) - distance;
    return found;
}

// Calls emit(piece, p1, p2, line) for each piece of the outline within the row, from the crossing up and from the crossing down.
// `strictly`: see is_steep.
template <class F, class Mesh, class View, class Emit>
RG_FN void follow_outline(const Mesh& mesh, const View& view, const Found<F>& found, bool strictly, Emit&& emit) {
    for (int way = 0; way < 2; way++) {
        const F sign = way == 0 ? F(1) : F(-1);
        const F row_end = F(0.5) * sign;
        int32_t h = found.half_edge, from = way == 0 ? found.below : found.above, to = way == 0 ? found.above : found.below;
        Vec4<F> p_from = view.at(from), p_to = view.at(to);
        Vec3<F> line = line_through(p_from, p_to);
        F along = found.along, across = F(0);
        bool whole = false;
        for (int edges = 0; edges < kMostOutlineEdges; edges++) {
            const F end = p_to.w > F(0) ? p_to.y / p_to.w : sign * F(1e30);
            whole = !(sign * end < F(0.5));
            const F until = whole ? row_end : end;
            const bool steep = is_steep(line, strictly) && line.x != F(0);
            if (steep && sign * until > sign * across) {
                const F u0 = along_at(line, across) - F(kBorder), u1 = along_at(line, until) - F(kBorder);
                emit(Piece<F>{from, to, share_of(-u0, -u1, across, until), share_of(u0, u1, across, until)}, p_from, p_to, line);
            }
            if (whole) break;
            along = p_to.x / p_to.w;
            across = until;
            int32_t next = -1;
            const int32_t edge = next_outline_edge(mesh, h, from, next);
            if (edge < 0) break;
            const Vec4<F> p_next = view.at(next);
            const Vec3<F> next_line = line_through(p_to, p_next);
            // It goes on as long as it leads on through the row and does not turn back.
            if (!(sign * direction(next_line).y > F(0)) || !(dot(direction(line), direction(next_line)) > F(0))) break;
            if (!lies_near(along - found.along)) break;
            h = edge;
            from = to;
            to = next;
            p_from = p_to;
            p_to = p_next;
            line = next_line;
        }
        // An outline that leaves almost along the pair ends in the row, but pixels away: nothing of it is theirs.
        if (!whole && sign * row_end > sign * across && lies_near(along - found.along)) {
            const F u = minimum(maximum(along - F(kBorder), F(-1)), F(1));
            // Half of it: where the outline turns into the other direction the pairs of that direction go on as well.
            const F height = F(0.5) * (row_end - across);
            emit(Piece<F>{-1, -1, share_of(-u, -u, F(0), height), share_of(u, u, F(0), height)}, p_from, p_to, line);
        }
    }
}

// Where two surfaces pass through each other between the centres, and the triangles that do so there.
template <class F> struct Meeting {
    int32_t triangle0, triangle1;
    F along;
    Share<F> of0, of1;
};

template <class F, class Mesh, class View> RG_FN void corners_of(const Mesh& mesh, const View& view, int32_t triangle, Vec4<F> (&p)[3]) {
    for (int k = 0; k < 3; k++) p[k] = view.at(mesh.corner(3 * triangle + k));
}
template <class F, class Mesh, class View> RG_FN Vec3<F> plane_of(const Mesh& mesh, const View& view, int32_t triangle) {
    Vec4<F> p[3];
    corners_of(mesh, view, triangle, p);
    return depth_plane(p);
}

// Whether the two surfaces change places between the centres: the first is nearer at the first centre, the second at the second. Between
// them they may bend; the bracket of the meeting point is narrowed until both triangles there have been seen.
template <class F, class Mesh, class View, class BackView, class Other>
RG_FN bool find_meeting(const Mesh& mesh, const View& view, const BackView& back, const Found<Other>& found, bool strictly, Meeting<F>& m) {
    constexpr int32_t kNone = -2;
    const int32_t triangle0 = found.triangle0, triangle1 = found.triangle1;
    F low = F(0), high = F(1);
    const F gap_low = depth_at(plane_of<F>(mesh, view, triangle0), low) - depth_at(plane_of<F>(mesh, view, found.under0), low);
    const F gap_high = depth_at(plane_of<F>(mesh, view, found.under1), high) - depth_at(plane_of<F>(mesh, view, triangle1), high);
    if (!(gap_low <= F(0)) || !(gap_high >= F(0)) || !(gap_high - gap_low > kCoincident<F>)) return false;
    m.triangle0 = m.triangle1 = -1;
    F along = low - gap_low * (high - low) / (gap_high - gap_low);
    bool is_root = false;  // of the two triangles seen last
    Vec3<F> gap{F(0), F(0), F(0)};
    for (int step = 0; step < kMostMeetingSteps; step++) {
        const Walk<F> to0 = walk<F>(mesh, view, triangle0, kNone, along, along);
        const Walk<F> to1 = walk<F>(mesh, back, triangle1, kNone, F(1) - along, F(1) - along);
        if (to0.end != WalkEnd::kGoal || to1.end != WalkEnd::kGoal) return false;
        const int32_t there0 = to0.arrived, there1 = to1.arrived;
        if (is_root && there0 == m.triangle0 && there1 == m.triangle1) break;
        m.triangle0 = there0;
        m.triangle1 = there1;
        gap = plane_of<F>(mesh, view, there0) - plane_of<F>(mesh, view, there1);
        const F root = meeting_place(gap);
        // Within the bracket, but not at an end that has been looked at: two triangles could send each other there for ever. `along` itself
        // may be an ulp beyond its own root.
        const bool before = depth_at(gap, along) <= F(0);
        is_root = gap.x > F(0) && (before ? root < high || (root == high && high == F(1)) : root > low || (root == low && low == F(0)));
        (before ? low : high) = along;
        along = is_root ? root : F(0.5) * (low + high);
    }
    if (!is_root || !(gap.x > kCoincident<F>) || !is_steep_gap(gap, strictly)) return false;
    m.along = along;
    const F u = along - F(kBorder);
    m.of0 = share_of(-u, -u, F(-0.5), F(0.5));
    m.of1 = share_of(u, u, F(-0.5), F(0.5));
    return true;
}

RG_END
