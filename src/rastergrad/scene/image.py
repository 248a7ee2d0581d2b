# SPDX-License-Identifier: MIT
"""Images in files: PNG for the eye, EXR and NPY for numbers; photographs and masks.

In memory row 0 is the bottom, as everywhere in rastergrad. PNG and EXR are made to be looked at and are
written top row first; NPY holds the tensor as it is.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
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


def image_header(path: str | Path) -> tuple[int, int, int]:
    """Width, height and channels (1, 3, or 4 with alpha) of a picture, without decoding its pixels.

    Errors:
        FileNotFoundError; ImageError for a file that is no picture.
    """
    path = Path(path)
    if path.suffix.lower() == ".exr":
        with _naming(path):
            with require("OpenEXR", "reading EXR").File(str(path), header_only=True) as file:
                (left, top), (right, bottom) = (corner.tolist() for corner in file.header()["dataWindow"])
                names = {channel.name for channel in file.header()["channels"]}
            return right - left + 1, bottom - top + 1, 4 if "A" in names else 3 if "R" in names else 1
    pillow = require("PIL.Image", "reading a picture")
    with _naming(path), pillow.open(path) as picture:
        return *picture.size, len(_plain_mode(picture).replace("I;16", "L"))


def read_image(path: str | Path) -> Tensor:
    """A photograph in linear light.

    Args:
        path: PNG of 8 or 16 bits a channel, JPEG, or what else Pillow reads, holding sRGB; or EXR, holding
            linear light. A rotation noted in a JPEG is not applied: pixels are those that calibrations count.
    Returns:
        [H, W, 3] float32, row 0 = bottom; with alpha [H, W, 4], the colour not multiplied by it.
    Errors:
        FileNotFoundError; ImageError, naming the file, for damaged or cut off files and values that are not
        finite; MissingExtraError without Pillow, OpenCV (colour PNG of 16 bits) or OpenEXR (EXR).
    """
    values = _pixels(Path(path))
    if values.dtype != np.float32:
        alpha = values[..., 3:].astype(np.float32) / np.iinfo(values.dtype).max
        values = np.concatenate([_light_table(values.dtype.name)[values[..., :3]], alpha], axis=-1)
    if values.shape[2] == 1:
        values = values.repeat(3, axis=2)
    return torch.from_numpy(values[::-1].copy())


def read_coverage(path: str | Path) -> Tensor:
    """A mask.

    Args:
        path: as for `read_image`; bright and opaque is covered. Nothing is decoded: half bright is half
            covered.
    Returns:
        [H, W, 1] float32 in [0, 1], row 0 = bottom.
    Errors:
        as for `read_image`.
    """
    values = _pixels(Path(path))
    if values.dtype != np.float32:
        values = values.astype(np.float32) / np.iinfo(values.dtype).max
    covered = values[..., :3].max(axis=-1, keepdims=True)
    if values.shape[2] == 4:
        covered = covered * values[..., 3:]
    return torch.from_numpy(covered[::-1].clip(0, 1).copy())


def _pixels(path: Path) -> np.ndarray:
    """[H, W, 1, 3 or 4] uint8, uint16 or float32, as stored, top row first."""
    if path.suffix.lower() == ".exr":
        return _read_exr(path)
    pillow = require("PIL.Image", "reading a picture")
    with _naming(path):
        with open(path, "rb") as file:
            start = file.read(26)
        if start[:8] == b"\x89PNG\r\n\x1a\n" and start[24] == 16 and start[25] != 0:
            return _read_deep_png(path)
        with pillow.open(path) as picture:
            mode = _plain_mode(picture)
            if mode == "I;16":
                return np.array(picture).astype(np.uint16)[..., None]
            pixels = np.array(picture.convert(mode))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _plain_mode(picture: Any) -> str:
    """The mode of L, I;16, RGB and RGBA that holds what the picture holds."""
    if picture.mode in ("1", "L"):
        return "RGBA" if "transparency" in picture.info else "L"
    if picture.mode.startswith("I"):
        return "I;16"
    return "RGBA" if "A" in picture.mode or "transparency" in picture.info else "RGB"


def _read_deep_png(path: Path) -> np.ndarray:
    """A colour PNG of 16 bits a channel, which Pillow would cut to 8."""
    opencv = require("cv2", "reading a PNG of 16 bits", "capture")
    with require("PIL.Image", "reading a picture").open(path) as picture:
        picture.verify()  # OpenCV hands out a file that was cut off with the rest black
    pixels = opencv.imdecode(np.fromfile(path, dtype=np.uint8), opencv.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("the PNG cannot be decoded")
    if pixels.ndim == 2:
        return pixels[..., None]
    return pixels[..., [2, 1, 0, 3] if pixels.shape[2] == 4 else [2, 1, 0]]


def _read_exr(path: Path) -> np.ndarray:
    """[H, W, 1, 3 or 4] float32, top row first; colour divided by alpha, which EXR multiplies with it."""
    openexr = require("OpenEXR", "reading EXR")
    with _naming(path), openexr.File(str(path), separate_channels=True) as file:
        stored = {name: np.array(c.pixels, dtype=np.float32) for name, c in file.channels().items()}
        names = "RGB" if "R" in stored else "Y"
        missing = [name for name in names if name not in stored]
        if missing:
            raise ValueError(f"expected the channels R, G, B or Y; got {', '.join(stored)}")
        values = np.stack([stored[name] for name in names], axis=-1)
        if not np.isfinite(values).all():
            raise ValueError(f"{int((~np.isfinite(values)).sum())} values are NaN or infinite")
        if "A" in stored:
            alpha = stored["A"][..., None]
            values = np.divide(values, alpha, out=values.copy(), where=alpha > 0)
            values = np.concatenate([values.repeat(3 // values.shape[2], axis=2), alpha], axis=-1)
    return values


@lru_cache(maxsize=2)
def _light_table(dtype: str) -> np.ndarray:
    """Linear light of each value that an unsigned integer can have."""
    top = int(np.iinfo(dtype).max)
    return linear_from_srgb(torch.arange(top + 1, dtype=torch.float64) / top).float().numpy()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of other people's readers as an ImageError that names the file."""
    if not path.is_file():
        raise FileNotFoundError(f"picture not found: {path}")
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # a reader of other people's files may raise anything
        raise ImageError(f"{path} cannot be read: {error}. Copy or export the picture again.") from error


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
