# SPDX-License-Identifier: MIT
"""What the programs here share: a command line, cameras, two meshes, pictures."""

import argparse
import math
from pathlib import Path

import torch
from PIL import Image


def arguments(
    name: str, description: str, files: tuple[str, ...] = (), **sizes: tuple[int, int]
) -> argparse.Namespace:
    """`--out`, `--small`, options for files, and one for each of the sizes, given as (usual, small)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=Path("results/examples") / name, help="folder")
    parser.add_argument("--small", action="store_true", help="seconds in place of minutes")
    for key in files:
        parser.add_argument(f"--{key}", type=Path)
    for key, (usual, small) in sizes.items():
        parser.add_argument(
            f"--{key.replace('_', '-')}", type=int, help=f"{usual:,}, or {small:,} with --small"
        )
    chosen = parser.parse_args()
    for key, (usual, small) in sizes.items():
        if getattr(chosen, key) is None:
            setattr(chosen, key, small if chosen.small else usual)
    chosen.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    return chosen


# ---- cameras -----------------------------------------------------------------------------------------------


def perspective(fov_degrees: float = 45.0, near: float = 0.1, far: float = 100.0) -> torch.Tensor:
    """Clip space from a camera that looks along -z, [4, 4]."""
    s = 1 / math.tan(math.radians(fov_degrees) / 2)
    a, b = (far + near) / (near - far), 2 * far * near / (near - far)
    return torch.tensor([[s, 0, 0, 0], [0, s, 0, 0], [0, 0, a, b], [0, 0, -1, 0]], device="cuda")


def rotations(quaternions: torch.Tensor) -> torch.Tensor:
    """[n, 3, 3] of quaternions (w, x, y, z) of any length, [n, 4]."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def posed(turns: torch.Tensor, distance: float | torch.Tensor) -> torch.Tensor:
    """Camera from object, [n, 4, 4]: turned, then pushed away."""
    move = torch.eye(4, device="cuda").repeat(len(turns), 1, 1)
    move[:, :3, :3] = turns
    move[:, 2, 3] = -distance
    return move


def random_turns(n: int) -> torch.Tensor:
    return rotations(torch.randn(n, 4, device="cuda"))


def clip(clip_from_object: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """[n, V, 4] of [n, 4, 4] and [V, 3]."""
    homogeneous = torch.nn.functional.pad(points, (0, 1), value=1.0)
    return (homogeneous @ clip_from_object.transpose(-1, -2)).contiguous()


# ---- meshes ------------------------------------------------------------------------------------------------


def cube_sphere(cells: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A sphere of six grids: positions [V, 3], tri [T, 3], the place (s, t) in 0..1 on a face [V, 2], the
    face [V]. Grids share no vertices.
    """
    steps = torch.linspace(-1, 1, cells + 1, device="cuda")
    t, s = torch.meshgrid(steps, steps, indexing="ij")
    # Equal angles: cells of nearly equal size.
    a, b, one = (s * math.pi / 4).tan(), (t * math.pi / 4).tan(), torch.ones_like(s)
    faces = [(one, b, -a), (-one, b, a), (a, one, -b), (a, -one, b), (a, b, one), (-a, b, -one)]
    positions = torch.stack([torch.stack(f, -1) for f in faces]).reshape(6, -1, 3)
    positions = torch.nn.functional.normalize(positions, dim=-1)
    row, column = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
    first = (row * (cells + 1) + column).flatten()
    right, up = first + 1, first + cells + 1
    quads = torch.cat([torch.stack([first, right, up], 1), torch.stack([right, up + 1, up], 1)])
    each = (cells + 1) ** 2
    tri = torch.cat([quads + k * each for k in range(6)]).int().cuda()
    place = (torch.stack([s, t], -1).reshape(-1, 2) + 1) / 2
    face = torch.arange(6, device="cuda").repeat_interleave(each)
    return positions.reshape(-1, 3), tri, place.repeat(6, 1), face


def icosphere(level: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions [V, 3] and tri [T, 3] of an icosahedron whose faces were cut into four `level` times."""
    g = (1 + math.sqrt(5)) / 2
    points = [(-1, g, 0), (1, g, 0), (-1, -g, 0), (1, -g, 0), (0, -1, g), (0, 1, g), (0, -1, -g), (0, 1, -g)]
    points += [(g, 0, -1), (g, 0, 1), (-g, 0, -1), (-g, 0, 1)]
    tri = [(0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2)]
    tri += [(10, 7, 6), (7, 1, 8), (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5)]
    tri += [(2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1)]
    v, f = torch.nn.functional.normalize(torch.tensor(points), dim=1), torch.tensor(tri)
    for _ in range(level):
        edges = torch.cat([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]).sort(1).values
        unique, index = edges.unique(dim=0, return_inverse=True)
        middle = torch.nn.functional.normalize(v[unique].mean(1), dim=1)
        ab, bc, ca = (index + len(v)).view(3, -1)
        a, b, c = f.unbind(1)
        f = torch.cat([torch.stack(t, 1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
        v = torch.cat([v, middle])
    return v.cuda(), f.int().cuda()


# ---- pictures ----------------------------------------------------------------------------------------------


def save(path: Path, *images: torch.Tensor) -> None:
    """Images [H, W, 1 or 3] side by side; row 0 is the bottom row."""
    tallest = max(len(x) for x in images)
    row = []
    for image in images:
        larger = tallest // len(image)
        whole = image.detach().flip(0).expand(-1, -1, 3)
        row.append(whole.repeat_interleave(larger, 0).repeat_interleave(larger, 1))
    pixels = torch.cat(row, 1).clamp(0, 1).mul(255).round().byte()
    Image.fromarray(pixels.cpu().numpy()).save(path)


def psnr(got: torch.Tensor, want: torch.Tensor) -> float:
    """In dB, of values in 0..1."""
    return float(-10 * torch.log10((got - want).detach().square().mean()))


def curve(path: Path, label: str, **series: list[float]) -> None:
    """One line for each series, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3), layout="constrained")
    for name, values in series.items():
        axes.plot(values, label=name)
    axes.set(xlabel="iteration", ylabel=label, yscale="log")
    axes.legend()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
