// SPDX-License-Identifier: MIT
// Gradients of fragments to vertices (docs/definition.md 2.5). Per pixel only what is the same at all pixels of a triangle receives gradients,
// for the 16 pixels of a block at a time; a small table per tile sums them per triangle, and the corners get theirs, 16 triangles
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
// Up to this many triangles of a block are set up side by side in a quad, from which each pixel takes its own; beyond, each pixel gathers
// its corners.
constexpr int kFewTriangles = 4;

// PlaneGradients, a quad each.
template <class T> struct Sums { Quad<T> at, per_x, per_y; };

// Gradients of a tile's vertices, each shared by some six triangles; those whose place another takes become records: of 1,750,000 additions
// (1,000,000 triangles) 153,000 are left.
template <class T> class VertexTable {
  public:
    VertexTable(RowScatter<T>& scatter, int worker, int64_t strip, int64_t first_row)
        : scatter_(scatter), worker_(worker), strip_(strip), first_row_(first_row) {
        for (auto& vertex : vertex_) vertex = -1;
    }
    RG_FN void add(int32_t vertex, Quad<T> d) {
        const uint32_t at = uint32_t(vertex) % kPlaces;
        if (vertex_[at] == vertex) {
            sums_[at] += d;
            return;
        }
        record(at);
        vertex_[at] = vertex;
        sums_[at] = d;
    }
    void flush() {
        for (uint32_t at = 0; at < kPlaces; at++) record(at);
    }

  private:
    static constexpr uint32_t kPlaces = 512;

    RowScatter<T>& scatter_;
    int worker_;
    int64_t strip_, first_row_;
    int32_t vertex_[kPlaces];
    alignas(64) Quad<T> sums_[kPlaces];

    RG_FN void record(uint32_t at) {
        if (vertex_[at] >= 0) sums_[at].store(scatter_.append(worker_, strip_, first_row_ + vertex_[at]));
    }
};

template <class T> class TriangleTable {
  public:
    TriangleTable(const BackwardArgs<T>& a, RowScatter<T>& scatter, int worker, int64_t strip, int64_t image)
        : a_(a), vertices_(scatter, worker, strip, a.instanced ? image * a.vertices : 0), pos_(a.pos + (a.instanced ? image * a.vertices * 4 : 0)) {
        for (auto& triangle : triangle_) triangle = -1;
    }
    // `block` is relative to the pixel at (fx, fy).
    RG_FN void add(int32_t triangle, T fx, T fy, const Sums<T>& block) {
        const uint32_t at = uint32_t(triangle) % kSlots;
        Slot& slot = slots_[at];
        if (triangle_[at] != triangle) {
            leave(at);
            triangle_[at] = triangle;
            slot = {block, fx, fy};
            return;
        }
        slot.sums.at += block.at;
        slot.sums.per_x += block.per_x + Quad<T>(fx - slot.fx) * block.at;
        slot.sums.per_y += block.per_y + Quad<T>(fy - slot.fy) * block.at;
    }
    RG_FN VertexTable<T>& vertices() { return vertices_; }
    void flush() {
        for (uint32_t at = 0; at < kSlots; at++) leave(at);
        if (leaving_) to_corners();
        vertices_.flush();
    }

  private:
    static constexpr uint32_t kSlots = 256;
    // The sums of a triangle, relative to the first pixel (fx, fy) of the block in which it turned up: there they do not cancel.
    struct Slot {
        Sums<T> sums;
        T fx, fy;
    };

    const BackwardArgs<T>& a_;
    VertexTable<T> vertices_;
    const T* pos_;
    int32_t triangle_[kSlots];
    Slot slots_[kSlots];
    // Those that left the table. Sixteen at a time give their corners what they have: half the time of one after another.
    int leaving_ = 0;
    int32_t left_[kLanes];
    alignas(64) T fx_[kLanes], fy_[kLanes];
    alignas(64) Quad<T> sums_[3][kLanes];

    RG_FN void leave(uint32_t from) {
        if (triangle_[from] < 0) return;
        const Slot& slot = slots_[from];
        const int at = leaving_++;
        left_[at] = triangle_[from];
        fx_[at] = slot.fx;
        fy_[at] = slot.fy;
        sums_[0][at] = slot.sums.at;
        sums_[1][at] = slot.sums.per_x;
        sums_[2][at] = slot.sums.per_y;
        if (leaving_ == kLanes) to_corners();
    }
    __attribute__((noinline)) void to_corners() {
        using L = Lanes<T>;
        const L zero(T(0));
        const auto plane = [&](int s) {
            const Columns4<T> c = load_columns<T>(reinterpret_cast<const T*>(sums_[s]), 4);
            return Vec4<L>{c.x, c.y, c.z, c.w};
        };
        // Whatever lies in lanes that are not used is not looked at; but it must be a triangle.
        for (int l = leaving_; l < kLanes; l++) {
            left_[l] = left_[0];
            fx_[l] = fy_[l] = T(0);
            for (auto& s : sums_) s[l] = Quad<T>(T(0));
        }
        Vec4<L> p[3], d_p[3];
        for (int k = 0; k < 3; k++) {
            const Columns4<T> c = load_columns<T>([&](int l) { return pos_ + 4 * int64_t(a_.tri[3 * int64_t(left_[l]) + k]); });
            p[k] = {c.x, c.y, c.z, c.w};
            d_p[k] = {zero, zero, zero, zero};
        }
        planes_adjoint(p, L::load(fx_), L::load(fy_), PlaneGradients<L>{plane(0), plane(1), plane(2)}, a_.d_rast && a_.depth_grad, d_p);
        alignas(64) Quad<T> rows[3][kLanes];
        for (int k = 0; k < 3; k++)
            store_columns<T>({d_p[k].x, d_p[k].y, d_p[k].z, d_p[k].w}, kLanes, false, [&](int l) { return reinterpret_cast<T*>(rows[k] + l); });
        for (int l = 0; l < leaving_; l++)
            for (int k = 0; k < 3; k++)
                vertices_.add(a_.tri[3 * int64_t(left_[l]) + k], rows[k][l]);
        leaving_ = 0;
    }
};

