# SPDX-License-Identifier: MIT
"""antialias on a GPU: scratch, and which kernels run."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...core import gpu, gpu_sums

_HERE = Path(__file__).parent
_PAIRS = gpu.Module(_HERE / "cuda.cu")
_OUTLINE = gpu.Module(_HERE / "cuda_outline.cu")
_TOPOLOGY = gpu.Module(_HERE / "cuda_topology.cu")
_GATHER = gpu.Module(_HERE / "cuda_gather.cu")
_BLOCK_PIXELS = 256
_CELL = 8
_BLOCKS_PER_PROCESSOR = 16
_COUNTS = 7


# ---- topology ----------------------------------------------------------------------------------------------


def topology(tri: Tensor, vertices: int) -> tuple[Tensor, Tensor]:
    """Twins, int32 [T, 3], and the smallest and the largest index, int32 [2]."""
    device, triangles = tri.device, tri.shape[0]
    twins = gpu.empty(tri.shape, torch.int32, device)
    bounds = gpu.empty((2,), torch.int32, device)
    slots = 1 << max(4, (4 * triangles).bit_length())  # a third of them stay free at least
    keys = gpu.empty((slots,), torch.int64, device)
    first = gpu.empty((slots,), torch.int32, device)
    other = gpu.empty((slots,), torch.int32, device)
    slot_of = gpu.empty((max(3 * triangles, 1),), torch.int32, device)
    pointers = (x.data_ptr() for x in (tri, twins, bounds, keys, first, other, slot_of))
    fields = (*pointers, triangles, vertices, slots)
    launch = _TOPOLOGY.on(device)
    launch.blocks("topology_clear", (gpu.processors(device) * _BLOCKS_PER_PROCESSOR, 1, 1), *fields)
    launch.over("topology_enter", triangles, *fields)
    launch.over("topology_second", 3 * triangles, *fields)
    launch.over("topology_pair", 3 * triangles, *fields)
    return twins, bounds


def components(twins: Tensor) -> Tensor:
    """For each triangle the lowest one that it is connected to, int32 [T]."""
    triangles = twins.shape[0]
    parents = gpu.empty((triangles,), torch.int32, twins.device)
    fields = twins.data_ptr(), parents.data_ptr(), triangles
    launch = _TOPOLOGY.on(twins.device)
    launch.over("components_begin", triangles, *fields)
    launch.over("components_join", 3 * triangles, *fields)
    launch.over("components_end", triangles, *fields)
    return parents


# ---- both methods ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """What pixels show, and the mesh: contiguous, of one number type."""

    rast: Tensor
    pos: Tensor
    tri: Tensor
    twins: Tensor

    @property
    def tables(self) -> int:
        """How many sets of positions there are."""
        return self.pos.shape[0] if self.pos.ndim == 3 else 1

    @property
    def pixels(self) -> int:
        """Of all images."""
        return int(self.rast.shape[:3].numel())

    def fields(self) -> tuple[int, ...]:
        """Those of a kernel's `Scene`."""
        images, height, width, _ = self.rast.shape
        vertices = self.pos.shape[-2]
        pointers = (x.data_ptr() for x in (self.rast, self.pos, self.tri, self.twins))
        stride = 4 * vertices if self.pos.ndim == 3 else 0
        return *pointers, images, height, width, vertices, self.tri.shape[0], stride


