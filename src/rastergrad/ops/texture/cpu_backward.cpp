// SPDX-License-Identifier: MIT
// Gradients: a first pass over pixels for those of coordinates and levels, which also sums those of texels in squares (cpu_windows.h); a
// second one over bands of texels, which puts the squares together and adds what fitted none (cpu_bands.h).
#include "cpu_bands.h"
#include "cpu_points.h"
#include "cpu_windows.h"
#include "threads.h"

RG_BEGIN
namespace {

constexpr int64_t kStripColumns = 512;  // at least, unless an image is narrower or there would be too many lists
constexpr int64_t kMostStrips = 512;    // per image
constexpr int64_t kStreamPixels = int64_t(1) << 18;  // gradients of more pixels do not stay in the caches

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

// Upstream gradient times differences of texels, four channels of four pixels at a time: pixels k, 4 + k, 8 + k and 12 + k, so that the
// sums over channels come out in order.
template <class T> struct Products {
    Lanes<T> top[4], bottom[4], side[4], coarser_top[4], coarser_bottom[4], coarser_side[4], step[4];
    RG_FN void clear() {
        for (Lanes<T>* row : {top, bottom, side, coarser_top, coarser_bottom, coarser_side, step})
            for (int k = 0; k < 4; k++) row[k] = Lanes<T>(T(0));
    }
    RG_FN PointSums<T> sums(bool mixed, const Group<T>& g) const {
        using F = Lanes<T>;
        const F a = F::load(g.cells.a), b = F::load(g.cells.b);
        const Rises<F> r = {sums_of_channels(top), sums_of_channels(bottom), sums_of_channels(side)};
        PointSums<T> sums = {slope_s(r, b), slope_t(r, a), F(T(0)), F(T(0)), F(T(0))};
        if (!mixed) return sums;
        const F ca = F::load(g.coarser.a), cb = F::load(g.coarser.b);
        const Rises<F> c = {sums_of_channels(coarser_top), sums_of_channels(coarser_bottom), sums_of_channels(coarser_side)};
        sums.coarser_s = slope_s(c, cb);
        sums.coarser_t = slope_t(c, ca);
        sums.step = level_step(sums_of_channels(step), rise(r, a, b), rise(c, ca, cb));
        return sums;
    }
};

template <class T> struct Pixels {
    const View<T>* views;
    const T *d_out, *d_out_end;
    int64_t channels;
    bool mipmapped, mixed;
};
template <class F> RG_FN Rises<F> operator+(Rises<F> x, Rises<F> y) { return {x.top + y.top, x.bottom + y.bottom, x.side + y.side}; }
template <int k, int kChannels, class T>
RG_FN Cell<Lanes<T>> four_own_cells(const Pixels<T>& p, const int32_t* level, const Cells<T>& cells, const CellRows<T>& rows, int64_t channels, int64_t c) {
    if constexpr (kNeighbours<kChannels>) return neighbour_cells<kChannels>(rows, k, 4);
    const Cell<Lanes<T>> x = four_cells(p.views, level, cells, k, 4, channels, c);
    const int64_t left = channels - c;
    if (left >= 4) return x;
    return {first_channels(x.t00, left), first_channels(x.t10, left), first_channels(x.t01, left), first_channels(x.t11, left)};
}
template <int k, int kChannels, class T> RG_FN void four_products(const Pixels<T>& p, const Slot<T>& slot, int64_t first, Products<T>& products) {
    using F = Lanes<T>;
    const Group<T>& g = slot.group;
    const int64_t channels = kChannels ? kChannels : p.channels;
    Rises<F> fine_sums = {F(T(0)), F(T(0)), F(T(0))}, coarse_sums = fine_sums;
    F step(T(0));
    for (int64_t c = 0; c < channels; c += 4) {
        const T* d_pixel = p.d_out + (first + k) * channels + c;
        const int64_t left = channels - c, apart = 4 * channels;
        F d = join_quads(Quad<T>::load(d_pixel), Quad<T>::load(d_pixel + apart), Quad<T>::load(d_pixel + 2 * apart), Quad<T>::load(d_pixel + 3 * apart));
        // What lies behind a pixel's or texel's channels is its neighbour's, and must not get into the sums even as zero times infinity.
        if (left < 4) d = first_channels(d, left);
        const Cell<F> fine = four_own_cells<k, kChannels>(p, p.mipmapped ? g.heights.low : nullptr, g.cells, slot.rows, channels, c);
        fine_sums = fine_sums + rises(fine, d);
        if (!p.mixed) continue;
        const Cell<F> coarse = four_own_cells<k, kChannels>(p, g.heights.high, g.coarser, slot.coarser_rows, channels, c);
        coarse_sums = coarse_sums + rises(coarse, d);
        step += first_step(fine, coarse, d);
    }
    products.top[k] = fine_sums.top;
    products.bottom[k] = fine_sums.bottom;
    products.side[k] = fine_sums.side;
    products.coarser_top[k] = coarse_sums.top;
    products.coarser_bottom[k] = coarse_sums.bottom;
    products.coarser_side[k] = coarse_sums.side;
    products.step[k] = step;
}
template <class T> RG_FN Rises<Quad<T>> only_own(const FirstChannels<T>& own, Rises<Quad<T>> r) { return {own.of(r.top), own.of(r.bottom), own.of(r.side)}; }
// One pixel, whatever its texels are.
template <class T> RG_FN void one_product(const Pixels<T>& p, const Group<T>& g, int64_t first, int l, Products<T>& products) {
    using Q = Quad<T>;
    const int low = p.mipmapped ? g.heights.low[l] : 0, high = p.mipmapped ? g.heights.high[l] : 0, k = l % 4, r = l / 4;
    Rises<Q> fine_sums = {Q(T(0)), Q(T(0)), Q(T(0))}, coarse_sums = fine_sums;
    Q step(T(0));
    for (int64_t c = 0; c < p.channels; c += 4) {
        const int64_t left = p.channels - c;
        const FirstChannels<T> own(left);
        const Q d = load_before(p.d_out + (first + l) * p.channels + c, left, p.d_out_end);
        const Cell<Q> fine = cell_at(p.views[low], g.cells, l, p.channels, c);
        fine_sums = fine_sums + only_own(own, rises(fine, d));
        if (!p.mixed || g.heights.f[l] == 0) continue;
        const Cell<Q> coarse = cell_at(p.views[high], g.coarser, l, p.channels, c);
        coarse_sums = coarse_sums + only_own(own, rises(coarse, d));
        step += own.of(first_step(fine, coarse, d));
    }
    const auto put = [&](Lanes<T>& to, Q x) {
        for (int c = 0; c < 4; c++) to.set(4 * r + c, x[c]);
    };
    put(products.top[k], fine_sums.top);
    put(products.bottom[k], fine_sums.bottom);
    put(products.side[k], fine_sums.side);
    put(products.coarser_top[k], coarse_sums.top);
    put(products.coarser_bottom[k], coarse_sums.bottom);
    put(products.coarser_side[k], coarse_sums.side);
    put(products.step[k], step);
}

// kChannels is the number of channels, or 0: any.
template <class T, int kChannels> void pixel_strip(const Task<T>& task, Arena& arena, Windows<T>& windows, int64_t image, int64_t strip) {
    const BackwardArgs<T>& a = task.args;
    const Query<T>& q = task.q;
    const Levels<T>& levels = task.levels;
    const Layout& layout = task.layout;
    const int64_t channels = kChannels ? kChannels : q.channels;
    const bool mixed = q.filter == kLinearMipmapLinear, mipmapped = q.filter >= kLinearMipmapNearest, nearest = q.filter == kNearest;
    const bool points = a.d_uv || a.d_uv_da || a.d_bias;
    const int64_t base = image * layout.pixels;
    TexelGradients<T, kChannels> texels(task, arena, windows, image, strip);
    View<T> views[kMostLevels];
    for (int k = 0; k < levels.count; k++) views[k] = view_of(levels.level[k], q.tex_images == 1 ? 0 : image, channels, q.boundary == kCube);
    const Pixels<T> pixels{views, a.d_out, a.d_out + layout.images * layout.pixels * channels, channels, mipmapped, mixed};
    const int64_t row = strip / task.strips_across * task.strip_rows, row_end = minimum(row + task.strip_rows, layout.rows);
    const int64_t column = strip % task.strips_across * task.strip_columns, column_end = minimum(column + task.strip_columns, layout.columns);
    Products<T> products;
    Ahead<T> ahead;
    const int64_t groups = layout.rows * layout.groups;
    const uint16_t* const shown = q.shown ? q.shown + image * groups : nullptr;
    const auto begin_group = [&](auto& slot) {
        const int64_t first = base + slot.first;
        const unsigned matter = shown ? shown[slot.number] : kAllLanes;
        slot.active = matter ? active_lanes<T, kChannels>(a.d_out + first * channels, slot.count, channels) & matter : 0;
        if (shown && slot.number + 1 < groups && !shown[slot.number + 1]) return;
        fetch_places(q, first);
        fetch_rows(a.d_out, channels, first);
    };
    const auto prepare = [&](auto& slot) {
        slot.active &= slot.group.place.valid;
        // Four channels at a time reach beyond a pixel's last one, which must still be the tensor's.
        const int64_t behind = (layout.images * layout.pixels - (base + slot.first + kLanes)) * channels;
        slot.roomy = behind >= 4 * levels.quads - channels;
        if (points) prepare_texels<T, kChannels>(views, q.filter, slot);
    };
    const BlockWalk walk(layout, kBackwardRows, row, row_end, column, column_end);
    ahead.run(q, levels, base, walk, begin_group, prepare, [&](const auto& slot) {
        const Group<T>& g = slot.group;
        const int64_t first = base + slot.first;
        const unsigned active = slot.active;
        if (!active) {
            if (points) clear_point_gradients(a, first, slot.count, task.stream);
            return;
        }
        unsigned between = 0;
        if (mixed) between = mask_bits(Lanes<T>::load(g.heights.f) != Lanes<T>(T(0))) & active;
        if (task.lists) texels.add(slot, first, active, between);
        if (!points) return;
        if (slot.quick && slot.roomy) {
            four_products<0, kChannels>(pixels, slot, first, products);
            four_products<1, kChannels>(pixels, slot, first, products);
            four_products<2, kChannels>(pixels, slot, first, products);
            four_products<3, kChannels>(pixels, slot, first, products);
        } else {
            products.clear();
            if (!nearest)
                for (unsigned left = active; left; left &= left - 1) one_product(pixels, g, first, __builtin_ctz(left), products);
        }
        PointSums<T> sums = products.sums(mixed, g);
        sums.slope_s = only(active, sums.slope_s);
        sums.slope_t = only(active, sums.slope_t);
        sums.coarser_s = only(between, sums.coarser_s);
        sums.coarser_t = only(between, sums.coarser_t);
        sums.step = only(between, sums.step);
        store_point_gradients(a, levels, g, sums, active, first, slot.count, task.stream);
    });
    if (task.lists) texels.finish();
    stream_fence();
}

// ---- second pass: bands of texels -----------------------------------------------------------------------------------------------

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

// What a worker keeps from strip to strip.
template <class T> struct Worker {
    Arena arena;
    Windows<T> windows;
    explicit Worker(const Task<T>& task) : windows(task, arena) {}
};
// Of those that have something to do.
template <class T> class Workers {
  public:
    explicit Workers(int64_t count) : count_(count), workers_(new Worker<T>*[size_t(count)]()) {}
    ~Workers() {
        for (int64_t i = 0; i < count_; i++) delete workers_[i];
        delete[] workers_;
    }
    Workers(const Workers&) = delete;
    Workers& operator=(const Workers&) = delete;
    Worker<T>& of(int number, const Task<T>& task) {
        if (!workers_[number]) workers_[number] = new Worker<T>(task);
        return *workers_[number];
    }

  private:
    const int64_t count_;
    Worker<T>** const workers_;
};

template <class T> void pixels(const Task<T>& task, Workers<T>& workers) {
    parallel_for(task.q.threads, task.layout.images * task.strips, 1, [&](int number, int64_t from, int64_t to) {
        Worker<T>& worker = workers.of(number, task);
        for (int64_t s = from; s < to; s++) {
            const int64_t image = s / task.strips, strip = s % task.strips;
            with_channels<T>(task.q.channels, [&](auto c) { pixel_strip<T, c.value>(task, worker.arena, worker.windows, image, strip); });
        }
    });
}

// Cuts images into strips of whole blocks.
template <class T> void lay_out_strips(Task<T>& task) {
    const int64_t columns = (task.layout.columns + kLanes - 1) / kLanes * kLanes, rows = (task.layout.rows + kBackwardRows - 1) / kBackwardRows;
    task.strip_columns = minimum(columns, kStripColumns);
    task.strip_rows = kBackwardRows;
    const auto across = [&] { return (columns + task.strip_columns - 1) / task.strip_columns; };
    const auto down = [&] { return (rows * kBackwardRows + task.strip_rows - 1) / task.strip_rows; };
    while (across() * down() > kMostStrips && (task.strip_columns < columns || task.strip_rows < rows * kBackwardRows)) {
        if (task.strip_columns < columns) task.strip_columns = minimum(2 * task.strip_columns, columns);
        else task.strip_rows *= 2;
    }
    task.strips_across = across();
    task.strips = across() * down();
}

}  // namespace

