# SPDX-License-Identifier: MIT
"""Image files: row order, exactness, whole files or none, and the errors."""

import io
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rastergrad.scene.extra import MissingExtraError
from rastergrad.scene.image import ImageError, linear_from_srgb, read_texture, srgb_from_linear, write_image
from rastergrad.scene.mesh import load_mesh
from testing.mesh_files import square_obj

Image = pytest.importorskip("PIL.Image", reason="needs pip install 'rastergrad[demo]'")
pytest.importorskip("trimesh", reason="needs pip install 'rastergrad[demo]'")


def ramp(*shape: int) -> torch.Tensor:
    return torch.linspace(0, 1, math.prod(shape)).reshape(shape)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_is_rounded_and_has_its_top_row_first(channels: int, tmp_path: Path) -> None:
    image = ramp(3, 5, channels)
    write_image(tmp_path / "image.png", image)
    with Image.open(tmp_path / "image.png") as picture:
        stored = np.asarray(picture).reshape(3, 5, channels)
    assert np.array_equal(stored, np.rint(image.flip(0).numpy().astype(np.float64) * 255).astype(np.uint8))


def test_png_clamps_and_survives_nan(tmp_path: Path) -> None:
    write_image(tmp_path / "image.png", torch.tensor([[-1.0, 2.0, math.nan, math.inf]]))
    with Image.open(tmp_path / "image.png") as picture:
        assert np.asarray(picture).tolist() == [[0, 255, 0, 255]]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_exr_keeps_every_bit_and_has_its_top_row_first(channels: int, tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR", reason="needs pip install 'rastergrad[demo]'")
    image = 100 * ramp(3, 5, channels).sin()
    write_image(tmp_path / "image.exr", image)
    with openexr.File(str(tmp_path / "image.exr"), separate_channels=True) as file:
        stored = file.channels()
        for k, name in enumerate("Y" if channels == 1 else "RGBA"[:channels]):
            assert np.array_equal(stored[name].pixels, image[..., k].flip(0).numpy())
        assert len(stored) == channels


def test_exr_holds_ids_as_integers(tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR", reason="needs pip install 'rastergrad[demo]'")
    ids = torch.tensor([[0, 1], [2**24 + 1, 2**24 + 2]], dtype=torch.int32)
    write_image(tmp_path / "ids.exr", ids)
    with openexr.File(str(tmp_path / "ids.exr")) as file:
        assert file.channels()["Y"].pixels.tolist() == ids.flip(0).tolist()


def test_npy_is_the_tensor_itself(tmp_path: Path) -> None:
    image = ramp(3, 5, 7)
    write_image(tmp_path / "image.npy", image)
    assert np.array_equal(np.load(tmp_path / "image.npy"), image.numpy())


def test_a_failing_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.npy"
    write_image(path, torch.zeros(2))
    before = path.read_bytes()

    def fail(file: io.BufferedWriter, values: np.ndarray) -> None:
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_image(path, torch.ones(2))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["image.npy"]


def test_images_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"unknown picture format '\.jpeg'; expected one of \.png"):
        write_image(tmp_path / "image.jpeg", ramp(2, 2))
    with pytest.raises(FileNotFoundError, match=r"the folder .*absent does not exist"):
        write_image(tmp_path / "absent" / "image.png", ramp(2, 2))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_image(tmp_path / "folder.png", ramp(2, 2))
    with pytest.raises(ImageError, match=r"got \[2, 2, 5\]"):
        write_image(tmp_path / "image.png", ramp(2, 2, 5))
    with pytest.raises(ImageError, match="EXR takes 1, 3 or 4 channels; got 2"):
        write_image(tmp_path / "image.exr", ramp(2, 2, 2))


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("trimesh", lambda folder: load_mesh(square_obj(folder))),
        ("PIL.Image", lambda folder: read_texture(folder / "colors.png")),
        ("PIL.Image", lambda folder: write_image(folder / "image.png", ramp(2, 2))),
        ("OpenEXR", lambda folder: write_image(folder / "image.exr", ramp(2, 2))),
    ],
)
def test_a_missing_extra_names_its_command(
    module: str, call: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rastergrad\[demo\]'"):
        call(tmp_path)


def test_srgb_curve() -> None:
    # IEC 61966-2-1: 0.5 is 0.21404 of the light; the two branches meet at 0.04045.
    values = torch.tensor([0.0, 0.04045, 0.5, 1.0])
    light = linear_from_srgb(values)
    torch.testing.assert_close(light, torch.tensor([0.0, 0.0031308, 0.2140411, 1.0]), rtol=0, atol=1e-6)
    torch.testing.assert_close(srgb_from_linear(light), values, rtol=0, atol=1e-6)
    assert linear_from_srgb(torch.tensor([0.5, 0.5, 0.5, 0.5]))[3] == 0.5
    assert srgb_from_linear(torch.tensor([0.5, 0.5, 0.5, 0.5]))[3] == 0.5