def _blocks(scene: Scene) -> tuple[int, int, int]:
    return -(-scene.pixels // _BLOCK_PIXELS), 1, 1


# ---- the pixel pair ----------------------------------------------------------------------------------------


def _silhouettes(scene: Scene) -> Tensor | None:
    """A byte per triangle; None where few pixels see many triangles: asking per pair is less work then."""
    images, height, width, _ = scene.rast.shape
    triangles = scene.tri.shape[0]
    if triangles * scene.tables > 8 * images * height * width:
        return None
    edges = gpu.empty((scene.tables * triangles,), torch.uint8, scene.rast.device)
    launch = _PAIRS.on(scene.rast.device, scene.rast.dtype)
    launch.over("antialias_silhouettes", scene.tables * triangles, *scene.fields(), edges.data_ptr())
    return edges


def pixel_pair(scene: Scene, color: Tensor) -> Tensor:
    """The blended image."""
    device, dtype, channels = color.device, color.dtype, color.shape[-1]
    image = gpu.empty(color.shape, dtype, device)
    if image.numel() == 0:
        return image
    launch = _PAIRS.on(device, dtype)
    edges = _silhouettes(scene)
    weights = gpu.empty((scene.pixels, 2), dtype, device)
    unused = None, None, *gpu_sums.NONE, channels, 0.0
    fields = *scene.fields(), gpu.address(edges), weights.data_ptr()
    launch.over("antialias_pairs", scene.pixels, *fields, *unused)
    blended = color.data_ptr(), image.data_ptr(), channels
    launch.blocks("antialias_blend", _blocks(scene), *scene.fields(), weights.data_ptr(), *blended)
    return image


def pixel_pair_backward(
    scene: Scene, color: Tensor, d_image: Tensor, boost: float, color_wanted: bool, pos_wanted: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of `color` and `pos`."""
    device, dtype, channels = color.device, color.dtype, color.shape[-1]
    sums = gpu_sums.Sums(scene.pos.shape, dtype, device) if pos_wanted else None
    d_color = gpu.empty(color.shape, dtype, device) if color_wanted else None
    if color.numel():
        launch = _PAIRS.on(device, dtype)
        edges = _silhouettes(scene)
        weights = gpu.empty((scene.pixels, 2), dtype, device) if color_wanted else None
        for _ in gpu_sums.passes(sums):
            fields = *scene.fields(), gpu.address(edges), gpu.address(weights)
            given = color.data_ptr(), d_image.data_ptr(), *gpu_sums.fields(sums)
            launch.over("antialias_pairs", scene.pixels, *fields, *given, channels, boost)
        if d_color is not None:
            given = gpu.address(weights), d_image.data_ptr(), d_color.data_ptr(), channels
            launch.blocks("antialias_blend_backward", _blocks(scene), *scene.fields(), *given)
    return d_color, None if sums is None else sums.total()


# ---- the outline method ------------------------------------------------------------------------------------


class _Outlines:
    """What lies between all pairs of pixels: the kernels' `OutlineArgs`, filled."""

    def __init__(self, scene: Scene, intersections: bool, counting: bool = False) -> None:
        device, dtype = scene.rast.device, scene.rast.dtype
        _, height, width, _ = scene.rast.shape
        self.scene = scene
        self.launch = _OUTLINE.on(device, dtype)
        self.everywhere = gpu.processors(device) * _BLOCKS_PER_PROCESSOR, 1, 1
        triangles = scene.tables * scene.tri.shape[0]
        cells = scene.tables * -(-height // _CELL) * -(-width // _CELL)
        self.marks = gpu.empty((2 * triangles + cells,), torch.uint8, device)
        self.taken = None if counting else gpu.empty((scene.pixels, 4), dtype, device)
        self.list = gpu.empty((2 * scene.pixels,), torch.int64, device)
        self.counts = gpu.empty((_COUNTS,), torch.int64, device)
        begin = self.marks.data_ptr()
        self.fields = (
            *scene.fields(),
            begin,
            begin + triangles,
            begin + 2 * triangles,
            gpu.address(self.taken),
            self.list.data_ptr(),
            self.counts.data_ptr(),
            int(intersections),
            int(counting),
        )
        self.launch.blocks("outline_begin", self.everywhere, *self.fields)
        self.launch.over("outline_down", triangles, *self.fields)
        self.launch.over("outline_edges", triangles, *self.fields)
        self.launch.over("outline_list", scene.pixels, *self.fields)
        self.launch.blocks("outline_walk", self.everywhere, *self.fields)


def _prepared(scene: Scene) -> Scene:
    return Scene(scene.rast, gpu.aligned(scene.pos), scene.tri, scene.twins)


def outline(scene: Scene, color: Tensor, intersections: bool) -> Tensor:
    """The blended image."""
    image = gpu.empty(color.shape, color.dtype, color.device)
    if image.numel() == 0:
        return image
    found = _Outlines(_prepared(scene), intersections)
    given = color.data_ptr(), None, image.data_ptr(), *gpu_sums.NONE, color.shape[-1], 0.0
    found.launch.blocks("outline_blend", _blocks(scene), *found.fields, *given)
    return image


def outline_backward(
    scene: Scene,
    color: Tensor,
    d_image: Tensor,
    boost: float,
    intersections: bool,
    color_wanted: bool,
    pos_wanted: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of `color` and `pos`."""
    device, dtype, channels = color.device, color.dtype, color.shape[-1]
    sums = gpu_sums.Sums(scene.pos.shape, dtype, device) if pos_wanted else None
    d_color = gpu.empty(color.shape, dtype, device) if color_wanted else None
    if color.numel():
        found = _Outlines(_prepared(scene), intersections)
        given = color.data_ptr(), d_image.data_ptr(), gpu.address(d_color)
        if d_color is not None:
            fields = *found.fields, *given, *gpu_sums.NONE, channels, boost
            found.launch.blocks("outline_blend_backward", _blocks(scene), *fields)
        if sums is not None:
            for _ in gpu_sums.passes(sums):
                fields = *found.fields, *given, *sums.fields(), channels, boost
                found.launch.blocks("outline_vertices", found.everywhere, *fields)
    return d_color, None if sums is None else sums.total()


def outline_counts(scene: Scene, intersections: bool) -> list[int]:
    """Pairs, walked, outlines, meetings, lost, steps, most steps. Waits for the GPU."""
    if scene.pixels == 0:
        return [0] * _COUNTS
    walked, pairs, *rest = _Outlines(_prepared(scene), intersections, counting=True).counts.tolist()
    return [pairs, walked, *rest]


# ---- sub-samples -------------------------------------------------------------------------------------------


def gather(
    color: Tensor, rast: Tensor, visibility: Tensor, components: Tensor, scale: int
) -> tuple[Tensor, Tensor]:
    """The sub-samples' colours, and which candidate each one chose."""
    device = color.device
    fine = gpu.empty((*visibility.shape[:3], color.shape[-1]), color.dtype, device)
    source = gpu.empty(visibility.shape[:3], torch.uint8, device)
    pointers = (x.data_ptr() for x in (color, rast, visibility, components, fine, source))
    blocks = -(-source.numel() // _BLOCK_PIXELS), 1, 1
    fields = *pointers, *color.shape, scale, components.shape[0]
    _GATHER.on(device, color.dtype).blocks("gather_forward", blocks, *fields)
    return fine, source


def gather_backward(source: Tensor, d_fine: Tensor, color: Tensor, scale: int) -> Tensor:
    """The gradient of `color`."""
    d_color = gpu.empty(color.shape, color.dtype, color.device)
    fields = source.data_ptr(), d_fine.data_ptr(), d_color.data_ptr(), *color.shape, scale
    pixels = int(color.shape[:3].numel())
    _GATHER.on(color.device, color.dtype).over("gather_backward", pixels, *fields)
    return d_color


def average(fine: Tensor, scale: int) -> Tensor:
    """The mean over scale x scale sub-samples."""
    images, height, width, channels = fine.shape
    image = gpu.empty((images, height // scale, width // scale, channels), fine.dtype, fine.device)
    fields = fine.data_ptr(), image.data_ptr(), *image.shape, scale
    _GATHER.on(fine.device, fine.dtype).over("average_forward", image.numel(), *fields)
    return image


def average_backward(fine: Tensor, d_image: Tensor, scale: int) -> Tensor:
    """The gradient of `fine`."""
    d_fine = gpu.empty(fine.shape, fine.dtype, fine.device)
    fields = d_fine.data_ptr(), d_image.data_ptr(), *d_image.shape, scale
    _GATHER.on(fine.device, fine.dtype).over("average_backward", d_fine.numel(), *fields)
    return d_fine