// A square of 4 x 4 pixels in memory, lane by lane column by column. One that reaches over the image's edge is copied, with zeros outside.
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

// Into the second cache: the lines of a tile have few places in the first one, as rows of an image are often a multiple of 4 kB long.
template <class T> RG_FN void prefetch_pixels(const T* line) { __builtin_prefetch(line, 0, 2); }

// What arrives at the pixels of a block, and at which of them.
template <class T> struct Upstream {
    Columns4<T> g, g_db;
    unsigned planar, depths;
    bool slopes;
};

// Which triangles a block shows: its pixels' numbers, and at which there is one. Up to four triangles (`few`, else 0) are listed, each with
// its pixels. Of more only the `heads` are known: pixels that are the first of their triangle, looking at neighbours to the left and above.
struct Visible {
    int32_t number[kLanes];
    unsigned seen, heads;
    int few;
    int32_t triangle[kFewTriangles];
    unsigned pixels[kFewTriangles];
};

template <class T> RG_FN void look(const BackwardArgs<T>& a, const Square<T>& rast, Visible& to) {
    const lanes_i number = decode_id(rast.columns().w);
    to.seen = mask_bits((number >= lanes_i(0)) & (number < lanes_i(int32_t(a.triangles))));
    to.few = 0;
    to.heads = 0;
    if (!to.seen) return;
    number.store(to.number);
    // Always four steps: how many there are is hard to foretell. Those in excess repeat the first triangle.
    unsigned left = to.seen;
    for (int n = 0; n < kFewTriangles; n++) {
        const int32_t triangle = to.number[__builtin_ctz(left ? left : to.seen)];
        __builtin_prefetch(a.tri + 3 * int64_t(triangle));
        to.few += left != 0;
        to.triangle[n] = triangle;
        to.pixels[n] = left & equal_bits(number, lanes_i(triangle));
        left ^= to.pixels[n];
    }
    if (!left) return;
    to.few = 0;
    int32_t before[kLanes + 4];
    for (int l = 0; l < 4; l++) before[l] = -1;
    number.store(before + 4);
    to.heads = mask_bits((number != lanes_i::load(before)) & (number != lanes_i::load(before + 3))) & to.seen;
    for (left = to.heads; left; left &= left - 1) __builtin_prefetch(a.tri + 3 * int64_t(to.number[__builtin_ctz(left)]));
}
// The corners of a block that comes next; its triangles were asked for a row of blocks ago.
template <class T> RG_FN void prefetch_corners(const BackwardArgs<T>& a, const T* pos, const Visible& block) {
    const auto prefetch = [&](int32_t triangle) {
        const int32_t* n = a.tri + 3 * int64_t(triangle);
        for (int k = 0; k < 3; k++) __builtin_prefetch(pos + 4 * int64_t(n[k]));
    };
    for (int n = 0; n < block.few; n++) prefetch(block.triangle[n]);
    for (unsigned left = block.heads; left; left &= left - 1) prefetch(block.number[__builtin_ctz(left)]);
}

