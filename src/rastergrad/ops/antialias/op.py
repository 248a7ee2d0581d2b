# SPDX-License-Identifier: MIT
"""antialias: pixels on silhouettes blend with their neighbours, which makes images differentiable."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...core import check, dispatch, gpu, native, system_memory
from ...core.autograd import Primitive, plain_call
from ...core.debug import debugging
from . import cuda, reference, reference_outline
from .topology import EdgeTopology, built, matching
from .visibility import supersampled

# ---- public function --------------------------------------------------------------------------------------


def antialias(
    color: Tensor,
    rast: Tensor,
    pos: Tensor,
    tri: Tensor,
    *,
    method: str = "outline",
    intersections: bool = True,
    topology: EdgeTopology | None = None,
    pos_gradient_boost: float = 1.0,
    visibility: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Blend pixels where one surface ends before another, and so give visibility a gradient.

    Two neighbouring pixels A and B that see different triangles may have an outline between them: an edge at
    which a surface ends on the screen. The pixel in which it ends takes over the other one's colour, in
    proportion to the area between their border and the outline::

        +-------+-------+      The surface seen at A ends in B: B gains area (A - B).
        |   A   |###B / |      Had it ended in A, then A would have gained area (B - A).
        |   +   |###+/  |      Area (#): between the border of the two pixels and the
        |       |###/   |      outline, over the height of the row.
        +-------+--/----+

    Args:
        color: image, float [N, H, W, C].
        rast: fragment buffer of `rasterize`, float [N, H, W, 4]: (u, v, z/w, id).
        pos: clip-space positions that were rasterised, float [N, V, 4], or [V, 4] for all images.
        tri: vertex indices that were rasterised, integer [T, 3].
        method: "outline" walks over the surface from pixel to pixel, however many triangles that takes, and
            follows the outline that it meets through the row of pixels. "pixel_pair" is the rule of the
            paper: it knows only the three edges of the nearer of the two triangles, and loses most of
            the gradient on meshes whose triangles are smaller than a pixel at the rim. Choose it to
            reproduce results of that rule.
        intersections: whether "outline" also blends where two surfaces pass through each other. Without
            effect on "pixel_pair", which never does.
        topology: result of `edge_topology(tri)`; None finds it out, or remembers it.
        pos_gradient_boost: multiplies the gradient of `pos`. 1 changes nothing; larger values let the few
            pixels at outlines weigh more against other gradients.
        visibility: fragment buffer of the same scene at k times the resolution, float [N, kH, kW, 4] with any
            whole k: `rasterize(pos, tri, (k * H, k * W))[0]`. What is seen is then decided k x k times per
            pixel, while `color` is shaded once per pixel: for hair, foliage, and whatever else is
            thinner than a pixel. Sub-samples borrow their colour from a pixel nearby, preferably one that
            shows the same triangle, are antialiased, and averaged. k = 2 is enough for most scenes.
        backend: None chooses by device; "cpu", "cuda" or "reference". "opengl", which only rasterises, means
            None here.

    Returns:
        The blended image, float [N, H, W, C].

    Gradients:
        To `color`, exactly. To `pos`, from the pixels that are blended. With "outline", to x, y, w of both
        ends of each piece of outline, by the area that it moves, the ends of the piece within the row being
        held fixed; and where surfaces meet, to x, y, z, w of the corners of both triangles, by the place at
        which their depths are equal. With "pixel_pair", to x, y, w of the edge's ends, by the place at which
        it crosses between the centres; none where that lies beyond a centre, and none to z. None to `rast`,
        `tri` and `visibility`: for the last, `rasterize` may get `pos.detach()`. Which pixel a sub-sample
        borrows from counts as constant. A zero upstream gradient contributes nothing, even where colours
        are not finite; nor does a derivative that is not finite.

    Errors:
        TypeError for what is no tensor of the right kind. ValueError for an unknown method, for shapes that
        do not fit, for a topology of another mesh, and for a vertex index out of range, naming the triangle;
        on a GPU that is only looked for after `debug(True)`, and such triangles are left out otherwise.

    Cost:
        One pass over `color` and `rast`, bound by memory, and work for each pair of pixels that show
        different triangles near an outline; "outline" also looks once at each triangle. `outline_counts`
        counts. A walk ends after 1,024 triangles, and its pair is not blended. Without `topology`: see
        `edge_topology`. Bitwise deterministic, the gradient of `pos` on a GPU only under
        `torch.use_deterministic_algorithms(True)`. Does not synchronise. With `visibility`, k^2 times as much
        work and memory, plus rasterising at k times the resolution.

    Source:
        docs/definition.md, 5. "pixel_pair" is that of Laine et al. 2020, section 3.5. What a gradient of
        visibility is: docs/whose-gradient.md.

    Example:
        >>> import torch, rastergrad as rg
        >>> pos = torch.tensor([[-1.0, -1, 0, 1], [0.2, -1, 0, 1], [-1, 3, 0, 1]], requires_grad=True)
        >>> tri = torch.tensor([[0, 1, 2]])
        >>> rast, _ = rg.rasterize(pos[None], tri, (8, 8))
        >>> mask = (rast[..., 3:] > 0).float()
        >>> image = rg.antialias(mask, rast, pos[None], tri)
        >>> image.mean().backward()
        >>> bool(pos.grad[1, 0] > 0)
        True
    """
    check.choice("antialias", "method", method, METHODS)
    check.flag("antialias", "intersections", intersections)
    options = topology, pos_gradient_boost, backend
    if visibility is None:
        return blend(color, rast, pos, tri, *options, method=method, intersections=intersections)
    return supersampled(
        color,
        rast,
        pos,
        tri,
        visibility,
        topology,
        backend,
        lambda fine: blend(fine, visibility, pos, tri, *options, method=method, intersections=intersections),
    )


