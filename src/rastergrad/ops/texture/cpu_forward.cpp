// SPDX-License-Identifier: MIT
// Looking up: coordinates of 16 pixels at once, then four channels of four pixels at a time.
#include "cpu_walk.h"
#include "stream.h"
#include "threads.h"

RG_BEGIN
namespace {

constexpr int64_t kPixels = 8192;  // per chunk

// Colours of 16 pixels on their way to memory, past the caches when the output is larger than these. A whole quad may be written over
// the start of the next pixel of the group, which is written afterwards; up to four channels are collected first, so that no quad
// needs a look at where the group ends.
template <class T, int kChannels> class Colours {
  public:
    explicit Colours(int64_t channels) : channels_(kChannels ? kChannels : channels), staged_(channels_ <= 4) {}
    RG_FN T* begin(T* out) { return staged_ ? rows_ : out; }
    RG_FN void put(Quad<T> x, T* to, int64_t count, const T* group_end) {
        if (staged_ || to + 4 <= group_end) x.store(to);
        else store_some(x, to, count);
    }
    RG_FN void finish(T* out, int count, bool stream) {
        if (!staged_) return;
        const size_t bytes = size_t(count * channels_) * sizeof(T);
        if (stream) stream_bytes(reinterpret_cast<char*>(out), reinterpret_cast<const char*>(rows_), bytes);
        else if (kChannels && count == kLanes) memcpy(out, rows_, sizeof(T) * kLanes * kChannels);
        else memcpy(out, rows_, bytes);
    }

  private:
    const int64_t channels_;
    const bool staged_;
    alignas(64) T rows_[kLanes * 5];
};

// Four pixels in one level, from lane 4k on. kChannels as in prepare_texels.
template <int k, int kChannels, class T>
RG_FN Lanes<T> four_blends(const View<T>* views, const int32_t* level, const Cells<T>& cells, const CellRows<T>& rows, int64_t channels, int64_t c) {
    const Lanes<T> a = spread<k>(Lanes<T>::load(cells.a)), b = spread<k>(Lanes<T>::load(cells.b));
    if constexpr (kNeighbours<kChannels>) return bilinear(neighbour_cells<kChannels>(rows, 4 * k, 1), a, b);
    return bilinear(four_cells(views, level, cells, 4 * k, 1, channels, c), a, b);
}
template <int k, int kChannels, class T> RG_FN Lanes<T> four_colours(const View<T>* views, const Slot<T>& slot, bool mipmapped, bool mixed, int64_t channels, int64_t c) {
    const Group<T>& g = slot.group;
    const Lanes<T> x = four_blends<k, kChannels>(views, mipmapped ? g.heights.low : nullptr, g.cells, slot.rows, channels, c);
    if (!mixed) return x;
    const Lanes<T> f = spread<k>(Lanes<T>::load(g.heights.f));
    return select(f == Lanes<T>(T(0)), x, between_levels(x, four_blends<k, kChannels>(views, g.heights.high, g.coarser, slot.coarser_rows, channels, c), f));
}
// Out of line, as it concerns the edges of surfaces only.
template <class T> __attribute__((noinline)) void clear_pixels(unsigned lanes, int64_t channels, T* to) {
    for (; lanes; lanes &= lanes - 1)
        for (int64_t c = 0; c < channels; c++) to[__builtin_ctz(lanes) * channels + c] = T(0);
}

// One lane, whatever it is; `shown` are those that look at something.
template <class T> RG_FN Quad<T> colour(const Query<T>& q, const View<T>* views, const Group<T>& g, unsigned shown, int l, int64_t channels, int64_t c) {
    if (!(shown >> l & 1)) return Quad<T>(T(0));
    if (q.filter == kNearest) return texel_at(views[0], g.cells, l, channels, c);
    const bool mipmapped = q.filter >= kLinearMipmapNearest;
    const Quad<T> x = bilinear(cell_at(views[mipmapped ? g.heights.low[l] : 0], g.cells, l, channels, c), Quad<T>(g.cells.a[l]), Quad<T>(g.cells.b[l]));
    if (!mipmapped || g.heights.f[l] == 0) return x;
    const Quad<T> y = bilinear(cell_at(views[g.heights.high[l]], g.coarser, l, channels, c), Quad<T>(g.coarser.a[l]), Quad<T>(g.coarser.b[l]));
    return between_levels(x, y, Quad<T>(g.heights.f[l]));
}

// Whether all lanes look at the same place, as background does: its coordinates are zero, and their texels the last and the first of the
// texture, which makes them a matter of the careful way.
template <class T> RG_FN bool all_same(const Group<T>& g, bool mipmapped) {
    using F = Lanes<T>;
    if (mipmapped && !(g.heights.uniform && all(F::load(g.heights.f) == F(g.heights.f[0])))) return false;
    return all((g.place.s == F(g.place.s[0])) & (g.place.t == F(g.place.t[0])));
}

// kChannels is the number of channels, or 0: any.
template <class T, int kChannels>
void forward_part(const Query<T>& q, const Levels<T>& levels, const Layout& layout, T* out, bool stream, int64_t image, const BlockWalk& walk) {
    const int64_t channels = kChannels ? kChannels : q.channels, quads = kChannels ? 1 : levels.quads;
    const bool mipmapped = q.filter >= kLinearMipmapNearest, mixed = q.filter == kLinearMipmapLinear;
    const int64_t tex_image = q.tex_images == 1 ? 0 : image, base = image * layout.pixels;
    View<T> views[kMostLevels];
    for (int k = 0; k < levels.count; k++) views[k] = view_of(levels.level[k], tex_image, channels, q.boundary == kCube);
    Colours<T, kChannels> colours(channels);
    Ahead<T> ahead;
    uint16_t* const kept = q.shown ? q.shown + image * layout.rows * layout.groups : nullptr;
    const auto begin = [&](auto& slot) {
        slot.active = q.rast ? covered_lanes(q.rast, base + slot.first, slot.count) : kAllLanes;
        if (q.rast) fetch_rows(q.rast, 4, base + slot.first);
        fetch_places(q, base + slot.first);
    };
    const auto prepare = [&](auto& slot) { prepare_texels<T, kChannels>(views, q.filter, slot); };
    ahead.run(q, levels, base, walk, begin, prepare, [&](const auto& slot) {
        const Group<T>& g = slot.group;
        T* const pixels = out + (base + slot.first) * channels;
        if (kept) kept[slot.number] = uint16_t(slot.active);
        if (!slot.active) {
            const size_t bytes = size_t(slot.count * channels) * sizeof(T);
            if (stream) stream_zeros(reinterpret_cast<char*>(pixels), bytes);
            else memset(pixels, 0, bytes);
            return;
        }
        const unsigned shown = slot.active & g.place.valid;
        const T* const out_end = pixels + slot.count * channels;
        T* const to = colours.begin(pixels);
        if (!slot.quick || g.place.valid != kAllLanes) {
            if (q.boundary != kCube && shown == kAllLanes && all_same(g, mipmapped)) {
                for (int64_t c = 0; c < 4 * quads; c += 4) {
                    const Quad<T> x = colour(q, views, g, shown, 0, channels, c);
                    // All of one pixel's channels before the next pixel's, lest what runs over overwrites them.
                    if (quads == 1)
                        for (int l = 0; l < slot.count; l++) colours.put(x, to + l * channels, channels, out_end);
                    else
                        for (int l = 0; l < slot.count; l++) store_some(x, to + l * channels + c, channels - c);
                }
            } else {
                for (int l = 0; l < slot.count; l++)
                    for (int64_t c = 0; c < 4 * quads; c += 4) colours.put(colour(q, views, g, shown, l, channels, c), to + l * channels + c, channels - c, out_end);
            }
        } else {
            // Where one register holds four pixels; otherwise they go one behind the other, as they come.
            if constexpr (kChannels == 3 && RG_VECTOR_BYTES == 64) {
                const Lanes<T> x[4] = {four_colours<0, kChannels>(views, slot, mipmapped, mixed, channels, 0), four_colours<1, kChannels>(views, slot, mipmapped, mixed, channels, 0),
                                       four_colours<2, kChannels>(views, slot, mipmapped, mixed, channels, 0), four_colours<3, kChannels>(views, slot, mipmapped, mixed, channels, 0)};
                store_sixteen_threes(x, stream && shown == kAllLanes, shown == kAllLanes ? pixels : to);
                if (shown == kAllLanes) return;
            } else {
                // The last channels first: what runs over the end of a pixel is then overwritten by the next one's first.
                for (int64_t c = 4 * (quads - 1); c >= 0; c -= 4) {
                    const auto four = [&](int k, Lanes<T> x) {
                        T* at = to + 4 * k * channels + c;
                        if constexpr (kChannels == 4) return x.store(at);
                        if constexpr (kChannels == 3) return store_threes(x, at);
                        for (int r = 0; r < 4; r++) colours.put(quad_of(x, r), at + r * channels, channels - c, out_end);
                    };
                    four(0, four_colours<0, kChannels>(views, slot, mipmapped, mixed, channels, c));
                    four(1, four_colours<1, kChannels>(views, slot, mipmapped, mixed, channels, c));
                    four(2, four_colours<2, kChannels>(views, slot, mipmapped, mixed, channels, c));
                    four(3, four_colours<3, kChannels>(views, slot, mipmapped, mixed, channels, c));
                }
            }
            if (shown != kAllLanes) clear_pixels(kAllLanes & ~shown, channels, to);
        }
        colours.finish(pixels, slot.count, stream);
    });
    stream_fence();
}

}  // namespace

