# SPDX-License-Identifier: MIT
"""Tests that draw with OpenGL need it, as Mesa's software driver gives it anywhere: where it is missing they
fail and say what to install. RASTERGRAD_NO_GL=1 skips them.
"""

import os

import pytest
import torch

from rastergrad.core import opengl

needs_opengl = pytest.mark.skipif(os.environ.get("RASTERGRAD_NO_GL") == "1", reason="RASTERGRAD_NO_GL=1")


def require() -> opengl.Context:
    """The context for tensors on the CPU; a failure that names the remedy where there is none."""
    try:
        return opengl.context(torch.device("cpu"))
    except RuntimeError as failure:
        pytest.fail(f"{failure} RASTERGRAD_NO_GL=1 skips the tests of OpenGL.")


def software(context: opengl.Context) -> bool:
    """Whether it is Mesa's, whose rasteriser has the same 1/256 pixel and fill rule as the definition."""
    return "llvmpipe" in context.renderer
