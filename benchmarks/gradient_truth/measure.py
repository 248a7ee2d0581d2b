# SPDX-License-Identifier: MIT
"""One method on one scene against the truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .methods import Method
from .records import LOSSES, MOVED, Record
from .scenes import SIZE, Scene
from .surface import Array


@dataclass(frozen=True)
class Agreement:
    """How close a vector comes to the true one."""

    cosine: float  # 0 for a vector of zeros
    relative: float  # |found - true| / |true|
    gain: float  # length of the projection on the truth, relative to it: 1 means that nothing is lost
    length: float  # |found| / |true|

    @staticmethod
    def of(found: Array, true: Array) -> "Agreement":
        dot, size, true_size = float((found * true).sum()), np.linalg.norm(found), np.linalg.norm(true)
        return Agreement(
            cosine=dot / float(size * true_size) if size > 0 else 0.0,
            relative=float(np.linalg.norm(found - true) / true_size),
            gain=dot / float(true_size**2),
            length=float(size / true_size),
        )


@dataclass(frozen=True)
class Comparison:
    """One gradient against the truth."""

    loss: str
    place: Agreement  # dL/d(x, y) of every position, in the image
    depth: Agreement  # dL/d(depth) of every position, at fixed x and y
    affine: Agreement  # twelve degrees of freedom of each body, in camera space
    non_finite: int  # elements that are NaN or infinite; they count as 0 above


@dataclass(frozen=True)
class Measurement:
    """One method on one pose of one scene."""

    scene: str
    pose: int
    method: str
    image_rmse: float
    truth_error: float
    losses: tuple[Comparison, ...]

    def mean(self, loss: str, space: str, figure: str) -> float:
        """Mean over losses of a kind; `space` is place, depth or affine, `figure` a name in `Agreement`."""
        return float(np.mean([getattr(getattr(c, space), figure) for c in self.losses if c.loss == loss]))


def measure(
    scene: Scene, record: Record, method: Method, size: int = SIZE, *, losses: Sequence[str] = LOSSES
) -> Measurement:
    """Render, differentiate each loss, compare."""
    position = torch.from_numpy(scene.position).requires_grad_()
    image = method.render(scene, position, size)
    comparisons = []
    for k, loss in enumerate(losses):
        if loss == MOVED:
            value = (image - torch.from_numpy(record.target).float()).square().mean()
        else:
            value = (image * torch.from_numpy(record.weight[:, :, k]).float()).sum()
        (d_position,) = torch.autograd.grad(value, position, retain_graph=True)
        comparisons.append(_compare(scene, loss, d_position.numpy(), record.d_screen[k], size))
    error = image.detach().double().numpy() - record.image
    return Measurement(
        scene.name,
        scene.pose,
        method.name,
        float(np.sqrt((error**2).mean())),
        record.error,
        tuple(comparisons),
    )


def _compare(scene: Scene, loss: str, d_position: Array, true_screen: Array, size: int) -> Comparison:
    finite = np.isfinite(d_position)
    d_position = np.where(finite, d_position, 0)
    found = scene.screen_gradient(d_position, size)
    basis = scene.affine_basis()
    return Comparison(
        loss=loss,
        place=Agreement.of(found[:, :2], true_screen[:, :2]),
        depth=Agreement.of(found[:, 2], true_screen[:, 2]),
        affine=Agreement.of(basis.T @ d_position, basis.T @ scene.position_gradient(true_screen, size)),
        non_finite=int((~finite).sum()),
    )
