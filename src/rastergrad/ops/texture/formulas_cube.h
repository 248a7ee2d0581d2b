// SPDX-License-Identifier: MIT
// Cube maps (docs/definition.md 4.5; OpenGL's orientation of faces +x, -x, +y, -y, +z, -z). A direction is turned into the axes of its face,
// (sc, tc, ma): ma is the distance along the face's normal, s = (sc / ma + 1) / 2, t = (tc / ma + 1) / 2. The turn is a signed
// permutation, so its inverse carries gradients back.
#pragma once
#include "formulas.h"
#include "formulas_level.h"
#include "vec.h"

RG_BEGIN

template <class F> struct CubeFace {
    mask_of<F> y, z;  // axis of the normal; x if neither
    F sign;           // of the normal
};

// Ties: x before y before z.
template <class F> RG_FN CubeFace<F> cube_face(Vec3<F> d) {
    const F ax = abs_of(d.x), ay = abs_of(d.y), az = abs_of(d.z);
    const F others = maximum(ax, ay);
    const mask_of<F> z = az > others, y = (az <= others) & (ay > ax);
    const F major = select(z, d.z, select(y, d.y, d.x));
    return {y, z, select(major < F(0), F(-1), F(1))};
}

template <class F> RG_FN Vec3<F> into_face(CubeFace<F> f, Vec3<F> d) {
    return {select(f.z, f.sign * d.x, select(f.y, d.x, -(f.sign * d.z))),
            select(f.y, f.sign * d.z, -d.y),
            f.sign * select(f.z, d.z, select(f.y, d.y, d.x))};
}
template <class F> RG_FN Vec3<F> out_of_face(CubeFace<F> f, Vec3<F> v) {
    return {select(f.z, f.sign * v.x, select(f.y, v.x, f.sign * v.z)),
            select(f.y, f.sign * v.z, -v.y),
            select(f.z, f.sign * v.z, select(f.y, f.sign * v.y, -(f.sign * v.x)))};
}
template <class F> RG_FN F face_number(CubeFace<F> f) {
    return select(f.z, F(4), select(f.y, F(2), F(0))) + select(f.sign < F(0), F(1), F(0));
}

// The point where a direction meets its face.
template <class F> struct CubePoint {
    CubeFace<F> face;
    Vec3<F> v;          // the direction in the axes of the face
    F reciprocal;       // 1 / ma
    F p, q;             // sc / ma, tc / ma
    mask_of<F> valid;   // not so: the zero vector, NaN, two infinities, a length whose reciprocal overflows
};
template <class F> RG_FN CubePoint<F> cube_point(Vec3<F> d) {
    CubePoint<F> c;
    c.face = cube_face(d);
    c.v = into_face(c.face, d);
    c.reciprocal = F(1) / c.v.z;
    c.p = c.v.x * c.reciprocal;
    c.q = c.v.y * c.reciprocal;
    c.valid = is_finite(c.reciprocal) & is_finite(c.p) & is_finite(c.q);
    return c;
}
// p or q as a texture coordinate; the clamp removes rounding only and is not differentiated.
template <class F> RG_FN F face_coordinate(F p) { return clamped(F(0.5) * p + F(0.5), F(0), F(1)); }

// ds/dX from the derivative of the direction by X, already turned into the face; likewise t and Y.
template <class F> RG_FN F face_derivative(F reciprocal, F p, F sc_x, F ma_x) { return F(0.5) * reciprocal * (sc_x - p * ma_x); }

// Derivatives of the direction by pixels, turned into the face.
template <class F> struct FaceDerivatives { Vec3<F> x, y; };

template <class F> RG_FN Derivatives<F> face_derivatives(const CubePoint<F>& c, FaceDerivatives<F> d) {
    return {face_derivative(c.reciprocal, c.p, d.x.x, d.x.z), face_derivative(c.reciprocal, c.p, d.y.x, d.y.z),
            face_derivative(c.reciprocal, c.q, d.x.y, d.x.z), face_derivative(c.reciprocal, c.q, d.y.y, d.y.z)};
}
// Gradient of the derivatives of the direction, for upstream g; still in the axes of the face.
template <class F> RG_FN FaceDerivatives<F> face_derivatives_adjoint(const CubePoint<F>& c, Derivatives<F> g) {
    const F half = F(0.5) * c.reciprocal;
    return {{half * g.s_x, half * g.t_x, -half * (c.p * g.s_x + c.q * g.t_x)},
            {half * g.s_y, half * g.t_y, -half * (c.p * g.s_y + c.q * g.t_y)}};
}
// Gradient of the direction for upstream (g_s, g_t) at the coordinates; in the axes of the face.
template <class F> RG_FN Vec3<F> face_coordinate_adjoint(const CubePoint<F>& c, F g_s, F g_t) {
    const F half = F(0.5) * c.reciprocal;
    return {half * g_s, half * g_t, -half * (c.p * g_s + c.q * g_t)};
}
// Gradient of the direction through face_derivatives: p, q and 1 / ma depend on it.
template <class F> RG_FN Vec3<F> face_derivatives_point_adjoint(const CubePoint<F>& c, FaceDerivatives<F> d, Derivatives<F> g) {
    const F half = F(0.5) * c.reciprocal;
    const F d_p = -half * (d.x.z * g.s_x + d.y.z * g.s_y), d_q = -half * (d.x.z * g.t_x + d.y.z * g.t_y);
    const F d_reciprocal = F(0.5) * ((d.x.x - c.p * d.x.z) * g.s_x + (d.y.x - c.p * d.y.z) * g.s_y +
                                     (d.x.y - c.q * d.x.z) * g.t_x + (d.y.y - c.q * d.y.z) * g.t_y);
    const F d_ma = -c.reciprocal * (c.reciprocal * d_reciprocal + c.p * d_p + c.q * d_q);
    return {c.reciprocal * d_p, c.reciprocal * d_q, d_ma};
}

// Texel (i, j), one step outside the face along one axis, on the face next to it: fold that face flat, and the texel touches the shared
// edge at the same place. Its centre lies 1/size inside, seen from the edge. Inside the face nothing changes.
template <class F> struct CubeTexel { F face, i, j; };
template <class F> RG_FN CubeTexel<F> across_edge(CubeFace<F> face, F i, F j, F size) {
    const mask_of<F> inside = on_axis(i, size) & on_axis(j, size);
    const F step = F(1) / size;
    const F sc = clamped((F(2) * i + F(1)) * step - F(1), F(-1), F(1)), tc = clamped((F(2) * j + F(1)) * step - F(1), F(-1), F(1));
    const CubePoint<F> there = cube_point(out_of_face(face, Vec3<F>{sc, tc, F(1) - step}));
    const F last = size - F(1);
    return {select(inside, face_number(face), face_number(there.face)),
            select(inside, i, clamped(floor_of(face_coordinate(there.p) * size), F(0), last)),
            select(inside, j, clamped(floor_of(face_coordinate(there.q) * size), F(0), last))};
}

RG_END
