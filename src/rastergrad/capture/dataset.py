# SPDX-License-Identifier: MIT
"""Footage of a head by calibrated cameras, with the template that shall be fitted to it.

`open_dataset` finds everything that is wrong before any work is done; pictures are decoded when asked for
(`Dataset.load`; `capture.pictures` reads ahead). Indices of frames and cameras count what was kept, from
0; `timesteps` and `camera_ids` are the dataset's own numbers.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from rastergrad.capture.colmap import model_folder, read_colmap
from rastergrad.capture.landmarks import Landmarks, read_landmarks
from rastergrad.capture.problems import DatasetError, Problems
from rastergrad.capture.shots import Footage, Shot
from rastergrad.capture.template import Template, load_template
from rastergrad.capture.transforms_json import FILE, read_transforms
from rastergrad.capture.units import millimetres
from rastergrad.capture.validate import check_cameras, check_consistency, check_files, check_masks, empty_mask
from rastergrad.scene.distortion import Distortion, undistort_image
from rastergrad.scene.image import ImageError, image_header, read_coverage, read_image
from rastergrad.scene.mesh import MeshError
from rastergrad.scene.pinhole import Pinhole
from rastergrad.scene.pyramid import reduce

__all__ = ["Dataset", "DatasetError", "Landmarks", "Picture", "View", "describe", "open_dataset"]

FPS = 30.0  # where nothing is said


@dataclass(frozen=True, eq=False)
class View:
    """One picture by one camera.

    Args:
        frame, camera: indices into the dataset's `timesteps` and `camera_ids`.
        image, mask: files; without a mask file the image's alpha channel, if it has one, is the mask.
        pinhole: the camera of the undistorted picture.
        distortion: of the stored picture, None if it has none.
        timestep, camera_id: the dataset's own numbers.
    """

    frame: int
    camera: int
    image: Path
    mask: Path | None
    pinhole: Pinhole
    distortion: Distortion | None
    timestep: int
    camera_id: int

    @property
    def label(self) -> str:
        return f"camera {self.camera_id}, timestep {self.timestep}"


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded, undistorted picture; row 0 is the bottom.

    Args:
        color: [H, W, 3] float32 linear light.
        mask: [H, W, 1] float32 coverage in 0 to 1, or None where none is known.
        valid: [H, W, 1] float32 in 0 to 1: how much of the pixel the stored picture shows; None for all.
    """

    color: Tensor
    mask: Tensor | None
    valid: Tensor | None

    @property
    def nbytes(self) -> int:
        return sum(values.nbytes for values in (self.color, self.mask, self.valid) if values is not None)


@dataclass(frozen=True, eq=False)
class Dataset:
    """What `open_dataset` returns.

    Args:
        views: sorted by frame, then camera; a camera may miss some frames.
        background: [3] float32 linear light behind the head, None when unknown.
        mm_per_unit: millimetres in a world unit.
        fps: frames per second.
        notes: what was assumed where the dataset says nothing, one sentence each.
    """

    folder: Path
    template: Template
    timesteps: tuple[int, ...]
    camera_ids: tuple[int, ...]
    views: tuple[View, ...]
    landmarks: Landmarks | None
    background: Tensor | None
    mm_per_unit: float
    fps: float
    notes: tuple[str, ...] = ()

    @property
    def cameras(self) -> tuple[Pinhole, ...]:
        """The camera of each `camera_ids`, undistorted."""
        found = {view.camera: view.pinhole for view in self.views}
        return tuple(found[k] for k in range(len(self.camera_ids)))

    def views_of(self, frame: int) -> list[View]:
        """The views of a frame, by camera."""
        return [view for view in self.views if view.frame == frame]

    def load(self, view: View, level: int = 0) -> Picture:
        """Decode and undistort one view.

        Args:
            level: of the image pyramid; the camera is then `view.pinhole.resized(*level_size(...))`.
        Errors:
            DatasetError naming the file when it cannot be read any more, has another size, or an empty mask.
        Cost:
            Decodes the whole picture at every level; safe to call from several threads.
        """
        try:
            pixels = read_image(view.image)
            mask = None if view.mask is None else read_coverage(view.mask)
        except (OSError, ImageError) as error:
            raise DatasetError(f"{view.label}: {error} Or leave this camera or timestep out.") from error
        color = pixels[..., :3]
        if pixels.shape[2] == 4:
            alpha = pixels[..., 3:]
            behind = torch.zeros(3) if self.background is None else self.background
            color = color * alpha + behind * (1 - alpha)
            mask = alpha if mask is None else mask
        size = (view.pinhole.height, view.pinhole.width)
        for path, values in ((view.image, color), (view.mask, mask)):
            if values is not None and values.shape[:2] != size:
                raise DatasetError(
                    f"{path or view.image} changed: it has {values.shape[1]} x {values.shape[0]} pixels, "
                    f"not {size[1]} x {size[0]}. Restore it and go on with --resume."
                )
        empty = None if mask is None else empty_mask(view.mask or view.image, mask)
        if empty:
            raise DatasetError(f"{view.label}: {empty}")
        valid = None
        if view.distortion is not None:
            color, valid = undistort_image(color, view.pinhole, view.distortion)
            if mask is not None:
                mask = undistort_image(mask, view.pinhole, view.distortion)[0].clamp(max=1)
            if valid.all():
                valid = None
        together = torch.cat([color, mask], dim=-1) if mask is not None else color
        together, weight = reduce(together[None], level, None if valid is None else valid[None])
        return Picture(
            together[0, ..., :3].contiguous(),
            together[0, ..., 3:].contiguous() if mask is not None else None,
            None if weight is None else weight[0],
        )


