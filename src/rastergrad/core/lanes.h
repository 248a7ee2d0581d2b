// SPDX-License-Identifier: MIT
// Sixteen numbers at a time on GCC and Clang vector extensions, the same source for every instruction set.
// A row of 16 is stored as native registers: one with AVX-512, two with AVX2, four with SSE or NEON (float).
#pragma once
#include "portable.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define RG_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define RG_VECTOR_BYTES 32
#else
#define RG_VECTOR_BYTES 16
#endif
#if defined(__SSE2__)
#include <immintrin.h>
#endif

// A loop over the registers of a row. Below -O3 gcc leaves it a loop otherwise, and the registers in memory: three times as slow.
#define RG_UNROLLED _Pragma("GCC unroll 16")

RG_BEGIN

constexpr int kLanes = 16;

template <class T> struct IntegerOf;
template <> struct IntegerOf<float> { using type = int32_t; };
template <> struct IntegerOf<int32_t> { using type = int32_t; };
template <> struct IntegerOf<double> { using type = int64_t; };
template <> struct IntegerOf<int64_t> { using type = int64_t; };

// gcc makes a comparison and a blend of a < b ? a : b; the one instruction has the same bits, the second operand where one is NaN.
#if RG_VECTOR_BYTES == 64
#define RG_SIMD(OP, TYPE) _mm512_##OP##_##TYPE
#define RG_SIMD_TYPE(SUFFIX) __m512##SUFFIX
#elif RG_VECTOR_BYTES == 32
#define RG_SIMD(OP, TYPE) _mm256_##OP##_##TYPE
#define RG_SIMD_TYPE(SUFFIX) __m256##SUFFIX
#else
#define RG_SIMD(OP, TYPE) _mm_##OP##_##TYPE
#define RG_SIMD_TYPE(SUFFIX) __m128##SUFFIX
#endif
template <class T, class Part> RG_FN Part part_minimum(Part a, Part b) {
#if defined(__SSE4_1__)
    if constexpr (__is_same(T, float)) return (Part)RG_SIMD(min, ps)((RG_SIMD_TYPE())a, (RG_SIMD_TYPE())b);
    else if constexpr (__is_same(T, double)) return (Part)RG_SIMD(min, pd)((RG_SIMD_TYPE(d))a, (RG_SIMD_TYPE(d))b);
    else if constexpr (__is_same(T, int32_t)) return (Part)RG_SIMD(min, epi32)((RG_SIMD_TYPE(i))a, (RG_SIMD_TYPE(i))b);
    else
#endif
    return a < b ? a : b;
}
template <class T, class Part> RG_FN Part part_maximum(Part a, Part b) {
#if defined(__SSE4_1__)
    if constexpr (__is_same(T, float)) return (Part)RG_SIMD(max, ps)((RG_SIMD_TYPE())a, (RG_SIMD_TYPE())b);
    else if constexpr (__is_same(T, double)) return (Part)RG_SIMD(max, pd)((RG_SIMD_TYPE(d))a, (RG_SIMD_TYPE(d))b);
    else if constexpr (__is_same(T, int32_t)) return (Part)RG_SIMD(max, epi32)((RG_SIMD_TYPE(i))a, (RG_SIMD_TYPE(i))b);
    else
#endif
    return a > b ? a : b;
}
#undef RG_SIMD
#undef RG_SIMD_TYPE

