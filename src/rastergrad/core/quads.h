// SPDX-License-Identifier: MIT
// Four neighbouring numbers in memory: the channels of one pixel, or one vertex; and the turn from 16 such rows to 4 Lanes and back.
#pragma once
#include "stream.h"

RG_BEGIN

// Behaves as a number type of formulas: arithmetic is per channel.
template <class T> struct Quad {
    typedef T Part __attribute__((vector_size(4 * sizeof(T))));
    Part p;
    Quad() = default;
    RG_FN Quad(T x) : p(x - Part{}) {}
    static RG_FN Quad load(const T* from) { Quad r; memcpy(&r.p, from, sizeof r.p); return r; }
    RG_FN void store(T* to) const { memcpy(to, &p, sizeof p); }
    static RG_FN Quad of(T a, T b, T c, T d) { Quad r; r.p = Part{a, b, c, d}; return r; }
    RG_FN T operator[](int k) const { return p[k]; }
    friend RG_FN Quad operator+(Quad a, Quad b) { a.p = a.p + b.p; return a; }
    friend RG_FN Quad operator-(Quad a, Quad b) { a.p = a.p - b.p; return a; }
    friend RG_FN Quad operator*(Quad a, Quad b) { a.p = a.p * b.p; return a; }
    RG_FN Quad& operator+=(Quad b) { p += b.p; return *this; }
    RG_FN Quad& operator-=(Quad b) { p -= b.p; return *this; }
};
template <class T> RG_FN T sum(Quad<T> a) { return (a[0] + a[1]) + (a[2] + a[3]); }

// What `select` chooses by, as for Lanes.
template <class T> struct QuadMask { typedef typename Lanes<T>::Integer Part __attribute__((vector_size(4 * sizeof(T)))); Part p; };
template <class T> struct MaskOf<Quad<T>> { using type = QuadMask<T>; };
template <class T> RG_FN QuadMask<T> operator==(Quad<T> a, Quad<T> b) { return {a.p == b.p}; }
template <class T> RG_FN Quad<T> select(QuadMask<T> m, Quad<T> a, Quad<T> b) { a.p = m.p ? a.p : b.p; return a; }

// The first two numbers twice, and the last two.
template <class T> RG_FN Quad<T> low_twice(Quad<T> a) { a.p = __builtin_shufflevector(a.p, a.p, 0, 1, 0, 1); return a; }
template <class T> RG_FN Quad<T> high_twice(Quad<T> a) { a.p = __builtin_shufflevector(a.p, a.p, 2, 3, 2, 3); return a; }
// (sum of a, sum of b, 0, 0)
template <class T> RG_FN Quad<T> two_sums(Quad<T> a, Quad<T> b) {
    Quad<T> r;
    r.p = __builtin_shufflevector(a.p, b.p, 0, 4, 1, 5) + __builtin_shufflevector(a.p, b.p, 2, 6, 3, 7);
    r.p = r.p + __builtin_shufflevector(r.p, r.p, 2, 3, 2, 3);
    r.p = __builtin_shufflevector(r.p, typename Quad<T>::Part{}, 0, 1, 4, 5);
    return r;
}
// (a0 + a2, a1 + a3, b0 + b2, b1 + b3)
template <class T> RG_FN Quad<T> sums_of_halves(Quad<T> a, Quad<T> b) {
    a.p = __builtin_shufflevector(a.p, b.p, 0, 1, 4, 5) + __builtin_shufflevector(a.p, b.p, 2, 3, 6, 7);
    return a;
}
// Quads q and q + 2 of the four are added first: the order is that of halving, whatever the registers.
RG_FN Quad<float> sum_of_quads(Lanes<float> a) {
    Quad<float> r;
#if RG_VECTOR_BYTES == 64
    const __m256 two = _mm256_add_ps(_mm512_castps512_ps256((__m512)a.p[0]), _mm512_extractf32x8_ps((__m512)a.p[0], 1));
    r.p = (Quad<float>::Part)_mm_add_ps(_mm256_castps256_ps128(two), _mm256_extractf128_ps(two, 1));
#elif RG_VECTOR_BYTES == 32
    const __m256 two = (__m256)(a.p[0] + a.p[1]);
    r.p = (Quad<float>::Part)_mm_add_ps(_mm256_castps256_ps128(two), _mm256_extractf128_ps(two, 1));
#else
    r.p = (Quad<float>::Part)((a.p[0] + a.p[2]) + (a.p[1] + a.p[3]));
#endif
    return r;
}
RG_FN Quad<double> sum_of_quads(Lanes<double> a) {
    double at[kLanes];
    a.store(at);
    return (Quad<double>::load(at) + Quad<double>::load(at + 8)) + (Quad<double>::load(at + 4) + Quad<double>::load(at + 12));
}
template <class T> RG_FN Quad<T> sum_of_quads(Quad<T> a) { return a; }

