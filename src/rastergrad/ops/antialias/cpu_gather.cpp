// SPDX-License-Identifier: MIT
// Colours for sub-samples, and their mean. A strip of rows of the coarse image is all that a worker writes, forward (with the sub-samples in
// it) and backward: there it looks for sub-samples that took a colour from it up to kReach rows outside, too.
#include "formulas_gather.h"
#include "gather.h"
#include "rows.h"
#include "strips.h"

RG_BEGIN
namespace {

constexpr int64_t kStripSubSamples = 65536;
constexpr int32_t kBackground = -1, kNoPixel = -2;  // in place of a triangle

// body(image, begin, end): rows of the coarse image.
template <class Args, class Body> void for_each_strip(const Args& a, Body&& body) {
    if (a.channels == 0) return;  // nothing to move, between tensors without memory
    const int64_t rows = maximum(kStripSubSamples / (a.width * a.scale * a.scale), int64_t(1)), per_image = (a.height + rows - 1) / rows;
    parallel_for(a.threads, a.images * per_image, 1, [&](int, int64_t from, int64_t to) {
        for (int64_t s = from; s < to; s++) {
            const int64_t begin = s % per_image * rows;
            body(s / per_image, begin, minimum(begin + rows, a.height));
        }
        stream_fence();
    });
}

// body(channels) with the usual numbers of channels known to the compiler; for float64 not, as the wheel must stay small.
template <class T, class Body> RG_FN void with_channels(int64_t channels, Body&& body) {
    if constexpr (sizeof(T) == sizeof(double)) return body(channels);
    struct One { RG_FN operator int64_t() const { return 1; } };
    struct Three { RG_FN operator int64_t() const { return 3; } };
    struct Four { RG_FN operator int64_t() const { return 4; } };
    if (channels == 1) body(One());
    else if (channels == 3) body(Three());
    else if (channels == 4) body(Four());
    else body(channels);
}

// body(scale) with 2, the usual one, known to the compiler.
template <class Body> RG_FN void with_scale(int64_t scale, Body&& body) {
    struct Two { RG_FN operator int64_t() const { return 2; } };
    if (scale == 2) body(Two());
    else body(scale);
}

// Every pixel of a row `scale` times.
template <class T> void expand(const T* from, int64_t width, int64_t scale, int64_t channels, T* to) {
    if constexpr (sizeof(T) == 4) {
        // A register may be stored over the start of the next pixel, which is written afterwards; not so at the end of the row.
        if (channels == 3 || channels == 4)
            for (; width > 2; width--, from += channels) {
                const Quad<T> pixel = Quad<T>::load(from);
                for (int64_t j = 0; j < scale; j++, to += channels) pixel.store(to);
            }
    }
    with_channels<T>(channels, [&](auto count) {
        for (int64_t x = 0; x < width; x++, from += count)
            for (int64_t j = 0; j < scale; j++, to += count)
                for (int64_t c = 0; c < count; c++) to[c] = from[c];
    });
}

// ---- forward ---------------------------------------------------------------------------------------------------

// Squared distance of a sub-sample from the centre of a candidate, in pixels / (2 scale), whole numbers: ties are exact.
struct Offset {
    int64_t rows, columns;
    Offset(int candidate, int64_t scale, int64_t i, int64_t j)
        : rows(2 * scale * (candidate / kReachSide - kReach) + scale - 2 * i - 1),
          columns(2 * scale * (candidate % kReachSide - kReach) + scale - 2 * j - 1) {}
    int64_t square() const { return rows * rows + columns * columns; }
};

// For each place of a sub-sample in its pixel, the candidates by distance; of equally distant ones those in the nearer row first, then by
// number. With an even scale the first two decide, so mirrored images get mirrored colours.
class Orders {
  public:
    explicit Orders(int64_t scale) : scale_(scale), orders_(size_t(scale * scale * kCandidates)) {
        for (int64_t i = 0; i < scale; i++)
            for (int64_t j = 0; j < scale; j++) sort(i, j, orders_.data() + (i * scale + j) * kCandidates);
    }
    const uint8_t* at(int64_t i, int64_t j) { return orders_.data() + (i * scale_ + j) * kCandidates; }

  private:
    int64_t scale_;
    Block<uint8_t> orders_;

