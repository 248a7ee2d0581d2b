# SPDX-License-Identifier: MIT
"""What this installation can do, and whether it computes what it should."""

import itertools
import os
import platform
import sys
from collections.abc import Callable
from importlib import metadata

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.core import cubins, egl, native, nvrtc, opengl

EXTRAS = {
    "demo": ("trimesh", "pillow", "matplotlib", "tqdm", "OpenEXR"),
    "capture": ("anny", "cholespy", "imageio-ffmpeg", "opencv-python-headless", "scipy", "tomli-w", "viser"),
    "colmap": ("pycolmap",),
}
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
    opengl_lines, drawn = _opengl()
    lines += [*_gpu(), *opengl_lines]
    faults = []
    # Kernels of the CPU, and of each GPU; what OpenGL does.
    places = [("cpu", "cpu"), *(("cuda", f"cuda:{k}") for k in range(_gpu_count()))]
    runs = list(itertools.product(places, CHECKS.items()))
    runs += [(("opengl", place), ("rasterize", _rasterize)) for place in drawn]
    for (backend, device), (name, run) in runs:
        where = ("" if device == "cpu" else f" on {device}") + (" with OpenGL" if backend == "opengl" else "")
        try:
            error = _difference(run(backend, device), run("reference", "cpu"))
            verdict = f"within {error:.0e} of the reference" if error < TOLERANCE else f"WRONG by {error:.0e}"
        except Exception as failure:  # whatever goes wrong is what this command is to report
            error, verdict = float("inf"), f"FAILED: {type(failure).__name__}: {failure}"
        if not error < TOLERANCE:
            faults.append(f"{name}{where}")
        lines.append(f"check {name}{where}: values and gradients {verdict}")
    lines.append(f"doctor: {', '.join(faults)} at fault" if faults else "doctor: all is well")
    return lines, not faults


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gpu_count() -> int:
    return torch.cuda.device_count() if torch.version.hip is None else 0


def _gpu() -> list[str]:
    """What GPU kernels need, and what to do about what is missing."""
    if torch.version.cuda is None:
        built = "for AMD GPUs" if torch.version.hip else "without CUDA"
        lines = [
            f"GPU: torch is built {built}; for NVIDIA GPUs install another build (pytorch.org/get-started)"
        ]
    elif _gpu_count() == 0:
        lines = [f"GPU: torch (for CUDA {torch.version.cuda}) sees none; {_driver()}"]
    else:
        lines = [f"GPU driver: {_driver()}"]
        for k in range(_gpu_count()):
            p = torch.cuda.get_device_properties(k)
            size = f"{p.total_memory / 2**30:.0f} GiB"
            lines.append(f"GPU cuda:{k}: {p.name}, compute capability {p.major}.{p.minor}, {size}")
    try:
        found = nvrtc.compiler()
        lines.append(f"NVRTC: {'.'.join(map(str, found.version))} ({found.path})")
    except RuntimeError as failure:
        lines.append(f"NVRTC: {str(failure).removeprefix('rastergrad: ')}")
    return [*lines, _programs()]


def _driver() -> str:
    try:
        version = native.gpu_driver_version()
    except RuntimeError as failure:
        return f"{failure}: install NVIDIA's driver, or, in a container, start it with access to the GPU"
    return f"the driver is for CUDA up to {version // 1000}.{version % 1000 // 10}"


def _programs() -> str:
    """Compiled kernels on disk."""
    place = cubins.folder()
    if place is None:
        return "compiled kernels: kept nowhere, for there is no home; set RASTERGRAD_CACHE_DIR"
    sizes = [p.stat().st_size for p in place.glob("*.cubin")]
    remedy = ""
    nearest = next(p for p in (place, *place.parents) if p.exists())
    if not os.access(nearest, os.W_OK):
        remedy = (
            "; not writable, so each process compiles anew: let RASTERGRAD_CACHE_DIR name a folder that is"
        )
    return f"compiled kernels: {len(sizes)} in {place}, {sum(sizes) / 2**20:.1f} MiB{remedy}"


