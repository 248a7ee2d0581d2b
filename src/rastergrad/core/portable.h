// SPDX-License-Identifier: MIT
// What differs between a C++ compiler for a CPU and NVRTC: inlining, namespaces, integer types, scalar arithmetic.
#pragma once

#if defined(__CUDACC_RTC__)
using uint8_t = unsigned char;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
#define RG_FN __device__ __forceinline__
// Where inlining everything would make a program of megabytes.
#define RG_LONG_FN __device__ __noinline__
#define RG_ISA gpu
#else
#include <cmath>
#include <cstdint>
#include <cstring>
#define RG_FN inline __attribute__((always_inline))
#define RG_LONG_FN RG_FN
#if !defined(RG_ISA)
#define RG_ISA scalar
#endif
#endif

// Everything inline lives inside the namespace of its instruction set: the linker merges equal inline functions of
// different files, and an old processor would then execute instructions that it does not have. And inside that of its room (CMake
// says which): two rooms may have a `BackwardArgs` each, or a template `forward`, without one being taken for the other.
#if !defined(RG_ROOM)
#define RG_ROOM no_room
#endif
// Around what is of float64: an instruction set may leave that to the next one (CMake says which), as the wheel has to be small.
#if defined(RG_FLOAT32_ONLY)
#define RG_FLOAT64(...)
#else
#define RG_FLOAT64(...) __VA_ARGS__
#endif
#define RG_BEGIN namespace rg { namespace RG_ISA { inline namespace RG_ROOM {
#define RG_END } } }

RG_BEGIN

// The vocabulary of formulas.h for one number at a time; lanes.h offers the same words for sixteen, and the tests for dual numbers.
// Comparisons of F give mask_of<F>; `select` is the only branch that formulas take.
template <class F> struct MaskOf { using type = decltype(F() < F()); };
template <class F> using mask_of = typename MaskOf<F>::type;

RG_FN float select(bool m, float a, float b) { return m ? a : b; }
RG_FN double select(bool m, double a, double b) { return m ? a : b; }
RG_FN int32_t select(bool m, int32_t a, int32_t b) { return m ? a : b; }
RG_FN int64_t select(bool m, int64_t a, int64_t b) { return m ? a : b; }
// A NaN as first argument gives the second, as the x86 instructions do.
RG_FN float minimum(float a, float b) { return a < b ? a : b; }
RG_FN double minimum(double a, double b) { return a < b ? a : b; }
RG_FN int32_t minimum(int32_t a, int32_t b) { return a < b ? a : b; }
RG_FN int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
RG_FN float maximum(float a, float b) { return a > b ? a : b; }
RG_FN double maximum(double a, double b) { return a > b ? a : b; }
RG_FN int32_t maximum(int32_t a, int32_t b) { return a > b ? a : b; }
RG_FN int64_t maximum(int64_t a, int64_t b) { return a > b ? a : b; }
RG_FN float floor_of(float x) { return ::floorf(x); }
RG_FN double floor_of(double x) { return ::floor(x); }
RG_FN float sqrt_of(float x) { return ::sqrtf(x); }
RG_FN double sqrt_of(double x) { return ::sqrt(x); }
RG_FN float log2_of(float x) { return ::log2f(x); }
RG_FN double log2_of(double x) { return ::log2(x); }
RG_FN float abs_of(float x) { return ::fabsf(x); }
RG_FN double abs_of(double x) { return ::fabs(x); }
// +1 or -1 by the sign bit: -0 counts as negative.
RG_FN float sign_of(float x) { return ::copysignf(1.0f, x); }
RG_FN double sign_of(double x) { return ::copysign(1.0, x); }
RG_FN bool sign_bit(float x) { return sign_of(x) < 0; }
RG_FN bool sign_bit(double x) { return sign_of(x) < 0; }
RG_FN bool is_finite(float x) { return x - x == 0; }
RG_FN bool is_finite(double x) { return x - x == 0; }
RG_FN bool any(bool m) { return m; }
RG_FN bool all(bool m) { return m; }

RG_END
