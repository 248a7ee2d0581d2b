// SPDX-License-Identifier: MIT
// Small vectors of any number type F, for formulas.
#pragma once
#include "portable.h"

RG_BEGIN

template <class F> struct Vec2 {
    F x, y;
    friend RG_FN Vec2 operator+(Vec2 a, Vec2 b) { return {a.x + b.x, a.y + b.y}; }
    friend RG_FN Vec2 operator-(Vec2 a, Vec2 b) { return {a.x - b.x, a.y - b.y}; }
    friend RG_FN Vec2 operator*(F s, Vec2 a) { return {s * a.x, s * a.y}; }
};

template <class F> struct Vec3 {
    F x, y, z;
    friend RG_FN Vec3 operator+(Vec3 a, Vec3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
    friend RG_FN Vec3 operator-(Vec3 a, Vec3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
    friend RG_FN Vec3 operator*(F s, Vec3 a) { return {s * a.x, s * a.y, s * a.z}; }
};

template <class F> struct Vec4 {
    F x, y, z, w;
    friend RG_FN Vec4 operator+(Vec4 a, Vec4 b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }
    friend RG_FN Vec4 operator-(Vec4 a, Vec4 b) { return {a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w}; }
    friend RG_FN Vec4 operator*(F s, Vec4 a) { return {s * a.x, s * a.y, s * a.z, s * a.w}; }
};

template <class F> RG_FN F dot(Vec2<F> a, Vec2<F> b) { return a.x * b.x + a.y * b.y; }
template <class F> RG_FN F dot(Vec3<F> a, Vec3<F> b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
template <class F> RG_FN F dot(Vec4<F> a, Vec4<F> b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }
// z component of the cross product: twice the signed area of the triangle (0, a, b).
template <class F> RG_FN F cross(Vec2<F> a, Vec2<F> b) { return a.x * b.y - a.y * b.x; }
template <class F> RG_FN Vec3<F> cross(Vec3<F> a, Vec3<F> b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

RG_END