template <class T> int64_t forward(const ForwardArgs<T>& a) {
    const Query<T>& q = a.query;
    const Levels<T> levels = levels_of(q);
    const Layout layout = layout_of(q);
    const bool stream = layout.images * layout.pixels * q.channels * int64_t(sizeof(T)) >= kStreamBytes;
    const int64_t across = minimum((layout.columns + kLanes - 1) / kLanes * kLanes, kPixels / kBlockRows);
    const int64_t parts = (layout.columns + across - 1) / across, blocks = (layout.rows + kBlockRows - 1) / kBlockRows;
    parallel_for(q.threads, layout.images * blocks * parts, 1, [&](int, int64_t from, int64_t to) {
        for (int64_t s = from; s < to; s++) {
            const int64_t image = s / (blocks * parts), row = s / parts % blocks * kBlockRows, column = s % parts * across;
            const BlockWalk walk(layout, kBlockRows, row, minimum(row + kBlockRows, layout.rows), column, minimum(column + across, layout.columns));
            const auto part = [&](auto c) { forward_part<T, c.value>(q, levels, layout, a.out, stream, image, walk); };
            // One channel takes a third more time when the compiler does not know.
            if (q.channels == 1) part(ChannelCount<sizeof(T) == sizeof(float) ? 1 : 0>());
            else with_channels<T>(q.channels, part);
        }
    });
    return 0;
}
template int64_t forward<float>(const ForwardArgs<float>&);
RG_FLOAT64(template int64_t forward<double>(const ForwardArgs<double>&);)

RG_END
