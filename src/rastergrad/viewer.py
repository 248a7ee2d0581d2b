# SPDX-License-Identifier: MIT
"""A page to look at a capture: frames to scrub through, the mesh from all sides, the real cameras."""

import json
import math
import socket
import threading
import webbrowser
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rastergrad.capture.charts import color_of
from rastergrad.capture.frames import filled_texture
from rastergrad.capture.gltf import split_seams
from rastergrad.capture.performance import Performance
from rastergrad.scene.extra import require
from rastergrad.scene.image import linear_from_srgb, srgb_from_linear
from rastergrad.scene.pinhole import from_opencv

TEXTURE, ERROR, CLAY, WIREFRAME = "texture", "error", "clay", "wireframe"
# Frames stay in the browser, so that scrubbing back is instant, while they are smaller than this together.
KEPT_BYTES = 256 << 20
THUMBNAIL_PX = 240
THUMBNAILS = 512  # kept in memory, about 60 MB: playing in a loop then reads no file twice
TEXTURE_PX = 1024
FOV_RAD = math.radians(40)
ERROR_MM = 2.0  # the end of the colour scale


class Viewer:
    """A server with the page of one capture.

    Args:
        folder: the result folder.
        host, port: where to listen; port 0 picks a free one.
    Errors:
        FileNotFoundError, ValueError for a folder without a whole capture; OSError when the port is taken,
        ValueError when there is no such port; MissingExtraError without viser.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 8080) -> None:
        viser = require("viser", "the viewer", "capture")
        self.turn = require("viser.transforms", "the viewer", "capture").SO3
        self.trimesh = require("trimesh", "the viewer", "capture")
        self.pillow = require("PIL.Image", "the viewer", "capture")
        folder = Path(folder)
        self.performance = Performance.load(folder)
        self.metrics = _read_json(folder / "metrics.json")
        self.pictures = _Pictures(folder, self.pillow)
        self.notes = (
            [] if self.pictures.there else ["The footage is not where it was: cameras without pictures."]
        )
        self.error_mm = self._read_error(folder / "checkpoint/vertex_error.npy")
        port = _free_port(host, port)
        self.server = viser.ViserServer(
            host=host, port=port, label=f"rastergrad: {folder.name}", verbose=False
        )
        name = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host
        # viser moves on to the next port when somebody took this one since it was found free.
        self.url = f"http://{name}:{self.server.get_port()}"
        self.split = split_seams(self.performance.template)
        self._uv = (self.split.uv * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 1.0])).numpy()
        self.texture = self._picture_of_texture()
        self._nodes: OrderedDict[tuple[str, int], tuple[Any, int]] = OrderedDict()
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._build()
        self._player = threading.Thread(target=self._play, daemon=True, name="rastergrad-viewer")
        self._player.start()

    def stop(self) -> None:
        """Close the page's server; a second time does nothing."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._player.join()
        self.server.stop()

    def wait(self) -> None:
        """Serve until stopped."""
        while not self._stopped.wait(0.5):
            pass

    # ---- the page -----------------------------------------------------------------------------------------

    def _build(self) -> None:
        performance, server = self.performance, self.server
        first = performance.positions[0]
        low, high = first.amin(0), first.amax(0)
        self.extent = float((high - low).norm())
        self.middle = middle = (low + high) / 2
        eye = middle + 1.8 * self.extent * torch.nn.functional.normalize(self._front(middle), dim=0)
        server.scene.set_up_direction("+y")

        @server.on_client_connect
        def _(client: Any) -> None:
            client.camera.fov = FOV_RAD
            client.camera.position = eye.numpy()
            client.camera.look_at = middle.numpy()
            client.camera.up_direction = (0.0, 1.0, 0.0)

        gui = server.gui
        frames = len(performance.positions)
        self.frame = gui.add_slider(
            "frame", min=0, max=max(1, frames - 1), step=1, initial_value=0, disabled=frames == 1
        )
        self.playing = gui.add_checkbox("play", initial_value=False)
        self.fps = gui.add_slider(
            "frames a second", min=1, max=60, step=1, initial_value=max(1, min(60, round(performance.fps)))
        )
        modes = [TEXTURE, CLAY, WIREFRAME] + ([ERROR] if self.error_mm is not None else [])
        self.mode = gui.add_dropdown("show", options=modes, initial_value=TEXTURE)
        self.with_cameras = gui.add_checkbox("cameras", initial_value=True)
        there = self.pictures.there
        self.with_images = gui.add_checkbox("their pictures", initial_value=there, disabled=not there)
        self.numbers = gui.add_markdown("")
        for control in (self.frame, self.mode, self.with_cameras, self.with_images):
            control.on_update(lambda _: self.show())
        # Only its vertices are sent again when the frame changes.
        self.surface = server.scene.add_mesh_simple(
            "/surface",
            first.numpy(),
            performance.template.tri.numpy(),
            color=(200, 200, 200),
            side="double",
            visible=False,
        )
        self.frusta = [self._frustum(k) for k in range(len(performance.cameras))]
        self.show()

    def _front(self, middle: Tensor) -> Tensor:
        """The direction from the head toward the middle of the cameras."""
        eyes = torch.stack([camera.eye for camera in self.performance.cameras]).float()
        return eyes.mean(0) - middle

    def _frustum(self, k: int) -> Any:
        camera = self.performance.cameras[k]
        pose = from_opencv(camera.world_from_cam).numpy()
        fov_rad = 2 * math.atan2(camera.height / 2, camera.fl_y)
        handle = self.server.scene.add_camera_frustum(
            f"/cameras/{self.performance.camera_ids[k]}",
            fov=fov_rad,
            aspect=camera.width / camera.height,
            scale=0.15 * self.extent,
            thickness=0.004 * self.extent,
            color=(120, 120, 120),
            wxyz=self.turn.from_matrix(pose[:3, :3]).wxyz,
            position=pose[:3, 3],
        )

        @handle.on_click
        def _(event: Any) -> None:
            eye, down, ahead = pose[:3, 3], pose[:3, 1], pose[:3, 2]
            # The view turns about the point that it looks at, so that has to lie in the head.
            distance = max(float((self.middle.numpy() - eye) @ ahead), 0.1 * self.extent)
            with event.client.atomic():
                event.client.camera.position = eye
                event.client.camera.look_at = eye + distance * ahead
                event.client.camera.up_direction = -down
                event.client.camera.fov = fov_rad

        return handle

    def show(self) -> None:
        """Bring the page up to date with its controls."""
        with self._lock, self.server.atomic():
            frame = min(int(self.frame.value), len(self.performance.positions) - 1)
            mode = self.mode.value
            plain = mode in (CLAY, WIREFRAME)
            if plain:
                self.surface.vertices = self.performance.positions[frame].numpy()
                self.surface.wireframe = mode == WIREFRAME
            self.surface.visible = plain
            shown = None if plain else self._node(mode, frame)
            for node, _ in self._nodes.values():
                node.visible = node is shown
            for k, handle in enumerate(self.frusta):
                handle.visible = bool(self.with_cameras.value)
                wanted = self.with_cameras.value and self.with_images.value
                handle.image = self.pictures.thumbnail(frame, k) if wanted else None
            self.numbers.content = self._words(frame)

    def _node(self, mode: str, frame: int) -> Any:
        """The mesh of a frame in colours, made when it is first shown."""
        key = (mode, frame)
        if key not in self._nodes:
            data = self._glb(mode, frame)
            self._nodes[key] = (self.server.scene.add_glb(f"/{mode}/{frame}", data), len(data))
        self._nodes.move_to_end(key)
        while sum(size for _, size in self._nodes.values()) > KEPT_BYTES and len(self._nodes) > 1:
            self._nodes.popitem(last=False)[1][0].remove()
        return self._nodes[key][0]

    def _glb(self, mode: str, frame: int) -> bytes:
        visual = self.trimesh.visual
        positions = self.performance.positions[frame]
        if mode == ERROR:
            assert self.error_mm is not None
            # glTF keeps colours of vertices in linear light.
            colors = (
                (linear_from_srgb(color_of(self.error_mm[frame] / ERROR_MM)) * 255)
                .round()
                .to(torch.uint8)
                .numpy()
            )
            mesh = self.trimesh.Trimesh(
                positions.numpy(), self.performance.template.tri.numpy(), vertex_colors=colors, process=False
            )
        else:
            material = visual.material.PBRMaterial(
                baseColorTexture=self.texture, roughnessFactor=1.0, metallicFactor=0.0, doubleSided=True
            )
            mesh = self.trimesh.Trimesh(
                positions[self.split.vertex].numpy(),
                self.split.tri.numpy(),
                # trimesh counts v from the bottom, and turns it over again on writing.
                visual=visual.TextureVisuals(uv=self._uv, material=material),
                process=False,
            )
        return mesh.export(file_type="glb", include_normals=True)

    def _picture_of_texture(self) -> Any:
        texture = filled_texture(self.performance.texture, self.performance.seen)
        while texture.shape[0] > TEXTURE_PX:
            planes = texture.permute(2, 0, 1)[None]
            texture = torch.nn.functional.avg_pool2d(planes, 2)[0].permute(1, 2, 0)
        pixels = (srgb_from_linear(texture).flip(0) * 255).round().to(torch.uint8)
        return self.pillow.fromarray(pixels.numpy())

    def _read_error(self, path: Path) -> Tensor | None:
        """[F, V] in mm, NaN where unknown; None without a truth, and for a file of something else."""
        if not path.is_file():
            return None
        try:
            error_mm = torch.from_numpy(np.load(path, allow_pickle=False)).float()
            if error_mm.shape == self.performance.positions.shape[:2]:
                return error_mm
        except (OSError, ValueError, TypeError, EOFError):
            pass  # the same note as for a wrong shape
        self.notes.append(f"{path.name} is damaged or of another capture: no colours of the error.")
        return None

    def _words(self, frame: int) -> str:
        lines = [f"timestep {self.performance.timesteps[frame]}", *_numbers(self.metrics, frame)]
        if self.mode.value == ERROR:
            lines.append(f"colours: 0 (dark) to {ERROR_MM:g} mm and more (yellow), grey is unknown")
        return "  \n".join(lines + self.notes)

    def _play(self) -> None:
        while not self._stopped.wait(1 / max(1, self.fps.value)):
            if self.playing.value:
                self.frame.value = (int(self.frame.value) + 1) % len(self.performance.positions)  # shows it


