# SPDX-License-Identifier: MIT
"""Box-filtered images and their exact derivatives.

Pixel (row, column) of the image is the integral of the front-most colour over its unit square. Let L be the
sum of weight times image; then dL has two terms (Leibniz, or Reynolds' transport theorem):

- interior: the integral of weight * d(colour) over the image, with visibility held fixed;
- boundary: along each curve where the front-most colour jumps, the integral of weight * (jump) * (normal
speed).

The interior is integrated along scanlines. Each is exact in what it sees, and is integrated between pixel
borders and ends of surfaces; across scanlines, Gauss's two points are used in panels that end at rows of
pixels and at vertices. The boundary is integrated along the curves themselves: mesh edges, and the lines
where two triangles intersect. Both are straight, what is seen on either side of them is found exactly, and
the pieces between occlusions and pixel borders have smooth integrands. So the boundary term, which is the one
under scrutiny, is exact to rounding; the interior term and the image are as good as the panels: see `error`
in `records.py`.

Source: Li, Aittala, Durand and Lehtinen 2018, "Differentiable Monte Carlo Ray Tracing through Edge Sampling",
names the two terms; here both are quadratures and nothing is sampled.
"""

import numpy as np

from .line import (
    NODE_WEIGHTS,
    NODES,
    NONE,
    affine,
    clip_to_image,
    color_at,
    covered,
    fronts,
    gather,
    njit,
    pixels,
)
from .surface import Array, Surface, edges_of, grid_of, planes_of


def image(surface: Surface, height: int, width: int, *, panels: float = 32) -> Array:
    """The box-filtered image [height, width, C] with `panels` panels of two scanlines for a row of pixels."""
    no_weight = np.zeros((height, width, 0, len(surface.background)))
    return image_and_gradient(surface, no_weight, panels=panels)[0]


def image_and_gradient(surface: Surface, weight: Array, *, panels: float = 32) -> tuple[Array, Array]:
    """The image [H, W, C], and for each weight image k the derivative of sum(weight[:, :, k] * image).

    Args:
        surface: what is seen.
        weight: [H, W, K, C].
        panels: panels of two scanlines for a row of pixels; vertices divide them further.

    Returns:
        The image, and [K, V, 3]: derivatives by x and y in px at fixed depth, and by nearness at fixed place.
    """
    height, width, kinds, channels = weight.shape
    planes = planes_of(surface)
    grid = grid_of(planes, height, width)
    picture = np.zeros((height, width, channels))
    gradient = np.zeros((kinds, len(surface.vertex), 3))
    lines, shares = _scanlines(surface.vertex[:, 1], height, panels)
    weight = np.ascontiguousarray(weight)
    _interior(surface, planes, grid, lines, shares, weight, picture, gradient)
    if kinds:
        _along_edges(surface, planes, grid, edges_of(surface.tri), weight, gradient)
        _along_intersections(surface, planes, grid, weight, gradient)
    return picture, gradient


def _scanlines(vertex_y: Array, height: int, panels: float) -> tuple[Array, Array]:
    """Heights and weights of the scanlines: two in each panel, and panels end at rows and vertices."""
    vertices = vertex_y[(vertex_y > 0) & (vertex_y < height)]
    breaks = np.unique(np.concatenate([np.arange(height + 1.0), vertices]))
    gap = np.diff(breaks)
    count = np.maximum(np.ceil(gap * panels).astype(np.int64), 1)
    size = np.repeat(gap / count, count)
    nth = np.arange(len(size)) - np.repeat(np.cumsum(count) - count, count)
    start = np.repeat(breaks[:-1], count) + nth * size
    offset = np.array([0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5])
    return (start[:, None] + offset * size[:, None]).reshape(-1), np.repeat(size / 2, 2)


# ---- interior ---------------------------------------------------------------------------------------------


@njit
def _interior(surface, planes, grid, lines, shares, weight, picture, gradient):
    height, width, kinds, channels = weight.shape
    stamp = np.full(len(surface.tri), -1)
    found = np.empty(len(surface.tri), np.int64)
    color = np.empty(channels)
    for line in range(len(lines)):
        y = lines[line]
        n = gather(0.0, y, width, y, planes, grid, stamp, line, found)
        for t, start, stop in fronts(0.0, y, width, 0.0, found[:n], planes):
            for s0, s1, row, column in pixels(0.0, y, width, 0.0, start, stop, height, width):
                area = (s1 - s0) * width * shares[line]
                for node in range(len(NODES)):
                    x = (s0 + NODES[node] * (s1 - s0)) * width
                    color_at(t, x, y, planes, surface.background, color)
                    part = area * NODE_WEIGHTS[node]
                    for c in range(channels):
                        picture[row, column, c] += part * color[c]
                    if t != NONE and kinds:
                        _pull_color(t, x, y, part, color, surface, planes, weight[row, column], gradient)


