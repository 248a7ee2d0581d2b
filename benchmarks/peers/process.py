# SPDX-License-Identifier: MIT
"""This side of the peers' processes: start, ask, compare with our result, give up on one that fails."""

import json
import math
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..rows import Task
from . import PEERS, Entry
from .agree import disagreement

ROOT = Path(__file__).resolve().parents[2]
WORKER = (sys.executable, "-m", "benchmarks.peers.worker")
# What `recycle_torch_memory` does in our process, glibc does for theirs.
RECYCLED = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


class PeerError(Exception):
    """A peer cannot do what it is asked; says why."""


@dataclass
class Process:
    """One worker process, or the start of one."""

    module: str
    threads: int
    command: Sequence[str] = WORKER
    child: subprocess.Popen[str] | None = None

    def ask(self, timeout_s: float = 60, **request: Any) -> dict[str, Any]:
        if self.child is None:
            self.child = subprocess.Popen(
                [*self.command, self.module, str(self.threads)],
                cwd=ROOT,
                env={**os.environ, **RECYCLED},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        try:
            print(json.dumps(request), file=self.child.stdin, flush=True)
        except BrokenPipeError as error:
            raise PeerError("its process has ended") from error
        if not select.select([self.child.stdout], [], [], timeout_s)[0]:
            self.stop()
            raise PeerError(f"no answer to {request['do']} within {timeout_s:g} s")
        line = self.child.stdout.readline()
        if not line:
            raise PeerError(f"its process ended with status {self.child.wait()} on {request['do']}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def stop(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.communicate()
            self.child = None


@dataclass(frozen=True)
class Prepared:
    """Work that a peer has ready, and whose result agrees with ours."""

    peers: "Peers"
    peer: str
    key: str
    variant: str

    @property
    def name(self) -> str:
        return f"{self.peer} {self.variant}".strip()

    def run(self) -> float:
        """Milliseconds, measured over there; NaN once it has failed."""
        return self.peers.run(self)


@dataclass
class Peers:
    """The peers of one run of the benchmark."""

    names: Sequence[str]
    threads: int
    table: Mapping[str, Entry] = field(default_factory=lambda: PEERS)
    versions: dict[str, str] = field(default_factory=dict)
    command: Sequence[str] = WORKER
    #: Why a peer is missing, or failed at something
    notes: list[str] = field(default_factory=list)
    processes: dict[str, Process] = field(default_factory=dict)
    prepared: int = 0
    failed: dict[str, str] = field(default_factory=dict)  # notes by key, of those that broke while timed

    def start(self) -> None:
        """Ask each for its version; one that is not there is noted and left out."""
        found = []
        for name in self.names:
            entry = self.table[name]
            self.processes[name] = Process(entry.module, self.threads, self.command)
            try:
                self.versions[name] = self.processes[name].ask(do="version")["version"]
                found.append(name)
            except PeerError as error:
                self._note(f"{name} is left out: {error}. To get it: {entry.get}")
                self.processes[name].stop()
        self.names = found

    def prepare(self, task: Task) -> list[Prepared]:
        """Those that can do the task and do it right."""
        ready: list[Prepared] = []
        for name in self.names:
            variants = self.table[name].tasks.get(task.kind, ())
            if not variants:
                continue
            self.prepared += 1
            key = str(self.prepared)
            triangles = task.scene.tri.shape[0]
            try:
                wrong = self._try(name, key, task)
            except PeerError as error:
                self._note(f"{name} failed at {task.kind} of {triangles:,} triangles: {error}")
                self.processes[name].stop()
                continue
            if wrong:
                self._note(f"{name} is not timed at {task.kind} of {triangles:,} triangles: {wrong}")
                continue
            ready += [Prepared(self, name, key, variant) for variant in variants]
        return ready

    def _try(self, name: str, key: str, task: Task) -> str | None:
        with tempfile.TemporaryDirectory() as folder:
            scene, result = Path(folder) / "scene.npz", Path(folder) / "result.npz"
            np.savez(scene, **_arrays(task))
            self.processes[name].ask(
                do="prepare", key=key, kind=task.kind, scene=str(scene), result=str(result)
            )
            with np.load(result) as arrays:
                return disagreement(task, dict(arrays))

    def run(self, prepared: Prepared) -> float:
        if prepared.key in self.failed:
            return math.nan
        try:
            answer = self.processes[prepared.peer].ask(do="run", key=prepared.key, variant=prepared.variant)
        except PeerError as error:
            self.failed[prepared.key] = self._note(f"{prepared.name} failed while it was timed: {error}")
            return math.nan
        return answer["ms"]

    def drop(self, prepared: Sequence[Prepared]) -> None:
        for name, key in {(p.peer, p.key) for p in prepared}:
            try:
                self.processes[name].ask(do="drop", key=key)
            except PeerError:  # noted when it failed
                self.processes[name].stop()

    def stop(self) -> None:
        for process in self.processes.values():
            process.stop()

    def _note(self, text: str) -> str:
        self.notes.append(text)
        print(text, flush=True)
        return text


def _arrays(task: Task) -> dict[str, Any]:
    scene = task.scene
    arrays: dict[str, Any] = {
        "pos_clip": scene.pos[0],
        "tri": scene.tri,
        "uv": scene.uv[0],
        "world": scene.world,
        "clip_from_world": scene.clip_from_world,
        "size": torch.tensor(scene.rast.shape[1:3]),
        **task.arrays,
    }
    return {name: value.contiguous().numpy() for name, value in arrays.items()}
