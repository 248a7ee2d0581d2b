// SPDX-License-Identifier: MIT
// Connected components of a mesh by union-find. A root is the lowest triangle of its tree, so no order of joining shows in the result.
#include "gather.h"

RG_BEGIN
namespace {

// Halves the path on the way.
RG_FN int32_t root_of(int32_t* parent, int32_t t) {
    while (parent[t] != t) t = parent[t] = parent[parent[t]];
    return t;
}

}  // namespace

int64_t connect_triangles(const ComponentsArgs& a) {
    int32_t* const parent = a.components;
    for (int64_t t = 0; t < a.triangles; t++) parent[t] = int32_t(t);
    for (int64_t half_edge = 0; half_edge < 3 * a.triangles; half_edge++) {
        const int32_t twin = a.twins[half_edge];
        // Each pair of twins joins once; the half-edge of a duplicate, which is nobody's twin, joins too.
        if (twin < 0 || (half_edge < twin && a.twins[twin] == half_edge)) continue;
        const int32_t root = root_of(parent, int32_t(half_edge / 3)), other = root_of(parent, twin / 3);
        if (root < other) parent[other] = root;
        else parent[root] = other;
    }
    for (int64_t t = 0; t < a.triangles; t++) parent[t] = parent[parent[t]];
    return 0;
}

RG_END
