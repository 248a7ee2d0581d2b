# SPDX-License-Identifier: MIT
"""Antialiasing with visibility at k times the resolution of the shading.

color, H x W ─► gather ─► colours, kH x kW ─► antialias ─► average ─► image, H x W
                  ▲ visibility, kH x kW ────────►┘
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...core import check, dispatch, gpu, native
from ...core.autograd import Primitive
from . import cuda, reference_gather
from .topology import EdgeTopology, matching, remembered

_NAME = "antialias"


def supersampled(
    color: Tensor,
    rast: Tensor,
    pos: Tensor,
    tri: Tensor,
    visibility: Tensor,
    topology: EdgeTopology | None,
    backend: str | None,
    blend_fine: Callable[[Tensor], Tensor],
) -> Tensor:
    """The mean over k x k sub-samples, coloured from `color`, after `blend_fine` has antialiased them."""
    check.floating(_NAME, "color", color, "[N, H, W, C]", (4,))
    check.floating(_NAME, "rast", rast, "[N, H, W, 4]", (4,), last=4)
    check.floating(_NAME, "visibility", visibility, "[N, kH, kW, 4]", (4,), last=4)
    check.floating(_NAME, "pos", pos, "[N, V, 4] or [V, 4]", (2, 3), last=4)
    tri = check.triangles(_NAME, "tri", tri)
    if topology is not None:
        topology = matching(_NAME, topology, tri)
    scale = _scale(color, rast, visibility)
    device = check.same_device(_NAME, color=color, rast=rast, visibility=visibility, pos=pos, tri=tri)
    dtype = check.working_dtype(color, rast, visibility)
    color, rast, visibility = (check.prepared(x, dtype) for x in (color, rast, visibility))
    if dispatch.resolve(_NAME, backend, device) == "reference":
        fine = reference_gather.gather(color, rast, visibility, tri, pos.shape[-2])
        return reference_gather.average(blend_fine(fine), scale)
    known = None if topology is None or torch.compiler.is_compiling() else topology.components
    fine, _ = _gather(color, rast, visibility, tri, known, pos.shape[-2])
    image = blend_fine(fine)
    return image if scale == 1 else _average(image, scale)[0]


def _scale(color: Tensor, rast: Tensor, visibility: Tensor) -> int:
    """The k of k x k, if the shapes belong together."""
    images, height, width = rast.shape[:3]
    if color.shape[:3] != rast.shape[:3]:
        raise ValueError(
            f"{_NAME}: `color` must have the images, height and width of `rast`, {[images, height, width]}; "
            f"got {check.describe(color)}."
        )
    if height == 0 or width == 0:
        raise ValueError(
            f"{_NAME}: `color` must have a height and width above 0; got {check.describe(color)}."
        )
    scale = visibility.shape[1] // height
    if scale == 0 or visibility.shape[:3] != (images, scale * height, scale * width):
        raise ValueError(
            f"{_NAME}: `visibility` must have the images of `rast` and a whole multiple of its height and "
            f"width, the same for both: [{images}, {height} k, {width} k, 4]; "
            f"got {check.describe(visibility)}. Pass `rasterize(pos, tri, (k * {height}, k * {width}))[0]`."
        )
    return scale


# ---- gather -----------------------------------------------------------------------------------------------

_GATHER = native.kernels("antialias_gather_forward")
_GATHER_BACKWARD = native.kernels("antialias_gather_backward")


def _sizes(coarse: Tensor, scale: int) -> tuple[int, ...]:
    """Images, height, width and channels of the shading, and k."""
    return (*coarse.shape, scale)


def _gather_forward(
    color: Tensor, rast: Tensor, visibility: Tensor, tri: Tensor, components: Tensor | None, vertices: int
) -> tuple[Tensor, ...]:
    """The sub-samples' colours, and which candidate each one chose."""
    if components is None:
        components = remembered(tri, vertices).components
    if gpu.runs_on(color.device):
        return cuda.gather(color, rast, visibility, components, visibility.shape[1] // color.shape[1])
    fine = native.empty((*visibility.shape[:3], color.shape[-1]), color.dtype)
    source = native.empty(visibility.shape[:3], torch.uint8)
    pointers = (x.data_ptr() for x in (color, rast, visibility, components, fine, source))
    sizes = _sizes(color, visibility.shape[1] // color.shape[1])
    native.call(_GATHER[color.dtype], *pointers, *sizes, components.shape[0], native.threads())
    return fine, source


def _gather_backward(
    needs: Sequence[bool], inputs: Sequence[Any], outputs: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    color, _, visibility, *_ = inputs
    d_fine, _ = grads
    if d_fine is None or not needs[0]:
        return (None,)
    if gpu.runs_on(color.device):
        scale = visibility.shape[1] // color.shape[1]
        return (cuda.gather_backward(outputs[1], d_fine, color, scale),)
    d_color = native.empty(color.shape, color.dtype)
    pointers = (x.data_ptr() for x in (outputs[1], d_fine, d_color))
    sizes = _sizes(color, visibility.shape[1] // color.shape[1])
    native.call(_GATHER_BACKWARD[color.dtype], *pointers, *sizes, native.threads())
    return (d_color,)


def _gather_shapes(color: Tensor, _: Tensor, visibility: Tensor, *__: Any) -> tuple[Tensor, ...]:
    shape = visibility.shape[:3]
    return color.new_empty((*shape, color.shape[-1])), color.new_empty(shape, dtype=torch.uint8)


_gather = Primitive(
    "antialias_gather",
    "Tensor color, Tensor rast, Tensor visibility, Tensor tri, Tensor? components, int vertices",
    _gather_forward,
    _gather_backward,
    _gather_shapes,
    outputs=2,
    differentiable=1,
    constant_outputs=(1,),
    saved_outputs=(0, 1),
)

# ---- average ----------------------------------------------------------------------------------------------
# A kernel of its own: torch's mean over two axes takes 44 ms forward and 55 ms backward for 2048 x 2048 x 3.

_AVERAGE = native.kernels("antialias_average_forward")
_AVERAGE_BACKWARD = native.kernels("antialias_average_backward")


def _average_forward(fine: Tensor, scale: int) -> tuple[Tensor, ...]:
    if gpu.runs_on(fine.device):
        return (cuda.average(fine, scale),)
    images, height, width, channels = fine.shape
    image = native.empty((images, height // scale, width // scale, channels), fine.dtype)
    native.call(
        _AVERAGE[fine.dtype], fine.data_ptr(), image.data_ptr(), *_sizes(image, scale), native.threads()
    )
    return (image,)


def _average_backward(
    needs: Sequence[bool], inputs: Sequence[Any], outputs: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    fine, scale = inputs
    (d_image,) = grads
    if d_image is None or not needs[0]:
        return (None,)
    if gpu.runs_on(fine.device):
        return (cuda.average_backward(fine, d_image, scale),)
    d_fine = native.empty(fine.shape, fine.dtype)
    native.call(
        _AVERAGE_BACKWARD[fine.dtype],
        d_fine.data_ptr(),
        d_image.data_ptr(),
        *_sizes(d_image, scale),
        native.threads(),
    )
    return (d_fine,)


def _average_shapes(fine: Tensor, scale: int) -> tuple[Tensor, ...]:
    images, height, width, channels = fine.shape
    return (fine.new_empty((images, height // scale, width // scale, channels)),)


_average = Primitive(
    "antialias_average",
    "Tensor fine, int scale",
    _average_forward,
    _average_backward,
    _average_shapes,
    outputs=1,
    differentiable=1,
)
