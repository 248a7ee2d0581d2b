// SPDX-License-Identifier: MIT
// The kernels of this room by name.
#include "cpu_kernels.h"
#include "kernels.h"

RG_BEGIN

constexpr Kernel kInterpolateKernels[] = {
    RG_KERNEL("interpolate_forward_f32", ForwardArgs<float>, forward<float>),
    RG_KERNEL("interpolate_forward_f64", ForwardArgs<double>, forward<double>),
    RG_KERNEL("interpolate_backward_f32", BackwardArgs<float>, backward<float>),
    RG_KERNEL("interpolate_backward_f64", BackwardArgs<double>, backward<double>),
};

RG_END

RG_ROOM_TABLE(interpolate, rg::RG_ISA::kInterpolateKernels)
