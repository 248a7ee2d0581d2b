# SPDX-License-Identifier: MIT
"""A process per instruction set, as the choice is made once, when the library is loaded."""

import os
import subprocess
import sys
from pathlib import Path

from rastergrad.core import native

ROOT = Path(__file__).resolve().parent.parent
#: Compiled in and able to run here, best first
LEVELS = native.simd_levels()


def run(level: str, module: str, *arguments: str) -> str:
    """Standard output of `python -m module arguments` on one instruction set."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "RASTERGRAD_SIMD": level},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout
