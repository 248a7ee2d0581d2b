# SPDX-License-Identifier: MIT
"""The example programs run as they stand and do what they say."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_triangle_finds_its_target(capsys: pytest.CaptureFixture[str]) -> None:
    program = EXAMPLES / "01_triangle.py"
    assert len(program.read_text().splitlines()) < 40
    runpy.run_path(str(program), run_name="__main__")
    distances = [float(d) for d in re.findall(r"corners ([\d.]+) away", capsys.readouterr().out)]
    assert distances[0] > 0.4
    assert distances[-1] < 0.001


def test_opacities_of_glass_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "02_glass.py"), run_name="__main__")
    off = [float(d) for d in re.findall(r"at most ([\d.]+) off", capsys.readouterr().out)]
    assert off[0] > 0.1
    assert off[-1] < 0.005


# ---- programs for nvdiffrast, unchanged --------------------------------------------------------------------


def run(name: str, out: Path) -> list[float]:
    """The numbers that a program's last lines tell, after it ran with `--small` where there is no GPU."""
    program = EXAMPLES / "drop_in" / name
    text = program.read_text()
    assert "import nvdiffrast.torch as dr" in text
    assert "rastergrad" not in text
    command = [
        sys.executable,
        "-m",
        "rastergrad.compat",
        "--device",
        "cpu",
        str(program),
        "--small",
        "--out",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "Agg"})
    assert done.returncode == 0, done.stderr
    for picture in out.glob("*.png"):
        assert len(Image.open(picture).convert("RGB").getcolors(1 << 24)) > 10, (
            f"{picture.name} shows something"
        )
    assert any(out.glob("*.png"))
    return [
        float(x.replace(",", "")) for x in re.findall(r"(?<![\w.])\d[\d,]*\.?\d*(?:e-?\d+)?", done.stdout)
    ]


def test_cube_from_images_of_a_few_pixels(tmp_path: Path) -> None:
    *_, distance, _ = run("02_cube.py", tmp_path)
    assert distance < 0.03


def test_textures_are_learned_better_with_mipmaps(tmp_path: Path) -> None:
    with_mipmaps, without = run("03_texture_learning.py", tmp_path)[-2:]
    assert with_mipmaps > without + 2
    assert with_mipmaps > 24


def test_environment_and_highlight_of_a_mirror(tmp_path: Path) -> None:
    psnr, color, exponent, _ = run("04_environment_phong.py", tmp_path)
    assert psnr > 35
    assert color < 0.1
    assert abs(exponent - 25) < 3


def test_levels_of_ones_own_and_the_roughness_that_chooses_among_them(tmp_path: Path) -> None:
    *levels, roughness = run("05_split_sum.py", tmp_path)
    assert len(levels) == 5
    assert min(levels) > 30
    assert roughness < 0.05


def test_poses_of_a_cube(tmp_path: Path) -> None:
    *_, good, poses, _, _, worst = run("06_pose.py", tmp_path)
    assert good == poses == 10
    assert worst < 1


def test_a_shape_from_silhouettes_and_normals(tmp_path: Path) -> None:
    """Of few samples, which alone are 0.67 % apart."""
    *_, found, sphere, floor = run("07_shape_recovery.py", tmp_path)
    assert sphere > 3.5
    assert found < floor + 0.5


def test_layers_of_glass(tmp_path: Path) -> None:
    _, off, opacity = run("08_depth_peeling.py", tmp_path)
    assert off < 0.2, "percent"
    assert opacity < 0.2


def test_a_texture_from_photographs(tmp_path: Path) -> None:
    seen, _, texture, _, view = run("09_uv_bake.py", tmp_path)
    assert seen > 99.5
    assert texture > 45
    assert view > 48


def test_every_example_has_a_docstring_and_is_tested() -> None:
    programs = sorted(EXAMPLES.rglob("[0-9]*.py"))
    tests = Path(__file__).read_text()
    assert len(programs) == 10
    for path in programs:
        assert re.match(r"# SPDX.*\n\"\"\"\w", path.read_text()), path
        assert f'"{path.name}"' in tests, path
