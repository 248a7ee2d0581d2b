# SPDX-License-Identifier: MIT
"""What the outline method of antialias meets in a scene."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...core import check, gpu, native
from . import cuda
from .op import refuse_indices, scene_fields, usable_twins
from .topology import EdgeTopology, matching

_COUNTS = native.kernels("outline_counts")


@dataclass(frozen=True)
class OutlineCounts:
    """How many pairs of neighbouring pixels the outline method looks at, and what it finds there.

    Of `pairs`, all whose ids differ, `walked` could not be settled by a look at the triangles alone. Of
    these, `outlines` are blended along an outline, `meetings` where two surfaces pass through each other, and
    `lost` were given up after 1,024 triangles and are not blended. `steps` counts the triangles that all
    walks crossed, `most_steps` those of the pair with the longest.
    """

    pairs: int
    walked: int
    outlines: int
    meetings: int
    lost: int
    steps: int
    most_steps: int


def outline_counts(
    rast: Tensor,
    pos: Tensor,
    tri: Tensor,
    *,
    intersections: bool = True,
    topology: EdgeTopology | None = None,
) -> OutlineCounts:
    """Count what `antialias` with `method="outline"` meets in a scene.

    Answers whether walks are long (triangles far smaller than pixels), and whether any reach their limit of
    1,024 triangles and leave their pair without a blend.

    Args:
        rast, pos, tri, intersections, topology: as for `antialias`.

    Returns:
        The counts of all images together.

    Gradients:
        None.

    Errors:
        Those of `antialias`; ValueError for tensors on a device without kernels.

    Cost:
        That of `antialias` without the image. On a GPU it waits for the answer.

    Source:
        docs/definition.md, 5.8.

    Example:
        >>> import torch, rastergrad as rg
        >>> pos = torch.tensor([[-0.9, -0.9, 0, 1], [0.9, -0.9, 0, 1], [0, 0.9, 0, 1]])[None]
        >>> tri = torch.tensor([[0, 1, 2]])
        >>> rast, _ = rg.rasterize(pos, tri, (64, 64))
        >>> counts = rg.outline_counts(rast, pos, tri)
        >>> counts.pairs > counts.outlines > 100, counts.meetings, counts.lost
        (True, 0, 0)
    """
    name = "outline_counts"
    check.flag(name, "intersections", intersections)
    check.floating(name, "rast", rast, "[N, H, W, 4]", (4,), last=4)
    check.floating(name, "pos", pos, "[N, V, 4] or [V, 4]", (2, 3), last=4)
    tri = check.triangles(name, "tri", tri)
    if pos.ndim == 3 and pos.shape[0] != rast.shape[0]:
        raise ValueError(
            f"{name}: `pos` must have {rast.shape[0]} images, as `rast` does, or be [V, 4]; "
            f"got {check.describe(pos)}."
        )
    if 0 in rast.shape[1:3]:
        raise ValueError(f"{name}: `rast` must have a height and width above 0; got {check.describe(rast)}.")
    if topology is not None:
        topology = matching(name, topology, tri)
    known = (None, None) if topology is None else (topology.twins, topology.bounds)
    device = check.same_device(name, rast=rast, pos=pos, tri=tri, topology=known[0])
    on_gpu = gpu.runs_on(device)
    if device.type != "cpu" and not on_gpu:
        raise ValueError(f"{name}: there are no kernels for {device}. Move the tensors with `.cpu()`.")
    dtype = check.working_dtype(rast, pos)
    rast, pos = check.prepared(rast.detach(), dtype), check.prepared(pos.detach(), dtype)
    twins = usable_twins(name, pos, tri, *known, strict=True)
    if on_gpu:
        return OutlineCounts(*cuda.outline_counts(cuda.Scene(rast, pos, tri, twins), intersections))
    counts = torch.zeros(7, dtype=torch.int64)
    fields = scene_fields(rast.shape[:3], rast, pos, tri, twins)
    if native.call(_COUNTS[dtype], *fields, int(intersections), counts) >= 0:
        refuse_indices(name, tri, pos.shape[-2])
    return OutlineCounts(*check.numbers(counts))
