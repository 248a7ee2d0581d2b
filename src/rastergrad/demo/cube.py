# SPDX-License-Identifier: MIT
"""The cube experiment of Laine et al. 2020 (section 4.1, figures 4 and 5).

A cube's vertex positions and colours are recovered from images of 4 x 4 to 16 x 16 pixels: at each iteration
the true and the estimated cube are drawn from one random view, and Adam follows the gradient of their squared
difference. Only antialiasing lets so few pixels say where an edge lies; 2 x 2 pixels are too few.

Independent repeats run as one minibatch. Their loss is the sum of per-image means and Adam works on each
number by itself, so a repeat takes the very steps that it would take alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.scene.camera import perspective, project, translation

LEARNING_RATE = 1e-2
HALF_SIDE = 0.5
POSITION_NOISE = 0.5  # starting positions: truth + U(-0.5, 0.5); starting colours: U(0, 1)
TRANSLATION = 0.25
DISTANCE = 3.5
VIEW_WINDOW = 0.4  # half size of the image plane at distance 1
# A start is 0.48 off on average. At 4 x 4, by either method, stuck ones end above 0.155, others below 0.135.
CONVERGED = 0.15
COLORINGS = ("continuous", "discontinuous")
VIEW_BLOCK = 250  # views drawn at a time; part of what a seed means
CURVE_POINTS = 200


@dataclass(frozen=True)
class Cube:
    """A cube around the origin and its colours, which have an index buffer of their own."""

    positions: Tensor  # [8, 3]
    tri: Tensor  # [12, 3]
    colors: Tensor  # [8, 3] shared by faces that meet, or [24, 3], four for each face
    color_tri: Tensor  # [12, 3]


@dataclass
class Fit:
    """What a fit leaves behind: curves and shapes of its repeats."""

    coloring: str
    resolution: int
    iterations: list[int] = field(default_factory=list)  # where the curves have points; 1 = the first step
    loss: list[list[float]] = field(default_factory=list)  # [points][repeats], before the step
    distance: list[list[float]] = field(default_factory=list)  # [points][repeats], after the step
    start: list[float] = field(default_factory=list)  # [repeats]
    shapes: dict[int, tuple[Tensor, Tensor]] = field(
        default_factory=dict
    )  # after n steps: positions, colours

    @property
    def final(self) -> Tensor:
        """Mean vertex distance at the end, [repeats]."""
        return torch.tensor(self.distance[-1])

    @property
    def converged(self) -> Tensor:
        """Which repeats ended below CONVERGED, [repeats] bool."""
        return self.final < CONVERGED


def true_cube(coloring: str) -> Cube:
    """The cube to be found; vertex x + 2 y + 4 z lies toward (x, y, z), with 0 for minus and 1 for plus."""
    bits = torch.tensor([[v & 1, v >> 1 & 1, v >> 2 & 1] for v in range(8)], dtype=torch.float32)
    # Counter-clockwise seen from outside, in the order -x, +x, -y, +y, -z, +z.
    quads = torch.tensor([[0, 4, 6, 2], [1, 3, 7, 5], [0, 1, 5, 4], [2, 6, 7, 3], [0, 2, 3, 1], [4, 5, 7, 6]])
    halves = torch.tensor([[0, 1, 2], [0, 2, 3]])
    tri = quads[:, halves].reshape(12, 3).int()
    positions = HALF_SIDE * (2 * bits - 1)
    if coloring == "continuous":
        return Cube(positions, tri, bits, tri)
    if coloring != "discontinuous":
        raise ValueError(f"true_cube: `coloring` must be one of {', '.join(COLORINGS)}; got {coloring!r}.")
    faces = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]]).float()
    color_tri = (4 * torch.arange(6)[:, None, None] + halves).reshape(12, 3).int()
    return Cube(positions, tri, faces.repeat_interleave(4, dim=0), color_tri)


def random_views(generator: torch.Generator, count: int) -> Tensor:
    """Matrices of random rotations and translations in front of the camera.

    Returns:
        clip_from_object, [count, 4, 4] float64.
    """
    rows = torch.randn(count, 3, 3, dtype=torch.float64, generator=generator)
    first = rows[:, 0]
    second = torch.linalg.cross(first, rows[:, 2])
    turn = torch.stack([first, second, torch.linalg.cross(first, second)], dim=1)
    moved = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    moved[:, :3, :3] = torch.nn.functional.normalize(turn, dim=-1)
    unit = torch.rand(count, 3, dtype=torch.float64, generator=generator)
    moved[:, :3, 3] = TRANSLATION * (2 * unit - 1)
    clip_from_cam = perspective(VIEW_WINDOW, VIEW_WINDOW)
    return clip_from_cam @ translation(0, 0, -DISTANCE) @ moved


def draw(
    cube: Cube,
    positions: Tensor,
    colors: Tensor,
    clip_from_object: Tensor,
    resolution: int,
    backend: str | None = None,
    *,
    method: str = "outline",
) -> Tensor:
    """Images of cubes with the triangles of `cube`.

    Args:
        positions: [n, 8, 3].  colors: [n, 8 or 24, 3].  clip_from_object: [n, 4, 4].
        method: of `antialias`.
    Returns:
        [n, resolution, resolution, 3], black behind the cube.
    Gradients:
        to `positions` by visibility (antialias) and by shading (interpolate, rasterize); to `colors`.
    """
    pos = project(clip_from_object, positions)
    size = (resolution, resolution)
    rast, _ = rg.rasterize(pos, cube.tri, size, db_grad=False, depth_grad=False, backend=backend)
    color, _ = rg.interpolate(colors, rast, cube.color_tri, backend=backend)
    return rg.antialias(color, rast, pos, cube.tri, method=method, backend=backend)


def learning_rate(step: int) -> float:
    """Adam's rate at step 0, 1, ...: a factor of ten less every 2,000 steps, to a hundredth at most."""
    return LEARNING_RATE * max(0.01, 10 ** (-0.0005 * step))


