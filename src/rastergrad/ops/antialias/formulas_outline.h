// SPDX-License-Identifier: MIT
// Where outlines run between two neighbouring pixels, and how much of a pixel they uncover (docs/definition.md 5.8). F is one number, or
// a dual number in tests.
// Everything is homogeneous: a point is (along, across, z, w) as seen from the first pixel of a pair, along and across in pixels times w,
// along toward the second pixel. Points behind the eye (w <= 0) need no special case: a line on the screen is the cross product
// of two of its points, and a crossing is compared before anything is divided by its w.
#pragma once
#include "vec.h"

RG_BEGIN

// Of a clip-space vertex. half = (W/2, H/2); origin: the pixel's centre relative to the centre of the image, in pixels.
template <class F> RG_FN Vec4<F> seen_from(Vec4<F> clip, Vec2<F> half, Vec2<F> origin) {
    return {half.x * clip.x - origin.x * clip.w, half.y * clip.y - origin.y * clip.w, clip.z, clip.w};
}
template <class F> RG_FN Vec4<F> seen_from_adjoint(Vec2<F> half, Vec2<F> origin, Vec4<F> d) {
    return {half.x * d.x, half.y * d.y, d.z, d.w - origin.x * d.x - origin.y * d.y};
}
// Of a vertical pair: along is y.
template <class F> RG_FN Vec4<F> turned(Vec4<F> p) { return {p.y, p.x, p.z, p.w}; }
// From the second pixel toward the first.
template <class F> RG_FN Vec4<F> from_second(Vec4<F> p) { return {p.w - p.x, p.y, p.z, p.w}; }
template <class F> RG_FN Vec3<F> on_screen(Vec4<F> p) { return {p.x, p.y, p.w}; }

// Which side of the line through both centres. A NaN lies below.
template <class F> RG_FN mask_of<F> lies_above(Vec4<F> p) { return p.y >= F(0); }

// Where an edge from below to above meets the line through both centres: at along/w, with depth z/w. The common factor is positive.
template <class F> struct Crossing { F along, z, w; };
template <class F> RG_FN Crossing<F> crossing_of(Vec4<F> below, Vec4<F> above) {
    return {below.x * above.y - above.x * below.y, below.z * above.y - above.z * below.y, below.w * above.y - above.w * below.y};
}
// On the way through a triangle from crossing a to crossing b: whether that leads along. True to the screen even where one end is behind the eye.
template <class F> RG_FN mask_of<F> leads_along(Crossing<F> a, Crossing<F> b) { return b.along * a.w > a.along * b.w; }
// Whether the way has reached `goal` before this crossing. Behind the eye it has: on the screen it led to infinity.
template <class F> RG_FN mask_of<F> lies_beyond(Crossing<F> c, F goal) { return (c.along >= goal * c.w) | !(c.w > F(0)); }
// Rounded vertices let a pixel show a triangle that ends just before its centre, and not show one that ends just behind it: by
// up to 1/16 pixel along.
constexpr double kSlackPx = 0.0625;
template <class F> RG_FN mask_of<F> lies_behind_start(Crossing<F> c) { return c.along < F(-kSlackPx) * c.w; }

// Twice the signed area on the screen times the three w, or its sign at least where a corner is behind the eye: differences first, so
// that triangles far smaller than their distance keep their sign. (Homogeneous determinant: Olano and Greer 1997.)
template <class F> RG_FN F facing(Vec3<F> p0, Vec3<F> p1, Vec3<F> p2) { return dot(p0, cross(p1 - p0, p2 - p0)); }

// The line (l.x along + l.y across + l.z = 0) from p1 to p2; its direction on the screen is (l.y, -l.x).
template <class F> RG_FN Vec3<F> line_through(Vec4<F> p1, Vec4<F> p2) { return cross(on_screen(p1), on_screen(p2)); }
template <class F> RG_FN Vec2<F> direction(Vec3<F> line) { return {line.y, -line.x}; }
// At least as steep as a diagonal. Vertical pairs take what is steeper than that, so that a diagonal is taken once.
template <class F> RG_FN mask_of<F> is_steep(Vec3<F> line, bool strictly) {
    return strictly ? abs_of(line.x) > abs_of(line.y) : abs_of(line.x) >= abs_of(line.y);
}
// An outline is followed so far from where it crosses between the centres.
template <class F> RG_FN mask_of<F> lies_near(F along) { return abs_of(along) <= F(1.5); }
template <class F> RG_FN F along_at(Vec3<F> line, F across) { return -(line.y * across + line.z) / line.x; }

