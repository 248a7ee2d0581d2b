# SPDX-License-Identifier: MIT
"""Antialiasing by outlines from its definition: the oracle of this room's default method, and its fallback
without kernels.

What lies between two pixels is found by walking over the mesh (docs/definition.md 5.8), without gradients,
step by step for all pairs at once. That gives a list of edges with their ranges of y, and of planes that
meet. What these take from the two pixels is a differentiable function of positions, and gradients are
autograd of it.

Letters: P pairs, K pieces of outlines, M meetings. Points as a pair sees them are [..., 4]: (x w, y w, z, w),
x and y in pixels from the centre of its first pixel, x along the pair.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .reference import edge_twins, neighbours, shown_triangles

REACH_PX = 1 / 16  # how far before its own centre a walk may begin, and behind the other one look on
MOST_TRIANGLES = 1024  # of a walk
MOST_FAN = 4096  # triangles on a turn around a vertex
MOST_EDGES = 64  # of an outline, upward and downward each
FARTHEST_PX = 1.5  # along the pair, from where the outline crosses it to where a further edge may begin
LEAST_SLOPE = 2.0**-20  # per pixel: depth between two surfaces that meet

LOST, NEIGHBOUR, GOAL, OUTLINE = range(4)  # how walks end


def antialias(
    color: Tensor,
    rast: Tensor,
    pos: Tensor,
    tri: Tensor,
    twins: Tensor | None = None,
    *,
    intersections: bool = True,
    pos_gradient_boost: float = 1.0,
) -> Tensor:
    """Blend pixels with the neighbours that reach into their squares.

    Args:
        color: [n, H, W, C] float.
        rast: [n, H, W, 4], of the same `pos` and `tri`.
        pos: [n, V, 4] or [V, 4], clip space.
        tri: [T, 3] int64.
        twins: [T, 3] int64 from `edge_twins`; built here when None.
        intersections: whether surfaces that pass through each other are blended as well.
        pos_gradient_boost: factor on the gradient of `pos`.

    Returns: [n, H, W, C], in the dtype of `color`.

    Gradients: `color`, and `pos`: x, y, w of the ends of outline edges, all of the corners of planes that
    meet.
    """
    tri = tri.to(torch.int64)
    with torch.no_grad():
        twins = edge_twins(tri, pos.shape[-2]) if twins is None else twins.to(torch.int64)
        mesh = _mesh(pos.detach(), tri, twins)
        plan = _plan(mesh, _pairs(rast.detach(), mesh), intersections)
    return _Blend.apply(color, pos, plan, pos_gradient_boost)


# Meshes and pairs -----------------------------------------------------------------------------------------


@dataclass
class _Mesh:
    points: Tensor  # [n * V or V, 4] float64, clip space
    stride: int  # rows of `points` from image to image
    tri: Tensor  # [T, 3]
    twins: Tensor  # [T, 3] half-edges 3 t + k, or -1
    outline: Tensor  # [n or 1, T, 3] bool: whether the surface ends at this edge on the screen

    def outlines(self, pairs: _Pairs, triangle: Tensor) -> Tensor:
        """[P, 3] bool: which edges of one triangle per pair are outlines."""
        return self.outline[pairs.image if self.stride else 0, triangle]

    def rows(self, pairs: _Pairs, triangle: Tensor) -> Tensor:
        """Rows [P, 3] in `points` of the corners of one triangle per pair."""
        return self.tri[triangle] + (pairs.image * self.stride)[:, None]


def _mesh(pos: Tensor, tri: Tensor, twins: Tensor) -> _Mesh:
    points = (pos if pos.dim() == 3 else pos[None]).double()  # [n or 1, V, 4]
    p0, p1, p2 = points[:, tri][..., [0, 1, 3]].unbind(2)  # [n or 1, T, 3] each
    is_back = (torch.linalg.cross(p0, p1) * p2).sum(-1) < 0
    start, end = tri.roll(-1, 1), tri.roll(-2, 1)  # of half-edges; the twins of like winding run oppositely
    triangle, corner = twins.clamp(min=0) // 3, twins.clamp(min=0) % 3
    is_like = start == end[triangle, corner]
    is_fold = is_back[:, :, None] != torch.where(is_like, is_back[:, triangle], ~is_back[:, triangle])
    stride = pos.shape[-2] if pos.dim() == 3 else 0
    return _Mesh(points.reshape(-1, 4), stride, tri, twins, (twins < 0) | is_fold)


@dataclass
class _Pairs:
    """Neighbouring pixels that show different triangles."""

    size: tuple[int, int]
    first: Tensor  # [P] flat pixel numbers
    second: Tensor
    vertical: Tensor  # [P] bool
    triangles: Tensor  # [P, 2] of the first and the second, or -1

    def __getitem__(self, kept: Tensor) -> _Pairs:
        listed = (getattr(self, field.name)[kept] for field in fields(self)[1:])
        return _Pairs(self.size, *listed)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def image(self) -> Tensor:
        return self.first // (self.size[0] * self.size[1])


def _pairs(rast: Tensor, mesh: _Mesh) -> _Pairs:
    first, second, vertical = neighbours(rast)
    shown = shown_triangles(rast, len(mesh.tri))
    triangles = torch.stack((shown[first], shown[second]), 1)
    return _Pairs((rast.shape[1], rast.shape[2]), first, second, vertical, triangles)[(triangles >= 0).any(1)]


def _seen(points: Tensor, pairs: _Pairs) -> Tensor:
    """Clip-space points [P, ..., 4], one entry per pair, as the pairs see them."""
    height, width = pairs.size
    each = (-1,) + (1,) * (points.dim() - 2)
    column = (pairs.first % width + 0.5).reshape(each)
    row = (pairs.first // width % height + 0.5).reshape(each)
    x, y, z, w = points.unbind(-1)
    right = x * (width / 2) + (width / 2 - column) * w
    down = y * (height / 2) + (height / 2 - row) * w
    vertical = pairs.vertical.reshape(each)
    return torch.stack((torch.where(vertical, down, right), torch.where(vertical, right, down), z, w), -1)


# Walks ----------------------------------------------------------------------------------------------------


@dataclass
class _Walks:
    """One walk per pair. A pixel without a triangle starts none: its walk is lost."""

    end: Tensor  # [P] LOST, NEIGHBOUR, GOAL or OUTLINE
    outline: Tensor  # [P] half-edge at which it ended
    place: Tensor  # [P, 4] where that one crosses y = 0, as the pair sees it
    passed: Tensor  # [P, S] triangles up to the goal, -1 after the last one
    left_at: Tensor  # [P, S] x at which it left them

    def __getitem__(self, kept: Tensor) -> _Walks:
        return _Walks(*(getattr(self, field.name)[kept] for field in fields(self)))


def _walk(mesh: _Mesh, pairs: _Pairs, toward_second: bool) -> _Walks:
    """Walk along y = 0 over the surface, from the first pixel's centre toward the second's, or back."""
    start, goal = pairs.triangles.unbind(1) if toward_second else pairs.triangles.flip(1).unbind(1)
    walks = _Walks(
        torch.full_like(start, LOST),
        torch.full_like(start, -1),
        torch.zeros(len(pairs), 4, dtype=torch.float64, device=start.device),
        start.new_empty(len(pairs), 0),
        mesh.points.new_empty(len(pairs), 0),
    )
    going = (start >= 0).nonzero()[:, 0]  # [G] numbers of pairs, as are all tensors in the loop
    triangle, came_by = start[going], None
    arrived = torch.zeros_like(going, dtype=torch.bool)
    for _ in range(MOST_TRIANGLES):
        if len(going) == 0:
            break
        pair = pairs[going]
        corners = _seen(mesh.points[mesh.rows(pair, triangle)], pair)  # [G, 3, 4]
        crossed, place = _crossings(corners)
        ahead = place.clone()
        if not toward_second:
            ahead[..., 0] = place[..., 3] - place[..., 0]  # from here on x counts from the walk's own centre
        if came_by is None:
            way_out = _farther(crossed, ahead)
            is_lost = ~crossed.any(1) | _at(ahead[..., 0] < -REACH_PX * ahead[..., 3], way_out)
        else:
            others = torch.arange(3, device=came_by.device) != came_by[:, None]
            way_out = (crossed & others).int().argmax(1)
            is_lost = torch.zeros_like(way_out, dtype=torch.bool)
        at_goal = ~arrived & _at(ahead[..., 0] >= ahead[..., 3], way_out)
        is_beyond = _at(ahead[..., 0] >= (1 + REACH_PX) * ahead[..., 3], way_out)
        is_outline = _at(mesh.outlines(pair, triangle), way_out)
        twin = mesh.twins[triangle, way_out]

        end = torch.full_like(way_out, -1)
        end[is_outline] = OUTLINE
        end[~is_outline & (twin // 3 == goal[going])] = NEIGHBOUR
        is_beside = _common_edges(mesh, triangle, goal[going]).any(1)
        end[is_beyond] = GOAL
        end[at_goal & is_beside] = NEIGHBOUR
        end[is_lost] = LOST

        under_way, left_at = going[~arrived], _at(place[..., 0] / place[..., 3], way_out)
        walks.passed = _with_column(walks.passed, under_way, triangle[~arrived], -1)
        walks.left_at = _with_column(walks.left_at, under_way, left_at[~arrived], 0)
        arrived = arrived | at_goal
        ended = end >= 0
        walks.end[going[ended]] = end[ended]
        walks.outline[going[ended]] = (3 * triangle + way_out)[ended]
        walks.place[going[ended]] = _at(place, way_out)[ended]
        going, arrived = going[~ended], arrived[~ended]
        triangle, came_by = twin[~ended] // 3, twin[~ended] % 3
    return walks


def _crossings(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each edge of seen triangles [G, 3, 4] has an end on each side of y = 0, and the point [G, 3, 4]
    on it that lies there.
    """
    start, end = corners.roll(-1, 1), corners.roll(-2, 1)
    is_above = corners[..., 1] >= 0
    crossed = is_above.roll(-1, 1) != is_above.roll(-2, 1)
    start_weight, end_weight = end[..., 1].abs(), start[..., 1].abs()
    sum_of_both = start_weight + end_weight
    place = (start * start_weight[..., None] + end * end_weight[..., None]) / sum_of_both[..., None]
    return crossed, place


