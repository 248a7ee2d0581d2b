# SPDX-License-Identifier: MIT
"""Lookups and gradients of images that end just behind sixteen pixels, or in rows of their own: no vector may
reach beyond a tensor.

A sanitizer sees it; without one, nothing does.
"""

import torch

import rastergrad as rg

# Images below 64 columns are laid out in wider rows.
SIZES = [*((1, width) for width in range(15, 21)), (3, 63), (3, 64), (2, 65), (2, 80)]


def _fragments(size: tuple[int, int], background: int) -> torch.Tensor:
    """All but one pixel show a triangle."""
    rast = torch.ones(1, *size, 4)
    rast.view(-1, 4)[background] = 0
    return rast


def main() -> None:
    for channels in (1, 2, 3, 4, 5):
        for size in SIZES:
            for mipmapped in (False, True):
                leaves = [torch.rand(1, 8, 8, channels), 0.2 + 0.5 * torch.rand(1, *size, 2)]
                leaves += [torch.full((1, *size, 4), 0.1)] * mipmapped
                leaves = [t.requires_grad_() for t in leaves]
                for rast in (None, _fragments(size, 0), _fragments(size, -1)):
                    out = rg.texture(*leaves, rast=rast)
                    torch.autograd.grad(out, leaves, torch.ones(out.shape))
    print("no vector reached beyond a tensor")


if __name__ == "__main__":
    main()
