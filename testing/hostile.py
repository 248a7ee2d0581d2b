# SPDX-License-Identifier: MIT
"""Throw hostile tensors at the public functions: `python -m testing.hostile --rounds 5000 --seed 0`.

Each round is one call, forward and backward, drawn from one seed. It must end in results of the right shape
and dtype, equal for two thread counts, or in a ValueError, TypeError or RuntimeError that names the function.
The sanitizers' tests run this module on an instrumented library.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.core import native
from testing.poison import NUMBERS, Poison, equal

FILTERS = ("auto", "nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear")
Expected = Sequence[tuple[Sequence[int], torch.dtype]]


@dataclass
class Attack:
    """One call and what it must return if it returns."""

    function: str
    run: Callable[[], Sequence[Tensor]]
    expected: Callable[[int], Expected]  # for so many results
    inputs: list[Tensor] = field(default_factory=list)  # those that may receive a gradient
    named: tuple[str, ...] = ()  # functions besides `function` that a refusal may name


def strike(seed: int) -> tuple[str, str]:
    """Run one round; returns the function and "result" or "refusal"."""
    poison = Poison(seed)
    attack = ATTACKS[seed % len(ATTACKS)](poison)
    threads = torch.get_num_threads()
    try:
        first, second = (poison.random.sample((1, 2, 3, 5), 2)) if seed % 4 == 0 else (2, 2)
        torch.set_num_threads(first)
        try:
            results = _evaluate(attack, seed)
        except (ValueError, TypeError, RuntimeError) as error:
            if any(f"{name}:" in str(error) for name in (attack.function, *attack.named)):
                return attack.function, "refusal"
            raise AssertionError(f"nameless refusal: {error!r}") from error
        torch.set_num_threads(second)
        if seed % 4 == 0:
            assert equal(results, _evaluate(attack, seed)), f"differs between {first} and {second} threads"
    except Exception as error:
        raise AssertionError(
            f"{attack.function}, `python -m testing.hostile --rounds 1 --seed {seed}`: {error}"
        ) from error
    finally:
        torch.set_num_threads(threads)
    return attack.function, "result"


def _evaluate(attack: Attack, seed: int) -> list[Tensor | None]:
    outputs = list(attack.run())
    expected = attack.expected(len(outputs))
    assert [tuple(x.shape) for x in outputs] == [tuple(shape) for shape, _ in expected]
    assert [x.dtype for x in outputs] == [dtype for _, dtype in expected]
    poison = Poison(~seed & 0xFFFFFFFF)
    reached = [x for x in outputs if x.requires_grad]
    inputs = [x for x in attack.inputs if x.requires_grad]
    if not reached or not inputs:
        return [*outputs]
    upstream = [poison.layout(poison.floats(*x.shape).to(x.dtype)) for x in reached]
    grads = torch.autograd.grad(reached, inputs, upstream, allow_unused=True)
    for x, g in zip(inputs, grads):
        assert g is None or (g.shape, g.dtype) == (x.shape, x.dtype), f"gradient {g.shape} for {x.shape}"
    return [*outputs, *grads]


def _float_input(poison: Poison, x: Tensor, dtype: torch.dtype, inputs: list[Tensor]) -> Any:
    """A tensor of some layout, perhaps with a gradient, perhaps of another dtype, perhaps broken."""
    if poison.chance(0.015):
        return poison.damage(x)
    x = poison.layout(x.to(poison.dtype() if poison.chance(0.05) else dtype))
    if poison.chance(0.75):
        x = x.requires_grad_() if x.is_leaf else x
        inputs.append(x)
    return x


def _working(*tensors: Any) -> torch.dtype:
    doubles = any(isinstance(x, Tensor) and x.dtype == torch.float64 for x in tensors)
    return torch.float64 if doubles else torch.float32


# ---- rasterize ---------------------------------------------------------------------------------------------


def _scene(p: Poison, inputs: list[Tensor]) -> tuple[list[Any], dict[str, Any]]:
    n, vertices, triangles = p.images(), p.vertices(), p.triangles()
    pos = p.clip_positions(n, vertices)
    ranges = None
    if p.chance(0.3):
        pos = p.clip_positions(1, vertices)[0]
        first = torch.randint(0, triangles + 3, (n, 1), generator=p.generator)
        count = torch.randint(0, triangles + 3, (n, 1), generator=p.generator)
        ranges = torch.cat([first, count], 1).to(p.pick(torch.int32, torch.int64))
        if p.chance(0.2):
            ranges = p.pick(
                ranges - 1,
                ranges * (2**31 - 1) // (triangles + 2),
                torch.full((n, 2), 2**63 - 1),
                ranges.float(),
                None,
            )
    tri = p.triangle_table(triangles, vertices, bad=0.15)
    size: Any = p.size()
    if p.chance(0.03):
        size = p.pick((0, 3), (-1, 2), (2**31, 2), (40000, 1), (2.5, 3), (3,), "ab", None, (float("nan"), 1))
    pos = _float_input(p, pos, p.dtype(), inputs)
    options = {"ranges": ranges, "db_grad": p.chance(0.7), "depth_grad": p.chance(0.7)}
    return [pos, p.damage(tri) if p.chance(0.015) else tri, size], options


def _fragment_shapes(args: list[Any], options: dict[str, Any], count: int) -> Expected:
    pos, _, size = args
    images = pos.shape[0] if pos.ndim == 3 else options["ranges"].shape[0]
    return [((images, *size, 4), _working(pos))] * count


def _rasterize(p: Poison) -> Attack:
    inputs: list[Tensor] = []
    args, options = _scene(p, inputs)
    return Attack(
        "rasterize",
        lambda: rg.rasterize(*args, **options),
        lambda _: _fragment_shapes(args, options, 2),
        inputs,
    )


def _depth_layers(p: Poison) -> Attack:
    inputs: list[Tensor] = []
    args, options = _scene(p, inputs)
    layers = p.pick(0, 1, 2, 3, 4, 4, 2, 3, 1, None, -1, 1.5)
    if layers is None and not isinstance(args[1], Tensor):
        layers = 1

    def run() -> list[Tensor]:
        found = [x for layer in rg.depth_layers(*args, layers, **options) for x in layer]
        assert layers is None or len(found) <= 2 * layers
        return found

    return Attack(
        "depth_layers", run, lambda n: _fragment_shapes(args, options, n), inputs, named=("rasterize",)
    )


# ---- interpolate -------------------------------------------------------------------------------------------


def _interpolate(p: Poison) -> Attack:
    inputs: list[Tensor] = []
    n, size, vertices, triangles, channels = p.images(), p.size(), p.vertices(), p.triangles(), p.channels()
    dtype = p.dtype()
    lead = p.pick((), (1,), (n,), (n,)) if p.chance(0.95) else p.pick((n + 1,), (2, 1))
    attr = _float_input(p, p.floats(*lead, vertices, channels), dtype, inputs)
    rast = _float_input(p, p.fragments(n, size, triangles), dtype, inputs)
    tri = p.triangle_table(triangles, vertices, bad=0.5)
    diff: Any = p.pick(None, "all", "all", [0], [0, -1, 99, 0], [2**40, -(2**63)], [], range(channels))
    if p.chance(0.03):
        diff = p.pick([0.5], "none", 3, [[0]])
    rast_db = None
    if diff is not None and p.chance(0.98):
        rast_db = _float_input(p, p.floats(n, *size, 4), dtype, inputs)

    def expected(_: int) -> Expected:
        count = attr.shape[-1] if diff == "all" else 0 if diff is None else len(diff)
        found = _working(attr, rast, rast_db if count else None)
        return [((*rast.shape[:3], attr.shape[-1]), found), ((*rast.shape[:3], 2 * count), found)]

    return Attack("interpolate", lambda: rg.interpolate(attr, rast, tri, rast_db, diff), expected, inputs)


# ---- texture -----------------------------------------------------------------------------------------------


def _textures(p: Poison, cube: bool, n: int) -> Tensor:
    sides = (1, 2, 4, 8, 16, 64) if p.chance(0.8) else (3, 5, 7, 12, 100)  # odd sides have no mip levels
    side, other = p.pick(*sides), p.pick(*sides)
    if p.chance(0.03):
        side = 0
    lead = n + 1 if p.chance(0.03) else p.pick(1, n)
    shape = (lead, 6, side, side) if cube else (lead, side, other)
    if p.chance(0.03):
        shape = (lead, 5, side, other) if cube else (lead, 65537, 1)
    return p.floats(*shape, p.channels())


def _mip_stack(p: Poison, tex: Any, cube: bool, dtype: torch.dtype, inputs: list[Tensor]) -> Any:
    if not isinstance(tex, Tensor) or p.chance(0.1):
        return p.pick([], [None], "mip", 3)
    levels, shape = [], list(tex.shape)
    for _ in range(p.pick(1, 2, 3, 20)):
        if len(shape) < 4 or max(shape[-3:-1]) <= 1:
            break
        shape[-3:-1] = [max(1, s // 2) for s in shape[-3:-1]]
        if p.chance(0.03):
            shape[p.random.randrange(len(shape))] += 1
        levels.append(_float_input(p, p.floats(*shape), dtype, inputs))
    return levels


def _texture(p: Poison) -> Attack:
    inputs: list[Tensor] = []
    cube, n, size, dtype = p.chance(0.4), p.images(), p.size(), p.dtype()
    axes = 3 if cube else 2
    tex = _float_input(p, _textures(p, cube, n), dtype, inputs)
    uv = p.floats(n, *size, axes, scale=p.pick(1.0, 3.0))
    if cube and p.chance(0.3):
        uv = uv.sign() * p.pick(1.0, 1e-42, 1e38)  # corners and edges of the cube
    uv = _float_input(p, uv, dtype, inputs)
    options: dict[str, Any] = {
        "filter_mode": p.pick(*FILTERS) if p.chance(0.97) else p.pick("cubic", None),
        "boundary_mode": "cube" if cube else p.pick("wrap", "clamp", "zero"),
        "max_mip_level": p.pick(None, None, None, 0, 1, 2, 30) if p.chance(0.97) else p.pick(-1, 1.5, "all"),
    }
    if p.chance(0.03):
        options["boundary_mode"] = p.pick("cube", "mirror", None)
    uv_da = None
    if p.chance(0.7):
        uv_da = _float_input(p, p.floats(n, *size, 2 * axes, scale=p.pick(1e-3, 0.1, 10.0)), dtype, inputs)
    if p.chance(0.4):
        options["mip_level_bias"] = _float_input(p, p.floats(n, *size, scale=3), dtype, inputs)
    if p.chance(0.3):
        options["mip"] = _mip_stack(p, tex, cube, dtype, inputs)
    if p.chance(0.4):
        options["rast"] = _float_input(p, p.fragments(n, size, p.triangles()), dtype, inputs)

    def run() -> list[Tensor]:
        return [rg.texture(tex, uv, uv_da, **options)]

    def expected(_: int) -> Expected:
        used = [tex, uv, options.get("rast")]
        mode = options["filter_mode"]
        guided = uv_da is not None or "mip_level_bias" in options
        if options["max_mip_level"] != 0 and ("mipmap" in mode or (mode == "auto" and guided)):
            used += [uv_da, options.get("mip_level_bias"), *options.get("mip", [])]
        return [((*uv.shape[:3], tex.shape[-1]), _working(*used))]

    return Attack("texture", run, expected, inputs)


def _built_mipmaps(p: Poison) -> Attack:
    """A prebuilt stack, used with its own texture, or with another one."""
    inputs: list[Tensor] = []
    cube, n, size, dtype = p.chance(0.4), p.images(), p.size(), p.dtype()
    axes = 3 if cube else 2
    tex = _float_input(p, _textures(p, cube, n), dtype, inputs)
    other = tex if p.chance(0.9) else _float_input(p, _textures(p, cube, n), dtype, inputs)
    limit = p.pick(None, None, 0, 1, 3) if p.chance(0.97) else -1
    uv = _float_input(p, p.floats(n, *size, axes), dtype, inputs)
    uv_da = _float_input(p, p.floats(n, *size, 2 * axes, scale=0.1), dtype, inputs)

    def run() -> list[Tensor]:
        mip = rg.build_mipmaps(tex, limit, cube=cube)
        return [rg.texture(other, uv, uv_da, mip=mip, boundary_mode="cube" if cube else "wrap")]

    def expected(_: int) -> Expected:
        return [((*uv.shape[:3], other.shape[-1]), _working(other, uv, uv_da))]

    return Attack("texture", run, expected, inputs, named=("build_mipmaps",))


# ---- antialias ---------------------------------------------------------------------------------------------


def _antialias(p: Poison) -> Attack:
    inputs: list[Tensor] = []
    n, size, vertices, triangles = p.images(), p.size(), p.vertices(), p.triangles()
    dtype = p.dtype()
    shared = p.chance(0.3)
    pos = p.clip_positions(1 if shared else n, vertices)
    tri = p.triangle_table(triangles, vertices, bad=0.2)
    rast = p.fragments(n, size, triangles)
    if p.chance(0.5) and not shared and min(size) and vertices:
        good = tri.long().clamp(0, vertices - 1)
        rast = rg.rasterize(pos, good, size)[0]
    color = _float_input(p, p.floats(n, *size, p.channels()), dtype, inputs)
    rast = _float_input(p, rast, dtype, inputs)
    pos = _float_input(p, pos[0] if shared else pos, dtype, inputs)
    table = p.damage(tri) if p.chance(0.015) else tri
    foreign = p.pick(0, 0, 2, 2) if p.chance(0.95) else 1
    boost = p.pick(1.0, 1.0, 0, -3, 1e30, *NUMBERS[:3], "much") if p.chance(0.5) else 1.0

    def run() -> list[Tensor]:
        topology = rg.edge_topology(table[foreign:]) if foreign < 2 else None
        return [rg.antialias(color, rast, pos, table, topology=topology, pos_gradient_boost=boost)]

    def expected(_: int) -> Expected:
        return [(color.shape, _working(color, rast, pos))]

    return Attack("antialias", run, expected, inputs, named=("edge_topology",))


def _visibility(p: Poison) -> Attack:
    """Shading and visibility of different resolutions, which mostly fit, and seldom show the same things."""
    inputs: list[Tensor] = []
    n, size, vertices, triangles = p.images(), p.size(), p.vertices(), p.triangles()
    scale = p.pick(1, 2, 2, 3, 4, 7) if size[0] * size[1] < 5000 else p.pick(1, 2)
    dtype = p.dtype()
    pos = p.clip_positions(n, vertices)
    tri = p.triangle_table(triangles, vertices, bad=0.1)
    rast = p.fragments(n, size, triangles)
    wide = (scale * size[0], scale * size[1])
    if p.chance(0.03):
        wide = p.pick(
            (wide[0] + 1, wide[1]), (wide[0], 2 * wide[1]), (size[0] // 2, size[1] // 2), (0, wide[1])
        )
    visibility = p.fragments(n, wide, triangles)
    kind = p.pick("unrelated", "repeated", "rasterized")
    if kind == "repeated" and wide == (scale * size[0], scale * size[1]):
        repeated = rast.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        visibility = torch.where(p.uniform(0, 1, *visibility.shape[:3], 1) < 0.8, repeated, visibility)
    elif kind == "rasterized" and min(*size, *wide) and max(wide) < 32768 and vertices:
        good = tri.long().clamp(0, vertices - 1)
        rast, visibility = (rg.rasterize(pos, good, s)[0] for s in (size, wide))
    color = _float_input(p, p.floats(n, *size, p.channels()), dtype, inputs)
    rast = _float_input(p, rast, dtype, inputs)
    visibility = _float_input(p, visibility, dtype, inputs)
    pos = _float_input(p, pos, dtype, inputs)
    with_topology = p.chance(0.5)

    def run() -> list[Tensor]:
        edges = rg.edge_topology(tri) if with_topology else None
        return [rg.antialias(color, rast, pos, tri, topology=edges, visibility=visibility)]

    def expected(_: int) -> Expected:
        return [(color.shape, _working(color, rast, visibility, pos))]

    return Attack("antialias", run, expected, inputs)


# ---- all of it ---------------------------------------------------------------------------------------------


def _pipeline(p: Poison) -> Attack:
    """The four in a row, so that what one leaves behind reaches the next."""
    n, size, vertices, triangles = p.pick(1, 2), p.size(), p.vertices(), p.triangles()
    dtype = p.pick(torch.float32, torch.float64)
    pos = p.clip_positions(n, vertices).to(dtype).requires_grad_()
    tri = p.triangle_table(triangles, vertices, bad=0.0)
    coords = p.floats(vertices, 2).to(dtype).requires_grad_()
    tex = p.floats(1, 16, 8, 3).to(dtype).requires_grad_()
    leaves_background_out = p.chance(0.5)

    def run() -> list[Tensor]:
        rast, rast_db = rg.rasterize(pos, tri, size)
        uv, uv_da = rg.interpolate(coords, rast, tri, rast_db, "all")
        color = rg.texture(tex, uv, uv_da, rast=rast if leaves_background_out else None)
        return [rg.antialias(color, rast, pos, tri)]

    return Attack(
        "rasterize", run, lambda _: [((n, *size, 3), dtype)], [pos, coords, tex], named=("antialias",)
    )


ATTACKS: tuple[Callable[[Poison], Attack], ...] = (
    _rasterize,
    _texture,
    _interpolate,
    _antialias,
    _texture,
    _depth_layers,
    _pipeline,
    _built_mipmaps,
    _visibility,
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Throw hostile tensors at the public functions.")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first round; the next ones count on")
    parser.add_argument("--trace", action="store_true", help="name each round before it runs")
    options = parser.parse_args(arguments)
    print(f"library: {native._native.__file__}")
    counts: Counter[tuple[str, str]] = Counter()
    for seed in range(options.seed, options.seed + options.rounds):
        if options.trace:
            print(f"round {seed}", flush=True)
        try:
            counts[strike(seed)] += 1
        except AssertionError as error:
            print(error, file=sys.stderr)
            counts["a round", "FAILED"] += 1
    for (function, outcome), count in sorted(counts.items()):
        print(f"{function:14s} {outcome:8s} {count}")
    if counts["a round", "FAILED"]:
        return 1
    print(f"survived {options.rounds} rounds", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
