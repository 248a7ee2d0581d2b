// SPDX-License-Identifier: MIT
// The stack of levels: each averages 2x2 texels of the one below, or pairs where one side is down to 1. The adjoint is in cpu_backward.cpp.
#include "cpu_cells.h"
#include "threads.h"

RG_BEGIN
namespace {

constexpr int64_t kTexelsPerChunk = 32768;

// One row of a smaller level from two rows (or one twice the width) of the larger. Quads run over the ends of texels; `end` bounds reads.
template <class T, int kChannels>
void average_row(const T* above, const T* below, bool halve_columns, int64_t width, int64_t any_channels, const T* end, T* to) {
    const int64_t channels = kChannels ? kChannels : any_channels;
    const int64_t step = halve_columns ? 2 * channels : channels;
    const T* const to_end = to + width * channels;
    for (int64_t i = 0; i < width; i++, above += step, below += step, to += channels)
        for (int64_t c = 0; c < channels; c += 4) {
            const int64_t left = channels - c;
            const T *a = above + c, *b = below + c;
            const int64_t reach = left >= 4 || (a + step + 4 <= end && b + step + 4 <= end) ? 4 : left;
            Quad<T> x;
            if (!halve_columns) x = average_of_two(load_some(a, reach), load_some(b, reach));
            else if (above == below) x = average_of_two(load_some(a, reach), load_some(a + channels, reach));
            else x = average_of_four(load_some(a, reach), load_some(a + channels, reach), load_some(b, reach), load_some(b + channels, reach));
            store_some(x, to + c, to + c + 4 <= to_end ? 4 : left);
        }
}

}  // namespace

template <class T> int64_t build_stack(const StackArgs<T>& a) {
    LevelSize size{a.height, a.width};
    const int64_t planes = a.tex_images * a.faces;
    const T* from = a.tex;
    T* to = a.stack;
    for (int64_t k = 1; k <= a.depth; k++) {
        const LevelSize next = size.smaller();
        const bool halve_columns = size.width > 1, halve_rows = size.height > 1;
        const int64_t from_row = size.width * a.channels, to_row = next.width * a.channels;
        const T* end = from + planes * size.height * from_row;
        const int64_t rows = planes * next.height;
        parallel_for(a.threads, rows, maximum(int64_t(1), kTexelsPerChunk / next.width), [&](int, int64_t begin, int64_t stop) {
            for (int64_t r = begin; r < stop; r++) {
                const T* above = from + (halve_rows ? 2 * r : r) * from_row;
                const T* below = halve_rows ? above + from_row : above;
                if (a.channels == 3) average_row<T, 3>(above, below, halve_columns, next.width, 3, end, to + r * to_row);
                else average_row<T, 0>(above, below, halve_columns, next.width, a.channels, end, to + r * to_row);
            }
        });
        from = to;
        to += rows * to_row;
        size = next;
    }
    for (int64_t k = 0; k < kPadding; k++) to[k] = 0;
    return 0;
}
template int64_t build_stack<float>(const StackArgs<float>&);
template int64_t build_stack<double>(const StackArgs<double>&);

RG_END
