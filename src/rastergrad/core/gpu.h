// SPDX-License-Identifier: MIT
// The part of CUDA's driver that kernels need at run time, found when it is first asked for: loading a program that NVRTC has compiled, and
// launching. Everything that happens once (finding NVRTC, compiling, keeping programs on disk) is Python: core/nvrtc.py, core/cubins.py.
#pragma once
#include <cstddef>
#include <cstdint>

namespace rg::gpu {

// Each returns an empty string, or what went wrong in words for people. Not for several threads at once, but for launch().
const char* open_driver();
const char* driver_version(int32_t* version);                                // 13000 for 13.0
const char* load(int32_t device, const void* image, int64_t* module);        // into the primary context, which torch uses too
struct Function { int64_t handle; int32_t threads, registers, local_bytes; };  // threads: those of its __launch_bounds__
const char* function(int32_t device, int64_t module, const char* name, Function* found);
const char* launch(int64_t handle, int32_t device, const int64_t (&blocks)[3], int64_t threads, int64_t stream, const int64_t* fields);

}  // namespace rg::gpu