// Keeps the first kCount channels of four pixels and makes the rest zero, whatever they hold.
template <int kCount, class T> RG_FN Lanes<T> first_channels(Lanes<T> a) {
    constexpr int w = Lanes<T>::kWidth;
    if constexpr (w >= 4) {
        typename Lanes<typename Lanes<T>::Integer>::Part from;
        for (int i = 0; i < w; i++) from[i] = i % 4 < kCount ? i : w + i;
        RG_UNROLLED for (int q = 0; q < Lanes<T>::kParts; q++) a.p[q] = shuffled(a.p[q], typename Lanes<T>::Part{}, from);
    } else {
        for (int l = 0; l < kLanes; l++)
            if (l % 4 >= kCount) a.set(l, T(0));
    }
    return a;
}
template <class T> RG_FN Lanes<T> first_channels(Lanes<T> a, int64_t count) {
    switch (count) {
        case 1: return first_channels<1>(a);
        case 2: return first_channels<2>(a);
        case 3: return first_channels<3>(a);
        default: return a;
    }
}

// The transpose of 4 x 4 numbers.
template <class T> RG_FN void transpose(Quad<T> (&a)[4]) {
    const auto t0 = __builtin_shufflevector(a[0].p, a[1].p, 0, 4, 1, 5), t1 = __builtin_shufflevector(a[0].p, a[1].p, 2, 6, 3, 7);
    const auto t2 = __builtin_shufflevector(a[2].p, a[3].p, 0, 4, 1, 5), t3 = __builtin_shufflevector(a[2].p, a[3].p, 2, 6, 3, 7);
    a[0].p = __builtin_shufflevector(t0, t2, 0, 1, 4, 5);
    a[1].p = __builtin_shufflevector(t0, t2, 2, 3, 6, 7);
    a[2].p = __builtin_shufflevector(t1, t3, 0, 1, 4, 5);
    a[3].p = __builtin_shufflevector(t1, t3, 2, 3, 6, 7);
}
// Lane l is number from[l] of the four.
template <class T> RG_FN Lanes<T> look_up(Quad<T> a, Lanes<int32_t> from) {
    Lanes<T> r;
#if RG_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
        r.p[0] = (typename Lanes<T>::Part)_mm512_permutexvar_ps((__m512i)from.p[0], _mm512_castps128_ps512((__m128)a.p));
        return r;
    }
#elif RG_VECTOR_BYTES == 32
    if constexpr (sizeof(T) == 4) {
        const __m256 four = _mm256_castps128_ps256((__m128)a.p);
        RG_UNROLLED for (int q = 0; q < 2; q++) r.p[q] = (typename Lanes<T>::Part)_mm256_permutevar8x32_ps(four, (__m256i)from.p[q]);
        return r;
    }
#endif
    T four[4];
    a.store(four);
    for (int l = 0; l < kLanes; l++) r.set(l, four[from[l]]);
    return r;
}

// The first `count` channels to memory.
template <class T> RG_FN void store_some(Quad<T> x, T* to, int64_t count) {
    if (count >= 4) x.store(to);
    else for (int64_t k = 0; k < count; k++) to[k] = x[int(k)];
}

// Keeps the first `count` channels and makes the rest zero, whatever they hold: they belong to a neighbour.
template <class T> class FirstChannels {
  public:
    explicit FirstChannels(int64_t count) {
        for (int k = 0; k < 4; k++) mask_[k] = k < count ? -1 : 0;
    }
    RG_FN Quad<T> of(Quad<T> x) const { x.p = (typename Quad<T>::Part)((Part)x.p & mask_); return x; }

  private:
    typedef typename Lanes<T>::Integer Part __attribute__((vector_size(4 * sizeof(T))));
    Part mask_;
};

