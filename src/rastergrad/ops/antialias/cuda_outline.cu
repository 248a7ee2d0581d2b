// SPDX-License-Identifier: MIT
// The outline method on a GPU (docs/definition.md 5.8). Which edges end the surface is worked out per triangle; a first look at each pair of
// pixels lists those that need walks, which part ways and are therefore left to threads of their own; these write down what is taken off
// both pixels. Then every pixel gathers from its four pairs, in the order of the CPU: below, left, right, above.
#include "cuda_scene.h"
#include "edge_cells.h"
#include "formulas.h"
#include "outline_mesh.h"

RG_BEGIN

constexpr int kBad = 128;  // of an edge byte: the triangle has a vertex that does not exist

// What is taken off a pixel and its neighbours to the right and above: own for the right one, the right one's, own for the upper, the upper's.
using PixelTaken = Vec4<Real>;

struct OutlineArgs {
    Scene scene;
    uint8_t* down;           // [tables][triangles], see outline_down
    uint8_t* edges;          // [tables][triangles]; bit k: the surface ends at the edge opposite to corner k
    uint8_t* cells;          // [tables][cells down][cells across]: whether an outline passes
    PixelTaken* taken;       // [images][height][width]
    int64_t* list;           // [2 images height width]: 2 pixel + (0 right, 1 above)
    unsigned long long* counts;  // [7]: length of the list; with `counting`: pairs, outlines, meetings, lost, steps, most steps
    int64_t intersections;   // whether surfaces that pass through each other are blended
    int64_t counting;
};

RG_FN int64_t cells_across(const Scene& s) { return (s.width + kCellSide - 1) / kCellSide; }
RG_FN int64_t cells_of_table(const Scene& s) { return cells_across(s) * ((s.height + kCellSide - 1) / kCellSide); }

RG_FN Vec4<Real> vertex_of(const Scene& s, int64_t table, int32_t v) { return load4(s.pos + table * s.pos_image_stride + 4 * int64_t(v)); }

RG_GLOBAL(outline_begin, 256, OutlineArgs, a) {
    const Scene& s = a.scene;
    const int64_t cells = s.tables() * cells_of_table(s);
    for (int64_t i = thread_number(); i < cells; i += thread_count()) a.cells[i] = 0;
    if (thread_number() < 7) a.counts[thread_number()] = 0;
}

// A half-edge leads "down" if its triangle shows its front and it starts at the larger index, or if neither is so. An edge is a fold if both
// of its half-edges lead down or neither does, whichever way the triangles are wound.
RG_GLOBAL(outline_down, 256, OutlineArgs, a) {
    const Scene& s = a.scene;
    const int64_t i = thread_number();
    if (i >= s.tables() * s.triangles) return;
    const int64_t table = i / s.triangles, t = i - table * s.triangles;
    int bits = kBad;
    if (s.all_exist(t)) {
        const int32_t n[3] = {s.tri[3 * t], s.tri[3 * t + 1], s.tri[3 * t + 2]};
        Vec3<Real> p[3];
        for (int k = 0; k < 3; k++) {
            const Vec4<Real> v = vertex_of(s, table, n[k]);
            p[k] = {v.x, v.y, v.w};
        }
        const bool back = facing(p[0], p[1], p[2]) < Real(0);
        bits = 0;
        for (int k = 0; k < 3; k++) bits |= int(back != (n[(k + 1) % 3] > n[(k + 2) % 3])) << k;
    }
    a.down[i] = uint8_t(bits);
}

