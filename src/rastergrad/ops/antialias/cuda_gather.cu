// SPDX-License-Identifier: MIT
// Colours for sub-samples, and their mean, on a GPU (docs/definition.md 5.9). Forward a thread looks for one sub-sample's pixel; backward a
// pixel looks for the sub-samples that took its colour and adds them up in their order, as the CPU does.
#include "device.h"
#include "formulas_gather.h"
#include "triangle_id.h"

RG_BEGIN

constexpr int kBlock = 256;

struct GatherArgs {
    const Real* color;          // [images][height][width][channels]
    const Real* rast;           // [images][height][width][4]
    const Real* visibility;     // [images][scale height][scale width][4]
    const int32_t* components;  // [triangles]: equal where triangles are connected
    Real* fine;                 // [images][scale height][scale width][channels]
    uint8_t* source;            // [images][scale height][scale width]: the candidate chosen
    int64_t images, height, width, channels, scale, triangles;
};

RG_FN int32_t triangle_at(const GatherArgs& a, Real id) {
    const int32_t triangle = decode_id(id);
    return triangle < a.triangles ? triangle : -1;
}

// The order in which candidates are preferred: by distance, of equally distant ones those in the nearer row, then by number.
struct Rank {
    double penalty;
    int64_t square, rows;
    RG_FN bool is_before(const Rank& other) const {
        if (penalty != other.penalty) return penalty < other.penalty;
        if (square != other.square) return square < other.square;
        return rows < other.rows;
    }
};

// For a sub-sample at place (i, j) of pixel (y, x) that shows another triangle than it.
RG_FN int choose(const GatherArgs& a, const Real* rast, int64_t y, int64_t x, int64_t i, int64_t j, int32_t triangle, Real depth) {
    int chosen = kOwnPixel;
    bool found_same = false;
    Rank best{1e300, 0, 0};
    for (int candidate = 0; candidate < kCandidates; candidate++) {
        const int64_t row = y + candidate / kReachSide - kReach, column = x + candidate % kReachSide - kReach;
        if (row < 0 || row >= a.height || column < 0 || column >= a.width) continue;
        const Real* const fragment = rast + 4 * (row * a.width + column);
        const int32_t there = triangle_at(a, fragment[3]);
        const bool same = there == triangle;
        if (found_same && !same) continue;
        // In pixels / (2 scale), whole numbers: ties are exact.
        const int64_t rows = 2 * a.scale * (candidate / kReachSide - kReach) + a.scale - 2 * i - 1;
        const int64_t columns = 2 * a.scale * (candidate % kReachSide - kReach) + a.scale - 2 * j - 1;
        Rank rank{0.0, rows * rows + columns * columns, rows * rows};
        if (!same) {
            if (triangle < 0) continue;
            const bool covered = there >= 0, connected = covered && a.components[there] == a.components[triangle];
            const double gap = connected ? depth_gap(double(depth), double(fragment[2])) : 0.0;
            rank.penalty = penalty(double(rank.square) / double(4 * a.scale * a.scale), gap, connected, covered);
        }
        if ((same && !found_same) || rank.is_before(best)) {
            best = rank;
            chosen = candidate;
            found_same = same;
        }
    }
    return chosen;
}

RG_GLOBAL(gather_forward, kBlock, GatherArgs, a) {
    RG_SHARED int64_t taken_from[kBlock];
    const int64_t fine_width = a.scale * a.width, all = a.images * a.scale * a.height * fine_width;
    const int64_t first = int64_t(blockIdx.x) * kBlock, count = minimum(all - first, int64_t(kBlock));
    if (threadIdx.x < count) {
        const int64_t at = first + threadIdx.x, fine_row = at / fine_width, fine_x = at - fine_row * fine_width;
        const int64_t row = fine_row / a.scale, i = fine_row - row * a.scale, x = fine_x / a.scale, j = fine_x - x * a.scale;
        const int64_t image = row / a.height, y = row - image * a.height;
        const Real* const rast = a.rast + 4 * image * a.height * a.width;
        const int32_t triangle = triangle_at(a, a.visibility[4 * at + 3]);
        int candidate = kOwnPixel;
        if (triangle != triangle_at(a, rast[4 * (y * a.width + x) + 3])) candidate = choose(a, rast, y, x, i, j, triangle, a.visibility[4 * at + 2]);
        a.source[at] = uint8_t(candidate);
        taken_from[threadIdx.x] = (row + candidate / kReachSide - kReach) * a.width + x + candidate % kReachSide - kReach;
    }
    __syncthreads();
    const int64_t elements = count * a.channels;
    for (int64_t e = threadIdx.x; e < elements; e += kBlock) {
        const uint32_t sample = uint32_t(e / a.channels);
        a.fine[first * a.channels + e] = a.color[taken_from[sample] * a.channels + e - int64_t(sample) * a.channels];
    }
}