def open_dataset(
    folder: str | Path,
    template_path: str | Path,
    *,
    landmarks: str | Path | None = None,
    cameras: Sequence[int] | None = None,
    timesteps: Sequence[int] | None = None,
    units: str | None = None,
) -> Dataset:
    """Read a description of footage, and check it and all files that it names.

    Args:
        folder: with transforms.json (nerfstudio's layout), or with a COLMAP model (sparse/0) and images/.
        template_path: a mesh with texture coordinates, roughly where the head is in the cameras' world.
        landmarks: a landmarks.json; needs an OBJ template, for its vertices are counted.
        cameras, timesteps: keep only these `camera_index` and `timestep_index`; None keeps all.
        units: of the world, instead of what the dataset says: metres, centimetres, millimetres, or a number:
            millimetres in a world unit.
    Errors:
        DatasetError, with all problems found; each names file, field, what came and what to do.
        MissingExtraError for packages that a format needs.
    Cost:
        Reads the head of every image and decodes the masks (an even sample of them beyond a billion pixels).
    """
    folder, template_path = Path(folder), Path(template_path)
    footage = _read(folder)
    shots = _kept(footage, cameras, timesteps)
    template = _template(template_path)
    problems = Problems(f"{footage.source} and its pictures")
    check_consistency(shots, problems)
    problems.settle()
    readable = check_files(shots, problems)
    notes = [*footage.notes, *check_masks(readable, problems)]
    check_cameras(shots, template, template_path, problems)
    mm_per_unit = 0.0
    with problems.collected():
        stated = footage.units if units is None else units
        where = f"{footage.source}, `units`" if units is None else "units"
        mm_per_unit, note = millimetres(stated, where, template, template_path)
        notes += note
    kept_timesteps = tuple(sorted({shot.timestep for shot in shots}))
    camera_ids = tuple(sorted({shot.camera_id for shot in shots}))
    views = tuple(
        View(
            frame=kept_timesteps.index(shot.timestep),
            camera=camera_ids.index(shot.camera_id),
            image=shot.image,
            mask=shot.mask,
            pinhole=shot.pinhole,
            distortion=shot.distortion,
            timestep=shot.timestep,
            camera_id=shot.camera_id,
        )
        for shot in shots
    )
    marks = None
    if landmarks is not None:
        with problems.collected():
            if template_path.suffix.lower() != ".obj":
                raise DatasetError(
                    f"{landmarks} counts vertices in the order of a file, which only OBJ templates keep; got "
                    f"{template_path}. Save the template as OBJ."
                )
            index = {(view.timestep, view.camera_id): k for k, view in enumerate(views)}
            marks = read_landmarks(Path(landmarks), len(template.positions), index, footage.shots)
    problems.settle()
    if footage.fps is None:
        notes.append(f"no fps is given: {FPS:g} is assumed.")
    dataset = Dataset(
        folder=folder,
        template=template,
        timesteps=kept_timesteps,
        camera_ids=camera_ids,
        views=views,
        landmarks=marks,
        background=footage.background,
        mm_per_unit=mm_per_unit,
        fps=footage.fps or FPS,
        notes=tuple(notes),
    )
    if footage.background is None and any(_has_alpha(view) for view in views):
        # `load` puts black behind transparent pixels.
        return replace(dataset, background=torch.zeros(3))
    return dataset


