# SPDX-License-Identifier: MIT
"""What a capture learns: everything that a checkpoint must hold, as tensors."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from rastergrad.capture.scene import Scene
from rastergrad.scene.harmonics import white_light

GREY = 0.3  # of a texel that nothing is known about, linear


@dataclass
class State:
    """The unknowns of a capture, in head units.

    Attributes:
        base: [V, 3], the shape of the first frame; frames deform it.
        rotation: [F, 3, 3] and shift: [F, 3], the head's motion: rotation @ (base + offset) + shift.
        offset: [F, V, 3].
        texture: [1, h, w, 3] linear albedo.  seen: [1, h, w, 1], how well pictures showed each texel.
        light: [9, 3] spherical harmonics.
        gain, bias: [C, 3], colour of each camera, linear.
        basis: [r, V, 3] and weights: [F, r] of a learned basis; r = 0 without one.
    """

    base: Tensor
    rotation: Tensor
    shift: Tensor
    offset: Tensor
    texture: Tensor
    seen: Tensor
    light: Tensor
    gain: Tensor
    bias: Tensor
    basis: Tensor
    weights: Tensor

    @staticmethod
    def begin(scene: Scene, texture_side: int) -> "State":
        """The template as it is, a grey texture, even light, cameras that agree."""
        frames, cameras = scene.frames, scene.cameras
        state = State(
            base=scene.template.positions.clone(),
            rotation=torch.eye(3).repeat(frames, 1, 1),
            shift=torch.zeros(frames, 3),
            offset=torch.zeros(frames, scene.vertices, 3),
            texture=torch.full((1, texture_side, texture_side, 3), GREY),
            seen=torch.zeros(1, texture_side, texture_side, 1),
            light=white_light(torch.zeros(1)),
            gain=torch.ones(cameras, 3),
            bias=torch.zeros(cameras, 3),
            basis=torch.zeros(0, scene.vertices, 3),
            weights=torch.zeros(frames, 0),
        )
        state.load(state.tensors(), scene.device)
        return state

    def vertices(self, frame: int, offset: Tensor | None = None) -> Tensor:
        """[V, 3] of a frame; `offset` in place of its own. Gradients: to `offset`."""
        shape = self.base + (self.offset[frame] if offset is None else offset)
        return shape @ self.rotation[frame].T + self.shift[frame]

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def load(self, tensors: dict[str, Tensor], device: torch.device | None = None) -> None:
        """Take over what `tensors` gave, on the device that this state has, or on another."""
        device = self.base.device if device is None else device
        for name, value in tensors.items():
            setattr(self, name, value.clone().to(device))
