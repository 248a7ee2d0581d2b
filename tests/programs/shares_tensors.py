# SPDX-License-Identifier: MIT
"""Processes that share tensors, started as CUDA wants it. Run by tests/test_compat_program.py."""

import sys

import nvdiffrast.torch as dr
import torch
import torch.multiprocessing as mp


def draw(index: int, pos: torch.Tensor, images: torch.Tensor) -> None:
    glctx = dr.RasterizeCudaContext("cuda")
    tri = torch.tensor([[0, 1, 2]], dtype=torch.int32).cuda()
    rast, _ = dr.rasterize(glctx, pos[index : index + 1].cuda(), tri, (4, 4))
    images[index] = rast[0]


def main() -> None:
    pos = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]]).share_memory_()
    images = torch.zeros(1, 4, 4, 4).share_memory_()
    mp.spawn(draw, (pos, images), nprocs=1)
    sys.stdout.write(f"{int(images[..., 3].sum())} pixels, {sys.argv[1:]}\n")


if __name__ == "__main__":
    main()
