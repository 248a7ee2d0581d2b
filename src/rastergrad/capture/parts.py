# SPDX-License-Identifier: MIT
"""What a step of the fit is made of: milliseconds by part."""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.capture.config import Config
from rastergrad.capture.pictures import encoded
from rastergrad.capture.polish import PolishLoop
from rastergrad.capture.scene import Scene
from rastergrad.capture.state import State
from rastergrad.capture.team import Team
from rastergrad.scene.camera import project
from rastergrad.scene.harmonics import shading
from rastergrad.scene.laplacian import squares
from rastergrad.scene.large_steps import AdamUniform

REPEATS = 7


def now() -> float:
    """Seconds, with everything done that a GPU was asked for."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def step_parts_ms(scene: Scene, state: State, config: Config) -> dict[str, float]:
    """Milliseconds of each part of a polishing step, forward and backward together; medians of REPEATS.

    Each part's backward is run by itself, with the gradient that the parts after it give. What a step does
    for each of its frames is measured for one and multiplied.

    Returns:
        Times by part; what a whole step takes beyond their sum is "the rest": Python, and adding gradients.
    """
    stage = config.polish[-1]
    frame = 0
    frames = min(stage.frames, scene.frames)
    views = scene.views_of[frame] * frames
    views = views[: frames * min(stage.cameras, len(scene.views_of[frame]))]
    views = [views[k] for k in scene.same_size(views)[0]]
    level = scene.level(stage.head_px)
    target = scene.pictures.batch(views, level)
    size = (target.shape[1], target.shape[2])
    large = scene.large_steps(stage.smoothness)
    u = large.differential(state.offset[frame]).requires_grad_()
    texture = state.texture.clone().requires_grad_()
    light = state.light.clone().requires_grad_()
    template, tri = scene.template, scene.template.tri
    optimizers = [AdamUniform([u], 0.0), torch.optim.Adam([texture, light], lr=0.0, fused=True)]

    def once() -> dict[str, float]:
        spent: dict[str, float] = {}
        tape: list[tuple[str, list[Tensor], list[Tensor]]] = []

        def part(name: str, run: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> list[Tensor]:
            leaves = [x.detach().requires_grad_(x.is_floating_point()) for x in inputs]
            begun = now()
            outputs = list(run(*leaves))
            spent[name] = spent.get(name, 0.0) + now() - begun
            tape.append((name, list(inputs), outputs))
            lent[id(tape[-1][2])] = leaves
            return outputs

        lent: dict[int, list[Tensor]] = {}
        (offset,) = part("large steps", lambda x: (large.vertices(x),), u)
        (energy,) = part("bending", lambda x: (squares(scene.bend(x)),), offset)
        matrices = scene.clip_from_world[views]
        shape, pos = part(
            "projection",
            lambda x: (state.vertices(frame, x), project(matrices, state.vertices(frame, x))),
            offset,
        )
        (shade,) = part(
            "normals and light",
            lambda x, c: (shading(scene.normals(x), c)[None].repeat(len(views), 1, 1),),
            shape,
            light,
        )
        rast, rast_db = part("rasterize", lambda x: rg.rasterize(x, tri, size, db_grad=False), pos)
        uv, uv_da = part(
            "interpolate",
            lambda x: rg.interpolate(template.uv, x, template.uv_tri, rast_db.detach(), "all"),
            rast,
        )
        (albedo,) = part(
            "texture", lambda t, x: (rg.texture(t, x, uv_da.detach(), rast=rast.detach()),), texture, uv
        )
        (lit,) = part("interpolate", lambda s, x: (rg.interpolate(s, x, tri)[0],), shade, rast)
        covered = (rast[..., 3:] > 0).float()
        (color,) = part("shading", lambda a, b: (torch.cat([a * b, covered], dim=-1),), albedo, lit)
        (drawn,) = part(
            "antialias",
            lambda c, x: (rg.antialias(c, rast.detach(), x, tri, topology=scene.topology),),
            color,
            pos,
        )
        (loss,) = part(
            "loss",
            lambda x: (
                (encoded(x[..., :3]) - target[..., :3]).abs().mean()
                + (x[..., 3:] - target[..., 3:4]).abs().mean(),
            ),
            drawn,
        )
        gradients: dict[int, Tensor] = {id(loss): torch.ones_like(loss), id(energy): torch.ones_like(energy)}
        for name, inputs, outputs in reversed(tape):
            wanted = [(y, gradients[id(y)]) for y in outputs if id(y) in gradients and y.requires_grad]
            if not wanted:
                continue
            leaves = [x for x in lent[id(outputs)] if x.requires_grad]
            begun = now()
            got = torch.autograd.grad(
                [y for y, _ in wanted], leaves, [g for _, g in wanted], allow_unused=True
            )
            spent[name] += now() - begun
            by_leaf = dict(zip(map(id, leaves), got))
            for x, leaf in zip(inputs, lent[id(outputs)]):
                gradient = by_leaf.get(id(leaf))
                if gradient is not None:
                    gradients[id(x)] = gradients[id(x)] + gradient if id(x) in gradients else gradient
        begun = now()
        for p in (u, texture, light):
            p.grad = gradients[id(p)]
        for optimizer in optimizers:
            optimizer.step()
        spent["optimizers"] = now() - begun
        return spent

    runs = [once() for _ in range(REPEATS + 1)][1:]
    parts = {name: 1000 * median(run[name] for run in runs) for name in runs[0]}
    for name in ("large steps", "bending", "projection", "normals and light"):
        parts[name] *= frames
    loop = PolishLoop(scene, state, config, Team(scene.device.type, alone=True), 0, stage, None)
    loop.begin()
    times = []
    for number in range(REPEATS + 1):
        for view in loop.pictures(number)[0]:
            scene.pictures.batch([view], level)
        begun = now()
        loop.step(number)
        times.append(1000 * (now() - begun))
    parts["the rest"] = max(0.0, median(times[1:]) - sum(parts.values()))
    return parts
