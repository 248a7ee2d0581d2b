// SPDX-License-Identifier: MIT
// Recycled memory. Fresh pages cost more than rasterising: torch.empty outputs at 1024^2 made a 2.6 ms call 14 ms. Blocks of 2 MB and
// more lie on huge pages where the system has them.
#pragma once
#include <cstddef>
#include <cstdint>

namespace rg {
// Uninitialised, aligned to 64 bytes at least; throws std::bad_alloc.
void* take_block(size_t bytes);
// `bytes` as it was asked for.
void give_block(void* block, size_t bytes) noexcept;

// Idle blocks above this many bytes go back to the system, the least recently used first.
void set_idle_limit(size_t bytes) noexcept;
// Gives all idle blocks back to the system; returns how many bytes that were.
size_t release_idle() noexcept;
struct MemoryUse { size_t in_use, idle, limit; };
MemoryUse memory_use() noexcept;

// A block for the length of a scope.
template <class T> class Block {
  public:
    // Always inlined: a copy of its own would be shared by the kernels of all instruction sets.
    [[gnu::always_inline]] explicit Block(size_t count) : bytes_(count * sizeof(T)), data_(count ? static_cast<T*>(take_block(bytes_)) : nullptr) {}
    [[gnu::always_inline]] ~Block() { if (data_) give_block(data_, bytes_); }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    T* data() { return data_; }
    T& operator[](int64_t i) { return data_[i]; }

  private:
    size_t bytes_;
    T* data_;
};
}  // namespace rg
