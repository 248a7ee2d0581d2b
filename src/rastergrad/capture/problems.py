# SPDX-License-Identifier: MIT
"""Everything that is wrong with a dataset, told at once."""

from collections.abc import Iterator
from contextlib import contextmanager

SHOWN = 12


class DatasetError(ValueError):
    """A dataset that cannot be captured as it is; the message names file, field, what came and what to do."""


class Problems:
    """Collects sentences; `settle` raises them together."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.found: list[str] = []

    def add(self, problem: str) -> None:
        self.found.append(problem)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Turns a DatasetError of the block into one of the problems."""
        try:
            yield
        except DatasetError as error:
            self.add(str(error))

    def settle(self) -> None:
        """Raise DatasetError if anything was found."""
        if not self.found:
            return
        if len(self.found) == 1:
            raise DatasetError(self.found[0])
        lines = [f"  - {problem}" for problem in self.found[:SHOWN]]
        if len(self.found) > SHOWN:
            lines.append(f"  - and {len(self.found) - SHOWN} more")
        raise DatasetError("\n".join([f"{self.what}: {len(self.found)} problems", *lines]))
