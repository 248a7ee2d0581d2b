# SPDX-License-Identifier: MIT
"""The stages of a capture one after the other, with progress, checkpoints, and a way to go on."""

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from rastergrad.capture import checkpoint
from rastergrad.capture.checkpoint import CaptureStoppedError
from rastergrad.capture.config import Config, to_toml
from rastergrad.capture.loop import Loop
from rastergrad.capture.plan import stages
from rastergrad.capture.scene import Scene
from rastergrad.capture.state import State
from rastergrad.capture.team import Team
from rastergrad.scene.extra import require

# Losses are recorded as means over so many steps.
RECORD = 10


class Fit:
    """A capture in progress.

    Args:
        scene, config, team: what to fit, how, with whom.
        out: the result folder; the checkpoint lies in it.
        blendshapes: [K, V, 3] in head units, or None.
        quiet: no progress bar.
    """

    def __init__(
        self,
        scene: Scene,
        config: Config,
        team: Team,
        out: Path,
        blendshapes: Tensor | None = None,
        quiet: bool = False,
    ) -> None:
        self.scene, self.config, self.team, self.out, self.quiet = scene, config, team, out, quiet
        self.state = State.begin(scene, config.texture_side)
        self.loops = stages(scene, self.state, config, team, blendshapes)
        self.done = (0, 0)  # the loop that runs, and how many of its steps are done
        self.losses: list[dict[str, Any]] = []
        self.seconds: dict[str, float] = {}
        self.saved = time.monotonic()
        self.save_took = 0.0

    def run(self, resume: bool) -> State:
        """All stages, or what is left of them.

        Errors:
            CaptureStoppedError when a picture or the disk fails; the state is saved then.
            FileNotFoundError, ValueError when there is nothing to resume, or it belongs to something else.
        """
        begun: dict[str, Any] | None = None
        if resume:
            begun = self._restore()
        total = sum(loop.steps for loop in self.loops)
        tqdm = require("tqdm", "showing progress", "capture").tqdm
        hidden = self.quiet or not self.team.leads
        with tqdm(
            total=total, unit="step", file=sys.stderr, disable=hidden, smoothing=0.05, mininterval=0.5
        ) as bar:
            bar.update(sum(loop.steps for loop in self.loops[: self.done[0]]) + self.done[1])
            try:
                while self.done[0] < len(self.loops):
                    self._stage(self.loops[self.done[0]], bar, begun)
                    begun = None
                    self.done = (self.done[0] + 1, 0)
                self._save(None)
            finally:
                self.scene.pictures.close()
        return self.state

    def _stage(self, loop: Loop, bar: Any, begun: dict[str, Any] | None) -> None:
        """One loop; `begun` holds what was saved in the middle of it."""
        bar.set_description(loop.name)
        planned = loop.steps
        recent: list[tuple[float, float]] = list(begun["recent"]) if begun else []
        try:
            loop.begin()
            if begun is not None and begun["loop"] is not None:
                loop.load_state_dict(begun["loop"])
            for number in range(self.done[1], loop.steps):
                started = time.monotonic()
                if number + 1 < loop.steps:
                    self.scene.pictures.expect(*loop.pictures(number + 1))
                recent.append(loop.step(number))
                self.done = (self.done[0], number + 1)
                self._count(loop, time.monotonic() - started)
                if len(recent) == RECORD or number + 1 == loop.steps:
                    self._record(loop, number + 1, recent, bar)
                    recent = []
                bar.update()
                pause = max(self.config.save_every_s, 20 * self.save_took)
                if time.monotonic() - self.saved > pause:
                    self._save(loop, recent)
            bar.update(planned - loop.steps)
            loop.finish()
        except KeyboardInterrupt:
            self._stop(loop, recent)
            place = f"step {self.done[1]} of {loop.name}"
            sys.stderr.write(f"\nstopped; --resume continues from {place}\n")
            raise
        except (OSError, ValueError) as error:
            if isinstance(error, CaptureStoppedError):
                raise
            where = self._stop(loop, recent)
            raise CaptureStoppedError(f"{error}\n{where}") from error

    def _record(self, loop: Loop, step: int, recent: list[tuple[float, float]], bar: Any) -> None:
        loss, image = (sum(values) / len(recent) for values in zip(*recent))
        self.losses.append({"stage": loop.name, "step": step, "loss": loss, "image_error": image})
        bar.set_postfix_str(f"loss {loss:.5f}, image error {image:.5f}")

    def _count(self, loop: Loop, seconds: float) -> None:
        kind = loop.name.partition(" ")[0]
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds

    def _save(self, loop: Loop | None, recent: list[tuple[float, float]] | None = None) -> None:
        self.saved = time.monotonic()
        if not self.team.leads:
            return
        try:
            checkpoint.save(
                self.out,
                {
                    "config": to_toml(self.config),
                    "dataset": fingerprint(self.scene),
                    "done": list(self.done),
                    "state": self.state.tensors(),
                    "loop": None if loop is None else loop.state_dict(),
                    "recent": recent or [],
                    "losses": self.losses,
                    "seconds": self.seconds,
                },
            )
        except OSError as error:
            there = (self.out / checkpoint.FILE).is_file()
            kept = "The checkpoint before it is whole" if there else "There is no older checkpoint"
            raise CaptureStoppedError(f"{error}\n{kept}. Make room, and run again with --resume.") from error
        self.save_took = time.monotonic() - self.saved

    def _stop(self, loop: Loop, recent: list[tuple[float, float]]) -> str:
        """Save what there is; returns what to tell."""
        self._save(loop if loop.optimizers else None, recent)
        place = f"step {self.done[1]} of {loop.name}"
        return f"The capture stopped at {place} and is saved; mend this, then --resume."

    def _restore(self) -> dict[str, Any]:
        content = checkpoint.load(self.out)
        if content["dataset"] != fingerprint(self.scene):
            raise ValueError(
                f"--resume: {self.out} was begun with another dataset, template or choice of pictures. "
                "Give the same, or begin anew without --resume."
            )
        if content["config"] != to_toml(self.config):
            changed = sorted(set(to_toml(self.config).splitlines()) - set(content["config"].splitlines()))
            raise ValueError(
                f"--resume: {self.out} was begun with other settings ({'; '.join(changed[:5])}). "
                "Give the same, or begin anew without --resume."
            )
        self.state.load(content["state"])
        self.done = (content["done"][0], content["done"][1])
        self.losses, self.seconds = content["losses"], content["seconds"]
        return content


def fingerprint(scene: Scene) -> str:
    """A digest of what a checkpoint depends on besides the settings: template, cameras, names of pictures."""
    digest = hashlib.sha256()
    template = scene.template
    for tensor in (template.positions, template.tri, template.uv, template.uv_tri, scene.clip_from_world):
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    for view in scene.dataset.views:
        digest.update(f"{view.frame} {view.camera} {view.image.name}".encode())
    marks = scene.dataset.landmarks
    if marks is not None:
        digest.update(marks.xy.numpy().tobytes())
    return digest.hexdigest()