struct GatherBackwardArgs {
    const uint8_t* source;
    const Real* d_fine;
    Real* d_color;
    int64_t images, height, width, channels, scale;
};

RG_GLOBAL(gather_backward, kBlock, GatherBackwardArgs, a) {
    const int64_t pixel = thread_number();
    if (pixel >= a.images * a.height * a.width) return;
    const int64_t row = pixel / a.width, x = pixel - row * a.width, image = row / a.height, y = row - image * a.height;
    const int64_t fine_width = a.scale * a.width;
    for (int64_t c = 0; c < a.channels; c += 4) {
        Real sum[4] = {Real(0), Real(0), Real(0), Real(0)};
        for (int64_t from_y = maximum(y - kReach, int64_t(0)); from_y <= minimum(y + kReach, a.height - 1); from_y++)
            for (int64_t i = 0; i < a.scale; i++) {
                const int64_t fine = ((image * a.height + from_y) * a.scale + i) * fine_width;
                for (int64_t from_x = maximum(x - kReach, int64_t(0)); from_x <= minimum(x + kReach, a.width - 1); from_x++) {
                    const int wanted = int((y - from_y + kReach) * kReachSide + x - from_x + kReach);
                    for (int64_t at = fine + from_x * a.scale; at < fine + (from_x + 1) * a.scale; at++) {
                        if (a.source[at] != wanted) continue;
#pragma unroll
                        for (int k = 0; k < 4; k++)
                            if (c + k < a.channels) sum[k] += a.d_fine[at * a.channels + c + k];
                    }
                }
            }
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (c + k < a.channels) a.d_color[pixel * a.channels + c + k] = sum[k];
    }
}

struct AverageArgs {
    Real* fine;   // [images][scale height][scale width][channels]
    Real* image;  // [images][height][width][channels]
    int64_t images, height, width, channels, scale;
};

// An element a thread: first over the rows of a pixel, then along them.
RG_GLOBAL(average_forward, kBlock, AverageArgs, a) {
    const int64_t item = thread_number();
    if (item >= a.images * a.height * a.width * a.channels) return;
    const int64_t pixel = item / a.channels, c = item - pixel * a.channels, row = pixel / a.width, x = pixel - row * a.width;
    const int64_t fine_row = a.scale * a.width * a.channels;
    const Real* const corner = a.fine + row * a.scale * fine_row + x * a.scale * a.channels + c;
    Real total(0);
    for (int64_t j = 0; j < a.scale; j++) {
        Real column = corner[j * a.channels];
        for (int64_t i = 1; i < a.scale; i++) column += corner[i * fine_row + j * a.channels];
        total = j ? total + column : column;
    }
    a.image[item] = total / Real(a.scale * a.scale);
}

RG_GLOBAL(average_backward, kBlock, AverageArgs, a) {
    const int64_t item = thread_number();
    if (item >= a.images * a.height * a.width * a.channels * a.scale * a.scale) return;
    const int64_t sample = item / a.channels, c = item - sample * a.channels, fine_width = a.scale * a.width;
    const int64_t fine_row = sample / fine_width, x = (sample - fine_row * fine_width) / a.scale;
    a.fine[item] = a.image[(fine_row / a.scale * a.width + x) * a.channels + c] / Real(a.scale * a.scale);
}

RG_END
