# SPDX-License-Identifier: MIT
"""One frame: the motion of the head, then its vertices and what of the texture was not seen before."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rastergrad.capture.config import Config, Pose, Surface
from rastergrad.capture.loop import Loop, Report, adam, cut, turned
from rastergrad.capture.photometric import Look, blend, compare, landmark_error
from rastergrad.capture.scene import Scene
from rastergrad.capture.state import GREY, State
from rastergrad.capture.team import Team
from rastergrad.scene.laplacian import squares
from rastergrad.scene.large_steps import AdamUniform

MOST_LIGHT = 1.5  # of a texel


def first_texture(scene: Scene, state: State, frame: int, level: int) -> None:
    """Put into the state the texture that the pictures of a frame give, where they see it; grey elsewhere."""
    total, seen = blend(scene, scene.views_of[frame], state.vertices(frame), level, state.texture.shape[1])
    trust = seen / (seen + 1e-3)
    state.texture = (total / seen.clamp_min(1e-6)).clamp(0, 1) * trust + GREY * (1 - trust)


class PoseLoop(Loop):
    """The rigid motion of a frame's head, from that of a neighbour already known."""

    def __init__(
        self,
        scene: Scene,
        state: State,
        config: Config,
        team: Team,
        frame: int,
        known: Sequence[int],
        stage: Pose,
    ) -> None:
        super().__init__(scene, state, config, team)
        self.name, self.steps, self.frame, self.stage = f"pose {frame}", stage.steps, frame, stage
        self.known = known
        self.level = scene.level(stage.head_px)
        self.views = scene.views_of[frame]

    def begin(self) -> None:
        state, frame, last = self.state, self.frame, self.known[-1]
        state.offset[frame] = state.offset[last]
        rotation, shift = state.rotation[last], state.shift[last]
        if len(self.known) > 1:  # heads go on moving
            before = self.known[-2]
            step = rotation @ state.rotation[before].T
            shift = step @ (shift - state.shift[before]) + shift
            rotation = step @ rotation
        u, _, vh = torch.linalg.svd(rotation)
        state.rotation[frame], state.shift[frame] = u @ vh, shift
        self.turn, self.move = (
            torch.zeros(3, device=self.scene.device, requires_grad=True) for _ in range(2)
        )
        self.middle = state.vertices(frame).mean(0)
        rate = self.stage.step_size
        groups = [{"params": [self.turn], "lr": rate}, {"params": [self.move], "lr": rate / 2}]
        self.optimize(torch.optim.Adam(groups, betas=(0.9, 0.95), fused=True))

    def pictures(self, number: int) -> tuple[Sequence[int], int]:
        return self.views, self.level

    def step(self, number: int) -> Report:
        turn = turned(self.turn)
        here = self.state.vertices(self.frame) - self.middle
        shape, leaf = cut(here @ turn.T + self.middle + self.move)
        look = look_of(self.state, self.state.texture)

        def draw(views: list[int]) -> tuple[Tensor, Tensor]:
            errors = compare(self.scene, views, [leaf] * len(views), look, self.level)
            loss = errors.image + self.config.mask_weight * errors.outline
            return loss / len(self.views), errors.image / len(self.views)

        return self.descend(number, self.split(self.views), draw, [(shape, leaf)], [])

    def finish(self) -> None:
        state, frame = self.state, self.frame
        with torch.no_grad():
            turn = turned(self.turn)
            state.rotation[frame] = turn @ state.rotation[frame]
            state.shift[frame] = turn @ (state.shift[frame] - self.middle) + self.middle + self.move


class SurfaceLoop(Loop):
    """The vertices of one frame with large steps, and the texture.

    For the first frame, whose shape becomes the base, all of the texture is learned. For the others only what
    has hardly been seen: a texture that gives way would let a mouth be painted instead of opened.
    """

    def __init__(
        self,
        scene: Scene,
        state: State,
        config: Config,
        team: Team,
        frame: int,
        number: int,
        stage: Surface,
        first: bool,
        last: bool,
    ) -> None:
        super().__init__(scene, state, config, team)
        self.name = f"identity {number}" if first else f"track {frame} {number}"
        self.steps, self.frame, self.stage, self.first, self.last = stage.steps, frame, stage, first, last
        self.number = number
        self.level = scene.level(stage.head_px)
        self.views = scene.views_of[frame]

    def begin(self) -> None:
        if self.first and self.number == 0:
            first_texture(self.scene, self.state, self.frame, self.level)
        self.large = self.scene.large_steps(self.stage.smoothness)
        self.start = self.state.offset[self.frame].clone()
        self.u = self.large.differential(self.start).requires_grad_()
        self.texture = self.state.texture.clone().requires_grad_()
        trust = self.state.seen / self.config.texture_trust
        self.free = None if self.first else 1 / (1 + trust.square())
        self.optimize(AdamUniform([self.u], self.stage.step_size))
        self.optimize(adam([self.texture], self.stage.texture_step))

    def pictures(self, number: int) -> tuple[Sequence[int], int]:
        return self.picks(self.views, self.stage.cameras, number), self.level

    def step(self, number: int) -> Report:
        stage, config = self.stage, self.config
        views = self.picks(self.views, stage.cameras, number)
        offset = self.large.vertices(self.u)
        shape, leaf = cut(self.state.vertices(self.frame, offset))
        look = look_of(self.state, self.texture)

        def draw(some: list[int]) -> tuple[Tensor, Tensor]:
            errors = compare(self.scene, some, [leaf] * len(some), look, self.level)
            loss = errors.image + config.mask_weight * errors.outline
            return loss / len(views), errors.image / len(views)

        extra = stage.bending * squares(self.scene.bend(offset))
        if stage.change:
            extra = extra + stage.change * squares(self.scene.bend(offset - self.start))
        extra = extra + config.landmark_weight * landmark_error(self.scene, self.frame, shape)
        before = None if self.free is None else self.texture.detach().clone()
        report = self.descend(number, self.split(views), draw, [(shape, leaf)], [self.texture], extra)
        with torch.no_grad():
            if before is not None and self.free is not None:
                # Not by smaller gradients: Adam's steps do not depend on their size.
                self.texture.copy_(torch.lerp(before, self.texture, self.free))
            self.texture.clamp_(0, MOST_LIGHT)
        return report

    def finish(self) -> None:
        state = self.state
        with torch.no_grad():
            offset = self.large.vertices(self.u)
        state.texture = self.texture.detach()
        if self.first:
            state.base = state.base + offset
            state.offset[self.frame] = 0
        else:
            state.offset[self.frame] = offset
        if self.last:
            seen = blend(self.scene, self.views, state.vertices(self.frame), self.level, state.seen.shape[1])[
                1
            ]
            state.seen = state.seen + seen


def look_of(state: State, texture: Tensor) -> Look:
    """How frames look while shape and texture are found: light stays in the texture."""
    return Look(texture, None, state.gain, state.bias)
