# SPDX-License-Identifier: MIT
"""Vertices by their differential coordinates, in which plain gradient steps move whole regions smoothly.

Source: Nicolet, Jacobson, Jakob 2021, "Large Steps in Inverse Rendering of Geometry". With
u = (I + lambda L) v, a step along the gradient by u is a step along the gradient by v that was smoothed
twice by (I + lambda L)^-1.
"""

from typing import Any

import torch
from torch import Tensor

from rastergrad.scene.extra import require
from rastergrad.scene.laplacian import SparseOperator


class LargeSteps:
    """The map between vertices v and their differential coordinates u, factorised once.

    Args:
        laplacian: SciPy sparse matrix [V, V], symmetric, positive semi-definite.
        smoothness: lambda >= 0. How to choose: sqrt(lambda) is about the distance, in edges, over which a
            step spreads: 10 to 100 to move features, 1 to 5 for details.
        device: of the vertices; the CPU when None.
    Cost:
        One sparse Cholesky factorisation; per use two triangular solves (1 ms for 15,000 vertices).
    """

    def __init__(self, laplacian: Any, smoothness: float, device: torch.device | None = None) -> None:
        sparse = require("scipy.sparse", "large steps", "capture")
        cholespy = require("cholespy", "large steps", "capture")
        matrix = (sparse.identity(laplacian.shape[0]) + smoothness * laplacian).tocoo()
        self.smoothness = smoothness
        self.forward_map = SparseOperator(matrix.tocsr(), device=device)
        rows, columns = (
            torch.from_numpy(index.astype("int32")).to(device) for index in (matrix.row, matrix.col)
        )
        values = torch.from_numpy(matrix.data.astype("float64")).to(device)
        size = laplacian.shape[0]
        self.solver = cholespy.CholeskySolverF(size, rows, columns, values, cholespy.MatrixType.COO)

    def differential(self, v: Tensor) -> Tensor:
        """u of v, [V, C] float32."""
        return self.forward_map(v)

    def vertices(self, u: Tensor) -> Tensor:
        """v of u, [V, C] float32. Gradients: to `u`."""
        return _Solve.apply(self.solver, u)  # pyright: ignore[reportReturnType]


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, solver: Any, u: Tensor) -> Tensor:
        ctx.solver = solver
        return _solved(solver, u)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_v: Tensor) -> tuple[None, Tensor]:
        return None, _solved(ctx.solver, d_v)


def _solved(solver: Any, right: Tensor) -> Tensor:
    found = torch.empty_like(right, memory_format=torch.contiguous_format)
    solver.solve(right.detach().contiguous(), found)
    return found


class AdamUniform(torch.optim.Optimizer):
    """Adam with one step length for all entries of a tensor, by the largest second moment (ibid., section 4).

    Entries of their own would undo what the smoothing did.

    Args:
        params: tensors or groups, as for any torch optimiser.
        lr: length of the largest entry's step, in the unit of the parameter.
        betas: decay of the two moments.
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step for all parameters that have a gradient."""
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["count"], state["m"], state["v"] = 0, torch.zeros_like(p), torch.zeros_like(p)
                state["count"] += 1
                state["m"].lerp_(p.grad, 1 - first)
                state["v"].lerp_(p.grad.square(), 1 - second)
                mean = state["m"] / (1 - first ** state["count"])
                largest = (state["v"].amax() / (1 - second ** state["count"])).sqrt()
                p -= group["lr"] * mean / (largest + 1e-20)
