// SPDX-License-Identifier: MIT
// A number that carries its derivatives with respect to N inputs, and the words of core/portable.h for it. A formula run on
// dual numbers gives its exact Jacobian, against which its adjoint is held.
#pragma once
#include "portable.h"

RG_BEGIN

template <int N> struct Dual {
    double value = 0;
    double slope[N] = {};
    Dual() = default;
    Dual(double x) : value(x) {}
    // The k-th input.
    Dual(double x, int k) : value(x) { slope[k] = 1; }

    template <class Rule> static Dual joined(double value, const Dual& a, const Dual& b, Rule rule) {
        Dual r(value);
        for (int k = 0; k < N; k++) r.slope[k] = rule(a.slope[k], b.slope[k]);
        return r;
    }
    friend Dual operator+(const Dual& a, const Dual& b) {
        return joined(a.value + b.value, a, b, [](double da, double db) { return da + db; });
    }
    friend Dual operator-(const Dual& a, const Dual& b) {
        return joined(a.value - b.value, a, b, [](double da, double db) { return da - db; });
    }
    friend Dual operator*(const Dual& a, const Dual& b) {
        return joined(a.value * b.value, a, b, [&](double da, double db) { return da * b.value + a.value * db; });
    }
    friend Dual operator/(const Dual& a, const Dual& b) {
        const double q = a.value / b.value;
        return joined(q, a, b, [&](double da, double db) { return (da - q * db) / b.value; });
    }
    friend Dual operator-(const Dual& a) { return Dual(0.0) - a; }
    Dual& operator+=(const Dual& b) { return *this = *this + b; }
    Dual& operator-=(const Dual& b) { return *this = *this - b; }
    friend bool operator<(const Dual& a, const Dual& b) { return a.value < b.value; }
    friend bool operator>(const Dual& a, const Dual& b) { return a.value > b.value; }
    friend bool operator<=(const Dual& a, const Dual& b) { return a.value <= b.value; }
    friend bool operator>=(const Dual& a, const Dual& b) { return a.value >= b.value; }
    friend bool operator==(const Dual& a, const Dual& b) { return a.value == b.value; }
    friend bool operator!=(const Dual& a, const Dual& b) { return a.value != b.value; }
    friend Dual select(bool m, const Dual& a, const Dual& b) { return m ? a : b; }
    friend Dual minimum(const Dual& a, const Dual& b) { return a < b ? a : b; }
    friend Dual maximum(const Dual& a, const Dual& b) { return a > b ? a : b; }
    friend Dual abs_of(const Dual& a) { return sign_bit(a) ? -a : a; }
    // Piecewise constant.
    friend Dual sign_of(const Dual& a) { return Dual(::copysign(1.0, a.value)); }
    friend Dual floor_of(const Dual& a) { return Dual(::floor(a.value)); }
    friend bool sign_bit(const Dual& a) { return std::signbit(a.value); }
    friend bool is_finite(const Dual& a) { return a.value - a.value == 0; }
    friend Dual sqrt_of(const Dual& a) {
        const double root = ::sqrt(a.value);
        return joined(root, a, a, [&](double da, double) { return da / (2 * root); });
    }
    friend Dual log2_of(const Dual& a) {
        return joined(::log2(a.value), a, a, [&](double da, double) { return da / (a.value * 0.6931471805599453); });
    }
};

RG_END
