# SPDX-License-Identifier: MIT
"""Several processes that fit together: each draws its share of a step's pictures, all take the same step."""

import os
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Item = TypeVar("Item")


class Team:
    """This process among the others; alone unless torchrun started it.

    Args:
        alone: whether to leave the others out.
    """

    def __init__(self, alone: bool = False) -> None:
        self.size = 1 if alone else int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = 0 if alone else int(os.environ.get("RANK", "0"))
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group("gloo")

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Every process's part of `items`; together all of them."""
        return list(items[self.rank :: self.size])

    def add(self, parameters: Sequence[Tensor]) -> None:
        """Sum the gradients of all processes; one that a process lacks counts as 0."""
        if self.size == 1:
            return
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        flat = torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])
        dist.all_reduce(flat)
        parts = flat.split([p.numel() for p in parameters])
        for p, part in zip(parameters, parts):
            p.grad = part.reshape(p.shape)

    def totals(self, values: Sequence[float]) -> list[float]:
        """Sums of numbers over all processes."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(numbers)
        return numbers.tolist()

    def close(self) -> None:
        """Part."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()
