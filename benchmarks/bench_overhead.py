# SPDX-License-Identifier: MIT
"""What surrounds the kernels: time of an operation on an image of 8 x 8 pixels less that of its kernels.

Beside it an autograd Function of torch's that only allocates: the least that an operation written in Python
costs here, since torch's part of it is in both.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.core import native
from testing.closeness import assert_gradients_close, assert_values_close

from .rows import Row, once
from .scene import sphere

SIDE = 8
CALLS = 100
FORWARD_MS, BOTH_MS = 0.006, 0.025
BARE_MS = 0.0197  # the Function that does nothing, where these targets were set


def groups(size: int) -> Iterator[list[Row]]:
    scene = sphere(8, SIDE)
    tri, topology = scene.tri, rg.edge_topology(scene.tri)
    pos, uv, rast = (t.clone().requires_grad_() for t in (scene.pos, scene.uv, scene.rast))
    tex, coordinates, color = (
        torch.rand(1, SIDE, SIDE, n, generator=torch.Generator().manual_seed(n)).requires_grad_()
        for n in (3, 2, 4)
    )
    yield [
        row
        for name, run, leaf in (
            ("rasterize", lambda backend=None: rg.rasterize(pos, tri, (SIDE, SIDE), backend=backend)[0], pos),
            ("interpolate", lambda backend=None: rg.interpolate(uv, rast, tri, backend=backend)[0], uv),
            ("texture", lambda backend=None: rg.texture(tex, coordinates, backend=backend), tex),
            (
                "antialias",
                lambda backend=None: rg.antialias(
                    color, scene.rast, pos, tri, topology=topology, backend=backend
                ),
                color,
            ),
        )
        for row in _rows(name, run, leaf)
    ]


class _Bare(torch.autograd.Function):
    """Saves its input, makes an output and a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.empty_like(x)


def _rows(name: str, run: Callable[..., Tensor], leaf: Tensor) -> list[Row]:
    upstream = torch.rand(run().shape, generator=torch.Generator().manual_seed(0))
    same = torch.rand_like(leaf)

    def forward() -> Tensor:
        with torch.no_grad():
            return run()

    def bare() -> Tensor:
        return torch.autograd.grad(_Bare.apply(leaf), leaf, same)[0]

    def both(backend: str | None = None) -> Tensor:
        return torch.autograd.grad(run(backend), leaf, upstream)[0]

    def check() -> None:
        assert_values_close(run().detach(), run("reference").detach(), dtype=torch.float32, what=name)
        assert_gradients_close(both(), both("reference"), dtype=torch.float32, what=f"gradient of {name}")

    check = once(check)
    return [
        Row(
            f"overhead of {name}, {what}",
            target,
            lambda call=call: beyond_kernels_ms(call),
            check,
            clocked=True,
            peer=None if peer is None else "a Function that does nothing",
            run_peer=peer,
            peer_target_ms=None if peer is None else BARE_MS,
        )
        for what, target, call, peer in (
            ("forward", FORWARD_MS, forward, None),
            ("forward and backward", BOTH_MS, both, bare),
        )
    ]


def beyond_kernels_ms(call: Callable[[], object], calls: int = CALLS) -> float:
    """Median time of a call less the median time that it spends in native code, in milliseconds."""
    whole = [_clocked_ns(call) for _ in range(calls)]
    inside: list[int] = []
    original = native.call

    def timed(kernel: int, /, *fields: Tensor | int | float | None) -> int:
        start = time.perf_counter_ns()
        answer = original(kernel, *fields)
        inside[-1] += time.perf_counter_ns() - start
        return answer

    native.call = timed
    try:
        for _ in range(calls):
            inside.append(0)
            call()
    finally:
        native.call = original
    return (statistics.median(whole) - statistics.median(inside)) / 1e6


def _clocked_ns(call: Callable[[], object]) -> int:
    start = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - start
