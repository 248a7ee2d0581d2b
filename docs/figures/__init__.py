# SPDX-License-Identifier: MIT
"""The figures of the documentation, drawn by rastergrad itself.

Each module holds `FIGURES`: functions by file name that take where to write and the side of the rendered
images in pixels. `python -m docs.figures` draws all of them.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
GENERATED = HERE / "generated"
SIDE = 256
MODULES = ("conventions", "rasterize", "interpolate", "texture", "antialias", "gradients", "fitting", "demo")

Draw = Callable[[Path, int], None]


def figures() -> dict[str, Draw]:
    """All drawing functions by file name, without the ending."""
    drawn: dict[str, Draw] = {}
    for module in MODULES:
        drawn.update(import_module(f"{__name__}.{module}").FIGURES)
    return drawn


def draw_missing(folder: Path = GENERATED, side: int = SIDE) -> list[str]:
    """Draw what is missing or older than the scripts and the library; returns the names of what was drawn."""
    root = HERE.parent.parent
    source, truth = root / "src" / "rastergrad", root / "benchmarks" / "gradient_truth"
    scripts = [
        *HERE.glob("*.py"),
        *truth.glob("*.py"),
        *source.rglob("*.py"),
        *source.rglob("*.cpp"),
        *source.rglob("*.h"),
    ]
    newest = max(script.stat().st_mtime for script in scripts)
    folder.mkdir(parents=True, exist_ok=True)
    done = []
    for name, draw in figures().items():
        path = folder / f"{name}.png"
        if not path.exists() or path.stat().st_mtime < newest:
            draw(path, side)
            done.append(name)
    return done