    void sort(int64_t i, int64_t j, uint8_t* order) const {
        for (int candidate = 0; candidate < kCandidates; candidate++) {
            int at = candidate;
            for (; at > 0 && is_before(candidate, order[at - 1], i, j); at--) order[at] = order[at - 1];
            order[at] = uint8_t(candidate);
        }
    }
    bool is_before(int candidate, int other, int64_t i, int64_t j) const {
        const Offset a(candidate, scale_, i, j), b(other, scale_, i, j);
        if (a.square() != b.square()) return a.square() < b.square();
        return a.rows * a.rows < b.rows * b.rows;
    }
};

// The triangles of a row of pixels.
template <class T> void decode_row(const T* fragments, int64_t width, int64_t triangles, int32_t* to) {
    const Lanes<int32_t> count = Lanes<int32_t>(int32_t(triangles)), background = Lanes<int32_t>(kBackground);
    int64_t x = 0;
    for (; x + kLanes <= width; x += kLanes) {
        const Lanes<int32_t> triangle = decode_id(load_fourth(fragments + 4 * x));
        select(triangle < count, triangle, background).store(to + x);
    }
    for (; x < width; x++) {
        const int32_t triangle = decode_id(fragments[4 * x + 3]);
        to[x] = triangle < triangles ? triangle : kBackground;
    }
}

// The triangles of the coarse rows of a strip and of what surrounds it.
template <class T> class Window {
  public:
    Window(const GatherArgs<T>& a, const T* fragments, int64_t begin, int64_t end, Arena& arena)
        : begin_(begin), stride_(a.width + 2 * kReach),
          triangles_(static_cast<int32_t*>(arena.take(size_t((end - begin + 2 * kReach) * stride_) * sizeof(int32_t)))) {
        for (int64_t row = begin - kReach; row < end + kReach; row++) {
            int32_t* const to = triangles_ + (row - begin + kReach) * stride_;
            for (int64_t x = 0; x < stride_; x++) to[x] = kNoPixel;
            if (row >= 0 && row < a.height) decode_row(fragments + 4 * row * a.width, a.width, a.triangles, to + kReach);
        }
        for (int c = 0; c < kCandidates; c++) steps_[c] = (c / kReachSide - kReach) * stride_ + c % kReachSide - kReach;
    }
    RG_FN const int32_t* row(int64_t row) const { return triangles_ + (row - begin_ + kReach) * stride_ + kReach; }
    RG_FN int64_t step(int candidate) const { return steps_[candidate]; }

  private:
    int64_t begin_, stride_;
    int32_t* triangles_;
    int64_t steps_[kCandidates];
};

// One sub-sample that does not show the triangle of its own pixel, and that pixel.
template <class T> struct Seeker {
    int32_t triangle;
    int64_t i, j;              // place in the pixel
    const T* fragment;         // of the sub-sample
    const int32_t* pixel;      // in the window
    const T* pixel_fragment;
};

// In double for both number types: a choice jumps, and should not depend on the type of what it chooses from.
template <class T> int choose(const GatherArgs<T>& a, const Window<T>& window, const uint8_t* order, const Seeker<T>& s) {
    for (int q = 1; q < kCandidates; q++)
        if (s.pixel[window.step(order[q])] == s.triangle) return order[q];
    if (s.triangle == kBackground) return kOwnPixel;
    double least = 1e300;
    int chosen = kOwnPixel;
    for (int q = 0; q < kCandidates; q++) {
        const int candidate = order[q];
        const int32_t triangle = s.pixel[window.step(candidate)];
        if (triangle == kNoPixel) continue;
        const double distance = double(Offset(candidate, a.scale, s.i, s.j).square()) / double(4 * a.scale * a.scale);
        if (distance >= least) break;  // all others are as far
        const bool covered = triangle != kBackground, connected = covered && a.components[triangle] == a.components[s.triangle];
        const int64_t pixel = (candidate / kReachSide - kReach) * a.width + candidate % kReachSide - kReach;
        const double gap = connected ? depth_gap(double(s.fragment[2]), double(s.pixel_fragment[4 * pixel + 2])) : 0;
        const double found = penalty(distance, gap, connected, covered);
        if (found < least) least = found, chosen = candidate;
    }
    return chosen;
}

template <class T> void gather_strip(const GatherArgs<T>& a, Orders& orders, int64_t image, int64_t begin, int64_t end) {
    const int64_t k = a.scale, channels = a.channels, fine_width = k * a.width, padded = fine_width + kLanes;
    const T* const rast = a.rast + image * a.height * a.width * 4;
    const bool stream = a.images * a.height * k * fine_width * channels * int64_t(sizeof(T)) >= kStreamBytes;
    Arena arena;
    const Window<T> window(a, rast, begin, end, arena);
    auto* const own = static_cast<int32_t*>(arena.take(size_t(padded) * sizeof(int32_t)));
    auto* const seen = static_cast<int32_t*>(arena.take(size_t(padded) * sizeof(int32_t)));
    auto* const own_colors = static_cast<T*>(arena.take(size_t(fine_width * channels) * sizeof(T)));
    auto* const colors = static_cast<T*>(arena.take(size_t(fine_width * channels) * sizeof(T)));
    memset(own, 0, size_t(padded) * sizeof(int32_t));
    memset(seen, 0, size_t(padded) * sizeof(int32_t));
    for (int64_t y = begin; y < end; y++) {
        const T* const row_colors = a.color + (image * a.height + y) * a.width * channels;
        expand(window.row(y), a.width, k, 1, own);
        expand(row_colors, a.width, k, channels, own_colors);
        for (int64_t i = 0; i < k; i++) {
            const int64_t first = ((image * a.height + y) * k + i) * fine_width;
            const T* const fragments = a.visibility + 4 * first;
            decode_row(fragments, fine_width, a.triangles, seen);
            memset(a.source + first, kOwnPixel, size_t(fine_width));
            memcpy(colors, own_colors, size_t(fine_width * channels) * sizeof(T));
            for (int64_t from = 0; from < fine_width; from += kLanes) {
                unsigned differ = mask_bits(Lanes<int32_t>::load(seen + from) != Lanes<int32_t>::load(own + from));
                for (; differ; differ &= differ - 1) {
                    const int64_t x = from + __builtin_ctz(differ), column = x / k, j = x - column * k;
                    const Seeker<T> seeker{seen[x], i, j, fragments + 4 * x, window.row(y) + column, rast + 4 * (y * a.width + column)};
                    const int candidate = choose(a, window, orders.at(i, j), seeker);
                    const int64_t rows = candidate / kReachSide - kReach, columns = candidate % kReachSide - kReach;
                    const T* const color = row_colors + (rows * a.width + column + columns) * channels;
                    a.source[first + x] = uint8_t(candidate);
                    for (int64_t c = 0; c < channels; c++) colors[x * channels + c] = color[c];
                }
            }
            T* const to = a.fine + first * channels;
            if (stream) stream_bytes(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(colors), size_t(fine_width * channels) * sizeof(T));
            else memcpy(to, colors, size_t(fine_width * channels) * sizeof(T));
        }
    }
}

// ---- backward --------------------------------------------------------------------------------------------------

// Adds up what the sub-samples of coarse row y took from rows [begin, end), left to right.
template <class T, class Channels, class Scale>
RG_FN void return_row(const GatherBackwardArgs<T>& a, Channels channels, Scale k, int64_t image, int64_t y, int64_t begin, int64_t end) {
    const int64_t row_size = a.width * channels;
    const bool is_own_row = y >= begin && y < end;
    T* const d_row = a.d_color + (image * a.height + y) * row_size;
    int64_t steps[kCandidates];
    bool inside[kCandidates];
    for (int c = 0; c < kCandidates; c++) {
        const int64_t rows = c / kReachSide - kReach;
        steps[c] = rows * row_size + (c % kReachSide - kReach) * channels;
        inside[c] = y + rows >= begin && y + rows < end;
    }
    for (int64_t i = 0; i < k; i++) {
        const int64_t first = ((image * a.height + y) * k + i) * k * a.width;
        const uint8_t* const source = a.source + first;
        const T* const g = a.d_fine + first * channels;
        for (int64_t column = 0, x = 0; column < a.width; column++) {
            T* const to = d_row + column * channels;
            bool is_all_own = is_own_row;
            for (int64_t j = 0; j < k; j++) is_all_own &= source[x + j] == kOwnPixel;
            if (is_all_own) {  // most are: then the sum need not go through memory
                const T* const from = g + x * channels;
                for (int64_t c = 0; c < channels; c++) {
                    T sum = to[c];
                    for (int64_t j = 0; j < k; j++) sum += from[j * channels + c];
                    to[c] = sum;
                }
                x += k;
                continue;
            }
            for (const int64_t next = x + k; x < next; x++) {
                const int candidate = source[x];
                if (candidate == kOwnPixel && is_own_row)
                    for (int64_t c = 0; c < channels; c++) to[c] += g[x * channels + c];
                else if (inside[candidate])
                    for (int64_t c = 0; c < channels; c++) to[steps[candidate] + c] += g[x * channels + c];
            }
        }
    }
}

}  // namespace

