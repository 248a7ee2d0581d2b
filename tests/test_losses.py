# SPDX-License-Identifier: MIT
"""Distances between images, against plain loops."""

import numpy as np
import pytest
import torch

from rastergrad.scene import losses

GENERATOR = torch.Generator().manual_seed(0)
A, B = (torch.rand(2, 9, 11, 3, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
W = torch.rand(2, 9, 11, 1, generator=GENERATOR, dtype=torch.float64)
a, b, w = A.numpy(), B.numpy(), W.numpy()


def mean(error: np.ndarray, weight: np.ndarray | None = None) -> float:
    return float(
        error.mean() if weight is None else (error * weight).sum() / (weight.sum() * error.shape[-1])
    )


def test_l1_l2_huber() -> None:
    d = np.abs(a - b)
    for weight, plain in ((None, None), (W, w)):
        assert float(losses.l1(A, B, weight)) == pytest.approx(mean(d, plain))
        assert float(losses.l2(A, B, weight)) == pytest.approx(mean(d**2, plain))
        huber = np.where(d < 0.3, d**2 / 0.6, d - 0.15)
        assert float(losses.huber(A, B, 0.3, weight)) == pytest.approx(mean(huber, plain))
    assert float(losses.silhouette(A[..., :1], B[..., :1])) == pytest.approx(mean(d[..., :1]))


def test_gradient_difference_is_blind_to_an_offset() -> None:
    assert float(losses.gradient_difference(A + 0.3, A)) < 1e-12
    e = a - b
    rows, columns = np.abs(e[:, 1:] - e[:, :-1]), np.abs(e[:, :, 1:] - e[:, :, :-1])
    expected = (mean(rows, w[:, 1:] * w[:, :-1]) + mean(columns, w[:, :, 1:] * w[:, :, :-1])) / 2
    assert float(losses.gradient_difference(A, B, W)) == pytest.approx(expected)


def test_structural_dissimilarity_against_loops() -> None:
    assert float(losses.structural_dissimilarity(A, A)) < 1e-12
    total = []
    for n, i, j, c in np.ndindex(*a.shape):
        window = (n, slice(max(0, i - 3), i + 4), slice(max(0, j - 3), j + 4), c)
        x, y = a[window], b[window]
        cov = (x * y).mean() - x.mean() * y.mean()
        c1, c2 = 1e-4, 9e-4
        top = (2 * x.mean() * y.mean() + c1) * (2 * cov + c2)
        bottom = (x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var() + y.var() + c2)
        total.append((1 - top / bottom) / 2)
    assert float(losses.structural_dissimilarity(A, B)) == pytest.approx(float(np.mean(total)))


def test_gradients() -> None:
    image = A[:1, :4, :4].clone().requires_grad_()
    for loss in (losses.l1, losses.l2, losses.gradient_difference, losses.structural_dissimilarity):
        assert torch.autograd.gradcheck(lambda x, f=loss: f(x, B[:1, :4, :4], W[:1, :4, :4]), image)
    assert torch.autograd.gradcheck(lambda x: losses.huber(x, B[:1, :4, :4], 0.2), image)


def test_no_weight_at_all_is_no_error() -> None:
    assert float(losses.l1(A, B, torch.zeros_like(W))) == 0
