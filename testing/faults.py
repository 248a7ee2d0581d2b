# SPDX-License-Identifier: MIT
"""Faults that a sanitized library has to report: `python -m testing.faults outside|undefined`.

The kernel's argument struct lies about a size or an address; the door would never let such a call through.
"""

import sys

import torch

from rastergrad.core import native

PIXELS = 20


def main(fault: str) -> None:
    attr, out = torch.zeros(3, 4), torch.zeros(PIXELS, 4)
    tri = torch.zeros(2, 3, dtype=torch.int32)
    rast = torch.ones(PIXELS, 4)
    pixels, misaligned = {"outside": (PIXELS + 1, 0), "undefined": (PIXELS, 1)}[fault]
    pointers = attr.data_ptr(), rast.data_ptr(), None, tri.data_ptr() + misaligned, None, out.data_ptr(), None
    sizes = (1, pixels, 3, 4, 1, 0, 0, 1)
    native.call(native.kernels("interpolate_forward")[torch.float32], *pointers, *sizes)
    print("not noticed", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