template <class T> int64_t backward(const BackwardArgs<T>& a) {
    const Query<T>& q = a.query;
    Task<T> task{a, q, levels_of(q), layout_of(q), {}, 0, 0, 0, 0, {}, nullptr, nullptr, nullptr, false};
    task.stream = task.layout.images * task.layout.pixels >= kStreamPixels;
    task.bands = bands_of(task.levels);
    lay_out_strips(task);
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
    Workers<T> workers(maximum(q.threads, int64_t(1)));
    if (!wanted) {
        pixels(task, workers);
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
    Block<PieceList<Run<T>>> runs(list_count);
    if (list_count) memset(static_cast<void*>(runs.data()), 0, list_count * sizeof(PieceList<Run<T>>));
    task.runs = runs.data();
    Block<T> fractions(q.filter == kLinearMipmapLinear ? size_t(task.layout.images * task.layout.pixels + kLanes) : 0);
    task.fractions = fractions.data();
    pixels(task, workers);
    if (!handed_down) sum_bands<T>(task, 0, task.bands.total(count), nullptr);
    else for (int k = count - 1; k >= 0; k--) sum_bands<T>(task, task.bands.first[k], task.bands.first[k + 1], k + 1 < count ? task.d_level[k + 1] : nullptr);
    return 0;
}
template int64_t backward<float>(const BackwardArgs<float>&);
RG_FLOAT64(template int64_t backward<double>(const BackwardArgs<double>&);)

RG_END
