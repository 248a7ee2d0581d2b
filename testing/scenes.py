# SPDX-License-Identifier: MIT
"""Procedural scenes shared by tests and benchmarks: seeded, float32, torch only.

Transforms are named destination first, multiply column vectors, and follow OpenGL: the camera looks along -z,
a point is visible where |x|, |y|, |z| <= w, and row 0 of an image is y/w = -1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mesh:
    """A mesh in world space; triangles index positions and texture coordinates alike."""

    pos: Tensor  # [V, 3] float32
    tri: Tensor  # [T, 3] int32
    uv: Tensor  # [V, 2] float32

    def clip(self, clip_from_world: Tensor) -> Tensor:
        """Positions in clip space: [N, V, 4] for transforms [N, 4, 4], [V, 4] for one [4, 4]."""
        return transform(self.pos, clip_from_world)


def transform(pos: Tensor, destination_from_source: Tensor) -> Tensor:
    """[V, 3] points under [..., 4, 4] as homogeneous [..., V, 4]."""
    homogeneous = torch.nn.functional.pad(pos, (0, 1), value=1.0)
    return homogeneous @ destination_from_source.mT.to(pos.dtype)


# ------------------------------------------------------------------------------------------------ cameras


def perspective(fov_y_rad: float, aspect: float = 1.0, near: float = 0.1, far: float = 100.0) -> Tensor:
    """clip_from_view [4, 4] float32; `aspect` is width over height, distances count along -z."""
    f = 1 / math.tan(fov_y_rad / 2)
    depth = near - far
    rows = [
        [f / aspect, 0, 0, 0],
        [0, f, 0, 0],
        [0, 0, (far + near) / depth, 2 * far * near / depth],
        [0, 0, -1, 0],
    ]
    return torch.tensor(rows, dtype=torch.float32)


def look(
    eye: tuple[float, float, float],
    target: tuple[float, float, float] = (0.0, 0.0, 0.0),
    up: tuple[float, float, float] = (0.0, 1.0, 0.0),
) -> Tensor:
    """view_from_world [4, 4] float32 of a camera at `eye` that looks at `target`."""
    position, aim, upward = (torch.tensor(v, dtype=torch.float64) for v in (eye, target, up))
    back = torch.nn.functional.normalize(position - aim, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(upward, back), dim=0)
    view_from_world = torch.eye(4, dtype=torch.float64)
    view_from_world[:3, :3] = torch.stack([right, torch.linalg.cross(back, right), back])
    view_from_world[:3, 3] = -view_from_world[:3, :3] @ position
    return view_from_world.float()


def orbit(views: int, *, distance: float = 3.0, fov_y_rad: float = 0.7, aspect: float = 1.0) -> Tensor:
    """clip_from_world [views, 4, 4]: cameras around the y axis, from above, framing a unit sphere."""
    steps = [2 * math.pi * k / max(views, 1) + 0.3 for k in range(views)]
    eyes = [(distance * math.sin(a), 0.4 * distance, distance * math.cos(a)) for a in steps]
    if not eyes:
        return torch.zeros(0, 4, 4)
    return torch.stack([perspective(fov_y_rad, aspect) @ look(eye) for eye in eyes])


# ------------------------------------------------------------------------------------------------ meshes


def sphere(triangles: int, *, radius: float = 1.0, bumps: float = 0.0) -> Mesh:
    """A closed sphere of about `triangles` triangles (8 at least) on shared vertices.

    Longitude is mirrored, u = |longitude| / pi, so that uv is continuous without a seam. `bumps` raises the
    surface by that fraction of the radius in a fixed pattern, which makes folds appear on its silhouette.
    """
    rings = max(3, round(math.sqrt(max(triangles, 8)) / 2) + 1)  # rows of vertices, poles included
    segments = max(3, round(triangles / (2 * (rings - 2) + 2)))
    latitude = (
        torch.arange(1, rings, dtype=torch.float64) / rings - 0.5
    ) * math.pi  # [rings - 1], without poles
    longitude = torch.arange(segments, dtype=torch.float64) / segments * 2 * math.pi - math.pi
    lat, lon = torch.meshgrid(latitude, longitude, indexing="ij")
    lat = torch.cat([lat.flatten(), lat.new_tensor([-math.pi / 2, math.pi / 2])])
    lon = torch.cat([lon.flatten(), lon.new_zeros(2)])
    height = radius * (1 + bumps * (5 * lon).sin() * (4 * lat).sin() * lat.cos())
    pos = torch.stack([lat.cos() * lon.sin(), lat.sin(), lat.cos() * lon.cos()], 1) * height[:, None]
    uv = torch.stack([lon.abs() / math.pi, lat / math.pi + 0.5], 1)

    here = torch.arange(segments)
    beside = (here + 1) % segments
    south, north = (rings - 1) * segments, (rings - 1) * segments + 1
    row = torch.arange(rings - 2)[:, None] * segments
    a, b = (row + here).flatten(), (row + beside).flatten()
    c, d = a + segments, b + segments
    last = (rings - 2) * segments
    tri = torch.cat(
        [
            torch.stack([a, b, d], 1),
            torch.stack([a, d, c], 1),
            torch.stack([torch.full_like(here, south), beside, here], 1),
            torch.stack([torch.full_like(here, north), last + here, last + beside], 1),
        ]
    )
    return Mesh(pos.float(), tri.int(), uv.float())


def bust(triangles: int, *, seed: int = 0) -> Mesh:
    """A head-like closed surface of about `triangles` triangles within the unit sphere, as scans are: their
    sizes vary by a factor of some hundred, and neither triangles nor vertices lie in any order.
    """
    generator = torch.Generator().manual_seed(seed)
    ball = sphere(triangles)
    place = ball.pos.double()
    # Vertices gather where the face is (+z), as scanners resolve it more finely.
    place = torch.nn.functional.normalize(place + torch.tensor([0.0, -0.1, 0.55]).double(), dim=1)
    x, y, _ = place.unbind(1)
    radius = 0.78 + 0.12 * y - 0.1 * x.square()  # longer than wide
    # Nose, brows, eye sockets, chin, ears: (direction, width, height)
    features = [
        *(((0.0, -0.05, 1.0), 0.13, 0.16), ((0.0, 0.3, 0.95), 0.3, 0.05), ((0.0, -0.6, 0.8), 0.25, 0.08)),
        *(((0.3, 0.15, 0.94), 0.14, -0.07), ((-0.3, 0.15, 0.94), 0.14, -0.07)),
        *(((1.0, 0.05, -0.1), 0.12, 0.1), ((-1.0, 0.05, -0.1), 0.12, 0.1)),
    ]
    for direction, width, height in features:
        towards = torch.nn.functional.normalize(torch.tensor(direction).double(), dim=0)
        radius = radius + height * ((place @ towards - 1) / width**2).exp()
    for octave in range(2, 8):  # roughness of skin, hair and noise
        wave = torch.randn(3, generator=generator).double() * 2**octave
        phase = torch.rand(1, generator=generator).double() * 2 * math.pi
        radius = radius + 0.04 / 2**octave * (place @ wave + phase).sin()
    order = torch.randperm(len(place), generator=generator)  # new index -> old
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    tri = rank[ball.tri.long()][torch.randperm(len(ball.tri), generator=generator)]
    return Mesh((place * radius[:, None])[order].float(), tri.int(), ball.uv[order])


def cube(*, shared: bool = True, half: float = 1.0) -> Mesh:
    """A cube of 12 triangles, counter-clockwise from outside, on 8 shared vertices or on 4 per face."""
    corner = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]) * half
    faces = [[4, 6, 7, 5], [0, 1, 3, 2], [2, 3, 7, 6], [0, 4, 5, 1], [1, 5, 7, 3], [0, 2, 6, 4]]
    quad = torch.tensor(faces)  # +x -x +y -y +z -z
    if shared:
        uv = (corner[:, :2] / half + corner[:, 2:] / half * 0.3) / 2.6 + 0.5
    else:
        corner = corner[quad.flatten()]
        quad = torch.arange(24).reshape(6, 4)
        uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]).repeat(6, 1)
    tri = torch.cat([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
    return Mesh(corner, tri.int(), uv)


def grid(rows: int, columns: int, *, jitter: float = 0.0, seed: int = 0) -> Mesh:
    """A flat mesh over [-1, 1]^2 at z = 0, 2 rows columns triangles on shared vertices.

    Vertices move by up to `jitter` of a cell on each axis, those of the border only along it; below 0.25 no
    triangle turns over, as a corner is 1/sqrt(2) from the diagonal and each can move sqrt(2) jitter.
    """
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(rows + 1.0), torch.arange(columns + 1.0), indexing="ij")
    move = (torch.rand(2, rows + 1, columns + 1, generator=generator) * 2 - 1) * jitter
    x = x + move[0] * ((x > 0) & (x < columns))
    y = y + move[1] * ((y > 0) & (y < rows))
    uv = torch.stack([x / columns, y / rows], 2).reshape(-1, 2)
    pos = torch.cat([uv * 2 - 1, torch.zeros(len(uv), 1)], 1)
    a = (torch.arange(rows)[:, None] * (columns + 1) + torch.arange(columns)).flatten()
    b, c, d = a + 1, a + columns + 1, a + columns + 2
    # Diagonals alternate, so that vertices have from 4 to 8 neighbours
    turn = ((torch.arange(rows)[:, None] + torch.arange(columns)) % 2).flatten().bool()[:, None]
    first = torch.where(turn, torch.stack([a, b, c], 1), torch.stack([a, b, d], 1))
    second = torch.where(turn, torch.stack([b, d, c], 1), torch.stack([a, d, c], 1))
    return Mesh(pos, torch.cat([first, second]).int(), uv)


def soup(triangles: int, size: tuple[float, float] = (1e-3, 1.0), *, seed: int = 0) -> Mesh:
    """Unconnected triangles of random place in [-1, 1]^3 and random orientation: V = 3 T.

    `size` bounds their radius, drawn uniformly in its logarithm, so that a range of decades is met evenly.
    """
    generator = torch.Generator().manual_seed(seed)
    low, high = (math.log(s) for s in size)
    radius = (torch.rand(triangles, 1, 1, generator=generator) * (high - low) + low).exp()
    centre = torch.rand(triangles, 1, 3, generator=generator) * 2 - 1
    corner = torch.nn.functional.normalize(torch.randn(triangles, 3, 3, generator=generator), dim=2)
    pos = (centre + radius * corner).reshape(-1, 3)
    uv = torch.rand(3 * triangles, 2, generator=generator)
    return Mesh(pos, torch.arange(3 * triangles, dtype=torch.int32).reshape(-1, 3), uv)


# ------------------------------------------------------------------------------------------------ op inputs


def random_clip_mesh(
    seed: int, n: int, v: int, t: int, w_range: tuple[float, float] = (-0.3, 2.0)
) -> tuple[Tensor, Tensor]:
    """(pos [n, v, 4] float32, tri [t, 3] int32): vertices on and off screen, behind the camera where w < 0.

    Three quarters of the vertices with w > 0 lie inside the frustum, the others up to twice as far out.
    Triangles share vertices at random and have three different ones, if v allows it.
    """
    generator = torch.Generator().manual_seed(seed)
    w = torch.rand(n, v, 1, generator=generator) * (w_range[1] - w_range[0]) + w_range[0]
    xyz = torch.rand(n, v, 3, generator=generator) * 2 - 1
    out = torch.rand(n, v, 3, generator=generator) < 0.2
    pos = torch.cat([xyz * torch.where(out, 2.0, 1.0) * w.abs(), w], 2)
    if v < 3:
        return pos, torch.arange(3 * t, dtype=torch.int32).reshape(t, 3) % max(v, 1)
    # Two gaps, less than v together, from a first vertex around the ring of all
    first = torch.randint(0, v, (t,), generator=generator)
    gap = torch.randint(1, v - 1, (t,), generator=generator)
    rest = 1 + (torch.rand(t, generator=generator) * (v - gap - 1)).long()
    return pos, torch.stack([first, (first + gap) % v, (first + gap + rest) % v], 1).int()


def fragments(
    seed: int, n: int, height: int, width: int, triangles: int, *, empty: float = 0.2
) -> tuple[Tensor, Tensor]:
    """(rast, rast_db), both [n, height, width, 4]: a fragment buffer that no rasteriser has made.

    Ids change from pixel to pixel, a share `empty` of the pixels is background (all zero).
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (n, height, width)
    uv = torch.rand(*shape, 2, generator=generator)
    uv = torch.where(uv.sum(-1, keepdim=True) > 1, 1 - uv, uv)
    depth = torch.rand(*shape, 1, generator=generator) * 2 - 1
    index = torch.randint(0, max(triangles, 1), (*shape, 1), generator=generator)
    covered = (torch.rand(*shape, 1, generator=generator) >= empty) & (triangles > 0)
    rast = torch.cat([uv, depth, index.float() + 1], 3) * covered
    rast_db = torch.randn(*shape, 4, generator=generator) * 0.1 * covered
    return rast, rast_db