template <class T> struct Lanes {
    static constexpr int kWidth = RG_VECTOR_BYTES / int(sizeof(T));
    static constexpr int kParts = kLanes / kWidth;
    typedef T Part __attribute__((vector_size(RG_VECTOR_BYTES)));
    using Integer = typename IntegerOf<T>::type;
    using Mask = Lanes<Integer>;  // a lane is 0 or -1

    Part p[kParts];

    Lanes() = default;
    // Subtracting a zero vector, not adding it: -0 stays -0.
    RG_FN Lanes(T x) { RG_UNROLLED for (int q = 0; q < kParts; q++) p[q] = x - Part{}; }

    // Register by register: gcc moves the whole by 16 bytes through the stack, and reading that back wider stalls.
    static RG_FN Lanes load(const T* from) {
        Lanes r;
        RG_UNROLLED for (int q = 0; q < kParts; q++) memcpy(&r.p[q], from + q * kWidth, sizeof(Part));
        return r;
    }
    RG_FN void store(T* to) const {
        RG_UNROLLED for (int q = 0; q < kParts; q++) memcpy(to + q * kWidth, &p[q], sizeof(Part));
    }
    static RG_FN Lanes iota() {
        alignas(64) static constexpr T kSteps[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        return load(kSteps);
    }
    RG_FN T operator[](int lane) const { return p[lane / kWidth][lane % kWidth]; }
    RG_FN void set(int lane, T x) { p[lane / kWidth][lane % kWidth] = x; }

#define RG_BINARY(OP) \
    friend RG_FN Lanes operator OP(Lanes a, Lanes b) { RG_UNROLLED for (int q = 0; q < kParts; q++) a.p[q] = a.p[q] OP b.p[q]; return a; }
    RG_BINARY(+) RG_BINARY(-) RG_BINARY(*) RG_BINARY(/) RG_BINARY(&) RG_BINARY(|) RG_BINARY(^)
#undef RG_BINARY
#define RG_COMPARE(OP) \
    friend RG_FN Mask operator OP(Lanes a, Lanes b) { Mask m; RG_UNROLLED for (int q = 0; q < kParts; q++) m.p[q] = a.p[q] OP b.p[q]; return m; }
    RG_COMPARE(<) RG_COMPARE(<=) RG_COMPARE(>) RG_COMPARE(>=) RG_COMPARE(==) RG_COMPARE(!=)
#undef RG_COMPARE
    friend RG_FN Lanes operator-(Lanes a) { RG_UNROLLED for (int q = 0; q < kParts; q++) a.p[q] = -a.p[q]; return a; }
    friend RG_FN Lanes operator~(Lanes a) { RG_UNROLLED for (int q = 0; q < kParts; q++) a.p[q] = ~a.p[q]; return a; }
    friend RG_FN Lanes operator<<(Lanes a, Lanes b) { RG_UNROLLED for (int q = 0; q < kParts; q++) a.p[q] = a.p[q] << b.p[q]; return a; }
    friend RG_FN Lanes operator<<(Lanes a, int s) { RG_UNROLLED for (int q = 0; q < kParts; q++) a.p[q] = a.p[q] << s; return a; }
    friend RG_FN Lanes operator>>(Lanes a, int s) { RG_UNROLLED for (int q = 0; q < kParts; q++) a.p[q] = a.p[q] >> s; return a; }
    friend RG_FN Lanes operator>>(Lanes a, Lanes b) { RG_UNROLLED for (int q = 0; q < kParts; q++) a.p[q] = a.p[q] >> b.p[q]; return a; }
    RG_FN Lanes& operator+=(Lanes b) { return *this = *this + b; }
    RG_FN Lanes& operator-=(Lanes b) { return *this = *this - b; }
    RG_FN Lanes& operator*=(Lanes b) { return *this = *this * b; }
    RG_FN Lanes& operator&=(Lanes b) { return *this = *this & b; }
    RG_FN Lanes& operator|=(Lanes b) { return *this = *this | b; }

    friend RG_FN Lanes select(Mask m, Lanes a, Lanes b) {
        RG_UNROLLED for (int q = 0; q < kParts; q++) a.p[q] = m.p[q] ? a.p[q] : b.p[q];
        return a;
    }
    friend RG_FN Lanes minimum(Lanes a, Lanes b) {
        RG_UNROLLED for (int q = 0; q < kParts; q++) a.p[q] = part_minimum<T>(a.p[q], b.p[q]);
        return a;
    }
    friend RG_FN Lanes maximum(Lanes a, Lanes b) {
        RG_UNROLLED for (int q = 0; q < kParts; q++) a.p[q] = part_maximum<T>(a.p[q], b.p[q]);
        return a;
    }
};

// Lane i is lane from[i] of a and b one behind the other. `from` must be known to the compiler.
template <class Part, class Index> RG_FN Part shuffled(Part a, Part b, Index from) {
#if defined(__clang__)
    constexpr int w = int(sizeof(Part) / sizeof(a[0]));
    Part r;
    for (int i = 0; i < w; i++) r[i] = from[i] < w ? a[from[i]] : b[from[i] - w];
    return r;
#else
    return __builtin_shuffle(a, b, from);
#endif
}

// Pairs x0 y0 x1 y1 ... as x and y, and back.
template <class T> RG_FN void load_pairs(const T* from, Lanes<T>& x, Lanes<T>& y) {
    using L = Lanes<T>;
    typename Lanes<typename L::Integer>::Part even, odd;
    for (int i = 0; i < L::kWidth; i++) {
        even[i] = 2 * i;
        odd[i] = 2 * i + 1;
    }
    RG_UNROLLED for (int q = 0; q < L::kParts; q++) {
        typename L::Part a, b;
        memcpy(&a, from + 2 * q * L::kWidth, sizeof a);
        memcpy(&b, from + (2 * q + 1) * L::kWidth, sizeof b);
        x.p[q] = shuffled(a, b, even);
        y.p[q] = shuffled(a, b, odd);
    }
}
// (x, y) of each lane, one behind the other.
template <class T> RG_FN void pair_up(Lanes<T> x, Lanes<T> y, Lanes<T> (&rows)[2]) {
    using L = Lanes<T>;
    typename Lanes<typename L::Integer>::Part low, high;
    for (int i = 0; i < L::kWidth; i++) {
        low[i] = i / 2 + i % 2 * L::kWidth;
        high[i] = low[i] + L::kWidth / 2;
    }
    RG_UNROLLED for (int q = 0; q < L::kParts; q++) {
        rows[2 * q / L::kParts].p[2 * q % L::kParts] = shuffled(x.p[q], y.p[q], low);
        rows[(2 * q + 1) / L::kParts].p[(2 * q + 1) % L::kParts] = shuffled(x.p[q], y.p[q], high);
    }
}

template <class T> struct MaskOf<Lanes<T>> { using type = typename Lanes<T>::Mask; };
template <class T> struct ScalarOf { using type = T; };
template <class T> struct ScalarOf<Lanes<T>> { using type = T; };

using lanes_f = Lanes<float>;
using lanes_i = Lanes<int32_t>;

// Same bits, other type.
template <class To, class From> RG_FN Lanes<To> bits_as(Lanes<From> a) {
    static_assert(sizeof(To) == sizeof(From), "bits_as keeps the width");
    Lanes<To> r;
    RG_UNROLLED for (int q = 0; q < Lanes<To>::kParts; q++) r.p[q] = (typename Lanes<To>::Part)a.p[q];
    return r;
}

RG_FN int32_t largest(Lanes<int32_t> a) {
    alignas(64) int32_t lane[kLanes];
    a.store(lane);
    int32_t r = lane[0];
    for (int l = 1; l < kLanes; l++) r = maximum(r, lane[l]);
    return r;
}

// Number conversion between types of one width: float <-> int32, double <-> int64 (truncating).
template <class To, class From> RG_FN Lanes<To> convert(Lanes<From> a) {
    Lanes<To> r;
    if constexpr (sizeof(To) == sizeof(From)) {
        RG_UNROLLED for (int q = 0; q < Lanes<To>::kParts; q++) r.p[q] = __builtin_convertvector(a.p[q], typename Lanes<To>::Part);
    } else {
        for (int l = 0; l < kLanes; l++) r.set(l, To(a[l]));
    }
    return r;
}

// Whole numbers of 64 bits.
RG_FN Lanes<int64_t> widened(Lanes<int32_t> a) {
    typedef int32_t Half __attribute__((vector_size(RG_VECTOR_BYTES / 2)));
    Lanes<int64_t> r;
    RG_UNROLLED for (int q = 0; q < Lanes<int64_t>::kParts; q++) {
        Half half;
        memcpy(&half, reinterpret_cast<const char*>(&a.p[q / 2]) + q % 2 * sizeof half, sizeof half);
        r.p[q] = __builtin_convertvector(half, Lanes<int64_t>::Part);
    }
    return r;
}

// One bit per lane: lane 0 is bit 0.
RG_FN unsigned mask_bits(Lanes<int32_t> m) {
#if RG_VECTOR_BYTES == 64
    return unsigned(_mm512_movepi32_mask((__m512i)m.p[0]));
#elif RG_VECTOR_BYTES == 32
    return unsigned(_mm256_movemask_ps((__m256)m.p[0])) | unsigned(_mm256_movemask_ps((__m256)m.p[1])) << 8;
#else
    unsigned bits = 0;
    RG_UNROLLED for (int q = 0; q < 4; q++) {
#if defined(__SSE2__)
        bits |= unsigned(_mm_movemask_ps((__m128)m.p[q])) << (4 * q);
#else
        for (int l = 0; l < 4; l++) bits |= (m.p[q][l] ? 1u : 0u) << (4 * q + l);
#endif
    }
    return bits;
#endif
}
RG_FN unsigned mask_bits(Lanes<int64_t> m) {
    unsigned bits = 0;
    for (int l = 0; l < kLanes; l++) bits |= (m[l] ? 1u : 0u) << l;
    return bits;
}
template <class I> RG_FN Lanes<I> mask_from_bits(unsigned bits) {
    if constexpr (sizeof(I) == 4) {
        alignas(64) static constexpr int32_t kBit[kLanes] = {1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7,
            1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15};
        return (Lanes<int32_t>(int32_t(bits)) & Lanes<int32_t>::load(kBit)) != Lanes<int32_t>(0);
    } else {
        Lanes<I> m;
        for (int l = 0; l < kLanes; l++) m.set(l, -I(bits >> l & 1));
        return m;
    }
}
// The places of set bits, counted from `first`, in order; returns how many they are. Writes up to sixteen numbers.
RG_FN int put_set_bits(unsigned bits, int64_t first, int32_t* to) {
    const int count = __builtin_popcount(bits);
#if RG_VECTOR_BYTES == 64
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(__mmask16(bits), _mm512_add_epi32(lane, _mm512_set1_epi32(int32_t(first)))));
#else
    // Mostly at most four: written without asking, as their number is hard to foretell.
    for (int k = 0; k < 4; k++, bits &= bits - 1) to[k] = int32_t(first + __builtin_ctz(bits | 1u << 31));
    for (int k = 4; k < count; k++, bits &= bits - 1) to[k] = int32_t(first + __builtin_ctz(bits));
#endif
    return count;
}
// Where a and b are equal; gcc takes two more instructions by way of a mask.
template <class I> RG_FN unsigned equal_bits(Lanes<I> a, Lanes<I> b) {
#if RG_VECTOR_BYTES == 64
    if constexpr (sizeof(I) == 4) return unsigned(_mm512_cmpeq_epi32_mask((__m512i)a.p[0], (__m512i)b.p[0]));
#endif
    return mask_bits(a == b);
}
// Zero where a lane's bit is not set.
template <class T> RG_FN Lanes<T> keep_bits(unsigned bits, Lanes<T> a) {
#if RG_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
        a.p[0] = (typename Lanes<T>::Part)_mm512_maskz_mov_epi32(__mmask16(bits), (__m512i)a.p[0]);
        return a;
    }
