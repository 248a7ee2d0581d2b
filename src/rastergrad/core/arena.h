// SPDX-License-Identifier: MIT
// Growing lists for one pass: pieces are cut from recycled blocks and given back all at once. Own containers instead of std::vector,
// whose inline functions the linker would merge over instruction sets (see portable.h).
#pragma once
#include "memory.h"
#include "portable.h"
#if defined(RASTERGRAD_SANITIZE)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

RG_BEGIN

// One per worker; not thread-safe.
class Arena {
  public:
    Arena() = default;
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    ~Arena() {
        while (blocks_) {
            Header* next = blocks_->next;
            give_block(blocks_, blocks_->bytes);
            blocks_ = next;
        }
    }
    // Aligned to 64 bytes, valid as long as the arena.
    void* take(size_t bytes) {
        const size_t step = (bytes + 63) / 64 * 64 + kGap;
        if (step > left_) refill(step);
        void* piece = at_;
        ASAN_UNPOISON_MEMORY_REGION(piece, bytes);
        at_ += step;
        left_ -= step;
        return piece;
    }

  private:
    // Under a sanitizer nobody may touch what lies between two pieces.
#if defined(RASTERGRAD_SANITIZE)
    static constexpr size_t kGap = 64;
#else
    static constexpr size_t kGap = 0;
#endif
    struct alignas(64) Header { Header* next; size_t bytes; };
    Header* blocks_ = nullptr;
    char* at_ = nullptr;
    size_t left_ = 0, next_size_ = size_t(64) << 10;

    void refill(size_t bytes) {
        size_t size = next_size_;
        while (size < bytes + sizeof(Header)) size *= 2;
        auto* block = static_cast<Header*>(take_block(size));
        block->next = blocks_;
        block->bytes = size;
        blocks_ = block;
        at_ = reinterpret_cast<char*>(block + 1);
        left_ = size - sizeof(Header);
        ASAN_POISON_MEMORY_REGION(at_, left_);
        if (next_size_ < size_t(2) << 20) next_size_ *= 2;
    }
};

// A list in insertion order. Zero-initialised memory is an empty list. Pieces grow from 16 entries to 1,024.
template <class T> struct PieceList {
    struct Piece { Piece* next; int32_t used, capacity; T* items() { return reinterpret_cast<T*>(this + 1); } };
    Piece* first;
    Piece* last;

    RG_FN void push(Arena& arena, T item) {
        if (!last || last->used == last->capacity) extend(arena);
        last->items()[last->used++] = item;
    }
    // Room for `count` items in one piece; the caller writes them and says so by `used`.
    RG_FN Piece* room_for(Arena& arena, int32_t count) {
        if (!last || last->capacity - last->used < count) extend(arena);
        return last;
    }
    // visit(items, count) for each piece, in order.
    template <class Visit> RG_FN void for_each_piece(Visit&& visit) const {
        for (Piece* piece = first; piece; piece = piece->next) visit(piece->items(), piece->used);
    }
    void extend(Arena& arena) {
        const int32_t capacity = !last ? 16 : last->capacity < 1024 ? last->capacity * 2 : 1024;
        auto* piece = static_cast<Piece*>(arena.take(sizeof(Piece) + size_t(capacity) * sizeof(T)));
        piece->next = nullptr;
        piece->used = 0;
        piece->capacity = capacity;
        (last ? last->next : first) = piece;
        last = piece;
    }
};

RG_END