// The areas of each pixel's own triangle, few of them set up at the block's first pixel (fx, fy).
template <class T>
RG_FN PixelAreas<Lanes<T>> areas_of_few(const BackwardArgs<T>& a, const T* pos, const Visible& visible, T fx, T fy, Lanes<T> dx, Lanes<T> dy) {
    using L = Lanes<T>;
    using Q = Quad<T>;
    Vec4<Q> p[3];
    for (int k = 0; k < 3; k++) {
        Q rows[4];
        for (int n = 0; n < 4; n++) rows[n] = Q::load(pos + 4 * int64_t(a.tri[3 * int64_t(visible.triangle[n]) + k]));
        transpose(rows);
        p[k] = {rows[0], rows[1], rows[2], rows[3]};
    }
    const PixelAreas<Q> set_up = pixel_areas(p, Q(fx), Q(fy));
    lanes_i which(0);
    for (int n = 1; n < visible.few; n++) which |= keep_bits(visible.pixels[n], lanes_i(n));
    const L zero(T(0));
    PixelAreas<L> own;
    for (int k = 0; k < 3; k++) {
        own.q[k] = {zero, zero};
        own.area[k] = look_up(set_up.area[k], which);
        own.per_x[k] = look_up(set_up.per_x[k], which);
        own.per_y[k] = look_up(set_up.per_y[k], which);
    }
    own.sum = zero;
    own.sum_x = look_up(set_up.sum_x, which);
    own.sum_y = look_up(set_up.sum_y, which);
    return areas_at<L>(own, dx, dy);
}

// Gradients of the planes of each pixel's triangle at the pixel.
template <class T>
RG_FN PlaneGradients<Lanes<T>> pixel_gradients(const PixelAreas<Lanes<T>>& areas, const Upstream<T>& up, unsigned inside, T step_x, T step_y) {
    using L = Lanes<T>;
    const Vec2<L> g_uv{up.g.x, up.g.y};
    const Slopes<L> slopes{up.g_db.x, up.g_db.y, up.g_db.z, up.g_db.w};
    PlaneGradients<L> d = up.slopes ? barycentric_slopes_adjoint(areas, g_uv, slopes, L(step_x), L(step_y)) : barycentrics_adjoint(areas, g_uv);
    const unsigned planar = up.planar & inside;
    if (planar != 0xffff)
        for (Vec4<L>* v : {&d.at, &d.per_x, &d.per_y}) *v = {keep_bits(planar, v->x), keep_bits(planar, v->y), keep_bits(planar, v->z), v->w};
    d.at.w = keep_bits(up.depths & inside, up.g.z);
    return d;
}

// The sixteen rows of a plane's gradients, four to a register.
template <class T> struct Turned {
    Lanes<T> rows[4];
    explicit Turned(Vec4<Lanes<T>> v) : rows{v.x, v.y, v.z, v.w} { turn(rows); }
    RG_FN Quad<T> sum() const { return sum_of_quads((rows[0] + rows[1]) + (rows[2] + rows[3])); }
    RG_FN Quad<T> sum(unsigned pixels) const {
        const auto those = [&](int r) { return keep_bits((pixels >> r & 0x1111) * 15, rows[r]); };
        return sum_of_quads((those(0) + those(1)) + (those(2) + those(3)));
    }
};

// Where the pixels of a block lie from its first one.
template <class T> RG_FN Vec2<Lanes<T>> offsets(T step_x, T step_y) {
    using Bits = typename Lanes<T>::Integer;
    const lanes_i lane = lanes_i::iota();
    return {convert<T>(convert<Bits>(lane >> 2)) * Lanes<T>(step_x), convert<T>(convert<Bits>(lane & lanes_i(3))) * Lanes<T>(step_y)};
}

// A block of few triangles: their sums, relative to its first pixel (fx, fy), to the table.
template <class T>
RG_FN void add_few(const BackwardArgs<T>& a, const T* pos, TriangleTable<T>& table, const Visible& visible, const Upstream<T>& up, T fx, T fy,
                   T step_x, T step_y) {
    const auto [dx, dy] = offsets(step_x, step_y);
    const PixelAreas<Lanes<T>> areas = areas_of_few(a, pos, visible, fx, fy, dx, dy);
    unsigned inside = 0xffff;
    if (a.interior_gate) inside = mask_bits(lies_inside(areas));
    // A triangle that the gate leaves out must not push another from the table.
    const unsigned used = (up.planar | up.depths) & inside;
    if (!used) return;
    const PlaneGradients<Lanes<T>> d = referred(pixel_gradients(areas, up, inside, step_x, step_y), dx, dy);
    const Turned<T> at(d.at), per_x(d.per_x), per_y(d.per_y);
    if (visible.few == 1) {
        table.add(visible.triangle[0], fx, fy, {at.sum(), per_x.sum(), per_y.sum()});
        return;
    }
    for (int n = 0; n < visible.few; n++) {
        const unsigned pixels = visible.pixels[n] & used;
        if (pixels) table.add(visible.triangle[n], fx, fy, {at.sum(pixels), per_x.sum(pixels), per_y.sum(pixels)});
    }
}

