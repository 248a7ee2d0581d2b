// SPDX-License-Identifier: MIT
// The pixel pair on a GPU (docs/definition.md 5.2 to 5.7). One kernel finds the weight of each pixel's pairs to the right and upward; another
// gathers, for each pixel, what its four pairs give it, in the order in which the CPU adds: below, left, right, above. No two threads add to
// one pixel.
#include "cuda_scene.h"
#include "formulas.h"

RG_BEGIN

struct SilhouetteArgs {
    Scene scene;
    uint8_t* edges;  // [tables][triangles]; bit k: the edge opposite to corner k. None if a vertex of the triangle does not exist
};

// 5.4 for one triangle, relative to the centre of the image.
RG_FN int silhouettes_of(const Scene& s, int64_t table, int64_t triangle) {
    if (!s.all_exist(triangle)) return 0;
    const Real* const pos = s.pos + table * s.pos_image_stride;
    const auto on_screen_at = [&](int32_t v) {
        const Real* p = pos + 4 * int64_t(v);
        return screen_position(p[0], p[1], p[3], s.half(), Vec2<Real>{Real(0), Real(0)});
    };
    const int32_t* const corner = s.tri + 3 * triangle;
    const Vec2<Real> p[3] = {on_screen_at(corner[0]), on_screen_at(corner[1]), on_screen_at(corner[2])};
    const Real area = doubled_area(p[0], p[1], p[2]);
    int bits = 0;
#pragma unroll
    for (int k = 0; k < 3; k++) {
        const int32_t twin = s.twins[3 * triangle + k];
        // Twins of another mesh may point anywhere: then the edge counts as a border.
        const int32_t opposite = twin >= 0 && twin < 3 * s.triangles ? s.tri[twin] : -1;
        if (!s.exists(opposite) || folds(area, on_screen_at(opposite), p[(k + 1) % 3], p[(k + 2) % 3])) bits |= 1 << k;
    }
    return bits;
}

RG_GLOBAL(antialias_silhouettes, 256, SilhouetteArgs, a) {
    const int64_t i = thread_number(), table = i / a.scene.triangles;
    if (i < a.scene.tables() * a.scene.triangles) a.edges[i] = uint8_t(silhouettes_of(a.scene, table, i - table * a.scene.triangles));
}

struct Pair {
    Real weight;
    int32_t vertex1, vertex2;  // the edge that crosses, ...
    Vec2<Real> p1, p2;         // ... seen from the chosen pixel, axes turned for vertical pairs
};

// Whether the pair of a pixel and its neighbour to the right or above is blended. `edges` may be null: then silhouettes are worked out here.
RG_FN bool examine(const Scene& s, const uint8_t* edges, const PixelPlace& at, int64_t pixel, bool vertical, Pair& pair) {
    const int64_t other = pixel + (vertical ? s.width : 1);
    const Real id0 = s.rast[4 * pixel + 3], id1 = s.rast[4 * other + 3];
    if (id0 == id1) return false;
    const int32_t triangle0 = s.triangle_of(id0), triangle1 = s.triangle_of(id1);
    const int64_t table = s.table_of(at.image);
    const auto silhouettes_at = [&](int32_t t) {
        if (t < 0) return 0;
        return edges ? int(edges[table * s.triangles + t]) : silhouettes_of(s, table, t);
    };
    const int edges0 = silhouettes_at(triangle0), edges1 = silhouettes_at(triangle1);
    if (!(edges0 | edges1)) return false;
    // 5.2: the triangle that may own the edge is the only one, or the nearer one.
    bool first = triangle1 < 0;
    if (triangle0 >= 0 && triangle1 >= 0) first = s.rast[4 * pixel + 2] < s.rast[4 * other + 2];
    const int32_t triangle = first ? triangle0 : triangle1;
    const int silhouettes = first ? edges0 : edges1;
    if (!silhouettes) return false;
    // 5.5 and 5.6, from the centre of the chosen pixel.
    const int64_t column = at.column + (first || vertical ? 0 : 1), row = at.row + (first || !vertical ? 0 : 1);
    const Vec2<Real> half = s.half(), origin{Real(column) + Real(0.5) - half.x, Real(row) + Real(0.5) - half.y};
    const int32_t* const corner = s.tri + 3 * int64_t(triangle);
    const Real* const pos = s.pos + table * s.pos_image_stride;
    Vec2<Real> p[3];
    for (int k = 0; k < 3; k++) {
        const Real* v = pos + 4 * int64_t(corner[k]);
        p[k] = screen_position(v[0], v[1], v[3], half, origin);
        if (vertical) p[k] = turned(p[k]);
    }
    const Real side = first ? Real(1) : Real(-1);
    Real distance(0);
    const int edge = exit_edge(p, side, distance);
    if (edge < 0 || !(silhouettes >> edge & 1)) return false;
    // Without indices that only run time knows: those would send the corners to slow memory.
    pair.p1 = edge == 0 ? p[1] : edge == 1 ? p[2] : p[0];
    pair.p2 = edge == 0 ? p[2] : edge == 1 ? p[0] : p[1];
    if (!is_steep(pair.p1, pair.p2) || !lies_between(distance)) return false;
    pair.vertex1 = corner[(edge + 1) % 3];
    pair.vertex2 = corner[(edge + 2) % 3];
    pair.weight = blend_weight(distance, side);
    return true;
}

