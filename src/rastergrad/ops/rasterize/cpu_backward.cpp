// SPDX-License-Identifier: MIT
// Gradients of fragments to vertices (docs/definition.md 2.5). Per pixel only the nine numbers of a triangle that do not change over its
// pixels receive gradients, for 16 pixels at a time; a small table per tile sums them per triangle, and the corners get theirs when a
// triangle leaves the table. A tile is always worked through in the same order, so sums do not depend on threads.
#include "coverage.h"
#include "cpu_kernels.h"
#include "formulas.h"
#include "quads.h"
#include "scatter.h"
#include "triangle_id.h"

RG_BEGIN
namespace {

constexpr int kTileSide = 64;

// Sums of one triangle: gradients of areas, per_x, per_y, and directly of z and w, a quad each (the fourth number is unused).
template <class T> struct Sums { Quad<T> area, per_x, per_y, z, w; };

template <class T> class TriangleTable {
  public:
    TriangleTable(const BackwardArgs<T>& a, RowScatter<T>& scatter, int worker, int64_t strip, int64_t image)
        : a_(a), scatter_(scatter), worker_(worker), strip_(strip), first_row_(a.instanced ? image * a.vertices : 0),
          pos_(a.pos + (a.instanced ? image * a.vertices * 4 : 0)) {
        for (int s = 0; s < kSlots; s++) slots_[s].triangle = -1;
    }
    // `block` is relative to the reference pixel (fx, fy).
    RG_FN void add(int32_t triangle, T fx, T fy, const Sums<T>& block) {
        Slot& slot = slots_[triangle % kSlots];
        if (slot.triangle != triangle) {
            flush(slot);
            slot = {triangle, fx, fy, block};
            return;
        }
        slot.sums.area += block.area;
        slot.sums.per_x += block.per_x + Quad<T>(fx - slot.fx) * block.area;
        slot.sums.per_y += block.per_y + Quad<T>(fy - slot.fy) * block.area;
        slot.sums.z += block.z;
        slot.sums.w += block.w;
    }
    void flush_all() {
        for (int s = 0; s < kSlots; s++) flush(slots_[s]);
    }

  private:
    static constexpr int kSlots = 64;
    struct Slot { int32_t triangle; T fx, fy; Sums<T> sums; };

    const BackwardArgs<T>& a_;
    RowScatter<T>& scatter_;
    int worker_;
    int64_t strip_, first_row_;
    const T* pos_;
    Slot slots_[kSlots];

    void flush(const Slot& slot) {
        if (slot.triangle < 0) return;
        const int32_t* n = a_.tri + 3 * int64_t(slot.triangle);
        Vec4<T> p[3], d_p[3];
        AreaGradients<T> d;
        for (int k = 0; k < 3; k++) {
            const T* v = pos_ + 4 * int64_t(n[k]);
            p[k] = {v[0], v[1], v[2], v[3]};
            d_p[k] = {T(0), T(0), slot.sums.z[k], slot.sums.w[k]};
            d.area[k] = slot.sums.area[k];
            d.per_x[k] = slot.sums.per_x[k];
            d.per_y[k] = slot.sums.per_y[k];
        }
        corner_adjoint(p, slot.fx, slot.fy, d, d_p);
        for (int k = 0; k < 3; k++) {
            T* row = scatter_.append(worker_, strip_, first_row_ + n[k]);
            row[0] = d_p[k].x;
            row[1] = d_p[k].y;
            row[2] = d_p[k].z;
            row[3] = d_p[k].w;
        }
    }
};

// Where the pixels of a block lie relative to its first: offsets of their rows of four; 0 for those outside the image.
struct BlockPixels {
    int64_t offset[kLanes];
    unsigned inside;
    BlockPixels(int64_t width, int64_t columns, int64_t rows) : inside(0) {
        for (int l = 0; l < kLanes; l++) {
            const bool there = (l & 3) < columns && (l >> 2) < rows;
            offset[l] = there ? 4 * ((l >> 2) * width + (l & 3)) : 0;
            inside |= unsigned(there) << l;
        }
    }
};

// Rows of three for each lane.
template <class T> RG_FN void turn(const Lanes<T> (&c)[3], Quad<T>* rows) {
    store_columns<T>({c[0], c[1], c[2], Lanes<T>(T(0))}, kLanes, false, [=](int l) { return reinterpret_cast<T*>(rows + l); });
}

// `first` is the offset of the block's first pixel, which lies at (fx, fy).
template <class T>
RG_FN void backward_block(const BackwardArgs<T>& a, const T* pos, TriangleTable<T>& table, const BlockPixels& at, int64_t first, T fx, T fy,
                          T step_x, T step_y) {
    using L = Lanes<T>;
    const L zero(T(0));
    alignas(64) float encoded[kLanes];
    for (int l = 0; l < kLanes; l++) encoded[l] = float(a.rast[first + at.offset[l] + 3]);
    const lanes_f id = lanes_f::load(encoded);
    const lanes_i number = select(id <= lanes_f(float(kIdExact)), convert<int32_t>(id), bits_as<int32_t>(id) - lanes_i(kIdBits)) - lanes_i(1);
    const unsigned seen = at.inside & mask_bits((id >= lanes_f(1.0f)) & (number >= lanes_i(0)) & (number < lanes_i(int32_t(a.triangles))));
    if (!seen) return;
    const auto upstream = [&](const T* from) { return load_columns<T>([&](int l) { return from + first + at.offset[l]; }); };
    const auto nonzero = [&](L x) { return mask_bits(x != zero); };
    Columns4<T> g{zero, zero, zero, zero}, g_db{zero, zero, zero, zero};
    unsigned weights = 0, slopes = 0, depths = 0;
    if (a.d_rast) {
        g = upstream(a.d_rast);
        weights = nonzero(g.x) | nonzero(g.y);
        if (a.depth_grad) depths = nonzero(g.z) & seen;
    }
    if (a.d_rast_db) {
        g_db = upstream(a.d_rast_db);
        slopes = nonzero(g_db.x) | nonzero(g_db.y) | nonzero(g_db.z) | nonzero(g_db.w);
    }
    const unsigned planar = (weights | slopes) & seen;
    unsigned used = planar | depths;
    if (!used) return;

    alignas(64) int32_t triangle[kLanes];
    number.store(triangle);
    const int32_t some = triangle[__builtin_ctz(used)];
    const bool uniform = (mask_bits(number == lanes_i(some)) | ~used) == ~0u;
    select(mask_from_bits<int32_t>(used), number, lanes_i(some)).store(triangle);
    Vec4<L> p[3];
    for (int k = 0; k < 3; k++) {
        if (uniform) {
            const T* v = pos + 4 * int64_t(a.tri[3 * int64_t(some) + k]);
            p[k] = {L(v[0]), L(v[1]), L(v[2]), L(v[3])};
        } else {
            const Columns4<T> c = load_columns<T>([&](int l) { return pos + 4 * int64_t(a.tri[3 * int64_t(triangle[l]) + k]); });
            p[k] = {c.x, c.y, c.z, c.w};
        }
    }
    // The block's first pixel is the reference of its sums.
    using Bits = typename L::Integer;
    const L dx = convert<T>(convert<Bits>(lanes_i::iota() & lanes_i(3))) * L(step_x), dy = convert<T>(convert<Bits>(lanes_i::iota() >> 2)) * L(step_y);
    const PixelAreas<L> areas = pixel_areas(p, L(fx) + dx, L(fy) + dy);
    if (a.interior_gate) {
        used &= mask_bits(lies_inside(areas));
        if (!used) return;
    }
    AreaGradients<L> d{{zero, zero, zero}, {zero, zero, zero}, {zero, zero, zero}};
    L d_z[3] = {zero, zero, zero}, d_w[3] = {zero, zero, zero};
    if (planar) {
        d = barycentrics_adjoint(areas, g.x, g.y);
        if (slopes) barycentric_slopes_adjoint(areas, Slopes<L>{g_db.x, g_db.y, g_db.z, g_db.w}, L(step_x), L(step_y), d);
        const auto m = mask_from_bits<Bits>(planar);
        for (int k = 0; k < 3; k++) {
            d.area[k] = select(m, d.area[k], zero);
            d.per_x[k] = select(m, d.per_x[k], zero);
            d.per_y[k] = select(m, d.per_y[k], zero);
        }
    }
    if (depths) {
        AreaGradients<L> of_depth{{zero, zero, zero}, {zero, zero, zero}, {zero, zero, zero}};
        plane_depth_adjoint(areas, p, g.z, of_depth, d_z, d_w);
        const auto m = mask_from_bits<Bits>(depths);
        for (int k = 0; k < 3; k++) {
            d.area[k] += select(m, of_depth.area[k], zero);
            d_z[k] = select(m, d_z[k], zero);
            d_w[k] = select(m, d_w[k], zero);
        }
    }
    for (int k = 0; k < 3; k++) {
        d.per_x[k] += dx * d.area[k];
        d.per_y[k] += dy * d.area[k];
    }
    alignas(64) Quad<T> rows[5][kLanes];
    turn(d.area, rows[0]);
    turn(d.per_x, rows[1]);
    turn(d.per_y, rows[2]);
    if (depths) {
        turn(d_z, rows[3]);
        turn(d_w, rows[4]);
    }
    for (unsigned left = used; left;) {
        const int32_t mine = triangle[__builtin_ctz(left)];
        const Quad<T> none(T(0));
        Sums<T> sums{none, none, none, none, none};
        while (left && triangle[__builtin_ctz(left)] == mine) {
            const int l = __builtin_ctz(left);
            left &= left - 1;
            sums.area += rows[0][l];
            sums.per_x += rows[1][l];
            sums.per_y += rows[2][l];
            if (depths) {
                sums.z += rows[3][l];
                sums.w += rows[4][l];
            }
        }
        table.add(mine, fx, fy, sums);
    }
}

template <class T> void backward_tile(const BackwardArgs<T>& a, RowScatter<T>& scatter, int worker, int64_t strip, int64_t image, int64_t i0, int64_t j0) {
    TriangleTable<T> table(a, scatter, worker, strip, image);
    const T* pos = a.pos + (a.instanced ? image * a.vertices * 4 : 0);
    const T step_x = T(2) / T(a.width), step_y = T(2) / T(a.height);
    const int64_t i1 = minimum(i0 + kTileSide, a.width), j1 = minimum(j0 + kTileSide, a.height);
    const BlockPixels whole(a.width, 4, 4);
    for (int64_t j = j0; j < j1; j += 4)
        for (int64_t i = i0; i < i1; i += 4) {
            const int64_t first = 4 * ((image * a.height + j) * a.width + i);
            const T fx = T(i) * step_x + (T(1) / T(a.width) - T(1)), fy = T(j) * step_y + (T(1) / T(a.height) - T(1));
            const bool all = i + 4 <= i1 && j + 4 <= j1;
            backward_block(a, pos, table, all ? whole : BlockPixels(a.width, i1 - i, j1 - j), first, fx, fy, step_x, step_y);
        }
    table.flush_all();
}

}  // namespace

template <class T> int64_t rasterize_backward(const BackwardArgs<T>& a) {
    const int64_t across = (a.width + kTileSide - 1) / kTileSide, tiles = across * ((a.height + kTileSide - 1) / kTileSide);
    RowScatter<T> scatter(a.threads, a.images * tiles, a.instanced ? a.images * a.vertices : a.vertices, 4);
    parallel_for(a.threads, a.images * tiles, 1, [&](int worker, int64_t begin, int64_t end) {
        for (int64_t s = begin; s < end; s++) {
            const int64_t tile = s % tiles;
            backward_tile(a, scatter, worker, s, s / tiles, tile % across * kTileSide, tile / across * kTileSide);
        }
    });
    scatter.sum_into(a.d_pos);
    return 0;
}

template int64_t rasterize_backward(const BackwardArgs<float>&);
template int64_t rasterize_backward(const BackwardArgs<double>&);

RG_END