template <class T> int64_t gather_forward(const GatherArgs<T>& a) {
    Orders orders(a.scale);
    for_each_strip(a, [&](int64_t image, int64_t begin, int64_t end) { gather_strip(a, orders, image, begin, end); });
    return 0;
}

// Each pixel adds up in the order of the sub-samples, wherever strips begin.
template <class T> int64_t gather_backward(const GatherBackwardArgs<T>& a) {
    for_each_strip(a, [&](int64_t image, int64_t begin, int64_t end) {
        const int64_t row_size = a.width * a.channels;
        memset(a.d_color + (image * a.height + begin) * row_size, 0, size_t((end - begin) * row_size) * sizeof(T));
        with_channels<T>(a.channels, [&](auto channels) {
            for (int64_t y = maximum(begin - kReach, int64_t(0)); y < minimum(end + kReach, a.height); y++)
                with_scale(a.scale, [&](auto scale) { return_row(a, channels, scale, image, y, begin, end); });
        });
    });
    return 0;
}

// First over the rows of a pixel, which takes whole registers, then along them.
template <class T> int64_t average_forward(const AverageArgs<T>& a) {
    const T count = T(a.scale * a.scale);
    for_each_strip(a, [&](int64_t image, int64_t begin, int64_t end) {
        const int64_t fine_size = a.scale * a.width * a.channels;
        Arena arena;
        auto* const sums = static_cast<T*>(arena.take(size_t(fine_size) * sizeof(T)));
        with_channels<T>(a.channels, [&](auto channels) {
            for (int64_t y = image * a.height + begin; y < image * a.height + end; y++) {
                const T* const fine = a.fine + y * a.scale * fine_size;
                memcpy(sums, fine, size_t(fine_size) * sizeof(T));
                for (int64_t i = 1; i < a.scale; i++)
                    for (int64_t at = 0; at < fine_size; at++) sums[at] += fine[i * fine_size + at];
                const T* from = sums;
                T* to = a.image + y * a.width * channels;
                with_scale(a.scale, [&](auto scale) {
                    for (int64_t x = 0; x < a.width; x++, to += channels, from += scale * channels)
                        for (int64_t c = 0; c < channels; c++) {
                            to[c] = from[c];
                            for (int64_t j = 1; j < scale; j++) to[c] += from[j * channels + c];
                        }
                });
                T* const row = a.image + y * a.width * channels;
                for (int64_t at = 0; at < a.width * channels; at++) row[at] /= count;
            }
        });
    });
    return 0;
}

