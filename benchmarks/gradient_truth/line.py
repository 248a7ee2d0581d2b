# SPDX-License-Identifier: MIT
"""What is seen along a straight line across the image: scanlines, mesh edges and intersections alike.

Along a line, each triangle covers one interval and its nearness is linear there. The front-most surface is
therefore the upper envelope of line segments: between two ends of intervals, the surface in front is
overtaken only by steeper ones, so the crossings are met in order by always taking the nearest steeper one. No
tolerances are needed; rounding moves the ends of pieces by about 1e-14 px and can make empty pieces, which
integrate to nothing.
"""

import numpy as np

from rastergrad.scene.extra import require

from .surface import CELLS

njit = require("numba", "computing exact gradients", extra="bench").njit

NONE = -1  # the background
# Gauss and Legendre's three points on [0, 1]. Shading is a ratio of two affine functions; in the ten scenes
# these points integrate it to 1e-7 relative to eight points. Triangles whose depth changes severalfold within
# a pixel would need more.
NODES = np.array([0.5 - 0.5 * 0.6**0.5, 0.5, 0.5 + 0.5 * 0.6**0.5])
NODE_WEIGHTS = np.array([5.0, 8.0, 5.0]) / 18


@njit
def affine(f, dx, dy):
    return f[0] + f[1] * dx + f[2] * dy


@njit
def gather(x0, y0, x1, y1, planes, grid, stamp, mark, found):
    """Write the triangles whose boxes meet the box of two points into `found`; returns their number.

    `stamp` [T] remembers in which call, `mark`, a triangle was last found.
    """
    low_x, high_x, low_y, high_y = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    count = 0
    columns_per_px, rows_per_px = grid.cells_per_px
    for row in range(_within(low_y * rows_per_px, CELLS), _within(high_y * rows_per_px, CELLS) + 1):
        for column in range(
            _within(low_x * columns_per_px, CELLS), _within(high_x * columns_per_px, CELLS) + 1
        ):
            cell = row * CELLS + column
            for k in range(grid.first[cell], grid.first[cell + 1]):
                t = grid.triangles[k]
                box = planes.box[t]
                if stamp[t] == mark or box[0] > high_x or box[2] < low_x or box[1] > high_y or box[3] < low_y:
                    continue
                stamp[t] = mark
                found[count] = t
                count += 1
    return count


@njit
def covered(t, x0, y0, dx, dy, planes):
    """The interval of s for which (x0, y0) + s (dx, dy) lies in a triangle; may end before it starts."""
    start, stop = -np.inf, np.inf
    ox, oy = x0 - planes.origin[t, 0], y0 - planes.origin[t, 1]
    for k in range(3):
        f = planes.bary[t, k]
        here, slope = affine(f, ox, oy), f[1] * dx + f[2] * dy
        if slope > 0:
            start = max(start, -here / slope)
        elif slope < 0:
            stop = min(stop, -here / slope)
        elif here < 0:
            return 1.0, 0.0
    return start, stop


@njit
def fronts(x0, y0, dx, dy, candidates, planes):
    """Yields (triangle or NONE, start, stop): what is in front along (x0, y0) + s (dx, dy), s from 0 to 1."""
    ids = np.empty(len(candidates), np.int64)
    near = np.empty(len(candidates))  # at s = 0
    slope = np.empty(len(candidates))
    ends = np.empty(2 * len(candidates))
    n = 0
    for t in candidates:
        start, stop = covered(t, x0, y0, dx, dy, planes)
        start, stop = max(start, 0.0), min(stop, 1.0)
        if stop <= start:
            continue
        ids[n] = t
        near[n] = affine(planes.near[t], x0 - planes.origin[t, 0], y0 - planes.origin[t, 1])
        slope[n] = planes.near[t, 1] * dx + planes.near[t, 2] * dy
        ends[2 * n], ends[2 * n + 1] = start, stop
        n += 1
    live = np.empty(n, np.int64)
    count = 0
    s = 0.0
    for event in np.argsort(ends[: 2 * n]):
        stop = ends[event]
        if count == 0 and stop > s:
            yield NONE, s, stop
        if count > 0 and stop > s:
            front = live[0]
            for k in live[1:count]:
                if near[k] + slope[k] * s > near[front] + slope[front] * s:
                    front = k
            while s < stop:
                until, following = stop, -1
                for k in live[:count]:
                    if slope[k] > slope[front]:
                        crossing = max((near[front] - near[k]) / (slope[k] - slope[front]), s)
                        if crossing < until or (
                            crossing == until and following >= 0 and slope[k] > slope[following]
                        ):
                            until, following = crossing, k
                if until > s:
                    yield ids[front], s, until
                s = until
                if following < 0:
                    break
                front = following
        s = max(s, stop)
        if event % 2 == 0:
            live[count] = event // 2
            count += 1
        else:
            for k in range(count):
                if live[k] == event // 2:
                    count -= 1
                    live[k] = live[count]
                    break
    if s < 1:
        yield NONE, s, 1.0


@njit
def pixels(x0, y0, dx, dy, start, stop, height, width):
    """Yields (start, stop, row, column): the part of a line between two parameters, cut at borders of pixels.

    The part must lie in the image.
    """
    column = _first_border(x0 + start * dx, dx)
    row = _first_border(y0 + start * dy, dy)
    s = start
    while s < stop:
        at_x = (column - x0) / dx if dx != 0 else np.inf
        at_y = (row - y0) / dy if dy != 0 else np.inf
        until = min(at_x, at_y, stop)
        if until > s:
            middle = (s + until) / 2
            yield s, until, _within(y0 + middle * dy, height), _within(x0 + middle * dx, width)
            s = until
        if at_x <= s:
            column += 1 if dx > 0 else -1
        if at_y <= s:
            row += 1 if dy > 0 else -1


@njit
def _within(position, size):
    return min(max(int(np.floor(position)), 0), size - 1)


@njit
def _first_border(position, direction):
    return np.floor(position) + 1 if direction > 0 else np.ceil(position) - 1


@njit
def clip_to_image(x0, y0, dx, dy, start, stop, height, width):
    """The part of a line between two parameters that lies in the image."""
    for origin, direction, size in ((x0, dx, width), (y0, dy, height)):
        if direction == 0:
            if origin < 0 or origin >= size:
                return 1.0, 0.0
        else:
            a, b = -origin / direction, (size - origin) / direction
            start, stop = max(start, min(a, b)), min(stop, max(a, b))
    return start, stop


@njit
def color_at(t, x, y, planes, background, out):
    """Write the colour of a triangle, or of the background, at a point."""
    if t == NONE:
        out[:] = background
        return
    dx, dy = x - planes.origin[t, 0], y - planes.origin[t, 1]
    near = affine(planes.near[t], dx, dy)
    for c in range(len(out)):
        out[c] = affine(planes.shade[t, c], dx, dy) / near
