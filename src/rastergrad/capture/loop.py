# SPDX-License-Identifier: MIT
"""One piece of the fit: a number of optimisation steps that can stop after any of them and go on later.

Which pictures a step takes follows from its number alone, so a loop that was restored from a checkpoint
continues with the same steps, bit by bit.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rastergrad.capture.config import Config
from rastergrad.capture.scene import Scene
from rastergrad.capture.state import State
from rastergrad.capture.team import Team

# Loss and image error of a step.
Report = tuple[float, float]


class Loop:
    """Base of the stages; `name` is unique within a capture.

    A stage creates its parameters and optimisers in `begin`, from the state; `step` uses them; `finish`
    writes what was found into the state.
    """

    name: str
    steps: int

    def __init__(self, scene: Scene, state: State, config: Config, team: Team) -> None:
        self.scene, self.state, self.config, self.team = scene, state, config, team
        self.optimizers: list[torch.optim.Optimizer] = []
        self.rates: list[float] = []

    def begin(self) -> None:
        raise NotImplementedError

    def step(self, number: int) -> Report:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError

    def pictures(self, number: int) -> tuple[Sequence[int], int]:
        """Views that step `number` will ask for, and their level, to be read ahead."""
        raise NotImplementedError

    def optimize(self, optimizer: torch.optim.Optimizer) -> None:
        """Let `descend` use this optimiser; its rates are those at the beginning."""
        self.optimizers.append(optimizer)
        self.rates += [group["lr"] for group in optimizer.param_groups]

    def parameters(self) -> list[Tensor]:
        return [p for o in self.optimizers for group in o.param_groups for p in group["params"]]

    def descend(
        self,
        number: int,
        parts: Sequence[Any],
        draw: Callable[[Any], tuple[Tensor, Tensor]],
        joints: Sequence[tuple[Tensor, Tensor]],
        shared: Sequence[Tensor],
        extra: Tensor | None = None,
    ) -> Report:
        """One step: gradients of the parts' losses, added in order, and what optimisers make of them.

        Args:
            parts: what processes share among them.
            draw: the loss of a part, and its image error.
            joints: pairs of a tensor that follows from parameters and its `cut`, which the parts' losses use.
            shared: parameters that the parts' losses use themselves.
            extra: a loss that is not of any part; every process computes it.
        """
        leaves = [leaf for _, leaf in joints] + list(shared)
        mine: dict[int, list[Tensor]] = {}
        sums = [0.0, 0.0]
        for k in self.team.share(len(parts)):
            loss, image = draw(parts[k])
            found = torch.autograd.grad(loss, leaves, allow_unused=True)
            mine[k] = [torch.zeros_like(x) if d is None else d for x, d in zip(leaves, found)]
            sums = [sums[0] + float(loss.detach()), sums[1] + float(image.detach())]
        total = self.team.in_order(mine, len(parts))
        sums = self.team.totals(sums)
        ends = [tensor for tensor, _ in joints]
        gradients: list[Tensor | None] = list(total[: len(joints)])
        if extra is not None:
            ends, gradients = [*ends, extra], [*gradients, None]
            sums[0] += float(extra.detach())
        if ends:
            torch.autograd.backward(ends, gradients)
        for p, gradient in zip(shared, total[len(joints) :]):
            p.grad = gradient if p.grad is None else p.grad + gradient
        self.hold_still()
        # A cosine from all to a tenth of the step size.
        share = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * number / self.steps))
        rates = iter(self.rates)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = next(rates) * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return sums[0], sums[1]

    def split(self, items: Sequence[Any]) -> list[list[Any]]:
        """`items` in as many parts as the settings say, as equal as possible."""
        count = min(self.config.parts, len(items))
        return [list(items[k * len(items) // count : (k + 1) * len(items) // count]) for k in range(count)]

    def hold_still(self) -> None:
        """Where a stage masks gradients before they are used."""

    def picks(self, items: Sequence[int], count: int, number: int, what: str = "") -> list[int]:
        """`count` of `items` for step `number`: all have their turn, in an order that the seed decides."""
        count = min(count, len(items))
        rounds, place = divmod(number, len(items) // count)
        seed = zlib.crc32(f"{self.config.seed}/{self.name}/{what}/{rounds}".encode())
        order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed)).tolist()
        return [items[k] for k in order[place * count : (place + 1) * count]]

    def state_dict(self) -> dict[str, Any]:
        """Parameters and what the optimisers remember."""
        return {
            "parameters": [p.detach() for p in self.parameters()],
            "optimizers": [o.state_dict() for o in self.optimizers],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from `state_dict`, after `begin`."""
        with torch.no_grad():
            for p, value in zip(self.parameters(), saved["parameters"], strict=True):
                p.copy_(value)
        for optimizer, value in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(value)


def adam(parameters: Any, rate: float = 1e-3) -> torch.optim.Adam:
    """Adam with a memory of a hundred steps, in one pass over memory."""
    return torch.optim.Adam(parameters, lr=rate, betas=(0.9, 0.99), fused=True)


def turned(vector: Tensor) -> Tensor:
    """The rotation matrix of a rotation vector [3] (Rodrigues). Gradients: to `vector`, at zero too."""
    x, y, z = vector.unbind()
    none = torch.zeros_like(x)
    cross = torch.stack([none, -z, y, z, none, -x, -y, x, none]).reshape(3, 3)
    return torch.linalg.matrix_exp(cross)


def cut(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A joint for `Loop.descend`: a tensor, and a leaf with its values."""
    return tensor, tensor.detach().requires_grad_()
