# SPDX-License-Identifier: MIT
"""Images in files: PNG for the eye, EXR and NPY for numbers.

In memory row 0 is the bottom, as everywhere in rastergrad. PNG and EXR are made to be looked at and are
written top row first; NPY holds the tensor as it is.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rastergrad.scene.extra import require

FORMATS = (".png", ".exr", ".npy")


class ImageError(ValueError):
    """A picture that cannot be read or written as asked."""


def linear_from_srgb(srgb: Tensor) -> Tensor:
    """Linear light of sRGB values in [0, 1] (IEC 61966-2-1); a fourth channel (alpha) passes unchanged."""
    light = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)
    return light if srgb.shape[-1] != 4 else torch.cat([light[..., :3], srgb[..., 3:]], dim=-1)


def srgb_from_linear(light: Tensor) -> Tensor:
    """sRGB encoding of linear light, clamped to [0, 1]; a fourth channel (alpha) is only clamped."""
    light = light.clamp(0, 1)
    power = light.clamp_min(0.0031308) ** (1 / 2.4)
    srgb = torch.where(light <= 0.0031308, light * 12.92, 1.055 * power - 0.055)
    return srgb if light.shape[-1] != 4 else torch.cat([srgb[..., :3], light[..., 3:]], dim=-1)


def read_texture(source: Any) -> Tensor:
    """A picture as a texture for `rastergrad.texture`.

    Args:
        source: path of a picture file, or a PIL image.
    Returns:
        [1, h, w, 4] float32, linear light and alpha, row 0 = bottom of the picture (v = 0).
    Errors:
        FileNotFoundError; ImageError for a file that is no picture.
    """
    pillow = require("PIL.Image", "reading a picture")
    if isinstance(source, (str, os.PathLike)):
        if not Path(source).is_file():
            raise FileNotFoundError(f"picture not found: {source}")
        try:
            source = pillow.open(source)
            source.load()
        except (OSError, SyntaxError, ValueError) as error:  # Pillow's answers to damaged files
            raise ImageError(f"cannot read a picture: {error}") from error
    pixels = np.array(source.convert("RGBA"), dtype=np.float32) / 255
    return linear_from_srgb(torch.from_numpy(pixels)).flip(0)[None].contiguous()


def write_image(path: str | Path, image: Tensor) -> None:
    """Write one image; the format follows from the name's ending, and the file appears whole or not at all.

    Args:
        path: .png, .exr or .npy. The folder must exist.
        image: [H, W] or [H, W, C]. PNG: floats in [0, 1] as displayed (no encoding is applied; 255 x is
            rounded and clamped), C of 1 to 4. EXR: C = 1 (Y), 3 or 4 (RGB, RGBA), floats as float32, integers
            as uint32. NPY: any dtype and shape, unchanged, row 0 first.
    Errors:
        ImageError for an unknown ending or a shape that the format cannot hold; OSError when writing fails;
        MissingExtraError without Pillow (PNG) or OpenEXR (EXR).
    """
    path = Path(path)
    check_format(path)
    values = image.detach().cpu().numpy()
    suffix = path.suffix.lower()
    if suffix == ".npy":
        with replacing(path) as name, open(name, "wb") as file:
            np.save(file, values)
        return
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 2, 3, 4):
        raise ImageError(f"write_image: `image` must be [H, W] or [H, W, 1 to 4]; got {list(image.shape)}.")
    values = np.ascontiguousarray(values[::-1])
    (_write_png if suffix == ".png" else _write_exr)(path, values)


def check_format(path: Path) -> None:
    """Raise what `write_image` would raise for this name, before the work is done."""
    if path.suffix.lower() not in FORMATS:
        known = ", ".join(FORMATS)
        raise ImageError(f"{path}: unknown picture format {path.suffix!r}; expected one of {known}.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected the name of a file to write.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {path.parent} does not exist.")
    if path.suffix.lower() == ".exr":
        require("OpenEXR", "writing EXR")
    if path.suffix.lower() == ".png":
        require("PIL.Image", "writing PNG")


@contextmanager
def replacing(path: Path) -> Iterator[str]:
    """A temporary name beside `path`, renamed to it at the end, or removed after an error."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield str(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_png(path: Path, values: np.ndarray) -> None:
    pillow = require("PIL.Image", "writing PNG")
    # NaN as a byte would be undefined.
    pixels = np.rint(np.nan_to_num(np.clip(values.astype(np.float64), 0, 1)) * 255).astype(np.uint8)
    with replacing(path) as name:
        pillow.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(name)


def _write_exr(path: Path, values: np.ndarray) -> None:
    openexr = require("OpenEXR", "writing EXR")
    names = {1: "Y", 3: "RGB", 4: "RGBA"}.get(values.shape[2])
    if names is None:
        raise ImageError(f"{path}: EXR takes 1, 3 or 4 channels; got {values.shape[2]}.")
    dtype = np.float32 if values.dtype.kind == "f" else np.uint32
    channels = {name: np.ascontiguousarray(values[..., k].astype(dtype)) for k, name in enumerate(names)}
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    with replacing(path) as name:
        openexr.File(header, channels).write(name)
