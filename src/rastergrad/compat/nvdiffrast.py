# SPDX-License-Identifier: MIT
"""The names, arguments and semantics of nvdiffrast.torch, over rastergrad's primitives.

Written from the paper and from documented behaviour; none of that library's code was used. Tensors decide
where the work is done: on a CPU, or on the GPU that holds them. Where this module differs from `rastergrad`
itself, it does so to give the numbers that programs were written for: no gradient of depth, pixel pairs in
`antialias`, gradients also from pixels outside the exact triangle, triangles with vertex indices out of range
left out, no gradient from circular footprints (docs/differences.md).

    import rastergrad.compat.nvdiffrast as dr
"""

import functools
import logging
import operator
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..core import check, gpu, opengl
from ..ops.antialias.op import blend
from ..ops.antialias.topology import EdgeTopology, edge_topology
from ..ops.interpolate.op import interpolate as _interpolate
from ..ops.rasterize.op import draw
from ..ops.texture.mipmap import MipStack, build_mipmaps
from ..ops.texture.op import lookup
from .registration import OPENGL_CHOICE

# In the order of the pipeline.
__all__ = [  # noqa: RUF022
    "RasterizeCudaContext",
    "RasterizeGLContext",
    "get_log_level",
    "set_log_level",
    "rasterize",
    "DepthPeeler",
    "interpolate",
    "texture",
    "texture_construct_mip",
    "antialias",
    "antialias_construct_topology_hash",
]

Resolution = Sequence[int] | np.ndarray[Any, Any]
Device = torch.device | str | int | None
F = TypeVar("F", bound=Callable[..., Any])

# ---- errors in the words of this module -------------------------------------------------------------------

_SPELLED_HERE = (
    ("`db_grad`", "`grad_db`"),
    ("`topology`", "`topology_hash`"),
    ("edge_topology", "antialias_construct_topology_hash"),
    ("`cube`", "`cube_mode`"),
    ("(tex, cube=", "(tex, cube_mode="),
    ("build_mipmaps", "texture_construct_mip"),
)


def _spelled(function: F) -> F:
    """The function, whose errors name arguments as this module does."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except (TypeError, ValueError) as error:
            if type(error) not in (TypeError, ValueError):
                raise
            message = str(error)
            for ours, theirs in _SPELLED_HERE:
                message = message.replace(ours, theirs)
            raise type(error)(message) from None

    return call  # type: ignore[return-value]


# ---- contexts ---------------------------------------------------------------------------------------------


class RasterizeCudaContext:
    """What `rasterize` takes first. It holds no resources: create one or many, in any thread.

    Args:
        device: a device or its name or number; None is the current CUDA device. It is only remembered:
            `rasterize` works where its tensors are. Where torch sees no CUDA device, the first context that
            asks for one says so in a warning.
    """

    def __init__(self, device: Device = None) -> None:
        self.device = _place(type(self).__name__, device)
        self._peeler: DepthPeeler | None = None

    def _backend(self, pos: Any) -> str | None:
        """What draws; None chooses by device."""
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(device={str(self.device)!r})"


class RasterizeGLContext(RasterizeCudaContext):
    """The same, which may draw with OpenGL.

    Programs ask for it by habit, and the kernels are quicker than OpenGL in software and need nothing
    installed. So tensors on a CPU or an NVIDIA GPU are drawn by the kernels, unless the variable
    RASTERGRAD_COMPAT_OPENGL=1 (`python -m rastergrad.compat --opengl`) asks for OpenGL; then there is an
    error where it is missing. Tensors on other GPUs, for which there are no kernels, are drawn with OpenGL
    if it is there, and otherwise by the slow reference, after a warning. RASTERGRAD_COMPAT_OPENGL=0 never
    uses OpenGL.

    Args:
        output_db: accepted; derivatives are always computed.
        mode: "automatic" or "manual"; OpenGL's own contexts are switched for each drawing in either.
        device: as for `RasterizeCudaContext`.

    Errors:
        RuntimeError from `rasterize`, `DepthPeeler` and `set_context` where OpenGL is asked for and missing;
        it names the cause and what to install.
    """

    def __init__(self, output_db: bool = True, mode: str = "automatic", device: Device = None) -> None:
        check.flag("RasterizeGLContext", "output_db", output_db)
        check.choice("RasterizeGLContext", "mode", mode, ("automatic", "manual"))
        super().__init__(device)

    def set_context(self) -> None:
        """Finds out whether there is OpenGL, if the variable asks for it. Nothing needs to be activated."""
        if _asked_for_opengl():
            opengl.context(self.device)

    def release_context(self) -> None:
        """Releases nothing: after each drawing the program's own context is current again."""

    def _backend(self, pos: Any) -> str | None:
        asked = _asked_for_opengl()
        if asked is not None or not isinstance(pos, Tensor):
            return "opengl" if asked else None
        device = pos.device
        if device.type in ("cpu", "meta", "mps") or gpu.runs_on(device):
            return None
        try:
            opengl.context(device)
        except RuntimeError as failure:
            _warn_of_reference(str(failure))
            return None
        return "opengl"


