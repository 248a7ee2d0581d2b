// SPDX-License-Identifier: MIT
// Gradients: a first pass over pixels for those of coordinates and levels, which also notes who looks at which texels; a second one over
// bands of texels (cpu_bands.h).
#include "cpu_bands.h"
#include "cpu_points.h"
#include "threads.h"

RG_BEGIN
namespace {

constexpr int64_t kStrip = 16384;     // pixels per list at least, in whole rows of blocks, unless there would be too many lists
constexpr int64_t kMostStrips = 512;  // per image

// ---- first pass: pixels ---------------------------------------------------------------------------------------------------------

// Which of 16 pixels have an upstream gradient other than zero.
template <class T, int kChannels> RG_FN unsigned active_lanes(const T* d_out, int count, int64_t channels) {
    if constexpr (kChannels == 3 || kChannels == 4) {
        if (count == kLanes) {
            uint64_t nonzero = 0;
            for (int c = 0; c < kChannels; c++) nonzero |= uint64_t(mask_bits(Lanes<T>::load(d_out + c * kLanes) != Lanes<T>(T(0)))) << (c * kLanes);
            constexpr uint64_t kAll = kChannels == 4 ? ~uint64_t(0) : (uint64_t(1) << (3 * kLanes)) - 1, kPixel = (1 << kChannels) - 1;
            if (nonzero == 0 || nonzero == kAll) return nonzero ? 0xffff : 0;
            unsigned active = 0;
            for (int l = 0; l < kLanes; l++) active |= (nonzero >> (l * kChannels) & kPixel ? 1u : 0u) << l;
            return active;
        }
    }
    unsigned active = 0;
    for (int l = 0; l < count; l++)
        for (int64_t c = 0; c < channels; c++)
            if (d_out[l * channels + c] != 0) active |= 1u << l;
    return active;
}

// Upstream gradient times slopes, four channels of four pixels at a time: pixels k, 4 + k, 8 + k and 12 + k, so that the sums over
// channels come out in order.
template <class T> struct Products {
    Lanes<T> slope_s[4], slope_t[4], coarser_s[4], coarser_t[4], step[4];
    RG_FN void clear() {
        for (Lanes<T>* row : {slope_s, slope_t, coarser_s, coarser_t, step})
            for (int k = 0; k < 4; k++) row[k] = Lanes<T>(T(0));
    }
    RG_FN PointSums<T> sums() const {
        return {sums_of_channels(slope_s), sums_of_channels(slope_t), sums_of_channels(coarser_s), sums_of_channels(coarser_t), sums_of_channels(step)};
    }
};

template <class T> struct Pixels {
    const View<T>* views;
    const T *d_out, *d_out_end;
    int64_t channels;
    Lanes<Index<T>> last;  // mask of the channels that exist among the last four
    bool mipmapped, mixed;
};
template <int k, class T> RG_FN Cell<Lanes<T>> four_cells(const T* const (&from)[4], const Cells<T>& cells, int64_t channels) {
    const auto corner = [&](int which) {
        const Index<T>* texel = cells.texel[which];
        return join_quads(Quad<T>::load(from[0] + int64_t(texel[k]) * channels), Quad<T>::load(from[1] + int64_t(texel[4 + k]) * channels),
                          Quad<T>::load(from[2] + int64_t(texel[8 + k]) * channels), Quad<T>::load(from[3] + int64_t(texel[12 + k]) * channels));
    };
    return {corner(0), corner(1), corner(2), corner(3)};
}
template <int k, class T> RG_FN void four_products(const Pixels<T>& p, const Group<T>& g, int64_t first, Products<T>& products) {
    using F = Lanes<T>;
    const F a = spread_each<k>(F::load(g.cells.a)), b = spread_each<k>(F::load(g.cells.b));
    F s(T(0)), t(T(0)), cs(T(0)), ct(T(0)), step(T(0));
    for (int64_t c = 0; c < p.channels; c += 4) {
        const T* d_pixel = p.d_out + (first + k) * p.channels + c;
        const int64_t left = p.channels - c, apart = 4 * p.channels;
        const F d = join_quads(load_before(d_pixel, left, p.d_out_end), load_before(d_pixel + apart, left, p.d_out_end),
                               load_before(d_pixel + 2 * apart, left, p.d_out_end), load_before(d_pixel + 3 * apart, left, p.d_out_end));
        // What lies behind a pixel's channels is its neighbour's, and must not get into the sums even as zero times infinity.
        const auto mine = [&](F x) { return left >= 4 ? x : bits_as<T>(bits_as<Index<T>>(x) & p.last); };
        const T* from[4];
        for (int r = 0; r < 4; r++) from[r] = p.views[p.mipmapped ? g.heights.low[4 * r + k] : 0].texels + c;
        const Cell<F> fine = four_cells<k>(from, g.cells, p.channels);
        s += mine(d * bilinear_slope_s(fine, b));
        t += mine(d * bilinear_slope_t(fine, a));
        if (!p.mixed) continue;
        for (int r = 0; r < 4; r++) from[r] = p.views[g.heights.high[4 * r + k]].texels + c;
        const Cell<F> coarse = four_cells<k>(from, g.coarser, p.channels);
        const F ca = spread_each<k>(F::load(g.coarser.a)), cb = spread_each<k>(F::load(g.coarser.b));
        cs += mine(d * bilinear_slope_s(coarse, cb));
        ct += mine(d * bilinear_slope_t(coarse, ca));
        step += mine(d * (bilinear(coarse, ca, cb) - bilinear(fine, a, b)));
    }
    products.slope_s[k] = s;
    products.slope_t[k] = t;
    products.coarser_s[k] = cs;
    products.coarser_t[k] = ct;
    products.step[k] = step;
}
// One pixel, whatever its texels are.
template <class T> RG_FN void one_product(const Pixels<T>& p, const Group<T>& g, int64_t first, int l, Products<T>& products) {
    const int low = p.mipmapped ? g.heights.low[l] : 0, high = p.mipmapped ? g.heights.high[l] : 0, k = l % 4, r = l / 4;
    Quad<T> s(T(0)), t(T(0)), cs(T(0)), ct(T(0)), step(T(0));
    const Quad<T> a(g.cells.a[l]), b(g.cells.b[l]);
    for (int64_t c = 0; c < p.channels; c += 4) {
        const int64_t left = p.channels - c;
        const FirstChannels<T> own(left);
        const Quad<T> d = load_before(p.d_out + (first + l) * p.channels + c, left, p.d_out_end);
        const Cell<Quad<T>> fine = cell_at(p.views[low], g.cells, l, p.channels, c);
        s += own.of(d * bilinear_slope_s(fine, b));
        t += own.of(d * bilinear_slope_t(fine, a));
        if (!p.mixed || g.heights.f[l] == 0) continue;
        const Cell<Quad<T>> coarse = cell_at(p.views[high], g.coarser, l, p.channels, c);
        const Quad<T> ca(g.coarser.a[l]), cb(g.coarser.b[l]);
        cs += own.of(d * bilinear_slope_s(coarse, cb));
        ct += own.of(d * bilinear_slope_t(coarse, ca));
        step += own.of(d * (bilinear(coarse, ca, cb) - bilinear(fine, a, b)));
    }
    const auto put = [&](Lanes<T>& to, Quad<T> x) {
        for (int c = 0; c < 4; c++) to.set(4 * r + c, x[c]);
    };
    put(products.slope_s[k], s);
    put(products.slope_t[k], t);
    put(products.coarser_s[k], cs);
    put(products.coarser_t[k], ct);
    put(products.step[k], step);
}

// kChannels is the number of channels, or 0: any.
template <class T, int kChannels> void pixel_strip(const Task<T>& task, Arena& arena, int64_t image, int64_t strip) {
    const BackwardArgs<T>& a = task.args;
    const Query<T>& q = task.q;
    const Levels<T>& levels = task.levels;
    const Layout& layout = task.layout;
    const int64_t channels = kChannels ? kChannels : q.channels;
    const bool mixed = q.filter == kLinearMipmapLinear, mipmapped = q.filter >= kLinearMipmapNearest, nearest = q.filter == kNearest;
    const bool points = a.d_uv || a.d_uv_da || a.d_bias;
    const int64_t base = image * layout.pixels, begin = task.strip_begin(image, strip);
    PieceList<Record>* lists = task.lists ? task.lists_of(image * task.strips + strip) : nullptr;
    View<T> views[kMostLevels];
    for (int k = 0; k < levels.count; k++) views[k] = view_of(levels.level[k], q.tex_images == 1 ? 0 : image, channels, q.boundary == kCube);
    Lanes<Index<T>> last;
    for (int l = 0; l < kLanes; l++) last.set(l, l % 4 < (channels - 1) % 4 + 1 ? -1 : 0);
    const Pixels<T> pixels{views, a.d_out, a.d_out + layout.images * layout.pixels * channels, channels, last, mipmapped, mixed};
    const int64_t row = strip * task.strip_rows, row_end = minimum(row + task.strip_rows, layout.rows);
    Products<T> products;
    Ahead<T> ahead;
    const auto locate_group = [&](auto& slot) {
        const int64_t first = base + slot.first;
        slot.active = active_lanes<T, kChannels>(a.d_out + first * channels, slot.count, channels);
        fetch_places(q, first);
        if (!slot.active) return;
        locate(q, levels, first, slot.count, slot.group);
        slot.active &= slot.group.place.valid;
        if (points) fetch_group<T, kChannels>(views, slot.group, q.filter);
    };
    ahead.run(BlockWalk(layout, row, row_end, 0, layout.columns), locate_group, [&](const auto& slot) {
        const Group<T>& g = slot.group;
        const int64_t first = base + slot.first;
        const unsigned active = slot.active;
        if (!active) {
            if (points) clear_point_gradients(a, first, slot.count);
            return;
        }
        unsigned between = 0;
        if (mixed) between = mask_bits(Lanes<T>::load(g.heights.f) != Lanes<T>(T(0))) & active;
        if (lists) {
            const uint32_t at = uint32_t(first - begin);
            if (!mipmapped) {
                note(task, lists, arena, 0, g.cells, Record{at, uint16_t(active), kWhole});
            } else {
                if (mixed) store_first(Lanes<T>::load(g.heights.f), slot.count, task.fractions + first);
                note_levels(task, lists, arena, g.heights.low, g.heights.uniform, g.cells, Record{at, uint16_t(active), mixed ? kFiner : kWhole});
                if (between) note_levels(task, lists, arena, g.heights.high, g.heights.uniform, g.coarser, Record{at, uint16_t(between), kCoarser});
            }
        }
        if (!points) return;
        if (!nearest && slot.count == kLanes && all_readable(views, mipmapped ? g.heights.low : nullptr, !mipmapped || g.heights.uniform, g.cells) &&
            (!mixed || all_readable(views, g.heights.high, g.heights.uniform, g.coarser))) {
            Pixels<T> known = pixels;
            if (kChannels) known.channels = kChannels;
            four_products<0>(known, g, first, products);
            four_products<1>(known, g, first, products);
            four_products<2>(known, g, first, products);
            four_products<3>(known, g, first, products);
        } else {
            products.clear();
            if (!nearest)
                for (unsigned left = active; left; left &= left - 1) one_product(pixels, g, first, __builtin_ctz(left), products);
        }
        PointSums<T> sums = products.sums();
        sums.slope_s = only(active, sums.slope_s);
        sums.slope_t = only(active, sums.slope_t);
        sums.coarser_s = only(between, sums.coarser_s);
        sums.coarser_t = only(between, sums.coarser_t);
        sums.step = only(between, sums.step);
        store_point_gradients(a, levels, g, sums, active, first, slot.count);
    });
}

// ---- second pass: bands of texels -----------------------------------------------------------------------------------------------

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
            with_channels<T>(task.q.channels, [&](auto c) { sum_band<T, c.value>(task, image, k, band, coarser); });
        }
    });
}

template <class T> void pixels(const Task<T>& task, Arena* arenas) {
    parallel_for(task.q.threads, task.layout.images * task.strips, 1, [&](int worker, int64_t from, int64_t to) {
        for (int64_t s = from; s < to; s++) {
            const int64_t image = s / task.strips, strip = s % task.strips;
            with_channels<T>(task.q.channels, [&](auto c) { pixel_strip<T, c.value>(task, arenas[worker], image, strip); });
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
    Task<T> task{a, q, levels_of(q), layout_of(q), {}, 0, 0, {}, nullptr, nullptr};
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
    Block<PieceList<Record>> lists(list_count);
    if (list_count) memset(static_cast<void*>(lists.data()), 0, list_count * sizeof(PieceList<Record>));
    task.lists = lists.data();
    Block<T> fractions(q.filter == kLinearMipmapLinear ? size_t(task.layout.images * task.layout.pixels + kLanes) : 0);
    task.fractions = fractions.data();
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