// Sixteen rows of four, as x, y, z, w over the rows.
template <class T> struct Columns4 { Lanes<T> x, y, z, w; };

#if defined(__SSE2__)
// The 4x4 transpose inside each group of 128 bits.
RG_FN void transpose_groups(Lanes<float>& a, Lanes<float>& b, Lanes<float>& c, Lanes<float>& d) {
    RG_UNROLLED for (int q = 0; q < Lanes<float>::kParts; q++) {
#if RG_VECTOR_BYTES == 64
        const __m512 t0 = _mm512_unpacklo_ps((__m512)a.p[q], (__m512)b.p[q]), t1 = _mm512_unpackhi_ps((__m512)a.p[q], (__m512)b.p[q]);
        const __m512 t2 = _mm512_unpacklo_ps((__m512)c.p[q], (__m512)d.p[q]), t3 = _mm512_unpackhi_ps((__m512)c.p[q], (__m512)d.p[q]);
        a.p[q] = (Lanes<float>::Part)_mm512_shuffle_ps(t0, t2, 0x44);
        b.p[q] = (Lanes<float>::Part)_mm512_shuffle_ps(t0, t2, 0xee);
        c.p[q] = (Lanes<float>::Part)_mm512_shuffle_ps(t1, t3, 0x44);
        d.p[q] = (Lanes<float>::Part)_mm512_shuffle_ps(t1, t3, 0xee);
#elif RG_VECTOR_BYTES == 32
        const __m256 t0 = _mm256_unpacklo_ps((__m256)a.p[q], (__m256)b.p[q]), t1 = _mm256_unpackhi_ps((__m256)a.p[q], (__m256)b.p[q]);
        const __m256 t2 = _mm256_unpacklo_ps((__m256)c.p[q], (__m256)d.p[q]), t3 = _mm256_unpackhi_ps((__m256)c.p[q], (__m256)d.p[q]);
        a.p[q] = (Lanes<float>::Part)_mm256_shuffle_ps(t0, t2, 0x44);
        b.p[q] = (Lanes<float>::Part)_mm256_shuffle_ps(t0, t2, 0xee);
        c.p[q] = (Lanes<float>::Part)_mm256_shuffle_ps(t1, t3, 0x44);
        d.p[q] = (Lanes<float>::Part)_mm256_shuffle_ps(t1, t3, 0xee);
#else
        const __m128 t0 = _mm_unpacklo_ps((__m128)a.p[q], (__m128)b.p[q]), t1 = _mm_unpackhi_ps((__m128)a.p[q], (__m128)b.p[q]);
        const __m128 t2 = _mm_unpacklo_ps((__m128)c.p[q], (__m128)d.p[q]), t3 = _mm_unpackhi_ps((__m128)c.p[q], (__m128)d.p[q]);
        a.p[q] = (Lanes<float>::Part)_mm_shuffle_ps(t0, t2, 0x44);
        b.p[q] = (Lanes<float>::Part)_mm_shuffle_ps(t0, t2, 0xee);
        c.p[q] = (Lanes<float>::Part)_mm_shuffle_ps(t1, t3, 0x44);
        d.p[q] = (Lanes<float>::Part)_mm_shuffle_ps(t1, t3, 0xee);
#endif
    }
}
// Four 128-bit rows side by side.
RG_FN Lanes<float> join(__m128 a, __m128 b, __m128 c, __m128 d) {
    Lanes<float> r;
#if RG_VECTOR_BYTES == 64
    const __m512 low = _mm512_insertf32x4(_mm512_castps128_ps512(a), b, 1);
    r.p[0] = (Lanes<float>::Part)_mm512_insertf32x4(_mm512_insertf32x4(low, c, 2), d, 3);
#elif RG_VECTOR_BYTES == 32
    r.p[0] = (Lanes<float>::Part)_mm256_insertf128_ps(_mm256_castps128_ps256(a), b, 1);
    r.p[1] = (Lanes<float>::Part)_mm256_insertf128_ps(_mm256_castps128_ps256(c), d, 1);
#else
    r.p[0] = (Lanes<float>::Part)a; r.p[1] = (Lanes<float>::Part)b; r.p[2] = (Lanes<float>::Part)c; r.p[3] = (Lanes<float>::Part)d;
#endif
    return r;
}
RG_FN __m128 group(const Lanes<float>& a, int k) {
#if RG_VECTOR_BYTES == 64
    switch (k) {
        case 0: return _mm512_castps512_ps128((__m512)a.p[0]);
        case 1: return _mm512_extractf32x4_ps((__m512)a.p[0], 1);
        case 2: return _mm512_extractf32x4_ps((__m512)a.p[0], 2);
        default: return _mm512_extractf32x4_ps((__m512)a.p[0], 3);
    }
#elif RG_VECTOR_BYTES == 32
    const __m256 half = (__m256)a.p[k / 2];
    return k % 2 ? _mm256_extractf128_ps(half, 1) : _mm256_castps256_ps128(half);
#else
    return (__m128)a.p[k];
#endif
}
#endif

