# SPDX-License-Identifier: MIT
"""Everything that a finished capture leaves in its result folder, except the report and the metrics."""

from collections.abc import Callable
from pathlib import Path

from rastergrad.capture.footage import Footage
from rastergrad.capture.frames import write_cameras, write_frames, write_texture
from rastergrad.capture.gltf import write_glb
from rastergrad.capture.performance import Performance
from rastergrad.capture.video import write_comparison, write_turntable

Progress = Callable[[str, int, int], None]  # what is written, how much of it is done, of how much


def export_all(
    performance: Performance, footage: Footage, out: Path, progress: Progress | None = None
) -> list[Path]:
    """Write frames/, texture.png, cameras.json, performance.glb, turntable.mp4 and comparison.mp4 into `out`.

    Each file is written aside and then renamed: it is there whole, or not at all, or still the old one.

    Args:
        out: the result folder, made if missing.
        progress: called with the name of the file and how far it is.
    Returns:
        The files that were written.
    Errors:
        OSError when writing fails; those of reading the footage; MissingExtraError without the packages of
        the `capture` extra.
    Cost:
        10 frames of 16,000 vertices with nine cameras: about 10 s on two cores, most of it for the films.
    """

    def part(name: str) -> Callable[[int, int], None]:
        def report(done: int, total: int) -> None:
            if progress is not None:
                progress(name, done, total)

        report(0, 1)
        return report

    out.mkdir(parents=True, exist_ok=True)
    part("frames")
    paths = write_frames(performance, out)
    part("texture.png")
    paths.append(write_texture(performance, out))
    part("cameras.json")
    paths.append(write_cameras(performance, out))
    part("performance.glb")
    paths.append(write_glb(performance, out))
    paths.append(write_turntable(performance, out, progress=part("turntable.mp4")))
    paths.append(write_comparison(performance, footage, out, progress=part("comparison.mp4")))
    return paths
