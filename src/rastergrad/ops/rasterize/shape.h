// SPDX-License-Identifier: MIT
// A triangle on the grid as what draws it needs it: edge functions and depth, relative to some pixel near by.
#pragma once
#include "clip.h"

RG_BEGIN

// Twice the area in grid units squared; negative for clockwise corners.
RG_FN int64_t signed_area_of(const ScreenVertex& p, const ScreenVertex& q, const ScreenVertex& r) {
    return int64_t(q.x - p.x) * (r.y - p.y) - int64_t(r.x - p.x) * (q.y - p.y);
}
RG_FN ScreenTriangle<int32_t, float> screen_triangle(const ScreenVertex& p, const ScreenVertex& q, const ScreenVertex& r, int64_t signed_area) {
    return in_standard_order(ScreenTriangle<int32_t, float>{{p.x, q.x, r.x}, {p.y, q.y, r.y}, {p.k, q.k, r.k}}, signed_area < 0);
}

struct TriangleShape {
    Edge<int32_t> edge[3];
    DepthPlane<float> plane;
    float x, y;  // the origin as seen from corner 0, in pixels
};

// The origin is the centre of a pixel, in grid units; the shape serves pixels up to 63 to the right of it and above.
RG_FN TriangleShape triangle_shape(const ScreenTriangle<int32_t, float>& t, int64_t signed_area, int32_t origin_x, int32_t origin_y) {
    TriangleShape s;
    for (int k = 0; k < 3; k++) {
        const int to = (k + 1) % 3;
        Edge<int32_t>& e = s.edge[k];
        e.a = t.y[k] - t.y[to];
        e.b = t.x[to] - t.x[k];
        const int64_t c = int64_t(e.a) * (origin_x - t.x[k]) + int64_t(e.b) * (origin_y - t.y[k]) + edge_bias(e.a, e.b);
        e.c = int32_t(minimum(maximum(c >> kSubPixelBits, -int64_t(1 << 30)), int64_t(1 << 30)));
    }
    s.plane = depth_plane<float>({float(t.x[1] - t.x[0]), float(t.y[1] - t.y[0])}, {float(t.x[2] - t.x[0]), float(t.y[2] - t.y[0])},
                                 float(signed_area < 0 ? -signed_area : signed_area), t.k[0], t.k[1], t.k[2]);
    s.x = float(origin_x - t.x[0]) * (1.0f / kSubPixels);
    s.y = float(origin_y - t.y[0]) * (1.0f / kSubPixels);
    return s;
}

// Largest and smallest step of an edge function from the first pixel of a rectangle to any other that is at most so far away.
RG_FN int32_t most(const Edge<int32_t>& e, int32_t span_x, int32_t span_y) { return maximum(e.a, 0) * span_x + maximum(e.b, 0) * span_y; }
RG_FN int32_t least(const Edge<int32_t>& e, int32_t span_x, int32_t span_y) { return minimum(e.a, 0) * span_x + minimum(e.b, 0) * span_y; }

// The pixels whose centres may lie between two grid coordinates.
RG_FN int32_t first_pixel(int32_t grid_low, int32_t side) {
    return maximum((grid_low + side * kHalfPixel + kHalfPixel - 1) >> kSubPixelBits, 0);
}
RG_FN int32_t last_pixel(int32_t grid_high, int32_t side) {
    return minimum((grid_high + side * kHalfPixel - kHalfPixel) >> kSubPixelBits, side - 1);
}
struct PixelBox {
    int32_t x0, y0, x1, y1;
    RG_FN bool empty() const { return x0 > x1 || y0 > y1; }
};
RG_FN PixelBox pixel_box(const ScreenVertex& p, const ScreenVertex& q, const ScreenVertex& r, ScreenSize size) {
    return {first_pixel(minimum(p.x, minimum(q.x, r.x)), size.width), first_pixel(minimum(p.y, minimum(q.y, r.y)), size.height),
            last_pixel(maximum(p.x, maximum(q.x, r.x)), size.width), last_pixel(maximum(p.y, maximum(q.y, r.y)), size.height)};
}
// The centre of a pixel column or row on the grid.
RG_FN int32_t grid_of_pixel(int32_t pixel, int32_t side) { return pixel * kSubPixels + kHalfPixel - side * kHalfPixel; }

RG_END
