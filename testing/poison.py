# SPDX-License-Identifier: MIT
"""Hostile tensors: numbers, indices, ids, sizes and memory layouts that a kernel has to survive."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

Choice = TypeVar("Choice")

#: Where arithmetic, conversions to integers and comparisons break in float32; float64 gets the same numbers.
NUMBERS = (
    *(float("nan"), float("inf"), -float("inf"), 0.0, -0.0),
    *(1e-45, -1e-42, 1.1754944e-38, 1e-20, 2.9e-39),  # denormals, the smallest normal, 1/x near the end
    *(1e38, -1e38, torch.finfo(torch.float32).max, 1e19, -1e20),  # the square overflows, or nearly
    *(2.0**31, -(2.0**31), 2.0**31 - 128, 2.0**24, 2.0**24 + 2, -(2.0**63), 1e10),  # ends of integers
    *(0.5, 1.0, -1.0, 1 - 2.0**-24, 2.0, 1e-7),  # ends of ranges
)
INT64_ENDS = (-1, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, -(2**63))
INT32_ENDS = (-1, 2**31 - 1, -(2**31), -(2**31) + 1)
#: One pixel, around 16 lanes, around a tile of 64
SIDES = (1, 1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 33, 63, 64, 65)
#: Long rows, around strips of 16384 pixels, and nothing
RARE_SIZES = ((1, 1000), (777, 1), (1, 16385), (16383, 1), (129, 127), (128, 128), (130, 65), (0, 4), (5, 0))


class Poison:
    """Draws everything from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, *options: Choice) -> Choice:
        return self.random.choice(options)

    # ---- sizes and dtypes

    def size(self) -> tuple[int, int]:
        """(H, W)"""
        if self.chance(0.08):
            return self.pick(*RARE_SIZES)
        return self.pick(*SIDES), self.pick(*SIDES)

    def images(self) -> int:
        return 0 if self.chance(0.03) else self.pick(1, 1, 2, 3)

    def channels(self) -> int:
        return 0 if self.chance(0.03) else self.pick(1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33)

    def vertices(self) -> int:
        return 0 if self.chance(0.03) else self.pick(1, 3, 4, 5, 30, 63, 65, 200)

    def triangles(self) -> int:
        return 0 if self.chance(0.05) else self.pick(1, 2, 15, 16, 17, 63, 64, 65, 130, 300)

    def dtype(self) -> torch.dtype:
        return self.pick(*[torch.float32] * 6, *[torch.float64] * 3, torch.float16, torch.bfloat16)

    # ---- numbers

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator) * (high - low) + low

    def sprinkle(self, x: Tensor, share: float) -> Tensor:
        """Some elements become members of NUMBERS."""
        index = torch.randint(len(NUMBERS), x.shape, generator=self.generator)
        hit = torch.rand(x.shape, generator=self.generator) < share
        return torch.where(hit, torch.tensor(NUMBERS, dtype=torch.float64)[index].to(x.dtype), x)

    def floats(self, *shape: int, scale: float = 1.0) -> Tensor:
        """float32, from well-behaved to nothing but NUMBERS."""
        x = torch.randn(shape, generator=self.generator) * scale
        kind = self.pick(*["plain"] * 3, *["sprinkled"] * 4, "numbers", "large", "huge", "tiny", "one")
        if kind == "one":
            return torch.full(shape, self.pick(*NUMBERS))
        if kind in ("sprinkled", "numbers"):
            return self.sprinkle(x, 1.0 if kind == "numbers" else self.pick(0.01, 0.1, 0.5))
        return x * {"plain": 1.0, "large": 1e6, "huge": 1e38, "tiny": 1e-38}[kind]

    def ids(self, *shape: int, triangles: int) -> Tensor:
        """The fourth channel of a fragment buffer: mostly triangles that exist."""
        good = torch.randint(0, triangles + 1, shape, generator=self.generator).float()
        far = torch.tensor([*NUMBERS, triangles + 1, triangles + 2, 0.999, triangles + 0.5, -triangles])
        wild = far[torch.randint(len(far), shape, generator=self.generator)].float()
        share = self.pick(0.0, 0.02, 0.3, 1.0)
        blocks = good if self.chance(0.5) else good.amax(-1, keepdim=True).expand_as(good)  # runs of one id
        return torch.where(torch.rand(shape, generator=self.generator) < share, wild, blocks)

    def fragments(self, images: int, size: tuple[int, int], triangles: int) -> Tensor:
        """(u, v, z/w, id) [N, H, W, 4]"""
        shape = (images, *size)
        if not images * size[0] * size[1]:
            return torch.zeros(*shape, 4)
        uvz = self.floats(*shape, 3) if self.chance(0.5) else self.uniform(0, 0.5, *shape, 3)
        return torch.cat([uvz, self.ids(*shape, triangles=triangles)[..., None]], -1)

    def clip_positions(self, images: int, vertices: int) -> Tensor:
        """[N, V, 4]: in view, around the eye, degenerate, or anything."""
        shape = (images, vertices)
        xyz, w = self.uniform(-1.3, 1.3, *shape, 3), self.uniform(0.3, 2.0, *shape, 1)
        kind = self.pick(
            *["view"] * 3, "sprinkled", "behind", "eye", "sliver", "lattice", "point", "far", "wild"
        )
        if kind == "behind":
            w = w * self.uniform(-1, 1, *shape, 1).sign()
        elif kind == "eye":  # w = 0, -0 and next to it
            near = torch.tensor([0.0, -0.0, 1e-45, -1e-40, 1e-30, -1e-8, 1e-3])
            w = torch.where(
                self.uniform(0, 1, *shape, 1) < 0.6,
                near[torch.randint(7, (*shape, 1), generator=self.generator)],
                w,
            )
        elif kind == "sliver":
            xyz[..., 1] = xyz[..., 0] * self.pick(1.0, -0.3) + self.uniform(-1e-6, 1e-6, *shape)
        elif kind == "lattice":  # on pixel centres and corners of power-of-two sizes
            xyz, w = (xyz * 64).round() / 64, torch.ones(*shape, 1)
        elif kind == "point":
            xyz = xyz * self.pick(0.0, 1e-30, 1e-7)
        elif kind == "far":  # all of the screen, or the depth range, many times over
            xyz = xyz * self.pick(10.0, 1e4, 1e9, 1e30, 3e38)
        elif kind == "wild":
            return self.floats(*shape, 4)
        pos = torch.cat([xyz * w.clamp(-2, 2) if self.chance(0.5) else xyz, w], -1)
        return self.sprinkle(pos, self.pick(0.005, 0.1)) if kind == "sprinkled" else pos

    # ---- indices

    def triangle_table(self, triangles: int, vertices: int, bad: float) -> Any:
        """[T, 3] in some integer dtype; with probability `bad`, some or all indices do not exist."""
        tri = torch.randint(0, max(vertices, 1), (triangles, 3), generator=self.generator)
        if self.chance(0.2):
            tri = tri % self.pick(2, 3, 4)  # edges with many triangles, repeated corners
            tri = tri.clamp(max=max(vertices - 1, 0))
        dtype = self.pick(*[torch.int32] * 4, torch.int64, torch.int64, torch.int16, torch.uint8)
        if self.chance(bad):
            ends = (*(INT64_ENDS if dtype == torch.int64 else INT32_ENDS), vertices, vertices + 1)
            if dtype not in (torch.int32, torch.int64):
                ends = (vertices,)
            wild = torch.tensor(ends)[torch.randint(len(ends), tri.shape, generator=self.generator)]
            hit = torch.rand(tri.shape, generator=self.generator) < self.pick(0.01, 0.3, 1.0)
            tri = torch.where(hit, wild, tri)
        return self.layout(tri.to(dtype))

    # ---- memory

    def layout(self, x: Tensor) -> Tensor:
        """The same values in some other memory: strides, offsets, turned and repeated axes."""
        if x.ndim < 2 or not x.numel():
            return x
        kind = self.pick(*["plain"] * 4, "offset", "every other", "flipped", "turned", "repeated")
        if kind == "offset":
            start = self.pick(1, 3, 5)
            flat = x.new_zeros(x.numel() + start)
            flat[start:] = x.reshape(-1)
            return flat[start:].view(x.shape)
        if kind == "every other":
            wide = x.new_zeros(*x.shape[:-1], 2 * x.shape[-1])
            wide[..., ::2] = x
            return wide[..., ::2]
        if kind == "flipped":  # torch has no negative strides: numpy's reversed views arrive as this copy
            axis = self.random.randrange(x.ndim - 1)
            return x.flip(axis).clone(memory_format=torch.preserve_format)
        if kind == "turned":
            return x.transpose(0, -2).contiguous().transpose(0, -2)
        if kind == "repeated" and x.shape[0] > 0:
            return x[:1].expand(x.shape)
        return x

    def damage(self, x: Tensor) -> Any:
        """What is no such tensor at all."""
        return self.pick(
            x[..., :-1],
            x[None],
            x.reshape(-1),
            x.to(torch.complex64),
            x.bool(),
            x.tolist() if x.numel() < 1000 else "tensor",
            None,
            x.to("meta"),
            x[:0],
            x.int() if x.is_floating_point() else x.float(),
        )


def equal(a: Sequence[Tensor | None], b: Sequence[Tensor | None]) -> bool:
    """Bitwise, but that every NaN equals every other."""
    return len(a) == len(b) and all(
        x is y if x is None or y is None else torch.equal(_plain(x), _plain(y)) for x, y in zip(a, b)
    )


def _plain(x: Tensor) -> Tensor:
    wide = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    return x.detach().masked_fill(x.detach().isnan(), 0).contiguous().view(wide)