def curve_points(iterations: int) -> list[int]:
    """Iterations 1 to `iterations` at even logarithmic distances, both ends included."""
    points = torch.logspace(0, torch.log10(torch.tensor(float(iterations))).item(), CURVE_POINTS)
    return sorted({int(p) for p in points.round().clamp(1, iterations)} | {iterations})


def fit(
    coloring: str,
    resolution: int,
    iterations: int,
    seeds: Sequence[int],
    *,
    method: str = "outline",
    backend: str | None = None,
    keep: Sequence[int] = (),
    progress: Callable[[int, Tensor], None] | None = None,
) -> Fit:
    """Recover the cube once for each seed.

    Args:
        coloring: "continuous" or "discontinuous".  resolution: side of the images in pixels.
        seeds: one for each repeat; it decides on the start and on all views of this repeat.
        method: of `antialias`, by which both the targets and the estimates are drawn.
        keep: numbers of steps after which positions and colours are kept.
        progress: called after each step with its number and the vertex distances [repeats] of the last point.
    Cost:
        About 1 ms a step for 16 repeats of 16 x 16 pixels.
    """
    cube = true_cube(coloring)
    repeats = len(seeds)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    starts = [_start(cube, generator) for generator in generators]
    positions, colors = (torch.stack(values).requires_grad_() for values in zip(*starts))
    true_positions = cube.positions.expand(repeats, -1, -1)
    true_colors = cube.colors.expand(repeats, -1, -1)

    def distance() -> Tensor:
        return (positions.detach() - true_positions).norm(dim=-1).mean(-1)

    result = Fit(coloring, resolution, start=distance().tolist())
    points, kept = set(curve_points(iterations)), set(keep)
    last = distance()
    if 0 in kept:
        result.shapes[0] = (positions.detach().clone(), colors.detach().clone())
    views = torch.empty(0)
    optimizer = torch.optim.Adam([positions, colors], lr=LEARNING_RATE)
    for step in range(iterations):
        if step % VIEW_BLOCK == 0:
            views = torch.stack([random_views(g, VIEW_BLOCK) for g in generators], dim=1).float()
        clip_from_object = views[step % VIEW_BLOCK]
        with torch.no_grad():
            target = draw(
                cube, true_positions, true_colors, clip_from_object, resolution, backend, method=method
            )
        estimate = draw(cube, positions, colors, clip_from_object, resolution, backend, method=method)
        loss = ((estimate - target) ** 2).mean(dim=(1, 2, 3))
        optimizer.param_groups[0]["lr"] = learning_rate(step)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        if step + 1 in points:
            last = distance()
            result.iterations.append(step + 1)
            result.loss.append(loss.tolist())
            result.distance.append(last.tolist())
        if step + 1 in kept:
            result.shapes[step + 1] = (positions.detach().clone(), colors.detach().clone())
        if progress:
            progress(step + 1, last)
    return result


def _start(cube: Cube, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy positions and random colours of one repeat."""
    noise = 2 * torch.rand(cube.positions.shape, generator=generator) - 1
    return cube.positions + POSITION_NOISE * noise, torch.rand(cube.colors.shape, generator=generator)
