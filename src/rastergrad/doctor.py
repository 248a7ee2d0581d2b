# SPDX-License-Identifier: MIT
"""What this installation can do, and whether it computes what it should."""

import os
import platform
from collections.abc import Callable
from importlib import metadata

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.core import native

EXTRAS = {"demo": ("trimesh", "pillow", "matplotlib", "tqdm", "OpenEXR")}
# The native kernels compute in float32; a wrong formula is off by far more than this.
TOLERANCE = 1e-3


def examine() -> tuple[list[str], bool]:
    """The report, line by line, and whether all is well.

    Cost:
        A fraction of a second.
    """
    memory = {name: f"{size / 2**20:.0f}" for name, size in rg.memory_use().items()}
    lines = [
        f"rastergrad {rg.__version__}, Python {platform.python_version()}, torch {torch.__version__}",
        f"system: {platform.system()} on {platform.machine()}, {os.cpu_count()} processors",
        f"instruction set: {native.simd_level()} in use; usable here: {', '.join(native.simd_levels())} "
        "(RASTERGRAD_SIMD chooses)",
        f"threads: {native.threads()} (torch.set_num_threads chooses)",
        f"recycled memory: {memory['in_use']} MiB in use, {memory['idle']} of at most {memory['limit']} idle "
        "(RASTERGRAD_IDLE_MB chooses)",
    ]
    for extra, packages in EXTRAS.items():
        found = {package: _version(package) for package in packages}
        listed = ", ".join(f"{package} {version or 'missing'}" for package, version in found.items())
        remedy = "" if all(found.values()) else f"; install with: pip install 'rastergrad[{extra}]'"
        lines.append(f"extra {extra}: {listed}{remedy}")
    faults = []
    for name, run in CHECKS.items():
        try:
            error = _difference(run("cpu"), run("reference"))
            verdict = f"within {error:.0e} of the reference" if error < TOLERANCE else f"WRONG by {error:.0e}"
        except Exception as failure:  # whatever goes wrong is what this command is to report
            error, verdict = float("inf"), f"FAILED: {type(failure).__name__}: {failure}"
        if not error < TOLERANCE:
            faults.append(name)
        lines.append(f"check {name}: values and gradients {verdict}")
    lines.append(f"doctor: {', '.join(faults)} at fault" if faults else "doctor: all is well")
    return lines, not faults


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _difference(left: list[Tensor], right: list[Tensor]) -> float:
    """The largest difference, relative to the largest value of each tensor."""
    errors = [(a - b).abs().max() / b.abs().max().clamp_min(1e-30) for a, b in zip(left, right)]
    return float(torch.stack(errors).nan_to_num(nan=torch.inf).max())


def _scene() -> tuple[Tensor, Tensor]:
    """Two triangles that overlap, one in perspective: positions [1, 5, 4] and indices [2, 3]."""
    corners = [[-0.8, -0.7, 0, 1], [0.9, -0.6, 0.1, 1.2], [-0.1, 0.8, 0.2, 1], [0.7, 0.9, -0.3, 0.8]]
    pos = torch.tensor([[*corners, [-0.9, 0.3, 0.4, 1]]], requires_grad=True)
    return pos, torch.tensor([[0, 1, 2], [1, 3, 4]], dtype=torch.int32)


def _results(output: Tensor, *inputs: Tensor) -> list[Tensor]:
    """The output and the gradients of a loss that weights every element differently."""
    weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
    return [output.detach(), *torch.autograd.grad((output * weights).sum(), inputs)]


def _rasterize(backend: str) -> list[Tensor]:
    pos, tri = _scene()
    return _results(rg.rasterize(pos, tri, (24, 32), backend=backend)[0], pos)


def _interpolate(backend: str) -> list[Tensor]:
    pos, tri = _scene()
    rast = rg.rasterize(pos.detach(), tri, (24, 32), backend="reference")[0].requires_grad_()
    attr = torch.linspace(0, 1, 15).reshape(5, 3).sin().requires_grad_()
    return _results(rg.interpolate(attr, rast, tri, backend=backend)[0], attr, rast)


def _texture(backend: str) -> list[Tensor]:
    tex = torch.linspace(0, 40, 8 * 8 * 3).reshape(1, 8, 8, 3).sin().requires_grad_()
    turn = torch.linspace(0, 2, 24 * 32 * 2).reshape(1, 24, 32, 2)
    uv = (turn * 1.7).cos().requires_grad_()
    uv_da = torch.cat([turn.sin(), 0.3 * turn.cos()], dim=-1) / 5
    return _results(rg.texture(tex, uv, uv_da, backend=backend), tex, uv)


def _antialias(backend: str) -> list[Tensor]:
    pos, tri = _scene()
    rast = rg.rasterize(pos.detach(), tri, (24, 32), backend="reference")[0]
    color = torch.cat([rast[..., :2], rast[..., 3:] / 2], dim=-1).requires_grad_()
    return _results(rg.antialias(color, rast, pos, tri, backend=backend), color, pos)


CHECKS: dict[str, Callable[[str], list[Tensor]]] = {
    "rasterize": _rasterize,
    "interpolate": _interpolate,
    "texture": _texture,
    "antialias": _antialias,
}
