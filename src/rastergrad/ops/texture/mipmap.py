# SPDX-License-Identifier: MIT
"""Mip stacks: the levels above a texture, each half the size of the one below."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...core import check, dispatch, gpu, native
from ...core.autograd import Primitive
from . import cuda

# Texel numbers beside float32 coordinates are int32, and float32 counts to 2^24.
_MOST_TEXELS = 2**31 - 1
_LONGEST_SIDE = 2**24
# Elements behind a stack, so that kernels may read four channels from its last texel.
PADDING = 4


class MipStack:
    """The levels above a texture, made by `build_mipmaps` and used as `texture(..., mip=stack)`. Its contents
    are private.
    """

    __slots__ = ("cube", "data", "depth", "max_mip_level", "shape")

    def __init__(
        self, data: Tensor, shape: tuple[int, ...], depth: int, cube: bool, max_mip_level: int | None
    ) -> None:
        self.data = data
        self.shape = shape
        self.depth = depth
        self.cube = cube
        self.max_mip_level = max_mip_level

    def __repr__(self) -> str:
        kind = "cube map" if self.cube else "texture"
        return f"MipStack({self.depth} levels above a {kind} {list(self.shape)})"


def build_mipmaps(tex: Tensor, max_mip_level: int | None = None, cube: bool = False) -> MipStack:
    """Average a texture down, level by level, for repeated use with `texture(..., mip=stack)`.

    Args:
        tex: float [N or 1, h, w, C]; with `cube`, [N or 1, 6, h, h, C].
        max_mip_level: how many levels above the base at most; None goes down to 1x1.
        cube: whether `tex` is a cube map, whose faces are averaged separately.

    Returns:
        An opaque `MipStack`, for textures of this shape only.

    Gradients:
        None from here: the gradients of the levels reach the `tex` that is passed to `texture()`, through the
        averaging.

    Errors:
        TypeError for what is no float tensor, ValueError for its shape, and for an odd side longer than 1
        where another level is due.

    Cost:
        One pass over the texture; a third of its memory.

    Source:
        Williams 1983, "Pyramidal Parametrics".

    Example:
        >>> import torch, rastergrad as rg
        >>> stack = rg.build_mipmaps(torch.rand(1, 8, 4, 3))
        >>> stack
        MipStack(3 levels above a texture [1, 8, 4, 3])
    """
    name = "build_mipmaps"
    cube = check.flag(name, "cube", cube)
    check_texture(name, tex, cube)
    depth = len(level_sizes(name, tex, limit(name, max_mip_level)))
    tex = check.prepared(tex, check.working_dtype(tex))
    here = dispatch.resolve(name, None, tex.device) != "reference"
    data = stack_data(tex, depth) if here else stack_data(tex.cpu(), depth).to(tex.device)
    return MipStack(data, tuple(tex.shape), depth, cube, max_mip_level)


# ---- checks ------------------------------------------------------------------------------------------------


def check_texture(function: str, tex: Any, cube: bool) -> None:
    """Refuse what is no texture, or none of that kind."""
    check.floating(function, "tex", tex, "[N, 6, h, h, C]" if cube else "[N, h, w, C]", (5 if cube else 4,))
    if 0 in tex.shape[1:]:
        raise ValueError(
            f"{function}: `tex` must have at least one texel and one channel; got {check.describe(tex)}."
        )
    if cube and (tex.shape[1] != 6 or tex.shape[2] != tex.shape[3]):
        raise ValueError(
            f"{function}: `tex` must hold six square faces, [N, 6, h, h, C], for a cube map; "
            f"got {check.describe(tex)}."
        )
    check_size(function, tex)


def check_size(function: str, tex: Tensor) -> None:
    """Refuse what 32-bit texel numbers cannot address."""
    if tex.numel() <= _LONGEST_SIDE:
        return
    *outer, height, width, _ = tex.shape
    texels = height * width * (6 if len(outer) == 2 else 1)
    if max(height, width) > _LONGEST_SIDE or texels > _MOST_TEXELS:
        raise ValueError(
            f"{function}: `tex` may have sides up to {_LONGEST_SIDE} and {_MOST_TEXELS} texels per image; "
            f"got {check.describe(tex)}. Cut it into several textures."
        )


def limit(function: str, max_mip_level: Any) -> int | None:
    """`max_mip_level` as a whole number above or at 0, or None."""
    if max_mip_level is None:
        return None
    if isinstance(max_mip_level, bool) or not isinstance(max_mip_level, int):
        raise TypeError(
            f"{function}: `max_mip_level` must be None or a whole number >= 0; "
            f"got {check.describe(max_mip_level)}."
        )
    if max_mip_level < 0:
        raise ValueError(
            f"{function}: `max_mip_level` must be None or a whole number >= 0; got {max_mip_level}."
        )
    return max_mip_level


def level_sizes(function: str, tex: Tensor, most: int | None) -> list[tuple[int, int]]:
    """(height, width) of the levels above the base."""
    height, width = (int(n) for n in tex.shape[-3:-1])
    sizes = [(height, width)]
    while (height > 1 or width > 1) and (most is None or len(sizes) <= most):
        if (height > 1 and height % 2) or (width > 1 and width % 2):
            listed = " -> ".join(f"{h}x{w}" for h, w in sizes)
            raise ValueError(
                f"{function}: `tex` must halve evenly down to 1x1 or `max_mip_level`; "
                f"its levels (height x width) are {listed}, and an odd side cannot be halved. "
                f"Set max_mip_level={len(sizes) - 1}, resize `tex`, or pass your own levels."
            )
        height, width = max(1, height // 2), max(1, width // 2)
        sizes.append((height, width))
    return sizes[1:]


# ---- the levels --------------------------------------------------------------------------------------------


def stack_data(tex: Tensor, depth: int) -> Tensor:
    """Levels 1 to `depth` one behind the other. Without gradient: that of the levels is handed down by the
    lookup itself.
    """
    return _primitive(tex.detach(), depth)[0]


def stack_levels(data: Tensor, shape: Sequence[int], depth: int) -> list[Tensor]:
    """Views of the levels in the data of a stack."""
    *outer, height, width, channels = shape
    levels: list[Tensor] = []
    start = 0
    for _ in range(depth):
        height, width = max(1, height // 2), max(1, width // 2)
        sizes = (*outer, height, width, channels)
        count = int(torch.Size(sizes).numel())
        levels.append(data[start : start + count].view(sizes))
        start += count
    return levels


def _length(tex: Tensor, depth: int) -> int:
    *outer, height, width, channels = tex.shape
    total = PADDING
    for _ in range(depth):
        height, width = max(1, height // 2), max(1, width // 2)
        count = height * width * channels
        for n in outer:
            count = count * n
        total = total + count
    return total


_KERNEL = native.kernels("texture_stack")


def _forward(tex: Tensor, depth: int) -> tuple[Tensor]:
    if gpu.runs_on(tex.device):
        return (cuda.build_stack(tex, depth, _length(tex, depth)),)
    data = native.empty((_length(tex, depth),), tex.dtype)
    images, *faces, height, width, channels = tex.shape
    native.call(
        _KERNEL[tex.dtype],
        tex.data_ptr(),
        data.data_ptr(),
        images,
        *(faces or (1,)),
        height,
        width,
        channels,
        depth,
        native.threads(),
    )
    return (data,)


def _backward(*_: Any) -> Sequence[Tensor | None]:
    return ()


def _shapes(tex: Tensor, depth: int) -> tuple[Tensor]:
    return (tex.new_empty((_length(tex, depth),)),)


_primitive = Primitive(
    "build_mipmaps",
    "Tensor tex, int depth",
    _forward,
    _backward,
    _shapes,
    outputs=1,
    differentiable=0,
    constant_outputs=(0,),
)