// A block of more: each pixel gives its triangle's corners what it has. `up` comes by value so that otherwise it may stay in registers.
template <class T>
__attribute__((noinline)) void add_many(const BackwardArgs<T>& a, const T* pos, VertexTable<T>& vertices, const Visible& visible, Upstream<T> up,
                                        T fx, T fy, T step_x, T step_y) {
    using L = Lanes<T>;
    alignas(64) int32_t triangle[kLanes];
    select(mask_from_bits<int32_t>(visible.seen), lanes_i::load(visible.number), lanes_i(visible.triangle[0])).store(triangle);
    Vec4<L> p[3], d_p[3];
    const L zero(T(0));
    for (int k = 0; k < 3; k++) {
        const Columns4<T> c = load_columns<T>([&](int l) { return pos + 4 * int64_t(a.tri[3 * int64_t(triangle[l]) + k]); });
        p[k] = {c.x, c.y, c.z, c.w};
        d_p[k] = {zero, zero, zero, zero};
    }
    const auto [dx, dy] = offsets(step_x, step_y);
    const L x = L(fx) + dx, y = L(fy) + dy;
    const PixelAreas<L> areas = pixel_areas(p, x, y);
    unsigned inside = 0xffff;
    if (a.interior_gate) inside = mask_bits(lies_inside(areas));
    planes_adjoint(p, x, y, pixel_gradients(areas, up, inside, step_x, step_y), (up.depths & inside) != 0, d_p);
    alignas(64) T rows[3][4][kLanes];
    for (int k = 0; k < 3; k++) {
        const Turned<T> turned(d_p[k]);
        for (int r = 0; r < 4; r++) turned.rows[r].store(rows[k][r]);
    }
    for (unsigned left = (up.planar | up.depths) & inside; left; left &= left - 1) {
        const int l = __builtin_ctz(left);
        const int32_t* n = a.tri + 3 * int64_t(triangle[l]);
        for (int k = 0; k < 3; k++) vertices.add(n[k], Quad<T>::load(rows[k][l & 3] + (l & ~3)));
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
            for (int y = 0; y < 4; y++) prefetch_pixels(from + first + ahead + 4 * y * a.width);
    };
    const unsigned seen = visible.seen;
    if (!seen) return;
    // All bits but the sign, so that a negative zero is one.
    const auto nonzero = [](Lanes<Bits> x) { return ~equal_bits(x << 1, Lanes<Bits>(0)); };
    const auto bits = [](L x) { return bits_as<Bits>(x); };
    const L none(T(0));
    Upstream<T> up{{none, none, none, none}, {none, none, none, none}, 0, 0, false};
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
    if (!(up.planar | up.depths)) return;
    // What is seen decides on the way, not what is used: a pixel without gradient changes no bit of its neighbours' sums.
    if (visible.few) add_few(a, pos, table, visible, up, fx, fy, step_x, step_y);
    else add_many(a, pos, table.vertices(), visible, up, fx, fy, step_x, step_y);
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
                for (int y = 4; y < 8; y++) prefetch_pixels(first + 4 * y * a.width);
            look(a, Square<T>(first, a.width, i1 - i, j1 - j), row[blocks++]);
        }
        row[blocks].few = 0;
        row[blocks].heads = 0;
        prefetch_corners(a, pos, row[0]);
        for (int b = 0; b < blocks; b++) {
            const int64_t i = i0 + 4 * b;
            prefetch_corners(a, pos, row[b + 1]);
            const T fx = T(i) * step_x + (T(1) / T(a.width) - T(1)), fy = T(j) * step_y + (T(1) / T(a.height) - T(1));
            backward_block(a, pos, table, row[b], i1 - i, j1 - j, line + 4 * i, j + 8 <= j1 ? 16 * a.width : 0, fx, fy, step_x, step_y);
        }
    }
    table.flush();
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
RG_FLOAT64(template int64_t rasterize_backward(const BackwardArgs<double>&);)

RG_END
