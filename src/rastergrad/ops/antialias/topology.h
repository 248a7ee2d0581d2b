// SPDX-License-Identifier: MIT
// Which triangles share an edge, as twin half-edges. Half-edge 3 t + k is the edge of triangle t opposite to its corner k; its twin is
// the half-edge whose corner is the "other opposite vertex" of docs/definition.md 5.4: of all triangles on the edge, in order of their
// index, an edge remembers the first one and the first one with another opposite vertex. A half-edge whose own opposite vertex is
// one of these two has the other as its twin; any other half-edge, and one on a border, has none (-1).
#pragma once
#include <cstdint>

#include "portable.h"

RG_BEGIN

struct TopologyArgs {
    const int32_t* tri;  // [triangles][3]
    int32_t* twins;      // [triangles][3]
    int32_t* bounds;     // [2]: the smallest and the largest index in tri; 0 and -1 if there are none
    int64_t triangles;
    int64_t vertices;    // triangles with an index outside [0, vertices), or with a repeated one, have no edges
    int64_t threads;
};
int64_t build_topology(const TopologyArgs& a);

struct FingerprintArgs {
    const int32_t* tri;
    int64_t triangles, threads;
};
// 63 bits that tell index buffers apart.
int64_t fingerprint(const FingerprintArgs& a);

RG_END
