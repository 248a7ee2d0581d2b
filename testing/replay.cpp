// SPDX-License-Identifier: MIT
// Plays recorded kernel calls back (testing/instructions.py writes the tape): `replay TAPE`, linked to the shared library.
// Numbers on the tape are int64. A call: length of the name, name, count of blocks, count of fields; each block's size and bytes; each
// field's block (-1: none) and value (an offset, where there is a block).
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "c_api.h"

// What valgrind counts: the library may be stripped of names, this program is not.
extern "C" __attribute__((noinline)) int64_t counted_call(int32_t kernel, const int64_t* fields) {
    const int64_t answer = rg_run_kernel(kernel, fields);
    __asm__ volatile("");  // no tail call, which would end the counting at its start
    return answer;
}

namespace {

constexpr size_t kPage = 4096;  // blocks start on one, as loops may take more or fewer rounds for other alignments

void read(FILE* tape, void* into, size_t bytes) {
    if (bytes && std::fread(into, 1, bytes, tape) != bytes) { std::fputs("the tape ends early\n", stderr); std::exit(1); }
}
int64_t number(FILE* tape) { int64_t n; read(tape, &n, sizeof n); return n; }

void play(FILE* tape, size_t name_length) {
    std::string name(name_length, ' ');
    read(tape, name.data(), name_length);
    std::vector<std::string> contents(size_t(number(tape)));
    std::vector<int64_t> fields(size_t(number(tape)));
    std::vector<char*> blocks;
    for (std::string& content : contents) {
        content.resize(size_t(number(tape)));
        read(tape, content.data(), content.size());
        blocks.push_back(static_cast<char*>(std::aligned_alloc(kPage, (content.size() + kPage) / kPage * kPage)));
    }
    for (int64_t& field : fields) {
        const int64_t block = number(tape), value = number(tape);
        field = block < 0 ? value : int64_t(reinterpret_cast<intptr_t>(blocks[size_t(block)] + value));
    }
    const int32_t kernel = rg_find_kernel(name.c_str());
    if (kernel < 0 || rg_kernel_fields(kernel) != int32_t(fields.size())) {
        std::fprintf(stderr, "no kernel %s of %zu fields\n", name.c_str(), fields.size());
        std::exit(1);
    }
    // Twice from the same state: the first call also finds its way to library functions and gets its scratch memory.
    for (auto call : {rg_run_kernel, counted_call}) {
        for (size_t i = 0; i < blocks.size(); i++) std::memcpy(blocks[i], contents[i].data(), contents[i].size());
        call(kernel, fields.data());
    }
    for (char* block : blocks) std::free(block);
}

}  // namespace

int main(int count, char** arguments) {
    FILE* tape = count == 2 ? std::fopen(arguments[1], "rb") : nullptr;
    if (!tape) { std::fputs("replay TAPE\n", stderr); return 1; }
    for (int64_t length; std::fread(&length, sizeof length, 1, tape) == 1;) play(tape, size_t(length));
    std::fclose(tape);
}