def _asked_for_opengl() -> bool | None:
    """None where nothing was said."""
    value = os.environ.get(OPENGL_CHOICE, "")
    if value not in ("", "0", "1"):
        raise ValueError(f"RasterizeGLContext: {OPENGL_CHOICE} must be 0 or 1; got {value!r}.")
    return None if value == "" else value == "1"


@functools.cache
def _warn_of_reference(failure: str) -> None:
    warnings.warn(
        f"RasterizeGLContext: no OpenGL; tensors on this device are drawn by the slow reference. {failure}",
        RuntimeWarning,
        stacklevel=5,
    )


def _place(name: str, device: Device) -> torch.device:
    if device is not None and not isinstance(device, (torch.device, str, int)):
        raise TypeError(
            f"{name}: `device` must be a torch.device, its name, its number, or None; "
            f"got {check.describe(device)}."
        )
    asked = torch.device("cuda", device) if isinstance(device, int) else torch.device(device or "cuda")
    if asked.type != "cuda" or torch.cuda.is_available():
        return asked
    _warn_once()
    return torch.device("cpu")


@functools.cache
def _warn_once() -> None:
    warnings.warn(
        "torch sees no CUDA device here; contexts fall back to the CPU, and rasterize works where its "
        "tensors are. `python -m rastergrad.compat PROGRAM` also sends `.cuda()` and `device='cuda'` there.",
        RuntimeWarning,
        stacklevel=4,
    )


def _context(function: str, glctx: Any) -> RasterizeCudaContext:
    if not isinstance(glctx, RasterizeCudaContext):
        raise TypeError(
            f"{function}: `glctx` must be a RasterizeCudaContext or RasterizeGLContext; "
            f"got {check.describe(glctx)}. Create one with `RasterizeCudaContext()`."
        )
    return glctx


# ---- log level --------------------------------------------------------------------------------------------

_LEVELS = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
_log_level = 1


def get_log_level() -> int:
    """The number last passed to `set_log_level`; 1 at first."""
    return _log_level


def set_log_level(level: int) -> None:
    """Choose what the logger "rastergrad" lets through: 0 all, 1 warnings, 2 errors, 3 fatal errors."""
    global _log_level
    _log_level = operator.index(level)
    logging.getLogger("rastergrad").setLevel(_LEVELS[min(max(_log_level, 0), 3)])


# ---- rasterize --------------------------------------------------------------------------------------------


@_spelled
def rasterize(
    glctx: RasterizeCudaContext,
    pos: Tensor,
    tri: Tensor,
    resolution: Resolution,
    ranges: Tensor | None = None,
    grad_db: bool = True,
) -> tuple[Tensor, Tensor]:
    """Find the nearest triangle at every pixel centre; `rastergrad.rasterize` with a context.

    Args:
        glctx: a context.
        pos: clip-space vertices, float [N, V, 4]; or [V, 4] with `ranges`.
        tri: vertex indices, integer [T, 3]. Triangles with an index out of range are not drawn.
        resolution: (height, width), any two whole numbers.
        ranges: integer [N, 2], (first triangle, count) per image; only for `pos` of shape [V, 4].
        grad_db: whether gradients that reach the second result go on to `pos`.

    Returns:
        (u, v, z/w, triangle index + 1) and (du/dX, du/dY, dv/dX, dv/dY), both float [N, H, W, 4].

    Gradients:
        To `pos`, from (u, v) and the derivatives. None from z/w.

    Errors:
        RuntimeError while a `DepthPeeler` is active on the context; TypeError and ValueError as
        `rastergrad.rasterize`.

    Cost:
        That of `rastergrad.rasterize`.
    """
    context = _context("rasterize", glctx)
    if context._peeler is not None:
        raise RuntimeError(
            "rasterize: a DepthPeeler is active on this context. Leave its `with` block first, "
            "or draw with another context."
        )
    check.flag("rasterize", "grad_db", grad_db)
    rast, rast_db, _ = draw(
        "rasterize",
        pos,
        tri,
        check.resolution("rasterize", resolution),
        ranges,
        grad_db,
        False,
        context._backend(pos),
        strict=False,
        interior_gate=False,
    )
    return rast, rast_db


