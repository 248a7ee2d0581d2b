# SPDX-License-Identifier: MIT
"""From the template to the head's first shape, without a texture.

A texture that is learned together with the shape glues the surface to wherever it happens to be: sliding
along itself would cost error until the texture has followed. So the shape is first found from what cameras
see alike: a point of the surface must have the same colour in two pictures. Sliding is then free, and the
smoothness of
the warp decides it: bulges of the template come to lie on bulges of the head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.capture.config import Align, Config, Warp
from rastergrad.capture.loop import Loop, Report, adam, cut, turned
from rastergrad.capture.photometric import landmark_error
from rastergrad.capture.scene import Scene
from rastergrad.capture.state import State
from rastergrad.capture.team import Team
from rastergrad.scene.camera import project
from rastergrad.scene.lattice import lattice

# A camera is compared with its nearest neighbours by direction of view.
NEIGHBOURS = 4
# Depths that differ by less, in head units, belong to one surface.
SAME_DEPTH = 0.004
# Weight against colours of cameras that differ for no reason.
EQUAL_COLORS = 1e-3


def coverage(scene: Scene, views: Sequence[int], shape: Tensor, level: int) -> tuple[Tensor, Tensor]:
    """Antialiased coverage by a shape and the masks of views of one size, [n, H, W, 1] each."""
    target = scene.pictures.batch(views, level)
    pos = project(scene.clip_from_world[list(views)], shape)
    rast, _ = rg.rasterize(pos, scene.template.tri, target.shape[1:3], db_grad=False)
    covered = (rast[..., 3:] > 0).to(shape)
    drawn = rg.antialias(covered, rast, pos, scene.template.tri, topology=scene.topology)
    return drawn, target[..., 3:4]


class AlignLoop(Loop):
    """Rotation, shift and size of the template, by landmarks and masks."""

    def __init__(
        self, scene: Scene, state: State, config: Config, team: Team, frame: int, stage: Align
    ) -> None:
        super().__init__(scene, state, config, team)
        self.name, self.steps, self.frame, self.stage = "align", stage.steps, frame, stage
        self.level = scene.level(stage.head_px)
        self.views = scene.views_of[frame]

    def begin(self) -> None:
        fits = overlap(self.scene, self.views, self.state.base, self.level) >= self.stage.good_overlap
        if fits and self.scene.dataset.landmarks is None:
            self.steps = 0
        self.turn, self.shift, self.size = (
            torch.zeros(n, device=self.scene.device, requires_grad=True) for n in (3, 3, 1)
        )
        rate = self.stage.step_size
        groups = [{"params": [self.turn, self.size], "lr": rate}, {"params": [self.shift], "lr": rate / 2}]
        self.optimize(adam(groups))

    def pictures(self, number: int) -> tuple[Sequence[int], int]:
        return self.views, self.level

    def shape(self) -> Tensor:
        middle = self.state.base.mean(0)
        return (self.state.base - middle) @ turned(self.turn).T * self.size.exp() + middle + self.shift

    def step(self, number: int) -> Report:
        shape, leaf = cut(self.shape())

        def draw(_: None) -> tuple[Tensor, Tensor]:
            masks = leaf.new_zeros(())
            for places in self.scene.same_size(self.views):
                drawn, mask = coverage(self.scene, [self.views[k] for k in places], leaf, self.level)
                masks = masks + ((drawn - mask).square() * (mask >= 0)).mean() * len(places)
            masks = masks / len(self.views)
            return masks, masks

        marks = landmark_error(self.scene, self.frame, shape)
        return self.descend(
            number, [None], draw, [(shape, leaf)], [], 10 * self.config.landmark_weight * marks
        )

    def finish(self) -> None:
        self.state.base = self.shape().detach()


def overlap(scene: Scene, views: Sequence[int], shape: Tensor, level: int) -> float:
    """The smallest overlap of silhouettes (intersection over union) of views with a mask; 1 without any."""
    least = 1.0
    with torch.no_grad():
        for view in views:
            drawn, mask = coverage(scene, [view], shape, level)
            if float(mask.amin()) >= 0:
                union = torch.maximum(drawn, mask).sum().clamp_min(1e-6)
                least = min(least, float(torch.minimum(drawn, mask).sum() / union))
    return least


class WarpLoop(Loop):
    """A smooth warp of space under which neighbouring cameras see the same colours."""

    def __init__(
        self, scene: Scene, state: State, config: Config, team: Team, frame: int, number: int, stage: Warp
    ) -> None:
        super().__init__(scene, state, config, team)
        self.name, self.steps, self.frame, self.stage = f"warp {number}", stage.steps, frame, stage
        self.level = scene.level(stage.head_px)
        self.views = scene.views_of[frame]
        self.neighbours = nearest_views(scene, frame)

    def begin(self) -> None:
        self.warp, count = lattice(self.scene.template.positions, self.stage.cell)
        self.control = torch.zeros(count, 3, device=self.scene.device, requires_grad=True)
        self.log_gain = self.state.gain.log().requires_grad_()
        groups = [
            {"params": [self.control], "lr": self.stage.step_size},
            {"params": [self.log_gain], "lr": 0.005},
        ]
        self.optimize(torch.optim.Adam(groups, betas=(0.9, 0.98), fused=True))

    def pictures(self, number: int) -> tuple[Sequence[int], int]:
        return [view for pair in self.pairs(number) for view in pair], self.level

    def pairs(self, number: int) -> list[tuple[int, int]]:
        """Pairs of neighbouring views; a view without a neighbour of its size only shows its outline."""
        chosen = self.picks(self.views, self.stage.pairs, number)
        return [
            (v, self.picks(near, 1, number, f"{v}")[0] if near else v)
            for v in chosen
            for near in [self.neighbours[v]]
        ]

    def step(self, number: int) -> Report:
        shape, leaf = cut(self.state.base + self.warp(self.control))
        pairs = self.pairs(number)

        def draw(pair: tuple[int, int]) -> tuple[Tensor, Tensor]:
            image, outline = self.compare(pair, leaf)
            return (image + self.stage.mask_weight * outline) / len(pairs), image / len(pairs)

        marks = landmark_error(self.scene, self.frame, shape)
        extra = self.config.landmark_weight * marks + EQUAL_COLORS * self.log_gain.square().sum()
        return self.descend(number, pairs, draw, [(shape, leaf)], [self.log_gain], extra)

    def compare(self, pair: tuple[int, int], shape: Tensor) -> tuple[Tensor, Tensor]:
        """What two cameras see of the surface, held against each other both ways; and their outlines."""
        scene, template = self.scene, self.scene.template
        views, others = torch.tensor(pair), torch.tensor(pair[::-1])
        target = scene.pictures.batch(pair, self.level)
        n, height, width, _ = target.shape
        pos = project(scene.clip_from_world[views], shape)
        rast, _ = rg.rasterize(pos, template.tri, (height, width), db_grad=False)
        covered = (rast[..., 3:] > 0).to(shape)
        drawn = rg.antialias(covered, rast, pos, template.tri, topology=scene.topology)
        mask, weight = target[..., 3:4], target[..., 4:]
        outline = ((drawn - mask).abs() * (mask >= 0) * weight).mean()
        if pair[0] == pair[1]:
            return outline * 0, outline
        # Where each pixel's point of the surface appears in the other picture, and how far it is from there.
        point, _ = rg.interpolate(shape, rast, template.tri)
        there = project(scene.clip_from_world[others], point.reshape(n, -1, 3)).reshape(n, height, width, 4)
        distance = there[..., 3:].clamp_min(1e-3)
        uv = (there[..., :2] / distance) * 0.5 + 0.5
        with torch.no_grad():
            depth, _ = rg.interpolate(pos[..., 3:].contiguous(), rast, template.tri)
        gain = (self.log_gain[[scene.camera_of[view] for view in pair]] / 2).exp()[:, None, None]
        color = target[..., :3] / gain
        inside = torch.where(mask < 0, 1.0, (mask > 0.98).float()) * weight
        other = torch.cat([color, depth, inside * covered], dim=-1)[[1, 0]]
        sample = rg.texture(other, uv, filter_mode="linear", boundary_mode="clamp")
        with torch.no_grad():
            near = (distance - sample[..., 3:4]).abs() < SAME_DEPTH
            both = near * (sample[..., 4:] > 0.98) * inside * covered
        alike = ((sample[..., :3] - color).abs() * both).sum() / (3 * both.sum() + 1)
        return alike, outline

    def finish(self) -> None:
        with torch.no_grad():
            self.state.base = self.state.base + self.warp(self.control)
            self.state.gain = (self.log_gain - self.log_gain.mean(0)).exp()


def nearest_views(scene: Scene, frame: int) -> dict[int, list[int]]:
    """For each view of a frame, others of its size whose direction of view is nearest."""
    views = scene.views_of[frame]
    middle = scene.template.positions.mean(0)
    sight = torch.nn.functional.normalize(scene.eye[views] - middle, dim=-1)
    alike = sight @ sight.T
    found: dict[int, list[int]] = {}
    for places in scene.same_size(views):
        for k in places:
            others = sorted((j for j in places if j != k), key=lambda j: -float(alike[k, j]))
            found[views[k]] = [views[j] for j in others[:NEIGHBOURS]]
    return found
