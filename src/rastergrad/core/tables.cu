// SPDX-License-Identifier: MIT
// A few numbers from the host into memory of the device, as fields of a launch: no copy that would wait, none that a graph cannot record.
#include "device.h"

RG_BEGIN

constexpr int kAtOnce = 60;

struct TableArgs {
    int64_t* table;
    int64_t begin, count;
    int64_t numbers[kAtOnce];
};

RG_GLOBAL(write_table, 64, TableArgs, a) {
    // Constant indices only: an argument that is indexed by a variable is copied to slow memory first.
    int64_t mine = 0;
    for (int k = 0; k < kAtOnce; k++)
        if (int(threadIdx.x) == k) mine = a.numbers[k];
    if (int64_t(threadIdx.x) < a.count) a.table[a.begin + threadIdx.x] = mine;
}

RG_END
