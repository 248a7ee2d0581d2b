// SPDX-License-Identifier: MIT
// Rasterisation on the CPU: vertices onto the grid, triangles into tiles, tiles into fragments; each step parallel.
#include <memory>

#include "cpu_kernels.h"
#include "cpu_shade.h"
#include "kernels.h"

RG_BEGIN
namespace {

// Below this many pixels and triangles, waking a second thread costs more than it gives.
constexpr int64_t kWorthThreads = 16384;
// Images up to this size are drawn one per worker if there are enough of them.
constexpr int64_t kSmallImage = 512 * 512;
// Outputs above this many bytes do not stay in the caches until the next operation reads them.
constexpr int64_t kStreamFrom = 4 << 20;
constexpr int64_t kVertexChunk = 8192;

// The lists of all workers for one image.
class Workbench {
  public:
    Workbench(int64_t workers, const TileGrid& grid)
        : workers_(workers), arenas_(new Arena[size_t(workers)]), tiles_(size_t(workers * grid.count())), bins_(size_t(workers)) {
        for (int64_t w = 0; w < workers; w++) {
            bins_[w] = {arenas_ + w, tiles_.data() + w * grid.count(), 0};
            bins_[w].clear(grid);
        }
    }
    ~Workbench() { delete[] arenas_; }
    Workbench(const Workbench&) = delete;
    Workbench& operator=(const Workbench&) = delete;

    Bins& bins(int64_t worker) { return bins_[worker]; }
    const Bins* all() { return bins_.data(); }
    int64_t workers() const { return workers_; }
    bool any_in(int64_t tile) {
        for (int64_t w = 0; w < workers_; w++) {
            const TileBin& bin = bins_[w].tiles[tile];
            if (bin.small.first || bin.large.first || bin.clipped.first) return true;
        }
        return false;
    }
    int64_t first_bad() {
        int64_t lowest = INT64_MAX;
        for (int64_t w = 0; w < workers_; w++) lowest = minimum(lowest, bins_[w].first_bad);
        return lowest;
    }

  private:
    int64_t workers_;
    Arena* arenas_;
    Block<TileBin> tiles_;
    Block<Bins> bins_;
};

// Calls body(first, last) for all of [0, count). Each worker begins with a run of its own and then helps the others: a frame after
// the last one finds its pixels in the caches of the core that wrote them.
template <class Body> void for_each_of_runs(int64_t threads, int64_t count, Body&& body) {
    struct alignas(64) Run { std::atomic<int64_t> next; int64_t end; };
    const std::unique_ptr<Run[]> runs(new Run[size_t(threads)]);
    for (int64_t r = 0; r < threads; r++) {
        runs[r].next.store(count * r / threads, std::memory_order_relaxed);
        runs[r].end = count * (r + 1) / threads;
    }
    parallel_for(threads, threads, 1, [&](int worker, int64_t, int64_t) {
        for (int64_t k = 0; k < threads; k++) {
            Run& run = runs[(worker + k) % threads];
            for (int64_t i; (i = run.next.fetch_add(1, std::memory_order_relaxed)) < run.end;) body(i, i + 1);
        }
    });
}

template <class T> class ImageJob {
  public:
    ImageJob(const ForwardArgs<T>& a, const ScreenVertex* screen, int64_t image, int64_t threads)
        : size_{int32_t(a.width), int32_t(a.height)}, grid_(size_), threads_(threads),
          scene_{a.ranges ? a.pos : a.pos + image * a.vertices * 4, screen, a.tri, int32_t(minimum(a.vertices, int64_t(INT32_MAX))), 0, a.triangles} {
        const int64_t pixels = a.width * a.height, first = image * pixels;
        if (a.ranges) {
            scene_.first = minimum(a.ranges[2 * image], a.triangles);
            scene_.count = minimum(a.ranges[2 * image + 1], a.triangles - scene_.first);
        }
        to_ = {a.rast + 4 * first, a.rast_db + 4 * first, a.depth_key ? a.depth_key + first : nullptr, size_,
               a.images * pixels * int64_t(8 * sizeof(T)) >= kStreamFrom && reinterpret_cast<uintptr_t>(a.rast) % 16 == 0 &&
                   reinterpret_cast<uintptr_t>(a.rast_db) % 16 == 0,
               a.width % 4 == 0 && a.height % 4 == 0 && reinterpret_cast<uintptr_t>(a.rast) % 64 == 0 && reinterpret_cast<uintptr_t>(a.rast_db) % 64 == 0};
        previous_ = a.previous_key ? a.previous_key + first : nullptr;
    }

    // The lowest triangle with a bad vertex index, or INT64_MAX.
    int64_t run() {
        Workbench bench(threads_, grid_);
        parallel_for(threads_, scene_.count, kTriangleChunk, [&](int worker, int64_t begin, int64_t end) {
            Binner<T>(scene_, grid_, bench.bins(worker)).add(begin, end);
        });
        const PixelGrid<T> pixels(size_);
        for_each_of_runs(threads_, grid_.count(), [&](int64_t begin, int64_t end) {
            alignas(64) Tile tile;
            for (int64_t t = begin; t < end; t++) {
                const int32_t i0 = int32_t(t % grid_.across) * kTile, j0 = int32_t(t / grid_.across) * kTile;
                if (!bench.any_in(t)) {
                    clear_tile(to_, i0, j0);
                    continue;
                }
                tile.clear(grid_, t);
                if (previous_) {
                    alignas(64) float keys[kTile * kTile];
                    load_previous(keys, i0, j0);
                    paint_tile<T, true>(scene_, bench.all(), bench.workers(), t, tile, keys);
                } else {
                    paint_tile<T, false>(scene_, bench.all(), bench.workers(), t, tile, nullptr);
                }
                shade(pixels, tile, i0, j0);
            }
            stream_fence();
        });
        return bench.first_bad();
    }

  private:
    void shade(const PixelGrid<T>& pixels, const Tile& tile, int32_t i0, int32_t j0) {
        // A variant for whole lines, but not of float64: it would take its share of the wheel.
        if constexpr (sizeof(T) == sizeof(float)) {
            if (to_.stream && to_.whole) return shade_tile<true>(scene_, pixels, to_, tile, i0, j0);
        }
        shade_tile<false>(scene_, pixels, to_, tile, i0, j0);
    }

    ScreenSize size_;
    TileGrid grid_;
    int64_t threads_;
    Scene<T> scene_;
    Target<T> to_;
    const float* previous_;

    void load_previous(float* keys, int32_t i0, int32_t j0) const {
        for (int32_t j = 0; j < kTile; j++)
            for (int32_t i = 0; i < kTile; i++) {
                const bool there = i0 + i < size_.width && j0 + j < size_.height;
                keys[place_in_tile(i, j)] =
                    there ? previous_[int64_t(j0 + j) * size_.width + i0 + i] : kFar;
            }
    }
};

}  // namespace

