// SPDX-License-Identifier: MIT
// Gradients. Texels are summed in bands of rows: strips of pixels note in which bands their texels lie, then one thread sums a band from
// the lists of all strips, in order, in accumulators that fit its cache. No atomics; the result does not depend on the thread count.
// Gradients of coordinates and levels are per pixel and come with the first pass.
#include "arena.h"
#include "cpu_walk.h"
#include "threads.h"

RG_BEGIN
namespace {

constexpr int64_t kStrip = 16384;           // pixels per list at least, in whole rows of blocks, unless there would be too many lists
constexpr int64_t kMostStrips = 512;        // per image
constexpr int64_t kBandBytes = 400 * 1024;  // of accumulators: what a core keeps beside its other data

// Rows of a level (those of all faces) are cut into bands of 2^shift.
struct Bands {
    int shift[kMostLevels];
    int64_t first[kMostLevels + 1];  // number of a level's first band
    int64_t total(int levels) const { return first[levels]; }
};
template <class T> Bands bands_of(const Levels<T>& levels) {
    Bands bands;
    bands.first[0] = 0;
    for (int k = 0; k < levels.count; k++) {
        const Level<T>& level = levels.level[k];
        const int64_t row_bytes = level.width * levels.quads * int64_t(4 * sizeof(T));
        int shift = 0;
        // Small levels are cut as well, so that every thread has a share: up to 16 bands of at least 4 rows.
        while ((int64_t(2) << shift) * row_bytes <= kBandBytes && (int64_t(2) << shift) <= maximum(int64_t(4), level.rows / 16)) shift++;
        bands.shift[k] = shift;
        bands.first[k + 1] = bands.first[k] + ((level.rows - 1) >> shift) + 1;
    }
    return bands;
}

template <class T> struct Record {
    uint32_t pixel;  // within its strip
    T weight;        // of the level
};

template <class T> struct Task {
    const BackwardArgs<T>& args;
    const Query<T>& q;
    Levels<T> levels;
    Layout layout;
    Bands bands;
    int64_t strip_rows, strips;        // rows per strip, strips per image
    T* d_level[kMostLevels];           // where gradients of levels go; null: not wanted
    PieceList<Record<T>>* lists;       // [images][strips][bands]; null: no texel gradients wanted

    PieceList<Record<T>>* lists_of(int64_t strip_number) const { return lists + strip_number * bands.total(levels.count); }
};

template <class T> RG_FN bool all_zero(const T* values, int64_t count) {
    for (int64_t k = 0; k < count; k++)
        if (values[k] != 0) return false;
    return true;
}

// ---- first pass: pixels ---------------------------------------------------------------------------------------------------------

// Texels that lie on several faces, or not on the texture.
template <class T>
__attribute__((noinline)) void note_carefully(const Task<T>& task, PieceList<Record<T>>* level_lists, Arena& arena, int k, const Cells<T>& cells, int l, Record<T> record) {
    int64_t seen[4];
    int count = 0;
    for (int corner = 0; corner < (task.q.filter == kNearest ? 1 : 4); corner++) {
        const int64_t texel = cells.texel[corner][l];
        if (texel < 0) continue;
        const int64_t band = texel / task.levels.level[k].width >> task.bands.shift[k];
        bool known = false;
        for (int i = 0; i < count; i++) known |= seen[i] == band;
        if (known) continue;
        seen[count++] = band;
        level_lists[band].push(arena, record);
    }
}
template <class T> RG_FN void note(const Task<T>& task, PieceList<Record<T>>* lists, Arena& arena, int k, const Cells<T>& cells, int l, Record<T> record) {
    if (!task.d_level[k]) return;
    PieceList<Record<T>>* level_lists = lists + task.bands.first[k];
    if (__builtin_expect(cells.highest[l] == kNoCell<T>, 0)) return note_carefully(task, level_lists, arena, k, cells, l, record);
    const int shift = task.bands.shift[k];
    const int64_t first = int64_t(cells.row[0][l]) >> shift, second = int64_t(cells.row[1][l]) >> shift;
    level_lists[first].push(arena, record);
    if (__builtin_expect(second != first, 0)) level_lists[second].push(arena, record);
}

// What the colours of 16 pixels say about their coordinates, before the sums over channels.
template <class T> struct Products {
    enum { kSlopeS, kSlopeT, kCoarserS, kCoarserT, kStep, kCount };
    alignas(64) T values[kCount][4 * kLanes];
    RG_FN void clear() {
        for (auto& row : values)
            for (int l = 0; l < 4; l++) Lanes<T>(T(0)).store(row + l * kLanes);
    }
    RG_FN void add(int what, int l, Quad<T> x) { (Quad<T>::load(values[what] + 4 * l) + x).store(values[what] + 4 * l); }
    RG_FN Lanes<T> sums(int what) const {
        const Columns4<T> c = load_columns(values[what], 4);
        return (c.x + c.y) + (c.z + c.w);
    }
};

template <class T> RG_FN Lanes<T> only(unsigned lanes, Lanes<T> x) { return select(mask_from_bits<Index<T>>(lanes), x, Lanes<T>(T(0))); }
template <class T> RG_FN Vec3<Lanes<T>> zero_unless_finite(Vec3<Lanes<T>> v) {
    const auto use = is_finite(v.x) & is_finite(v.y) & is_finite(v.z);
    const Lanes<T> zero(T(0));
    return {select(use, v.x, zero), select(use, v.y, zero), select(use, v.z, zero)};
}

// Gradients of uv, uv_da and bias for 16 pixels from the sums over channels.
template <class T>
__attribute__((noinline)) void store_point_gradients(const Task<T>& task, const Group<T>& g, const Products<T>& products, unsigned active, int64_t first, int count) {
    using F = Lanes<T>;
    using P = Products<T>;
    const BackwardArgs<T>& a = task.args;
    const Query<T>& q = task.q;
    const Levels<T>& levels = task.levels;
    const bool mixed = q.filter == kLinearMipmapLinear, mipmapped = q.filter >= kLinearMipmapNearest, cube = q.boundary == kCube;
    const F zero(T(0));
    const F step = mixed ? products.sums(P::kStep) : zero;
    if (a.d_bias) {
        const F d_bias[1] = {step};
        store_rows(d_bias, count, a.d_bias + first);
    }
    Derivatives<F> d_slopes = {zero, zero, zero, zero};
    if (mixed && q.uv_da && (a.d_uv_da || (a.d_uv && cube))) {
        const Derivatives<F> d = level_adjoint(g.slopes.texels, g.slopes.ellipse, F(levels.widths[0]), F(levels.heights[0]), q.circular != 0);
        d_slopes = {step * d.s_x, step * d.s_y, step * d.t_x, step * d.t_y};
    }
    if (a.d_uv_da) {
        if (cube) {
            const FaceDerivatives<F> d = face_derivatives_adjoint(g.place.cube, d_slopes);
            const Vec3<F> x = out_of_face(g.place.cube.face, d.x), y = out_of_face(g.place.cube.face, d.y);
            const F rows[6] = {only(active, x.x), only(active, y.x), only(active, x.y), only(active, y.y), only(active, x.z), only(active, y.z)};
            store_rows(rows, count, a.d_uv_da + 6 * first);
        } else {
            const F rows[4] = {d_slopes.s_x, d_slopes.s_y, d_slopes.t_x, d_slopes.t_y};
            store_rows(rows, count, a.d_uv_da + 4 * first);
        }
    }
    if (!a.d_uv) return;
    F d_s, d_t;
    if (mixed) {
        const Heights<T>& h = g.heights;
        const F f = F::load(h.f);
        d_s = coordinate_adjoint(products.sums(P::kSlopeS), sizes_at(levels.widths, h.low, h.uniform), products.sums(P::kCoarserS),
                                 sizes_at(levels.widths, h.high, h.uniform), f);
        d_t = coordinate_adjoint(products.sums(P::kSlopeT), sizes_at(levels.heights, h.low, h.uniform), products.sums(P::kCoarserT),
                                 sizes_at(levels.heights, h.high, h.uniform), f);
    } else {
        const Heights<T>& h = g.heights;
        d_s = products.sums(P::kSlopeS) * (mipmapped ? sizes_at(levels.widths, h.low, h.uniform) : F(levels.widths[0]));
        d_t = products.sums(P::kSlopeT) * (mipmapped ? sizes_at(levels.heights, h.low, h.uniform) : F(levels.heights[0]));
    }
    if (!cube) {
        const F rows[2] = {d_s, d_t};
        store_rows(rows, count, a.d_uv + 2 * first);
        return;
    }
    Vec3<F> d = zero_unless_finite(face_coordinate_adjoint(g.place.cube, d_s, d_t));
    if (mixed && q.uv_da) d = d + zero_unless_finite(face_derivatives_point_adjoint(g.place.cube, g.slopes.face, d_slopes));
    d = out_of_face(g.place.cube.face, d);
    const F rows[3] = {only(active, d.x), only(active, d.y), only(active, d.z)};
    store_rows(rows, count, a.d_uv + 3 * first);
}

template <class T, int kChannels>
void pixel_strip(const Task<T>& task, Arena& arena, int64_t image, int64_t strip) {
    using P = Products<T>;
    const BackwardArgs<T>& a = task.args;
    const Query<T>& q = task.q;
    const Levels<T>& levels = task.levels;
    const Layout& layout = task.layout;
    const int64_t channels = kChannels ? kChannels : q.channels, quads = kChannels ? 1 : levels.quads;
    const bool mixed = q.filter == kLinearMipmapLinear, mipmapped = q.filter >= kLinearMipmapNearest;
    const bool points = a.d_uv || a.d_uv_da || a.d_bias;
    const int64_t tex_image = q.tex_images == 1 ? 0 : image;
    const T* d_out_end = a.d_out + layout.images * layout.pixels * channels;
    const FirstChannels<T> own(channels - 4 * (quads - 1));
    PieceList<Record<T>>* lists = task.lists ? task.lists_of(image * task.strips + strip) : nullptr;
    View<T> views[kMostLevels];
    for (int k = 0; k < levels.count; k++) views[k] = view_of(levels.level[k], tex_image, channels, q.boundary == kCube);
    const int64_t row = strip * task.strip_rows, row_end = minimum(row + task.strip_rows, layout.rows);
    const int64_t begin = image * layout.pixels + row * layout.columns;
    Products<T> products;
    Ahead<T> ahead;
    ahead.run(
        BlockWalk(layout, row, row_end, 0, layout.columns),
        [&](auto& slot) {
            slot.first += image * layout.pixels;
            locate(q, levels, slot.first, slot.count, slot.group);
            if (points) fetch_group<T, kChannels>(views, slot.group, q.filter);
        },
        [&](const auto& slot) {
        const Group<T>& g = slot.group;
        const int64_t first = slot.first;
        const int count = slot.count;
        unsigned active = 0;
        for (int l = 0; l < count; l++) active |= (all_zero(a.d_out + (first + l) * channels, channels) ? 0u : 1u) << l;
        active &= g.place.valid;
        if (points && (active != 0xffff || quads > 1)) products.clear();
        for (unsigned left = active; left; left &= left - 1) {
            const int l = __builtin_ctz(left);
            const int low = mipmapped ? g.heights.low[l] : 0, high = mipmapped ? g.heights.high[l] : 0;
            const T f = mixed ? g.heights.f[l] : T(0);
            if (lists) {
                const uint32_t pixel = uint32_t(first + l - begin);
                note(task, lists, arena, low, g.cells, l, Record<T>{pixel, T(1) - f});
                if (f != 0) note(task, lists, arena, high, g.coarser, l, Record<T>{pixel, f});
            }
            if (!points) continue;
            const T* d_pixel = a.d_out + (first + l) * channels;
            for (int64_t c = 0; c < 4 * quads; c += 4) {
                const Quad<T> d = load_before(d_pixel + c, channels - c, d_out_end);
                const auto mine = [&](Quad<T> x) { return c == 4 * (quads - 1) ? own.of(x) : x; };
                const Cell<Quad<T>> t = cell_at(views[low], g.cells, l, channels, c);
                const Quad<T> s_slope = mine(d * bilinear_slope_s(t, Quad<T>(g.cells.b[l]))), t_slope = mine(d * bilinear_slope_t(t, Quad<T>(g.cells.a[l])));
                if (quads == 1) {
                    s_slope.store(products.values[P::kSlopeS] + 4 * l);
                    t_slope.store(products.values[P::kSlopeT] + 4 * l);
                } else {
                    products.add(P::kSlopeS, l, s_slope);
                    products.add(P::kSlopeT, l, t_slope);
                }
                if (f == 0) {
                    if (quads == 1 && mixed)
                        for (const int what : {P::kCoarserS, P::kCoarserT, P::kStep}) Quad<T>(T(0)).store(products.values[what] + 4 * l);
                    continue;
                }
                const Cell<Quad<T>> u = cell_at(views[high], g.coarser, l, channels, c);
                const Quad<T> ca(g.coarser.a[l]), cb(g.coarser.b[l]);
                const Quad<T> step = bilinear(u, ca, cb) - bilinear(t, Quad<T>(g.cells.a[l]), Quad<T>(g.cells.b[l]));
                if (quads == 1) {
                    mine(d * bilinear_slope_s(u, cb)).store(products.values[P::kCoarserS] + 4 * l);
                    mine(d * bilinear_slope_t(u, ca)).store(products.values[P::kCoarserT] + 4 * l);
                    mine(d * step).store(products.values[P::kStep] + 4 * l);
                } else {
                    products.add(P::kCoarserS, l, mine(d * bilinear_slope_s(u, cb)));
                    products.add(P::kCoarserT, l, mine(d * bilinear_slope_t(u, ca)));
                    products.add(P::kStep, l, mine(d * step));
                }
            }
        }
        if (points) store_point_gradients(task, g, products, active, first, count);
        });
}

// ---- second pass: bands of texels -----------------------------------------------------------------------------------------------

template <class T> RG_FN void add_texel(T* sums, int64_t texel, int64_t size, int64_t width, Quad<T> d) {
    if (uint64_t(texel) >= uint64_t(size)) return;  // another band's, or no texel at all
    T* to = sums + texel * width;
    (Quad<T>::load(to) + d).store(to);
}

// Hands the gradient of a cube corner's made-up texel to the three real ones.
template <class T> Cell<Quad<T>> share_corner(Cell<Quad<T>> d, const Cells<T>& cells, int l) {
    Quad<T>* const parts[4] = {&d.t00, &d.t10, &d.t01, &d.t11};
    for (int k = 0; k < 4; k++) {
        if (cells.texel[k][l] >= 0) continue;
        const Quad<T> share = average_of_three_adjoint(*parts[k]);
        for (Quad<T>* part : parts) *part += share;
    }
    return d;
}

// The gradient of one band of level k of one image; `coarser` is the finished gradient of level k + 1, to be handed down, or null.
template <class T, int kChannels> void sum_band(const Task<T>& task, int64_t image, int k, int64_t band, const T* coarser) {
    const BackwardArgs<T>& a = task.args;
    const Query<T>& q = task.q;
    const Level<T>& level = task.levels.level[k];
    const int64_t channels = kChannels ? kChannels : q.channels, quads = kChannels ? 1 : task.levels.quads;
    const int64_t first_row = band << task.bands.shift[k], end_row = minimum((band + 1) << task.bands.shift[k], level.rows);
    const int64_t first_texel = first_row * level.width, size = (end_row - first_row) * level.width;
    const bool nearest = q.filter == kNearest, cube = q.boundary == kCube;
    const T* d_out_end = a.d_out + task.layout.images * task.layout.pixels * channels;
    Block<T> block(size_t(size * quads * 4));
    T* sums = block.data();
    memset(static_cast<void*>(sums), 0, size_t(size * quads * 4) * sizeof(T));
    Cells<T> cells = {};  // nearest lookups fill in the first texel only
    for (int64_t s = 0; s < task.strips; s++) {
        const int64_t begin = image * task.layout.pixels + s * task.strip_rows * task.layout.columns;
        const PieceList<Record<T>>& list = task.lists_of(image * task.strips + s)[task.bands.first[k] + band];
        list.for_each_piece([&](const Record<T>* records, int32_t used) {
            for (int32_t r = 0; r < used; r += kLanes) {
                const int count = used - r < kLanes ? used - r : kLanes;
                const Record<T>* some = records + r;
                int64_t pixels[kLanes];
                for (int l = 0; l < kLanes; l++) pixels[l] = begin + some[l < count ? l : count - 1].pixel;
                locate_in_level(q, task.levels, k, pixels, cells);
                for (int l = 0; l < count; l++) {
                    const T* d_pixel = a.d_out + pixels[l] * channels;
                    const Quad<T> weight(some[l].weight);
                    const int64_t t00 = int64_t(cells.texel[0][l]) - first_texel, t10 = int64_t(cells.texel[1][l]) - first_texel;
                    const int64_t t01 = int64_t(cells.texel[2][l]) - first_texel, t11 = int64_t(cells.texel[3][l]) - first_texel;
                    for (int64_t c = 0; c < 4 * quads; c += 4) {
                        const Quad<T> d = weight * load_before(d_pixel + c, channels - c, d_out_end);
                        if (nearest) {
                            add_texel(sums + c, t00, size, 4 * quads, d);
                            continue;
                        }
                        Cell<Quad<T>> e = bilinear_adjoint(Quad<T>(cells.a[l]), Quad<T>(cells.b[l]), d);
                        if (__builtin_expect(cube && cells.highest[l] == kNoCell<T>, 0)) e = share_corner(e, cells, l);
                        add_texel(sums + c, t00, size, 4 * quads, e.t00);
                        add_texel(sums + c, t10, size, 4 * quads, e.t10);
                        add_texel(sums + c, t01, size, 4 * quads, e.t01);
                        add_texel(sums + c, t11, size, 4 * quads, e.t11);
                    }
                }
            }
        });
    }
    T* to = task.d_level[k] + (image * level.texels_per_image + first_texel) * channels;
    T* const to_end = to + size * channels;
    const bool halve_rows = level.height > 1, halve_columns = level.width > 1;
    for (int64_t row = first_row; row < end_row; row++) {
        const T* coarse_row = nullptr;
        if (coarser) {
            const Level<T>& next = task.levels.level[k + 1];
            coarse_row = coarser + (image * next.texels_per_image + (halve_rows ? row / 2 : row) * next.width) * channels;
        }
        for (int64_t i = 0; i < level.width; i++, to += channels)
            for (int64_t c = 0; c < 4 * quads; c += 4, sums += 4) {
                Quad<T> x = Quad<T>::load(sums);
                if (coarse_row) {
                    const Quad<T> up = Quad<T>::load(coarse_row + (halve_columns ? i / 2 : i) * channels + c);
                    x += halve_rows && halve_columns ? average_of_four_adjoint(up) : average_of_two_adjoint(up);
                }
                store_some(x, to + c, to + c + 4 <= to_end ? 4 : channels - c);
            }
    }
}

// Hands the gradient of level k + 1 down to level k, whose own is there already.
template <class T> void hand_down(const Task<T>& task, int k) {
    const Level<T>&level = task.levels.level[k], &next = task.levels.level[k + 1];
    const int64_t channels = task.q.channels;
    const bool halve_rows = level.height > 1, halve_columns = level.width > 1, both = halve_rows && halve_columns;
    const int64_t chunk = maximum(int64_t(1), int64_t(32768) / level.width);
    parallel_for(task.q.threads, task.q.tex_images * level.rows, chunk, [&](int, int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++) {
            T* to = task.d_level[k] + row * level.width * channels;
            const T* from = task.d_level[k + 1] + (halve_rows ? row / 2 : row) * next.width * channels;
            for (int64_t i = 0; i < level.width; i++, to += channels) {
                const T* up = from + (halve_columns ? i / 2 : i) * channels;
                for (int64_t c = 0; c < channels; c++) to[c] += both ? average_of_four_adjoint(up[c]) : average_of_two_adjoint(up[c]);
            }
        }
    });
}

