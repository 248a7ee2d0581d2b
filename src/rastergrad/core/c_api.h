/* SPDX-License-Identifier: MIT
   What module.c needs of the shared library, in C. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif
#if defined(_WIN32)
#define RG_API __declspec(dllexport)
#else
#define RG_API __attribute__((visibility("default")))
#endif

RG_API int32_t rg_find_kernel(const char* name);
/* Fields of the kernel's argument struct, or -1 if there is no such kernel. */
RG_API int32_t rg_kernel_fields(int32_t kernel);
RG_API const char* rg_kernel_name(int32_t kernel);
RG_API int64_t rg_run_kernel(int32_t kernel, const int64_t* fields);

RG_API int32_t rg_simd_level_count(void);
RG_API const char* rg_simd_level_name(int32_t index);
RG_API const char* rg_simd_level_in_use(void);
RG_API int32_t rg_simd_choice_failed(void);

/* A DLManagedTensorVersioned, or a DLManagedTensor, on a recycled block; NULL when memory is out. code: 0 int, 2 float (DLPack). */
RG_API void* rg_new_tensor(int32_t rank, const int64_t* shape, int32_t code, int32_t bits, int32_t versioned);
/* One that is not versioned. */
RG_API void rg_delete_tensor(void* managed);
RG_API size_t rg_release_idle(void);
RG_API void rg_set_idle_limit(size_t bytes);
RG_API void rg_memory_use(size_t* in_use, size_t* idle, size_t* limit);

/* gpu.h; each returns an empty string or what went wrong. */
RG_API const char* rg_gpu_driver_version(int32_t* version);
RG_API const char* rg_gpu_load(int32_t device, const void* image, int64_t* module);
RG_API const char* rg_gpu_function(int32_t device, int64_t module, const char* name, int64_t* handle, int32_t* threads, int32_t* registers,
                                   int32_t* local_bytes);
RG_API const char* rg_gpu_launch(int64_t handle, int32_t device, int64_t blocks_x, int64_t blocks_y, int64_t blocks_z, int64_t threads,
                                 int64_t stream, const int64_t* fields);

#if defined(__cplusplus)
}
#endif