RG_GLOBAL(outline_edges, 256, OutlineArgs, a) {
    const Scene& s = a.scene;
    const int64_t i = thread_number();
    if (i >= s.tables() * s.triangles) return;
    const int64_t table = i / s.triangles, t = i - table * s.triangles;
    const uint8_t* const down = a.down + table * s.triangles;
    const int own = down[t];
    if (own & kBad) {
        a.edges[i] = uint8_t(kBad | 7);
        return;
    }
    int bits = 0, marked = 0;
    for (int k = 0; k < 3; k++) {
        const int64_t twin = s.twins[3 * t + k];
        // Twins of another mesh may point anywhere: then the edge counts as a border, as next to a triangle that is not there.
        bool ends = twin < 0 || twin >= 3 * s.triangles;
        if (!ends) {
            const int across = down[twin / 3];
            ends = (across & kBad) || ((own >> k ^ across >> (twin % 3)) & 1) == 0;
        }
        if (!ends) continue;
        bits |= 1 << k;
        // A fold is marked from one side.
        if (!(twin >= 0 && twin < 3 * t)) marked |= 1 << k;
    }
    a.edges[i] = uint8_t(bits);
    uint8_t* const cells = a.cells + table * cells_of_table(s);
    for (int k = 0; k < 3; k++) {
        if (!(marked >> k & 1)) continue;
        const EdgeExtent<Real> e = edge_extent(vertex_of(s, table, s.tri[3 * t + (k + 1) % 3]), vertex_of(s, table, s.tri[3 * t + (k + 2) % 3]), s.half());
        if (!e.visible) continue;
        mark_cells(s.width, s.height, e.left, e.right, e.low, e.high, Real(kOutlineMargin), e.steep, [&](Real y) { return along_at(e.line, y); },
                   [&](int64_t column, int64_t row) { cells[row * cells_across(s) + column] = 1; });
    }
}

RG_FN MeshTables mesh_of(const OutlineArgs& a, int64_t table) { return {a.scene.tri, a.scene.twins, a.edges + table * a.scene.triangles}; }

// Whether the pair needs walks.
RG_FN bool asks_for_walks(const OutlineArgs& a, const PixelPlace& at, bool vertical, int32_t triangle0, int32_t triangle1) {
    const Scene& s = a.scene;
    const int64_t table = s.table_of(at.image);
    const uint8_t* const cells = a.cells + table * cells_of_table(s);
    const auto may_pass = [&](int64_t column, int64_t row) { return cells[row / kCellSide * cells_across(s) + column / kCellSide] != 0; };
    const bool both = triangle0 >= 0 && triangle1 >= 0;
    const bool outline = may_pass(at.column, at.row) || may_pass(at.column + !vertical, at.row + vertical);
    // Without an outline near only surfaces that pass through each other are of interest.
    if (outline ? triangle0 == triangle1 : !(both && a.intersections)) return false;
    const MeshTables mesh = mesh_of(a, table);
    return !(both && (outline ? mesh.continues_to(triangle0, triangle1) : share_a_vertex(mesh, triangle0, triangle1)));
}

// A triangle that has a vertex that does not exist counts as background.
RG_FN int32_t shown(const OutlineArgs& a, int64_t table, Real id) {
    const int32_t t = a.scene.triangle_of(id);
    return t >= 0 && (a.edges[table * a.scene.triangles + t] & kBad) ? -1 : t;
}