#endif
    return select(mask_from_bits<typename Lanes<T>::Integer>(bits), a, Lanes<T>(T(0)));
}
// A mask of one width as a mask of another.
template <class I, class J> RG_FN Lanes<I> mask_as(Lanes<J> m) {
    if constexpr (sizeof(I) == sizeof(J)) return m;
    else return mask_from_bits<I>(mask_bits(m));
}
template <class I> RG_FN bool any(Lanes<I> m) { return mask_bits(m) != 0; }
constexpr unsigned kAllLanes = (1u << kLanes) - 1;
template <class I> RG_FN bool all(Lanes<I> m) { return mask_bits(m) == kAllLanes; }

template <class T> RG_FN Lanes<T> abs_of(Lanes<T> a) {
    using I = typename Lanes<T>::Integer;
    return bits_as<T>(bits_as<I>(a) & Lanes<I>(I(~(uint64_t(1) << (8 * sizeof(T) - 1)))));
}
template <class T> RG_FN typename Lanes<T>::Mask sign_bit(Lanes<T> a) {
    using I = typename Lanes<T>::Integer;
    return bits_as<I>(a) < Lanes<I>(0);
}
template <class T> RG_FN Lanes<T> sign_of(Lanes<T> a) { return select(sign_bit(a), Lanes<T>(-1), Lanes<T>(1)); }
template <class T> RG_FN typename Lanes<T>::Mask is_finite(Lanes<T> a) { return a - a == Lanes<T>(0); }