METHODS = ("outline", "pixel_pair")


def blend(
    color: Tensor,
    rast: Tensor,
    pos: Tensor,
    tri: Tensor,
    topology: EdgeTopology | None = None,
    pos_gradient_boost: float = 1.0,
    backend: str | None = None,
    *,
    strict: bool = True,
    method: str = "pixel_pair",
    intersections: bool = True,
) -> Tensor:
    """`antialias`, with a choice for vertex indices out of range: an error with `strict`, else such triangles
    count as absent, as the drop-in module wants it.
    """
    name = "antialias"
    twins, bounds = (topology.twins, topology.bounds) if type(topology) is EdgeTopology else (None, None)
    if (
        backend is None
        and (topology is None or twins is not None)
        and plain_call()
        and native.ordinary("fNHWC fNHW4 fNV4|V4 iT3 ?iT3 ?i2", color, rast, pos, tri, twins, bounds)
    ):
        boost = _boost(pos_gradient_boost)
        if method == "outline":
            return _outline.eager(1, color, pos, rast, tri, twins, bounds, boost, intersections)[0]
        return _pixel_pair.eager(1, color, pos, rast, tri, twins, bounds, boost, strict)[0]
    check.floating(name, "color", color, "[N, H, W, C]", (4,))
    check.floating(name, "rast", rast, "[N, H, W, 4]", (4,), last=4)
    check.floating(name, "pos", pos, "[N, V, 4] or [V, 4]", (2, 3), last=4)
    tri = check.triangles(name, "tri", tri)
    _check_shapes(color, rast, pos)
    if topology is not None:
        topology = matching(name, topology, tri)
    boost = _boost(pos_gradient_boost)
    device = check.same_device(
        name, color=color, rast=rast, pos=pos, tri=tri, topology=None if topology is None else topology.twins
    )
    dtype = check.working_dtype(color, rast, pos)
    color, rast, pos = check.prepared(color, dtype), check.prepared(rast, dtype), check.prepared(pos, dtype)
    if dispatch.resolve(name, backend, device) == "reference":
        if strict or method == "outline":
            refuse_indices(name, tri, pos.shape[-2])
        if method == "outline":
            return reference_outline.antialias(
                color,
                rast,
                pos,
                tri.long(),
                None if topology is None else topology.twins,
                intersections=intersections,
                pos_gradient_boost=boost,
            )
        opposites = None if topology is None else _opposites(topology, tri)
        return reference.antialias(color, rast, pos, tri.long(), opposites, pos_gradient_boost=boost)
    if method == "outline":
        image, _ = _outline(color, pos, rast, tri, twins, bounds, boost, intersections)
    else:
        (image,) = _pixel_pair(color, pos, rast, tri, twins, bounds, boost, strict)
    return image


