# SPDX-License-Identifier: MIT
"""The stages of a capture, in order."""

from collections import Counter

from torch import Tensor

from rastergrad.capture.align import AlignLoop, WarpLoop
from rastergrad.capture.config import Config, ConfigError
from rastergrad.capture.loop import Loop
from rastergrad.capture.polish import PolishLoop
from rastergrad.capture.scene import Scene
from rastergrad.capture.state import State
from rastergrad.capture.surface import PoseLoop, SurfaceLoop
from rastergrad.capture.team import Team


def first_frame(scene: Scene, config: Config) -> int:
    """The frame whose shape is found first: the configured one, or that with most landmarks, or the first."""
    timesteps = scene.dataset.timesteps
    if config.first_timestep >= 0:
        if config.first_timestep not in timesteps:
            raise ConfigError(
                f"first_timestep must be one of the dataset's, {timesteps[0]} to {timesteps[-1]}; "
                f"got {config.first_timestep}"
            )
        return timesteps.index(config.first_timestep)
    marks = scene.dataset.landmarks
    if marks is None:
        return 0
    counts = Counter(scene.dataset.views[view].frame for view in marks.view.tolist())
    return min(counts, key=lambda frame: (-counts[frame], frame))


def stages(scene: Scene, state: State, config: Config, team: Team, blendshapes: Tensor | None) -> list[Loop]:
    """All loops of a capture.

    The template is aligned and warped to the first frame; its vertices and texture are refined; the frames
    after it, then those before it, are followed one by one; all are polished together.
    """
    first = first_frame(scene, config)
    loops: list[Loop] = [AlignLoop(scene, state, config, team, first, config.align)]
    for k, stage in enumerate(config.warp):
        loops.append(WarpLoop(scene, state, config, team, first, k, stage))

    def surface(frame: int, own: bool) -> None:
        of_frame = config.identity if own else config.track
        for k, stage in enumerate(of_frame):
            last = k == len(of_frame) - 1
            loops.append(SurfaceLoop(scene, state, config, team, frame, k, stage, own, last))

    surface(first, own=True)
    for run in (range(first + 1, scene.frames), range(first - 1, -1, -1)):
        known = [first]
        for frame in run:
            loops.append(PoseLoop(scene, state, config, team, frame, tuple(known), config.pose))
            surface(frame, own=False)
            known.append(frame)
    for k, stage in enumerate(config.polish):
        loops.append(PolishLoop(scene, state, config, team, k, stage, blendshapes))
    return loops
