// SPDX-License-Identifier: MIT
// The adjoints of texture: blends, averages, levels, and the two ways in which a cube lookup depends on its direction.
#include "ops/texture/formulas.h"
#include "ops/texture/formulas_cube.h"
#include "ops/texture/formulas_level.h"
#include "proof.h"

RG_BEGIN
namespace {

constexpr double kWidth = 32, kHeight = 16;

void prove_bilinear() {
    // Four texels, the two fractions.
    prove<6, 1>("texture: bilinear", [](const auto* x, auto* out) {
        out[0] = bilinear(Cell<Dual<6>>{x[0], x[1], x[2], x[3]}, x[4], x[5]);
    }, [](const double* x, const double* g, double* d) {
        const Cell<double> c = {x[0], x[1], x[2], x[3]}, share = bilinear_adjoint(x[4], x[5], g[0]);
        d[0] = share.t00; d[1] = share.t10; d[2] = share.t01; d[3] = share.t11;
        d[4] = g[0] * bilinear_slope_s(c, x[5]);
        d[5] = g[0] * bilinear_slope_t(c, x[4]);
    });
}

// The same from differences of texels that an upstream gradient has been multiplied with before.
void prove_rises() {
    prove<6, 1>("texture: bilinear, by rises", [](const auto* x, auto* out) {
        out[0] = bilinear(Cell<Dual<6>>{x[0], x[1], x[2], x[3]}, x[4], x[5]);
    }, [](const double* x, const double* g, double* d) {
        const Cell<double> c = {x[0], x[1], x[2], x[3]}, share = bilinear_adjoint(x[4], x[5], g[0]);
        const Rises<double> r = rises(c, g[0]);
        d[0] = share.t00; d[1] = share.t10; d[2] = share.t01; d[3] = share.t11;
        d[4] = slope_s(r, x[5]);
        d[5] = slope_t(r, x[4]);
    });
    static constexpr Cell<double> kFine = {0.3, 0.9, -0.4, 0.2}, kCoarse = {-0.1, 0.5, 0.7, -0.8};
    prove<1, 1>("texture: between levels, by rises", [](const auto* x, auto* out) {
        using F = Dual<1>;
        const auto colour = [](Cell<double> c, double a, double b) { return bilinear(Cell<F>{F(c.t00), F(c.t10), F(c.t01), F(c.t11)}, F(a), F(b)); };
        out[0] = between_levels(colour(kFine, 0.25, 0.6), colour(kCoarse, 0.7, 0.1), x[0]);
    }, [](const double*, const double* g, double* d) {
        d[0] = level_step(first_step(kFine, kCoarse, g[0]), rise(rises(kFine, g[0]), 0.25, 0.6), rise(rises(kCoarse, g[0]), 0.7, 0.1));
    });
}

void prove_levels() {
    // Values of a finer and a coarser level as functions of one coordinate, and the fraction between the levels.
    prove<4, 1>("texture: between_levels, coordinate", [](const auto* x, auto* out) {
        using F = Dual<4>;
        out[0] = between_levels(x[1] * (x[0] * F(8)), x[2] * (x[0] * F(4)), x[3]);
    }, [](const double* x, const double* g, double* d) {
        const double fine = x[1] * (x[0] * 8), coarse = x[2] * (x[0] * 4);
        d[0] = g[0] * coordinate_adjoint(x[1], 8.0, x[2], 4.0, x[3]);
        d[1] = g[0] * (1 - x[3]) * x[0] * 8;
        d[2] = g[0] * x[3] * x[0] * 4;
        d[3] = g[0] * (coarse - fine);
    });
    prove<4, 1>("texture: level of a footprint", [](const auto* x, auto* out) {
        using F = Dual<4>;
        out[0] = level_of(ellipse(in_texels(Derivatives<F>{x[0], x[1], x[2], x[3]}, F(kWidth), F(kHeight))).major);
    }, [](const double* x, const double* g, double* d) {
        const Derivatives<double> texels = in_texels(Derivatives<double>{x[0], x[1], x[2], x[3]}, kWidth, kHeight);
        const Derivatives<double> r = level_adjoint(texels, ellipse(texels), kWidth, kHeight, true);
        d[0] = g[0] * r.s_x; d[1] = g[0] * r.s_y; d[2] = g[0] * r.t_x; d[3] = g[0] * r.t_y;
    });
}

void prove_averages() {
    prove<3, 1>("texture: average_of_three", [](const auto* x, auto* out) { out[0] = average_of_three(x[0], x[1], x[2]); },
        [](const double*, const double* g, double* d) { d[0] = d[1] = d[2] = average_of_three_adjoint(g[0]); });
    prove<4, 1>("texture: average_of_four", [](const auto* x, auto* out) { out[0] = average_of_four(x[0], x[1], x[2], x[3]); },
        [](const double*, const double* g, double* d) { d[0] = d[1] = d[2] = d[3] = average_of_four_adjoint(g[0]); });
    prove<2, 1>("texture: average_of_two", [](const auto* x, auto* out) { out[0] = average_of_two(x[0], x[1]); },
        [](const double*, const double* g, double* d) { d[0] = d[1] = average_of_two_adjoint(g[0]); });
}

// Three coordinates of the direction, then its derivatives by X and by Y.
template <class F> Vec3<F> vector_at(const F* x) { return {x[0], x[1], x[2]}; }
template <class F> FaceDerivatives<F> turned(const CubePoint<F>& c, const F* x) {
    return {into_face(c.face, vector_at(x + 3)), into_face(c.face, vector_at(x + 6))};
}
void add(Vec3<double> v, double* d) {
    d[0] += v.x;
    d[1] += v.y;
    d[2] += v.z;
}

void prove_cube() {
    prove<3, 2>("texture: cube coordinates", [](const auto* x, auto* out) {
        using F = Dual<3>;
        const CubePoint<F> c = cube_point(vector_at(x));
        out[0] = face_coordinate(c.p);
        out[1] = face_coordinate(c.q);
    }, [](const double* x, const double* g, double* d) {
        const CubePoint<double> c = cube_point(vector_at(x));
        add(out_of_face(c.face, face_coordinate_adjoint(c, g[0], g[1])), d);
    });
    prove<9, 4>("texture: derivatives of cube coordinates", [](const auto* x, auto* out) {
        using F = Dual<9>;
        const CubePoint<F> c = cube_point(vector_at(x));
        const Derivatives<F> r = face_derivatives(c, turned(c, x));
        out[0] = r.s_x; out[1] = r.s_y; out[2] = r.t_x; out[3] = r.t_y;
    }, [](const double* x, const double* g, double* d) {
        const CubePoint<double> c = cube_point(vector_at(x));
        const Derivatives<double> upstream = {g[0], g[1], g[2], g[3]};
        const FaceDerivatives<double> r = face_derivatives_adjoint(c, upstream);
        add(out_of_face(c.face, face_derivatives_point_adjoint(c, turned(c, x), upstream)), d);
        add(out_of_face(c.face, r.x), d + 3);
        add(out_of_face(c.face, r.y), d + 6);
    });
}

}  // namespace

int prove_all() {
    prove_bilinear();
    prove_rises();
    prove_levels();
    prove_averages();
    prove_cube();
    return failures;
}

RG_END

int main() { return rg::RG_ISA::prove_all(); }
