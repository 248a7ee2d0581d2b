// SPDX-License-Identifier: MIT
// Four neighbouring numbers in memory: the channels of one pixel, or one vertex; and the turn from 16 such rows to 4 Lanes and back.
#pragma once
#include "lanes.h"

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
};
template <class T> RG_FN T sum(Quad<T> a) { return (a[0] + a[1]) + (a[2] + a[3]); }

template <class T> RG_FN bool is_zero(Quad<T> a) {
    const auto nonzero = a.p != typename Quad<T>::Part{};
    uint64_t words[sizeof(nonzero) / 8];
    memcpy(words, &nonzero, sizeof nonzero);
    uint64_t any_set = 0;
    for (uint64_t w : words) any_set |= w;
    return any_set == 0;
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
    for (int q = 0; q < Lanes<float>::kParts; q++) {
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

// rows(l) points to the four numbers of lane l.
template <class T, class Rows> RG_FN Columns4<T> load_columns(Rows&& rows) {
    Columns4<T> c;
#if defined(__SSE2__)
    if constexpr (sizeof(T) == 4) {
        Lanes<float>* out[4] = {&c.x, &c.y, &c.z, &c.w};
        for (int r = 0; r < 4; r++)  // group k of register r is row 4k + r, so that the transpose leaves rows in order
            *out[r] = join(_mm_loadu_ps(rows(r)), _mm_loadu_ps(rows(4 + r)), _mm_loadu_ps(rows(8 + r)), _mm_loadu_ps(rows(12 + r)));
        transpose_groups(c.x, c.y, c.z, c.w);
        return c;
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
// A square of 4 x 4 neighbours, `stride` numbers from one line of four to the next. Whole lines where a register holds one.
template <class T> RG_FN Columns4<T> load_square(const T* first, int64_t stride) {
#if RG_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
        const __m512 a = _mm512_loadu_ps(first), b = _mm512_loadu_ps(first + stride);
        const __m512 d = _mm512_loadu_ps(first + 2 * stride), e = _mm512_loadu_ps(first + 3 * stride);
        const __m512 ab0 = _mm512_shuffle_f32x4(a, b, 0x44), ab2 = _mm512_shuffle_f32x4(a, b, 0xee);
        const __m512 de0 = _mm512_shuffle_f32x4(d, e, 0x44), de2 = _mm512_shuffle_f32x4(d, e, 0xee);
        Columns4<T> c;
        c.x.p[0] = (Lanes<float>::Part)_mm512_shuffle_f32x4(ab0, de0, 0x88);
        c.y.p[0] = (Lanes<float>::Part)_mm512_shuffle_f32x4(ab0, de0, 0xdd);
        c.z.p[0] = (Lanes<float>::Part)_mm512_shuffle_f32x4(ab2, de2, 0x88);
        c.w.p[0] = (Lanes<float>::Part)_mm512_shuffle_f32x4(ab2, de2, 0xdd);
        transpose_groups(c.x, c.y, c.z, c.w);
        return c;
    }
#endif
    return load_columns<T>([=](int l) { return first + (l >> 2) * stride + (l & 3) * 4; });
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
// The 16 rows as a square of 4 x 4 neighbours in memory, `stride` numbers from one line of four to the next. Whole lines where a register
// holds one: a quarter of the stores. `stream` as above.
template <class T> RG_FN void store_square(Columns4<T> c, bool stream, T* first, int64_t stride) {
#if RG_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
        if (!stream || (reinterpret_cast<uintptr_t>(first) | uintptr_t(stride * 4)) % 64 == 0) {
#if defined(RASTERGRAD_SANITIZE)
            stream = false;
#endif
            transpose_groups(c.x, c.y, c.z, c.w);
            const __m512 a = (__m512)c.x.p[0], b = (__m512)c.y.p[0], d = (__m512)c.z.p[0], e = (__m512)c.w.p[0];
            const __m512 ab0 = _mm512_shuffle_f32x4(a, b, 0x44), ab2 = _mm512_shuffle_f32x4(a, b, 0xee);
            const __m512 de0 = _mm512_shuffle_f32x4(d, e, 0x44), de2 = _mm512_shuffle_f32x4(d, e, 0xee);
            const __m512 line[4] = {_mm512_shuffle_f32x4(ab0, de0, 0x88), _mm512_shuffle_f32x4(ab0, de0, 0xdd),
                                    _mm512_shuffle_f32x4(ab2, de2, 0x88), _mm512_shuffle_f32x4(ab2, de2, 0xdd)};
            for (int k = 0; k < 4; k++) {
                if (stream) _mm512_stream_ps(first + k * stride, line[k]);
                else _mm512_storeu_ps(first + k * stride, line[k]);
            }
            return;
        }
    }
#endif
    store_columns<T>(c, kLanes, stream, [=](int l) { return first + (l >> 2) * stride + (l & 3) * 4; });
}
// Streaming stores become visible to other threads only after this.
RG_FN void stream_fence() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

RG_END
