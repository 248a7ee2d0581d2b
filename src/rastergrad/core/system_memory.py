# SPDX-License-Identifier: MIT
"""What the system's memory allows: whether outputs fit, and whether torch's own tensors are recycled."""

import ctypes
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from . import _native

# Below, asking the system would cost more than it could save anybody.
_ASK_FROM_BYTES = 1 << 28
_MEMINFO = Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")

# glibc, malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_MOST_FROM_HEAP = 32 << 20  # the largest M_MMAP_THRESHOLD that 64-bit glibc accepts


def require(function: str, count: int, pixels: Sequence[int], what: str = "results") -> None:
    """Refuse to start what cannot end: the system promises more memory than it has, and kills whoever uses
    it.

    Args:
        function: the name that the error message begins with.
        count: bytes that are about to be used.
        pixels: (images, height, width) that they are for.
        what: the word for them.
    """
    if count < _ASK_FROM_BYTES:
        return
    free = available()
    if free is None or count <= free:
        return
    images, height, width = pixels
    raise RuntimeError(
        f"{function}: the {what} for {images} x {height} x {width} pixels need {count / 1e9:.1f} GB of "
        f"memory; {free / 1e9:.1f} GB are available. Use fewer images at a time or a smaller resolution, or "
        "free other tensors first."
    )


def available() -> int | None:
    """Bytes that this process could still use: free, in caches, idle on the shelf or in swap, and within the
    limit of its control group. None where the system does not tell.
    """
    info = _fields(_MEMINFO)
    if "MemAvailable:" not in info:
        return None
    free = 1024 * (info["MemAvailable:"] + info.get("SwapFree:", 0))
    for folder in _groups():
        limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
        if limit is not None and used is not None:
            # Pages of files that were only read once go first when memory is short.
            free = min(free, limit - used + _fields(folder / "memory.stat").get("inactive_file", 0))
    _, idle, _ = _native.memory_use()
    return max(free, 0) + idle


def _groups() -> list[Path]:
    """The folders of this process's control group and of those around it (version 2)."""
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:
        return []
    path = next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), None)
    if path is None:
        return []
    own = _CGROUPS / path
    return [own, *(p for p in own.parents if p.is_relative_to(_CGROUPS))]


def _fields(path: Path) -> dict[str, int]:
    """First and second word of each line."""
    try:
        words = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {w[0]: int(w[1]) for w in words if len(w) > 1 and w[1].isdigit()}


def _number(path: Path) -> int | None:
    """None for "max" and for what cannot be read."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def recycle_torch_memory() -> bool:
    """Let torch's own tensors on the CPU use memory again, as rastergrad's do.

    glibc hands large blocks back to the system when a tensor dies and fetches zeroed pages for the next one,
    which in a step of optimisation costs more than the arithmetic on them. This asks glibc to keep what it
    has, for the whole process: up to 1 GiB at the end of the heap, and tensors up to 32 MB come from there.

    Returns:
        Whether the C library took it. False without glibc (macOS, Windows, musl), where nothing changes.

    Cost:
        The process keeps memory that it has used. A full step at 1024^2 takes some 10 % less time.

    Source:
        glibc manual, "Tunable Parameters" of malloc.

    Example:
        >>> import rastergrad as rg
        >>> rg.recycle_torch_memory() in (True, False)
        True
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_THRESHOLD, _MOST_FROM_HEAP), (_M_TRIM_THRESHOLD, 1 << 30), (_M_TOP_PAD, 64 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)