def _farther(crossed: Tensor, ahead: Tensor) -> Tensor:
    """Of two crossed edges [G] the one farther ahead: to the right when seen from the eye, at w <= 0 too."""
    one = crossed.int().argmax(1)
    two = 2 - crossed.flip(1).int().argmax(1)
    a, b = _at(ahead, one), _at(ahead, two)
    return torch.where(a[:, 3] * b[:, 0] > b[:, 3] * a[:, 0], two, one)


def _common_edges(mesh: _Mesh, one: Tensor, two: Tensor) -> Tensor:
    """[G, 3] bool: which edges of triangles `one` lead to triangles `two`."""
    twins = mesh.twins[one]
    return (twins >= 0) & (twins // 3 == two[:, None])


def _at(values: Tensor, k: Tensor) -> Tensor:
    """values[g, k[g]] of [G, 3, ...]."""
    return values[torch.arange(len(k), device=k.device), k]


def _with_column(table: Tensor, rows: Tensor, values: Tensor, empty: float) -> Tensor:
    column = table.new_full((len(table), 1), empty)
    column[rows, 0] = values
    return torch.cat((table, column), 1)


# What lies between ----------------------------------------------------------------------------------------


@dataclass
class _Plan:
    """What is taken from the pixels of each pair, as far as positions do not change it continuously."""

    pairs: _Pairs
    piece_pair: Tensor  # [K]
    piece_rows: Tensor  # [K, 2] of both ends in the points
    begin: Tensor  # [K] range of y
    end: Tensor
    tips: Tensor  # [P, 2] taken from the first and the second pixel where outlines were continued
    meeting_pair: Tensor  # [M]
    meeting_rows: Tensor  # [M, 2, 3] of both triangles' corners in the points


def _plan(mesh: _Mesh, pairs: _Pairs, intersections: bool) -> _Plan:
    first, second = pairs.triangles.unbind(1)
    from_first, from_second = _walk(mesh, pairs, True), _walk(mesh, pairs, False)

    is_joined = torch.zeros_like(pairs.vertical)
    for one, two in ((first, second), (second, first)):
        joining = _common_edges(mesh, one, two) & ~mesh.outlines(pairs, one)
        is_joined |= (one >= 0) & (two >= 0) & joining.any(1)
    is_apart = ~is_joined & (from_first.end != NEIGHBOUR) & (from_second.end != NEIGHBOUR)

    has_first, has_second = is_apart & (from_first.end == OUTLINE), is_apart & (from_second.end == OUTLINE)
    is_behind = _depth(from_second.place) < _depth(from_first.place)
    takes_first = has_first & ~(has_second & is_behind)
    outline = torch.where(takes_first, from_first.outline, from_second.outline)
    place = torch.where(takes_first[:, None], from_first.place, from_second.place)
    tips = mesh.points.new_zeros(len(pairs), 2)
    pieces = []
    with_outline = (has_first | has_second).nonzero()[:, 0]
    for direction in (1, -1):
        pieces += _follow(mesh, pairs, with_outline, outline, place[:, 0] / place[:, 3], direction, tips)
    pair, rows, begin, end = (torch.cat(parts) for parts in zip(*pieces, strict=True))

    may_meet = is_apart & (from_first.end == GOAL) & (from_second.end == GOAL)
    may_meet &= (mesh.tri[first][:, :, None] != mesh.tri[second][:, None, :]).all(2).all(1)
    meeting_pair = (may_meet & intersections).nonzero()[:, 0]
    met, triangles = _meet(mesh, pairs[meeting_pair], from_first[meeting_pair], from_second[meeting_pair])
    meeting_pair = meeting_pair[met]
    meeting = pairs[meeting_pair]
    meeting_rows = torch.stack([mesh.rows(meeting, triangles[met, k]) for k in range(2)], 1)
    return _Plan(pairs, pair, rows, begin, end, tips, meeting_pair, meeting_rows)


def _depth(seen: Tensor) -> Tensor:
    return seen[:, 2] / seen[:, 3]


# Outlines -------------------------------------------------------------------------------------------------


def _follow(
    mesh: _Mesh, pairs: _Pairs, going: Tensor, outline: Tensor, x0: Tensor, direction: int, tips: Tensor
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Follow half-edges `outline` of the pairs `going` from y = 0 to the end of the row, upward (1) or
    downward (-1).

    Returns steep pieces: pair, rows of both ends, y at the lower and the upper end; each [K]. Adds to `tips`
    [P, 2].
    """
    pieces = []
    triangle, edge = outline[going] // 3, outline[going] % 3
    head = (edge + 1) % 3  # which corner the outline leads to; the third one is where it comes from
    is_above = _corner(mesh, pairs, going, triangle, head)[:, 1] >= 0
    head = torch.where(is_above == (direction > 0), head, (edge + 2) % 3)
    begin = torch.zeros_like(x0[going])  # heights: y counted in the direction of going
    for count in range(1, MOST_EDGES + 1):
        tail = (3 - edge - head) % 3
        a, b = (_corner(mesh, pairs, going, triangle, corner) for corner in (tail, head))
        x, height = b[:, 0] / b[:, 3], direction * b[:, 1] / b[:, 3]
        leads_behind = b[:, 3] <= 0  # so it leads to infinity before
        end = torch.where(leads_behind, 0.5, height.clamp(max=0.5))
        taking = _is_steep(a, b, pairs.vertical[going]) & (end > begin)
        rows = mesh.rows(pairs[going], triangle)
        rows = torch.stack((_at(rows, tail), _at(rows, head)), 1)
        lower, upper = (begin, end) if direction > 0 else (-end, -begin)
        pieces.append((going[taking], rows[taking], lower[taking], upper[taking]))

        on = ~leads_behind & ~(height >= 0.5)
        going, triangle, edge, head, a, b, x, height = (
            v[on] for v in (going, triangle, edge, head, a, b, x, height)
        )
        if len(going) == 0:
            break
        triangle, edge, head, found = _next_outline(mesh, pairs[going], triangle, edge, head)
        c = _corner(mesh, pairs, going, triangle, head)
        came, goes = -_direction(b, a), _direction(b, c)
        on = found & (direction * goes[:, 1] > 0) & ((came * goes).sum(1) > 0)
        is_near = (x - x0[going]).abs() <= FARTHEST_PX
        on &= (count < MOST_EDGES) & is_near
        half_of_rest = torch.where(is_near, (0.5 - height) / 2, 0.0)[~on]
        tips[going[~on]] += torch.stack(
            (half_of_rest * (0.5 - x[~on]).clamp(0, 1), half_of_rest * (x[~on] - 0.5).clamp(0, 1)), 1
        )
        going, triangle, edge, head, begin = (v[on] for v in (going, triangle, edge, head, height))
    return pieces


def _corner(mesh: _Mesh, pairs: _Pairs, which: Tensor, triangle: Tensor, corner: Tensor) -> Tensor:
    """One corner of a triangle for each of some pairs, as these see it: [G, 4]."""
    pair = pairs[which]
    return _seen(mesh.points[_at(mesh.rows(pair, triangle), corner)], pair)


def _next_outline(
    mesh: _Mesh, pairs: _Pairs, triangle: Tensor, edge: Tensor, head: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Turn over the surface around the corner `head` of `triangle`, away from its outline `edge`.

    Returns the outline met first: triangle, edge, the corner it leads to, and whether there is one at all.
    """
    vertex = _at(mesh.tri[triangle], head)
    triangle, edge, found = triangle.clone(), edge.clone(), torch.zeros_like(head, dtype=torch.bool)
    turning = torch.arange(len(head), device=head.device)
    corner, came_by = head, edge
    t = triangle
    for _ in range(MOST_FAN):
        other = (3 - corner - came_by) % 3  # the triangle's other edge at this corner
        is_outline = _at(mesh.outlines(pairs[turning], t), other)
        done = turning[is_outline]
        triangle[done], edge[done], found[done] = t[is_outline], other[is_outline], True
        turning, twin = turning[~is_outline], mesh.twins[t, other][~is_outline]
        if len(turning) == 0:
            break
        t, came_by = twin // 3, twin % 3
        corner = (mesh.tri[t] == vertex[turning, None]).int().argmax(1)  # any, in a topology of another mesh
    corner = (mesh.tri[triangle] == vertex[:, None]).int().argmax(1)
    return triangle, edge, (3 - corner - edge) % 3, found


def _direction(a: Tensor, b: Tensor) -> Tensor:
    """In which direction a seen point a with w > 0 moves on the screen when it goes straight to b: [G, 2]."""
    return b[:, :2] * a[:, 3:] - a[:, :2] * b[:, 3:]


def _line(a: Tensor, b: Tensor) -> Tensor:
    """The line l_0 x + l_1 y + l_2 = 0 through two seen points [K, 4]: [K, 3]."""
    return torch.linalg.cross(a[:, [0, 1, 3]], b[:, [0, 1, 3]])


def _is_steep(a: Tensor, b: Tensor, vertical: Tensor) -> Tensor:
    dy, minus_dx, _ = _line(a, b).abs().unbind(1)
    return (dy > minus_dx) | ((dy == minus_dx) & ~vertical)


# Meetings -------------------------------------------------------------------------------------------------


def _meet(mesh: _Mesh, pairs: _Pairs, from_first: _Walks, from_second: _Walks) -> tuple[Tensor, Tensor]:
    """Where the surfaces that two walks pass have equal depth.

    Returns: whether they meet [P], and the triangles that do [P, 2].
    """
    last = [(walks.passed >= 0).sum(1) - 1 for walks in (from_first, from_second)]

    def difference(i: Tensor, j: Tensor) -> Tensor:
        """Coefficients [P, 3] of the depth of step i of the first walk minus that of step j of the second."""
        one, two = (_at(walks.passed, step) for walks, step in ((from_first, i), (from_second, j)))
        one, two = (_plane(_seen(mesh.points[mesh.rows(pairs, t)], pairs)) for t in (one, two))
        return one - two

    i, j = torch.zeros_like(last[0]), last[1].clone()
    at_first = difference(i, j)[:, 2]
    at_second = difference(last[0], torch.zeros_like(j))[:, [0, 2]].sum(1)
    meets = (at_first <= 0) & (at_second >= 0) & (at_second - at_first > LEAST_SLOPE)

    # From the first pixel on, to the stretch between two changes of triangles in which the sign changes.
    found = torch.zeros_like(meets)
    for _ in range(from_first.passed.shape[1] + from_second.passed.shape[1]):
        first_change = torch.where(i < last[0], _at(from_first.left_at, i), torch.inf)
        second_change = torch.where(j > 0, _at(from_second.left_at, (j - 1).clamp(min=0)), torch.inf)
        change = torch.minimum(first_change, second_change).clamp(max=1)
        slope, _, offset = difference(i, j).unbind(1)
        found |= slope * change + offset >= 0
        i = torch.where(~found & (first_change <= second_change) & (i < last[0]), i + 1, i)
        j = torch.where(~found & (first_change > second_change), j - 1, j)

    slope, across, _ = difference(i, j).unbind(1)
    is_steep = (slope > across.abs()) | ((slope == across.abs()) & ~pairs.vertical)
    triangles = torch.stack((_at(from_first.passed, i), _at(from_second.passed, j)), 1)
    return meets & found & (slope > LEAST_SLOPE) & is_steep, triangles


def _plane(corners: Tensor) -> Tensor:
    """Depth z/w = c_0 x + c_1 y + c_2 over the screen of the plane through seen corners [M, 3, 4]: [M, 3]."""
    points, z = corners[..., [0, 1, 3]], corners[..., 2]
    opposite = torch.linalg.cross(points.roll(-1, 1), points.roll(-2, 1))  # [M, 3, 3]
    determinant = (opposite[:, 0] * points[:, 0]).sum(1)
    return (opposite * z[..., None]).sum(1) / determinant[:, None]


# What is taken --------------------------------------------------------------------------------------------


def _taken(plan: _Plan, pieces: Tensor, meetings: Tensor) -> Tensor:
    """Areas [P, 2] taken from the first and from the second pixel of each pair.

    `pieces` [K, 2, 4] and `meetings` [M, 2, 3, 4] are the clip-space points of the plan's rows.
    """
    ends = _seen(pieces, plan.pairs[plan.piece_pair])
    line = _line(ends[:, 0], ends[:, 1])
    areas = plan.tips.index_add(0, plan.piece_pair, _area(line, plan.begin, plan.end))

    corners = _seen(meetings, plan.pairs[plan.meeting_pair])
    slope, _, offset = (_plane(corners[:, 0]) - _plane(corners[:, 1])).unbind(1)
    x = -offset / slope
    return areas.index_add(0, plan.meeting_pair, torch.stack((0.5 - x, x - 0.5), 1).clamp(min=0))


def _area(line: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Integrals of clamp(1/2 - x(y), 0, 1) and clamp(x(y) - 1/2, 0, 1) over y from begin to end: [K, 2]."""

    def x(y: Tensor) -> Tensor:
        return -(line[:, 1] * y + line[:, 2]) / line[:, 0]

    length = end - begin
    with torch.no_grad():
        smallest, largest = torch.minimum(x(begin), x(end)), torch.maximum(x(begin), x(end))
        rises = x(end) > x(begin)

    def left_of(bound: float) -> Tensor:
        """Length of the stretch of the range, at one of its ends, in which x is smaller."""
        share = ((bound - smallest) / (largest - smallest)).clamp(0, 1)
        return length * torch.where(largest > smallest, share, (smallest < bound).double())

    def mean(lower: Tensor, upper: Tensor) -> Tensor:
        """Mean x of the stretch between two such lengths."""
        middle = (lower + upper) / 2
        return x(torch.where(rises, begin + middle, end - middle))

    with torch.no_grad():
        far_left, left, near = left_of(-0.5), left_of(0.5), left_of(1.5)
    first = far_left + (left - far_left) * (0.5 - mean(far_left, left))
    second = (near - left) * (mean(left, near) - 0.5) + (length - near)
    return torch.stack((first, second), 1)


# Blend ----------------------------------------------------------------------------------------------------


def _blended(pixels: Tensor, pairs: _Pairs, taken: Tensor, upstream: Tensor | None = None) -> Tensor:
    """Pixels [n*H*W, C] after blending; channels of zero upstream, if one is given, are left out."""
    target, source = torch.cat((pairs.first, pairs.second)), torch.cat((pairs.second, pairs.first))
    taken = taken.T.reshape(-1)
    active = taken.detach() > 0
    target, source, taken = target[active], source[active], taken[active]
    total = taken.new_zeros(len(pixels)).index_add(0, target, taken)
    share = taken / torch.where(total > 1, total, 1.0)[target]
    difference = pixels[source] - pixels[target]
    if upstream is not None:
        difference = torch.where(upstream[target] != 0, difference, 0.0)
    return pixels.index_add(0, target, share[:, None] * difference)


class _Blend(torch.autograd.Function):
    """Backward is autograd's, over the channels that receive an upstream gradient."""

    @staticmethod
    def forward(ctx: Any, color: Tensor, pos: Tensor, plan: _Plan, boost: float) -> Tensor:
        ctx.save_for_backward(color, pos)
        ctx.plan, ctx.boost = plan, boost
        points = pos.reshape(-1, 4).double()
        taken = _taken(plan, points[plan.piece_rows], points[plan.meeting_rows])
        ctx.counts = taken.isfinite().all(1, keepdim=True)
        pixels = color.reshape(-1, color.shape[-1]).double()
        return (
            _blended(pixels, plan.pairs, torch.where(ctx.counts, taken, 0.0))
            .reshape(color.shape)
            .to(color.dtype)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_image: Tensor) -> tuple[Tensor | None, ...]:
        color, pos = ctx.saved_tensors
        plan: _Plan = ctx.plan
        upstream = d_image.reshape(-1, color.shape[-1]).double()
        pixels = color.detach().reshape(upstream.shape).double().requires_grad_()
        points = pos.detach().reshape(-1, 4).double()
        rows = plan.piece_rows, plan.meeting_rows
        moving = [points[listed].requires_grad_() for listed in rows]
        with torch.enable_grad():
            taken = torch.where(ctx.counts, _taken(plan, *moving), 0.0)
            image = _blended(pixels, plan.pairs, taken, upstream)
            d_pixels, *d_moving = torch.autograd.grad(image, (pixels, *moving), upstream)
        d_points = torch.zeros_like(points)
        for listed, d in zip(rows, d_moving, strict=True):
            is_finite = d.isfinite().flatten(1).all(1)
            d_points.index_add_(0, listed[is_finite].reshape(-1), d[is_finite].reshape(-1, 4))
        d_color = d_pixels.reshape(color.shape).to(color.dtype)
        return d_color, (d_points * ctx.boost).reshape(pos.shape).to(pos.dtype), None, None