def _check_shapes(color: Tensor, rast: Tensor, pos: Tensor) -> None:
    if color.shape[:3] != rast.shape[:3]:
        raise ValueError(
            f"antialias: `color` must have the images, height and width of `rast`, {list(rast.shape[:3])}; "
            f"got {check.describe(color)}."
        )
    if color.shape[1] == 0 or color.shape[2] == 0:
        raise ValueError(
            f"antialias: `color` must have a height and width above 0; got {check.describe(color)}."
        )
    if pos.ndim == 3 and pos.shape[0] != color.shape[0]:
        raise ValueError(
            f"antialias: `pos` must have {color.shape[0]} images, as `color` does, or be [V, 4]; "
            f"got {check.describe(pos)}."
        )


def _boost(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"antialias: `pos_gradient_boost` must be a number; got {check.describe(value)}."
        ) from None


def refuse_indices(function: str, tri: Tensor, vertices: int) -> None:
    """Refuse vertex indices out of range."""
    bad = ((tri < 0) | (tri >= vertices)).any(1)
    if not bool(bad.any()):
        return
    first = int(bad.nonzero()[0, 0])
    raise ValueError(
        f"{function}: `tri` must hold indices in [0, {vertices}), as `pos` has {vertices} vertices; "
        f"got {check.numbers(tri[first])} in triangle {first}. Pass the `pos` and `tri` that were rasterised."
    )


def _opposites(topology: EdgeTopology, tri: Tensor) -> Tensor:
    """The opposite vertex across each edge, int64 [T, 3], or -1: what the reference takes."""
    twins = topology.twins.long()
    corners = tri.long().reshape(-1)
    return torch.where(twins >= 0, corners[twins.clamp(min=0)], -1) if len(corners) else twins


# ---- forward ----------------------------------------------------------------------------------------------

_PIXEL_PAIR = native.kernels("antialias_forward"), native.kernels("antialias_backward")
_OUTLINE = native.kernels("outline_forward"), native.kernels("outline_backward")


def usable_twins(
    function: str, pos: Tensor, tri: Tensor, twins: Tensor | None, bounds: Tensor | None, strict: bool
) -> Tensor:
    """The twins given, or those of `tri`; none of a triangle that has an index out of range."""
    vertices = pos.shape[-2]
    if gpu.holds(tri):
        if strict and debugging():
            refuse_indices(function, tri, vertices)
        # The GPU is not asked for the bounds: its kernels leave out what does not exist.
        return built(tri, vertices)[0] if twins is None else twins
    if twins is None or bounds is None:
        twins, bounds = built(tri, vertices)
    lowest, highest = check.numbers(bounds)
    if lowest >= 0 and highest < vertices:
        return twins
    if strict:
        refuse_indices(function, tri, vertices)
    # Bad triangles that a given topology has entered must not hide the neighbours of good ones.
    return built(tri, vertices)[0]


def scene_fields(
    pixels: Sequence[int], rast: Tensor, pos: Tensor, tri: Tensor, twins: Tensor
) -> tuple[Tensor | int, ...]:
    """The fields of a kernel's `Scene`."""
    *outer, vertices, _ = pos.shape
    stride = 4 * vertices if outer else 0
    return rast, pos, tri, twins, *pixels, vertices, tri.shape[0], stride, native.threads()


def _pixel_pair_forward(
    color: Tensor,
    pos: Tensor,
    rast: Tensor,
    tri: Tensor,
    twins: Tensor | None,
    bounds: Tensor | None,
    boost: float,
    strict: bool,
) -> tuple[Tensor, ...]:
    usable = usable_twins("antialias", pos, tri, twins, bounds, strict)
    if gpu.holds(color):
        return (cuda.pixel_pair(cuda.Scene(rast, pos, tri, usable), color),)
    *pixels, _ = rast.shape
    scene = scene_fields(pixels, rast, pos, tri, usable)
    system_memory.require("antialias", color.nbytes, pixels)
    image = native.empty_as(color)
    native.call(_PIXEL_PAIR[0][color.dtype], *scene, color, image, color.shape[-1])
    return (image,)


