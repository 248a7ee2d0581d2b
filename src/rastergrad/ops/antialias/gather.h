// SPDX-License-Identifier: MIT
// What visibility.py hands to the kernels of cpu_gather.cpp.
#pragma once
#include <cstdint>

#include "portable.h"

RG_BEGIN

template <class T> struct GatherArgs {
    const T* color;             // [images][height][width][channels]
    const T* rast;              // [images][height][width][4]
    const T* visibility;        // [images][scale height][scale width][4]
    const int32_t* components;  // [triangles]: equal where triangles are connected
    T* fine;                    // [images][scale height][scale width][channels]
    uint8_t* source;            // [images][scale height][scale width]: the candidate chosen, kOwnPixel being the pixel itself
    int64_t images, height, width, channels, scale, triangles, threads;
};
template <class T> int64_t gather_forward(const GatherArgs<T>& a);

template <class T> struct GatherBackwardArgs {
    const uint8_t* source;  // as in GatherArgs
    const T* d_fine;
    T* d_color;
    int64_t images, height, width, channels, scale, threads;
};
template <class T> int64_t gather_backward(const GatherBackwardArgs<T>& a);

template <class T> struct AverageArgs {
    T* fine;   // [images][scale height][scale width][channels]
    T* image;  // [images][height][width][channels]
    int64_t images, height, width, channels, scale, threads;
};
// The mean over scale x scale sub-samples, and its adjoint: from `fine` to `image`, and back.
template <class T> int64_t average_forward(const AverageArgs<T>& a);
template <class T> int64_t average_backward(const AverageArgs<T>& a);

struct ComponentsArgs {
    const int32_t* twins;  // [triangles][3] of topology.h
    int32_t* components;   // [triangles]: the lowest triangle that is connected to each one
    int64_t triangles;
};
int64_t connect_triangles(const ComponentsArgs& a);

RG_END
