# SPDX-License-Identifier: MIT
"""Ten scenes in random poses, each hard for visibility gradients in its own way.

Camera space is OpenGL's: the camera sits at the origin and looks along -z. Depth is -z, objects lie around
depth 4, and the frame is 4 units high there. All of it is float64 NumPy; `methods.py` hands it to the
library.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .surface import Array, Indices, Surface

FOCAL = 2.0  # x / depth = 1 / FOCAL is the right border of the frame
NEAR, FAR = 1.0, 10.0
DISTANCE = 4.0
SIZE = 48  # side of the image in px


@dataclass(frozen=True)
class Scene:
    """A coloured mesh in camera space. Vertices at one place share a position, whatever their colours."""

    name: str
    pose: int
    position: Array  # [P, 3], what gradients are taken by
    part: Indices  # [P] which of its bodies a position belongs to
    place: Indices  # [V] the position of each vertex
    tri: Indices  # [T, 3] vertices
    color: Array  # [V, 3]
    background: Array  # [3]

    def surface(self, size: int = SIZE) -> Surface:
        """What a camera of size x size pixels sees."""
        depth = -self.position[:, 2]
        x, y = ((FOCAL * self.position[:, k] / depth + 1) * size / 2 for k in (0, 1))
        return Surface(
            np.stack([x, y, 1 / depth], 1), self.place[self.tri], self.color[self.tri], self.background
        )

    def screen_gradient(self, d_position: Array, size: int = SIZE) -> Array:
        """dL/d(x, y, depth) with x and y in px, from dL/d(position): both [..., P, 3]."""
        depth = -self.position[:, 2]
        per_px = 2 * depth / (FOCAL * size)
        by_depth = (d_position[..., :2] * self.position[:, :2]).sum(-1) / depth - d_position[..., 2]
        return np.concatenate([d_position[..., :2] * per_px[:, None], by_depth[..., None]], -1)

    def position_gradient(self, d_screen: Array, size: int = SIZE) -> Array:
        """dL/d(position) from dL/d(x, y, depth): the inverse of `screen_gradient`."""
        depth = -self.position[:, 2]
        lateral = d_screen[..., :2] * (FOCAL * size / (2 * depth))[:, None]
        by_z = (lateral * self.position[:, :2]).sum(-1) / depth - d_screen[..., 2]
        return np.concatenate([lateral, by_z[..., None]], -1)

    def moved(self, generator: np.random.Generator) -> "Scene":
        """The same scene after a turn by 5 degrees and a shift of up to 1.4 px: what tracking has to undo."""
        axis = generator.standard_normal(3)
        turn = _rotation_about(axis, np.radians(5))
        centre = self.position.mean(0)
        shift = np.append(generator.uniform(-0.12, 0.12, 2), 0)
        return Scene(**{**vars(self), "position": (self.position - centre) @ turn.T + centre + shift})

    def affine_basis(self) -> Array:
        """[P, 4 bodies]: a constant and three coordinates on each body, for its twelve degrees of freedom."""
        columns = []
        for part in range(self.part.max() + 1):
            inside = (self.part == part)[:, None]
            body = self.position[self.part == part]
            unit = (self.position - body.mean(0)) / body.std()
            columns.append(np.concatenate([np.ones_like(unit[:, :1]), unit], 1) * inside)
        return np.concatenate(columns, 1)


def scene(name: str, pose: int) -> Scene:
    """The scene of that name, one of `NAMES`, in its n-th pose. The same arguments give the same scene."""
    generator = np.random.default_rng([pose, *name.encode()])
    return _posed(name, pose, generator, _BUILDERS[name](generator, pose))


def ball(levels: int, pose: int) -> Scene:
    """A sphere of 20 * 4^levels triangles, to see how gradients depend on the density of a mesh."""
    generator = np.random.default_rng([pose, levels])
    return _posed(f"ball{levels}", pose, generator, _ball(levels, generator))


def _posed(name: str, pose: int, generator: np.random.Generator, draft: "Draft") -> Scene:
    """Bodies put before the camera and joined into one mesh."""
    bodies, colors, tri_of_color = draft
    position = np.concatenate([b.position for b in bodies])
    drift = np.append(generator.uniform(-0.08, 0.08, 2), -DISTANCE)
    start = np.cumsum([0, *(len(b.position) for b in bodies)])
    corner = np.concatenate([b.tri + first for b, first in zip(bodies, start)])  # positions
    if tri_of_color is None:
        tri, place = corner, np.arange(len(position))
    else:
        tri = tri_of_color
        place = np.empty(len(colors), np.int64)
        place[tri] = corner
    return Scene(
        name=name,
        pose=pose,
        position=position + drift,
        part=np.repeat(np.arange(len(bodies)), [len(b.position) for b in bodies]),
        place=place,
        tri=tri,
        color=np.clip(colors, 0, 1),
        background=generator.uniform(0, 0.25, 3),
    )


# ---- the ten ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Body:
    """A mesh around the origin."""

    position: Array
    tri: Indices

    def under(self, matrix: Array, shift: tuple[float, float, float] | Array = (0, 0, 0)) -> "Body":
        return Body(self.position @ matrix.T + shift, self.tri)


# Bodies around (0, 0, 0), colours of the vertices, and triangles of the vertices where these are not the
# positions
Draft = tuple[list[Body], Array, Indices | None]


def _triangle(generator: np.random.Generator, pose: int) -> Draft:
    """One triangle, tilted in depth."""
    angle = generator.uniform(0, 2 * np.pi) + np.arange(3) * 2 * np.pi / 3 + generator.uniform(-0.5, 0.5, 3)
    corner = np.stack([1.5 * np.cos(angle), 1.5 * np.sin(angle), generator.uniform(-0.8, 0.8, 3)], 1)
    return [Body(corner, np.array([[0, 1, 2]]))], generator.uniform(0.2, 1, (3, 3)), None


def _sphere(generator: np.random.Generator, pose: int) -> Draft:
    """320 triangles: at the rim they are foreshortened to a fraction of a pixel."""
    return _ball(2, generator)


def _ball(levels: int, generator: np.random.Generator) -> Draft:
    body = icosphere(levels)
    return [body.under(1.3 * _rotation(generator))], _tint(body, generator), None


def _two_spheres(generator: np.random.Generator, pose: int) -> Draft:
    """A small sphere before a large one, so that silhouettes lie over surfaces."""
    body = icosphere(2)
    angle = generator.uniform(0, 2 * np.pi)
    x, y = 0.6 * np.cos(angle), 0.6 * np.sin(angle)
    far = body.under(1.25 * _rotation(generator), (-x, -y, -0.8))
    close = body.under(0.6 * _rotation(generator), (0.7 * x, 0.7 * y, 1.2))
    colors = [_tint(body, generator, (0.75, 0.6, 0.3)), _tint(body, generator, (0.3, 0.4, 0.8))]
    return [far, close], np.concatenate(colors), None


def _torus(generator: np.random.Generator, pose: int) -> Draft:
    """1024 triangles; hides itself, and its silhouettes end in the middle of the surface."""
    around, along = np.meshgrid(np.arange(32) / 32, np.arange(16) / 16, indexing="ij")
    around, along = 2 * np.pi * around.ravel(), 2 * np.pi * along.ravel()
    radius = 1 + 0.42 * np.cos(along)
    ring = Body(
        np.stack([radius * np.cos(around), radius * np.sin(around), 0.42 * np.sin(along)], 1),
        _quads(32, 16, wrapped=True),
    )
    return [ring.under(1.05 * _rotation(generator))], _tint(ring, generator), None


def _cloth(generator: np.random.Generator, pose: int) -> Draft:
    """An open wavy sheet: borders and folds."""
    side = np.linspace(-1, 1, 16)
    x, y = (axis.ravel() for axis in np.meshgrid(side, side, indexing="ij"))
    one, other = generator.uniform(0, 2 * np.pi, 2)
    height = 0.25 * np.sin(2.5 * x + one) + 0.25 * np.sin(2.2 * y + 1.5 * x + other)
    sheet = Body(np.stack([x, y, height], 1), _quads(16, 16, wrapped=False))
    turn = _rotation(generator)
    while abs(turn[2, 2]) < 0.35:  # seen from its edge, it would be a line
        turn = _rotation(generator)
    return [sheet.under(turn)], _tint(sheet, generator), None


def _subpixel(generator: np.random.Generator, pose: int) -> Draft:
    """A dented sphere of 5,120 or, in odd poses, 20,480 triangles, all of them smaller than a pixel."""
    body = icosphere(5 if pose % 2 else 4)
    dent = 1 + 0.04 * np.sin(4 * body.position @ generator.standard_normal(3) + 1)
    rough = Body(body.position * dent[:, None], body.tri)
    return [rough.under(1.3 * _rotation(generator))], _tint(rough, generator), None


def _thin(generator: np.random.Generator, pose: int) -> Draft:
    """24 bent, tapered ribbons 0.1 to 0.8 px wide and up to 29 px long: they slip between pixel centres."""
    positions, colors, tri = [], [], []
    for ribbon in range(24):
        angle = generator.uniform(0, np.pi)
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-along[1], along[0]])
        step = np.linspace(-1, 1, 5)[:, None]
        middle = generator.uniform(-0.5, 0.5, 2) + generator.uniform(0.5, 1.2) * along * step
        middle = middle + generator.uniform(-0.15, 0.15) * across * (1 - step**2)
        half = generator.uniform(0.15, 0.8) * (DISTANCE / SIZE) / 2 * (1 - 0.4 * (step + 1) / 2)
        z = generator.uniform(-0.8, 0.8) + 0.2 * step
        rails = [np.concatenate([middle + side * half * across, z], 1) for side in (-1, 1)]
        positions.append(np.stack(rails, 1).reshape(-1, 3))
        shade = generator.uniform(0.4, 1, 3) + 0.1 * step
        colors.append(np.repeat(shade, 2, 0))
        tri.append(_quads(5, 2, wrapped=False) + 10 * ribbon)
    position = _held_on_screen(np.concatenate(positions))
    return [Body(position, np.concatenate(tri))], np.concatenate(colors), None


def _boxes(generator: np.random.Generator, pose: int) -> Draft:
    """Two boxes that intersect: the lines between them are no edges of the mesh, and depth moves them."""
    one = cube().under(_rotation(generator) * [0.8, 0.5, 0.6])
    other = cube().under(_rotation(generator) * [0.45, 0.95, 0.45], generator.uniform(-0.2, 0.2, 3))
    colors = [_tint(cube(), generator, (0.8, 0.4, 0.3)), _tint(cube(), generator, (0.25, 0.5, 0.8))]
    return [one, other], np.concatenate(colors), None


def _soup(generator: np.random.Generator, pose: int) -> Draft:
    """100 unconnected triangles of all sizes that hide and pierce each other."""
    middle = generator.uniform(-1.1, 1.1, (100, 1, 3)) * [1, 1, 0.9]
    position = (middle + 0.28 * generator.standard_normal((100, 3, 3))).reshape(-1, 3)
    position[:, :2] = np.clip(position[:, :2], -1.45, 1.45)
    position[:, 2] = np.clip(position[:, 2], -2, 1.5)
    colors = np.repeat(generator.uniform(0.1, 1, (100, 3)), 3, 0) + generator.uniform(-0.1, 0.1, (300, 3))
    return [Body(_held_on_screen(position), np.arange(300).reshape(100, 3))], colors, None


def _cube_unshared(generator: np.random.Generator, pose: int) -> Draft:
    """A cube whose faces have vertices and colours of their own: 24 vertices at 8 places."""
    body = cube().under(0.85 * _rotation(generator))
    face = generator.uniform(0.2, 1, (6, 1, 3)) + generator.uniform(-0.1, 0.1, (6, 4, 3))
    tri = (4 * np.arange(6)[:, None, None] + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3)
    return [body], face.reshape(-1, 3), tri


_BUILDERS: dict[str, Callable[[np.random.Generator, int], Draft]] = {
    "triangle": _triangle,
    "sphere": _sphere,
    "two_spheres": _two_spheres,
    "torus": _torus,
    "cloth": _cloth,
    "subpixel": _subpixel,
    "thin": _thin,
    "boxes": _boxes,
    "soup": _soup,
    "cube_unshared": _cube_unshared,
}
NAMES = tuple(_BUILDERS)
CLOSED = ("sphere", "two_spheres", "torus", "subpixel", "boxes", "cube_unshared")


# ---- bodies and colours -----------------------------------------------------------------------------------


def icosphere(levels: int) -> Body:
    """A unit sphere of 20 * 4^levels triangles, anticlockwise from outside: a divided icosahedron."""
    golden = (1 + 5**0.5) / 2
    rectangle = np.array([[0, s, t * golden] for s in (-1, 1) for t in (-1, 1)])
    position = np.concatenate([np.roll(rectangle, k, 1) for k in range(3)])
    position /= np.linalg.norm(position[0])
    # Neighbours are the closest places; each face is three of them, turned outwards.
    close = np.linalg.norm(position[:, None] - position, axis=-1) < 1.1
    tri = np.array(
        [
            (i, j, k) if np.linalg.det(position[[i, j, k]]) > 0 else (i, k, j)
            for i in range(12)
            for j in range(i + 1, 12)
            for k in range(j + 1, 12)
            if close[i, j] and close[j, k] and close[i, k]
        ]
    )
    for _ in range(levels):
        sides = np.sort(tri[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1)
        ends, side = np.unique(sides, axis=0, return_inverse=True)
        ab, bc, ca = (side.reshape(-1, 3) + len(position)).T
        a, b, c = tri.T
        middle = position[ends].sum(1)
        position = np.concatenate([position, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
        quarters = [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
        tri = np.concatenate([np.stack(quarter, 1) for quarter in quarters])
    return Body(position, tri)


def cube() -> Body:
    """The cube [-1, 1]^3 of 12 triangles, anticlockwise from outside, two after each other for a face."""
    position = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
    faces = np.array([[4, 6, 7, 5], [0, 1, 3, 2], [2, 3, 7, 6], [0, 4, 5, 1], [1, 5, 7, 3], [0, 2, 6, 4]])
    return Body(position, faces[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3))


def _quads(rows: int, columns: int, *, wrapped: bool) -> Indices:
    """Two triangles for each cell of a grid of vertices; `wrapped` joins the last to the first."""
    row, column = np.meshgrid(
        np.arange(rows if wrapped else rows - 1),
        np.arange(columns if wrapped else columns - 1),
        indexing="ij",
    )
    row, column = row.ravel(), column.ravel()
    below, right = (row + 1) % rows, (column + 1) % columns
    a, b = row * columns + column, below * columns + column
    c, d = below * columns + right, row * columns + right
    return np.stack([np.stack([a, b, c], 1), np.stack([a, c, d], 1)], 1).reshape(-1, 3)


def _rotation(generator: np.random.Generator) -> Array:
    """A rotation, uniform over all."""
    q, r = np.linalg.qr(generator.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def _rotation_about(axis: Array, angle_rad: float) -> Array:
    """Rodrigues' rotation."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle_rad) * cross + (1 - np.cos(angle_rad)) * cross @ cross


def _tint(
    body: Body, generator: np.random.Generator, base: tuple[float, float, float] | None = None
) -> Array:
    """Colours that vary smoothly over a body by 0.25 around a base colour."""
    direction, phase = generator.normal(0, 1.2, (3, 3)), generator.uniform(0, 2 * np.pi, 3)
    middle = generator.uniform(0.35, 0.75, 3) if base is None else np.array(base)
    return np.clip(middle + 0.25 * np.sin(body.position @ direction.T + phase), 0.05, 1)


def _held_on_screen(position: Array) -> Array:
    """Scale x and y by depth, so that they name places on the screen."""
    return np.concatenate([position[:, :2] * (1 - position[:, 2:] / DISTANCE), position[:, 2:]], 1)