class DepthPeeler:
    """Peel the scene: the nearest surface at every pixel, then what lies behind it, layer by layer.

        with DepthPeeler(glctx, pos, tri, resolution) as peeler:
            rast, rast_db = peeler.rasterize_next_layer()

    Args:
        glctx, pos, tri, resolution, ranges, grad_db: as for `rasterize`. Do not change them between layers.

    Errors:
        RuntimeError for a second peeler on the same context, for entering a peeler again, and for a layer
        outside the `with` block.
    """

    def __init__(
        self,
        glctx: RasterizeCudaContext,
        pos: Tensor,
        tri: Tensor,
        resolution: Resolution,
        ranges: Tensor | None = None,
        grad_db: bool = True,
    ) -> None:
        self._context = _context("DepthPeeler", glctx)
        check.flag("DepthPeeler", "grad_db", grad_db)
        # Converted once, not for each layer.
        tri, size = check.triangles("DepthPeeler", "tri", tri), check.resolution("DepthPeeler", resolution)
        self._scene = pos, tri, size, ranges, grad_db
        self._state = "new"
        self._key: Tensor | None = None

    def __enter__(self) -> "DepthPeeler":
        with _entering:
            if self._state != "new":
                raise RuntimeError("DepthPeeler: cannot be entered a second time. Create another one.")
            if self._context._peeler is not None:
                raise RuntimeError(
                    "DepthPeeler: another one is active on this context. Leave its `with` block first, "
                    "or use another context."
                )
            self._context._peeler = self
            self._state = "active"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context._peeler = None
        self._state = "finished"
        self._key = None

    @_spelled
    def rasterize_next_layer(self) -> tuple[Tensor, Tensor]:
        """The next layer, as `rasterize` returns it; all zero once nothing is left. The first one is what
        `rasterize` draws. Surfaces of equal depth are reported once.
        """
        if self._state != "active":
            raise RuntimeError(
                "DepthPeeler: rasterize_next_layer() works inside the `with` block only: "
                "`with DepthPeeler(...) as peeler`."
            )
        pos, tri, size, ranges, grad_db = self._scene
        rast, rast_db, self._key = draw(
            "DepthPeeler",
            pos,
            tri,
            size,
            ranges,
            grad_db,
            False,
            self._context._backend(pos),
            strict=False,
            interior_gate=False,
            previous_key=self._key,
            layered=True,
        )
        return rast, rast_db


_entering = threading.Lock()

# ---- interpolate ------------------------------------------------------------------------------------------


def interpolate(
    attr: Tensor,
    rast: Tensor,
    tri: Tensor,
    rast_db: Tensor | None = None,
    diff_attrs: str | Sequence[int] | np.ndarray[Any, Any] | None = None,
) -> tuple[Tensor, Tensor]:
    """Interpolate vertex attributes; `rastergrad.interpolate`.

    Args:
        attr: attributes, float [V, A], [1, V, A] or [N, V, A].
        rast: fragments, float [N, H, W, 4], from `rasterize` or of your own making.
        tri: attribute indices, integer [T, 3]; row k belongs to triangle k.
        rast_db: the second result of `rasterize`; looked at with `diff_attrs` only.
        diff_attrs: which attributes get derivatives: None, "all", or channel numbers.

    Returns:
        Values, float [N, H, W, A], and (d/dX, d/dY) of the chosen attributes, float [N, H, W, 2 k].

    Gradients:
        To `attr`, to (u, v) of `rast`, and to `rast_db`.

    Errors, Cost:
        Those of `rastergrad.interpolate`.
    """
    return _interpolate(attr, rast, tri, rast_db, diff_attrs)


# ---- texture ----------------------------------------------------------------------------------------------