template <class T> int64_t average_backward(const AverageArgs<T>& a) {
    const T count = T(a.scale * a.scale);
    for_each_strip(a, [&](int64_t image, int64_t begin, int64_t end) {
        const int64_t row_size = a.width * a.channels;
        const bool stream = a.images * a.height * a.scale * a.scale * row_size * int64_t(sizeof(T)) >= kStreamBytes;
        Arena arena;
        auto* const share = static_cast<T*>(arena.take(size_t(row_size) * sizeof(T)));
        auto* const row = static_cast<T*>(arena.take(size_t(a.scale * row_size) * sizeof(T)));
        for (int64_t y = image * a.height + begin; y < image * a.height + end; y++) {
            for (int64_t at = 0; at < row_size; at++) share[at] = a.image[y * row_size + at] / count;
            expand(share, a.width, a.scale, a.channels, row);
            for (int64_t i = 0; i < a.scale; i++) {
                T* const to = a.fine + (y * a.scale + i) * a.scale * row_size;
                const size_t bytes = size_t(a.scale * row_size) * sizeof(T);
                if (stream) stream_bytes(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(row), bytes);
                else memcpy(to, row, bytes);
            }
        }
    });
    return 0;
}

template int64_t gather_forward(const GatherArgs<float>&);
RG_FLOAT64(template int64_t gather_forward(const GatherArgs<double>&);)
template int64_t gather_backward(const GatherBackwardArgs<float>&);
RG_FLOAT64(template int64_t gather_backward(const GatherBackwardArgs<double>&);)
template int64_t average_forward(const AverageArgs<float>&);
RG_FLOAT64(template int64_t average_forward(const AverageArgs<double>&);)
template int64_t average_backward(const AverageArgs<float>&);
RG_FLOAT64(template int64_t average_backward(const AverageArgs<double>&);)

RG_END
