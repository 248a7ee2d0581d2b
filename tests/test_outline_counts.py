# SPDX-License-Identifier: MIT
"""outline_counts: what it counts, and bad input."""

from dataclasses import asdict

import pytest
import torch
from torch import Tensor

import rastergrad as rg
from testing.antialias_scenes import drawn, scene


def ribbon(slices: int) -> tuple[Tensor, Tensor, Tensor]:
    """rast, pos, tri: a surface over a row of four pixels from x = 0.2 to 1.4, cut into upright slices. Only
    the centre of the first pixel lies on it.
    """
    x = torch.linspace(0.2, 1.4, slices + 1, dtype=torch.float64) / 2 - 1
    low, high = ([x, torch.full_like(x, y), torch.zeros_like(x), torch.ones_like(x)] for y in (-9.0, 9.0))
    pos = torch.cat([torch.stack(low, 1), torch.stack(high, 1)])[None]
    a = torch.arange(slices)
    b, c, d = a + 1, a + slices + 1, a + slices + 2
    tri = torch.cat([torch.stack([a, b, c], 1), torch.stack([c, b, d], 1)])
    rast = drawn(pos, tri, (1, 4))
    assert (rast[0, 0, :, 3] > 0).tolist() == [True, False, False, False]
    return rast, pos, tri


def test_a_walk_that_is_too_long_is_counted_and_blends_nothing() -> None:
    color = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64).reshape(1, 1, 4, 1)
    rast, pos, tri = ribbon(400)  # two triangles a slice: 600 from the centre at 0.5 to the end
    counts = rg.outline_counts(rast, pos, tri)
    assert (counts.pairs, counts.walked, counts.outlines, counts.lost) == (1, 1, 1, 0)
    assert 590 < counts.steps == counts.most_steps < 610
    image = rg.antialias(color, rast, pos, tri)
    assert torch.allclose(image.flatten()[:2], torch.tensor([1, 0.4], dtype=torch.float64))

    rast, pos, tri = ribbon(800)  # 1,200
    counts = rg.outline_counts(rast, pos, tri)
    assert (counts.pairs, counts.walked, counts.outlines, counts.lost) == (1, 1, 0, 1)
    assert counts.steps == 1024
    assert torch.equal(rg.antialias(color, rast, pos, tri), color)


def test_pairs_and_meetings_add_up_over_images_and_threads() -> None:
    _, rast, pos, tri = scene(3, "boxes", n=3, size=(140, 131), dtype=torch.float64)
    ids = rast[..., 3]
    differ = int((ids[:, 1:] != ids[:, :-1]).sum() + (ids[:, :, 1:] != ids[:, :, :-1]).sum())
    counts = rg.outline_counts(rast, pos, tri, topology=rg.edge_topology(tri))
    assert counts.pairs == differ >= counts.walked >= counts.outlines + counts.meetings
    assert min(counts.outlines, counts.meetings) > 0
    assert rg.outline_counts(rast, pos, tri, intersections=False).meetings == 0

    single = [asdict(rg.outline_counts(rast[k : k + 1], pos[k : k + 1], tri)) for k in range(3)]
    joined = {key: (max if key == "most_steps" else sum)(one[key] for one in single) for key in single[0]}
    assert asdict(counts) == joined
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert rg.outline_counts(rast, pos, tri) == counts
    finally:
        torch.set_num_threads(threads)


def test_bad_input() -> None:
    rast, pos, tri = ribbon(2)
    with pytest.raises(TypeError, match="outline_counts: `intersections` must be True or False; got 1"):
        rg.outline_counts(rast, pos, tri, intersections=1)  # type: ignore
    with pytest.raises(
        ValueError, match=r"outline_counts: `pos` must have 1 images.*got float64 \[2, 6, 4\]"
    ):
        rg.outline_counts(rast, pos.expand(2, -1, -1), tri)
    with pytest.raises(ValueError, match=r"outline_counts: there are no kernels for meta"):
        rg.outline_counts(rast.to("meta"), pos.to("meta"), tri.to("meta"))
    topology = rg.edge_topology(tri)
    tri[1, 2] = 77
    for known in (None, topology):  # the one that is given has not seen the bad index
        with pytest.raises(
            ValueError, match=r"outline_counts: `tri` must hold indices in \[0, 6\).*triangle 1"
        ):
            rg.outline_counts(rast, pos, tri, topology=known)
        with pytest.raises(ValueError, match=r"antialias: `tri` must hold indices in \[0, 6\).*triangle 1"):
            rg.antialias(rast[..., :1], rast, pos, tri, topology=known)