def describe(dataset: Dataset) -> list[str]:
    """The dataset in some lines of text: what there is, what was assumed, what optional help is missing."""
    views, positions = dataset.views, dataset.template.positions
    sizes = Counter((view.pinhole.width, view.pinhole.height) for view in views)
    extent = (positions.amax(0) - positions.amin(0)) * dataset.mm_per_unit
    masked = sum(view.mask is not None or _has_alpha(view) for view in views)
    bent = len({view.camera for view in views if view.distortion is not None})
    missing = len(dataset.timesteps) * len(dataset.camera_ids) - len(views)
    fewest = min(Counter(view.frame for view in views).values())
    lines = [
        f"folder: {dataset.folder}",
        f"cameras: {len(dataset.camera_ids)} ({_ranges(dataset.camera_ids)})"
        + (f", {bent} with lens distortion" if bent else ""),
        f"frames: {len(dataset.timesteps)} ({_ranges(dataset.timesteps)}), {dataset.fps:g} a second",
        f"pictures: {len(views)}, "
        + ", ".join(f"{count} of {w} x {h}" for (w, h), count in sorted(sizes.items()))
        + (f"; {missing} missing, at least {fewest} cameras in each frame" if missing else ""),
        f"masks: {masked} of {len(views)} pictures"
        if masked
        else "masks: none (optional; they help the outline)",
        f"units: {dataset.mm_per_unit:g} mm in a world unit",
        f"template: {len(positions)} vertices, {len(dataset.template.tri)} triangles, "
        + " x ".join(f"{side:.0f}" for side in extent.tolist())
        + " mm (x, y, z)",
    ]
    if dataset.background is None:
        lines.append("background: unknown (optional: `background`, three sRGB numbers)")
    else:
        lines.append(
            "background: " + " ".join(f"{c:.3g}" for c in dataset.background.tolist()) + " linear light"
        )
    marks = dataset.landmarks
    if marks is None:
        lines.append("landmarks: none (optional; they help most when cameras are few)")
    else:
        seen = len(set(marks.view.tolist()))
        lines.append(f"landmarks: {len(marks.vertices)}, {len(marks.xy)} observations in {seen} pictures")
    return lines + [f"note: {note}" for note in dataset.notes]


def _read(folder: Path) -> Footage:
    if (folder / FILE).is_file():
        return read_transforms(folder)
    model = model_folder(folder)
    if model is not None:
        return read_colmap(folder, model)
    raise DatasetError(
        f"{folder} holds neither {FILE} nor a COLMAP model (sparse/0/cameras.bin or .txt)"
        + ("" if folder.is_dir() else "; it is not even a folder")
        + ". Give the folder of the dataset."
    )


def _kept(footage: Footage, cameras: Sequence[int] | None, timesteps: Sequence[int] | None) -> list[Shot]:
    """The wanted shots, sorted by time and camera."""
    shots = list(footage.shots)
    for name, field, wanted in (("cameras", "camera_id", cameras), ("timesteps", "timestep", timesteps)):
        if wanted is None:
            continue
        there = sorted({getattr(shot, field) for shot in footage.shots})
        strange = sorted(set(wanted) - set(there))
        if strange or not wanted:
            raise DatasetError(
                f"{name}: {footage.source} has {_ranges(there)}; got {_ranges(strange) or 'none'} besides. "
                "Name some of those that it has."
            )
        shots = [shot for shot in shots if getattr(shot, field) in wanted]
    if not shots:
        raise DatasetError(
            f"{footage.source}: no picture is left with cameras {_ranges(cameras or ())} and timesteps "
            f"{_ranges(timesteps or ())}. Keep more of them."
        )
    return sorted(shots, key=lambda shot: (shot.timestep, shot.camera_id))


def _template(path: Path) -> Template:
    try:
        return load_template(path)
    except (OSError, MeshError) as error:
        raise DatasetError(f"{error}") from error


def _has_alpha(view: View) -> bool:
    return view.image.suffix.lower() not in (".jpg", ".jpeg") and image_header(view.image)[2] == 4


def _ranges(numbers: Sequence[int]) -> str:
    """0 to 4, 7, 9 to 11."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