class _Pictures:
    """The footage, small, as far as it is still where the capture found it."""

    def __init__(self, folder: Path, pillow: Any) -> None:
        listed = _read_json(folder / "checkpoint/images.json")
        place = _at(listed, "folder")
        self.folder = Path(place) if isinstance(place, str) else folder
        self.rows = _at(listed, "images")
        self.pillow = pillow
        self.thumbnail = lru_cache(THUMBNAILS)(self._thumbnail)
        rows = self.rows if isinstance(self.rows, list) else []
        names = [name for row in rows if isinstance(row, list) for name in row if isinstance(name, str)]
        self.there = any((self.folder / name).is_file() for name in names)

    def _thumbnail(self, frame: int, camera: int) -> np.ndarray | None:
        """[h, w, 3] uint8, or None where there is no picture."""
        name = _at(self.rows, frame, camera)
        if not isinstance(name, str):
            return None
        try:
            with self.pillow.open(self.folder / name) as picture:
                picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
                return np.array(picture.convert("RGB"))
        except (OSError, ValueError, SyntaxError):  # the last is Pillow's word for a broken PNG
            return None


def _numbers(metrics: Any, frame: int) -> list[str]:
    """What metrics.json says of a frame: lines for what is there and finite, nothing for the rest."""
    lines = []
    psnr = _finite(_at(metrics, "psnr_db", frame))
    if psnr:
        lines.append(f"PSNR {sum(psnr) / len(psnr):.1f} dB")
    region = _at(metrics, "main_region") or "all"
    mm = _finite([_at(metrics, "frames", frame, region, name) for name in ("mean", "median", "p95")])
    if len(mm) == 3:
        lines.append(f"{str(region).replace('_', ' ')}: {mm[0]:.2f} / {mm[1]:.2f} / {mm[2]:.2f} mm")
        lines.append("(mean / median / 95th percentile)")
    return lines


