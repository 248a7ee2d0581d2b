# SPDX-License-Identifier: MIT
"""How all frames deform the base while they are fitted together: each for itself, or by a common basis.

Both are held in differential coordinates, so that large steps serve them alike.
"""

from typing import Protocol

import torch
from torch import Tensor

from rastergrad.scene.large_steps import AdamUniform, LargeSteps


class Deformation(Protocol):
    """What the polish needs of either kind."""

    def optimizers(self, step_size: float) -> list[torch.optim.Optimizer]: ...

    def offset(self, frame: int) -> Tensor:
        """[V, 3] of a frame. Gradients: to the parameters."""
        ...


class Free:
    """Offsets of each frame of their own.

    Args:
        large: the map to differential coordinates.  offsets: [F, V, 3], where to begin.
    """

    def __init__(self, large: LargeSteps, offsets: Tensor) -> None:
        self.large = large
        self.u = [large.differential(offset).requires_grad_() for offset in offsets]

    def optimizers(self, step_size: float) -> list[torch.optim.Optimizer]:
        return [AdamUniform(self.u, step_size)]

    def offset(self, frame: int) -> Tensor:
        return self.large.vertices(self.u[frame])


class Basis:
    """Offsets M3 (M2 (M1 e_frame)): a basis of r shapes, M3 [3V, r], and weights of frames that are learned.

    Begins with the r main directions of `offsets`, or with given shapes and the main directions of what they
    leave; M2 begins as the identity, M1 [r, F] with the weights that come nearest to `offsets`.

    Args:
        large, offsets: as for `Free`.  rank: most shapes.  blendshapes: [K, V, 3] or None.
    Source:
        The linear models of Laine et al. 2017, "Production-level facial performance capture using deep
        convolutional neural networks", reduced to what needs no network.
    """

    def __init__(self, large: LargeSteps, offsets: Tensor, rank: int, blendshapes: Tensor | None) -> None:
        self.large, self.shape = large, offsets.shape[1:]
        flat = offsets.reshape(len(offsets), -1)  # [F, 3V]
        given = flat[:0] if blendshapes is None else blendshapes.reshape(len(blendshapes), -1)
        # A little weight keeps shapes that hardly differ from cancelling each other.
        gram = (given @ given.T).double()
        ridge = gram + (1e-6 * gram.trace() / max(1, len(given))) * torch.eye(len(given)).to(gram)
        weights = torch.linalg.solve(ridge, (given @ flat.T).double()).float()  # [K, F]
        rest = flat - weights.T @ given
        left, size, right = torch.linalg.svd(rest, full_matrices=False)
        more = min(rank, int((size > 1e-6 * size.amax().clamp_min(1e-12)).sum()))
        modes = torch.cat([given, size[:more, None] * right[:more]])  # [r, 3V]
        self.m1 = torch.cat([weights, left[:, :more].T]).contiguous().requires_grad_()
        self.m2 = torch.eye(len(modes), device=offsets.device, requires_grad=True)
        columns = [large.differential(mode.reshape(self.shape)) for mode in modes]
        self.m3 = torch.stack(columns, dim=-1).requires_grad_()  # [V, 3, r] differential

    def optimizers(self, step_size: float) -> list[torch.optim.Optimizer]:
        # Weights of frames are of the order of 1; a step on them moves shapes by about as much as one on M3.
        largest = float(self.m3.detach().abs().amax().clamp_min(1e-9))
        rate = min(1e-2, step_size / largest)
        return [AdamUniform([self.m3], step_size), torch.optim.Adam([self.m1, self.m2], lr=rate)]

    def offset(self, frame: int) -> Tensor:
        return self.large.vertices(self.m3 @ (self.m2 @ self.m1[:, frame]))

    def found(self) -> tuple[Tensor, Tensor]:
        """The basis in plain coordinates: shapes [r, V, 3] and weights [F, r]."""
        with torch.no_grad():
            shapes = [self.large.vertices(self.m3[..., k].contiguous()) for k in range(self.m3.shape[-1])]
            found = torch.stack(shapes) if shapes else torch.zeros(0, *self.shape)
            return found, (self.m2 @ self.m1).T.contiguous()
