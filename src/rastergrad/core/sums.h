// SPDX-License-Identifier: MIT
// Many threads add to one tensor. Quick: atomic additions, in whatever order threads come, so that last bits change from run to run.
// Reproducible: integers add up to the same in any order. A first pass over all summands finds the largest exponent that each sum
// meets, a second one adds the summands as whole multiples of a unit 2^kUnit below it (Demmel and Nguyen 2013 call that unit an
// ulp of the sum), float64 in two such words, and `sums_finish` in sums.cu turns the words into numbers. With 64-bit words and
// 2^28 summands a float32 sum keeps 34 bits of its largest summand, ten more than the summand has.
// core/gpu_sums.py owns the memory and tells how often a kernel is to run.
#pragma once
#include "device.h"

RG_BEGIN

enum SumPass : int64_t { kQuick, kMeasure, kExact };

constexpr int kUnit = 34;          // bits of a word that a single summand may take
constexpr int kNotFinite = 4096;   // what `exponents` holds where a summand is not finite
constexpr int kNothing = -8192;    // ... where there is none
// Then the first word counts what came: infinities, negative infinities, NaN.
constexpr int64_t kOneInfinity = 1, kOneNegative = int64_t(1) << 21, kOneNaN = int64_t(1) << 42;
constexpr int64_t kCountMask = (int64_t(1) << 21) - 1;

RG_FN int exponent_of(float v) { return int((__float_as_uint(v) >> 23) & 255) - 126; }
RG_FN int exponent_of(double v) { return int((uint64_t(__double_as_longlong(v)) >> 52) & 2047) - 1022; }
RG_FN float scaled(float v, int exponent) { return ::ldexpf(v, exponent); }
RG_FN double scaled(double v, int exponent) { return ::ldexp(v, exponent); }

// Fields of an argument struct: the tensor that is summed into (zeroed), and the scratch of reproducible sums.
template <class T> struct Sums {
    T* values;
    int32_t* exponents;           // [sums]
    unsigned long long* words;    // [sums], float64: [sums][2]
    int64_t pass;

    RG_FN bool wanted() const { return values != nullptr; }

    RG_FN void add(int64_t i, T v) const {
        if (v == T(0)) return;
        if (pass == kQuick) { atomicAdd(values + i, v); return; }
        const bool finite = is_finite(v);
        if (pass == kMeasure) { atomicMax(exponents + i, finite ? exponent_of(v) : kNotFinite); return; }
        const int largest = exponents[i];
        if (largest == kNotFinite) {
            if (!finite) atomicAdd(words + word(i), (unsigned long long)(v != v ? kOneNaN : v > T(0) ? kOneInfinity : kOneNegative));
            return;
        }
        // |v| < 2^largest, so |units| <= 2^kUnit; scaling by a power of two and taking the whole part away lose nothing.
        const T units = scaled(v, kUnit - largest), first = rounded(units);
        atomicAdd(words + word(i), (unsigned long long)(long long)(first));
        if (sizeof(T) == 8) {
            const T second = rounded(scaled(units - first, kUnit));
            if (second != T(0)) atomicAdd(words + word(i) + 1, (unsigned long long)(long long)(second));
        }
    }

    // Four sums that lie side by side, i a multiple of four: one transaction where the GPU has it (compute capability 9).
    RG_FN void add4(int64_t i, Vec4<T> v) const {
        if (v.x == T(0) && v.y == T(0) && v.z == T(0) && v.w == T(0)) return;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
        if (sizeof(T) == 4 && pass == kQuick) {
            asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};"
                         :: "l"(values + i), "f"(float(v.x)), "f"(float(v.y)), "f"(float(v.z)), "f"(float(v.w)) : "memory");
            return;
        }
#endif
        add(i, v.x);
        add(i + 1, v.y);
        add(i + 2, v.z);
        add(i + 3, v.w);
    }

    static RG_FN int64_t word(int64_t i) { return sizeof(T) == 8 ? 2 * i : i; }
    static RG_FN float rounded(float v) { return ::rintf(v); }
    static RG_FN double rounded(double v) { return ::rint(v); }
};

RG_END
