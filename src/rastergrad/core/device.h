// SPDX-License-Identifier: MIT
// What every cuda.cu builds on, beside portable.h: kernels by name, 16-byte loads, and sums over a warp. The words of CUDA (threadIdx,
// __syncthreads, atomicAdd, ...) come from NVRTC, or, where tests run kernels on a CPU, from their emulator.
//
// Rules that keep kernels right on both: blocks are one-dimensional, their threads a multiple of 32; every lane of a warp reaches every
// __..._sync, with the mask kWarp, and every thread of a block every __syncthreads; shared memory is declared in the kernel itself.
#pragma once
#include "vec.h"

// RG_GLOBAL(interpolate_forward, 256, ForwardArgs<Real>, a) { ... }: a kernel of 256 threads a block that gets one struct `a` of 8-byte
// fields. The module is compiled once per number type, so names carry none.
#if !defined(RG_EMULATED)
#define RG_CHECK_ALIGNED(P)
#define RG_SHARED __shared__
#define RG_OUT_OF_LINE __noinline__
// __grid_constant__: fields that are indexed by a variable are read where they lie.
#define RG_GLOBAL(NAME, THREADS, ARGS, A) extern "C" __global__ void __launch_bounds__(THREADS) NAME(const __grid_constant__ ARGS A)
// At least BLOCKS blocks at a time on a processor: for the few kernels whose registers the compiler would otherwise spill too early.
#define RG_GLOBAL_SHARING(NAME, THREADS, BLOCKS, ARGS, A) \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) NAME(const __grid_constant__ ARGS A)
#endif

RG_BEGIN

using Real = RG_REAL;

constexpr unsigned kWarp = 0xffffffffu;
constexpr int kWarpSize = 32;

RG_FN int64_t thread_number() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
RG_FN int64_t thread_count() { return int64_t(gridDim.x) * blockDim.x; }
RG_FN int lane_number() { return int(threadIdx.x) % kWarpSize; }
RG_FN int warp_number() { return int(threadIdx.x) / kWarpSize; }

// Four numbers that lie on a multiple of 16 bytes (the Python side sees to that): one transaction, or two.
RG_FN Vec4<float> load4(const float* p) {
    RG_CHECK_ALIGNED(p);
    const float4 v = *reinterpret_cast<const float4*>(p);
    return {v.x, v.y, v.z, v.w};
}
RG_FN Vec4<double> load4(const double* p) {
    RG_CHECK_ALIGNED(p);
    const double2 a = reinterpret_cast<const double2*>(p)[0], b = reinterpret_cast<const double2*>(p)[1];
    return {a.x, a.y, b.x, b.y};
}
RG_FN void store4(float* p, Vec4<float> v) {
    RG_CHECK_ALIGNED(p);
    *reinterpret_cast<float4*>(p) = make_float4(v.x, v.y, v.z, v.w);
}
RG_FN void store4(double* p, Vec4<double> v) {
    RG_CHECK_ALIGNED(p);
    reinterpret_cast<double2*>(p)[0] = make_double2(v.x, v.y);
    reinterpret_cast<double2*>(p)[1] = make_double2(v.z, v.w);
}

// The sum over all lanes, in every lane; always the same order.
template <class T> RG_FN T warp_sum(T v) {
    for (int step = kWarpSize / 2; step > 0; step /= 2) v += __shfl_xor_sync(kWarp, v, step);
    return v;
}

RG_END
