// SPDX-License-Identifier: MIT
// Chooses an instruction set once, at load, and finds kernels by name. RG_TABLES comes from CMake: one entry per room and instruction
// set, so that this file knows no room.
#include "kernels.h"

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernel_tables.inc"

namespace rg {
namespace {

bool runs_here(const char* level) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
    const bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd");
    if (!strcmp(level, "v2")) return v2;
    if (!strcmp(level, "v3")) return v3;
    if (!strcmp(level, "v4")) return v4;
#endif
    return !strcmp(level, "baseline") || !strcmp(level, "neon");
}

struct Choice {
    std::vector<const char*> usable;  // best first
    const char* used = nullptr;
    bool failed = false;
    std::vector<Kernel> kernels;

    Choice() {
        for (const Level& level : kLevels)
            if (runs_here(level.name)) usable.push_back(level.name);
        if (usable.empty()) { failed = true; return; }
        used = usable.front();
        const char* wanted = std::getenv("RASTERGRAD_SIMD");
        if (wanted && *wanted) {
            failed = true;
            for (const char* name : usable)
                if (!strcmp(name, wanted)) { used = name; failed = false; }
        }
        // What an instruction set has no kernel for, the next one has: the first of a name counts.
        bool found = false;
        for (const Level& level : kLevels) {
            found |= level.name == used;
            if (!found) continue;
            for (const KernelTable* table : level.tables) kernels.insert(kernels.end(), table->kernels, table->kernels + table->count);
        }
    }
};

const Choice& choice() {
    static const Choice* const one = new Choice;
    return *one;
}

}  // namespace

int32_t find_kernel(const char* name) {
    const auto& kernels = choice().kernels;
    for (size_t i = 0; i < kernels.size(); i++)
        if (!strcmp(kernels[i].name, name)) return int32_t(i);
    return -1;
}
const Kernel* kernel_at(int32_t index) {
    const auto& kernels = choice().kernels;
    return index >= 0 && size_t(index) < kernels.size() ? &kernels[size_t(index)] : nullptr;
}
int32_t simd_level_count() { return int32_t(choice().usable.size()); }
const char* simd_level_name(int32_t index) { return choice().usable[size_t(index)]; }
const char* simd_level_in_use() { return choice().used ? choice().used : ""; }
int32_t simd_choice_failed() { return choice().failed; }

}  // namespace rg