// No weight, and no pair.
RG_FN Real no_weight() { return Real(2); }

struct PairArgs {
    Scene scene;
    const uint8_t* edges;  // as in SilhouetteArgs, or null
    Vec2<Real>* weights;   // [images][height][width]: to the right, upward; or null: not wanted
    const Real* color;     // [images][height][width][channels]; this and what follows with d_pos only
    const Real* d_out;     // like color
    Sums<Real> d_pos;      // like pos, or null
    int64_t channels;
    double boost;          // of d_pos
};

// The gradient of the pair's two edge vertices, for d_weight; nothing where the crossing itself has no finite derivative.
RG_FN void give_to_edge(const PairArgs& a, int64_t image, const Pair& pair, bool vertical, Real d_weight) {
    const Scene& s = a.scene;
    const int64_t first = s.table_of(image) * s.pos_image_stride;
    Vec2<Real> d_p[2] = {{Real(0), Real(0)}, {Real(0), Real(0)}};
    steady_crossing_adjoint(pair.p1, pair.p2, Real(-1), d_p[0], d_p[1]);
    Vec4<Real> d[2];
#pragma unroll
    for (int e = 0; e < 2; e++) {
        const Real* v = s.pos + first + 4 * int64_t(e ? pair.vertex2 : pair.vertex1);
        d[e] = {Real(0), Real(0), Real(0), Real(0)};
        screen_position_adjoint(v[0], v[1], v[3], s.half(), vertical ? turned(d_p[e]) : d_p[e], d[e].x, d[e].y, d[e].w);
        if (!is_finite(d[e].x) || !is_finite(d[e].y) || !is_finite(d[e].w)) return;
    }
    a.d_pos.add4(first + 4 * int64_t(pair.vertex1), d_weight * d[0]);
    a.d_pos.add4(first + 4 * int64_t(pair.vertex2), d_weight * d[1]);
}

RG_GLOBAL(antialias_pairs, 256, PairArgs, a) {
    const Scene& s = a.scene;
    const int64_t pixel = thread_number();
    if (pixel >= s.pixels()) return;
    const PixelPlace at = place_of(s, pixel);
    Real weight[2] = {no_weight(), no_weight()};
#pragma unroll
    for (int axis = 0; axis < 2; axis++) {
        const bool vertical = axis == 1;
        if (vertical ? at.row + 1 == s.height : at.column + 1 == s.width) continue;
        Pair pair;
        if (!examine(s, a.edges, at, pixel, vertical, pair)) continue;
        weight[axis] = pair.weight;
        if (!a.d_pos.wanted() || !weight_moves(pair.weight)) continue;
        const int64_t at0 = pixel * a.channels, at1 = at0 + (vertical ? s.width : 1) * a.channels;
        const Real* const g = a.d_out + (blends_first(pair.weight) ? at0 : at1);
        Real d_weight(0), unused(0);
        for (int64_t c = 0; c < a.channels; c++) blend_adjoint(pair.weight, a.color[at0 + c], a.color[at1 + c], g[c], d_weight, unused, unused);
        if (d_weight != Real(0)) give_to_edge(a, at.image, pair, vertical, Real(a.boost) * d_weight);
    }
    if (a.weights) a.weights[pixel] = {weight[0], weight[1]};
}

