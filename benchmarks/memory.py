# SPDX-License-Identifier: MIT
"""Memory of this process, as Linux tells it."""

import ctypes
import re
from pathlib import Path


def resident_bytes() -> int:
    """Of this process, now."""
    return _kilobytes(Path("/proc/self/status"), "VmRSS") * 1024


def peak_bytes() -> int:
    """Of this process since `reset_peak`."""
    return _kilobytes(Path("/proc/self/status"), "VmHWM") * 1024


def reset_peak() -> None:
    """Let the peak start anew from what is resident, without what glibc keeps for later."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _kilobytes(path: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB$", path.read_text(), re.MULTILINE)
    assert found, f"{path} has no {name}"
    return int(found[1])