@njit
def _pull_color(t, x, y, part, color, surface, planes, weight, gradient):
    """Add part * weight * d(colour at a fixed point) to the gradients of the corners of the triangle there.

    With colour = shade / near, and lambda_k the barycentric coordinate of corner k: moving corner k changes
    an affine function f by lambda_k (df_k - f_x dx - f_y dy).
    """
    dx, dy = x - planes.origin[t, 0], y - planes.origin[t, 1]
    near = planes.near[t]
    over_near = part / affine(near, dx, dy)
    for kind in range(weight.shape[0]):
        by_x, by_y = 0.0, 0.0
        for c in range(len(color)):
            by_x += weight[kind, c] * (planes.shade[t, c, 1] - color[c] * near[1])
            by_y += weight[kind, c] * (planes.shade[t, c, 2] - color[c] * near[2])
        for k in range(3):
            by_near = 0.0
            for c in range(len(color)):
                by_near += weight[kind, c] * (surface.color[t, k, c] - color[c])
            share = over_near * affine(planes.bary[t, k], dx, dy)
            d_corner = gradient[kind, surface.tri[t, k]]
            d_corner[0] -= share * by_x
            d_corner[1] -= share * by_y
            d_corner[2] += share * by_near


# ---- boundary ---------------------------------------------------------------------------------------------


@njit
def _jump(weight, one, other):
    total = 0.0
    for c in range(len(one)):
        total += weight[c] * (one[c] - other[c])
    return total


@njit
def _in_front(t, x0, y0, dx, dy, start, stop, near, slope, planes):
    """The part of [start, stop] in which near + slope * s is nearer than triangle t or the background."""
    if t == NONE:
        return start, stop
    gap = near - affine(planes.near[t], x0 - planes.origin[t, 0], y0 - planes.origin[t, 1])
    rise = slope - (planes.near[t, 1] * dx + planes.near[t, 2] * dy)
    if rise > 0:
        start = max(start, -gap / rise)
    elif rise < 0:
        stop = min(stop, -gap / rise)
    elif gap <= 0:
        return 1.0, 0.0
    return start, stop


@njit
def _without(found, n, skipped):
    """Remove the triangles of `skipped` from the first n of `found`; returns how many remain."""
    kept = 0
    for k in range(n):
        if not np.any(skipped == found[k]):
            found[kept] = found[k]
            kept += 1
    return kept


@njit
def _sides(owners, i, j, surface, planes):
    """The triangles of an edge that are seen to its left and right (+x towards +y is a left turn), or NONE.

    At a fold both lie on one side, and the one that comes forward more steeply hides the other.
    """
    left, right = NONE, NONE
    dx, dy = surface.vertex[j, 0] - surface.vertex[i, 0], surface.vertex[j, 1] - surface.vertex[i, 1]
    best_left, best_right = -np.inf, -np.inf
    for t in owners:
        if planes.box[t, 0] > planes.box[t, 2]:
            continue
        k = surface.tri[t].sum() - i - j  # the corner opposite the edge
        turn = dx * (surface.vertex[k, 1] - surface.vertex[i, 1]) - dy * (
            surface.vertex[k, 0] - surface.vertex[i, 0]
        )
        rise = planes.near[t, 2] * dx - planes.near[t, 1] * dy  # of nearness, to the left
        if turn > 0 and rise > best_left:
            left, best_left = t, rise
        if turn < 0 and -rise > best_right:
            right, best_right = t, -rise
    return left, right


@njit
def _seamless(left, right, i, j, surface):
    """Whether the colours of the two triangles agree along their edge, which then is not a boundary."""
    if left == NONE or right == NONE:
        return False
    for vertex in (i, j):
        for a in range(3):
            for b in range(3):
                meet = surface.tri[left, a] == vertex and surface.tri[right, b] == vertex
                if meet and np.any(surface.color[left, a] != surface.color[right, b]):
                    return False
    return True


@njit
def _along_edges(surface, planes, grid, edges, weight, gradient):
    """Add the boundary term of all mesh edges.

    Vertex i moves the point at s by 1 - s of its own motion, vertex j by s. Where it moves to the left, what
    is seen on the right gains. With n ds = (-dy, dx) ds, the normal to the left times the length, dL = weight
    (right - left) motion . n ds.
    """
    height, width, kinds, channels = weight.shape
    stamp = np.full(len(surface.tri), -1)
    found = np.empty(len(surface.tri), np.int64)
    at_left, at_right = np.empty(channels), np.empty(channels)
    for edge in range(len(edges.ends)):
        i, j = edges.ends[edge]
        owners = edges.triangles[edges.first[edge] : edges.first[edge + 1]]
        left, right = _sides(owners, i, j, surface, planes)
        if (left == NONE and right == NONE) or _seamless(left, right, i, j, surface):
            continue
        x0, y0, near = surface.vertex[i]
        x1, y1, near_end = surface.vertex[j]
        dx, dy = x1 - x0, y1 - y0
        first, last = clip_to_image(x0, y0, dx, dy, 0.0, 1.0, height, width)
        if last <= first:
            continue
        n = _without(found, gather(x0, y0, x1, y1, planes, grid, stamp, edge, found), owners)
        for other, start, stop in fronts(x0, y0, dx, dy, found[:n], planes):
            start, stop = max(start, first), min(stop, last)
            start, stop = _in_front(other, x0, y0, dx, dy, start, stop, near, near_end - near, planes)
            for s0, s1, row, column in pixels(x0, y0, dx, dy, start, stop, height, width):
                for node in range(len(NODES)):
                    s = s0 + NODES[node] * (s1 - s0)
                    x, y = x0 + s * dx, y0 + s * dy
                    color_at(left if left != NONE else other, x, y, planes, surface.background, at_left)
                    color_at(right if right != NONE else other, x, y, planes, surface.background, at_right)
                    for kind in range(kinds):
                        gain = (
                            (s1 - s0)
                            * NODE_WEIGHTS[node]
                            * _jump(weight[row, column, kind], at_right, at_left)
                        )
                        gradient[kind, i, 0] -= (1 - s) * gain * dy
                        gradient[kind, i, 1] += (1 - s) * gain * dx
                        gradient[kind, j, 0] -= s * gain * dy
                        gradient[kind, j, 1] += s * gain * dx