template <class T> void sum_bands(const Task<T>& task, int64_t from, int64_t to, const T* coarser) {
    const int64_t per_image = to - from;
    parallel_for(task.q.threads, task.q.tex_images * per_image, 1, [&](int, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
            const int64_t image = i / per_image, number = from + i % per_image;
            int k = 0;
            while (number >= task.bands.first[k + 1]) k++;
            if (!task.d_level[k]) continue;
            const int64_t band = number - task.bands.first[k];
            if (task.q.channels == 3) sum_band<T, 3>(task, image, k, band, coarser);
            else if (task.q.channels == 4) sum_band<T, 4>(task, image, k, band, coarser);
            else sum_band<T, 0>(task, image, k, band, coarser);
        }
    });
}

template <class T> void pixels(const Task<T>& task, Arena* arenas) {
    parallel_for(task.q.threads, task.layout.images * task.strips, 1, [&](int worker, int64_t from, int64_t to) {
        for (int64_t s = from; s < to; s++) {
            const int64_t image = s / task.strips, strip = s % task.strips;
            if (task.q.channels == 3) pixel_strip<T, 3>(task, arenas[worker], image, strip);
            else if (task.q.channels == 4) pixel_strip<T, 4>(task, arenas[worker], image, strip);
            else pixel_strip<T, 0>(task, arenas[worker], image, strip);
        }
    });
}

