# SPDX-License-Identifier: MIT
"""texture: filtered lookups in textures, cube maps and mip stacks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...core import check, dispatch, gpu, native, system_memory
from ...core.autograd import Primitive, plain_call
from . import cuda, mipmap, reference
from .mipmap import MipStack, build_mipmaps

__all__ = ["BOUNDARY_MODES", "FILTER_MODES", "MipStack", "build_mipmaps", "lookup", "texture"]

FILTER_MODES = ("nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear")
BOUNDARY_MODES = ("wrap", "clamp", "zero", "cube")

# ---- public function ---------------------------------------------------------------------------------------


def texture(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None = None,
    *,
    rast: Tensor | None = None,
    mip_level_bias: Tensor | None = None,
    mip: MipStack | Sequence[Tensor] | None = None,
    filter_mode: str = "auto",
    boundary_mode: str = "wrap",
    max_mip_level: int | None = None,
    backend: str | None = None,
) -> Tensor:
    """Look textures up at every pixel, nearest, bilinear or trilinear.

    s runs along the columns of the texture, t along its rows; (0, 0) is the corner of texel
    (row 0, column 0), whose centre is at (0.5/w, 0.5/h).

    Args:
        tex: float [N, h, w, C], or [1, h, w, C] for all images alike; cube maps [N or 1, 6, h, h, C] with
            faces +x, -x, +y, -y, +z, -z.
        uv: coordinates (s, t), float [N, H, W, 2]; for cube maps directions of any length, [N, H, W, 3].
        uv_da: their derivatives by pixels, float [N, H, W, 4]: (ds/dX, ds/dY, dt/dX, dt/dY), as `interpolate`
            returns them; for cube maps [N, H, W, 6]. They choose the mip level.
        rast: fragments as `rasterize` returns them, float [N, H, W, 4]. Where they show no triangle (an id
            below 1, or NaN) the colour is 0, whatever the texture holds, and nothing is looked up. None looks
            up at every pixel, in the background at what `interpolate` leaves there, coordinates of 0.
        mip_level_bias: float [N, H, W], added to the mip level; without `uv_da` it is the level.
        mip: a `MipStack` of `build_mipmaps`; or a list of your own levels 1, 2, ..., each half the size of
            the one before (rounded down, at least 1); or None: the levels are averaged from `tex` in every
            call.
        filter_mode: "nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear", or "auto": the
            last if `uv_da` or `mip_level_bias` is given, else "linear". The first two ignore everything about
            mip levels.
        boundary_mode: "wrap", "clamp", "zero" (outside counts as 0) or "cube".
        max_mip_level: how many levels above `tex` to average at most; None goes down to 1x1, 0 means
            "linear".
        backend: None chooses by device; "cpu", "cuda" or "reference". "opengl", which only rasterises, means
            None here.

    Returns:
        Colours, float [N, H, W, C]. Coordinates that are not finite give finite or NaN colours; a direction
        without a face (zero, NaN) gives 0.

    Gradients:
        To `tex` always, through the averaging also from the levels of a `MipStack` or of None; levels of a
        list receive their own instead. To `uv` unless nearest; to `uv_da` and `mip_level_bias` with
        "linear-mipmap-linear". Derivatives are taken inside the current texel cell. A pixel whose upstream
        gradient is exactly zero contributes nothing, and neither does one where `rast` shows no triangle.
        None to `rast`.

    Errors:
        TypeError for what is no tensor of the right kind, ValueError for shapes that do not fit, among them a
        texture with an odd side where another level is due.

    Cost:
        One pass over the pixels forward. Backward sums texels in bands that fit the cache, in a fixed order:
        bitwise deterministic; on a GPU under `torch.use_deterministic_algorithms(True)`. Averaging levels
        costs a pass over `tex`; `build_mipmaps` saves it. With `rast`, background costs what it takes to
        write zeros; a product with a mask would cost two more passes over the image. Does not synchronise.

    Source:
        Laine et al. 2020, section 3.4; Williams 1983 for trilinear filtering.

    Example:
        >>> import torch, rastergrad as rg
        >>> tex = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1)
        >>> uv = torch.tensor([[0.25, 0.5], [0.5, 0.5]]).view(1, 1, 2, 2)
        >>> rg.texture(tex, uv, boundary_mode="clamp").flatten().tolist()
        [0.0, 0.5]
    """
    return lookup(
        tex,
        uv,
        uv_da,
        mip_level_bias,
        mip,
        rast=rast,
        filter_mode=filter_mode,
        boundary_mode=boundary_mode,
        max_mip_level=max_mip_level,
        backend=backend,
    )


_FILTER_CHOICES = ("auto", *FILTER_MODES)
# Coordinates, texture, derivatives of the former, bias, levels, fragments: see native.ordinary.
_ORDINARY = "fNHW2 fNhwC|1hwC ?fNHW4 ?fNHW ?fL ?fNHW4"
_ORDINARY_CUBE = "fNHW3 fN6hhC|16hhC ?fNHW6 ?fNHW ?fL ?fNHW4"


def lookup(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None = None,
    mip_level_bias: Tensor | None = None,
    mip: MipStack | Sequence[Tensor] | None = None,
    *,
    rast: Tensor | None = None,
    filter_mode: str = "auto",
    boundary_mode: str = "wrap",
    max_mip_level: int | None = None,
    backend: str | None = None,
    circular_gradient: bool = True,
) -> Tensor:
    """`texture`, with a choice for exactly circular footprints, whose level has one-sided derivatives only:
    with `circular_gradient` their mean reaches `uv_da`, without it nothing.
    """
    name = "texture"
    if filter_mode != "auto":
        check.choice(name, "filter_mode", filter_mode, _FILTER_CHOICES)
    check.choice(name, "boundary_mode", boundary_mode, BOUNDARY_MODES)
    most = mipmap.limit(name, max_mip_level)
    if filter_mode == "auto":
        given = uv_da is not None or mip_level_bias is not None
        filter_mode = "linear-mipmap-linear" if given else "linear"
    mipmapped = filter_mode in FILTER_MODES[2:]
    if mipmapped and uv_da is None and mip_level_bias is None:
        raise ValueError(
            f'{name}: `filter_mode`="{filter_mode}" needs `uv_da` or `mip_level_bias` to choose a level; '
            'got neither. Pass one of them, or use filter_mode="linear".'
        )
    if mipmapped and most == 0:
        filter_mode, mipmapped = "linear", False
    if not mipmapped:
        uv_da = mip_level_bias = mip = None
    cube = boundary_mode == "cube"
    modes = (FILTER_MODES.index(filter_mode), BOUNDARY_MODES.index(boundary_mode))
    stack = mip if isinstance(mip, MipStack) else None
    data = None if stack is None else stack.data
    if (
        backend is None
        and (mip is None or data is not None)
        and plain_call()
        and native.ordinary(_ORDINARY_CUBE if cube else _ORDINARY, uv, tex, uv_da, mip_level_bias, data, rast)
    ):
        mipmap.check_size(name, tex)
        depth = 0
        if stack is not None:
            depth = _checked_stack(name, stack, tex, cube).depth
        elif mipmapped:
            depth = len(mipmap.level_sizes(name, tex, most))
            data = mipmap.stack_data(tex, depth) if depth else None
        options = *modes, depth, int(circular_gradient)
        if rast is None:
            return _everywhere.eager(1, tex, uv, uv_da, mip_level_bias, data, *options, [])[0]
        return _where_shown.eager(1, tex, uv, uv_da, mip_level_bias, data, rast, *options, [])[0]
    mipmap.check_texture(name, tex, cube)
    _check_pixels(name, tex, uv, uv_da, mip_level_bias, rast, cube)

    levels: list[Tensor] = []
    depth = 0
    if stack is not None:
        depth = _checked_stack(name, stack, tex, cube).depth
    elif mip is not None:
        levels = _checked_levels(name, mip, tex)
        depth = len(levels)
    elif mipmapped:
        depth = len(mipmap.level_sizes(name, tex, most))
    named = {f"mip[{k}]": level for k, level in enumerate(levels)}
    device = check.same_device(
        name, tex=tex, uv=uv, uv_da=uv_da, rast=rast, mip_level_bias=mip_level_bias, mip=data, **named
    )

    dtype = check.working_dtype(tex, uv, uv_da, rast, mip_level_bias, *levels)
    tex, uv = check.prepared(tex, dtype), check.prepared(uv, dtype)
    uv_da = None if uv_da is None else check.prepared(uv_da, dtype)
    rast = None if rast is None else check.prepared(rast, dtype)
    mip_level_bias = None if mip_level_bias is None else check.prepared(mip_level_bias, dtype)
    levels = [check.prepared(level, dtype) for level in levels]
    if dispatch.resolve(name, backend, device) == "reference":
        return reference.texture(
            tex,
            uv,
            uv_da,
            mip_level_bias,
            _reference_levels(tex, stack, cube) if stack is not None else levels or None,
            rast=rast,
            filter_mode=filter_mode,
            boundary_mode=boundary_mode,
            max_mip_level=depth if mip is None and mipmapped else None,
            circular_gradient=circular_gradient,
        )
    if data is not None:
        data = check.prepared(data, dtype)
    elif mipmapped and not levels and depth:
        data = mipmap.stack_data(tex, depth)
    options = *modes, depth, int(circular_gradient)
    if rast is None:
        return _everywhere(tex, uv, uv_da, mip_level_bias, data, *options, levels)[0]
    return _where_shown(tex, uv, uv_da, mip_level_bias, data, rast, *options, levels)[0]


def _check_pixels(
    name: str, tex: Tensor, uv: Any, uv_da: Any, mip_level_bias: Any, rast: Any, cube: bool
) -> None:
    width = 3 if cube else 2
    check.floating(name, "uv", uv, f"[N, H, W, {width}]", (4,), last=width)
    if 0 in uv.shape[1:3]:
        raise ValueError(f"{name}: `uv` must have at least one pixel per image; got {check.describe(uv)}.")
    if tex.shape[0] not in (1, uv.shape[0]):
        raise ValueError(
            f"{name}: `tex` must have 1 or {uv.shape[0]} images, as `uv` does; got {check.describe(tex)}."
        )
    if uv_da is not None:
        check.floating(name, "uv_da", uv_da, f"[N, H, W, {2 * width}]", (4,), last=2 * width)
        if uv_da.shape[:3] != uv.shape[:3]:
            raise ValueError(
                f"{name}: `uv_da` must be {[*uv.shape[:3], 2 * width]}, pixel for pixel like `uv`; "
                f"got {check.describe(uv_da)}."
            )
    if mip_level_bias is not None:
        check.floating(name, "mip_level_bias", mip_level_bias, "[N, H, W]", (3,))
        if mip_level_bias.shape != uv.shape[:3]:
            raise ValueError(
                f"{name}: `mip_level_bias` must be {list(uv.shape[:3])}, pixel for pixel like `uv`; "
                f"got {check.describe(mip_level_bias)}."
            )
    if rast is not None:
        check.floating(name, "rast", rast, "[N, H, W, 4]", (4,), last=4)
        if rast.shape[:3] != uv.shape[:3]:
            raise ValueError(
                f"{name}: `rast` must be {[*uv.shape[:3], 4]}, pixel for pixel like `uv`; "
                f"got {check.describe(rast)}. Pass what `rasterize` returned for this image."
            )


def _checked_stack(name: str, stack: MipStack, tex: Tensor, cube: bool) -> MipStack:
    if stack.shape != tuple(tex.shape) or stack.cube != cube:
        kind = "cube map" if stack.cube else "texture"
        raise ValueError(
            f"{name}: `mip` was built for a {kind} {list(stack.shape)}, "
            f"but `tex` is a {'cube map' if cube else 'texture'} {list(tex.shape)}. "
            f"Build it with `build_mipmaps(tex, cube={cube})`."
        )
    return stack


def _checked_levels(name: str, mip: Any, tex: Tensor) -> list[Tensor]:
    expected = "a MipStack or a list of tensors, the levels above `tex`"
    levels: list[Any] = [*mip] if isinstance(mip, (list, tuple)) else []
    if not isinstance(mip, (list, tuple)):
        raise TypeError(f"{name}: `mip` must be {expected}; got {check.describe(mip)}.")
    if not mip:
        raise ValueError(
            f"{name}: `mip` must be {expected}; got an empty list. "
            "Pass None to average the levels from `tex`."
        )
    *outer, height, width, channels = tex.shape
    for k, level in enumerate(levels):
        if height == 1 and width == 1:
            raise ValueError(
                f"{name}: `mip` must end where a level is 1x1; got {len(levels)} levels above `tex` "
                f"{list(tex.shape)}, which allows {k}."
            )
        height, width = max(1, height // 2), max(1, width // 2)
        wanted = [*outer, height, width, channels]
        check.floating(name, f"mip[{k}]", level, str(wanted), (tex.ndim,))
        if list(level.shape) != wanted:
            raise ValueError(
                f"{name}: `mip[{k}]` must be {wanted}, half the level before, rounded down; "
                f"got {check.describe(level)}."
            )
    return levels


def _reference_levels(tex: Tensor, stack: MipStack, cube: bool) -> list[Tensor]:
    """Values of the stack, gradients to `tex`."""
    averaged = reference.build_mipmaps(tex, stack.depth, cube)
    stored = mipmap.stack_levels(stack.data.to(tex.dtype), stack.shape, stack.depth)
    return [a + (s - a).detach() for a, s in zip(averaged, stored, strict=True)]


# ---- forward -----------------------------------------------------------------------------------------------

_FORWARD = native.kernels("texture_forward")
_BACKWARD = native.kernels("texture_backward")


def _table(levels: Sequence[Tensor | None]) -> Tensor | None:
    """Addresses of the levels, 0 for None."""
    if not levels:
        return None
    return torch.tensor([0 if x is None else x.data_ptr() for x in levels], dtype=torch.int64)


def _query(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None,
    bias: Tensor | None,
    stack: Tensor | None,
    rast: Tensor | None,
    shown: Tensor | None,
    modes: Sequence[int],
    table: Tensor | None,
) -> tuple[Tensor | int | None, ...]:
    """The fields of a kernel's `Query`."""
    filter_mode, boundary_mode, depth, circular = modes
    images, rows, columns, _ = uv.shape
    textures, *_, height, width, channels = tex.shape
    sizes = images, rows, columns, textures, height, width, channels, depth
    pointers = tex, uv, uv_da, bias, rast, shown, stack, table
    return *pointers, *sizes, filter_mode, boundary_mode, circular, native.threads()


