# SPDX-License-Identifier: MIT
"""Every number of a capture, in one TOML file; what is not said has the value below.

Lengths are in head units (the diagonal of the template's bounding box is 0.5), so that the defaults need no
tuning to a dataset. `head_px` of a stage is the resolution that it works at: the height in pixels of the
head.
"""

import types
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from rastergrad.scene.extra import require


class ConfigError(ValueError):
    """A setting that does not exist, or a value that it cannot have."""


@dataclass(frozen=True)
class Align:
    """Rotation, translation and size of the template from masks and landmarks; skipped where it fits."""

    steps: int = 150
    head_px: float = 60
    step_size: float = 0.006  # radians, half head units, shares of the size
    good_overlap: float = 0.7  # of silhouettes; a template that overlaps so well is left where it is


@dataclass(frozen=True)
class Warp:
    """One stage of fitting a warp of space to what cameras see alike; no texture is involved."""

    cell: float  # side of the lattice's cells, head units
    head_px: float
    steps: int
    step_size: float  # of control points, head units
    pairs: int = 2  # of cameras that are compared in a step
    mask_weight: float = 0.6


@dataclass(frozen=True)
class Surface:
    """One stage of fitting the vertices of one frame, with or without the texture."""

    head_px: float
    steps: int
    smoothness: float  # lambda of large steps
    step_size: float  # of vertices, head units
    texture_step: float  # of texels, in linear light
    bending: float  # weight against bending the template
    change: float = 0.0  # weight against bending what the frame began with
    cameras: int = 3  # in a step


@dataclass(frozen=True)
class Pose:
    """Rigid motion of the head from frame to frame."""

    steps: int = 40
    head_px: float = 90
    step_size: float = 0.004  # radians, half head units


@dataclass(frozen=True)
class Polish:
    """One stage over all frames at once: vertices, texture, light, colours of cameras."""

    head_px: float
    steps: int
    smoothness: float
    step_size: float
    texture_step: float
    bending: float
    steadiness: float  # weight against bending away from the mean of the neighbouring frames
    base_smoothness: float = 5  # the same for the base that all frames share
    base_step_size: float = 4e-4
    base_bending: float = 1.0
    light_step: float = 3e-3
    color_step: float = 1e-3
    frames: int = 3  # in a step
    cameras: int = 1  # of each


@dataclass(frozen=True)
class Config:
    """All of it. `model` is "free", vertices for each frame, or "basis", a learned linear basis."""

    seed: int = 0
    model: str = "free"
    rank: int = 40  # most vectors of the basis
    texture_side: int = 1024
    first_timestep: int = -1  # the frame whose shape the template takes first; -1: the first with landmarks
    light: bool = True  # learn it in the polish; otherwise it stays in the texture
    camera_colors: bool = True  # learn gain and bias of each camera in the polish
    mask_weight: float = 1.0
    landmark_weight: float = 0.3
    parts: int = 2  # in which the pictures of a step are drawn; processes share them
    texture_trust: float = 0.5  # a texel seen so often holds still while frames are tracked
    save_every_s: float = 20.0
    cache_mb: int = 2048
    align: Align = field(default_factory=Align)
    warp: tuple[Warp, ...] = (
        Warp(cell=0.4, head_px=90, steps=100, step_size=3e-3),
        Warp(cell=0.2, head_px=90, steps=100, step_size=2e-3),
        Warp(cell=0.2, head_px=180, steps=120, step_size=2e-3),
        Warp(cell=0.1, head_px=180, steps=150, step_size=2e-3),
        Warp(cell=0.05, head_px=180, steps=150, step_size=1e-3),
        Warp(cell=0.05, head_px=360, steps=120, step_size=1e-3),
    )
    identity: tuple[Surface, ...] = (
        Surface(180, 80, smoothness=20, step_size=3e-4, texture_step=4e-2, bending=300),
        Surface(360, 150, smoothness=20, step_size=3e-4, texture_step=2e-2, bending=30),
        Surface(360, 150, smoothness=5, step_size=3e-4, texture_step=1e-2, bending=3),
    )
    pose: Pose = field(default_factory=Pose)
    track: tuple[Surface, ...] = (
        Surface(90, 40, smoothness=100, step_size=2e-3, texture_step=1e-2, bending=1, change=3),
        Surface(180, 60, smoothness=20, step_size=1e-3, texture_step=1e-2, bending=1, change=1),
        Surface(360, 60, smoothness=10, step_size=5e-4, texture_step=1e-2, bending=0.3, change=0.3),
    )
    polish: tuple[Polish, ...] = (
        Polish(360, 1000, 10, step_size=3e-4, texture_step=5e-3, bending=0.3, steadiness=1.0),
    )


def small(config: Config) -> Config:
    """The same for small pictures and little time: fewer steps, a texture of 512."""

    def fewer(stages: Any, share: float) -> Any:
        return tuple(replace(stage, steps=round(share * stage.steps)) for stage in stages)

    return replace(
        config,
        texture_side=512,
        warp=fewer(config.warp, 0.8),
        identity=fewer(config.identity, 0.7),
        track=fewer(config.track, 0.8),
        polish=fewer(config.polish, 0.5),
    )


def to_toml(config: Config) -> str:
    """All settings as TOML text."""
    return require("tomli_w", "writing the configuration", "capture").dumps(asdict(config))