// What the piece of an outline from across = y0 to y1 takes off a pixel: the area between the border of the two pixels and the piece, as far as it lies
// in this pixel. u0 and u1 are the distances of the ends from the border, positive in this pixel. `length` is the part of the
// piece (measured across) that lies in this pixel, `middle` its middle: moving the piece there changes the area.
template <class F> struct Share { F area, length, middle; };
template <class F> RG_FN Share<F> share_of(F u0, F u1, F y0, F y1) {
    const F height = abs_of(y1 - y0), du = u1 - u0;
    const mask_of<F> level = du == F(0);
    const F per = F(1) / select(level, F(1), du);
    const F enters = select(level, select(u0 > F(0), F(0), F(1)), -u0 * per), leaves = select(level, select(u0 < F(1), F(1), F(0)), (F(1) - u0) * per);
    const F s0 = minimum(maximum(minimum(enters, leaves), F(0)), F(1)), s1 = minimum(maximum(maximum(enters, leaves), F(0)), F(1));
    const F inside = s1 - s0, mean = u0 + du * (F(0.5) * (s0 + s1));
    // Where the piece lies beyond the pixel all of it is taken.
    const F beyond = select(level, select(u0 >= F(1), F(1), F(0)), select(du > F(0), F(1) - s1, s0));
    return {height * (inside * mean + beyond), height * inside, y0 + (y1 - y0) * (F(0.5) * (s0 + s1))};
}

// The gradient of both ends of a piece's edge when `d_along` is the one of every point of a stretch of it, per unit across.
// along = -(l.y across + l.z) / l.x, so over the stretch d_l = -d_along length / l.x (along, across, 1) at its middle.
template <class F>
RG_FN void stretch_adjoint(Vec4<F> p1, Vec4<F> p2, Vec3<F> line, F length, F middle, F d_along, Vec4<F>& d_p1, Vec4<F>& d_p2) {
    const F scale = -d_along * length / line.x;
    const Vec3<F> d_line = scale * Vec3<F>{along_at(line, middle), middle, F(1)};
    const Vec3<F> d1 = cross(on_screen(p2), d_line), d2 = cross(d_line, on_screen(p1));
    d_p1 = d_p1 + Vec4<F>{d1.x, d1.y, F(0), d1.z};
    d_p2 = d_p2 + Vec4<F>{d2.x, d2.y, F(0), d2.z};
}

// Depth as a plane over the screen: z/w = slope . (along, across, 1).
template <class F> RG_FN Vec3<F> depth_plane(const Vec4<F> (&p)[3]) {
    const Vec3<F> n0 = cross(on_screen(p[1]), on_screen(p[2])), n1 = cross(on_screen(p[2]), on_screen(p[0])),
                  n2 = cross(on_screen(p[0]), on_screen(p[1]));
    return (F(1) / dot(on_screen(p[0]), n0)) * (p[0].z * n0 + p[1].z * n1 + p[2].z * n2);
}
// For `d_depth` of the plane at the point (along, 0): with weights l such that sum l_k p_k = (along, 0, 1), it is
// l_k for z_k and -l_k slope for p_k.
template <class F> RG_FN void depth_plane_adjoint(const Vec4<F> (&p)[3], Vec3<F> slope, F along, F d_depth, Vec4<F> (&d_p)[3]) {
    const F inverse = F(1) / dot(on_screen(p[0]), cross(on_screen(p[1]), on_screen(p[2])));
    for (int k = 0; k < 3; k++) {
        const F weight = d_depth * inverse * dot(cross(on_screen(p[(k + 1) % 3]), on_screen(p[(k + 2) % 3])), Vec3<F>{along, F(0), F(1)});
        d_p[k] = d_p[k] + Vec4<F>{-weight * slope.x, -weight * slope.y, weight, -weight * slope.z};
    }
}

// The depth of a plane, or the gap between two, on the line through both centres.
template <class F> RG_FN F depth_at(Vec3<F> plane, F along) { return plane.x * along + plane.z; }
// Where a gap closes, and for `d_along` of that place the gradient of the gap there.
template <class F> RG_FN F meeting_place(Vec3<F> gap) { return -gap.z / gap.x; }
template <class F> RG_FN F meeting_place_adjoint(Vec3<F> gap, F d_along) { return -d_along / gap.x; }
// Surfaces whose depths change by less against each other from one centre to the next, eight steps of a float32 depth, coincide.
template <class F> constexpr F kCoincident = F(9.5367431640625e-7);  // 2^-20
// Horizontal pairs blend where two surfaces meet in a line at least as steep as a diagonal; vertical pairs take what is flatter.
template <class F> RG_FN mask_of<F> is_steep_gap(Vec3<F> gap, bool strictly) {
    return strictly ? abs_of(gap.x) > abs_of(gap.y) : abs_of(gap.x) >= abs_of(gap.y);
}

// A pixel of which more than all is taken gives what it has, in proportion.
template <class F> RG_FN F proportion(F taken) { return F(1) / maximum(taken, F(1)); }
// The gradient of what one neighbour takes, `slope` being that of its share of the colour: where more than all is taken each share weighs less
// as the others grow. `crowd`: the sum of taken times slope over all neighbours.
template <class F> RG_FN F taken_adjoint(F taken, F slope, F crowd) {
    const F part = proportion(taken);
    return part * (slope - select(taken > F(1), part * crowd, F(0)));
}

RG_END
