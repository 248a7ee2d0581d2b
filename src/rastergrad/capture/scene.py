# SPDX-License-Identifier: MIT
"""What all stages of a capture share and none changes: template, cameras, pictures, smoothness.

Inside the capture lengths are in head units: the template's bounding box has a diagonal of HEAD. So steps
and weights mean the same for data in metres and in millimetres.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

import rastergrad as rg
from rastergrad.capture.dataset import Dataset
from rastergrad.capture.pictures import Pictures
from rastergrad.capture.template import Template
from rastergrad.scene.laplacian import SparseOperator, bending, bridges, uniform_laplacian
from rastergrad.scene.large_steps import LargeSteps
from rastergrad.scene.pinhole import Pinhole
from rastergrad.scene.smooth_normals import SmoothNormals

HEAD = 0.5
CPU = torch.device("cpu")
# Weights of bending count squares of the Laplacian on so much of the surface: a vertex of 15,000 on a head.
BENDING_AREA = 1.5e-5
# Loose pieces hang on the rest by ties of this weight, where an edge has 1.
TIES = 0.2
# Depth planes: this many head units before and behind the template, for heads that move.
ROOM = 0.8


class Scene:
    """The constants of one capture.

    Attributes:
        dataset, pictures: where images come from.  device: where tensors are.
        template: in head units.  unit: world units in a head unit.  topology: of its triangles.
        clip_from_world: [views, 4, 4] float32, from head units.  eye: [views, 3].
        camera_of: [views] index of each view's camera.  views_of: for each frame, its views.
        normals: of shapes of the template.
        bend: the bending energy of displacements of the template.
    """

    def __init__(self, dataset: Dataset, cache_bytes: int, device: torch.device = CPU) -> None:
        self.dataset, self.device = dataset, device
        self.pictures = Pictures(dataset, cache_bytes, device)
        extent = dataset.template.positions.amax(0) - dataset.template.positions.amin(0)
        self.unit = float(extent.norm()) / HEAD
        given = dataset.template
        self.template = Template(
            (given.positions / self.unit).to(device),
            given.tri.to(device),
            given.uv.to(device),
            given.uv_tri.to(device),
        )
        self.topology = rg.edge_topology(self.template.tri)
        middle = given.positions.mean(0).double() / self.unit
        matrices, eyes = [], []
        for view in dataset.views:
            camera = scaled(view.pinhole, self.unit)
            distance = float((camera.eye - middle).norm())
            near = max(distance - ROOM, 0.05 * distance)
            matrices.append(camera.clip_from_world(near, distance + ROOM))
            eyes.append(camera.eye)
        self.clip_from_world = torch.stack(matrices).float().to(device)
        self.eye = torch.stack(eyes).float().to(device)
        self.camera_of = [view.camera for view in dataset.views]
        self.views_of: list[list[int]] = [[] for _ in dataset.timesteps]
        for index, view in enumerate(dataset.views):
            self.views_of[view.frame].append(index)
        self.head_px = self._head_px()
        self._laplacian = uniform_laplacian(self.template.tri, self.vertices)
        self._laplacian = self._laplacian + bridges(self.template.positions, self.template.tri, TIES)
        self._large_steps: dict[float, LargeSteps] = {}
        self.normals = SmoothNormals(self.template.tri, self.vertices)
        self.bend: SparseOperator = bending(self.template.positions, self.template.tri, TIES, BENDING_AREA)

    @property
    def vertices(self) -> int:
        return len(self.template.positions)

    @property
    def cameras(self) -> int:
        return len(self.dataset.camera_ids)

    @property
    def frames(self) -> int:
        return len(self.dataset.timesteps)

    def large_steps(self, smoothness: float) -> LargeSteps:
        """The factorised map for this smoothness, made once."""
        if smoothness not in self._large_steps:
            self._large_steps[smoothness] = LargeSteps(self._laplacian, smoothness, self.device)
        return self._large_steps[smoothness]

    def level(self, head_px: float) -> int:
        """The pyramid level at which the template is about `head_px` pixels high; 0 where it never is."""
        return max(0, round(math.log2(self.head_px / head_px)))

    def same_size(self, views: Sequence[int]) -> list[list[int]]:
        """Places in `views`, grouped by picture size, since a batch has one size."""
        groups: dict[tuple[int, int], list[int]] = {}
        for place, view in enumerate(views):
            camera = self.dataset.views[view].pinhole
            groups.setdefault((camera.height, camera.width), []).append(place)
        return list(groups.values())

    def _head_px(self) -> float:
        """Mean height of the template's image over cameras, pixels."""
        heights = []
        for view in self.dataset.views[: 4 * self.cameras]:
            y = view.pinhole.pixels(self.dataset.template.positions.double())[:, 1]
            y = y.clamp(0, view.pinhole.height)
            heights.append(float(y.max() - y.min()))
        return max(1.0, sum(heights) / len(heights))


def scaled(camera: Pinhole, unit: float) -> Pinhole:
    """The same camera in a world whose unit of length is `unit` times as long."""
    pose = camera.world_from_cam.clone()
    pose[:3, 3] /= unit
    return replace(camera, world_from_cam=pose)