// Four pixels of four channels fill a Lanes: pixel r is group r of four lanes.
template <class T> RG_FN Lanes<T> join_quads(Quad<T> a, Quad<T> b, Quad<T> c, Quad<T> d) {
#if defined(__SSE2__)
    if constexpr (sizeof(T) == 4) return join((__m128)a.p, (__m128)b.p, (__m128)c.p, (__m128)d.p);
#endif
#if RG_VECTOR_BYTES >= 32
    if constexpr (Lanes<T>::kWidth == 4) {
        Lanes<T> r;
        r.p[0] = a.p; r.p[1] = b.p; r.p[2] = c.p; r.p[3] = d.p;
        return r;
    }
#endif
    alignas(64) T rows[kLanes];
    a.store(rows); b.store(rows + 4); c.store(rows + 8); d.store(rows + 12);
    return Lanes<T>::load(rows);
}
// Lanes 4k to 4k + 3, each in all four channels of its pixel.
template <int k, class T> RG_FN Lanes<T> spread(Lanes<T> a) {
    constexpr int w = Lanes<T>::kWidth;
    Lanes<T> r;
    RG_UNROLLED for (int q = 0; q < Lanes<T>::kParts; q++) {
        typename Lanes<typename Lanes<T>::Integer>::Part from;
        for (int i = 0; i < w; i++) from[i] = (4 * k + (q * w + i) / 4) % w;
        r.p[q] = shuffled(a.p[(4 * k + q * w / 4) / w], a.p[(4 * k + q * w / 4) / w], from);
    }
    return r;
}
// Lanes k, 4 + k, 8 + k and 12 + k, each in all four channels of its pixel.
template <int k, class T> RG_FN Lanes<T> spread_each(Lanes<T> a) {
    constexpr int w = Lanes<T>::kWidth;
    if constexpr (w >= 4) {
        typename Lanes<typename Lanes<T>::Integer>::Part from;
        for (int i = 0; i < w; i++) from[i] = i / 4 * 4 + k;
        RG_UNROLLED for (int q = 0; q < Lanes<T>::kParts; q++) a.p[q] = shuffled(a.p[q], a.p[q], from);
        return a;
    }
    alignas(64) T values[kLanes];
    a.store(values);
    return join_quads(Quad<T>(values[k]), Quad<T>(values[4 + k]), Quad<T>(values[8 + k]), Quad<T>(values[12 + k]));
}
// Four quads side by side: the numbers of four pixels. Inside each quad, its numbers i0 to i3 if below 4, else those of quad b.
#if RG_VECTOR_BYTES == 64
#define RG_QUAD_(N, g, i) ((i) < 4 ? (i) + 4 * (g) : (N) + (i) - 4 + 4 * (g))
#define RG_QUAD(N, g, i0, i1, i2, i3) RG_QUAD_(N, g, i0), RG_QUAD_(N, g, i1), RG_QUAD_(N, g, i2), RG_QUAD_(N, g, i3)
#define RG_IN_QUADS(a, b, ...) \
    __builtin_shufflevector(a, b, RG_QUAD(16, 0, __VA_ARGS__), RG_QUAD(16, 1, __VA_ARGS__), RG_QUAD(16, 2, __VA_ARGS__), RG_QUAD(16, 3, __VA_ARGS__))