def _everywhere_forward(
    tex: Tensor, uv: Tensor, uv_da: Tensor | None, bias: Tensor | None, stack: Tensor | None, *rest: Any
) -> tuple[Tensor]:
    filter_mode, boundary_mode, depth, circular, levels = rest
    modes = filter_mode, boundary_mode, depth, circular
    if gpu.holds(tex):
        return (cuda.forward(tex, uv, uv_da, bias, stack, None, *modes, levels),)
    return (_looked_up(tex, uv, uv_da, bias, stack, None, None, modes, levels),)


def _where_shown_forward(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None,
    bias: Tensor | None,
    stack: Tensor | None,
    rast: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor]:
    filter_mode, boundary_mode, depth, circular, levels = rest
    modes = filter_mode, boundary_mode, depth, circular
    if gpu.holds(tex):
        return cuda.forward(tex, uv, uv_da, bias, stack, rast, *modes, levels), _none_shown(tex)
    shown = native.empty((_shown_size(uv),), torch.uint8)
    return _looked_up(tex, uv, uv_da, bias, stack, rast, shown, modes, levels), shown


def _shown_size(uv: Tensor) -> int:
    """Bytes that the kernel keeps for the way back: a bit for each pixel that shows a triangle, in words of
    16 neighbours. Narrow images are laid out in wider rows, see the kernel's `layout_of`.
    """
    images, height, width, _ = uv.shape
    return 2 * images * (height * -(-width // 16) if width >= 64 else 32 * -(-height * width // 512))


def _none_shown(like: Tensor) -> Tensor:
    return like.new_empty(0, dtype=torch.uint8)


def _looked_up(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None,
    bias: Tensor | None,
    stack: Tensor | None,
    rast: Tensor | None,
    shown: Tensor | None,
    modes: Sequence[int],
    levels: Sequence[Tensor],
) -> Tensor:
    images, height, width, _ = uv.shape
    channels = tex.shape[-1]
    count = images * height * width * channels
    system_memory.require("texture", count * tex.element_size(), (images, height, width))
    out = native.empty_as(tex, images, height, width, channels)
    query = _query(tex, uv, uv_da, bias, stack, rast, shown, modes, _table(levels))
    native.call(_FORWARD[tex.dtype], *query, out)
    return out


# ---- backward ----------------------------------------------------------------------------------------------


def _everywhere_backward(
    needs: Sequence[bool], inputs: Sequence[Any], outputs: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    tex, uv, uv_da, bias, stack, *rest = inputs
    return _gradients(needs, tex, uv, uv_da, bias, stack, None, None, rest[:4], rest[4:], grads[0])


def _where_shown_backward(
    needs: Sequence[bool], inputs: Sequence[Any], outputs: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    tex, uv, uv_da, bias, stack, rast, *rest = inputs
    return _gradients(needs, tex, uv, uv_da, bias, stack, rast, outputs[0], rest[:4], rest[4:], grads[0])


def _gradients(
    needs: Sequence[bool],
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None,
    bias: Tensor | None,
    stack: Tensor | None,
    rast: Tensor | None,
    shown: Tensor | None,
    modes: Sequence[int],
    levels: Sequence[Tensor],
    d_out: Tensor | None,
) -> Sequence[Tensor | None]:
    linear, mixed = modes[0] >= 1, modes[0] == 3
    if gpu.holds(tex):
        if d_out is None:
            return (None,) * len(needs)
        asked = (needs[0], needs[1] and linear, needs[2] and mixed, needs[3] and mixed, *needs[4:])
        found = cuda.backward(asked, tex, uv, uv_da, bias, stack, rast, modes, levels, d_out)
        return found

    *pixels, _ = uv.shape
    inputs = tex, uv, uv_da, bias
    wanted = sum([x.nbytes for x, need in zip(inputs, needs, strict=False) if need and x is not None])
    system_memory.require("texture", wanted, pixels, "gradients")
    d_tex = native.empty_as(tex) if needs[0] else None
    d_uv = native.empty_as(uv) if needs[1] and linear else None
    d_uv_da = native.empty_as(uv_da) if uv_da is not None and needs[2] and mixed else None
    d_bias = native.empty_as(bias) if bias is not None and needs[3] and mixed else None
    d_levels: list[Tensor | None] = []
    for x, need in zip(levels, needs[4:], strict=True):
        d_levels.append(native.empty_as(x) if need else None)
    if d_out is not None:
        table, d_table = _table(levels), _table(d_levels)
        native.call(
            _BACKWARD[tex.dtype],
            *_query(tex, uv, uv_da, bias, stack, None, shown, modes, table),
            d_out,
            d_tex,
            d_uv,
            d_uv_da,
            d_bias,
            d_table,
        )
    return d_tex, d_uv, d_uv_da, d_bias, *d_levels


# ---- shape-only version ------------------------------------------------------------------------------------


def _everywhere_shapes(tex: Tensor, uv: Tensor, *_: Any) -> tuple[Tensor]:
    return (tex.new_empty((*uv.shape[:3], tex.shape[-1])),)


def _where_shown_shapes(tex: Tensor, uv: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    shown = _none_shown(tex) if gpu.holds(tex) else tex.new_empty(_shown_size(uv), dtype=torch.uint8)
    return *_everywhere_shapes(tex, uv), shown


# ---- registration ------------------------------------------------------------------------------------------

_PIXELS = "Tensor tex, Tensor uv, Tensor? uv_da, Tensor? bias, Tensor? stack"
_MODES = "int filter_mode, int boundary_mode, int depth, int circular, Tensor[] levels"

_everywhere = Primitive(
    "texture",
    f"{_PIXELS}, {_MODES}",
    _everywhere_forward,
    _everywhere_backward,
    _everywhere_shapes,
    outputs=1,
    differentiable=4,
)
_where_shown = Primitive(
    "texture_where_shown",
    f"{_PIXELS}, Tensor rast, {_MODES}",
    _where_shown_forward,
    _where_shown_backward,
    _where_shown_shapes,
    outputs=2,
    differentiable=4,
    constant_outputs=(1,),
    saved_outputs=(1,),
)
