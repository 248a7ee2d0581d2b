# SPDX-License-Identifier: MIT
"""Several processes that fit together: each draws its share of a step's pictures, all take the same step."""

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


class Team:
    """This process among the others; alone unless torchrun started it.

    Args:
        device: "cpu", or "cuda": then each process takes the GPU of its number on its machine.
        alone: whether to leave the others out.
    """

    def __init__(self, device: str = "cpu", alone: bool = False) -> None:
        self.size = 1 if alone else int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = 0 if alone else int(os.environ.get("RANK", "0"))
        self.device = torch.device(device)
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) if self.size > 1 else 0)
        if self.size > 1 and not dist.is_initialized():
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, count: int) -> list[int]:
        """Which of `count` parts of a step are this process's."""
        return list(range(self.rank, count, self.size))

    def in_order(self, mine: dict[int, list[Tensor]], count: int) -> list[Tensor]:
        """Sums over all parts of a step, each process having computed some.

        They are added in the order of the parts, whoever has computed them, so that the number of processes
        changes nothing, not even rounding: steps of an optimiser would make much of it.

        Args:
            mine: for each of this process's parts, gradients of the same tensors.
            count: number of parts of all processes.
        """
        parts = mine
        if self.size > 1:
            parts = self._exchanged(mine, count)
        total = parts[0]
        for k in range(1, count):
            total = [x + y for x, y in zip(total, parts[k])]
        return total

    def _exchanged(self, mine: dict[int, list[Tensor]], count: int) -> dict[int, list[Tensor]]:
        shapes: list[list[torch.Size] | None] = [None] * self.size
        dist.all_gather_object(shapes, [x.shape for x in next(iter(mine.values()))] if mine else None)
        known = next(shape for shape in shapes if shape is not None)
        sizes = [shape.numel() for shape in known]
        parts: dict[int, list[Tensor]] = {}
        for k in range(count):
            if k in mine:
                flat = torch.cat([x.reshape(-1) for x in mine[k]])
            else:
                flat = torch.empty(sum(sizes), device=self.device)
            dist.broadcast(flat, src=k % self.size)
            parts[k] = [x.reshape(shape) for x, shape in zip(flat.split(sizes), known)]
        return parts

    def totals(self, values: Sequence[float]) -> list[float]:
        """Sums of numbers over all processes."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(numbers)
        return numbers.tolist()

    def close(self) -> None:
        """Part."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()
