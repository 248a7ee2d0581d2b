// SPDX-License-Identifier: MIT
// Gradients of fragments to vertices (docs/definition.md 2.5). Per pixel only the nine numbers of a triangle that do not change over its
// pixels receive gradients, for 16 pixels at a time; a small table per tile sums them per triangle, and the corners get theirs, 16 triangles
// at a time, after a triangle has left the table. A tile is always worked through in the same order, so sums do not depend on threads.
#include "coverage.h"
#include "cpu_kernels.h"
#include "formulas.h"
#include "quads.h"
#include "scatter.h"
#include "triangle_id.h"

RG_BEGIN
namespace {

constexpr int kTileSide = 64;
// Up to this many triangles in a block are each worked out for all its pixels, with their constants from the table; beyond, pixel by pixel
// with the corners gathered.
constexpr int kFewTriangles = 4;

// Sums of one triangle: gradients of areas, per_x, per_y, and directly of z and w, a quad each (the fourth number is unused).
template <class T> struct Sums { Quad<T> area, per_x, per_y, z, w; };
// The same for 16 pixels that are yet to be summed.
template <class T> struct PixelSums { AreaGradients<Lanes<T>> d; Lanes<T> z[3], w[3]; };

// Three rows of 16, summed: a quad of their sums, in an order that no instruction set changes.
template <class T> RG_FN Quad<T> sums_of(const Lanes<T> (&c)[3]) {
    Quad<T> q[4];
    for (int k = 0; k < 3; k++) {
        T row[kLanes];
        c[k].store(row);
        q[k] = (Quad<T>::load(row) + Quad<T>::load(row + 4)) + (Quad<T>::load(row + 8) + Quad<T>::load(row + 12));
    }
    return Quad<T>::of(sum(q[0]), sum(q[1]), sum(q[2]), T(0));
}

template <class T> class TriangleTable {
  public:
    // The sums of a triangle, relative to the reference pixel (fx, fy): first pixel of the block in which the triangle turned up.
    struct Slot {
        int32_t triangle;
        bool has_quads, has_pixels, has_depths;
        T fx, fy;
        Sums<T> quads;
        PixelSums<T> pixels;
    };

    TriangleTable(const BackwardArgs<T>& a, RowScatter<T>& scatter, int worker, int64_t strip, int64_t image)
        : a_(a), scatter_(scatter), worker_(worker), strip_(strip), first_row_(a.instanced ? image * a.vertices : 0),
          pos_(a.pos + (a.instanced ? image * a.vertices * 4 : 0)) {
        for (int s = 0; s < kSlots; s++) slots_[s].triangle = -1;
    }
    // `block` is relative to the reference pixel (fx, fy).
    RG_FN void add(int32_t triangle, T fx, T fy, const Sums<T>& block) {
        Slot& slot = find(triangle, fx, fy);
        if (!slot.has_quads) {
            const Quad<T> none(T(0));
            slot.quads = {none, none, none, none, none};
            slot.has_quads = true;
        }
        slot.quads.area += block.area;
        slot.quads.per_x += block.per_x + Quad<T>(fx - slot.fx) * block.area;
        slot.quads.per_y += block.per_y + Quad<T>(fy - slot.fy) * block.area;
        slot.quads.z += block.z;
        slot.quads.w += block.w;
    }
    // The slot of a triangle, whose sums begin at (fx, fy) if it had none.
    RG_FN Slot& find(int32_t triangle, T fx, T fy) {
        Slot& slot = slots_[triangle % kSlots];
        if (slot.triangle != triangle) {
            flush(slot);
            slot.triangle = triangle;
            slot.has_quads = slot.has_pixels = slot.has_depths = false;
            slot.fx = fx;
            slot.fy = fy;
        }
        return slot;
    }
    void flush_all() {
        for (int s = 0; s < kSlots; s++) flush(slots_[s]);
        if (leaving_) to_corners();
    }

  private:
    static constexpr int kSlots = 64;

    const BackwardArgs<T>& a_;
    RowScatter<T>& scatter_;
    int worker_;
    int64_t strip_, first_row_;
    const T* pos_;
    Slot slots_[kSlots];
    // Those that left the table. Sixteen at a time give their corners what they have: half the time of one after another.
    int leaving_ = 0;
    int32_t triangle_[kLanes];
    alignas(64) T fx_[kLanes], fy_[kLanes];
    alignas(64) Quad<T> sums_[5][kLanes];

    RG_FN void flush(const Slot& slot) {
        if (slot.triangle < 0) return;
        const Quad<T> none(T(0));
        const int at = leaving_++;
        triangle_[at] = slot.triangle;
        fx_[at] = slot.fx;
        fy_[at] = slot.fy;
        Sums<T> sums{none, none, none, none, none};
        if (slot.has_quads) sums = slot.quads;
        if (slot.has_pixels) {
            sums.area += sums_of(slot.pixels.d.area);
            sums.per_x += sums_of(slot.pixels.d.per_x);
            sums.per_y += sums_of(slot.pixels.d.per_y);
        }
        if (slot.has_depths) {
            sums.z += sums_of(slot.pixels.z);
            sums.w += sums_of(slot.pixels.w);
        }
        sums_[0][at] = sums.area;
        sums_[1][at] = sums.per_x;
        sums_[2][at] = sums.per_y;
        sums_[3][at] = sums.z;
        sums_[4][at] = sums.w;
        if (leaving_ == kLanes) to_corners();
    }
    __attribute__((noinline)) void to_corners() {
        using L = Lanes<T>;
        const L zero(T(0));
        const auto three = [&](int s, L(&to)[3]) {
            const Columns4<T> c = load_columns<T>(reinterpret_cast<const T*>(sums_[s]), 4);
            to[0] = c.x;
            to[1] = c.y;
            to[2] = c.z;
        };
        // Whatever lies in lanes that are not used is not looked at; but it must be a triangle.
        for (int l = leaving_; l < kLanes; l++) {
            triangle_[l] = triangle_[0];
            fx_[l] = fy_[l] = T(0);
            for (auto& s : sums_) s[l] = Quad<T>(T(0));
        }
        AreaGradients<L> d;
        L d_z[3], d_w[3];
        three(0, d.area);
        three(1, d.per_x);
        three(2, d.per_y);
        three(3, d_z);
        three(4, d_w);
        Vec4<L> p[3], d_p[3];
        for (int k = 0; k < 3; k++) {
            const Columns4<T> c = load_columns<T>([&](int l) { return pos_ + 4 * int64_t(a_.tri[3 * int64_t(triangle_[l]) + k]); });
            p[k] = {c.x, c.y, c.z, c.w};
            d_p[k] = {zero, zero, d_z[k], d_w[k]};
        }
        corner_adjoint(p, L::load(fx_), L::load(fy_), d, d_p);
        alignas(64) Quad<T> rows[3][kLanes];
        for (int k = 0; k < 3; k++)
            store_columns<T>({d_p[k].x, d_p[k].y, d_p[k].z, d_p[k].w}, kLanes, false, [&](int l) { return reinterpret_cast<T*>(rows[k] + l); });
        for (int l = 0; l < leaving_; l++)
            for (int k = 0; k < 3; k++)
                rows[k][l].store(scatter_.append(worker_, strip_, first_row_ + a_.tri[3 * int64_t(triangle_[l]) + k]));
        leaving_ = 0;
    }
};

// A square of 4 x 4 pixels in memory. One that reaches over the image's edge is copied, with zeros outside.
template <class T> class Square {
  public:
    Square(const T* first, int64_t width, int64_t columns, int64_t rows) : first_(first), stride_(4 * width) {
        if (columns >= 4 && rows >= 4) return;
        memset(copy_, 0, sizeof copy_);
        for (int64_t y = 0; y < minimum(rows, int64_t(4)); y++)
            memcpy(copy_ + 16 * y, first + 4 * width * y, size_t(minimum(columns, int64_t(4))) * 4 * sizeof(T));
        first_ = copy_;
        stride_ = 16;
    }
    RG_FN Columns4<T> columns() const { return load_square(first_, stride_); }

  private:
    const T* first_;
    int64_t stride_;
    T copy_[64];
};

// Rows of three for each lane.
template <class T> RG_FN void turn(const Lanes<T> (&c)[3], Quad<T>* rows) {
    store_columns<T>({c[0], c[1], c[2], Lanes<T>(T(0))}, kLanes, false, [=](int l) { return reinterpret_cast<T*>(rows + l); });
}

// Zero where a bit of the mask is not set. Asking whether any is saves 5 % where triangles are large.
template <class T> RG_FN void keep(unsigned mask, Lanes<T> (&a)[3], Lanes<T> (&b)[3], Lanes<T> (&c)[3]) {
    if (mask == 0xffff) return;
    const auto m = mask_from_bits<typename Lanes<T>::Integer>(mask);
    for (int k = 0; k < 3; k++) {
        a[k] = select(m, a[k], Lanes<T>(T(0)));
        b[k] = select(m, b[k], Lanes<T>(T(0)));
        c[k] = select(m, c[k], Lanes<T>(T(0)));
    }
}
template <class T> RG_FN void add_to(Lanes<T> (&sums)[3], const Lanes<T> (&c)[3], bool first) {
    for (int k = 0; k < 3; k++) sums[k] = first ? c[k] : sums[k] + c[k];
}

// What arrives at the pixels of a block, and at which of them.
template <class T> struct Upstream {
    Columns4<T> g, g_db;
    unsigned planar, depths;
    bool slopes;
};

// Gradients of the triangle's numbers at the pixels of a mask, relative to the pixel of which dx, dy are counted.
template <class T>
RG_FN void pixel_sums(const PixelAreas<Lanes<T>>& areas, const Vec4<Lanes<T>> (&p)[3], const Upstream<T>& up, unsigned mask, Lanes<T> dx,
                      Lanes<T> dy, T step_x, T step_y, PixelSums<T>& out) {
    using L = Lanes<T>;
    out.d = barycentrics_adjoint(areas, up.g.x, up.g.y);
    if (up.slopes) barycentric_slopes_adjoint(areas, Slopes<L>{up.g_db.x, up.g_db.y, up.g_db.z, up.g_db.w}, L(step_x), L(step_y), out.d);
    keep<T>(up.planar & mask, out.d.area, out.d.per_x, out.d.per_y);
    if (up.depths & mask) {
        const L zero(T(0));
        AreaGradients<L> of_depth{{zero, zero, zero}, {zero, zero, zero}, {zero, zero, zero}};
        plane_depth_adjoint(areas, p, up.g.z, of_depth, out.z, out.w);
        keep<T>(up.depths & mask, of_depth.area, out.z, out.w);
        for (int k = 0; k < 3; k++) out.d.area[k] += of_depth.area[k];
    }
    for (int k = 0; k < 3; k++) {
        out.d.per_x[k] += dx * out.d.area[k];
        out.d.per_y[k] += dy * out.d.area[k];
    }
}

// For float64 a function of its own: inlined twice it would take its share of the wheel.
__attribute__((noinline)) void pixel_sums_apart(const PixelAreas<Lanes<double>>& areas, const Vec4<Lanes<double>> (&p)[3], const Upstream<double>& up,
                                                unsigned mask, const Lanes<double>& dx, const Lanes<double>& dy, double step_x, double step_y,
                                                PixelSums<double>& out) {
    pixel_sums(areas, p, up, mask, dx, dy, step_x, step_y, out);
}
template <class T>
RG_FN void sum_pixels(const PixelAreas<Lanes<T>>& areas, const Vec4<Lanes<T>> (&p)[3], const Upstream<T>& up, unsigned mask, const Lanes<T>& dx,
                      const Lanes<T>& dy, T step_x, T step_y, PixelSums<T>& out) {
    if constexpr (sizeof(T) == sizeof(double)) pixel_sums_apart(areas, p, up, mask, dx, dy, step_x, step_y, out);
    else pixel_sums(areas, p, up, mask, dx, dy, step_x, step_y, out);
}

// One triangle of a block. (fx, fy) is the block's first pixel, from which dx and dy are counted.
template <class T>
RG_FN void add_triangle(const BackwardArgs<T>& a, const T* pos, TriangleTable<T>& table, int32_t triangle, unsigned mask, const Upstream<T>& up, T fx, T fy,
                        Lanes<T> dx, Lanes<T> dy, T step_x, T step_y) {
    using L = Lanes<T>;
    Vec4<T> corner[3];
    Vec4<L> p[3];
    for (int k = 0; k < 3; k++) {
        const T* v = pos + 4 * int64_t(a.tri[3 * int64_t(triangle) + k]);
        corner[k] = {v[0], v[1], v[2], v[3]};
        p[k] = {L(v[0]), L(v[1]), L(v[2]), L(v[3])};
    }
    const PixelAreas<L> areas = areas_at<L>(pixel_areas(corner, fx, fy), dx, dy);
    if (a.interior_gate) {
        mask &= mask_bits(lies_inside(areas));
        if (!mask) return;
    }
    // Only now: a triangle that the gate leaves out must not push another from the table.
    auto& slot = table.find(triangle, fx, fy);
    const L from_x = dx + L(fx - slot.fx), from_y = dy + L(fy - slot.fy);
    PixelSums<T> sums;
    sum_pixels(areas, p, up, mask, from_x, from_y, step_x, step_y, sums);
    add_to<T>(slot.pixels.d.area, sums.d.area, !slot.has_pixels);
    add_to<T>(slot.pixels.d.per_x, sums.d.per_x, !slot.has_pixels);
    add_to<T>(slot.pixels.d.per_y, sums.d.per_y, !slot.has_pixels);
    slot.has_pixels = true;
    if (up.depths & mask) {
        add_to<T>(slot.pixels.z, sums.z, !slot.has_depths);
        add_to<T>(slot.pixels.w, sums.w, !slot.has_depths);
        slot.has_depths = true;
    }
}

// A block of many triangles: each pixel with its own corners.
template <class T>
RG_FN void add_many(const BackwardArgs<T>& a, const T* pos, TriangleTable<T>& table, const int32_t (&triangle)[kLanes], unsigned used,
                    const Upstream<T>& up, T fx, T fy, Lanes<T> dx, Lanes<T> dy, T step_x, T step_y) {
    using L = Lanes<T>;
    Vec4<L> p[3];
    for (int k = 0; k < 3; k++) {
        const Columns4<T> c = load_columns<T>([&](int l) { return pos + 4 * int64_t(a.tri[3 * int64_t(triangle[l]) + k]); });
        p[k] = {c.x, c.y, c.z, c.w};
    }
    const PixelAreas<L> areas = pixel_areas(p, L(fx) + dx, L(fy) + dy);
    if (a.interior_gate) {
        used &= mask_bits(lies_inside(areas));
        if (!used) return;
    }
    PixelSums<T> pixels;
    sum_pixels(areas, p, up, used, dx, dy, step_x, step_y, pixels);
    const bool depths = up.depths & used;
    alignas(64) Quad<T> rows[5][kLanes];
    turn(pixels.d.area, rows[0]);
    turn(pixels.d.per_x, rows[1]);
    turn(pixels.d.per_y, rows[2]);
    if (depths) {
        turn(pixels.z, rows[3]);
        turn(pixels.w, rows[4]);
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

// Which triangles a block shows: its pixels' numbers, at which there is one, and pixels that are the first of their triangle (not always
// only the first: neighbours to the left and above are looked at).
struct Visible {
    int32_t number[kLanes];
    unsigned seen, heads;
};

template <class T> RG_FN void look(const BackwardArgs<T>& a, const Square<T>& rast, Visible& to) {
    const lanes_i number = decode_id(rast.columns().w);
    to.seen = mask_bits((number >= lanes_i(0)) & (number < lanes_i(int32_t(a.triangles))));
    to.heads = 0;
    if (!to.seen) return;
    int32_t before[kLanes + 4];
    for (int l = 0; l < 4; l++) before[l] = -1;
    number.store(before + 4);
    number.store(to.number);
    to.heads = mask_bits((number != lanes_i::load(before)) & (number != lanes_i::load(before + 3))) & to.seen;
    for (unsigned left = to.heads; left; left &= left - 1) __builtin_prefetch(a.tri + 3 * int64_t(to.number[__builtin_ctz(left)]));
}
// The corners of a block that comes next; its triangles were asked for a row of blocks ago.
template <class T> RG_FN void prefetch_corners(const BackwardArgs<T>& a, const T* pos, const Visible& block) {
    for (unsigned left = block.heads; left; left &= left - 1) {
        const int32_t* n = a.tri + 3 * int64_t(block.number[__builtin_ctz(left)]);
        for (int k = 0; k < 3; k++) __builtin_prefetch(pos + 4 * int64_t(n[k]));
    }
}

// `first` is the offset of the block's first pixel, which lies at (fx, fy); columns and rows are those left in the image; `ahead` leads to the
// block that is prefetched, 0: none.
template <class T>
RG_FN void backward_block(const BackwardArgs<T>& a, const T* pos, TriangleTable<T>& table, const Visible& visible, int64_t columns, int64_t rows,
                          int64_t first, int64_t ahead, T fx, T fy, T step_x, T step_y) {
    using L = Lanes<T>;
    using Bits = typename L::Integer;
    const auto square = [&](const T* from) { return Square<T>(from + first, a.width, columns, rows).columns(); };
    const auto soon = [&](const T* from) {
        if (ahead)
            for (int y = 0; y < 4; y++) __builtin_prefetch(from + first + ahead + 4 * y * a.width);
    };
    const unsigned seen = visible.seen;
    if (!seen) return;
    // All bits but the sign, so that a negative zero is one.
    const auto nonzero = [](Lanes<Bits> x) { return mask_bits((x << 1) != Lanes<Bits>(0)); };
    const auto bits = [](L x) { return bits_as<Bits>(x); };
    const L zero(T(0));
    Upstream<T> up{{zero, zero, zero, zero}, {zero, zero, zero, zero}, 0, 0, false};
    if (a.d_rast) {
        soon(a.d_rast);
        up.g = square(a.d_rast);
        up.planar = nonzero(bits(up.g.x) | bits(up.g.y)) & seen;
        if (a.depth_grad) up.depths = nonzero(bits(up.g.z)) & seen;
    }
    if (a.d_rast_db) {
        soon(a.d_rast_db);
        up.g_db = square(a.d_rast_db);
        const unsigned slopes = nonzero(bits(up.g_db.x) | bits(up.g_db.y) | bits(up.g_db.z) | bits(up.g_db.w)) & seen;
        up.slopes = slopes != 0;
        up.planar |= slopes;
    }
    const unsigned used = up.planar | up.depths;
    if (!used) return;

    const L dx = convert<T>(convert<Bits>(lanes_i::iota() & lanes_i(3))) * L(step_x), dy = convert<T>(convert<Bits>(lanes_i::iota() >> 2)) * L(step_y);
    const lanes_i number = lanes_i::load(visible.number);
    // What is seen decides on the way, not what is used: a pixel without gradient changes no bit of its neighbours' sums.
    if (__builtin_popcount(visible.heads) > kFewTriangles) {
        alignas(64) int32_t triangle[kLanes];
        select(mask_from_bits<int32_t>(used), number, lanes_i(visible.number[__builtin_ctz(used)])).store(triangle);
        add_many(a, pos, table, triangle, used, up, fx, fy, dx, dy, step_x, step_y);
        return;
    }
    for (unsigned left = used; left;) {
        const int32_t triangle = visible.number[__builtin_ctz(left)];
        const unsigned mask = mask_bits(number == lanes_i(triangle)) & used;
        left &= ~mask;
        add_triangle(a, pos, table, triangle, mask, up, fx, fy, dx, dy, step_x, step_y);
    }
}

template <class T> void backward_tile(const BackwardArgs<T>& a, RowScatter<T>& scatter, int worker, int64_t strip, int64_t image, int64_t i0, int64_t j0) {
    TriangleTable<T> table(a, scatter, worker, strip, image);
    const T* pos = a.pos + (a.instanced ? image * a.vertices * 4 : 0);
    const T step_x = T(2) / T(a.width), step_y = T(2) / T(a.height);
    const int64_t i1 = minimum(i0 + kTileSide, a.width), j1 = minimum(j0 + kTileSide, a.height);
    Visible row[kTileSide / 4 + 1];
    for (int64_t j = j0; j < j1; j += 4) {
        const int64_t line = 4 * (image * a.height + j) * a.width;
        int blocks = 0;
        for (int64_t i = i0; i < i1; i += 4) {
            const T* first = a.rast + line + 4 * i;
            if (j + 8 <= j1)
                for (int y = 4; y < 8; y++) __builtin_prefetch(first + 4 * y * a.width);
            look(a, Square<T>(first, a.width, i1 - i, j1 - j), row[blocks++]);
        }
        row[blocks].heads = 0;
        prefetch_corners(a, pos, row[0]);
        for (int b = 0; b < blocks; b++) {
            const int64_t i = i0 + 4 * b;
            prefetch_corners(a, pos, row[b + 1]);
            const T fx = T(i) * step_x + (T(1) / T(a.width) - T(1)), fy = T(j) * step_y + (T(1) / T(a.height) - T(1));
            backward_block(a, pos, table, row[b], i1 - i, j1 - j, line + 4 * i, j + 8 <= j1 ? 16 * a.width : 0, fx, fy, step_x, step_y);
        }
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
