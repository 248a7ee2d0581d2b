// SPDX-License-Identifier: MIT
// The kernels of this room by name.
#include "cpu_kernels.h"
#include "kernels.h"

RG_BEGIN

constexpr Kernel kInterpolateKernels[] = {
    RG_KERNEL("interpolate_forward_f32", InterpolateForwardArgs<float>, interpolate_forward<float>),
    RG_FLOAT64(RG_KERNEL("interpolate_forward_f64", InterpolateForwardArgs<double>, interpolate_forward<double>), )
    RG_KERNEL("interpolate_backward_f32", InterpolateBackwardArgs<float>, interpolate_backward<float>),
    RG_FLOAT64(RG_KERNEL("interpolate_backward_f64", InterpolateBackwardArgs<double>, interpolate_backward<double>), )
};

RG_END

RG_ROOM_TABLE(interpolate, rg::RG_ISA::kInterpolateKernels)