RG_GLOBAL(outline_list, 256, OutlineArgs, a) {
    const Scene& s = a.scene;
    const int64_t pixel = thread_number();
    const bool inside = pixel < s.pixels();
    PixelPlace at{0, 0, 0};
    if (inside) at = place_of(s, pixel);
    const Real own = inside ? s.rast[4 * pixel + 3] : Real(0);
    int different = 0;
    bool wanted[2];
#pragma unroll
    for (int axis = 0; axis < 2; axis++) {
        const bool vertical = axis == 1;
        wanted[axis] = false;
        if (!inside || (vertical ? at.row + 1 == s.height : at.column + 1 == s.width)) continue;
        const Real other = s.rast[4 * (pixel + (vertical ? s.width : 1)) + 3];
        if (own == other) continue;
        different++;
        const int64_t table = s.table_of(at.image);
        wanted[axis] = asks_for_walks(a, at, vertical, shown(a, table, own), shown(a, table, other));
    }
    if (inside && a.taken) a.taken[pixel] = {Real(0), Real(0), Real(0), Real(0)};
    // One addition to the list's length for the whole warp.
#pragma unroll
    for (int axis = 0; axis < 2; axis++) {
        const unsigned votes = __ballot_sync(kWarp, wanted[axis]);
        if (!votes) continue;
        unsigned long long base = 0;
        if (lane_number() == 0) base = atomicAdd(a.counts, (unsigned long long)(__popc(votes)));
        base = __shfl_sync(kWarp, base, 0);
        if (wanted[axis]) a.list[base + __popc(votes & ((1u << lane_number()) - 1))] = 2 * pixel + axis;
    }
    if (a.counting) {
        const int pairs = warp_sum(different);
        if (lane_number() == 0 && pairs) atomicAdd(a.counts + 1, (unsigned long long)(pairs));
    }
}

// A listed pair.
struct Listed {
    int64_t pixel, other;
    PixelPlace at;
    int64_t table;
    bool vertical;
    MeshTables mesh;
};
RG_FN Listed listed(const OutlineArgs& a, int64_t item) {
    const int64_t code = a.list[item], pixel = code >> 1;
    const bool vertical = code & 1;
    const PixelPlace at = place_of(a.scene, pixel);
    const int64_t table = a.scene.table_of(at.image);
    return {pixel, pixel + (vertical ? a.scene.width : 1), at, table, vertical, mesh_of(a, table)};
}
template <class F> RG_FN PixelView<Real, F> view_of(const Scene& s, const Listed& pair) {
    const Vec2<F> half{F(s.width) / F(2), F(s.height) / F(2)};
    return {s.pos + pair.table * s.pos_image_stride, half, {F(pair.at.column) + F(0.5) - half.x, F(pair.at.row) + F(0.5) - half.y}, pair.vertical};
}
RG_FN Found<Real> walk_between(const OutlineArgs& a, const Listed& pair) {
    const Scene& s = a.scene;
    const PixelView<Real, Real> seen = view_of<Real>(s, pair);
    return find_between<Real>(pair.mesh, seen, BackView<PixelView<Real, Real>>{seen}, shown(a, pair.table, s.rast[4 * pair.pixel + 3]),
                              shown(a, pair.table, s.rast[4 * pair.other + 3]));
}
RG_FN Taken<Real> taken_from(const OutlineArgs& a, const Listed& pair, const Found<Real>& found, Meeting<double>& meeting) {
    const auto seen = [&](auto number) { return view_of<decltype(number)>(a.scene, pair); };
    return taken_by<Real>(pair.mesh, seen, found, pair.vertical, a.intersections, meeting);
}

// 160 threads: with 128, NVRTC 13.5 holds float32 to 80 registers for compute capability 8.0 and spills 20 bytes; with 160 it takes 90 and
// spills nothing.
RG_GLOBAL(outline_walk, 160, OutlineArgs, a) {
    const int64_t count = int64_t(a.counts[0]);
    for (int64_t item = thread_number(); item < count; item += thread_count()) {
        const Listed pair = listed(a, item);
        const Found<Real> found = walk_between(a, pair);
        if (a.counting) {
            if (found.lost) atomicAdd(a.counts + 4, 1ull);
            if (found.steps) atomicAdd(a.counts + 5, (unsigned long long)(found.steps));
            atomicMax(a.counts + 6, (unsigned long long)(found.steps));
        }
        Meeting<double> meeting{};
        const Taken<Real> taken = taken_from(a, pair, found, meeting);
        const bool blended = takes_anything(taken);
        if (a.counting && blended) atomicAdd(a.counts + (found.what == Between::kOutline ? 2 : 3), 1ull);
        if (!blended || !a.taken) continue;
        // Asked for again: kept over the walks, the place would cost registers.
        Real* const to = reinterpret_cast<Real*>(a.taken) + 2 * a.list[item];
        to[0] = taken.of0;
        to[1] = taken.of1;
    }
}

