// SPDX-License-Identifier: MIT
#include "c_api.h"

#include <memory>
#include <new>

#include "gpu.h"
#include "kernels.h"
#include "memory.h"

namespace {

// The layout of DLPack 0.x and 1.x (dmlc/dlpack, dlpack.h), an ABI: facts, not code.
struct DLDevice { int32_t type, id; };
struct DLDataType { uint8_t code, bits; uint16_t lanes; };
struct DLTensor { void* data; DLDevice device; int32_t rank; DLDataType dtype; int64_t* shape; int64_t* strides; uint64_t byte_offset; };
struct DLManagedTensor { DLTensor tensor; void* context; void (*deleter)(DLManagedTensor*); };
struct DLManagedTensorVersioned {
    uint32_t major, minor;
    void* context;
    void (*deleter)(DLManagedTensorVersioned*);
    uint64_t flags;
    DLTensor tensor;
};

constexpr int kMaxRank = 8;
template <class Managed> struct Holder { Managed managed; int64_t shape[kMaxRank], strides[kMaxRank]; size_t bytes; };

template <class Managed> void delete_holder(Managed* managed) {
    auto* holder = static_cast<Holder<Managed>*>(managed->context);
    rg::give_block(managed->tensor.data, holder->bytes);
    delete holder;
}

template <class Managed> Managed* new_holder(int32_t rank, const int64_t* shape, int32_t code, int32_t bits) {
    if (rank < 0 || rank > kMaxRank) return nullptr;
    std::unique_ptr<Holder<Managed>> holder(new (std::nothrow) Holder<Managed>);
    if (!holder) return nullptr;
    int64_t count = 1, bytes;
    for (int32_t d = rank - 1; d >= 0; d--) {
        holder->shape[d] = shape[d];
        holder->strides[d] = count;
        if (shape[d] < 0 || __builtin_mul_overflow(count, shape[d], &count)) return nullptr;
    }
    if (__builtin_mul_overflow(count, int64_t(bits / 8), &bytes)) return nullptr;
    holder->bytes = size_t(bytes);
    void* data;
    try {
        data = rg::take_block(holder->bytes);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
    constexpr int32_t kCpu = 1;
    holder->managed = {};
    holder->managed.tensor = {data, {kCpu, 0}, rank, {uint8_t(code), uint8_t(bits), 1}, holder->shape, holder->strides, 0};
    holder->managed.context = holder.get();
    holder->managed.deleter = delete_holder<Managed>;
    return &holder.release()->managed;
}

}  // namespace

extern "C" {

int32_t rg_find_kernel(const char* name) { return rg::find_kernel(name); }
int32_t rg_kernel_fields(int32_t kernel) {
    const rg::Kernel* k = rg::kernel_at(kernel);
    return k ? k->fields : -1;
}
const char* rg_kernel_name(int32_t kernel) {
    const rg::Kernel* k = rg::kernel_at(kernel);
    return k ? k->name : "";
}
int64_t rg_run_kernel(int32_t kernel, const int64_t* fields) { return rg::kernel_at(kernel)->run(fields); }

int32_t rg_simd_level_count(void) { return rg::simd_level_count(); }
const char* rg_simd_level_name(int32_t index) { return rg::simd_level_name(index); }
const char* rg_simd_level_in_use(void) { return rg::simd_level_in_use(); }
int32_t rg_simd_choice_failed(void) { return rg::simd_choice_failed(); }

void* rg_new_tensor(int32_t rank, const int64_t* shape, int32_t code, int32_t bits, int32_t versioned) {
    if (!versioned) return new_holder<DLManagedTensor>(rank, shape, code, bits);
    auto* managed = new_holder<DLManagedTensorVersioned>(rank, shape, code, bits);
    if (managed) managed->major = 1;
    return managed;
}
void rg_delete_tensor(void* managed) { delete_holder(static_cast<DLManagedTensor*>(managed)); }

size_t rg_release_idle(void) { return rg::release_idle(); }
void rg_set_idle_limit(size_t bytes) { rg::set_idle_limit(bytes); }
void rg_memory_use(size_t* in_use, size_t* idle, size_t* limit) {
    const rg::MemoryUse use = rg::memory_use();
    *in_use = use.in_use;
    *idle = use.idle;
    *limit = use.limit;
}

const char* rg_gpu_driver_version(int32_t* version) { return rg::gpu::driver_version(version); }
const char* rg_gpu_load(int32_t device, const void* image, int64_t* module) { return rg::gpu::load(device, image, module); }
const char* rg_gpu_function(int32_t device, int64_t module, const char* name, int64_t* handle, int32_t* threads, int32_t* registers,
                            int32_t* local_bytes) {
    rg::gpu::Function found{};
    const char* fault = rg::gpu::function(device, module, name, &found);
    *handle = found.handle;
    *threads = found.threads;
    *registers = found.registers;
    *local_bytes = found.local_bytes;
    return fault;
}
const char* rg_gpu_launch(int64_t handle, int32_t device, int64_t blocks_x, int64_t blocks_y, int64_t blocks_z, int64_t threads, int64_t stream,
                          const int64_t* fields) {
    return rg::gpu::launch(handle, device, {blocks_x, blocks_y, blocks_z}, threads, stream, fields);
}
}
