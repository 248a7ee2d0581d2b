# SPDX-License-Identifier: MIT
"""How far two images are apart. All take [..., H, W, C] and, optionally, weights [..., H, W, 1]."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d


def l1(image: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted mean of absolute differences; forgiving of what no model explains. Gradients: to `image`."""
    return _mean((image - target).abs(), weight)


def l2(image: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted mean of squared differences. Gradients: to `image`."""
    return _mean((image - target).square(), weight)


def huber(image: Tensor, target: Tensor, delta: float, weight: Tensor | None = None) -> Tensor:
    """Mean of d^2 / (2 delta) up to |d| = `delta`, of |d| - delta / 2 beyond. Gradients: to `image`."""
    size = (image - target).abs()
    return _mean(torch.where(size < delta, size.square() / (2 * delta), size - delta / 2), weight)


def gradient_difference(image: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute difference of the steps between neighbouring pixels: blind to slow changes of light.

    A step counts with the product of its two pixels' weights. Gradients: to `image`.
    """
    error = image - target
    total = error.new_zeros(())
    for dim in (-3, -2):
        size = error.shape[dim] - 1
        step = error.narrow(dim, 1, size) - error.narrow(dim, 0, size)
        both = None if weight is None else weight.narrow(dim, 1, size) * weight.narrow(dim, 0, size)
        total = total + _mean(step.abs(), both)
    return total / 2


def structural_dissimilarity(image: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """(1 - SSIM) / 2, 7 x 7 box window, values in 0..1 (Wang et al. 2004). Gradients: to `image`."""
    planes = [x.reshape(-1, *x.shape[-3:]).permute(0, 3, 1, 2) for x in (image, target)]

    def box(x: Tensor) -> Tensor:
        return avg_pool2d(x, 7, stride=1, padding=3, count_include_pad=False)

    a, b = planes
    mean_a, mean_b = box(a), box(b)
    var_a, var_b = box(a * a) - mean_a**2, box(b * b) - mean_b**2
    cov = box(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    similar = similar / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return _mean(((1 - similar) / 2).permute(0, 2, 3, 1).reshape(image.shape), weight)


def silhouette(coverage: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute difference of coverage and mask, both in 0..1. Gradients: to `coverage`."""
    return l1(coverage, mask, weight)


def _mean(error: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return error.mean()
    return (error * weight).sum() / (weight.sum() * error.shape[-1]).clamp_min(1e-12)