struct OutlineBlendArgs {
    OutlineArgs outline;
    const Real* color;
    const Real* d_out;   // backward only
    Real* out;           // forward: the image; backward: the gradient of color, or null
    Sums<Real> d_pos;
    int64_t channels;
    double boost;
};

// What is taken of a pixel for each neighbour: below, left, right, above; and what it takes of them.
struct Shares { Real own[4], theirs[4]; };
RG_FN Shares shares_of(const Scene& s, const PixelTaken* taken, const PixelPlace& at, int64_t pixel) {
    Shares r;
    const PixelTaken own = taken[pixel];
    PixelTaken below{Real(0), Real(0), Real(0), Real(0)}, left = below;
    if (at.row > 0) below = taken[pixel - s.width];
    if (at.column > 0) left = taken[pixel - 1];
    r.own[0] = below.w;
    r.theirs[0] = below.z;
    r.own[1] = left.y;
    r.theirs[1] = left.x;
    r.own[2] = own.x;
    r.theirs[2] = own.y;
    r.own[3] = own.z;
    r.theirs[3] = own.w;
    return r;
}
RG_FN Real sum_of(const Shares& r) { return ((r.own[0] + r.own[1]) + r.own[2]) + r.own[3]; }
RG_FN int64_t neighbour(const Scene& s, int n) { return n == 0 ? -s.width : n == 1 ? int64_t(-1) : n == 2 ? int64_t(1) : s.width; }
// The part of a pixel that it gives to neighbour n after all.
RG_FN Real weight_of(const Shares& r, int n) { return r.own[n] > Real(0) ? r.own[n] * proportion(sum_of(r)) : Real(0); }

RG_GLOBAL(outline_blend, kBlockPixels, OutlineBlendArgs, a) {
    RG_SHARED Real weights[kBlockPixels][4];
    const Scene& s = a.outline.scene;
    const int64_t first = int64_t(blockIdx.x) * kBlockPixels, count = minimum(s.pixels() - first, int64_t(kBlockPixels));
    if (threadIdx.x < count) {
        const Shares r = shares_of(s, a.outline.taken, place_of(s, first + threadIdx.x), first + threadIdx.x);
#pragma unroll
        for (int n = 0; n < 4; n++) weights[threadIdx.x][n] = weight_of(r, n);
    }
    __syncthreads();
    const Real* const color = a.color + first * a.channels;
    Real* const out = a.out + first * a.channels;
    for_each_element(count, a.channels, [&](int64_t pixel, int64_t, int64_t i) {
        const Real own = color[i];
        Real value = own;
#pragma unroll
        for (int n = 0; n < 4; n++)
            if (weights[pixel][n] > Real(0)) value += blend(weights[pixel][n], own, color[i + neighbour(s, n) * a.channels]);
        out[i] = value;
    });
}

