# SPDX-License-Identifier: MIT
"""Cameras, meshes, light and image files: plain PyTorch on the public functions, without a kernel."""
