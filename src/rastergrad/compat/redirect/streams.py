# SPDX-License-Identifier: MIT
"""Streams, events and the contexts of torch.cuda, where work is done at once and in order."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any


class Stream:
    """A stream on which nothing ever waits.

    Args:
        device, priority: accepted and remembered.
    """

    cuda_stream = 0

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.device = device
        self.priority = priority

    def record_event(self, event: "Event | None" = None) -> "Event":
        """An event that has happened."""
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: "Event") -> None:
        """Returns at once."""

    def wait_stream(self, stream: "Stream") -> None:
        """Returns at once."""

    def synchronize(self) -> None:
        """Returns at once."""

    def query(self) -> bool:
        """True: all work is done."""
        return True

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None: ...


class Event:
    """A moment in this thread's work; the clock is the CPU's.

    Args:
        enable_timing, blocking, interprocess: accepted.
    """

    def __init__(
        self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False, **_: Any
    ) -> None:
        self._time_s: float | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Remember the time."""
        self._time_s = time.perf_counter()

    def elapsed_time(self, end_event: "Event") -> float:
        """Milliseconds from this event to the other one. RuntimeError unless both are recorded."""
        if self._time_s is None or end_event._time_s is None:
            raise RuntimeError(
                "torch.cuda.Event: both events must be recorded before calculating elapsed time."
            )
        return 1000 * (end_event._time_s - self._time_s)

    def wait(self, stream: Stream | None = None) -> None:
        """Returns at once."""

    def synchronize(self) -> None:
        """Returns at once."""

    def query(self) -> bool:
        """True: it has happened."""
        return True


class Context:
    """In place of `torch.cuda.device`, `device_of`, `stream`, `nvtx.range`, ...: a `with` block or decorator
    that changes nothing. Whatever is passed is accepted.
    """

    idx = 0

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None: ...

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return call


STREAM = Stream()
