// SPDX-License-Identifier: MIT
// What op.py hands to the kernels of this room.
#pragma once
#include "strips.h"

RG_BEGIN

template <class T> struct ForwardArgs {
    Scene<T> scene;
    const T* color;  // [images][height][width][channels]
    T* out;          // like color
    int64_t channels;
};

template <class T> struct BackwardArgs {
    Scene<T> scene;
    const T* color;  // as in ForwardArgs
    const T* d_out;  // like color
    T* d_color;      // like color, or null: not wanted
    T* d_pos;        // like pos, or null
    int64_t channels;
    double boost;    // of d_pos
};

template <class T> struct OutlineForwardArgs {
    ForwardArgs<T> base;
    int64_t intersections;  // whether surfaces that pass through each other are blended
    uint8_t* outlines;      // what backward would have to find again, see OutlineEdges and behind it BlendedPairs; or null
};
// This and the other two: -1, or the first triangle with a vertex that does not exist; the outputs are then unset.
template <class T> int64_t outline_forward(const OutlineForwardArgs<T>& a);

template <class T> struct OutlineBackwardArgs {
    BackwardArgs<T> base;
    int64_t intersections;
    uint8_t* outlines;  // from forward, or null
};
template <class T> int64_t outline_backward(const OutlineBackwardArgs<T>& a);

struct OutlineCounts {
    int64_t pairs;              // of neighbouring pixels with different ids
    int64_t walked;             // of these: those that needed a walk
    int64_t outlines, meetings; // of these: those that are blended
    int64_t lost;               // of these: those whose walk was too long
    int64_t steps, most_steps;  // triangles crossed: altogether, and for one pair
};
template <class T> struct OutlineCountArgs {
    Scene<T> scene;
    int64_t intersections;
    OutlineCounts* counts;
};
template <class T> int64_t count_outlines(const OutlineCountArgs<T>& a);

RG_END
