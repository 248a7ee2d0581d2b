// SPDX-License-Identifier: MIT
// The stack of levels: each averages 2x2 texels of the one below, or pairs where one side is down to 1. The adjoint is in cpu_backward.cpp.
#include "cpu_cells.h"
#include "threads.h"

RG_BEGIN
namespace {

constexpr int64_t kTexelsPerChunk = 32768;

// One register as a number of formulas.h.
template <class T> struct Register {
    typename Lanes<T>::Part p;
    Register() = default;
    RG_FN Register(T x) : p(x - typename Lanes<T>::Part{}) {}
    static RG_FN Register load(const T* from) { Register r; memcpy(&r.p, from, sizeof r.p); return r; }
    friend RG_FN Register operator+(Register a, Register b) { a.p = a.p + b.p; return a; }
    friend RG_FN Register operator*(Register a, Register b) { a.p = a.p * b.p; return a; }
};
// As many texels of three channels as fill whole registers, of a level half the size on both sides. Returns how many.
template <class T> int64_t average_threes(const T* above, const T* below, int64_t width, T* to) {
    using R = Register<T>;
    constexpr int w = Lanes<T>::kWidth;
    // A register of the result begins with any channel. Its numbers are among averages of neighbours, of which every other texel counts: in two
    // registers, between which one may be left out.
    typename Lanes<Index<T>>::Part from[3];
    int second[3];
    for (int c = 0; c < 3; c++) {
        const auto wanted = [c](int i) { return (c + i) / 3 * 6 + (c + i) % 3 - c; };
        second[c] = maximum(w, wanted(w - 1) - w + 1);
        for (int i = 0; i < w; i++) from[c][i] = wanted(i) < w ? wanted(i) : wanted(i) - second[c] + w;
    }
    const auto averages = [&](int64_t at) { return average_of_four(R::load(above + at), R::load(above + at + 3), R::load(below + at), R::load(below + at + 3)).p; };
    // The last register would be read beyond the row.
    const int64_t texels = (width - 1) / w * w;
    for (int64_t i = 0; i < 3 * texels; i += w) {
        const int64_t c = i % 3, at = i / 3 * 6 + c;
        const auto x = shuffled(averages(at), averages(at + second[c]), from[c]);
        memcpy(to + i, &x, sizeof x);
    }
    return texels;
}

// One row of a smaller level from two rows (or one twice the width) of the larger. Quads run over the ends of texels; `end` bounds reads.
template <class T, int kChannels>
void average_row(const T* above, const T* below, bool halve_columns, int64_t width, int64_t any_channels, const T* end, T* to) {
    const int64_t channels = kChannels ? kChannels : any_channels;
    const int64_t step = halve_columns ? 2 * channels : channels;
    const T* const to_end = to + width * channels;
    int64_t done = 0;
    if constexpr (kChannels == 3)
        if (halve_columns && above != below) done = average_threes(above, below, width, to);
    above += done * step;
    below += done * step;
    to += done * channels;
    for (int64_t i = done; i < width; i++, above += step, below += step, to += channels)
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
RG_FLOAT64(template int64_t build_stack<double>(const StackArgs<double>&);)

RG_END
