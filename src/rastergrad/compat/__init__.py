# SPDX-License-Identifier: MIT
"""Programs written for nvdiffrast, unchanged: its names, and a CPU where they ask for CUDA.

    python -m rastergrad.compat [--device cpu|cuda] SCRIPT [ARGUMENTS...]

runs a program. In a program or notebook of your own, `install()` makes `import nvdiffrast.torch` find
`rastergrad.compat.nvdiffrast`, and `with cuda_on_cpu():` sends requests for CUDA to the CPU.
docs/guide/coming-from-nvdiffrast.md.
"""

from .redirect import cuda_on_cpu
from .registration import install, uninstall

__all__ = ["cuda_on_cpu", "install", "uninstall"]
