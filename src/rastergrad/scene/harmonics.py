# SPDX-License-Identifier: MIT
"""Diffuse light as spherical harmonics of the surface normal (Ramamoorthi and Hanrahan 2001)."""

import math

import torch
from torch import Tensor

TERMS = 9
# The nine real harmonics up to degree 2, each with its convolution by the clamped cosine divided by pi, so
# that the light of a white surface is a plain sum: coefficient 0 alone, set to 1 / FACTORS[0], lights all of
# it with 1.
FACTORS = (
    math.sqrt(1 / (4 * math.pi)),
    *(2 / 3 * math.sqrt(3 / (4 * math.pi)),) * 3,
    *(1 / 4 * math.sqrt(15 / (4 * math.pi)),) * 3,
    1 / 4 * math.sqrt(5 / (16 * math.pi)),
    1 / 4 * math.sqrt(15 / (16 * math.pi)),
)


def basis(normal: Tensor) -> Tensor:
    """The harmonics at unit normals.

    Args:
        normal: [..., 3], world space, unit length.
    Returns:
        [..., 9] in the order 1, y, z, x, xy, yz, xz, 3z^2 - 1, x^2 - y^2, times FACTORS.
    Gradients:
        to `normal`.
    """
    x, y, z = normal.unbind(-1)
    f = FACTORS
    return torch.stack(
        [
            torch.full_like(x, f[0]),
            f[1] * y,
            f[2] * z,
            f[3] * x,
            f[4] * (x * y),
            f[5] * (y * z),
            f[6] * (x * z),
            f[7] * (3 * z * z - 1),
            f[8] * (x * x - y * y),
        ],
        dim=-1,
    )


def white_light(like: Tensor) -> Tensor:
    """Coefficients [9, 3] that light a white surface with 1 from everywhere."""
    light = torch.zeros(TERMS, 3).to(like)
    light[0] = 1 / FACTORS[0]
    return light


def shading(normal: Tensor, light: Tensor) -> Tensor:
    """Light that a white diffuse surface sends out.

    Args:
        normal: [..., 3], unit length.  light: [9, 3] linear RGB coefficients.
    Returns:
        [..., 3]; may fall below 0 where the coefficients describe no real light.
    Gradients:
        to both.
    """
    return basis(normal) @ light
