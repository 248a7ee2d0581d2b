# SPDX-License-Identifier: MIT
"""Programs written for nvdiffrast, unchanged: its names, and a CPU where they ask for CUDA.

    python -m rastergrad.compat [--device cpu|cuda] SCRIPT [ARGUMENTS...]

runs a program; `install()` makes `import nvdiffrast.torch` find `rastergrad.compat.nvdiffrast` in this
process. docs/guide/coming-from-nvdiffrast.md.
"""

from .registration import install, uninstall

__all__ = ["install", "uninstall"]
