# SPDX-License-Identifier: MIT
"""Image pyramids: exact averages of the same field, also for odd sizes, weighted by what is valid."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rastergrad.scene.pyramid import halve, level_size, pyramid, reduce

SIDE = st.integers(1, 13)


def picture(height: int, width: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.rand(2, height, width, channels, dtype=torch.float64, generator=generator)


def shares(size: int) -> torch.Tensor:
    """[size // 2, size]: what part of each coarse pixel a fine one makes up, by overlap of intervals."""
    half = max(1, size // 2)
    edges = torch.arange(half + 1, dtype=torch.float64) * size / half
    fine = torch.arange(size, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], fine + 1) - torch.maximum(edges[:-1, None], fine)
    return overlap.clamp_min(0) * half / size


@settings(max_examples=40, deadline=None)
@given(height=SIDE, width=SIDE)
def test_a_coarse_pixel_is_the_area_average_of_what_it_covers(height: int, width: int) -> None:
    image = picture(height, width)
    wanted = torch.einsum("ih,nhwc,jw->nijc", shares(height), image, shares(width))
    coarse, weight = halve(image)
    assert weight is None
    assert coarse.shape[1:3] == level_size(width, height, 1)[::-1]
    torch.testing.assert_close(coarse, wanted, rtol=0, atol=1e-12)


def test_even_sides_are_averages_of_four() -> None:
    image = picture(4, 6)
    wanted = torch.nn.functional.avg_pool2d(image.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    torch.testing.assert_close(halve(image)[0], wanted)


@settings(max_examples=20, deadline=None)
@given(height=SIDE, width=SIDE, seed=st.integers(0, 9))
def test_what_does_not_count_changes_nothing(height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = (torch.rand(2, height, width, 1, generator=generator) > 0.5).double()
    image = picture(height, width)
    coarse, share = halve(image, weight)
    spoiled, _ = halve(torch.where(weight > 0, image, 1e6), weight)
    torch.testing.assert_close(coarse, spoiled, rtol=0, atol=0)
    assert share is not None
    torch.testing.assert_close(coarse * share, halve(image * weight)[0])
    constant, _ = halve(torch.full_like(image, 0.3), weight)
    torch.testing.assert_close(constant, torch.where(share > 0, 0.3, 0.0).expand_as(constant).double())


def test_levels_follow_each_other() -> None:
    image, weight = picture(11, 7), torch.ones(2, 11, 7, 1, dtype=torch.float64)
    levels = pyramid(image, 4, weight)
    assert [level[0].shape[1:3] for level in levels] == [(11, 7), (5, 3), (2, 1), (1, 1)]
    assert [level_size(7, 11, k) for k in range(4)] == [(7, 11), (3, 5), (1, 2), (1, 1)]
    torch.testing.assert_close(levels[3][0], reduce(image, 3, weight)[0], rtol=0, atol=0)
    torch.testing.assert_close(levels[3][0][:, 0, 0], image.mean(dim=(1, 2)))


def test_gradients_are_exact() -> None:
    image = picture(5, 3, 1).requires_grad_()
    weight = torch.rand(2, 5, 3, 1, dtype=torch.float64).add_(0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, w: halve(i, w)[0], (image, weight))


def test_errors_name_shapes() -> None:
    with pytest.raises(ValueError, match=r"must be \[n, H, W, C\]; got \[3, 4\]"):
        halve(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"`weight` must be \[1, 4, 4, 1\]"):
        halve(torch.zeros(1, 4, 4, 3), torch.ones(1, 4, 4, 3))
    with pytest.raises(ValueError, match="got -1"):
        level_size(3, 3, -1)