struct BlendArgs {
    Scene scene;
    const Vec2<Real>* weights;
    const Real* color;  // forward: colours; backward: their upstream gradients
    Real* out;          // like color
    int64_t channels;
};

// The weights of a pixel's four pairs: below, left, right, above.
RG_FN void load_weights(const BlendArgs& a, int64_t pixel, Real (&w)[4]) {
    const Scene& s = a.scene;
    const PixelPlace at = place_of(s, pixel);
    const Vec2<Real> own = a.weights[pixel];
    w[0] = at.row > 0 ? a.weights[pixel - s.width].y : no_weight();
    w[1] = at.column > 0 ? a.weights[pixel - 1].x : no_weight();
    w[2] = own.x;
    w[3] = own.y;
}

// Elements from the block's first one to that of the neighbour in the same channel.
RG_FN int64_t step_to(const BlendArgs& a, int n) {
    return (n == 0 ? -a.scene.width : n == 1 ? int64_t(-1) : n == 2 ? int64_t(1) : a.scene.width) * a.channels;
}

RG_GLOBAL(antialias_blend, kBlockPixels, BlendArgs, a) {
    RG_SHARED Real weights[kBlockPixels][4];
    const int64_t first = int64_t(blockIdx.x) * kBlockPixels, count = minimum(a.scene.pixels() - first, int64_t(kBlockPixels));
    if (threadIdx.x < count) {
        Real w[4];
        load_weights(a, first + threadIdx.x, w);
        for (int n = 0; n < 4; n++) weights[threadIdx.x][n] = w[n];
    }
    __syncthreads();
    const Real* const color = a.color + first * a.channels;
    Real* const out = a.out + first * a.channels;
    for_each_element(count, a.channels, [&](int64_t pixel, int64_t, int64_t i) {
        Real value = color[i];
        const Real own = value;
#pragma unroll
        for (int n = 0; n < 4; n++) {
            const Real w = weights[pixel][n];
            // The pixel is the second one of the pairs below and to the left, the first of the others.
            if (w == no_weight() || blends_first(w) != (n >= 2)) continue;
            const Real other = color[i + step_to(a, n)];
            value += n >= 2 ? blend(w, own, other) : blend(w, other, own);
        }
        out[i] = value;
    });
}

RG_GLOBAL(antialias_blend_backward, kBlockPixels, BlendArgs, a) {
    RG_SHARED Real weights[kBlockPixels][4];
    const int64_t first = int64_t(blockIdx.x) * kBlockPixels, count = minimum(a.scene.pixels() - first, int64_t(kBlockPixels));
    if (threadIdx.x < count) {
        Real w[4];
        load_weights(a, first + threadIdx.x, w);
        for (int n = 0; n < 4; n++) weights[threadIdx.x][n] = w[n];
    }
    __syncthreads();
    const Real* const d_out = a.color + first * a.channels;
    Real* const d_color = a.out + first * a.channels;
    for_each_element(count, a.channels, [&](int64_t pixel, int64_t, int64_t i) {
        const Real own = d_out[i];
        Real value = own;
#pragma unroll
        for (int n = 0; n < 4; n++) {
            const Real w = weights[pixel][n];
            if (w == no_weight()) continue;
            const bool mine = blends_first(w) == (n >= 2);  // whether this pixel is the one that changes
            Real unused(0), d_first(0), d_second(0);
            blend_adjoint(w, Real(0), Real(0), mine ? own : d_out[i + step_to(a, n)], unused, d_first, d_second);
            value += n >= 2 ? d_first : d_second;
        }
        d_color[i] = value;
    });
}

RG_END
