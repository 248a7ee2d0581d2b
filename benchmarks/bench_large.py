# SPDX-License-Identifier: MIT
"""Large work, only with --large: ten million triangles, images of 8192^2 and 16384^2, many channels, large
textures, a thousand images. What does not fit into memory says so before it starts.
"""

from collections.abc import Callable, Iterator

import torch

import rastergrad as rg
from rastergrad.core import system_memory
from testing import scenes
from testing.closeness import assert_values_close

from .bench_rasterize import CHECK_SIZE, CHECK_TRIANGLES, check_forward
from .bench_texture import plane
from .rows import Row, once
from .scene import camera, sphere

GIGABYTE = 1e9


def groups(size: int) -> Iterator[list[Row]]:
    check = once(check_forward(sphere(CHECK_TRIANGLES, CHECK_SIZE)))
    # (bytes at once, what, rows). Two results are alive while a call replaces the last one.
    parts: list[tuple[float, str, Callable[[], list[Row]]]] = [
        (3e9, "10,000,000 triangles", lambda: [_triangles(10_000_000, size, check)]),
        (2 * 8192**2 * 32, "8192^2", lambda: [_pixels(8192, check)]),
        (2 * 16384**2 * 32, "16384^2", lambda: [_pixels(16384, check)]),
        (8 * size**2 * 30 * 4, "30 channels", lambda: _channels(size)),
        (6 * 4096**2 * 16 * 4, "4096^2 texture of 16 channels", lambda: _texture(size)),
        (2 * 1_000 * 128**2 * 32, "1,000 images of 128^2", lambda: [_images(1_000, 128, check)]),
    ]
    for needed, what, rows in parts:
        free = system_memory.available()
        if free is not None and needed > free:
            print(f"{what}: left out, needs {needed / GIGABYTE:.1f} GB and {free / GIGABYTE:.1f} GB are free")
            continue
        yield rows()
        rg.release_memory()


def _triangles(count: int, size: int, check: Callable[[], None]) -> Row:
    mesh = scenes.sphere(count)
    pos = mesh.clip(camera())[None].contiguous()
    return Row(
        f"rasterize {count:,} triangles, forward",
        None,
        lambda: rg.rasterize(pos, mesh.tri, (size, size)),
        check,
        bytes_moved=size * size * 32 + mesh.tri.numel() * 4 + pos.numel() * 4,
        pixels=size * size,
        triangles=len(mesh.tri),
    )


def _pixels(side: int, check: Callable[[], None]) -> Row:
    mesh = scenes.sphere(10_000)
    pos = mesh.clip(camera())[None].contiguous()
    return Row(
        f"rasterize 10,000 triangles at {side}^2, forward",
        None,
        lambda: rg.rasterize(pos, mesh.tri, (side, side)),
        check,
        bytes_moved=side * side * 32,
        pixels=side * side,
    )


def _images(count: int, side: int, check: Callable[[], None]) -> Row:
    mesh = scenes.sphere(10_000)
    pos = mesh.clip(scenes.orbit(count)).contiguous()
    return Row(
        f"rasterize {count:,} images of {side}^2 with 10,000 triangles, forward",
        None,
        lambda: rg.rasterize(pos, mesh.tri, (side, side)),
        check,
        bytes_moved=count * (side * side * 32 + pos[0].numel() * 4 + mesh.tri.numel() * 4),
        pixels=count * side * side,
        triangles=count * len(mesh.tri),
    )


def _channels(size: int) -> list[Row]:
    scene = sphere(10_000, size)
    attr = torch.rand(1, scene.pos.shape[1], 30, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out, _ = rg.interpolate(attr, scene.rast, scene.tri)
    upstream = torch.rand(out.shape)

    def check() -> None:
        want, _ = rg.interpolate(attr, scene.rast, scene.tri, backend="reference")
        assert_values_close(out.detach(), want.detach(), dtype=torch.float32, what="interpolate")

    return _both(
        "interpolate 30 channels",
        "attributes",
        lambda: rg.interpolate(attr.detach(), scene.rast, scene.tri),
        lambda: torch.autograd.grad(out, attr, upstream, retain_graph=True),
        check,
        pixels=size * size,
        bytes_moved=size * size * 4 * (4 + 30),
    )


def _texture(size: int) -> list[Row]:
    tex = torch.rand(1, 4096, 4096, 16).requires_grad_()
    uv, uv_da = plane(size)
    out = rg.texture(tex, uv, uv_da)
    upstream = torch.rand(out.shape)

    def check() -> None:
        """A sixteenth of the lookups; the stack of the oracle takes 3 GB in float64."""
        some = [t[:, ::4, ::4] for t in (out.detach(), uv, uv_da)]
        want = rg.texture(tex.detach(), *some[1:], backend="reference")
        assert_values_close(some[0], want, dtype=torch.float32, what="texture")

    return _both(
        "texture trilinear, 4096^2 x 16 channels",
        "texture",
        lambda: rg.texture(tex.detach(), uv, uv_da),
        lambda: torch.autograd.grad(out, tex, upstream, retain_graph=True),
        check,
        pixels=size * size,
        bytes_moved=size * size * 4 * (6 + 16) + tex.numel() * 4 * 5 // 3,
    )


def _both(
    name: str,
    wanted: str,
    forward: Callable[[], object],
    backward: Callable[[], object],
    check: Callable[[], None],
    *,
    pixels: int,
    bytes_moved: int,
) -> list[Row]:
    check = once(check)
    return [
        Row(f"{name}, {way}", None, run, check, bytes_moved=bytes_moved, pixels=pixels)
        for way, run in (("forward", forward), (f"backward to {wanted}", backward))
    ]
