# SPDX-License-Identifier: MIT
"""The process of one peer: `python -m benchmarks.peers.worker MODULE THREADS`. One JSON request a line on
standard input, one JSON answer a line on standard output.
"""

import json
import os
import sys
import time
import traceback
from importlib import import_module
from typing import Any

import numpy as np


def main() -> None:
    module, threads = sys.argv[1], int(sys.argv[2])
    # What libraries print must not reach the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    worker = Worker(module, threads)
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        # DEODR raises bare BaseException; and whatever a peer does is its own fault, to be reported.
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            answer = {"error": f"{type(error).__name__}: {error} ({os.path.basename(last.filename)})"}
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """Work by key, each prepared once and run many times."""

    def __init__(self, module: str, threads: int) -> None:
        self.module, self.threads = module, threads
        self.work: dict[str, Any] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        peer = import_module(f"benchmarks.peers.{self.module}")
        key = request.get("key", "")
        match request["do"]:
            case "version":
                return {"version": peer.version()}
            case "prepare":
                with np.load(request["scene"]) as scene:
                    self.work[key] = peer.prepare(request["kind"], dict(scene), self.threads)
                np.savez(request["result"], **self.work[key].result())
                return {}
            case "run":
                work, variant = self.work[key], request["variant"]
                start = time.perf_counter()
                work.run(variant)
                return {"ms": (time.perf_counter() - start) * 1e3}
            case "drop":
                self.work.pop(key, None)
                return {}
        raise ValueError(f"unknown request {request['do']}")


if __name__ == "__main__":
    main()
