// SPDX-License-Identifier: MIT
// What op.py hands to the kernels of this room. Functions that two files share bear its name: the linker would take another room's for them.
#pragma once
#include <cstdint>

#include "portable.h"

RG_BEGIN

template <class T> struct InterpolateForwardArgs {
    const T* attr;         // [images or 1][vertices][channels]
    const T* rast;         // [images][pixels][4]
    const T* rast_db;      // [images][pixels][4], or null
    const int32_t* tri;    // [triangles][3]
    const int32_t* diff;   // [diff_count] channels with derivatives; -1 gives zeros
    T* out;                // [images][pixels][channels]
    T* out_da;             // [images][pixels][2 diff_count]
    int64_t images, pixels, vertices, channels, triangles, diff_count;
    int64_t attr_image_stride;  // elements between the attributes of two images; 0 when all share one table
    int64_t threads;
};
template <class T> int64_t interpolate_forward(const InterpolateForwardArgs<T>& a);

template <class T> struct InterpolateBackwardArgs {
    const T* attr;         // as in InterpolateForwardArgs
    const T* rast;
    const T* rast_db;
    const int32_t* tri;
    const int32_t* diff;
    const T* d_out;        // like out, or null: no gradient arrived
    const T* d_out_da;     // like out_da, or null
    T* d_attr;             // like attr, or null: not wanted
    T* d_rast;             // like rast, or null
    T* d_rast_db;          // like rast_db, or null
    int64_t images, pixels, vertices, channels, triangles, diff_count;
    int64_t attr_image_stride;
    int64_t threads;
};
template <class T> int64_t interpolate_backward(const InterpolateBackwardArgs<T>& a);

RG_END
