# SPDX-License-Identifier: MIT
"""Which implementation computes an operation."""

import torch

from . import check, gpu

BACKENDS = ("cpu", "cuda", "opengl", "reference")


def resolve(function: str, backend: str | None, device: torch.device, *, draws: bool = False) -> str:
    """The backend's name. None chooses by device; devices without kernels of their own use the reference in
    plain PyTorch.

    OpenGL rasterises (`draws`) and does nothing else: to the other primitives it means what None means, so
    that one word may be passed to all four.
    """
    kind = device.type
    if backend == "opengl" and not draws:
        backend = None
    if backend is None:
        if gpu.runs_on(device):
            return "cuda"
        if kind == "cpu":
            return "cpu"
    if kind == "mps":
        raise ValueError(
            f"{function}: tensors on {device} cannot be used: there are no kernels for it yet, and the "
            "reference needs float64, which it lacks. Move them with `.cpu()`: the CPU kernels are quick."
        )
    if kind == "meta":
        raise ValueError(
            f"{function}: tensors on the meta device hold no numbers to compute with. Create them on the CPU."
        )
    if backend is None:
        return "reference"
    check.choice(function, "backend", backend, BACKENDS)
    if backend == "opengl":
        return backend
    if backend == "cpu" and kind != "cpu":
        raise ValueError(
            f'{function}: backend="cpu" takes tensors on the CPU; got {device}. '
            "Move them with `.cpu()`, or leave `backend` away to choose by device."
        )
    if backend == "cuda" and not gpu.runs_on(device):
        raise ValueError(
            f'{function}: backend="cuda" takes tensors on an NVIDIA GPU; got {device}. '
            "Move them with `.cuda()`, or leave `backend` away to choose by device."
        )
    return backend
