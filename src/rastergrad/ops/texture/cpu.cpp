// SPDX-License-Identifier: MIT
// The kernels of the room.
#include "cpu_query.h"

RG_BEGIN

constexpr Kernel kTextureKernels[] = {
    RG_KERNEL("texture_forward_f32", ForwardArgs<float>, forward<float>),
    RG_FLOAT64(RG_KERNEL("texture_forward_f64", ForwardArgs<double>, forward<double>), )
    RG_KERNEL("texture_backward_f32", BackwardArgs<float>, backward<float>),
    RG_FLOAT64(RG_KERNEL("texture_backward_f64", BackwardArgs<double>, backward<double>), )
    RG_KERNEL("texture_stack_f32", StackArgs<float>, build_stack<float>),
    RG_FLOAT64(RG_KERNEL("texture_stack_f64", StackArgs<double>, build_stack<double>), )
};

RG_END

RG_ROOM_TABLE(texture, rg::RG_ISA::kTextureKernels)
