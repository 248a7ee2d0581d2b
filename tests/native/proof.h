// SPDX-License-Identifier: MIT
// Holds an adjoint against the Jacobian of its formula by dual numbers, on random inputs.
#pragma once
#include <cstdio>

#include "dual.h"

RG_BEGIN
namespace {

constexpr int kTrials = 2000;
constexpr double kTolerance = 1e-12;  // of the largest gradient: some ten roundings

uint64_t state = 1;
double uniform() {  // in [-1, 1), a linear congruential generator
    state = state * 6364136223846793005u + 1442695040888963407u;
    return double(int64_t(state >> 11)) / double(int64_t(1) << 52) - 1;
}

int failures = 0;

// formula(duals in, duals out); adjoint(numbers in, upstream, gradients of the inputs)
template <int In, int Out, class Formula, class Adjoint>
void prove(const char* name, Formula formula, Adjoint adjoint) {
    double worst = 0;
    for (int trial = 0; trial < kTrials; trial++) {
        double x[In], g[Out], got[In] = {}, want[In] = {}, scale = 1e-300;
        Dual<In> in[In], out[Out];
        for (int i = 0; i < In; i++) in[i] = Dual<In>(x[i] = uniform(), i);
        for (int o = 0; o < Out; o++) g[o] = uniform();
        formula(in, out);
        adjoint(x, g, got);
        for (int i = 0; i < In; i++) {
            for (int o = 0; o < Out; o++) want[i] += g[o] * out[o].slope[i];
            scale = maximum(scale, abs_of(want[i]));
        }
        for (int i = 0; i < In; i++) {
            const double error = abs_of(got[i] - want[i]) / scale;
            if (!(error <= worst)) worst = error;
        }
    }
    const bool good = worst <= kTolerance;
    if (!good) failures++;
    std::printf("%s %-44s %.1e\n", good ? "good" : "BAD ", name, worst);
}

}  // namespace
RG_END
