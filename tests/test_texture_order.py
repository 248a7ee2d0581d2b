# SPDX-License-Identifier: MIT
"""In which order texture visits pixels, and what it spares itself, must not show."""

import pytest
import torch

import rastergrad as rg


@pytest.mark.parametrize(
    "filter_mode", ["nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear"]
)
@pytest.mark.parametrize("boundary_mode", ["wrap", "clamp", "zero"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 16])
def test_many_pixels_at_one_place_see_what_one_sees_there(
    filter_mode: str, boundary_mode: str, channels: int
) -> None:
    tex = torch.rand(1, 8, 16, channels, generator=torch.Generator().manual_seed(channels))
    for place in ((0.0, 0.0), (1.0, 1.0), (0.3, 0.7)):
        uv = torch.tensor(place).expand(1, 3, 21, 2).contiguous()
        bias = torch.full((1, 3, 21), 1.4)
        options = {"filter_mode": filter_mode, "boundary_mode": boundary_mode, "max_mip_level": 2}
        many = rg.texture(tex, uv, mip_level_bias=bias, **options)
        one = rg.texture(tex, uv[:, :1, :1], mip_level_bias=bias[:, :1, :1], **options)
        assert torch.equal(many, one.expand_as(many))