def texture_query(
    seed: int,
    n: int,
    height: int,
    width: int,
    *,
    cube: bool = False,
    texels_per_pixel: float = 1.5,
    side: int = 64,
) -> tuple[Tensor, Tensor]:
    """(uv, uv_da) of a smooth warp, as an image of a textured surface has it.

    uv [n, height, width, 2 or 3], and uv_da [n, height, width, 4 or 6] its exact derivatives per pixel, so
    that neighbouring pixels lie about `texels_per_pixel` texels apart on a texture of `side` texels.
    """
    generator = torch.Generator().manual_seed(seed)
    wide = 3 if cube else 2
    phase = torch.rand(n, 1, 1, wide, generator=generator) * 2 * math.pi
    turn = torch.rand(n, 1, 1, wide, generator=generator) * 2 * math.pi
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    x, y = x[None, :, :, None], y[None, :, :, None]
    step = texels_per_pixel / side * (2.0 if cube else 1.0)  # a cube face is two units wide
    along, wave = x * turn.cos() + y * turn.sin(), 0.05
    uv = phase.cos() + step * along + wave * (along * 0.2 + phase).sin()
    slope = step + wave * 0.2 * (along * 0.2 + phase).cos()
    uv_da = torch.stack([slope * turn.cos(), slope * turn.sin()], -1).expand(n, height, width, wide, 2)
    return uv.expand(n, height, width, wide).contiguous(), uv_da.flatten(3)
