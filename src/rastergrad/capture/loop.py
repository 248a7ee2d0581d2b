# SPDX-License-Identifier: MIT
"""One piece of the fit: a number of optimisation steps that can stop after any of them and go on later.

Which pictures a step takes follows from its number alone, so a loop that was restored from a checkpoint
continues with the same steps, bit by bit.
"""

import math
import zlib
from collections.abc import Sequence
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

    def descend(self, loss: Tensor, number: int, changed: Sequence[Tensor] | None = None) -> None:
        """Gradients of this process's part of the loss, their sum over processes, and one step.

        Args:
            changed: the parameters that this step is about; all, when None.
        """
        if loss.requires_grad:
            loss.backward()
        self.team.add(self.parameters() if changed is None else changed)
        self.hold_still()
        # A cosine from all to a tenth of the step size.
        share = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * number / self.steps))
        rates = iter(self.rates)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = next(rates) * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

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
