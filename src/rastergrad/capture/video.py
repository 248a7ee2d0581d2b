# SPDX-License-Identifier: MIT
"""Films of a performance: a turntable, and the capture beside the footage. H.264 by imageio-ffmpeg."""

import math
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

import rastergrad as rg
from rastergrad.capture.footage import DIFFERENCE_SCALE, Footage, compare, displayed, views_of
from rastergrad.capture.frames import filled_texture
from rastergrad.capture.performance import Performance
from rastergrad.capture.render import clip_matrices, draw
from rastergrad.scene.camera import look_at, project
from rastergrad.scene.extra import require
from rastergrad.scene.harmonics import shading, white_light
from rastergrad.scene.image import replacing, srgb_from_linear
from rastergrad.scene.normals import vertex_normals
from rastergrad.scene.pinhole import Pinhole

Progress = Callable[[int, int], None]  # what is done, of how much

ORBIT_RAD = math.radians(60)
ORBIT_S = 4.0  # one swing to both sides
COMPARISON_S = 3.0  # at least so long, by playing slowly
PANEL_HEIGHT = 720  # of a comparison, at most
BACKGROUND = 0.03  # linear light behind the turntable
CLAY = 0.55
MARGIN = 0.06


def write_turntable(
    performance: Performance, out: Path, size: tuple[int, int] = (640, 480), progress: Progress | None = None
) -> Path:
    """Write `out`/turntable.mp4: the camera swings 60 degrees to both sides while the performance plays to
    and fro; on the left the texture in the captured light, on the right the bare shape as clay.

    Args:
        size: (H, W) of each of the two pictures, even numbers.
    Errors:
        OSError when ffmpeg fails; MissingExtraError without imageio-ffmpeg.
    Cost:
        At least 4 s of film; a frame takes two renderings.
    """
    repeat, step = _pace(performance.fps)
    fps = performance.fps * repeat / step
    order = to_and_fro(len(performance.positions), step)
    length = max(math.ceil(ORBIT_S * fps), len(order) * repeat)
    swings = max(1, round(length / fps / ORBIT_S))
    texture = filled_texture(performance.texture, performance.seen)[None]
    clay = torch.full((1, 1, 1, 3), CLAY)
    clay_light = white_light(texture) * 0.4
    clay_light[1], clay_light[2], clay_light[3] = 0.7, 1.0, -0.6  # from above, the front and the left
    orbit = Orbit(performance, size)
    template = performance.template
    topology = rg.edge_topology(template.tri)
    # A table takes a third of the time of the powers; so many entries miss no byte by more than rounding.
    encoded = displayed(srgb_from_linear(torch.linspace(0, 1, 2**14)[None]))[0]
    path = out / "turntable.mp4"
    with film(path, (size[0], 2 * size[1]), fps) as add, torch.no_grad():
        for k in range(length):
            angle_rad = ORBIT_RAD * math.sin(2 * math.pi * swings * k / length)
            positions = performance.positions[order[k // repeat % len(order)]]
            normal = vertex_normals(positions, template.tri)
            pos = project(clip_matrices([orbit.camera(angle_rad)], positions), positions)
            turned = normal @ orbit.world_from_orbit(angle_rad).to(normal)  # clay is lit from the camera
            panels = []
            for picture, normals, light in ((texture, normal, performance.light), (clay, turned, clay_light)):
                shade = shading(normals, light).clamp_min(0)[None]
                image = draw(pos, template, picture, shade, size, topology=topology)[0]
                panels.append(image[..., :3] + (1 - image[..., 3:]) * BACKGROUND)
            levels = (torch.cat(panels, dim=1).clamp(0, 1) * (len(encoded) - 1)).round().int()
            add(encoded.index_select(0, levels.flip(0).reshape(-1)).reshape(levels.shape))
            if progress is not None:
                progress(k + 1, length)
    return path


def write_comparison(
    performance: Performance,
    footage: Footage,
    out: Path,
    cameras: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write `out`/comparison.mp4: a picture of the footage, the capture in that camera's colours, and their
    absolute difference, enlarged DIFFERENCE_SCALE times.

    Args:
        cameras: indices of those to show, one after the other; the most central one when None.
    Errors:
        ValueError when no picture of those cameras exists; OSError when ffmpeg fails; those of reading
        pictures; MissingExtraError without imageio-ffmpeg or Pillow.
    """
    chosen = [central_camera(performance)] if cameras is None else list(cameras)
    views = [view for camera in chosen for view in views_of(footage, camera)]
    if not views:
        raise ValueError(f"write_comparison: the footage has no picture of the cameras {chosen}.")
    performance = replace(performance, texture=filled_texture(performance.texture, performance.seen))
    first = performance.cameras[chosen[0]]
    height = min(PANEL_HEIGHT, first.height)
    width = round(first.width * height / first.height)
    write = _Labels(max(13, height // 26))
    size = (height + write.height, 3 * width + 2 * write.gap)
    size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    hold = max(1, math.ceil(COMPARISON_S * performance.fps / len(views)))
    path = out / "comparison.mp4"
    with film(path, size, performance.fps) as add:
        for k, view in enumerate(views):
            seen = compare(performance, footage, view, height)
            number = performance.camera_ids[view.camera]
            about = f"camera {number}, frame {performance.timesteps[view.frame]}"
            labels = (f"footage: {about}", "captured", f"difference x {DIFFERENCE_SCALE}")
            panels = (seen.real, seen.captured, seen.difference)
            picture = write.sheet(panels, labels, (width, height), size)
            for _ in range(hold):
                add(picture)
            if progress is not None:
                progress(k + 1, len(views))
    return path


def central_camera(performance: Performance) -> int:
    """The index of the camera that sees most from where all of them look from, on average."""
    surroundings = _Surroundings.of(performance)
    return int((surroundings.directions @ surroundings.front).argmax())


def to_and_fro(count: int, step: int = 1) -> list[int]:
    """Indices of frames forth and back, so that a loop has no jump."""
    forth = list(range(0, count, step))
    return forth + forth[-2:0:-1]


class Orbit:
    """Cameras on an arc in front of a performance: level with the real ones' mean, and so far away."""

    def __init__(self, performance: Performance, size: tuple[int, int]) -> None:
        self.size = size
        around = _Surroundings.of(performance)
        self.centre, self.up, centre = around.centre, around.up, around.centre
        front = around.front - (around.front @ self.up) * self.up
        self.front = torch.nn.functional.normalize(front, dim=0)
        frames = performance.positions[:: max(1, len(performance.positions) // 8)]
        points = frames.reshape(-1, 3)[::7].double()
        radius = float((points - centre).norm(dim=-1).max())
        eyes = torch.stack([camera.eye for camera in performance.cameras])
        self.distance = max(float((eyes - centre).norm(dim=-1).mean()), 3 * radius)
        self.focal = 1.0
        reach = torch.zeros(2, dtype=torch.float64)
        for share in torch.linspace(-1, 1, 9).tolist():
            x, y, depth = self.camera(ORBIT_RAD * share).pixels(points).unbind(-1)
            offset = torch.stack([x - size[1] / 2, y - size[0] / 2], dim=-1)[depth > 0]
            reach = torch.maximum(reach, offset.abs().amax(0))
        half = torch.tensor([size[1] / 2, size[0] / 2], dtype=torch.float64)
        self.focal = (1 - 2 * MARGIN) * float((half / reach.clamp_min(1e-12)).min())

    def world_from_orbit(self, angle_rad: float) -> Tensor:
        """Rotation [3, 3] float64 from axes right, up, towards the camera."""
        side = torch.linalg.cross(self.up, self.front)
        back = math.cos(angle_rad) * self.front + math.sin(angle_rad) * side
        return torch.stack([torch.linalg.cross(self.up, back), self.up, back], dim=1)

    def camera(self, angle_rad: float) -> Pinhole:
        """The camera at an angle from the front, positive to its right."""
        height, width = self.size
        back = self.world_from_orbit(angle_rad)[:, 2]
        pose = torch.linalg.inv(look_at(self.centre + self.distance * back, self.centre, self.up))
        return Pinhole(width, height, self.focal, self.focal, width / 2, height / 2, pose)


@dataclass(frozen=True)
class _Surroundings:
    """Where the cameras stand around a performance; float64."""

    centre: Tensor  # [3] of the performance
    directions: Tensor  # [C, 3] unit, from there to the cameras
    front: Tensor  # [3] unit, their mean
    up: Tensor  # [3] unit, upright in their pictures, not along `front`

    @staticmethod
    def of(performance: Performance) -> "_Surroundings":
        points = performance.positions.reshape(-1, 3).double()
        centre = (points.amin(0) + points.amax(0)) / 2
        poses = torch.stack([camera.world_from_cam for camera in performance.cameras]).double()
        directions = torch.nn.functional.normalize(poses[:, :3, 3] - centre, dim=-1)
        front, up = directions.mean(0), poses[:, :3, 1].mean(0)
        # Cameras all around have no mean: the first one then says where the front is.
        if float(torch.linalg.cross(up, front).norm()) < 0.05:
            front, up = directions[0], poses[0, :3, 1]
        front, up = (torch.nn.functional.normalize(v, dim=0) for v in (front, up))
        return _Surroundings(centre, directions, front, up)


def _pace(fps: float) -> tuple[int, int]:
    """How often to show each frame, and of how many frames to show one, for a film of 24 to 50 a second."""
    if fps < 24:
        return math.ceil(24 / fps), 1
    return 1, max(1, int(fps // 25))


class _Labels:
    """Panels side by side with a line of text above each."""

    def __init__(self, size_px: int) -> None:
        self.image = require("PIL.Image", "writing a film", "capture")
        self.painter = require("PIL.ImageDraw", "writing a film", "capture")
        self.font = require("PIL.ImageFont", "writing a film", "capture").load_default(size_px)
        self.height = 2 * size_px
        self.gap = 4

    def sheet(
        self,
        panels: Iterable[Tensor],
        labels: Iterable[str],
        panel_size: tuple[int, int],
        size: tuple[int, int],
    ) -> Tensor:
        """[H, W, 3] uint8 of `size`; `panel_size` is (width, height)."""
        sheet = self.image.new("RGB", (size[1], size[0]), (24, 24, 24))
        painter = self.painter.Draw(sheet)
        for k, (panel, label) in enumerate(zip(panels, labels)):
            left = k * (panel_size[0] + self.gap)
            picture = self.image.fromarray(panel.numpy())
            if picture.size != panel_size:
                picture = picture.resize(panel_size, self.image.Resampling.LANCZOS)
            sheet.paste(picture, (left, self.height))
            painter.text((left + 6, self.height / 2), label, (235, 235, 235), self.font, anchor="lm")
        pixels = torch.frombuffer(bytearray(sheet.tobytes()), dtype=torch.uint8)
        return pixels.reshape(size[0], size[1], 3)


@contextmanager
def film(path: Path, size: tuple[int, int], fps: float) -> Iterator[Callable[[Tensor], None]]:
    """Write an MP4 frame by frame; it appears whole, or not at all.

    Args:
        size: (H, W), even.
    Returns:
        A function that adds one picture [H, W, 3] uint8, row 0 at the top.
    Errors:
        OSError with the last words of ffmpeg when it fails, as on a full disk; ValueError for odd sizes.
    """
    height, width = size
    if height % 2 or width % 2:
        raise ValueError(f"film: H.264 with 4:2:0 colours needs even sizes; got {height} x {width}.")
    program = require("imageio_ffmpeg", "writing a film", "capture").get_ffmpeg_exe()
    # Untagged colours would be guessed by players, differently for small and for large films.
    tags = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
    command = [program, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{width}x{height}", "-r", f"{fps:.6g}", "-i", "-", "-an", "-c:v", "libx264"]
    command += ["-vf", f"scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,{tags}"]
    command += ["-preset", "veryfast", "-crf", "18", "-movflags", "+faststart"]
    # What ffmpeg says goes to a file: a pipe that nobody empties would stop it.
    with replacing(path) as name, tempfile.TemporaryFile() as words:
        process = subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=words, stderr=words)
        stdin = process.stdin
        assert stdin is not None

        def finish() -> None:
            with suppress(OSError):  # the exit status tells more
                stdin.close()
            status = process.wait()
            words.seek(0)
            said = "; ".join(words.read().decode(errors="replace").splitlines()[-3:])
            if status:
                raise OSError(
                    f"{path} could not be written: ffmpeg ended with status {status} ({said}). "
                    "Is the disk full, or the folder read-only? Make room and write it again."
                )

        def add(picture: Tensor) -> None:
            assert picture.shape == (height, width, 3), picture.shape
            try:
                stdin.write(picture.contiguous().numpy().data)
            except OSError as error:
                finish()
                raise OSError(f"{path} could not be written: {error}") from error

        try:
            yield add
            finish()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            with suppress(OSError):
                stdin.close()
