# SPDX-License-Identifier: MIT
"""torch.cuda as a program finds it on a machine with one GPU that is never busy: the CPU."""

import os
import sys
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from .devices import means_cuda
from .patches import Patches
from .streams import STREAM, Context, Event, Stream

NAME = "CPU (rastergrad.compat)"
# That of the A100: programs ask whether it is high enough.
_CAPABILITY = (8, 0)

# ---- answers that are always the same ----------------------------------------------------------------------

_NOTHING = (
    "synchronize empty_cache ipc_collect init set_device set_stream check_error set_sync_debug_mode "
    "set_per_process_memory_fraction caching_allocator_delete caching_allocator_enable "
    "reset_accumulated_memory_stats reset_peak_memory_stats reset_max_memory_allocated "
    "reset_max_memory_cached reset_accumulated_host_memory_stats reset_peak_host_memory_stats"
)
_ZERO = (
    "current_device memory_allocated max_memory_allocated memory_reserved max_memory_reserved memory_cached "
    "max_memory_cached device_memory_used utilization memory_usage temperature power_draw clock_rate "
    "get_sync_debug_mode"
)
_ANSWERS: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(_NOTHING.split(), lambda: None),
    **dict.fromkeys(_ZERO.split(), lambda: 0),
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "is_bf16_supported": lambda: True,
    "is_tf32_supported": lambda: False,
    "is_current_stream_capturing": lambda: False,
    "can_device_access_peer": lambda: False,
    "device_count": lambda: 1,
    "current_stream": lambda: STREAM,
    "default_stream": lambda: STREAM,
    "get_stream_from_external": lambda: STREAM,
    "get_device_capability": lambda: _CAPABILITY,
    "get_device_name": lambda: NAME,
    "get_device_properties": lambda: properties(),
    "get_arch_list": list,
    "get_gencode_flags": str,
    "get_per_process_memory_fraction": lambda: 1.0,
    "list_gpu_processes": lambda: "no processes are running",
    "mem_get_info": lambda: memory(),
    "memory_snapshot": list,
    "memory_stats": lambda: defaultdict(int),
    "memory_stats_as_nested_dict": dict,
    "memory_summary": lambda: "nothing is allocated on a GPU",
    "host_memory_stats": lambda: defaultdict(int),
    "host_memory_stats_as_nested_dict": dict,
}
_CLASSES = {
    "Stream": Stream,
    "ExternalStream": Stream,
    "Event": Event,
    "StreamContext": Context,
    "stream": Context,
    "device": Context,
    "device_of": Context,
}


def memory() -> tuple[int, int]:
    """Free and total bytes of the machine's memory."""
    page, total = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    free = os.sysconf("SC_AVPHYS_PAGES") if "SC_AVPHYS_PAGES" in os.sysconf_names else total  # not on macOS
    return page * free, page * total


def properties() -> SimpleNamespace:
    """What `torch.cuda.get_device_properties` tells."""
    major, minor = _CAPABILITY
    return SimpleNamespace(
        name=NAME,
        major=major,
        minor=minor,
        total_memory=memory()[1],
        multi_processor_count=os.cpu_count() or 1,
        warp_size=32,
        is_integrated=1,
        is_multi_gpu_board=0,
        gcnArchName="",  # torch.compile asks for it
    )


# ---- random numbers ----------------------------------------------------------------------------------------
# The generator of every CUDA device is that of the CPU.


def _seed(original: Callable[..., Any], seed: Any = None) -> None:
    if seed is None:
        torch.default_generator.seed()
    else:
        torch.default_generator.manual_seed(int(seed))


_RANDOM: dict[str, Callable[..., Any]] = {
    "manual_seed": _seed,
    "manual_seed_all": _seed,
    "seed": _seed,
    "seed_all": _seed,
    "initial_seed": lambda original: torch.default_generator.initial_seed(),
    "get_rng_state": lambda original, *_, **__: torch.default_generator.get_state(),
    "get_rng_state_all": lambda original: [torch.default_generator.get_state()],
    "set_rng_state": lambda original, new_state, *_, **__: torch.default_generator.set_state(new_state),
    "set_rng_state_all": lambda original, new_states: torch.default_generator.set_state(new_states[0]),
}


def _forked(original: Callable[..., Any], devices: Any = None, enabled: bool = True, **_: Any) -> Any:
    """The CPU's is put back in any case."""
    return original((), enabled)


# ---- graphs ------------------------------------------------------------------------------------------------


def _graphed(original: Callable[..., Any], callables: Any, *_: Any, **__: Any) -> Any:
    """Functions as they are: a graph would only save launches."""
    return callables


def _no_graph(*_: Any, **__: Any) -> None:
    raise RuntimeError(
        "torch.cuda.CUDAGraph: what a CPU does cannot be recorded. Call the steps themselves, "
        "or torch.cuda.make_graphed_callables, which returns them as they are."
    )


# ---- patching ----------------------------------------------------------------------------------------------


def _module(original: Callable[..., Any], device: Any = None) -> Any:
    return torch.cuda if means_cuda(device) else original(device)


def patch(patches: Patches) -> None:
    """torch.cuda and its submodules, in which functions appear a second time."""
    prefix = "torch.cuda."
    modules = [torch.cuda, *(m for name, m in list(sys.modules.items()) if name.startswith(prefix) and m)]
    places: dict[int, list[tuple[Any, str]]] = {}
    for module in modules:
        for name, value in vars(module).items():
            places.setdefault(id(value), []).append((module, name))

    def everywhere(name: str, replace: Callable[[Any, str], None]) -> None:
        original = vars(torch.cuda).get(name)
        if original is not None:
            for owner, called in places[id(original)]:
                replace(owner, called)

    for name, answer in _ANSWERS.items():
        everywhere(
            name, lambda owner, called, answer=answer: patches.wrap(owner, called, lambda *_, **__: answer())
        )
    for name, around in {**_RANDOM, "make_graphed_callables": _graphed, "graph": _no_graph}.items():
        everywhere(name, lambda owner, called, around=around: patches.wrap(owner, called, around))
    for name, kind in _CLASSES.items():
        own = type(name, (kind,), {"__doc__": kind.__doc__})
        everywhere(name, lambda owner, called, own=own: patches.stand_in(owner, called, own))
    patches.wrap(torch.random, "fork_rng", _forked)
    patches.wrap(torch, "get_device_module", _module)
    everywhere("CUDAGraph", lambda owner, called: patches.wrap(owner, called, _no_graph))
    patches.set(torch.cuda, "default_generators", (torch.default_generator,))
    for name in ("range_push", "range_pop", "range_start", "range_end", "mark"):
        patches.wrap(torch.cuda.nvtx, name, lambda *_, **__: 0)
    patches.stand_in(torch.cuda.nvtx, "range", type("range", (Context,), {}))
    for name in ("start", "stop", "init"):
        patches.wrap(torch.cuda.profiler, name, lambda *_, **__: None)