def from_toml(text: str, source: str, base: Config | None = None) -> Config:
    """The configuration of TOML text, over `base`.

    Errors:
        ConfigError naming `source`, the setting, what was expected and what came.
    """
    try:
        import tomllib as reader
    except ImportError:  # Python 3.10
        reader = require("tomli", "reading the configuration", "capture")
    try:
        entries = reader.loads(text)
    except ValueError as error:
        raise ConfigError(f"{source}: not TOML: {error}") from error
    return _updated(base or Config(), entries, source, "")


def read_config(path: Path, base: Config | None = None) -> Config:
    """The configuration in a file; FileNotFoundError, ConfigError."""
    if not path.is_file():
        raise FileNotFoundError(f"configuration not found: {path}")
    return from_toml(path.read_text(encoding="utf-8"), str(path), base)


def with_setting(config: Config, assignment: str) -> Config:
    """The configuration after `NAME=VALUE`, e.g. `seed=3`, `pose.steps=20`, `polish.0.steps=100`,
    `model=basis`.

    Errors:
        ConfigError.
    """
    name, equals, text = assignment.partition("=")
    if not (equals and name):
        raise ConfigError(f"expected NAME=VALUE, e.g. polish.0.steps=100; got {assignment!r}")
    value: Any = text
    try:
        value = int(text)
    except ValueError:
        try:
            value = float(text)
        except ValueError:
            value = {"true": True, "false": False}.get(text.lower(), text)
    path = name.strip().split(".")
    return _assigned(config, path, value, name)


def _assigned(part: Any, path: list[str], value: Any, name: str) -> Any:
    if isinstance(part, tuple):
        if not (path[0].isdecimal() and int(path[0]) < len(part)):
            raise ConfigError(f"{name}: stages are counted from 0 to {len(part) - 1}; got {path[0]!r}")
        k = int(path[0])
        if len(path) == 1:
            raise ConfigError(f"{name}: a stage has settings of its own, e.g. {name}.steps")
        return (*part[:k], _assigned(part[k], path[1:], value, name), *part[k + 1 :])
    names = [f.name for f in fields(part)]
    if path[0] not in names:
        raise ConfigError(f"there is no setting {name!r}; here there are {', '.join(names)}")
    if len(path) > 1:
        inner = getattr(part, path[0])
        if not isinstance(inner, tuple) and not is_dataclass(inner):
            raise ConfigError(f"{name}: {path[0]} is a single value")
        return replace(part, **{path[0]: _assigned(inner, path[1:], value, name)})
    kind = get_type_hints(type(part))[path[0]]
    return replace(part, **{path[0]: _value(kind, value, name, getattr(part, path[0]))})


def _updated(part: Any, entries: Any, source: str, prefix: str) -> Any:
    if not isinstance(entries, dict):
        raise ConfigError(f"{source}: {prefix or 'the file'} must be a table; got {entries!r}")
    kinds = get_type_hints(type(part))
    given = {}
    for name, value in entries.items():
        where = f"{source}: {prefix}{name}"
        if name not in kinds:
            raise ConfigError(f"{where}: there is no such setting; here there are {', '.join(kinds)}")
        given[name] = _value(kinds[name], value, where, getattr(part, name, None))
    return replace(part, **given)


def _value(kind: Any, value: Any, where: str, current: Any) -> Any:
    """`value` as a setting of type `kind`."""
    if get_origin(kind) is tuple:
        stage = get_args(kind)[0]
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be a list of stages ([[...]] in TOML); got {value!r}")
        return tuple(_stage(stage, entries, f"{where}.{k}") for k, entries in enumerate(value))
    if is_dataclass(kind):
        return _updated(current, value, where, "")
    if isinstance(kind, types.UnionType):
        kind = get_args(kind)[0]
    fits = isinstance(value, (int, float)) if kind is float else isinstance(value, kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{where} must be of type {kind.__name__}; got {value!r}")
    return _checked(where, float(value) if kind is float else value)


def _stage(kind: Any, entries: Any, where: str) -> Any:
    if not isinstance(entries, dict):
        raise ConfigError(f"{where} must be a table; got {entries!r}")
    hints = get_type_hints(kind)
    for name in entries:
        if name not in hints:
            raise ConfigError(f"{where}: there is no setting {name!r}; here there are {', '.join(hints)}")
    try:
        return kind(**{n: _value(hints[n], v, f"{where}.{n}", None) for n, v in entries.items()})
    except TypeError as error:
        raise ConfigError(
            f"{where}: {error}; all of {', '.join(hints)} without a default are needed"
        ) from error


def _checked(where: str, value: Any) -> Any:
    name = where.rsplit(".", 1)[-1].rsplit(" ", 1)[-1]
    if name == "model" and value not in ("free", "basis"):
        raise ConfigError(f'{where} must be "free" or "basis"; got {value!r}')
    if name == "texture_side" and not (
        isinstance(value, int) and 16 <= value <= 8192 and value & (value - 1) == 0
    ):
        raise ConfigError(f"{where} must be a power of 2 from 16 to 8192; got {value}")
    least = {
        "steps": 1,
        "parts": 1,
        "frames": 1,
        "cameras": 1,
        "pairs": 1,
        "rank": 1,
        "head_px": 1,
        "cell": 1e-3,
    }
    if isinstance(value, (int, float)) and value < least.get(name, -1 if name == "first_timestep" else 0):
        raise ConfigError(f"{where} must be at least {least.get(name, 0)}; got {value}")
    return value
