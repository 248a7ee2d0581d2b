# SPDX-License-Identifier: MIT
"""Imported by hard_coded_cuda.py: what an imported module asks for lands on the CPU, too."""

import torch
from torch import Tensor, nn


class Layer(nn.Module):
    """Keeps a table that it makes on the GPU itself."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(3.0, device="cuda"))

    def forward(self, x: Tensor) -> Tensor:
        return x.cuda() * self.table