#elif RG_VECTOR_BYTES == 32
#define RG_QUAD_(N, g, i) ((i) < 4 ? (i) + 4 * (g) : (N) + (i) - 4 + 4 * (g))
#define RG_QUAD(N, g, i0, i1, i2, i3) RG_QUAD_(N, g, i0), RG_QUAD_(N, g, i1), RG_QUAD_(N, g, i2), RG_QUAD_(N, g, i3)
#define RG_IN_QUADS(a, b, ...) __builtin_shufflevector(a, b, RG_QUAD(8, 0, __VA_ARGS__), RG_QUAD(8, 1, __VA_ARGS__))
#else
#define RG_IN_QUADS(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
// In each quad (a0 + a2, a1 + a3, b0 + b2, b1 + b3), ...
RG_FN Lanes<float> sums_of_halves(Lanes<float> a, Lanes<float> b) {
    RG_UNROLLED for (int q = 0; q < Lanes<float>::kParts; q++)
        a.p[q] = RG_IN_QUADS(a.p[q], b.p[q], 0, 1, 4, 5) + RG_IN_QUADS(a.p[q], b.p[q], 2, 3, 6, 7);
    return a;
}
// ... (a0 + a2, b0 + b2, a1 + a3, b1 + b3).
RG_FN Lanes<float> sums_in_turn(Lanes<float> a, Lanes<float> b) {
    RG_UNROLLED for (int q = 0; q < Lanes<float>::kParts; q++)
        a.p[q] = RG_IN_QUADS(a.p[q], b.p[q], 0, 4, 1, 5) + RG_IN_QUADS(a.p[q], b.p[q], 2, 6, 3, 7);
    return a;
}
// The sum over the channels of 16 pixels: pixel 4g + k is group g of p[k].
template <class T> RG_FN Lanes<T> sums_of_channels(const Lanes<T> (&p)[4]) {
    if constexpr (sizeof(T) == 4) return sums_of_halves(sums_in_turn(p[0], p[1]), sums_in_turn(p[2], p[3]));
    alignas(64) T values[4][kLanes], sums[kLanes];
    for (int k = 0; k < 4; k++) p[k].store(values[k]);
    for (int l = 0; l < kLanes; l++) {
        const T* const v = values[l % 4] + l / 4 * 4;
        sums[l] = (v[0] + v[2]) + (v[1] + v[3]);
    }
    return Lanes<T>::load(sums);
}
// Drops the fourth channel of four pixels: 12 numbers one behind the other, and up to 4 of no meaning behind them.
template <class T> RG_FN void store_threes(Lanes<T> a, T* to) {
    constexpr int w = Lanes<T>::kWidth;
    if constexpr (w < 4) {
        alignas(64) T rows[kLanes];
        a.store(rows);
        for (int r = 0; r < 4; r++) Quad<T>::load(rows + 4 * r).store(to + 3 * r);
    } else {
        RG_UNROLLED for (int q = 0; q < Lanes<T>::kParts; q++) {
            typename Lanes<typename Lanes<T>::Integer>::Part from;
            for (int i = 0; i < w; i++) from[i] = i / 3 * 4 % w + i % 3;
            const typename Lanes<T>::Part packed = shuffled(a.p[q], a.p[q], from);
            memcpy(to + q * w / 4 * 3, &packed, sizeof packed);
        }
    }
}
// Registers one behind the other; past the caches if asked for.
template <int kCount, class T> RG_FN void store_registers(const Lanes<T> (&x)[kCount], bool stream, T* to) {
#if RG_VECTOR_BYTES == 64 && !defined(RASTERGRAD_SANITIZE)
    if (stream && reinterpret_cast<uintptr_t>(to) % 64 == 0) {
        for (const Lanes<T>& lanes : x)
            for (const auto& part : lanes.p) _mm512_stream_si512(reinterpret_cast<__m512i*>(to) + (&part - &x[0].p[0]), (__m512i)part);
        return;
    }
#endif
    if (stream) return stream_bytes(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(x), sizeof x);
    for (int k = 0; k < kCount; k++) x[k].store(to + k * kLanes);
}
// Sixteen pixels of three channels from four times four of four, one behind the other; past the caches if asked for.
template <class T> RG_FN void store_sixteen_threes(const Lanes<T> (&x)[4], bool stream, T* to) {
#if RG_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
        const __m512i i0 = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20);
        const __m512i i1 = _mm512_setr_epi32(5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 24, 25);
        const __m512i i2 = _mm512_setr_epi32(10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 24, 25, 26, 28, 29, 30);
        Lanes<T> line[3];
        line[0].p[0] = (typename Lanes<T>::Part)_mm512_permutex2var_ps((__m512)x[0].p[0], i0, (__m512)x[1].p[0]);
        line[1].p[0] = (typename Lanes<T>::Part)_mm512_permutex2var_ps((__m512)x[1].p[0], i1, (__m512)x[2].p[0]);
        line[2].p[0] = (typename Lanes<T>::Part)_mm512_permutex2var_ps((__m512)x[2].p[0], i2, (__m512)x[3].p[0]);
        return store_registers(line, stream, to);
    }