// Arenas of all workers.
class Arenas {
  public:
    explicit Arenas(int64_t count) : first(new Arena[size_t(count > 0 ? count : 1)]) {}
    ~Arenas() { delete[] first; }
    Arenas(const Arenas&) = delete;
    Arenas& operator=(const Arenas&) = delete;
    Arena* const first;
};

}  // namespace

template <class T> int64_t backward(const BackwardArgs<T>& a) {
    const Query<T>& q = a.query;
    Task<T> task{a, q, levels_of(q), layout_of(q), {}, 0, 0, {}, nullptr};
    task.bands = bands_of(task.levels);
    const int64_t block = kBlockRows * task.layout.columns, blocks = (task.layout.rows + kBlockRows - 1) / kBlockRows;
    const int64_t blocks_per_strip = maximum((kStrip + block - 1) / block, (blocks + kMostStrips - 1) / kMostStrips);
    task.strip_rows = kBlockRows * maximum(blocks_per_strip, int64_t(1));
    task.strips = (task.layout.rows + task.strip_rows - 1) / task.strip_rows;
    const int count = task.levels.count;
    const bool handed_down = q.stack && a.d_tex && count > 1;
    bool wanted = a.d_tex != nullptr;
    task.d_level[0] = a.d_tex;
    int64_t stack_size = 0;
    for (int k = 1; k < count; k++) {
        stack_size += q.tex_images * task.levels.level[k].texels_per_image * q.channels;
        task.d_level[k] = q.mips && a.d_mips ? reinterpret_cast<T*>(a.d_mips[k - 1]) : nullptr;
        wanted |= task.d_level[k] != nullptr;
    }
    Arenas arenas(q.threads);
    if (!wanted) {
        pixels(task, arenas.first);
        return 0;
    }
    Block<T> stack(handed_down ? size_t(stack_size + kPadding) : 0);
    if (handed_down) {
        T* next = stack.data();
        for (int k = 1; k < count; k++) {
            task.d_level[k] = next;
            next += q.tex_images * task.levels.level[k].texels_per_image * q.channels;
        }
        for (int64_t i = 0; i < kPadding; i++) next[i] = 0;
    }
    const size_t list_count = size_t(task.layout.images * task.strips * task.bands.total(count));
    Block<PieceList<Record<T>>> lists(list_count);
    if (list_count) memset(static_cast<void*>(lists.data()), 0, list_count * sizeof(PieceList<Record<T>>));
    task.lists = lists.data();
    pixels(task, arenas.first);
    if (!handed_down) {
        sum_bands<T>(task, 0, task.bands.total(count), nullptr);
        return 0;
    }
    sum_bands<T>(task, task.bands.first[1], task.bands.total(count), nullptr);
    for (int k = count - 2; k >= 1; k--) hand_down(task, k);
    sum_bands<T>(task, 0, task.bands.first[1], task.d_level[1]);
    return 0;
}
template int64_t backward<float>(const BackwardArgs<float>&);
template int64_t backward<double>(const BackwardArgs<double>&);

RG_END
