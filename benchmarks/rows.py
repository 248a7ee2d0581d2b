# SPDX-License-Identifier: MIT
"""What a line of the benchmark table is, and what is known about it once measured."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

from .scene import Scene


@dataclass(frozen=True)
class Task:
    """What programs in other processes are asked to do on the same scene (benchmarks/peers)."""

    kind: str  # "rasterize" or "step"
    scene: Scene
    arrays: Mapping[str, object] = field(default_factory=dict)  # more tensors by name


@dataclass(frozen=True)
class Row:
    """One operation at one size."""

    name: str
    target_ms: float | None  # for 2 threads at 1024^2: the design's, or what was reached if less; None: none
    run: Callable[[], object]
    check: Callable[[], None]  # raises if the result differs from the oracle
    bytes_moved: int = 0  # inputs, outputs and gradients, each once; 0: not bound by memory
    pixels: int = 0  # 0: time per pixel says nothing
    triangles: int = 0  # 0: time per triangle says nothing
    peer: str | None = None  # in this process: torch, or another way of ours
    run_peer: Callable[[], object] | None = None
    peer_target_ms: float | None = None  # the peer on the machine that the target was set on
    task: Task | None = None
    before: Callable[[], object] | None = None  # see testing.timing
    clocked: bool = False  # see testing.timing


def once(check: Callable[[], None]) -> Callable[[], None]:
    """For a check that several rows share, as oracles take their time."""
    done: list[bool] = []

    def first_time() -> None:
        if not done:
            check()
            done.append(True)

    return first_time


@dataclass(frozen=True)
class Spread:
    """Median and quartiles in milliseconds."""

    ms: float
    low: float
    high: float


@dataclass(frozen=True)
class Peer:
    """What else did the same work in the same run."""

    name: str
    ms: float
    low: float
    high: float
    speedup: float  # its ms / ours


@dataclass(frozen=True)
class Result:
    """A measured row; times in milliseconds, with most threads where nothing else is said."""

    name: str
    ms: float
    low: float
    high: float
    threads: dict[str, Spread]  # by number of threads
    scaling: float | None  # time with one thread / with most
    target_ms: float | None
    of_target: float | None  # ms / target: below 1 is better
    # The same in this machine's terms: the target scaled by how long the peer takes here and took there, or
    # without a peer by how fast memory is copied here and was there.
    in_proportion: float | None
    bandwidth: float | None  # bytes_moved per second, relative to a large copy in the same run
    gb_per_s: float | None  # bytes_moved per second
    ns_per_pixel: float | None
    ns_per_triangle: float | None
    peers: tuple[Peer, ...] = ()
    notes: tuple[str, ...] = ()  # why a peer is not among them

    def as_dict(self) -> dict[str, object]:
        return asdict(self)
