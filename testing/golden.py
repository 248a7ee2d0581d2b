# SPDX-License-Identifier: MIT
"""Drive the golden cases beside the checkout (`../shared/golden`) through rastergrad.

`loader()` is their own checker. Its `run(module, ctx)` wants a module with the call signatures of the library
that the numbers come from; `GoldenModule` is one, over a small table of our functions, with that library's
semantics where ours differ (docs/differences.md): no depth gradient, gradients also from pixels outside the
exact triangle, bad triangles skipped, no uv_da gradient from a circular footprint.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

GOLDEN = Path(__file__).resolve().parents[1].parent / "shared" / "golden"
MISSING = "the golden files are not there (expected in ../shared/golden, beside the checkout)"


def available() -> bool:
    return (GOLDEN / "golden_loader.py").is_file()


def names(prefix: str) -> list[str]:
    """Case names with this prefix; a single empty-handed entry where the files are absent."""
    return sorted(path.stem for path in GOLDEN.glob(f"{prefix}*.npz")) or ["absent"]


def loader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_loader", GOLDEN / "golden_loader.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Functions:
    """What a backend offers: keyword arguments are spelled as in the public functions."""

    rasterize: Callable[..., tuple[Tensor, Tensor]]  # (pos, tri, size, *, ranges, db_grad)
    depth_layers: Callable[..., Iterator[tuple[Tensor, Tensor]]]  # the same
    interpolate: Callable[..., tuple[Tensor, Tensor]]  # (attr, rast, tri, rast_db, diff_attrs)
    texture: Callable[..., Tensor]  # (tex, uv, uv_da, *, mip_level_bias, mip, filter_mode, ...)
    antialias: Callable[..., Tensor]  # (color, rast, pos, tri, *, pos_gradient_boost)


def reference_functions(subpixel_bits: int = 8) -> Functions:
    """The oracles; 4 sub-pixel bits are those of the library that the golden numbers come from."""

    def room(name: str) -> ModuleType:
        return importlib.import_module(f"rastergrad.ops.{name}.reference")

    def depth_layers(
        pos: Tensor, tri: Tensor, size: tuple[int, int], **options: Any
    ) -> Iterator[tuple[Tensor, Tensor]]:
        options.update(depth_grad=False, interior_gate=False, subpixel_bits=subpixel_bits)
        key = None
        while True:
            rast, rast_db, key = room("rasterize").rasterize(
                pos, tri.long(), *size, previous_key=key, **options
            )
            yield rast, rast_db

    def interpolate(
        attr: Tensor,
        rast: Tensor,
        tri: Tensor,
        rast_db: Tensor | None,
        diff_attrs: str | Sequence[int] | None,
    ) -> tuple[Tensor, Tensor]:
        A = attr.shape[-1]
        listed = range(A) if isinstance(diff_attrs, str) else diff_attrs
        resolved = None if listed is None else [int(j) + A if j < 0 else int(j) for j in listed]
        return room("interpolate").interpolate(attr, rast, tri.long(), rast_db, resolved)

    def texture(*args: Any, filter_mode: str, **options: Any) -> Tensor:
        if options["max_mip_level"] == 0 and "mipmap" in filter_mode:
            filter_mode = "linear"
        options.update(filter_mode=filter_mode, circular_gradient=False)
        return room("texture").texture(*args, **options)

    return Functions(
        rasterize=lambda *args, **options: next(depth_layers(*args, **options)),
        depth_layers=depth_layers,
        interpolate=interpolate,
        texture=texture,
        antialias=lambda color, rast, pos, tri, **options: room("antialias").antialias(
            color, rast, pos, tri.long(), **options
        ),
    )


def native_functions(backend: str) -> Functions:
    """The rooms' own functions on one backend, with the switches that the drop-in module uses."""

    def room(name: str) -> ModuleType:
        return importlib.import_module(f"rastergrad.ops.{name}.op")

    def depth_layers(
        pos: Tensor, tri: Tensor, size: tuple[int, int], **options: Any
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Without end: where nothing is left, layers are empty."""
        options.update(depth_grad=False, interior_gate=False, backend=backend, strict=False, layered=True)
        key = None
        while True:
            rast, rast_db, key = room("rasterize").draw("golden", pos, tri, size, previous_key=key, **options)
            yield rast, rast_db

    return Functions(
        rasterize=lambda *args, **options: next(depth_layers(*args, **options)),
        depth_layers=depth_layers,
        interpolate=lambda *args: room("interpolate").interpolate(*args, backend=backend),
        texture=lambda *args, **options: room("texture").lookup(
            *args, circular_gradient=False, backend=backend, **options
        ),
        antialias=lambda *args, **options: room("antialias").blend(
            *args, strict=False, backend=backend, **options
        ),
    )


class GoldenModule:
    """Stands in for the module that `golden_loader.run()` drives. `ctx` arguments carry nothing."""

    def __init__(self, functions: Functions) -> None:
        self.functions = functions

    def RasterizeCudaContext(self, device: Any = None) -> None:  # noqa: N802, a name the runner calls
        return None

    def rasterize(
        self,
        ctx: Any,
        pos: Tensor,
        tri: Tensor,
        resolution: Sequence[int],
        ranges: Tensor | None = None,
        grad_db: bool = True,
    ) -> tuple[Tensor, Tensor]:
        height, width = resolution
        return self.functions.rasterize(pos, tri, (height, width), ranges=ranges, db_grad=grad_db)

    def DepthPeeler(  # noqa: N802, a name the runner calls
        self,
        ctx: Any,
        pos: Tensor,
        tri: Tensor,
        resolution: Sequence[int],
        ranges: Tensor | None = None,
        grad_db: bool = True,
    ) -> Peeler:
        height, width = resolution
        return Peeler(self.functions.depth_layers(pos, tri, (height, width), ranges=ranges, db_grad=grad_db))

    def interpolate(
        self,
        attr: Tensor,
        rast: Tensor,
        tri: Tensor,
        rast_db: Tensor | None = None,
        diff_attrs: str | Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        return self.functions.interpolate(attr, rast, tri, rast_db, diff_attrs)

    def texture(
        self,
        tex: Tensor,
        uv: Tensor,
        uv_da: Tensor | None = None,
        mip_level_bias: Tensor | None = None,
        mip: list[Tensor] | None = None,
        filter_mode: str = "linear",
        boundary_mode: str = "wrap",
        max_mip_level: int | None = None,
    ) -> Tensor:
        return self.functions.texture(
            tex,
            uv,
            uv_da,
            mip_level_bias=mip_level_bias,
            mip=mip,
            filter_mode=filter_mode,
            boundary_mode=boundary_mode,
            max_mip_level=max_mip_level,
        )

    def antialias(
        self,
        color: Tensor,
        rast: Tensor,
        pos: Tensor,
        tri: Tensor,
        topology_hash: Any = None,
        pos_gradient_boost: float = 1.0,
    ) -> Tensor:
        return self.functions.antialias(color, rast, pos, tri, pos_gradient_boost=pos_gradient_boost)


class Peeler:
    """The context manager around an iterator of layers."""

    def __init__(self, layers: Iterator[tuple[Tensor, Tensor]]) -> None:
        self.layers = layers

    def __enter__(self) -> Peeler:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def rasterize_next_layer(self) -> tuple[Tensor, Tensor]:
        return next(self.layers)


def failures(functions: Functions, case: str, **options: Any) -> list[tuple[str, str, float]]:
    """(case, comparison, error) of every comparison of one case that misses the runner's own tolerances."""
    runner = loader()
    runner.names = lambda: [case]  # the runner reads every file before it looks at the name
    return runner.run(GoldenModule(functions), None, verbose=False, **options)


def main(backend: str = "cpu") -> int:
    """All cases, `python -m testing.golden [backend]`; the runner prints how many comparisons those are."""
    missed = loader().run(GoldenModule(native_functions(backend)), None)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