@njit
def _along_intersections(surface, planes, grid, weight, gradient):
    """Add the boundary term of all lines where two triangles intersect.

    There F = near_t - near_u is zero, and t is seen where F > 0. A change of F moves the line against grad F
    with speed dF / |grad F|, so that t gains.
    """
    height, width, kinds, channels = weight.shape
    count = len(surface.tri)
    stamp, partner_stamp = np.full(count, -1), np.full(count, -1)
    found, partners = np.empty(count, np.int64), np.empty(count, np.int64)
    at_t, at_u = np.empty(channels), np.empty(channels)
    pair, mark = np.empty(2, np.int64), 0
    for t in range(count):
        x0, y0, x1, y1 = planes.box[t]
        if x0 > x1:
            continue
        for u in partners[: gather(x0, y0, x1, y1, planes, grid, partner_stamp, t, partners)]:
            if u <= t or _shares_edge(surface.tri[t], surface.tri[u]):
                continue
            x, y, dx, dy, first, last = _crossing(t, u, planes)
            first, last = clip_to_image(x, y, dx, dy, first, last, height, width)
            if last <= first:
                continue
            x, y, length = x + first * dx, y + first * dy, last - first
            dx, dy = dx * length, dy * length
            near = affine(planes.near[t], x - planes.origin[t, 0], y - planes.origin[t, 1])
            slope = planes.near[t, 1] * dx + planes.near[t, 2] * dy
            per_speed = length / np.hypot(
                planes.near[t, 1] - planes.near[u, 1], planes.near[t, 2] - planes.near[u, 2]
            )
            pair[0], pair[1] = t, u
            n = _without(found, gather(x, y, x + dx, y + dy, planes, grid, stamp, mark, found), pair)
            mark += 1
            for other, start, stop in fronts(x, y, dx, dy, found[:n], planes):
                start, stop = _in_front(other, x, y, dx, dy, start, stop, near, slope, planes)
                for s0, s1, row, column in pixels(x, y, dx, dy, start, stop, height, width):
                    for node in range(len(NODES)):
                        s = s0 + NODES[node] * (s1 - s0)
                        px, py = x + s * dx, y + s * dy
                        color_at(t, px, py, planes, surface.background, at_t)
                        color_at(u, px, py, planes, surface.background, at_u)
                        part = (s1 - s0) * NODE_WEIGHTS[node] * per_speed
                        for kind in range(kinds):
                            gain = part * _jump(weight[row, column, kind], at_t, at_u)
                            _pull_nearness(t, px, py, gain, surface, planes, gradient[kind])
                            _pull_nearness(u, px, py, -gain, surface, planes, gradient[kind])


@njit
def _shares_edge(one, other):
    common = 0
    for vertex in one:
        common += np.any(other == vertex)
    return common >= 2


@njit
def _crossing(t, u, planes):
    """A point and unit direction of the line where two triangles have one depth, and its interval on both."""
    ox, oy = planes.origin[t]
    across, up = planes.near[t, 1] - planes.near[u, 1], planes.near[t, 2] - planes.near[u, 2]
    steep = across * across + up * up
    if steep == 0:
        return ox, oy, 1.0, 0.0, 1.0, 0.0
    gap = planes.near[t, 0] - affine(planes.near[u], ox - planes.origin[u, 0], oy - planes.origin[u, 1])
    x, y = ox - gap * across / steep, oy - gap * up / steep
    dx, dy = -up / steep**0.5, across / steep**0.5
    start_t, stop_t = covered(t, x, y, dx, dy, planes)
    start_u, stop_u = covered(u, x, y, dx, dy, planes)
    return x, y, dx, dy, max(start_t, start_u), min(stop_t, stop_u)


@njit
def _pull_nearness(t, x, y, gain, surface, planes, gradient):
    """Add gain * d(nearness of triangle t at a fixed point) to the gradients of its corners."""
    dx, dy = x - planes.origin[t, 0], y - planes.origin[t, 1]
    for k in range(3):
        share = gain * affine(planes.bary[t, k], dx, dy)
        d_corner = gradient[surface.tri[t, k]]
        d_corner[0] -= share * planes.near[t, 1]
        d_corner[1] -= share * planes.near[t, 2]
        d_corner[2] += share