def _opengl() -> tuple[list[str], list[str]]:
    """What `backend="opengl"` would draw with, or why not and what to do about it; for tensors on which
    devices it draws.
    """
    lines, places = [], []
    try:
        if sys.platform.startswith("linux"):
            lines = [f"OpenGL: {device}" for device in egl.devices()]
        for place in ["cpu", *(f"cuda:{k}" for k in range(_gpu_count()))]:
            with opengl.context(torch.device(place)) as context:
                found = f"{context.renderer}, {context.version}"
            lines.append(f"OpenGL for tensors on {place}: {context.device}, {found}")
            places.append(place)
    except RuntimeError as failure:
        said = str(failure).removeprefix("rastergrad: ").removeprefix("OpenGL: ")
        lines.append(f"OpenGL{'' if places == [] else ' for other tensors'}: none; {said}")
    return lines, places


def _difference(left: list[Tensor], right: list[Tensor]) -> float:
    """The largest difference, relative to the largest value of each tensor."""
    errors = [(a.cpu() - b).abs().max() / b.abs().max().clamp_min(1e-30) for a, b in zip(left, right)]
    return float(torch.stack(errors).nan_to_num(nan=torch.inf).max())


def _scene(device: str) -> tuple[Tensor, Tensor]:
    """Two triangles that overlap, one in perspective: positions [1, 5, 4] and indices [2, 3]."""
    corners = [[-0.8, -0.7, 0, 1], [0.9, -0.6, 0.1, 1.2], [-0.1, 0.8, 0.2, 1], [0.7, 0.9, -0.3, 0.8]]
    pos = torch.tensor([[*corners, [-0.9, 0.3, 0.4, 1]]], device=device, requires_grad=True)
    return pos, torch.tensor([[0, 1, 2], [1, 3, 4]], dtype=torch.int32, device=device)


def _results(output: Tensor, *inputs: Tensor) -> list[Tensor]:
    """The output and the gradients of a loss that weights every element differently."""
    weights = torch.linspace(-1, 1, output.numel(), device=output.device).reshape(output.shape)
    return [output.detach(), *torch.autograd.grad((output * weights).sum(), inputs)]


def _rasterize(backend: str, device: str) -> list[Tensor]:
    pos, tri = _scene(device)
    return _results(rg.rasterize(pos, tri, (24, 32), backend=backend)[0], pos)


def _interpolate(backend: str, device: str) -> list[Tensor]:
    pos, tri = _scene(device)
    rast = rg.rasterize(pos.detach(), tri, (24, 32), backend="reference")[0].requires_grad_()
    attr = torch.linspace(0, 1, 15, device=device).reshape(5, 3).sin().requires_grad_()
    return _results(rg.interpolate(attr, rast, tri, backend=backend)[0], attr, rast)


def _texture(backend: str, device: str) -> list[Tensor]:
    tex = torch.linspace(0, 40, 8 * 8 * 3, device=device).reshape(1, 8, 8, 3).sin().requires_grad_()
    turn = torch.linspace(0, 2, 24 * 32 * 2, device=device).reshape(1, 24, 32, 2)
    uv = (turn * 1.7).cos().requires_grad_()
    uv_da = torch.cat([turn.sin(), 0.3 * turn.cos()], dim=-1) / 5
    return _results(rg.texture(tex, uv, uv_da, backend=backend), tex, uv)


def _antialias(backend: str, device: str) -> list[Tensor]:
    pos, tri = _scene(device)
    rast = rg.rasterize(pos.detach(), tri, (24, 32), backend="reference")[0]
    color = torch.cat([rast[..., :2], rast[..., 3:] / 2], dim=-1).requires_grad_()
    return _results(rg.antialias(color, rast, pos, tri, backend=backend), color, pos)


CHECKS: dict[str, Callable[[str, str], list[Tensor]]] = {
    "rasterize": _rasterize,
    "interpolate": _interpolate,
    "texture": _texture,
    "antialias": _antialias,
}
