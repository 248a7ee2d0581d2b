// SPDX-License-Identifier: MIT
// The adjoints of rasterize. They meet in PlaneGradients: gradients of the numbers that all pixels of a triangle share, from which planes_adjoint
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
        planes_adjoint(p, kX, kY, barycentrics_adjoint(areas(p), {g[0], g[1]}), false, d_p);
        spread(d_p, d);
    });
}

void prove_slopes() {
    prove<12, 6>("rasterize: barycentric_slopes", [](const auto* x, auto* out) {
        using F = Dual<12>;
        Vec4<F> p[3];
        corners(x, p);
        const PixelAreas<F> r = areas(p);
        const F inverse = F(1) / stabilised(r.sum);
        const Vec2<F> uv{r.area[0] * inverse, r.area[1] * inverse};
        const Slopes<F> s = barycentric_slopes(r, inverse, uv, F(kStepX), F(kStepY));
        out[0] = s.u_x; out[1] = s.u_y; out[2] = s.v_x; out[3] = s.v_y;
        out[4] = uv.x; out[5] = uv.y;
    }, [](const double* x, const double* g, double* d) {
        Vec4<double> p[3], d_p[3] = {};
        corners(x, p);
        const Slopes<double> slopes{g[0], g[1], g[2], g[3]};
        planes_adjoint(p, kX, kY, barycentric_slopes_adjoint(areas(p), {g[4], g[5]}, slopes, kStepX, kStepY), false, d_p);
        spread(d_p, d);
    });
}

// At the reference pixel and at one beside it, whose gradients are referred to the first.
constexpr double kBeside = 0.25, kBelow = -0.125;

void prove_depth() {
    prove<12, 2>("rasterize: plane_depth", [](const auto* x, auto* out) {
        using F = Dual<12>;
        Vec4<F> p[3];
        corners(x, p);
        out[0] = plane_depth(areas(p), p).ratio;
        out[1] = plane_depth(pixel_areas(p, F(kX + kBeside), F(kY + kBelow)), p).ratio;
    }, [](const double* x, const double* g, double* d) {
        Vec4<double> p[3], d_p[3] = {};
        corners(x, p);
        PlaneGradients<double> here = {}, beside = {};
        here.at.w = g[0];
        beside.at.w = g[1];
        planes_adjoint(p, kX, kY, here, true, d_p);
        planes_adjoint(p, kX, kY, referred(beside, kBeside, kBelow), true, d_p);
        spread(d_p, d);
    });
}
void prove_referred() {
    prove<12, 6>("rasterize: referred", [](const auto* x, auto* out) {
        using F = Dual<12>;
        Vec4<F> p[3];
        corners(x, p);
        const PixelAreas<F> r = pixel_areas(p, F(kX + kBeside), F(kY + kBelow));
        const F inverse = F(1) / stabilised(r.sum);
        const Vec2<F> uv{r.area[0] * inverse, r.area[1] * inverse};
        const Slopes<F> s = barycentric_slopes(r, inverse, uv, F(kStepX), F(kStepY));
        out[0] = s.u_x; out[1] = s.u_y; out[2] = s.v_x; out[3] = s.v_y;
        out[4] = uv.x; out[5] = uv.y;
    }, [](const double* x, const double* g, double* d) {
        Vec4<double> p[3], d_p[3] = {};
        corners(x, p);
        const Slopes<double> slopes{g[0], g[1], g[2], g[3]};
        const PixelAreas<double> r = pixel_areas(p, kX + kBeside, kY + kBelow);
        planes_adjoint(p, kX, kY, referred(barycentric_slopes_adjoint(r, {g[4], g[5]}, slopes, kStepX, kStepY), kBeside, kBelow), false, d_p);
        spread(d_p, d);
    });
}

// No adjoint, but what adjoints of a block of pixels rest on: the areas at one of them lead to those at another.
void prove_areas_beside() {
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
    prove_referred();
    prove_depth();
    return failures;
}

RG_END

int main() { return rg::RG_ISA::prove_all(); }