@_spelled
def texture(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None = None,
    mip_level_bias: Tensor | None = None,
    mip: MipStack | Sequence[Tensor] | None = None,
    filter_mode: str = "auto",
    boundary_mode: str = "wrap",
    max_mip_level: int | None = None,
) -> Tensor:
    """Look textures up; `rastergrad.texture`, without gradient from exactly circular footprints.

    Args:
        tex: float [N or 1, h, w, C]; cube maps [N or 1, 6, h, h, C].
        uv: float [N, H, W, 2]; for cube maps [N, H, W, 3].
        uv_da: derivatives of `uv` by pixels, float [N, H, W, 4]; for cube maps [N, H, W, 6].
        mip_level_bias: float [N, H, W], added to the level; without `uv_da` it is the level.
        mip: result of `texture_construct_mip`, or a list of levels 1, 2, ... of your own.
        filter_mode: "auto", "nearest", "linear", "linear-mipmap-nearest" or "linear-mipmap-linear".
        boundary_mode: "wrap", "clamp", "zero" or "cube".
        max_mip_level: how many levels above `tex` to average at most; 0 means "linear".

    Returns:
        Colours, float [N, H, W, C].

    Gradients:
        To `tex`, to the levels of a list, to `uv` unless nearest, to `uv_da` and `mip_level_bias` with
        "linear-mipmap-linear". With a stack made beforehand they reach the `tex` passed here.

    Errors, Cost:
        Those of `rastergrad.texture`.
    """
    return lookup(
        tex,
        uv,
        uv_da,
        mip_level_bias,
        mip,
        filter_mode=filter_mode,
        boundary_mode=boundary_mode,
        max_mip_level=_whole(max_mip_level),
        circular_gradient=False,
    )


@_spelled
def texture_construct_mip(tex: Tensor, max_mip_level: int | None = None, cube_mode: bool = False) -> MipStack:
    """Average a texture down once, for repeated use as `texture(..., mip=...)`; `rastergrad.build_mipmaps`.

    Args:
        tex: float [N or 1, h, w, C]; with `cube_mode` [N or 1, 6, h, h, C].
        max_mip_level: how many levels above the base at most; None goes down to 1x1.
        cube_mode: whether `tex` is a cube map.

    Returns:
        An opaque object, for textures of this shape.

    Errors, Cost:
        Those of `rastergrad.build_mipmaps`.
    """
    return build_mipmaps(tex, _whole(max_mip_level), cube_mode)


def _whole(value: Any) -> Any:
    """NumPy's whole numbers as Python's."""
    return int(value) if isinstance(value, np.integer) else value


# ---- antialias --------------------------------------------------------------------------------------------


@_spelled
def antialias(
    color: Tensor,
    rast: Tensor,
    pos: Tensor,
    tri: Tensor,
    topology_hash: EdgeTopology | None = None,
    pos_gradient_boost: float = 1.0,
) -> Tensor:
    """Blend pixels at silhouettes, by pixel pairs: `rastergrad.antialias` with `method="pixel_pair"`.

    Args:
        color: image, float [N, H, W, C].
        rast: fragments, float [N, H, W, 4].
        pos, tri: what was rasterised. Triangles with an index out of range have no silhouettes.
        topology_hash: result of `antialias_construct_topology_hash(tri)`; None finds it out, or remembers it.
        pos_gradient_boost: multiplies the gradient of `pos`.

    Returns:
        The blended image, float [N, H, W, C].

    Gradients:
        To `color`, and to x, y, w of `pos`.

    Errors, Cost:
        Those of `rastergrad.antialias`.
    """
    return blend(color, rast, pos, tri, topology_hash, pos_gradient_boost, strict=False)


@_spelled
def antialias_construct_topology_hash(tri: Tensor) -> EdgeTopology:
    """Find out which triangles share an edge; `rastergrad.edge_topology`.

    Args:
        tri: vertex indices, integer [T, 3].

    Returns:
        An opaque object for `antialias` with this `tri`.

    Errors, Cost:
        Those of `rastergrad.edge_topology`.
    """
    return edge_topology(tri)


# ---- what is not there ------------------------------------------------------------------------------------


def __getattr__(name: str) -> Any:
    if name.startswith("_") and not name.startswith("__"):
        raise AttributeError(
            f"nvdiffrast.torch.{name} is private to nvdiffrast, and rastergrad does not have it: what lies "
            'behind that name is another implementation. Use the public functions; see "Coming from '
            'nvdiffrast" in the documentation.'
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