template <class T> RG_FN Lanes<T> floor_of(Lanes<T> a) {
    RG_UNROLLED for (int q = 0; q < Lanes<T>::kParts; q++) {
#if RG_VECTOR_BYTES == 64
        if constexpr (sizeof(T) == 4) a.p[q] = (typename Lanes<T>::Part)_mm512_roundscale_ps((__m512)a.p[q], _MM_FROUND_TO_NEG_INF);
        else a.p[q] = (typename Lanes<T>::Part)_mm512_roundscale_pd((__m512d)a.p[q], _MM_FROUND_TO_NEG_INF);
#elif RG_VECTOR_BYTES == 32
        if constexpr (sizeof(T) == 4) a.p[q] = (typename Lanes<T>::Part)_mm256_floor_ps((__m256)a.p[q]);
        else a.p[q] = (typename Lanes<T>::Part)_mm256_floor_pd((__m256d)a.p[q]);
#elif defined(__SSE4_1__)
        if constexpr (sizeof(T) == 4) a.p[q] = (typename Lanes<T>::Part)_mm_floor_ps((__m128)a.p[q]);
        else a.p[q] = (typename Lanes<T>::Part)_mm_floor_pd((__m128d)a.p[q]);
#else
        for (int l = 0; l < Lanes<T>::kWidth; l++) a.p[q][l] = floor_of(a.p[q][l]);
#endif
    }
    return a;
}
template <class T> RG_FN Lanes<T> sqrt_of(Lanes<T> a) {
    RG_UNROLLED for (int q = 0; q < Lanes<T>::kParts; q++) {
#if RG_VECTOR_BYTES == 64
        if constexpr (sizeof(T) == 4) a.p[q] = (typename Lanes<T>::Part)_mm512_sqrt_ps((__m512)a.p[q]);
        else a.p[q] = (typename Lanes<T>::Part)_mm512_sqrt_pd((__m512d)a.p[q]);
#elif RG_VECTOR_BYTES == 32
        if constexpr (sizeof(T) == 4) a.p[q] = (typename Lanes<T>::Part)_mm256_sqrt_ps((__m256)a.p[q]);
        else a.p[q] = (typename Lanes<T>::Part)_mm256_sqrt_pd((__m256d)a.p[q]);
#elif defined(__SSE2__)
        if constexpr (sizeof(T) == 4) a.p[q] = (typename Lanes<T>::Part)_mm_sqrt_ps((__m128)a.p[q]);
        else a.p[q] = (typename Lanes<T>::Part)_mm_sqrt_pd((__m128d)a.p[q]);
#else
        for (int l = 0; l < Lanes<T>::kWidth; l++) a.p[q][l] = sqrt_of(a.p[q][l]);
#endif
    }
    return a;
}

