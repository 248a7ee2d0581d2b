// SPDX-License-Identifier: MIT
// What every texture kernel is told, and the table of levels made from it.
#pragma once
#include "kernels.h"
#include "lanes.h"

RG_BEGIN

enum Filter : int64_t { kNearest, kLinear, kLinearMipmapNearest, kLinearMipmapLinear };
enum Boundary : int64_t { kWrap, kClamp, kZero, kCube };

constexpr int kMostLevels = 33;
constexpr int64_t kPadding = 4;  // elements behind a stack, so that four channels can be read from its last texel

template <class T> struct Query {
    const T* tex;            // [tex_images][faces][height][width][channels]
    const T* uv;             // [images][pixels][2], cube: 3
    const T* uv_da;          // [images][pixels][4], cube: 6; or null
    const T* bias;           // [images][pixels], or null
    const T* rast;           // [images][pixels][4], fragments, forward only; or null: every pixel shows a triangle
    uint16_t* shown;         // which pixels do, a bit for each pixel of each group of the layout; forward writes them; or null
    const T* stack;          // levels 1..depth one behind the other, each [tex_images][faces][h][w][channels], then kPadding; or null
    const int64_t* mips;     // [depth] addresses of the levels of a custom stack, or null
    int64_t images, rows, columns;  // of what is looked up
    int64_t tex_images, height, width, channels;
    int64_t depth;           // levels above the base
    int64_t filter, boundary;
    int64_t circular;        // 1: the symmetric limit for circular footprints
    int64_t threads;

    int64_t pixels() const { return rows * columns; }
};
template <class T> struct ForwardArgs {
    Query<T> query;
    T* out;                  // [images][pixels][channels]
};
template <class T> struct BackwardArgs {
    Query<T> query;
    const T* d_out;          // like out
    T* d_tex;                // like tex, or null: not wanted
    T* d_uv;                 // like uv, or null
    T* d_uv_da;              // like uv_da, or null
    T* d_bias;               // like bias, or null
    const int64_t* d_mips;   // [depth] addresses like mips, 0 where not wanted; or null
};
template <class T> struct StackArgs {
    const T* tex;            // as in Query
    T* stack;
    int64_t tex_images, faces, height, width, channels, depth, threads;
};

struct LevelSize {
    int64_t height, width;
    LevelSize smaller() const { return {height > 1 ? height / 2 : 1, width > 1 ? width / 2 : 1}; }
};

template <class T> struct Level {
    const T* texels;
    int64_t height, width, rows;  // rows of all faces of one image
    int64_t texels_per_image;
    int64_t readable;             // texels of the whole level from which a multiple of four channels can be read
};
template <class T> struct Levels {
    Level<T> level[kMostLevels];
    alignas(64) T widths[kMostLevels], heights[kMostLevels];
    int count;
    int64_t quads;  // per texel
};

template <class T> Levels<T> levels_of(const Query<T>& q) {
    Levels<T> table;
    const int64_t faces = q.boundary == kCube ? 6 : 1;
    table.count = int(q.depth) + 1;
    table.quads = (q.channels + 3) / 4;
    LevelSize size{q.height, q.width};
    const T* next = q.stack;
    for (int k = 0; k < table.count; k++) {
        if (k > 0) size = size.smaller();
        Level<T>& level = table.level[k];
        level.height = size.height;
        level.width = size.width;
        level.rows = faces * size.height;
        level.texels_per_image = level.rows * size.width;
        table.heights[k] = T(size.height);
        table.widths[k] = T(size.width);
        const int64_t texels = q.tex_images * level.texels_per_image;
        level.readable = (texels * q.channels - 4 * table.quads) / q.channels + 1;
        if (4 * table.quads > texels * q.channels) level.readable = 0;
        if (k == 0) {
            level.texels = q.tex;
        } else if (q.mips) {
            level.texels = reinterpret_cast<const T*>(q.mips[k - 1]);
        } else {
            level.texels = next;
            level.readable = texels;
            next += texels * q.channels;
        }
    }
    return table;
}

// Kernels, each in a file of its own.
template <class T> int64_t forward(const ForwardArgs<T>& a);
template <class T> int64_t backward(const BackwardArgs<T>& a);
template <class T> int64_t build_stack(const StackArgs<T>& a);

RG_END
