// SPDX-License-Identifier: MIT
#include "gpu.h"

#include <string>

#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace rg::gpu {
namespace {

// The driver's interface (CUDA Driver API reference), an ABI: facts, not code.
using Result = int;
using Handle = void*;
constexpr Result kSuccess = 0;
enum Attribute { kThreads = 0, kLocalBytes = 3, kRegisters = 4 };
constexpr int kRelaxed = 2;  // stream capture mode

struct Driver {
    Result (*init)(unsigned);
    Result (*version)(int*);
    Result (*retain)(Handle*, int);
    Result (*current)(Handle*);
    Result (*push)(Handle);
    Result (*pop)(Handle*);
    Result (*exchange)(int*);
    Result (*load)(Handle*, const void*);
    Result (*function)(Handle*, Handle, const char*);
    Result (*attribute)(int*, int, Handle);
    Result (*launch)(Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Handle, void**, void**);
    Result (*error_name)(Result, const char**);
    Result (*error_text)(Result, const char**);
    bool open = false;
};
Driver driver;

constexpr int kMostDevices = 64;
Handle contexts[kMostDevices];  // primary ones

const char* fault(const std::string& text) {
    static thread_local std::string kept;
    kept = text;
    return kept.c_str();
}
const char* fault(const char* doing, Result result) {
    const char *name = nullptr, *text = nullptr;
    driver.error_name(result, &name);
    driver.error_text(result, &text);
    return fault(std::string(doing) + ": " + (name ? name : "error " + std::to_string(result)) + (text ? std::string(", ") + text : ""));
}

void* library() {
#if defined(_WIN32)
    return reinterpret_cast<void*>(LoadLibraryA("nvcuda.dll"));
#else
    for (const char* name : {"libcuda.so.1", "libcuda.so"})
        if (void* found = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return found;
    return nullptr;
#endif
}
void* symbol(void* library, const char* name) {
#if defined(_WIN32)
    return reinterpret_cast<void*>(GetProcAddress(reinterpret_cast<HMODULE>(library), name));
#else
    return dlsym(library, name);
#endif
}

// Makes the device's primary context current for a scope, unless it is already: in a fresh thread of autograd none is.
class Current {
  public:
    explicit Current(Handle context) {
        Handle now = nullptr;
        result = driver.current(&now);
        if (result == kSuccess && now != context) {
            result = driver.push(context);
            pushed_ = result == kSuccess;
        }
    }
    ~Current() {
        Handle unused;
        if (pushed_) driver.pop(&unused);
    }
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;
    Result result;

  private:
    bool pushed_ = false;
};

// Loading is refused while any stream records a graph, unless this thread says that it knows.
class WhileCapturing {
  public:
    WhileCapturing() { driver.exchange(&mode_); }
    ~WhileCapturing() { driver.exchange(&mode_); }
    WhileCapturing(const WhileCapturing&) = delete;
    WhileCapturing& operator=(const WhileCapturing&) = delete;

  private:
    int mode_ = kRelaxed;
};

}  // namespace

const char* open_driver() {
    if (driver.open) return "";
    void* lib = library();
    if (!lib) return fault("there is no NVIDIA driver: libcuda.so.1 cannot be loaded");
    Driver d;
    const struct { void** slot; const char* name; } wanted[] = {
        {reinterpret_cast<void**>(&d.init), "cuInit"},
        {reinterpret_cast<void**>(&d.version), "cuDriverGetVersion"},
        {reinterpret_cast<void**>(&d.retain), "cuDevicePrimaryCtxRetain"},
        {reinterpret_cast<void**>(&d.current), "cuCtxGetCurrent"},
        {reinterpret_cast<void**>(&d.push), "cuCtxPushCurrent_v2"},
        {reinterpret_cast<void**>(&d.pop), "cuCtxPopCurrent_v2"},
        {reinterpret_cast<void**>(&d.exchange), "cuThreadExchangeStreamCaptureMode"},
        {reinterpret_cast<void**>(&d.load), "cuModuleLoadData"},
        {reinterpret_cast<void**>(&d.function), "cuModuleGetFunction"},
        {reinterpret_cast<void**>(&d.attribute), "cuFuncGetAttribute"},
        {reinterpret_cast<void**>(&d.launch), "cuLaunchKernel"},
        {reinterpret_cast<void**>(&d.error_name), "cuGetErrorName"},
        {reinterpret_cast<void**>(&d.error_text), "cuGetErrorString"},
    };
    for (const auto& w : wanted)
        if (!(*w.slot = symbol(lib, w.name))) return fault(std::string("the NVIDIA driver is too old: it has no ") + w.name);
    driver = d;
    const Result result = driver.init(0);
    if (result != kSuccess) return fault("the NVIDIA driver does not start", result);
    driver.open = true;
    return "";
}

const char* driver_version(int32_t* version) {
    if (const char* text = open_driver(); *text) return text;
    const Result result = driver.version(version);
    return result == kSuccess ? "" : fault("the driver's version", result);
}

const char* load(int32_t device, const void* image, int64_t* module) {
    if (const char* text = open_driver(); *text) return text;
    if (device < 0 || device >= kMostDevices) return fault("no such device");
    WhileCapturing capturing;
    if (!contexts[device])
        if (const Result result = driver.retain(&contexts[device], device)) return fault("the device's context", result);
    Current current(contexts[device]);
    if (current.result) return fault("the device's context", current.result);
    Handle made = nullptr;
    if (const Result result = driver.load(&made, image)) return fault("loading", result);
    *module = int64_t(reinterpret_cast<intptr_t>(made));
    return "";
}

const char* function(int32_t device, int64_t module, const char* name, Function* found) {
    Current current(contexts[device]);
    Handle made = nullptr;
    if (const Result result = driver.function(&made, reinterpret_cast<Handle>(intptr_t(module)), name)) return fault(name, result);
    found->handle = int64_t(reinterpret_cast<intptr_t>(made));
    const struct { Attribute what; int32_t* where; } wanted[] = {
        {kThreads, &found->threads}, {kRegisters, &found->registers}, {kLocalBytes, &found->local_bytes}};
    for (const auto& w : wanted)
        if (const Result result = driver.attribute(w.where, w.what, made)) return fault(name, result);
    return "";
}

const char* launch(int64_t handle, int32_t device, const int64_t (&blocks)[3], int64_t threads, int64_t stream, const int64_t* fields) {
    constexpr int64_t kMostBlocks[3] = {2147483647, 65535, 65535};
    for (int axis = 0; axis < 3; axis++)
        if (blocks[axis] < 1 || blocks[axis] > kMostBlocks[axis]) return fault("a grid of " + std::to_string(blocks[axis]) + " blocks along one axis");
    Current current(contexts[device]);
    if (current.result) return fault("the device's context", current.result);
    void* arguments[] = {const_cast<int64_t*>(fields)};
    const Result result = driver.launch(reinterpret_cast<Handle>(intptr_t(handle)), unsigned(blocks[0]), unsigned(blocks[1]), unsigned(blocks[2]),
                                        unsigned(threads), 1, 1, 0, reinterpret_cast<Handle>(intptr_t(stream)), arguments, nullptr);
    return result == kSuccess ? "" : fault("launching", result);
}

}  // namespace rg::gpu
