// SPDX-License-Identifier: MIT
// What op.py hands to the two kernels of this room.
#pragma once
#include <cstdint>

#include "portable.h"

RG_BEGIN

template <class T> struct ForwardArgs {
    const T* pos;               // [images][vertices][4], or [vertices][4] with ranges
    const int32_t* tri;         // [triangles][3]
    const int64_t* ranges;      // [images][2] (first triangle, count), or null: all triangles in every image
    const float* previous_key;  // [images][height][width]: only what lies behind is drawn; or null
    T* rast;                    // [images][height][width][4]
    T* rast_db;                 // [images][height][width][4]
    float* depth_key;           // [images][height][width], or null: not wanted
    int64_t images, vertices, triangles, height, width;
    int64_t strict;             // whether a vertex index out of range is an error
    int64_t threads;
};
// -1, or the first triangle with a vertex index out of range if strict; the outputs are then incomplete.
template <class T> int64_t rasterize_forward(const ForwardArgs<T>& a);

template <class T> struct BackwardArgs {
    const T* pos;        // as in ForwardArgs
    const int32_t* tri;
    const T* rast;
    const T* d_rast;     // like rast, or null: no gradient arrived
    const T* d_rast_db;  // like rast_db, or null: none arrived, or not to be used
    T* d_pos;            // like pos
    int64_t images, vertices, triangles, height, width;
    int64_t instanced;      // whether every image has its own vertices
    int64_t depth_grad;     // whether z/w passes a gradient
    int64_t interior_gate;  // whether pixels with their centre outside the exact triangle are left out
    int64_t threads;
};
template <class T> int64_t rasterize_backward(const BackwardArgs<T>& a);

RG_END
