# SPDX-License-Identifier: MIT
"""rasterize: triangles into fragments (u, v, z/w, id) with image-space derivatives; depth layers."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ...core import check, dispatch, gpu, native, system_memory
from ...core.autograd import Primitive, plain_call
from ...core.debug import debugging
from . import cuda, opengl, reference

_LARGEST_SIDE = 32768

# ---- public function ---------------------------------------------------------------------------------------


def rasterize(
    pos: Tensor,
    tri: Tensor,
    resolution: Sequence[int],
    *,
    ranges: Tensor | None = None,
    db_grad: bool = True,
    depth_grad: bool = True,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the nearest triangle at every pixel centre, and where on that triangle the pixel lies.

    Clip space is that of OpenGL: a point is visible if w > 0 and |x|, |y|, |z| <= w; z/w = -1 is near.

        row H-1  +-----------+ (x/w, y/w) = (1, 1)       pixel (row j, column i) has its centre at
                 |           |                            x/w = (2 i + 1) / W - 1
           row 0 +-----------+                            y/w = (2 j + 1) / H - 1
        (-1, -1)  column 0 ... W-1

    Args:
        pos: clip-space vertices (x, y, z, w), float [N, V, 4]: every image draws all triangles with its own
            vertices; or [V, 4] with `ranges`: images draw parts of one mesh.
        tri: vertex indices, integer [T, 3]. Both windings are drawn.
        resolution: (height, width) in pixels.
        ranges: integer [N, 2], (first triangle, count) per image; only for `pos` of shape [V, 4]. Ranges may
            overlap or be empty; triangles past the end of `tri` do not exist.
        db_grad: whether gradients that reach `rast_db` go on to `pos`.
        depth_grad: whether gradients that reach z/w go on to `pos`.
        backend: None chooses by device; "cpu", "cuda", "reference", or "opengl", which draws with the
            graphics hardware's own rasteriser, or Mesa's in software, for tensors on any device.

    Returns:
        `rast`, float [N, H, W, 4]: (u, v, z/w, id). Corners 0, 1, 2 have (u, v) = (1, 0), (0, 1), (0, 0),
        perspective-correct. id is the triangle's index + 1, 0 for background; above 2^24 the float's bit
        pattern goes on counting. `rast_db`, float [N, H, W, 4]: (du/dX, du/dY, dv/dX, dv/dY) per pixel, X to
        the right and Y up. Background is exactly zero in both.

    Gradients:
        To `pos`, from (u, v), from z/w and from `rast_db`. None from id, none from which triangle is seen:
        `antialias` gives gradients of visibility. A pixel whose upstream gradients are exactly zero
        contributes nothing. Nor does one whose centre lies outside its exact triangle: which triangle is seen
        is decided on positions rounded to 1/256 pixel, and a sliver that wins a pixel in this way would
        outweigh all others.

    Errors:
        TypeError for what is no tensor of the right kind, ValueError for shapes that do not fit, for a
        vertex index out of range and for sides above 32768 pixels, or the driver's limit with OpenGL.
        RuntimeError where there is no OpenGL: it names the cause and what to install. A triangle with a
        vertex that is not finite is not drawn.

    Cost:
        A few nanoseconds per triangle and per pixel; scratch of 16 bytes per vertex and 4 per triangle and
        tile of 64 x 64 pixels; on a GPU 16 per vertex, 8 per pixel and at most 160 MB. Bitwise deterministic,
        gradients included, those on a GPU under `torch.use_deterministic_algorithms(True)`. Does not
        synchronise, unless OpenGL's results go through the CPU's memory.

    Source:
        Laine et al. 2020, sections 3.1 and 3.2; clipping: Sutherland and Hodgman 1974; edge functions: Olano
        and Greer 1997.

    Example:
        >>> import torch, rastergrad as rg
        >>> pos = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]])
        >>> tri = torch.tensor([[0, 1, 2]])
        >>> rast, rast_db = rg.rasterize(pos, tri, (2, 2))
        >>> rast[0, 0, 1].tolist(), rast_db[0, 0, 1].tolist()
        ([0.5, 0.375, 0.0, 1.0], [-0.25, -0.25, 0.25, 0.0])
    """
    rast, rast_db, _ = draw("rasterize", pos, tri, resolution, ranges, db_grad, depth_grad, backend)
    return rast, rast_db


