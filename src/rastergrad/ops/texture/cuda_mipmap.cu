// SPDX-License-Identifier: MIT
// Mip stacks on a GPU. A block takes 32 x 32 texels, of four channels, five levels down in shared memory: a texture of 1024^2 needs two
// launches. Where a side is odd or down to one, levels are made one at a time.
#include "device.h"
#include "formulas.h"

RG_BEGIN

struct StackArgs {
    const Real* from;   // [planes][height][width][channels]
    Real* to;           // the levels above, one behind the other
    int64_t planes, height, width, channels;
    int64_t levels;     // at most five; both sides are multiples of 2^levels
};

constexpr int kSide = 16;  // of the first level that a block makes

RG_GLOBAL(texture_stack_tile, kSide* kSide, StackArgs, a) {
    RG_SHARED Real kept[2][kSide * kSide][4];
    const int64_t width = a.width / 2, height = a.height / 2;
    const uint32_t across = uint32_t((width + kSide - 1) / kSide), down = uint32_t((height + kSide - 1) / kSide);
    const uint32_t tile_row = blockIdx.x / across;
    const int64_t plane = tile_row / down;
    const int64_t x0 = int64_t(blockIdx.x - tile_row * across) * kSide, y0 = int64_t(tile_row % down) * kSide;
    const int64_t c0 = 4 * int64_t(blockIdx.y);
    const int count = int(minimum(a.channels - c0, int64_t(4)));
    Real* to = a.to;
    int64_t w = width, h = height;
    for (int k = 0; k < int(a.levels); k++) {
        const int side = kSide >> k, i = int(threadIdx.x) % side, j = int(threadIdx.x) / side;
        const int64_t x = (x0 >> k) + i, y = (y0 >> k) + j;
        const bool mine = int(threadIdx.x) < side * side && x < w && y < h;
        if (mine) {
            Real* const place = to + ((plane * h + y) * w + x) * a.channels + c0;
            for (int c = 0; c < count; c++) {
                Real v;
                if (k == 0) {
                    const Real* above = a.from + ((plane * a.height + 2 * y) * a.width + 2 * x) * a.channels + c0 + c;
                    const Real* below = above + a.width * a.channels;
                    v = average_of_four(above[0], above[a.channels], below[0], below[a.channels]);
                } else {
                    const Real(*from)[4] = kept[(k - 1) & 1];
                    const int first = 2 * j * (2 * side) + 2 * i, second = first + 2 * side;
                    v = average_of_four(from[first][c], from[first + 1][c], from[second][c], from[second + 1][c]);
                }
                place[c] = v;
                kept[k & 1][j * side + i][c] = v;
            }
        }
        __syncthreads();
        to += a.planes * h * w * a.channels;
        w /= 2;
        h /= 2;
    }
}

// One level, an element a thread.
RG_GLOBAL(texture_stack_level, 256, StackArgs, a) {
    const bool halve_rows = a.height > 1, halve_columns = a.width > 1;
    const int64_t height = halve_rows ? a.height / 2 : 1, width = halve_columns ? a.width / 2 : 1;
    const int64_t item = thread_number(), texel = item / a.channels, c = item - texel * a.channels;
    if (texel >= a.planes * height * width) return;
    const int64_t row = texel / width, x = texel - row * width, plane = row / height, y = row - plane * height;
    const Real* above = a.from + ((plane * a.height + (halve_rows ? 2 * y : y)) * a.width + (halve_columns ? 2 * x : x)) * a.channels + c;
    const Real* below = above + (halve_rows ? a.width * a.channels : 0);
    if (halve_rows && halve_columns) a.to[item] = average_of_four(above[0], above[a.channels], below[0], below[a.channels]);
    else a.to[item] = halve_columns ? average_of_two(above[0], above[a.channels]) : average_of_two(above[0], below[0]);
}

RG_END
