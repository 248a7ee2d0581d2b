// SPDX-License-Identifier: MIT
// The end of a reproducible sum (sums.h): words into numbers.
#include "sums.h"

RG_BEGIN

struct FinishArgs {
    Real* values;
    const int32_t* exponents;
    const unsigned long long* words;
    int64_t count;
};

RG_GLOBAL(sums_finish, 256, FinishArgs, a) {
    const int64_t i = thread_number();
    if (i >= a.count) return;
    const int largest = a.exponents[i];
    const int64_t first = int64_t(a.words[Sums<Real>::word(i)]);
    if (largest == kNothing) {
        a.values[i] = Real(0);
    } else if (largest == kNotFinite) {
        const bool nan = first >> 42 != 0, up = (first & kCountMask) != 0, down = (first >> 21 & kCountMask) != 0;
        const Real infinity = Real(1) / Real(0);
        a.values[i] = nan || (up && down) ? infinity - infinity : up ? infinity : -infinity;
    } else if (sizeof(Real) == 8) {
        // Both words may exceed 53 bits: the upper halves first, so that each rounding is below the last.
        const int64_t second = int64_t(a.words[2 * i + 1]);
        const int64_t high = first >> 20 << 20;
        const double units = double(high) + (double(first - high) + ::ldexp(double(second), -kUnit));
        a.values[i] = Real(::ldexp(units, largest - kUnit));
    } else {
        a.values[i] = Real(::ldexp(double(first), largest - kUnit));
    }
}

RG_END