#endif
    alignas(64) T rows[kLanes * 3 + 4];
    for (int k = 0; k < 4; k++) store_threes(x[k], rows + 12 * k);
    if (stream) stream_bytes(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(rows), sizeof(T) * kLanes * 3);
    else memcpy(to, rows, sizeof(T) * kLanes * 3);
}
template <class T> RG_FN Quad<T> quad_of(const Lanes<T>& a, int r) {
#if defined(__SSE2__)
    if constexpr (sizeof(T) == 4) {
        Quad<T> x;
        x.p = (typename Quad<T>::Part)group(a, r);
        return x;
    }
#endif
    alignas(64) T rows[kLanes];
    a.store(rows);
    return Quad<T>::load(rows + 4 * r);
}

// Of each of four rows the first kCount numbers, and the kCount behind them, as four pixels of four channels; the fourth of three is zero.
// Eight numbers of each row must be readable.
template <int kCount, class T> RG_FN void join_neighbours(const T* r0, const T* r1, const T* r2, const T* r3, Lanes<T>& first, Lanes<T>& second) {
    static_assert(kCount == 3 || kCount == 4, "three or four channels");
#if RG_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
        constexpr int k = kCount;
        const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
        const __m512i high = _mm512_setr_epi32(k, k + 1, k + 2, 7, 8 + k, 9 + k, 10 + k, 15, 16 + k, 17 + k, 18 + k, 23, 24 + k, 25 + k, 26 + k, 31);
        const __m512 a = _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(r0)), _mm256_loadu_ps(r1), 1);
        const __m512 b = _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(r2)), _mm256_loadu_ps(r3), 1);
        constexpr __mmask16 kExisting = kCount == 4 ? 0xffff : 0x7777;
        first.p[0] = (typename Lanes<T>::Part)_mm512_maskz_permutex2var_ps(kExisting, a, low, b);
        second.p[0] = (typename Lanes<T>::Part)_mm512_maskz_permutex2var_ps(kExisting, a, high, b);
        return;
    }
#endif
    first = join_quads(Quad<T>::load(r0), Quad<T>::load(r1), Quad<T>::load(r2), Quad<T>::load(r3));
    second = join_quads(Quad<T>::load(r0 + kCount), Quad<T>::load(r1 + kCount), Quad<T>::load(r2 + kCount), Quad<T>::load(r3 + kCount));
    if constexpr (kCount == 3) {
        first = first_channels<3>(first);
        second = first_channels<3>(second);
    }
}

// Of a row the first kCount numbers and the kCount behind them, each twice: four pixels of four channels, the fourth of three anything. Eight
// numbers must be readable.
template <int kCount, class T> RG_FN Lanes<T> neighbours_twice(const T* row) {
    static_assert(kCount == 3 || kCount == 4, "three or four channels");
#if RG_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
        constexpr int k = kCount;
        const __m512i from = _mm512_setr_epi32(0, 1, 2, 3, 0, 1, 2, 3, k, k + 1, k + 2, 7, k, k + 1, k + 2, 7);
        Lanes<T> r;
        r.p[0] = (typename Lanes<T>::Part)_mm512_permutexvar_ps(from, _mm512_castps256_ps512(_mm256_loadu_ps(row)));
        return r;
    }
#endif
    const Quad<T> first = Quad<T>::load(row), second = Quad<T>::load(row + kCount);
    return join_quads(first, first, second, second);
}

