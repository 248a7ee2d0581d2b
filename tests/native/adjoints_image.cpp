// SPDX-License-Identifier: MIT
// The adjoints of antialias and interpolate. One line per formula; the exit status is the number of those that fail.
#include "ops/antialias/formulas.h"
#include "ops/interpolate/formulas.h"
#include "proof.h"

RG_BEGIN
namespace {

void prove_antialias() {
    const Vec2<double> half{320, 240};
    prove<3, 2>("antialias: screen_position",
        [](const auto* x, auto* out) {
            using F = Dual<3>;
            const Vec2<F> p = screen_position(x[0], x[1], x[2], Vec2<F>{F(320), F(240)}, Vec2<F>{F(7), F(9)});
            out[0] = p.x;
            out[1] = p.y;
        },
        [&](const double* x, const double* g, double* d) {
            screen_position_adjoint(x[0], x[1], x[2], half, Vec2<double>{g[0], g[1]}, d[0], d[1], d[2]);
        });
    prove<4, 1>("antialias: steady_crossing",
        [](const auto* x, auto* out) {
            using F = Dual<4>;
            out[0] = steady_crossing(Vec2<F>{x[0], x[1]}, Vec2<F>{x[2], x[3]});
        },
        [](const double* x, const double* g, double* d) {
            Vec2<double> d1{0, 0}, d2{0, 0};
            steady_crossing_adjoint(Vec2<double>{x[0], x[1]}, Vec2<double>{x[2], x[3]}, g[0], d1, d2);
            d[0] = d1.x; d[1] = d1.y; d[2] = d2.x; d[3] = d2.y;
        });
    prove<3, 1>("antialias: blend",
        [](const auto* x, auto* out) { out[0] = blend(x[0], x[1], x[2]); },
        [](const double* x, const double* g, double* d) { blend_adjoint(x[0], x[1], x[2], g[0], d[0], d[1], d[2]); });
}

void prove_interpolate() {
    prove<5, 1>("interpolate: attribute",
        [](const auto* x, auto* out) { out[0] = attribute(slopes(x[0], x[1], x[2]), x[3], x[4]); },
        [](const double* x, const double* g, double* d) {
            attribute_adjoint(x[3], x[4], g[0], d[0], d[1], d[2]);
            barycentric_adjoint(slopes(x[0], x[1], x[2]), g[0], d[3], d[4]);
        });
    // Corners 0 to 2, then du/dX, du/dY, dv/dX, dv/dY.
    prove<7, 2>("interpolate: attribute_slope",
        [](const auto* x, auto* out) {
            const auto s = slopes(x[0], x[1], x[2]);
            out[0] = attribute_slope(s.e0, s.e1, x[3], x[5]);
            out[1] = attribute_slope(s.e0, s.e1, x[4], x[6]);
        },
        [](const double* x, const double* g, double* d) {
            const auto s = slopes(x[0], x[1], x[2]);
            for (int axis = 0; axis < 2; axis++) {
                attribute_slope_adjoint(x[3 + axis], x[5 + axis], g[axis], d[0], d[1], d[2]);
                barycentric_slope_adjoint(s.e0, s.e1, g[axis], d[3 + axis], d[5 + axis]);
            }
        });
}

}  // namespace

int prove_all() {
    prove_antialias();
    prove_interpolate();
    return failures;
}

RG_END

int main() { return rg::RG_ISA::prove_all(); }
