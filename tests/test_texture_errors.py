# SPDX-License-Identifier: MIT
"""What texture refuses, ignores and notices."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import rastergrad as rg

TEX, UV, DA, BIAS, RAST = (
    torch.rand(2, 4, 4, 3),
    torch.rand(2, 5, 6, 2),
    torch.rand(2, 5, 6, 4),
    torch.rand(2, 5, 6),
    torch.ones(2, 5, 6, 4),
)
BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: rg.texture([1.0], UV),
        TypeError,
        r"texture: `tex` must be a float tensor of shape \[N, h, w, C\]",
    ),
    (lambda: rg.texture(TEX.int(), UV), TypeError, r"int32 \[2, 4, 4, 3\].*tex\.float\(\)"),
    (lambda: rg.texture(TEX[0], UV), ValueError, r"`tex`.*\[4, 4, 3\]"),
    (lambda: rg.texture(TEX[..., :0], UV), ValueError, "at least one texel and one channel"),
    (lambda: rg.texture(TEX, UV[..., :1]), ValueError, r"`uv`.*\[N, H, W, 2\].*\[2, 5, 6, 1\]"),
    (lambda: rg.texture(TEX, UV[:, :0]), ValueError, "at least one pixel"),
    (lambda: rg.texture(TEX, UV[:1]), ValueError, r"`tex` must have 1 or 1 images.*\[2, 4, 4, 3\]"),
    (lambda: rg.texture(TEX, UV, DA[..., :3]), ValueError, r"`uv_da`.*\[N, H, W, 4\]"),
    (lambda: rg.texture(TEX, UV, DA[:, :2]), ValueError, r"`uv_da` must be \[2, 5, 6, 4\].*\[2, 2, 6, 4\]"),
    (
        lambda: rg.texture(TEX, UV, mip_level_bias=BIAS[..., None]),
        ValueError,
        r"`mip_level_bias`.*\[N, H, W\]",
    ),
    (
        lambda: rg.texture(TEX, UV, mip_level_bias=BIAS[:1]),
        ValueError,
        r"`mip_level_bias` must be \[2, 5, 6\]",
    ),
    (
        lambda: rg.texture(TEX, UV, rast=RAST.int()),
        TypeError,
        r"`rast`.*int32 \[2, 5, 6, 4\].*rast\.float\(\)",
    ),
    (lambda: rg.texture(TEX, UV, rast=True), TypeError, r"`rast` must be a float tensor.*True"),
    (lambda: rg.texture(TEX, UV, rast=RAST[..., 3:]), ValueError, r"`rast`.*\[N, H, W, 4\].*\[2, 5, 6, 1\]"),
    (lambda: rg.texture(TEX, UV, rast=RAST[..., 3] > 0), TypeError, r"`rast`.*bool"),
    (
        lambda: rg.texture(TEX, UV, rast=RAST[:, :4]),
        ValueError,
        r"`rast` must be \[2, 5, 6, 4\].*\[2, 4, 6, 4\]. Pass what `rasterize` returned for this image",
    ),
    (
        lambda: rg.texture(TEX, UV, rast=RAST[:1]),
        ValueError,
        r"`rast` must be \[2, 5, 6, 4\].*\[1, 5, 6, 4\]",
    ),
    (
        lambda: rg.texture(TEX, UV, rast=RAST.to("meta")),
        ValueError,
        r"one device.*`rast` on meta.*rast\.to\(",
    ),
    (
        lambda: rg.texture(TEX, UV, filter_mode="cubic"),
        ValueError,
        r"`filter_mode` must be one of 'auto'.*'cubic'",
    ),
    (lambda: rg.texture(TEX, UV, boundary_mode="mirror"), ValueError, r"`boundary_mode`.*'mirror'"),
    (
        lambda: rg.texture(TEX, UV, filter_mode="linear-mipmap-linear"),
        ValueError,
        "needs `uv_da` or `mip_level_bias`",
    ),
    (lambda: rg.texture(TEX, UV, DA, max_mip_level=-1), ValueError, r"`max_mip_level`.*-1"),
    (lambda: rg.texture(TEX, UV, DA, max_mip_level=1.5), TypeError, r"`max_mip_level`.*1\.5"),
    (lambda: rg.texture(TEX, UV, DA, max_mip_level=True), TypeError, r"`max_mip_level`.*True"),
    (lambda: rg.texture(TEX, UV, backend="metal"), ValueError, "`backend`"),
    (lambda: rg.texture(TEX, UV, boundary_mode="cube"), ValueError, r"`tex`.*\[N, 6, h, h, C\]"),
    (lambda: rg.texture(torch.rand(1, 5, 4, 4, 3), UV, boundary_mode="cube"), ValueError, "six square faces"),
    (lambda: rg.texture(torch.rand(1, 6, 4, 2, 3), UV, boundary_mode="cube"), ValueError, "six square faces"),
    (
        lambda: rg.texture(torch.rand(1, 6, 4, 4, 3), UV, boundary_mode="cube"),
        ValueError,
        r"`uv`.*\[N, H, W, 3\]",
    ),
    (lambda: rg.texture(torch.rand(1).expand(1, 65536, 65536, 1), UV), ValueError, "texels per image"),
    (lambda: rg.build_mipmaps(TEX, -1), ValueError, r"build_mipmaps: `max_mip_level`"),
    (lambda: rg.build_mipmaps(TEX, cube=1), TypeError, r"`cube` must be True or False"),
    (lambda: rg.build_mipmaps(TEX, cube=True), ValueError, r"build_mipmaps: `tex`.*\[N, 6, h, h, C\]"),
    (lambda: rg.build_mipmaps("tex"), TypeError, r"build_mipmaps: `tex`"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[m for _, _, m in BAD])
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_what_a_filter_does_not_use_is_ignored() -> None:
    for filter_mode in ("nearest", "linear"):
        got = rg.texture(TEX, UV, DA, mip_level_bias=BIAS, mip=[], filter_mode=filter_mode)
        assert torch.equal(got, rg.texture(TEX, UV, filter_mode=filter_mode))
    limited = rg.texture(TEX, UV, DA, max_mip_level=0)
    assert torch.equal(limited, rg.texture(TEX, UV, filter_mode="linear"))


def test_changing_an_input_before_backward_is_noticed() -> None:
    tex, uv = TEX.clone().requires_grad_(), UV.clone()
    out = rg.texture(tex, uv)
    uv.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_changing_the_result_in_place_is_allowed() -> None:
    tex = TEX.clone().requires_grad_()
    out = rg.texture(tex, UV)
    out *= 2
    out.sum().backward()
    assert tex.grad is not None