// rows(l) points to the four numbers of lane l.
template <class T, class Rows> RG_FN Columns4<T> load_columns(Rows&& rows) {
    Columns4<T> c;
#if defined(__SSE2__)
    if constexpr (sizeof(T) == 4) {
        Lanes<float> out[4];
        const auto load = [&](int l) { return _mm_loadu_ps(reinterpret_cast<const float*>(rows(l))); };
        for (int r = 0; r < 4; r++)  // group k of register r is row 4k + r, so that the transpose leaves rows in order
            out[r] = join(load(r), load(4 + r), load(8 + r), load(12 + r));
        transpose_groups(out[0], out[1], out[2], out[3]);
        return {bits_as<T>(out[0]), bits_as<T>(out[1]), bits_as<T>(out[2]), bits_as<T>(out[3])};
    }
#endif
    for (int l = 0; l < kLanes; l++) {
        const T* row = rows(l);
        c.x.set(l, row[0]); c.y.set(l, row[1]); c.z.set(l, row[2]); c.w.set(l, row[3]);
    }
    return c;
}
template <class T> RG_FN Columns4<T> load_columns(const T* first, int64_t stride) {
    return load_columns<T>([=](int l) { return first + l * stride; });
}
// A square of 4 x 4 neighbours, `stride` numbers from one line of four to the next; lane 4 x + y is place x of line y. In this order whole
// lines are loaded, and the transpose stays inside groups.
template <class T> RG_FN Columns4<T> load_square(const T* first, int64_t stride) {
#if defined(__SSE2__)
    if constexpr (sizeof(T) == 4) {
        Columns4<T> c{Lanes<T>::load(first), Lanes<T>::load(first + stride), Lanes<T>::load(first + 2 * stride), Lanes<T>::load(first + 3 * stride)};
        transpose_groups(c.x, c.y, c.z, c.w);
        return c;
    }
#endif
    return load_columns<T>([=](int l) { return first + (l & 3) * stride + (l >> 2) * 4; });
}

#if RG_VECTOR_BYTES == 64
// Number r of group g becomes number g of group r.
RG_FN Lanes<float> across_groups(Lanes<float> a) {
    a.p[0] = __builtin_shuffle(a.p[0], Lanes<int32_t>::Part{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15});
    return a;
}
#endif

// Sixteen rows of four, given column by column: then register r holds rows r, 4 + r, 8 + r and 12 + r.
template <class T> RG_FN void turn(Lanes<T> (&c)[4]) {
#if defined(__SSE2__)
    if constexpr (sizeof(T) == 4) return transpose_groups(c[0], c[1], c[2], c[3]);
#endif
    T column[4][kLanes], row[kLanes];
    for (int k = 0; k < 4; k++) c[k].store(column[k]);
    for (int r = 0; r < 4; r++) {
        for (int l = 0; l < kLanes; l++) row[l] = column[l & 3][(l & ~3) + r];
        c[r] = Lanes<T>::load(row);
    }
}

// The same, register r with the rows 4r to 4r + 3, as they lie in memory, ...
template <class T> RG_FN void turn_to_lines(Lanes<T> (&c)[4]) {
#if RG_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
        for (auto& column : c) column = across_groups(column);
        return transpose_groups(c[0], c[1], c[2], c[3]);
    }
#endif
    turn(c);
    alignas(64) T rows[kLanes][4];
    for (int r = 0; r < 4; r++)
        for (int g = 0; g < 4; g++) quad_of(c[r], g).store(rows[4 * g + r]);
    for (int r = 0; r < 4; r++) c[r] = Lanes<T>::load(rows[4 * r]);
}
// ... and back.
template <class T> RG_FN Columns4<T> columns_of_lines(const T* from) {
#if RG_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
        Columns4<T> c{Lanes<T>::load(from), Lanes<T>::load(from + kLanes), Lanes<T>::load(from + 2 * kLanes), Lanes<T>::load(from + 3 * kLanes)};
        transpose_groups(c.x, c.y, c.z, c.w);
        return {across_groups(c.x), across_groups(c.y), across_groups(c.z), across_groups(c.w)};
    }
#endif
    return load_columns<T>([=](int l) { return from + 4 * l; });
}

// The last numbers of sixteen rows of four that lie one after another.
template <class T> RG_FN Lanes<T> load_fourth(const T* rows) {
#if RG_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
        const __m512i fourth = _mm512_setr_epi32(3, 7, 11, 15, 19, 23, 27, 31, 3, 7, 11, 15, 19, 23, 27, 31);
        const __m512 low = _mm512_permutex2var_ps(_mm512_loadu_ps(rows), fourth, _mm512_loadu_ps(rows + 16));
        const __m512 high = _mm512_permutex2var_ps(_mm512_loadu_ps(rows + 32), fourth, _mm512_loadu_ps(rows + 48));
        Lanes<T> r;
        r.p[0] = (typename Lanes<T>::Part)_mm512_shuffle_f32x4(low, high, 0x44);
        return r;
    }
