// SPDX-License-Identifier: MIT
// Triangle ids as floats in the fragment buffer (docs/definition.md 1): index + 1, 0 for background; exact up to 2^24, then the bit pattern
// 0x4A800000 + (index + 1), which continues the row without a gap or a repeat.
#pragma once
#include "portable.h"
#if !defined(__CUDACC_RTC__)
#include "lanes.h"
#endif

RG_BEGIN

constexpr int32_t kIdBits = 0x4A800000;
constexpr int32_t kIdExact = 1 << 24;

// Whether it is any triangle's: not so for background and NaN.
template <class F> RG_FN mask_of<F> is_triangle(F id) { return id >= F(1); }

RG_FN float encode_id(int32_t index_plus_one) {
    if (index_plus_one <= kIdExact) return float(index_plus_one);
    const int32_t bits = index_plus_one + kIdBits;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
// The triangle's index, or -1 for background, NaN and anything below 1.
RG_FN int32_t decode_id(float value) {
    if (!(value >= 1.0f)) return -1;
    if (value <= float(kIdExact)) return int32_t(value) - 1;
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits - kIdBits - 1;
}
RG_FN int32_t decode_id(double value) { return decode_id(float(value)); }

#if !defined(__CUDACC_RTC__)
RG_FN Lanes<float> encode_id(Lanes<int32_t> index_plus_one) {
    return select(index_plus_one <= Lanes<int32_t>(kIdExact), convert<float>(index_plus_one),
                  bits_as<float>(index_plus_one + Lanes<int32_t>(kIdBits)));
}
RG_FN Lanes<int32_t> decode_id(Lanes<float> value) {
    const Lanes<int32_t> there = value >= Lanes<float>(1.0f), exact = value <= Lanes<float>(float(kIdExact));
    const Lanes<int32_t> number = convert<int32_t>(select(there & exact, value, Lanes<float>(0.0f)));
    // What is negative must not reach the subtraction, which would overflow.
    const Lanes<int32_t> pattern = bits_as<int32_t>(select(there, value, Lanes<float>(1.0f))) - Lanes<int32_t>(kIdBits);
    return select(there, select(exact, number, pattern), Lanes<int32_t>(0)) - Lanes<int32_t>(1);
}
RG_FN Lanes<int32_t> decode_id(Lanes<double> value) { return decode_id(convert<float>(value)); }
#endif

RG_END
