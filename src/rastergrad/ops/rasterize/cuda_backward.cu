// SPDX-License-Identifier: MIT
// Gradients of fragments to vertices on a GPU: a thread per pixel, a warp per 8 x 4 pixels, which see few triangles; each triangle's share
// of a warp is added up before it goes to memory.
#include "formulas.h"
#include "sums.h"
#include "triangle_id.h"
#include "warp_groups.h"

RG_BEGIN

struct BackwardArgs {
    const Real* pos;
    const int32_t* tri;
    const Real* rast;
    const Real* d_rast;     // like rast, or null: no gradient arrived
    const Real* d_rast_db;  // like rast, or null
    Sums<Real> d_pos;       // like pos
    int64_t images, vertices, triangles, height, width;
    int64_t instanced;      // whether every image has its own vertices
    int64_t depth_grad;     // whether z/w passes a gradient
    int64_t interior_gate;  // whether pixels with their centre outside the exact triangle are left out
};

constexpr int kTileX = 32, kTileY = 8;  // of a block; of a warp: 8 x 4

RG_GLOBAL(rasterize_backward, 256, BackwardArgs, a) {
    const uint32_t tiles_x = uint32_t((a.width + kTileX - 1) / kTileX), tiles_y = uint32_t((a.height + kTileY - 1) / kTileY);
    const uint32_t tile_row = blockIdx.x / tiles_x;
    const int64_t image = tile_row / tiles_y;
    const int32_t x = int32_t(blockIdx.x - tile_row * tiles_x) * kTileX + warp_number() % 4 * 8 + lane_number() % 8;
    const int32_t y = int32_t(tile_row % tiles_y) * kTileY + warp_number() / 4 * 4 + lane_number() / 8;
    const Real zero(0);
    int64_t triangle = -1;
    int32_t n[3] = {0, 0, 0};
    Vec4<Real> d_p[3] = {{zero, zero, zero, zero}, {zero, zero, zero, zero}, {zero, zero, zero, zero}};
    const int64_t row = a.instanced ? image * a.vertices : 0;
    if (x < a.width && y < a.height) {
        const int64_t pixel = (image * a.height + y) * a.width + x;
        Vec4<Real> g{zero, zero, zero, zero}, g_db = g;
        const int64_t seen = decode_id(a.rast[4 * pixel + 3]);
        bool used = seen >= 0 && seen < a.triangles;
        if (used) {
            if (a.d_rast) g = load4(a.d_rast + 4 * pixel);
            if (a.d_rast_db) g_db = load4(a.d_rast_db + 4 * pixel);
        }
        const bool slopes = g_db.x != zero || g_db.y != zero || g_db.z != zero || g_db.w != zero;
        const bool planar = g.x != zero || g.y != zero || slopes, depth = a.depth_grad && g.z != zero;
        used = used && (planar || depth);
        if (used) {
            for (int k = 0; k < 3; k++) n[k] = a.tri[3 * seen + k];
            for (int k = 0; k < 3; k++) used = used && n[k] >= 0 && n[k] < a.vertices;
        }
        if (used) {
            Vec4<Real> p[3];
            for (int k = 0; k < 3; k++) p[k] = load4(a.pos + 4 * (row + n[k]));
            const Real step_x = pixel_step(Real(a.width)), step_y = pixel_step(Real(a.height));
            const Real fx = Real(x) * step_x + first_centre(Real(a.width)), fy = Real(y) * step_y + first_centre(Real(a.height));
            const PixelAreas<Real> areas = pixel_areas(p, fx, fy);
            used = !a.interior_gate || lies_inside(areas);
            if (used) {
                const Vec2<Real> g_uv{g.x, g.y};
                PlaneGradients<Real> d = slopes ? barycentric_slopes_adjoint(areas, g_uv, Slopes<Real>{g_db.x, g_db.y, g_db.z, g_db.w}, step_x, step_y)
                                                : barycentrics_adjoint(areas, g_uv);
                if (!planar) d = {{zero, zero, zero, zero}, {zero, zero, zero, zero}, {zero, zero, zero, zero}};
                d.at.w = g.z;
                planes_adjoint(p, fx, fy, d, depth, d_p);
                triangle = seen;
            }
        }
    }
    if (!__any_sync(kWarp, triangle >= 0)) return;
    const WarpGroups groups(triangle);
#pragma unroll
    for (int k = 0; k < 3; k++) {
        const Vec4<Real> total{groups.sum(d_p[k].x), groups.sum(d_p[k].y), a.depth_grad ? groups.sum(d_p[k].z) : zero, groups.sum(d_p[k].w)};
        if (triangle >= 0 && groups.leads()) a.d_pos.add4(4 * (row + n[k]), total);
    }
}

RG_END
