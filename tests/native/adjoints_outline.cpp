// SPDX-License-Identifier: MIT
// The adjoints of antialias' outline method. One line per formula; the exit status is the number of those that fail.
#include "ops/antialias/formulas_outline.h"
#include "proof.h"

RG_BEGIN
namespace {

constexpr double kLow = -0.4, kHigh = 0.3;  // the range of an edge's piece

// Numbers around the origin for places, away from zero for w: what is behind the eye is no piece.
template <class F> Vec4<F> corner(const F* x) { return {x[0], x[1], F(0), x[2] + F(1.5)}; }

template <class F> void areas(const F* x, F* out) {
    const Vec3<F> line = line_through(corner(x), corner(x + 3));
    const F u0 = along_at(line, F(kLow)) - F(0.5), u1 = along_at(line, F(kHigh)) - F(0.5);
    out[0] = share_of(-u0, -u1, F(kLow), F(kHigh)).area;
    out[1] = share_of(u0, u1, F(kLow), F(kHigh)).area;
}
void areas_adjoint(const double* x, const double* g, double* d) {
    const Vec4<double> p1 = corner(x), p2 = corner(x + 3);
    const Vec3<double> line = line_through(p1, p2);
    const double u0 = along_at(line, kLow) - 0.5, u1 = along_at(line, kHigh) - 0.5;
    const Share<double> first = share_of(-u0, -u1, kLow, kHigh), second = share_of(u0, u1, kLow, kHigh);
    Vec4<double> d1{0, 0, 0, 0}, d2{0, 0, 0, 0};
    stretch_adjoint(p1, p2, line, first.length, first.middle, -g[0], d1, d2);
    stretch_adjoint(p1, p2, line, second.length, second.middle, g[1], d1, d2);
    d[0] = d1.x; d[1] = d1.y; d[2] = d1.w; d[3] = d2.x; d[4] = d2.y; d[5] = d2.w;
}

// Three corners on three sides of the line between two pixels, so that no weight is far outside of 0..1.
template <class F> void triangle(const F* x, Vec4<F> (&p)[3]) {
    for (int k = 0; k < 3; k++) p[k] = {x[4 * k] + F(3 * k - 3), x[4 * k + 1] + F(k == 1 ? 4 : -3), x[4 * k + 2], x[4 * k + 3] + F(2)};
}

}  // namespace

int prove_all() {
    const Vec2<double> half{320, 240}, origin{7, 9};
    prove<4, 4>("outline: seen_from",
        [](const auto* x, auto* out) {
            using F = Dual<4>;
            const Vec4<F> p = seen_from(Vec4<F>{x[0], x[1], x[2], x[3]}, Vec2<F>{F(320), F(240)}, Vec2<F>{F(7), F(9)});
            out[0] = p.x; out[1] = p.y; out[2] = p.z; out[3] = p.w;
        },
        [&](const double*, const double* g, double* d) {
            const Vec4<double> v = seen_from_adjoint(half, origin, Vec4<double>{g[0], g[1], g[2], g[3]});
            d[0] = v.x; d[1] = v.y; d[2] = v.z; d[3] = v.w;
        });
    prove<6, 2>("outline: share_of a piece", [](const auto* x, auto* out) { areas(x, out); }, areas_adjoint);
    prove<12, 1>("outline: depth_plane",
        [](const auto* x, auto* out) {
            Vec4<Dual<12>> p[3];
            triangle(x, p);
            out[0] = depth_at(depth_plane(p), Dual<12>(0.3));
        },
        [](const double* x, const double* g, double* d) {
            Vec4<double> p[3], d_p[3] = {};
            triangle(x, p);
            depth_plane_adjoint(p, depth_plane(p), 0.3, g[0], d_p);
            for (int k = 0; k < 3; k++) { d[4 * k] = d_p[k].x; d[4 * k + 1] = d_p[k].y; d[4 * k + 2] = d_p[k].z; d[4 * k + 3] = d_p[k].w; }
        });
    // Two triangles; the second one's depth leans the other way.
    prove<24, 1>("outline: meeting_place",
        [](const auto* x, auto* out) {
            using F = Dual<24>;
            Vec4<F> p[2][3];
            triangle(x, p[0]);
            triangle(x + 12, p[1]);
            for (int k = 0; k < 3; k++) p[1][k].z = p[1][k].z - F(4 * (k - 1));
            out[0] = meeting_place(depth_plane(p[0]) - depth_plane(p[1]));
        },
        [](const double* x, const double* g, double* d) {
            Vec4<double> p[2][3], d_p[2][3] = {};
            triangle(x, p[0]);
            triangle(x + 12, p[1]);
            for (int k = 0; k < 3; k++) p[1][k].z -= 4 * (k - 1);
            const Vec3<double> plane0 = depth_plane(p[0]), plane1 = depth_plane(p[1]), gap = plane0 - plane1;
            const double along = meeting_place(gap), d_gap = meeting_place_adjoint(gap, g[0]);
            depth_plane_adjoint(p[0], plane0, along, d_gap, d_p[0]);
            depth_plane_adjoint(p[1], plane1, along, -d_gap, d_p[1]);
            for (int k = 0; k < 6; k++) {
                const Vec4<double>& v = d_p[k / 3][k % 3];
                d[4 * k] = v.x; d[4 * k + 1] = v.y; d[4 * k + 2] = v.z; d[4 * k + 3] = v.w;
            }
        });
    // What two neighbours of other colours do to a pixel: 0.2 to 2.2 of it is taken.
    prove<2, 1>("outline: taken_adjoint",
        [](const auto* x, auto* out) {
            using F = Dual<2>;
            const F a = x[0] * F(0.5) + F(0.6), b = x[1] * F(0.5) + F(0.6);
            out[0] = proportion(a + b) * (a * F(0.7) + b * F(-0.4));
        },
        [](const double* x, const double* g, double* d) {
            const double a = x[0] * 0.5 + 0.6, b = x[1] * 0.5 + 0.6, crowd = a * 0.7 * g[0] + b * -0.4 * g[0];
            d[0] = 0.5 * taken_adjoint(a + b, 0.7 * g[0], crowd);
            d[1] = 0.5 * taken_adjoint(a + b, -0.4 * g[0], crowd);
        });
    return failures;
}

RG_END

int main() { return rg::RG_ISA::prove_all(); }
