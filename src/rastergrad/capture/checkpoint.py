# SPDX-License-Identifier: MIT
"""A capture that was stopped, by whatever, goes on where its last checkpoint was written."""

import os
from pathlib import Path
from typing import Any

import torch

FILE = "checkpoint/state.pt"  # in the result folder
FORMAT = 1


class CaptureStoppedError(OSError):
    """The capture could not go on; what it had found is saved."""


def save(out: Path, content: dict[str, Any]) -> None:
    """Write FILE, whole or not at all: an older checkpoint stays until the new one is on the disk.

    Errors:
        OSError; then nothing of the new one is left behind.
    """
    path = out / FILE
    aside = path.with_suffix(".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(aside, "wb") as file:
            torch.save({"format": FORMAT, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as a RuntimeError
        aside.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written: {error}") from error


def load(out: Path) -> dict[str, Any]:
    """What `save` wrote.

    Errors:
        FileNotFoundError when nothing was saved; ValueError for a damaged file or another version's.
    """
    path = out / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"--resume: {path} is not there, so nothing was begun in {out}. Leave --resume away to begin."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling damaged bytes may raise anything
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {error}); begin anew without --resume."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} was written by another version of rastergrad; begin anew without --resume.")
    return content