// log2 by splitting off the exponent and a series of atanh: x = 2^e m with m in [1/sqrt 2, sqrt 2), s = (m-1)/(m+1),
// ln m = 2 (s + s^3/3 + s^5/5 + ...), |s| < 0.172: the first term left out, s^11/11, is below 4e-10. Zero gives -inf, negative
// numbers and NaN give NaN, denormals are scaled first.
RG_FN Lanes<float> log2_of(Lanes<float> x) {
    using F = Lanes<float>;
    using I = Lanes<int32_t>;
    const I tiny = x < F(1.17549435e-38f);
    const F y = select(tiny, x * F(16777216.0f), x);
    const I raw = bits_as<int32_t>(y);
    const I shifted = raw - I(0x3f3504f3);  // bits of 1/sqrt 2
    const I exponent = shifted >> 23;
    const F m = bits_as<float>((shifted & I(0x007fffff)) + I(0x3f3504f3));
    const F s = (m - F(1.0f)) / (m + F(1.0f));
    const F t = s * s;
    const F series = F(1.0f) + t * (F(1.0f / 3) + t * (F(1.0f / 5) + t * (F(1.0f / 7) + t * F(1.0f / 9))));
    const F value = convert<float>(exponent) + select(tiny, F(-24.0f), F(0.0f)) + F(2.885390081777927f) * s * series;
    const F infinity = F(__builtin_inff());
    const F special = select(x == F(0.0f), -infinity, select(x == infinity, infinity, F(__builtin_nanf(""))));
    return select((x > F(0.0f)) & (x < infinity), value, special);
}
RG_FN Lanes<double> log2_of(Lanes<double> x) {
    for (int l = 0; l < kLanes; l++) x.set(l, log2_of(x[l]));
    return x;
}

template <class T> RG_FN Lanes<T> gather(const T* base, Lanes<int32_t> index) {
    Lanes<T> r;
    for (int l = 0; l < kLanes; l++) r.set(l, base[index[l]]);
    return r;
}

RG_END
