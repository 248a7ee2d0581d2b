// SPDX-License-Identifier: MIT
// A mesh and its views in memory for the lane functions of surface.h and outline.h; what a pair takes off its pixels, and the adjoint of that.
#pragma once
#include "outline.h"

RG_BEGIN

struct MeshTables {
    const int32_t *tri, *twins;
    const uint8_t* edges;  // see OutlineEdges
    RG_FN int32_t corner(int32_t h) const { return tri[h]; }
    RG_FN int32_t twin(int32_t h) const { return twins[h]; }
    RG_FN bool ends_at(int32_t h) const { return edges[h / 3] >> (h % 3) & 1; }
    RG_FN bool adjoins(int32_t t, int32_t other) const {
        for (int k = 0; k < 3; k++) {
            const int32_t twin = twins[3 * int64_t(t) + k];
            if (twin >= 0 && twin / 3 == other) return true;
        }
        return false;
    }
    // Over an edge at which the surface goes on.
    RG_FN bool continues_to(int32_t t, int32_t other) const {
        for (int k = 0; k < 3; k++)
            if (!(edges[t] >> k & 1) && twins[3 * int64_t(t) + k] / 3 == other) return true;
        return false;
    }
};

// Vertices as seen from a pixel toward the next one in a row, or, turned, in a column.
template <class T, class F> struct PixelView {
    const T* pos;
    Vec2<F> half, origin;
    bool vertical;
    RG_FN Vec4<F> at(int32_t v) const {
        const T* p = pos + 4 * int64_t(v);
        const Vec4<F> seen = seen_from(Vec4<F>{F(p[0]), F(p[1]), F(p[2]), F(p[3])}, half, origin);
        return vertical ? turned(seen) : seen;
    }
    // Adds what a gradient of at(v) is for the clip-space vertex.
    RG_FN Vec4<F> adjoint(Vec4<F> d) const { return seen_from_adjoint(half, origin, vertical ? turned(d) : d); }
};
template <class View> struct BackView {
    const View& view;
    RG_FN auto at(int32_t v) const { return from_second(view.at(v)); }
};

// What is taken of the first pixel for the second one's colour, and the other way round.
template <class T> struct Taken { T of0, of1; };

template <class T> RG_FN bool takes_anything(Taken<T> taken) {
    return is_finite(taken.of0) && is_finite(taken.of1) && (taken.of0 > T(0) || taken.of1 > T(0));
}

// For what two walks have found. `view(F)` is the pair's view in the number type of its argument: of a meeting the two depths are too alike for
// float32. Nothing where there is no outline and no meeting.
template <class T, class ViewOf>
RG_FN Taken<T> taken_by(const MeshTables& mesh, ViewOf&& view, const Found<T>& found, bool vertical, bool intersections, Meeting<double>& meeting) {
    Taken<T> taken{T(0), T(0)};
    if (found.what == Between::kOutline) {
        follow_outline<T>(mesh, view(T()), found, vertical, [&](const Piece<T>& piece, const Vec4<T>&, const Vec4<T>&, const Vec3<T>&) {
            taken.of0 += piece.of0.area;
            taken.of1 += piece.of1.area;
        });
    } else if (found.what == Between::kMeeting && intersections) {
        const PixelView<T, double> exact = view(double());
        if (find_meeting(mesh, exact, BackView<PixelView<T, double>>{exact}, found, vertical, meeting))
            taken = {T(meeting.of0.area), T(meeting.of1.area)};
    }
    return taken;
}

template <class T, class F> RG_FN bool all_finite(Vec4<F> d) { return is_finite(T(d.x)) && is_finite(T(d.y)) && is_finite(T(d.z)) && is_finite(T(d.w)); }

// Gradients of the vertices behind one pair, for those of what is taken: append(vertex, gradient) for each. What is not finite is left out.
template <class T, class Append>
RG_FN void outline_adjoint(const MeshTables& mesh, const PixelView<T, T>& seen, const Found<T>& found, bool vertical, Taken<T> d_taken, Append&& append) {
    follow_outline<T>(mesh, seen, found, vertical, [&](const Piece<T>& piece, const Vec4<T>& p1, const Vec4<T>& p2, const Vec3<T>& line) {
        if (piece.vertex1 < 0) return;
        // Moving the outline along takes less off the first pixel and more off the second.
        Vec4<T> d1{T(0), T(0), T(0), T(0)}, d2 = d1;
        stretch_adjoint(p1, p2, line, piece.of0.length, piece.of0.middle, -d_taken.of0, d1, d2);
        stretch_adjoint(p1, p2, line, piece.of1.length, piece.of1.middle, d_taken.of1, d1, d2);
        d1 = seen.adjoint(d1);
        d2 = seen.adjoint(d2);
        if (!all_finite<T>(d1) || !all_finite<T>(d2)) return;
        append(piece.vertex1, d1);
        append(piece.vertex2, d2);
    });
}
template <class T, class Append>
RG_FN void meeting_adjoint(const MeshTables& mesh, const PixelView<T, double>& seen, const Meeting<double>& m, Taken<T> d_taken, Append&& append) {
    Vec4<double> p[2][3], d[2][3] = {};
    corners_of(mesh, seen, m.triangle0, p[0]);
    corners_of(mesh, seen, m.triangle1, p[1]);
    const Vec3<double> plane0 = depth_plane(p[0]), plane1 = depth_plane(p[1]);
    const double d_along = m.of1.length * double(d_taken.of1) - m.of0.length * double(d_taken.of0);
    const double d_gap = meeting_place_adjoint(plane0 - plane1, d_along);
    depth_plane_adjoint(p[0], plane0, m.along, d_gap, d[0]);
    depth_plane_adjoint(p[1], plane1, m.along, -d_gap, d[1]);
    for (int side = 0; side < 2; side++)
        for (int k = 0; k < 3; k++) {
            d[side][k] = seen.adjoint(d[side][k]);
            if (!all_finite<T>(d[side][k])) return;
        }
    for (int side = 0; side < 2; side++)
        for (int k = 0; k < 3; k++) append(mesh.corner(3 * (side == 0 ? m.triangle0 : m.triangle1) + k), d[side][k]);
}

RG_END