template <class T> int64_t rasterize_forward(const ForwardArgs<T>& a) {
    const ScreenSize size = {int32_t(a.width), int32_t(a.height)};
    const int64_t pixels = a.width * a.height;
    const bool worth = a.images * (pixels + 2 * a.triangles) + a.vertices >= kWorthThreads;
    const int64_t threads = worth ? a.threads : 1;
    const bool image_per_worker = a.images >= 2 * threads && pixels <= kSmallImage && threads > 1;
    Block<ScreenVertex> shared(size_t(a.ranges || !image_per_worker ? a.vertices : 0));
    const auto place = [&](const T* pos) {
        parallel_for(threads, a.vertices, kVertexChunk, [&](int, int64_t begin, int64_t end) { place_vertices(pos, begin, end, size, shared.data()); });
    };
    if (a.ranges) place(a.pos);
    int64_t bad = INT64_MAX;
    if (image_per_worker) {
        Block<int64_t> found(static_cast<size_t>(a.images));
        parallel_for(threads, a.images, 1, [&](int, int64_t begin, int64_t end) {
            Block<ScreenVertex> own(size_t(a.ranges ? 0 : a.vertices));
            for (int64_t image = begin; image < end; image++) {
                if (!a.ranges) place_vertices(a.pos + image * a.vertices * 4, 0, a.vertices, size, own.data());
                found[image] = ImageJob<T>(a, a.ranges ? shared.data() : own.data(), image, 1).run();
            }
        });
        for (int64_t image = 0; image < a.images; image++) bad = minimum(bad, found[image]);
    } else {
        for (int64_t image = 0; image < a.images; image++) {
            if (!a.ranges) place(a.pos + image * a.vertices * 4);
            bad = minimum(bad, ImageJob<T>(a, shared.data(), image, threads).run());
        }
    }
    return a.strict && bad != INT64_MAX ? bad : -1;
}

constexpr Kernel kRasterizeKernels[] = {
    RG_KERNEL("rasterize_forward_f32", ForwardArgs<float>, rasterize_forward<float>),
    RG_KERNEL("rasterize_forward_f64", ForwardArgs<double>, rasterize_forward<double>),
    RG_KERNEL("rasterize_backward_f32", BackwardArgs<float>, rasterize_backward<float>),
    RG_FLOAT64(RG_KERNEL("rasterize_backward_f64", BackwardArgs<double>, rasterize_backward<double>), )
};

RG_END

RG_ROOM_TABLE(rasterize, rg::RG_ISA::kRasterizeKernels)
