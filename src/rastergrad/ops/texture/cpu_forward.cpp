// SPDX-License-Identifier: MIT
// Looking up: coordinates of 16 pixels at once, then the channels of each pixel four at a time.
#include "cpu_cells.h"
#include "threads.h"

RG_BEGIN
namespace {

constexpr int64_t kStrip = 8192;  // pixels per chunk
constexpr int64_t kStreamFromBytes = int64_t(2) << 20;

// Colours of 16 pixels on their way to memory, past the caches when the output is larger than these. A whole quad may be written over
// the start of the next pixel, which is written afterwards.
template <class T, int kChannels> struct Colours {
    static constexpr bool kStaged = kChannels == 3 || kChannels == 4;
    alignas(64) T staged[kStaged ? kLanes * kChannels + 4 : 1];

    RG_FN T* begin(T* out) { return kStaged ? staged : out; }
    RG_FN void put(Quad<T> x, T* to, int64_t count, const T* out_end) {
        if (kStaged || to + 4 <= out_end) x.store(to);
        else store_some(x, to, count);
    }
    RG_FN void finish(T* out, int count, bool stream) {
        if constexpr (!kStaged) return;
#if defined(__SSE2__)
        if (stream && count == kLanes) {
            const char* from = reinterpret_cast<const char*>(staged);
            char* to = reinterpret_cast<char*>(out);
            for (size_t at = 0; at < kLanes * kChannels * sizeof(T); at += 16)
                _mm_stream_ps(reinterpret_cast<float*>(to + at), _mm_load_ps(reinterpret_cast<const float*>(from + at)));
            return;
        }
#endif
        (void)stream;
        memcpy(out, staged, size_t(count) * kChannels * sizeof(T));
    }
};

// kChannels is the number of channels, or 0: any.
template <class T, int kChannels> void forward_strip(const Query<T>& q, const Levels<T>& levels, T* out, bool stream, int64_t image, int64_t begin, int64_t end) {
    const int64_t channels = kChannels ? kChannels : q.channels, quads = kChannels ? 1 : levels.quads;
    const bool nearest = q.filter == kNearest, mipmapped = q.filter >= kLinearMipmapNearest, cube = q.boundary == kCube;
    const int64_t tex_image = q.tex_images == 1 ? 0 : image;
    const T* out_end = out + end * channels;
    View<T> views[kMostLevels];
    for (int k = 0; k < levels.count; k++) views[k] = view_of(levels.level[k], tex_image, channels, cube);
    Group<T> g;
    Colours<T, kChannels> colours;
    stream = stream && (reinterpret_cast<uintptr_t>(out) + begin * channels * sizeof(T)) % 16 == 0;
    for (int64_t first = begin; first < end; first += kLanes) {
        const int count = int(minimum(int64_t(kLanes), end - first));
        locate(q, levels, first, count, g);
        T* const group = out + first * channels;
        T* to = colours.begin(group);
        if (!mipmapped) {
            for (int l = 0; l < count; l++, to += channels)
                for (int64_t c = 0; c < 4 * quads; c += 4) {
                    Quad<T> x(T(0));
                    if (g.place.valid >> l & 1) {
                        if (nearest) x = texel_at(views[0], g.cells, l, channels, c);
                        else x = bilinear(cell_at(views[0], g.cells, l, channels, c), Quad<T>(g.cells.a[l]), Quad<T>(g.cells.b[l]));
                    }
                    colours.put(x, to + c, channels - c, out_end);
                }
            colours.finish(group, count, stream);
            continue;
        }
        for (int l = 0; l < count; l++, to += channels)
            for (int64_t c = 0; c < 4 * quads; c += 4) {
                Quad<T> x(T(0));
                if (g.place.valid >> l & 1) {
                    x = bilinear(cell_at(views[g.heights.low[l]], g.cells, l, channels, c), Quad<T>(g.cells.a[l]), Quad<T>(g.cells.b[l]));
                    if (g.heights.f[l] != 0) {
                        const Quad<T> y = bilinear(cell_at(views[g.heights.high[l]], g.coarser, l, channels, c), Quad<T>(g.coarser.a[l]), Quad<T>(g.coarser.b[l]));
                        x = between_levels(x, y, Quad<T>(g.heights.f[l]));
                    }
                }
                colours.put(x, to + c, channels - c, out_end);
            }
        colours.finish(group, count, stream);
    }
    stream_fence();
}

}  // namespace

template <class T> int64_t forward(const ForwardArgs<T>& a) {
    const Query<T>& q = a.query;
    const Levels<T> levels = levels_of(q);
    const Layout layout = layout_of(q);
    const bool stream = layout.images * layout.pixels * q.channels * int64_t(sizeof(T)) >= kStreamFromBytes;
    const int64_t strips = (layout.pixels + kStrip - 1) / kStrip;
    parallel_for(q.threads, layout.images * strips, 1, [&](int, int64_t from, int64_t to) {
        for (int64_t s = from; s < to; s++) {
            const int64_t image = s / strips, base = image * layout.pixels;
            const int64_t begin = base + s % strips * kStrip, end = minimum(begin + kStrip, base + layout.pixels);
            if (q.channels == 3) forward_strip<T, 3>(q, levels, a.out, stream, image, begin, end);
            else if (q.channels == 4) forward_strip<T, 4>(q, levels, a.out, stream, image, begin, end);
            else forward_strip<T, 0>(q, levels, a.out, stream, image, begin, end);
        }
    });
    return 0;
}
template int64_t forward<float>(const ForwardArgs<float>&);
template int64_t forward<double>(const ForwardArgs<double>&);

RG_END
