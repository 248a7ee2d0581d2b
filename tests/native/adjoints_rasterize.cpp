// SPDX-License-Identifier: MIT
// The adjoints of rasterize. They meet in AreaGradients: gradients of the nine numbers of a triangle, from which corner_adjoint
// makes those of the corners; so each proof goes from the twelve coordinates of the corners to what a pixel stores.
#include "ops/rasterize/formulas.h"
#include "proof.h"

RG_BEGIN
namespace {

constexpr double kX = 0.3, kY = -0.2, kStepX = 0.02, kStepY = 0.03;  // pixel centre and size

template <class F> void corners(const F* x, Vec4<F> (&p)[3]) {
    // w near 2: a triangle in front of the camera, never edge-on by accident of w.
    for (int k = 0; k < 3; k++) p[k] = {x[4 * k], x[4 * k + 1], x[4 * k + 2], x[4 * k + 3] * F(0.5) + F(2)};
}
void spread(const Vec4<double> (&d_p)[3], double* d) {
    for (int k = 0; k < 3; k++) {
        d[4 * k] += d_p[k].x;
        d[4 * k + 1] += d_p[k].y;
        d[4 * k + 2] += d_p[k].z;
        d[4 * k + 3] += 0.5 * d_p[k].w;
    }
}
template <class F> PixelAreas<F> areas(const Vec4<F> (&p)[3]) { return pixel_areas(p, F(kX), F(kY)); }

void prove_barycentrics() {
    prove<12, 2>("rasterize: barycentrics", [](const auto* x, auto* out) {
        using F = Dual<12>;
        Vec4<F> p[3];
        corners(x, p);
        const PixelAreas<F> r = areas(p);
        const F inverse = F(1) / stabilised(r.sum);  // clamping is not differentiated
        out[0] = r.area[0] * inverse;
        out[1] = r.area[1] * inverse;
    }, [](const double* x, const double* g, double* d) {
        Vec4<double> p[3], d_p[3] = {};
        corners(x, p);
        corner_adjoint(p, kX, kY, barycentrics_adjoint(areas(p), g[0], g[1]), d_p);
        spread(d_p, d);
    });
}

void prove_slopes() {
    prove<12, 4>("rasterize: barycentric_slopes", [](const auto* x, auto* out) {
        using F = Dual<12>;
        Vec4<F> p[3];
        corners(x, p);
        const PixelAreas<F> r = areas(p);
        const F inverse = F(1) / stabilised(r.sum);
        const Slopes<F> s = barycentric_slopes(r, inverse, Vec2<F>{r.area[0] * inverse, r.area[1] * inverse}, F(kStepX), F(kStepY));
        out[0] = s.u_x; out[1] = s.u_y; out[2] = s.v_x; out[3] = s.v_y;
    }, [](const double* x, const double* g, double* d) {
        Vec4<double> p[3], d_p[3] = {};
        corners(x, p);
        AreaGradients<double> a = {};
        barycentric_slopes_adjoint(areas(p), Slopes<double>{g[0], g[1], g[2], g[3]}, kStepX, kStepY, a);
        corner_adjoint(p, kX, kY, a, d_p);
        spread(d_p, d);
    });
}

void prove_depth() {
    prove<12, 1>("rasterize: plane_depth", [](const auto* x, auto* out) {
        using F = Dual<12>;
        Vec4<F> p[3];
        corners(x, p);
        out[0] = plane_depth(areas(p), p).ratio;
    }, [](const double* x, const double* g, double* d) {
        Vec4<double> p[3], d_p[3] = {};
        double d_z[3], d_w[3];
        corners(x, p);
        AreaGradients<double> a = {};
        plane_depth_adjoint(areas(p), p, g[0], a, d_z, d_w);
        corner_adjoint(p, kX, kY, a, d_p);
        for (int k = 0; k < 3; k++) {
            d_p[k].z += d_z[k];
            d_p[k].w += d_w[k];
        }
        spread(d_p, d);
    });
}

// No adjoint, but what adjoints of a block of pixels rest on: the areas at one of them lead to those at another.
void prove_areas_beside() {
    constexpr double kBeside = 0.25, kBelow = -0.125;
    double worst = 0;
    for (int trial = 0; trial < kTrials; trial++) {
        double x[12];
        for (double& number : x) number = uniform();
        Vec4<double> p[3];
        corners(x, p);
        const PixelAreas<double> want = areas(p), got = areas_at<double>(pixel_areas(p, kX - kBeside, kY - kBelow), kBeside, kBelow);
        for (int k = 0; k < 3; k++) worst = maximum(worst, abs_of(got.area[k] - want.area[k]));
        worst = maximum(worst, abs_of(got.sum - want.sum));
    }
    // Of numbers up to 4, some ten roundings.
    const bool good = worst <= 1e-14;
    if (!good) failures++;
    std::printf("%s rasterize: areas_at %.1e\n", good ? "good" : "BAD ", worst);
}

}  // namespace

int prove_all() {
    prove_areas_beside();
    prove_barycentrics();
    prove_slopes();
    prove_depth();
    return failures;
}

RG_END

int main() { return rg::RG_ISA::prove_all(); }