def _outline_forward(
    color: Tensor,
    pos: Tensor,
    rast: Tensor,
    tri: Tensor,
    twins: Tensor | None,
    bounds: Tensor | None,
    boost: float,
    intersections: bool,
) -> tuple[Tensor, ...]:
    usable = usable_twins("antialias", pos, tri, twins, bounds, True)
    if gpu.holds(color):
        image = cuda.outline(cuda.Scene(rast, pos, tri, usable), color, intersections)
        return image, color.new_empty(0, dtype=torch.uint8)
    *pixels, _ = rast.shape
    scene = scene_fields(pixels, rast, pos, tri, usable)
    system_memory.require("antialias", color.nbytes, pixels)
    image = native.empty_as(color)
    outlines = native.empty((_outlines_size(pixels, pos, tri),), torch.uint8)
    options = color.shape[-1], int(intersections)
    bad = native.call(_OUTLINE[0][color.dtype], *scene, color, image, *options, outlines)
    if bad >= 0:
        refuse_indices("antialias", tri, pos.shape[-2])
    return image, outlines


def _outlines_size(pixels: Sequence[int], pos: Tensor, tri: Tensor) -> int:
    """Bytes that the kernel keeps for the way back: which edges of triangles are outlines, a map of the
    image in cells of 8 x 8 pixels, and two bits per pixel, in words of 8 bytes: whether it was blended with
    the pixel to its right, and with the one above.
    """
    images, height, width = pixels
    tables = images if pos.ndim == 3 else 1
    edges = tables * (tri.shape[0] + -(-height // 8) * -(-width // 8))
    return edges + images * height * 2 * 8 * -(-width // 64)


# ---- backward ---------------------------------------------------------------------------------------------


def _pixel_pair_backward(
    needs: Sequence[bool], inputs: Sequence[Any], outputs: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    return _run_backward(_PIXEL_PAIR, needs, inputs, grads[0])


def _outline_backward(
    needs: Sequence[bool], inputs: Sequence[Any], outputs: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    return _run_backward(_OUTLINE, needs, inputs, grads[0], int(inputs[7]), outputs[0])


def _run_backward(
    kernels: tuple[dict[torch.dtype, int], dict[torch.dtype, int]],
    needs: Sequence[bool],
    inputs: Sequence[Any],
    d_image: Tensor | None,
    *options: Any,
) -> Sequence[Tensor | None]:
    color, pos, rast, tri, twins, bounds, boost, _ = inputs
    if d_image is None or not any(needs):
        return None, None
    usable = usable_twins("antialias", pos, tri, twins, bounds, False)
    if gpu.holds(color):
        given = cuda.Scene(rast, pos, tri, usable), color, d_image, boost
        if options:
            d_color, d_pos = cuda.outline_backward(*given, bool(options[0]), *needs)
        else:
            d_color, d_pos = cuda.pixel_pair_backward(*given, *needs)
        return d_color, d_pos
    wanted = (color.nbytes if needs[0] else 0) + (pos.nbytes if needs[1] else 0)
    *pixels, _ = rast.shape
    scene = scene_fields(pixels, rast, pos, tri, usable)
    system_memory.require("antialias", wanted, pixels, "gradients")
    d_color = native.empty_as(color) if needs[0] else None
    d_pos = native.empty_as(pos) if needs[1] else None
    native.call(
        kernels[1][color.dtype],
        *scene,
        color,
        d_image,
        d_color,
        d_pos,
        color.shape[-1],
        boost,
        *options,
    )
    return d_color, d_pos


# ---- shape-only version -----------------------------------------------------------------------------------


def _shapes(color: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return (color.new_empty(color.shape),)


def _outline_shapes(color: Tensor, pos: Tensor, rast: Tensor, tri: Tensor, *_: Any) -> tuple[Tensor, ...]:
    size = 0 if gpu.holds(color) else _outlines_size(rast.shape[:3], pos, tri)
    return color.new_empty(color.shape), color.new_empty(size, dtype=torch.uint8)


# ---- registration -----------------------------------------------------------------------------------------

_INPUTS = "Tensor color, Tensor pos, Tensor rast, Tensor tri, Tensor? twins, Tensor? bounds, float boost"

_pixel_pair = Primitive(
    "antialias",
    f"{_INPUTS}, bool strict",
    _pixel_pair_forward,
    _pixel_pair_backward,
    _shapes,
    outputs=1,
    differentiable=2,
)
_outline = Primitive(
    "antialias_outline",
    f"{_INPUTS}, bool intersections",
    _outline_forward,
    _outline_backward,
    _outline_shapes,
    outputs=2,
    differentiable=2,
    constant_outputs=(1,),
    saved_outputs=(1,),
)
