# SPDX-License-Identifier: MIT
"""The command line: what it writes, and that a user's mistake ends in one line and exit code 2."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import rastergrad as rg
from rastergrad.cli import main
from testing.mesh_files import FOUR_QUARTERS, SQUARE, square_obj, square_ply

Image = pytest.importorskip("PIL.Image", reason="needs pip install 'rastergrad[demo]'")
pytest.importorskip("trimesh", reason="needs pip install 'rastergrad[demo]'")

Capture = pytest.CaptureFixture[str]
BARE_SQUARE = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n"


def refused(capsys: Capture, *argv: object) -> str:
    """The one line on stderr of a command that a user got wrong."""
    assert main([str(word) for word in argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("rastergrad: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def misused(capsys: Capture, *argv: object) -> str:
    """What argparse says of options that make no sense."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in argv])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_version(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"rastergrad {rg.__version__}\n"


def test_the_installed_command_reports_errors_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from rastergrad.cli import main; sys.exit(main())"]
    done = subprocess.run(
        [*command, "render", "absent.obj", "-o", "out.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "rastergrad: error: mesh file not found: absent.obj\n"


def test_render_writes_a_png(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.png"
    words = ["render", square_obj(tmp_path, FOUR_QUARTERS), "-o", out, "--size", "40x30", "--camera", "front"]
    assert main([str(word) for word in words]) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(rf"Wrote {out}: 40 x 30 pixels of 2 triangles, \d+ % covered, drawn in .* s\n", said)
    with Image.open(out) as picture:
        assert picture.size == (40, 30)
        pixels = np.asarray(picture).astype(int)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    # Red is the top left of the picture on the square, blue the bottom left.
    red, blue = pixels[8, 12], pixels[22, 12]
    assert red[0] > 150 > 60 > red[1:].max()
    assert blue[2] > 150 > 60 > blue[:2].max()


def test_render_backgrounds(tmp_path: Path) -> None:
    mesh = square_obj(tmp_path)
    base = ["render", str(mesh), "-o", str(tmp_path / "out.png"), "--size", "24x24", "--background"]
    assert main([*base, "transparent"]) == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.mode == "RGBA"
        assert picture.getpixel((0, 0))[3] == 0
        assert picture.getpixel((12, 12))[3] == 255
    assert main([*base, "10,200,30"]) == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.mode == "RGB"
        assert picture.getpixel((0, 0)) == (10, 200, 30)


def test_render_writes_numbers(tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR", reason="needs pip install 'rastergrad[demo]'")
    mesh = str(square_obj(tmp_path))
    size = ["--size", "20x16", "--camera", "front", "--fov", "90"]
    assert main(["render", mesh, "--depth", "-o", str(tmp_path / "depth.npy"), *size]) == 0
    depth = np.load(tmp_path / "depth.npy")
    assert depth.shape == (16, 20)
    seen = depth[depth > 0]
    # Framed with 5 % free at each side, the unit square stands 1 / (2 x 0.9 tan 45) away.
    assert seen == pytest.approx(1 / 1.8, rel=1e-4)
    assert main(["render", mesh, "--ids", "-o", str(tmp_path / "ids.exr"), *size]) == 0
    with openexr.File(str(tmp_path / "ids.exr")) as file:
        ids = file.channels()["Y"].pixels
    assert ids.dtype == np.uint32
    assert np.array_equal(ids[::-1] > 0, depth > 0)
    assert main(["render", mesh, "--normals", "-o", str(tmp_path / "normals.npy"), *size]) == 0
    normals = np.load(tmp_path / "normals.npy")
    assert np.array_equal(normals[depth > 0].round(6), np.tile([0.0, 0.0, 1.0], (len(seen), 1)))
    for what in ("--depth", "--ids", "--normals"):
        assert main(["render", mesh, what, "-o", str(tmp_path / "eye.png"), *size]) == 0


def test_a_camera_that_sees_nothing_is_mentioned(tmp_path: Path, capsys: Capture) -> None:
    camera = tmp_path / "away.json"
    camera.write_text('{"eye": [0, 0, 5], "target": [0, 0, 9]}')
    words = ["render", square_obj(tmp_path), "-o", tmp_path / "out.png", "--size", "8x8", "--camera", camera]
    assert main([str(word) for word in words]) == 0
    assert "the camera sees nothing" in capsys.readouterr().err


def test_mistakes_with_files(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.png"
    mesh = square_obj(tmp_path)
    assert "mesh file not found" in refused(capsys, "render", tmp_path / "absent.ply", "-o", out)
    (tmp_path / "noise.glb").write_bytes(b"no mesh at all")
    assert "cannot be read as a mesh" in refused(capsys, "render", tmp_path / "noise.glb", "-o", out)
    (tmp_path / "points.obj").write_text(SQUARE)
    assert "no faces" in refused(capsys, "render", tmp_path / "points.obj", "-o", out)
    bare = square_ply(tmp_path, BARE_SQUARE)
    said = refused(capsys, "render", bare, "-o", out, "--texture", tmp_path / "colors.png")
    assert "no texture coordinates (UVs)" in said
    assert "picture not found" in refused(
        capsys, "render", mesh, "-o", out, "--texture", tmp_path / "absent.png"
    )
    assert "does not exist" in refused(capsys, "render", mesh, "-o", tmp_path / "absent" / "out.png")
    assert "unknown picture format '.gif'" in refused(capsys, "render", mesh, "-o", tmp_path / "out.gif")
    assert not out.exists()


def test_mistakes_with_options(tmp_path: Path, capsys: Capture) -> None:
    render = ["render", square_obj(tmp_path), "-o", tmp_path / "out.png"]
    assert "camera 'frnt': expected one of front" in refused(capsys, *render, "--camera", "frnt")
    for size in ("640", "0x4", "99999x1", "-3x4", "axb"):
        assert "--size" in misused(capsys, *render, f"--size={size}")
    for fov in ("0", "180", "wide", "nan"):
        assert "degrees between 0 and 180" in misused(capsys, *render, "--fov", fov)
    assert "R,G,B in 0..255" in misused(capsys, *render, "--background", "1,2")
    assert "invalid choice: 'gpu'" in misused(capsys, *render, "--backend", "gpu")
    assert "not allowed with" in misused(capsys, *render, "--depth", "--ids")
    assert "COMMAND" in misused(capsys)
    assert "-o" in misused(capsys, "render", "mesh.obj")
    for resolutions in ("0", "4,", "four", "-4"):
        assert "at least 1" in misused(capsys, "demo", "cube", f"--resolutions={resolutions}")
    assert "invalid choice" in misused(capsys, "demo", "cube", "--colors", "plaid")


@pytest.mark.parametrize("module", ["trimesh", "PIL.Image", "matplotlib.figure", "tqdm"])
def test_missing_extras_name_the_pip_command(
    module: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = square_obj(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    if module in ("trimesh", "PIL.Image"):
        said = refused(capsys, "render", mesh, "-o", tmp_path / "out.png")
    else:
        said = refused(capsys, "demo", "cube", "--iterations", 1, "--out", tmp_path / "cube")
        assert not (tmp_path / "cube").exists()
    assert module.partition(".")[0] in said
    assert "pip install 'rastergrad[demo]'" in said


def test_demo_cube_takes_its_options(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib", reason="needs pip install 'rastergrad[demo]'")
    pytest.importorskip("tqdm", reason="needs pip install 'rastergrad[demo]'")
    out = tmp_path / "cube"
    options = ["--resolutions", "3", "--iterations", "2", "--repeats", "2", "--colors", "discontinuous"]
    assert main(["demo", "cube", "--quick", *options, "--out", str(out)]) == 0
    said = capsys.readouterr().out.strip().splitlines()
    assert said[-1].startswith("Cube demo: ")
    assert str(out) in said[-1]
    assert sorted(p.name for p in out.iterdir()) == [
        "convergence.png",
        "cube.ply",
        "curves.json",
        "shapes_discontinuous.png",
    ]
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert "file" in refused(capsys, "demo", "cube", "--out", blocked)


def test_interrupts_end_quietly(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rg, "rasterize", interrupt)
    assert main(["render", str(square_obj(tmp_path)), "-o", str(tmp_path / "out.png")]) == 130
    assert capsys.readouterr().err == "rastergrad: interrupted\n"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_large_a_picture(
    error: Exception, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(rg, "rasterize", fail)
    said = refused(
        capsys, "render", square_obj(tmp_path), "-o", tmp_path / "out.png", "--size", "16384x16384"
    )
    assert "not enough memory" in said


def test_faults_of_the_program_keep_their_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(rg, "rasterize", fail)
    with pytest.raises(RuntimeError, match="no kernel"):
        main(["render", str(square_obj(tmp_path)), "-o", str(tmp_path / "out.png")])


def test_traceback_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RASTERGRAD_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        main(["render", str(tmp_path / "absent.obj"), "-o", str(tmp_path / "out.png")])


def test_doctor_is_content_with_a_sound_installation(capsys: Capture) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert said.endswith("doctor: all is well\n")
    assert f"rastergrad {rg.__version__}" in said
    assert re.search(r"instruction set: \S+ in use", said)
    for name in ("rasterize", "interpolate", "texture", "antialias"):
        assert f"check {name}: values and gradients within" in said


def test_doctor_notices_wrong_numbers_and_crashes(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    right = rg.texture

    def wrong(*args: object, backend: str | None = None, **options: object) -> torch.Tensor:
        return right(*args, backend=backend, **options) * (1.01 if backend == "cpu" else 1.0)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(rg, "texture", wrong)
    monkeypatch.setattr(rg, "antialias", broken)
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "check texture: values and gradients WRONG by" in said
    assert "check antialias: values and gradients FAILED: RuntimeError: no kernel" in said
    assert said.endswith("doctor: texture, antialias at fault\n")
