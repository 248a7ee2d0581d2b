# SPDX-License-Identifier: MIT
"""Lookups and gradients of images that end just behind sixteen pixels: no vector may reach beyond a tensor.

A sanitizer sees it; without one, nothing does.
"""

import torch

import rastergrad as rg


def _fragments(pixels: int, background: int) -> torch.Tensor:
    """All but one pixel show a triangle."""
    rast = torch.ones(1, 1, pixels, 4)
    rast[0, 0, background] = 0
    return rast


def main() -> None:
    for channels in (1, 2, 3, 4, 5):
        for pixels in range(15, 21):
            for mipmapped in (False, True):
                leaves = [torch.rand(1, 8, 8, channels), 0.2 + 0.5 * torch.rand(1, 1, pixels, 2)]
                leaves += [torch.full((1, 1, pixels, 4), 0.1)] * mipmapped
                leaves = [t.requires_grad_() for t in leaves]
                for rast in (None, _fragments(pixels, 0), _fragments(pixels, pixels - 1)):
                    out = rg.texture(*leaves, rast=rast)
                    torch.autograd.grad(out, leaves, torch.ones(out.shape))
    print("no vector reached beyond a tensor")


if __name__ == "__main__":
    main()