#endif
    return load_columns<T>(rows, 4).w;
}

// The first `count` rows go to to(l); `stream` bypasses the caches and asks for 16-byte alignment.
template <class T, class Rows> RG_FN void store_columns(Columns4<T> c, int count, bool stream, Rows&& to) {
#if defined(RASTERGRAD_SANITIZE)
    stream = false;  // sanitizers do not look at streaming stores
#endif
#if defined(__SSE2__)
    if constexpr (sizeof(T) == 4) {
        transpose_groups(c.x, c.y, c.z, c.w);
        const Lanes<float> turned[4] = {c.x, c.y, c.z, c.w};
        for (int k = 0; k < 4; k++)
            for (int r = 0; r < 4; r++) {
                if (4 * k + r >= count) continue;
                if (stream) _mm_stream_ps(to(4 * k + r), group(turned[r], k));
                else _mm_storeu_ps(to(4 * k + r), group(turned[r], k));
            }
        return;
    }
#endif
    (void)stream;
    for (int l = 0; l < count; l++) {
        T* row = to(l);
        row[0] = c.x[l]; row[1] = c.y[l]; row[2] = c.z[l]; row[3] = c.w[l];
    }
}
// The 16 rows as a square of 4 x 4 neighbours in memory, `stride` numbers from one line of four to the next; lane 4 x + y is place x of
// line y. In this order the transpose leaves whole lines in registers. `stream` as above; `whole` says that lines are aligned to 64 bytes.
template <class T> RG_FN void store_square(Columns4<T> c, bool stream, bool whole, T* first, int64_t stride) {
#if defined(__SSE2__)
    if constexpr (sizeof(T) == 4) {
        if (!stream || whole) {
#if defined(RASTERGRAD_SANITIZE)
            stream = false;
#endif
            transpose_groups(c.x, c.y, c.z, c.w);
            const Lanes<float> line[4] = {c.x, c.y, c.z, c.w};
            for (int y = 0; y < 4; y++)
                RG_UNROLLED for (int q = 0; q < Lanes<float>::kParts; q++) {
                    float* to = first + y * stride + q * Lanes<float>::kWidth;
                    if (!stream) memcpy(to, &line[y].p[q], RG_VECTOR_BYTES);
#if RG_VECTOR_BYTES == 64
                    else _mm512_stream_ps(to, (__m512)line[y].p[q]);
#elif RG_VECTOR_BYTES == 32
                    else _mm256_stream_ps(to, (__m256)line[y].p[q]);
#else
                    else _mm_stream_ps(to, (__m128)line[y].p[q]);
#endif
                }
            return;
        }
    }
#endif
    (void)whole;
    store_columns<T>(c, kLanes, stream, [=](int l) { return first + (l & 3) * stride + (l >> 2) * 4; });
}
// Zeros to `count` numbers; `stream` asks for 16-byte alignment.
template <class T> RG_FN void store_zeros(T* to, int64_t count, bool stream) {
#if defined(__SSE2__) && !defined(RASTERGRAD_SANITIZE)
    if (stream && count * sizeof(T) % 16 == 0) {
        char* at = reinterpret_cast<char*>(to);
        char* const end = at + count * sizeof(T);
        for (; at < end && reinterpret_cast<uintptr_t>(at) % RG_VECTOR_BYTES; at += 16) _mm_stream_ps(reinterpret_cast<float*>(at), _mm_setzero_ps());
#if RG_VECTOR_BYTES == 64
        for (; at + 64 <= end; at += 64) _mm512_stream_ps(reinterpret_cast<float*>(at), _mm512_setzero_ps());
#elif RG_VECTOR_BYTES == 32
        for (; at + 32 <= end; at += 32) _mm256_stream_ps(reinterpret_cast<float*>(at), _mm256_setzero_ps());
#endif
        for (; at < end; at += 16) _mm_stream_ps(reinterpret_cast<float*>(at), _mm_setzero_ps());
        return;
    }
#endif
    (void)stream;
    memset(to, 0, size_t(count) * sizeof(T));
}
// Streaming stores become visible to other threads only after this.
RG_FN void stream_fence() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

RG_END
