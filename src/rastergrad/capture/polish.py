# SPDX-License-Identifier: MIT
"""All frames at once: random frames and cameras improve vertices, texture, light and colours of cameras."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rastergrad.capture.config import Config, Polish
from rastergrad.capture.deformation import Basis, Deformation, Free
from rastergrad.capture.loop import Loop, Report, adam, cut
from rastergrad.capture.photometric import Look, compare, landmark_error
from rastergrad.capture.scene import Scene
from rastergrad.capture.state import State
from rastergrad.capture.surface import MOST_LIGHT
from rastergrad.capture.team import Team
from rastergrad.scene.laplacian import squares
from rastergrad.scene.large_steps import AdamUniform


class PolishLoop(Loop):
    """Minibatches of frames and cameras over the whole performance."""

    def __init__(
        self,
        scene: Scene,
        state: State,
        config: Config,
        team: Team,
        number: int,
        stage: Polish,
        blendshapes: Tensor | None,
    ) -> None:
        super().__init__(scene, state, config, team)
        self.name, self.steps, self.stage, self.number = f"polish {number}", stage.steps, stage, number
        self.level = scene.level(stage.head_px)
        self.blendshapes = blendshapes

    def begin(self) -> None:
        stage, state = self.stage, self.state
        large = self.scene.large_steps(stage.smoothness)
        self.deformation: Deformation
        if self.config.model == "basis":
            self.deformation = Basis(large, state.offset, self.config.rank, self.blendshapes)
        else:
            self.deformation = Free(large, state.offset)
        # What all frames have in common is learned from all of them.
        self.base_large = self.scene.large_steps(stage.base_smoothness)
        self.base_u = torch.zeros_like(state.base, requires_grad=True)
        # Where the neighbours of each frame are held against it; follows what is found.
        self.known = state.offset.clone()
        self.texture, self.light, self.gain, self.bias = (
            x.clone().requires_grad_() for x in (state.texture, state.light, state.gain, state.bias)
        )
        for optimizer in self.deformation.optimizers(stage.step_size):
            self.optimize(optimizer)
        self.optimize(AdamUniform([self.base_u], stage.base_step_size))
        self.shared: list[Tensor] = [self.texture]
        self.optimize(adam([self.texture], stage.texture_step))
        if self.config.light:
            self.shared.append(self.light)
            self.optimize(adam([self.light], stage.light_step))
        if self.config.camera_colors and self.scene.cameras > 1:
            self.shared += [self.gain, self.bias]
            self.optimize(adam([self.gain, self.bias], stage.color_step))

    def slots(self, number: int) -> list[tuple[int, int]]:
        """The (frame, view) pairs of a step."""
        frames = self.picks(range(self.scene.frames), self.stage.frames, number)
        return [
            (frame, view)
            for frame in frames
            for view in self.picks(self.scene.views_of[frame], self.stage.cameras, number, f"{frame}")
        ]

    def pictures(self, number: int) -> tuple[Sequence[int], int]:
        return [view for _, view in self.slots(number)], self.level

    def step(self, number: int) -> Report:
        stage, config, scene = self.stage, self.config, self.scene
        slots = self.slots(number)
        frames = sorted({frame for frame, _ in slots})
        offsets = {frame: self.deformation.offset(frame) for frame in frames}
        base = self.base_large.vertices(self.base_u)
        joints = {frame: cut(self.state.vertices(frame, base + offset)) for frame, offset in offsets.items()}
        light = self.light if config.light else None
        look = Look(self.texture, light, self.gain, self.bias)

        def draw(some: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
            shapes = [joints[frame][1] for frame, _ in some]
            errors = compare(scene, [view for _, view in some], shapes, look, self.level)
            loss = errors.image + config.mask_weight * errors.outline
            return loss / len(slots), errors.image / len(slots)

        extra = stage.base_bending * squares(scene.bend(base))
        for frame, offset in offsets.items():
            own = stage.bending * squares(scene.bend(offset))
            around = self.around(frame)
            if stage.steadiness and around is not None:
                own = own + stage.steadiness * squares(scene.bend(offset - around))
            own = own + config.landmark_weight * landmark_error(scene, frame, joints[frame][0])
            extra = extra + own / len(frames)
        report = self.descend(number, self.split(slots), draw, list(joints.values()), self.shared, extra)
        with torch.no_grad():
            self.texture.clamp_(0, MOST_LIGHT)
            self.gain /= self.gain.mean(0)
            for frame, offset in offsets.items():
                self.known[frame] = offset.detach()
        return report

    def around(self, frame: int) -> Tensor | None:
        """The mean of the neighbouring frames' offsets."""
        near = [k for k in (frame - 1, frame + 1) if 0 <= k < self.scene.frames]
        return torch.stack([self.known[k] for k in near]).mean(0) if near else None

    def hold_still(self) -> None:
        # The light's constant term and the texture are known up to a common factor: the texture has it.
        if self.light.grad is not None:
            self.light.grad[0] = 0

    def state_dict(self) -> dict[str, object]:
        return {**super().state_dict(), "known": self.known}

    def load_state_dict(self, saved: dict[str, object]) -> None:
        super().load_state_dict({name: saved[name] for name in ("parameters", "optimizers")})
        known = saved["known"]
        assert isinstance(known, Tensor)
        self.known.copy_(known)

    def finish(self) -> None:
        state = self.state
        with torch.no_grad():
            state.base = state.base + self.base_large.vertices(self.base_u)
            for frame in range(self.scene.frames):
                state.offset[frame] = self.deformation.offset(frame)
        state.texture, state.light = self.texture.detach(), self.light.detach()
        state.gain, state.bias = self.gain.detach(), self.bias.detach()
        if isinstance(self.deformation, Basis):
            state.basis, state.weights = self.deformation.found()