def depth_layers(
    pos: Tensor,
    tri: Tensor,
    resolution: Sequence[int],
    max_layers: int | None = None,
    *,
    ranges: Tensor | None = None,
    db_grad: bool = True,
    depth_grad: bool = True,
    backend: str | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Peel the scene: the nearest surface at every pixel, then what lies behind it, layer by layer.

    Args:
        pos, tri, resolution, ranges, db_grad, depth_grad, backend: as for `rasterize`. Do not change them
            between layers.
        max_layers: how many layers at most; None goes on until a layer is empty.

    Returns:
        An iterator over (`rast`, `rast_db`), as `rasterize` returns them; layer 0 is what `rasterize` draws.
        It ends after `max_layers` layers or before the first layer in which no pixel is covered. Surfaces of
        equal depth are reported once.

    Gradients:
        Those of `rasterize`, for each layer.

    Errors:
        Those of `rasterize`; a vertex index out of range or a negative range is found when the first layer
        is drawn. ValueError for a negative `max_layers`.

    Cost:
        That of `rasterize` per layer, 4 bytes per pixel for the depth of the last layer, and one pass over
        the ids.

    Source:
        Everitt 2001, "Interactive order-independent transparency".

    Example:
        >>> import torch, rastergrad as rg
        >>> far = torch.tensor([[-1.0, -1, 0.5, 1], [3, -1, 0.5, 1], [-1, 3, 0.5, 1]])
        >>> pos = torch.cat([far, far * torch.tensor([1, 1, 0, 1])])
        >>> layers = rg.depth_layers(pos[None], torch.arange(6).view(2, 3), (4, 4))
        >>> [rast[0, 0, 0, 3].item() for rast, _ in layers]
        [2.0, 1.0]
    """
    name = "depth_layers"
    given: Any = max_layers
    if given is not None and (isinstance(given, bool) or not isinstance(given, int)):
        raise TypeError(
            f"{name}: `max_layers` must be None or a whole number; got {check.describe(max_layers)}."
        )
    if max_layers is not None and max_layers < 0:
        raise ValueError(f"{name}: `max_layers` must be None or at least 0; got {max_layers}.")
    scene = _checked(name, pos, tri, resolution, ranges, db_grad, depth_grad, backend, strict=True)
    return _peel(scene, max_layers)


def _peel(scene: "_Scene", max_layers: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    key: Tensor | None = None
    layer = 0
    while max_layers is None or layer < max_layers:
        rast, rast_db, key = scene.draw(previous_key=key, layered=True)
        if not bool((rast.detach()[..., 3] != 0).any()):
            return
        yield rast, rast_db
        layer += 1


def draw(
    function: str,
    pos: Tensor,
    tri: Tensor,
    resolution: Sequence[int],
    ranges: Tensor | None = None,
    db_grad: bool = True,
    depth_grad: bool = True,
    backend: str | None = None,
    *,
    strict: bool = True,
    interior_gate: bool = True,
    previous_key: Tensor | None = None,
    layered: bool = False,
) -> tuple[Tensor, ...]:
    """What `rasterize` and the drop-in module share: (rast, rast_db, depth_key).

    Args:
        function: the name that error messages begin with.
        strict: whether a vertex index out of range is an error; if not, such triangles are not drawn.
        interior_gate: whether pixels with their centre outside the exact triangle are left out of gradients.
        layered: whether to return the depth of what was drawn; otherwise `depth_key` is empty.
        previous_key: `depth_key` of the layer before; only what lies behind it is drawn.
    """
    if (
        backend is None
        and not layered
        and plain_call()
        and native.ordinary("fNV4 iT3", pos, tri)
        and type(db_grad) is type(depth_grad) is bool
    ):
        height, width = _size(function, resolution)
        flags = False, db_grad, depth_grad, interior_gate
        refuse_as = function if strict else ""
        return *_primitive.eager(2, pos, tri, None, None, height, width, *flags, refuse_as, "cpu"), _NO_KEY
    scene = _checked(
        function,
        pos,
        tri,
        resolution,
        ranges,
        db_grad,
        depth_grad,
        backend,
        strict=strict,
        interior_gate=interior_gate,
    )
    return scene.draw(previous_key=previous_key, layered=layered)


class _Scene:
    """Inputs that have passed the door.

    `refuse_as` is the function to name when a vertex index is out of range; with "" such triangles are left
    out.
    """

    def __init__(
        self,
        pos: Tensor,
        tri: Tensor,
        ranges: Tensor | None,
        size: tuple[int, int],
        flags: tuple[bool, bool, bool],
        refuse_as: str,
        backend: str,
    ) -> None:
        self.pos, self.tri, self.ranges, self.size, self.flags = pos, tri, ranges, size, flags
        self.refuse_as, self.backend = refuse_as, backend

    def draw(self, *, previous_key: Tensor | None, layered: bool) -> tuple[Tensor, Tensor, Tensor]:
        height, width = self.size
        db_grad, depth_grad, interior_gate = self.flags
        if self.backend == "reference":
            _refuse_negative(self.refuse_as or "rasterize", self.ranges)
            if self.refuse_as:
                _refuse_bad_triangle(self.refuse_as, self.tri, self.pos.shape[-2])
            rast, rast_db, key = reference.rasterize(
                self.pos,
                self.tri.long(),
                height,
                width,
                self.ranges,
                db_grad=db_grad,
                depth_grad=depth_grad,
                interior_gate=interior_gate,
                previous_key=previous_key,
            )
            return rast, rast_db, key if layered else key.new_empty(0)
        rast, rast_db, key = _primitive(
            self.pos,
            self.tri,
            self.ranges,
            previous_key,
            height,
            width,
            layered,
            db_grad,
            depth_grad,
            interior_gate,
            self.refuse_as,
            self.backend,
        )
        return rast, rast_db, key


def _checked(
    function: str,
    pos: Tensor,
    tri: Tensor,
    resolution: Sequence[int],
    ranges: Tensor | None,
    db_grad: bool,
    depth_grad: bool,
    backend: str | None,
    *,
    strict: bool,
    interior_gate: bool = True,
) -> _Scene:
    check.floating(function, "pos", pos, "[N, V, 4], or [V, 4] with `ranges`", (2, 3), last=4)
    tri = check.triangles(function, "tri", tri)
    size = _size(function, resolution)
    check.flag(function, "db_grad", db_grad)
    check.flag(function, "depth_grad", depth_grad)
    device = check.same_device(function, pos=pos, tri=tri)
    table = _ranges(function, ranges) if pos.ndim == 2 else None
    backend = dispatch.resolve(function, backend, device, draws=True)
    pos = check.prepared(pos, check.working_dtype(pos))
    flags = (db_grad, depth_grad, interior_gate)
    return _Scene(pos, tri, table, size, flags, function if strict else "", backend)


def _size(function: str, resolution: Sequence[int]) -> tuple[int, int]:
    height, width = check.resolution(function, resolution)
    if height > _LARGEST_SIDE or width > _LARGEST_SIDE:
        raise ValueError(
            f"{function}: `resolution` must be at most {_LARGEST_SIDE} pixels a side; got {(height, width)}. "
            "Draw the image in parts."
        )
    return height, width


def _ranges(function: str, ranges: Any) -> Tensor:
    """(first triangle, count) per image as int64 on the CPU."""
    expected = "an integer tensor of shape [N, 2], (first triangle, count) per image"
    if ranges is None:
        raise ValueError(
            f"{function}: `pos` of shape [V, 4] needs `ranges`, {expected}; got None. "
            "For one image of all triangles pass `pos[None]`."
        )
    check.tensor(function, "ranges", ranges, expected)
    if ranges.is_floating_point() or ranges.is_complex() or ranges.dtype == torch.bool:
        raise TypeError(
            f"{function}: `ranges` must be {expected}; got {check.describe(ranges)}. "
            "Convert with `ranges.int()`."
        )
    if ranges.ndim != 2 or ranges.shape[1] != 2:
        raise ValueError(f"{function}: `ranges` must be {expected}; got {check.describe(ranges)}.")
    return ranges.detach().to(device="cpu", dtype=torch.int64).contiguous()


def _refuse_negative(function: str, ranges: Tensor | None) -> None:
    """Asked where numbers exist: torch.compile traces the door without any."""
    if ranges is None:
        return
    negative = (ranges < 0).any(1)
    if bool(negative.any()):
        image = int(negative.nonzero()[0, 0])
        came = tuple(check.numbers(ranges[image]))
        raise ValueError(f"{function}: `ranges` must hold no negative number; got {came} for image {image}.")


def _refuse_bad_triangle(function: str, tri: Tensor, vertices: int) -> None:
    bad = ((tri < 0) | (tri >= vertices)).any(1)
    if bool(bad.any()):
        raise _bad_triangle(function, tri, int(bad.nonzero()[0, 0]), vertices)


def _bad_triangle(function: str, tri: Tensor, index: int, vertices: int) -> ValueError:
    return ValueError(
        f"{function}: `tri` must hold vertex indices from 0 to {vertices - 1}, "
        f"as `pos` has {vertices} vertices; got {check.numbers(tri[index])} in triangle {index}."
    )


# ---- forward -----------------------------------------------------------------------------------------------

_FORWARD = native.kernels("rasterize_forward")
_BACKWARD = native.kernels("rasterize_backward")


_NO_KEY = torch.empty(0, dtype=torch.float32, device="cpu")


def _image_count(pos: Tensor, ranges: Tensor | None) -> int:
    return pos.shape[0] if ranges is None else ranges.shape[0]


def _forward(
    pos: Tensor,
    tri: Tensor,
    ranges: Tensor | None,
    previous_key: Tensor | None,
    height: int,
    width: int,
    layered: bool,
    db_grad: bool,
    depth_grad: bool,
    interior_gate: bool,
    refuse_as: str,
    backend: str,
) -> tuple[Tensor, ...]:
    if ranges is not None:
        _refuse_negative(refuse_as or "rasterize", ranges)
    if backend == "opengl":
        return _draw_with_opengl(pos, tri, ranges, previous_key, height, width, layered, refuse_as)
    if gpu.holds(pos):
        if refuse_as and debugging():
            _refuse_bad_triangle(refuse_as, tri, pos.shape[-2])
        return cuda.forward(pos, tri, ranges, previous_key, height, width, layered)
    images = _image_count(pos, ranges)
    _require_memory(pos, images, height, width, layered)
    rast = native.empty_as(pos, images, height, width, 4)
    rast_db = native.empty_as(pos, images, height, width, 4)
    key = native.empty((images, height, width), torch.float32) if layered else _NO_KEY
    bad = native.call(
        _FORWARD[pos.dtype],
        pos,
        tri,
        ranges,
        previous_key,
        rast,
        rast_db,
        key if layered else None,
        images,
        pos.shape[-2],
        tri.shape[0],
        height,
        width,
        int(bool(refuse_as)),
        native.threads(),
    )
    if bad >= 0:
        raise _bad_triangle(refuse_as, tri, bad, pos.shape[-2])
    return rast, rast_db, key


def _require_memory(pos: Tensor, images: int, height: int, width: int, layered: bool) -> None:
    channels = 9 if layered else 8
    system_memory.require(
        "rasterize", images * height * width * channels * pos.element_size(), (images, height, width)
    )


def _draw_with_opengl(
    pos: Tensor,
    tri: Tensor,
    ranges: Tensor | None,
    previous_key: Tensor | None,
    height: int,
    width: int,
    layered: bool,
    refuse_as: str,
) -> tuple[Tensor, ...]:
    refuse = None
    if pos.device.type == "cpu":
        _require_memory(pos, _image_count(pos, ranges), height, width, layered)
    if refuse_as and (pos.device.type == "cpu" or debugging()):
        refuse = functools.partial(_bad_triangle, refuse_as, tri, vertices=pos.shape[-2])
    return opengl.forward(pos, tri, ranges, previous_key, height, width, layered, refuse)


# ---- backward ----------------------------------------------------------------------------------------------


def _backward(
    needs: Sequence[bool], inputs: Sequence[Any], outputs: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    pos, tri, ranges, _, height, width, _, db_grad, depth_grad, interior_gate, _, backend = inputs
    d_rast, d_rast_db, *_ = grads
    if not db_grad:
        d_rast_db = None
    if gpu.holds(pos):
        if d_rast is None and d_rast_db is None:
            return (pos.new_zeros(pos.shape),)
        options = ranges is None, depth_grad, interior_gate
        return (cuda.backward(pos, tri, outputs[0], d_rast, d_rast_db, *options),)
    if backend == "opengl" and pos.device.type != "cpu":
        # Drawn with OpenGL on a GPU without kernels.
        inputs = [x.cpu() if isinstance(x, Tensor) else x for x in inputs]
        grads = [None if g is None else g.cpu() for g in grads]
        (d_pos,) = _backward(needs, inputs, [x.cpu() for x in outputs], grads)
        return (None if d_pos is None else d_pos.to(pos.device),)
    images, vertices = _image_count(pos, ranges), pos.shape[-2]
    system_memory.require("rasterize", pos.nbytes, (images, height, width), "gradients")
    d_pos = native.empty_as(pos)
    if d_rast is None and d_rast_db is None:
        d_pos.zero_()
    else:
        native.call(
            _BACKWARD[pos.dtype],
            pos,
            tri,
            outputs[0],
            d_rast,
            d_rast_db,
            d_pos,
            images,
            vertices,
            tri.shape[0],
            height,
            width,
            int(ranges is None),
            int(depth_grad),
            int(interior_gate),
            native.threads(),
        )
    return (d_pos,)


# ---- shape-only version ------------------------------------------------------------------------------------


def _shapes(
    pos: Tensor,
    tri: Tensor,
    ranges: Tensor | None,
    previous_key: Tensor | None,
    height: int,
    width: int,
    layered: bool,
    *_: bool | str,
) -> tuple[Tensor, ...]:
    pixels = (_image_count(pos, ranges), height, width)
    rast = pos.new_empty((*pixels, 4))
    return rast, torch.empty_like(rast), pos.new_empty(pixels if layered else (0,), dtype=torch.float32)


# ---- registration ------------------------------------------------------------------------------------------

_primitive = Primitive(
    "rasterize",
    "Tensor pos, Tensor tri, Tensor? ranges, Tensor? previous_key, int height, int width, "
    "bool layered, bool db_grad, bool depth_grad, bool interior_gate, str refuse_as, str backend",
    _forward,
    _backward,
    _shapes,
    outputs=3,
    differentiable=1,
    constant_outputs=(2,),
    saved_outputs=(0,),
)
