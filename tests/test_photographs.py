# SPDX-License-Identifier: MIT
"""Photographs and masks from files: each depth and kind in linear light, row 0 the bottom, named errors."""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rastergrad.scene.extra import MissingExtraError
from rastergrad.scene.image import (
    ImageError,
    image_header,
    linear_from_srgb,
    read_coverage,
    read_image,
    srgb_from_linear,
    write_image,
)

Image = pytest.importorskip("PIL.Image", reason="needs pip install 'rastergrad[demo]'")
cv2 = pytest.importorskip("cv2", reason="needs pip install 'rastergrad[capture]'")
WHITE_TOP = np.repeat(np.array([[255], [0]], dtype=np.uint8), 3, axis=1)  # [2, 3], the upper row white


def ramp(channels: int, dtype: type) -> np.ndarray:
    """[5, 4, channels] over the whole range."""
    values = np.linspace(0, np.iinfo(dtype).max, 20 * channels).round()
    return values.astype(dtype).reshape(5, 4, channels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_of_8_and_16_bits_is_linearised_exactly(channels: int, dtype: type, tmp_path: Path) -> None:
    stored, path = ramp(channels, dtype), tmp_path / "image.png"
    cv2.imwrite(str(path), stored[..., {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]])
    values = torch.from_numpy(stored.astype(np.float64)) / np.iinfo(dtype).max
    wanted = linear_from_srgb(values).flip(0).float()
    if channels == 1:
        wanted = wanted.expand(-1, -1, 3)
    image = read_image(path)
    assert image.dtype == torch.float32
    torch.testing.assert_close(image, wanted, rtol=1e-6, atol=1e-7)
    assert image_header(path) == (4, 5, channels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_keeps_black_and_white(mode: str, tmp_path: Path) -> None:
    picture = Image.fromarray(WHITE_TOP)
    if mode == "I;16":
        picture = Image.fromarray(WHITE_TOP.astype(np.uint16) * 257)
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    (picture if mode == "I;16" else picture.convert("RGB").convert(mode)).save(path)
    image, mask = read_image(path), read_coverage(path)
    alpha = mode in ("LA", "RGBA")
    assert image.shape == (2, 3, 4 if alpha else 3)
    assert image_header(path)[2] == (4 if alpha else 1 if mode in ("1", "L", "I;16") else 3)
    torch.testing.assert_close(image[..., :3], mask.expand(-1, -1, 3))
    assert mask[..., 0].tolist() == [[0, 0, 0], [1, 1, 1]]


def test_jpeg_is_read_and_its_rotation_left(tmp_path: Path) -> None:
    picture = Image.fromarray(np.full((4, 6, 3), 188, dtype=np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "image.jpg", exif=exif)
    image = read_image(tmp_path / "image.jpg")
    assert image.shape == (4, 6, 3)
    torch.testing.assert_close(image, torch.full((4, 6, 3), 0.5), rtol=0, atol=0.01)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_exr_is_linear_already_and_its_colour_divided_by_alpha(channels: int, tmp_path: Path) -> None:
    pytest.importorskip("OpenEXR", reason="needs pip install 'rastergrad[demo]'")
    stored = torch.rand(3, 5, channels, generator=torch.Generator().manual_seed(0)) + 0.2
    path = tmp_path / "image.exr"
    if channels == 4:
        stored[0, 0] = torch.tensor([0.1, 0.2, 0.3, 0.0])
    write_image(path, stored)
    image = read_image(path)
    wanted = stored.expand(-1, -1, 3) if channels == 1 else stored.clone()
    if channels == 4:
        wanted[..., :3] /= torch.where(stored[..., 3:] > 0, stored[..., 3:], 1)
    torch.testing.assert_close(image, wanted)
    assert image_header(path) == (5, 3, channels)


def test_masks_are_coverage_and_not_decoded(tmp_path: Path) -> None:
    half = torch.full((2, 2), 128 / 255)
    write_image(tmp_path / "mask.png", half)
    torch.testing.assert_close(read_coverage(tmp_path / "mask.png")[..., 0], half)
    white_on_nothing = torch.tensor([[[1.0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]]])
    write_image(tmp_path / "cut.png", white_on_nothing)
    assert read_coverage(tmp_path / "cut.png")[0, :, 0].tolist() == [0, 1, 0]


def cut_off(path: Path, share: float = 0.7) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    return path


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["8.png", "16.png", "image.jpg", "image.exr"])
def test_files_that_were_cut_off_are_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith("exr"):
        pytest.importorskip("OpenEXR", reason="needs pip install 'rastergrad[demo]'")
        write_image(path, noise(32, 32, 3))
    else:
        top, dtype = (65535, np.uint16) if name == "16.png" else (255, np.uint8)
        cv2.imwrite(str(path), (noise(32, 32, 3).numpy() * top).astype(dtype))
    read_image(path)
    with pytest.raises(ImageError, match=rf"{name} cannot be read: .*export the picture again"):
        read_image(cut_off(path))


def test_other_files_are_named(tmp_path: Path) -> None:
    for name in ("image.png", "image.exr"):
        if name == "image.exr":
            pytest.importorskip("OpenEXR", reason="needs pip install 'rastergrad[demo]'")
        with pytest.raises(FileNotFoundError, match=f"picture not found: .*{name}"):
            read_image(tmp_path / name)
        (tmp_path / name).write_bytes(b"something else")
        for read in (read_image, read_coverage, image_header):
            with pytest.raises(ImageError, match=f"{name} cannot be read"):
                read(tmp_path / name)
    write_image(tmp_path / "image.exr", torch.tensor([[math.nan, 1.0]]))
    with pytest.raises(ImageError, match=r"image.exr cannot be read: 1 values are NaN"):
        read_image(tmp_path / "image.exr")
    write_image(tmp_path / "ids.exr", torch.zeros(2, 2))
    assert read_image(tmp_path / "ids.exr").shape == (2, 2, 3)


def deep(folder: Path) -> Path:
    cv2.imwrite(str(folder / "deep.png"), ramp(3, np.uint16))
    return folder / "deep.png"


@pytest.mark.parametrize(
    ("module", "extra", "make"),
    [
        ("PIL.Image", "demo", lambda folder: folder / "a.png"),
        ("OpenEXR", "demo", lambda folder: folder / "a.exr"),
        ("cv2", "capture", deep),
    ],
)
def test_a_missing_extra_names_its_command(
    module: str,
    extra: str,
    make: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = make(tmp_path)
    if not path.exists():
        path.write_bytes(b"never read")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'rastergrad\[{extra}\]'"):
        read_image(path)


def test_light_survives_a_round_trip_through_8_bits(tmp_path: Path) -> None:
    light = noise(8, 8, 3)
    write_image(tmp_path / "image.png", srgb_from_linear(light))
    back = srgb_from_linear(read_image(tmp_path / "image.png"))
    torch.testing.assert_close(back, srgb_from_linear(light), rtol=0, atol=0.502 / 255)