def _at(tree: Any, *path: Any) -> Any:
    """What lies at a path of keys and indices, None if that leads nowhere."""
    for step in path:
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def _finite(values: Any) -> list[float]:
    if not isinstance(values, list):
        return []
    return [x for x in values if isinstance(x, (int, float)) and math.isfinite(x)]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _free_port(host: str, port: int) -> int:
    """`port` if nobody listens there, a free one for 0; errors name the remedy."""
    if not 0 <= port < 1 << 16:
        raise ValueError(f"--port must be from 0 (any that is free) to 65535; got {port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"cannot listen on {host}:{port} ({error.strerror}). Choose another --port, 0 for any."
            ) from error
        return probe.getsockname()[1]


def serve(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 8080,
    open_browser: bool = True,
    block: bool = True,
    say: Callable[[str], None] = print,
) -> Viewer:
    """Serve the page of a capture.

    Args:
        folder, host, port: as for `Viewer`.
        open_browser: whether to open the page.
        block: serve until Ctrl-C; otherwise return at once, and serve until `stop`.
        say: takes the line with the page's address.
    Returns:
        The viewer, with `url` and `stop`; stopped if `block`.
    Errors:
        As for `Viewer`.
    """
    viewer = Viewer(folder, host, port)
    try:
        say(f"{folder}: {viewer.url} (Ctrl-C ends)" if block else f"{folder}: {viewer.url}")
        if open_browser:
            webbrowser.open(viewer.url)
        if block:
            viewer.wait()
    except KeyboardInterrupt:
        viewer.stop()
        if not block:
            raise
    return viewer
