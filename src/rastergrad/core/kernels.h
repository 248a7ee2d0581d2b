// SPDX-License-Identifier: MIT
// How a room offers its kernels: one struct of 8-byte fields each, filled from Python integers and floats in the order of declaration.
#pragma once
#include <cstdint>
#include <new>

namespace rg {

constexpr int64_t kOutOfMemory = INT64_MIN;

struct Kernel {
    const char* name;                // "interpolate_forward_f32"
    int32_t fields;                  // of the argument struct
    int64_t (*run)(const void*);     // the kernel's own answer, or kOutOfMemory
};
struct KernelTable { const Kernel* kernels; int32_t count; };

// Position of the kernel in the table of the instruction set in use, or -1.
int32_t find_kernel(const char* name);
const Kernel* kernel_at(int32_t index);

// Names of the instruction sets compiled in and able to run here, best first; the first is in use unless RASTERGRAD_SIMD chose another.
int32_t simd_level_count();
const char* simd_level_name(int32_t index);
const char* simd_level_in_use();
// 0 if RASTERGRAD_SIMD was empty or could be honoured.
int32_t simd_choice_failed();

}  // namespace rg

// In a cpu.cpp, inside the namespace of the instruction set:  RG_KERNEL("name_f32", ArgumentStruct, function)
#define RG_KERNEL(NAME, ARGS, FUNCTION)                                                                   \
    ::rg::Kernel{NAME, int32_t(sizeof(ARGS) / 8), [](const void* args) -> int64_t {                       \
        static_assert(sizeof(ARGS) % 8 == 0 && alignof(ARGS) <= 8, "fields of 8 bytes");                  \
        try { return FUNCTION(*static_cast<const ARGS*>(args)); }                                         \
        catch (const std::bad_alloc&) { return ::rg::kOutOfMemory; }                                      \
    }}
// RG_ROOM_TABLE(interpolate, kernels_array): the symbol that registry.cpp collects.
#define RG_TABLE_NAME_(ISA, ROOM) rastergrad_kernels_##ISA##_##ROOM
#define RG_TABLE_NAME(ISA, ROOM) RG_TABLE_NAME_(ISA, ROOM)
#define RG_ROOM_TABLE(ROOM, ARRAY)                                                                        \
    extern "C" const ::rg::KernelTable RG_TABLE_NAME(RG_ISA, ROOM);                                       \
    extern "C" constexpr ::rg::KernelTable RG_TABLE_NAME(RG_ISA, ROOM) = {ARRAY, int32_t(sizeof(ARRAY) / sizeof(ARRAY[0]))};
