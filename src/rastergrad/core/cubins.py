# SPDX-License-Identifier: MIT
"""Compiled programs on disk, so that each is compiled once per machine.

A program's key is everything that it depends on: sources, options, architecture, compiler. Files are written
aside and renamed, so that many processes may share the folder; the oldest go when it grows beyond its bound.
What cannot be written is compiled anew by each process, which is no error.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

_LARGEST = 256 << 20  # bytes in all; a program has some 100 kB


def folder() -> Path | None:
    """Where programs lie: RASTERGRAD_CACHE_DIR, else the user's cache folder. None without a home."""
    chosen = os.environ.get("RASTERGRAD_CACHE_DIR")
    if chosen:
        return Path(chosen)
    try:
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return base / "rastergrad"


def key(sources: Iterable[Path], *parts: str) -> str:
    """A name for the program made of these files and choices."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    for path in sorted(sources):
        text = path.read_bytes()
        digest.update(f"{path.name} {len(text)}\0".encode() + text)
    return digest.hexdigest()[:40]


def stored(name: str) -> bytes | None:
    """The program of that name, if the folder has it whole."""
    place = folder()
    if place is None:
        return None
    path = place / f"{name}.cubin"
    try:
        data = path.read_bytes()
        digest, program = data[:32], data[32:]
        if hashlib.sha256(program).digest() != digest:
            return None
    except OSError:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the oldest are those unused for longest
    return program


def store(name: str, program: bytes) -> bool:
    """Keep a program; whether that was possible."""
    place = folder()
    if place is None:
        return False
    aside = None
    try:
        place.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=place, suffix=".new")
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(program).digest() + program)
        os.replace(aside, place / f"{name}.cubin")
    except OSError:
        if aside is not None:
            with contextlib.suppress(OSError):
                os.unlink(aside)
        return False
    _discard_oldest(place)
    return True


def _discard_oldest(place: Path) -> None:
    found = []
    for path in place.glob("*.cubin"):
        with contextlib.suppress(OSError):  # another process may have removed it
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= _LARGEST:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