RG_GLOBAL(outline_blend_backward, kBlockPixels, OutlineBlendArgs, a) {
    RG_SHARED Real given[kBlockPixels][4], got[kBlockPixels][4];
    const Scene& s = a.outline.scene;
    const int64_t first = int64_t(blockIdx.x) * kBlockPixels, count = minimum(s.pixels() - first, int64_t(kBlockPixels));
    if (threadIdx.x < count) {
        const int64_t pixel = first + threadIdx.x;
        const PixelPlace at = place_of(s, pixel);
        const Shares r = shares_of(s, a.outline.taken, at, pixel);
#pragma unroll
        for (int n = 0; n < 4; n++) {
            given[threadIdx.x][n] = weight_of(r, n);
            Real weight(0);
            if (r.theirs[n] > Real(0)) {
                const int64_t other = pixel + neighbour(s, n);
                weight = r.theirs[n] * proportion(sum_of(shares_of(s, a.outline.taken, place_of(s, other), other)));
            }
            got[threadIdx.x][n] = weight;
        }
    }
    __syncthreads();
    const Real* const d_out = a.d_out + first * a.channels;
    Real* const d_color = a.out + first * a.channels;
    for_each_element(count, a.channels, [&](int64_t pixel, int64_t, int64_t i) {
        const Real own = d_out[i];
        Real value = own;
#pragma unroll
        for (int n = 0; n < 4; n++) {
            Real unused(0), d_own(0), d_source(0);
            if (given[pixel][n] > Real(0)) blend_adjoint(given[pixel][n], Real(0), Real(0), own, unused, d_own, unused);
            if (got[pixel][n] > Real(0)) blend_adjoint(got[pixel][n], Real(0), Real(0), d_out[i + neighbour(s, n) * a.channels], unused, unused, d_source);
            // Pairs give first what their first pixel's colour brings.
            if (n >= 2) {
                value += d_own;
                value += d_source;
            } else {
                value += d_source;
                value += d_own;
            }
        }
        d_color[i] = value;
    });
}

// The gradient of what pixel `target` gives to its neighbour n.
RG_FN Real slope_to(const OutlineBlendArgs& a, int64_t target, int n) {
    const int64_t at = target * a.channels, source = at + neighbour(a.outline.scene, n) * a.channels;
    Real slope(0), unused(0);
    for (int64_t c = 0; c < a.channels; c++) blend_adjoint(Real(0), a.color[at + c], a.color[source + c], a.d_out[at + c], slope, unused, unused);
    return slope;
}
RG_FN Real d_taken_of(const OutlineBlendArgs& a, int64_t target, int n) {
    const Scene& s = a.outline.scene;
    const Shares r = shares_of(s, a.outline.taken, place_of(s, target), target);
    const Real all = sum_of(r);
    Real crowd(0);
    // Each share weighs less as the others grow.
    if (all > Real(1)) {
#pragma unroll
        for (int m = 0; m < 4; m++)
            if (r.own[m] > Real(0)) crowd += r.own[m] * slope_to(a, target, m);
    }
    return taken_adjoint(all, slope_to(a, target, n), crowd);
}

RG_GLOBAL(outline_vertices, 128, OutlineBlendArgs, a) {
    const Scene& s = a.outline.scene;
    const int64_t count = int64_t(a.outline.counts[0]);
    for (int64_t item = thread_number(); item < count; item += thread_count()) {
        const Listed pair = listed(a.outline, item);
        const Real* const taken = reinterpret_cast<const Real*>(a.outline.taken + pair.pixel) + (pair.vertical ? 2 : 0);
        if (!(taken[0] > Real(0)) && !(taken[1] > Real(0))) continue;
        const Taken<Real> d{taken[0] > Real(0) ? Real(a.boost) * d_taken_of(a, pair.pixel, pair.vertical ? 3 : 2) : Real(0),
                            taken[1] > Real(0) ? Real(a.boost) * d_taken_of(a, pair.other, pair.vertical ? 0 : 1) : Real(0)};
        if (d.of0 == Real(0) && d.of1 == Real(0)) continue;
        const Found<Real> found = walk_between(a.outline, pair);
        const int64_t first = pair.table * s.pos_image_stride;
        const auto append = [&](int32_t vertex, auto g) { a.d_pos.add4(first + 4 * int64_t(vertex), Vec4<Real>{Real(g.x), Real(g.y), Real(g.z), Real(g.w)}); };
        if (found.what == Between::kMeeting) {
            Meeting<double> meeting{};
            taken_from(a.outline, pair, found, meeting);
            meeting_adjoint(pair.mesh, view_of<double>(s, pair), meeting, d, append);
        } else {
            outline_adjoint(pair.mesh, view_of<Real>(s, pair), found, pair.vertical, d, append);
        }
    }
}

RG_END
