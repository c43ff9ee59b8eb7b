"""The side of a measured program: do what standard input says, print what each run took.

The first line is the job, a JSON object; the program opens what it needs and prints one line with
its memory when idle. Each further line names a verb; for each the program prints one JSON
line: wall and CPU seconds, peak memory meanwhile, and what the verb did. It ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from atlas_async.event_loop import run_program

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")

Verbs = Mapping[str, Callable[[], Awaitable[dict[str, Any]]]]


def cpu_seconds() -> float:
    """Return user and system seconds of this process, threads included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def forget_peak() -> None:
    """Let ``peak_mib`` start over, where the system can: what opening took is not a run's."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def peak_mib() -> float:
    """Return the most memory this process has held since ``forget_peak``, in MiB."""
    if _CLEAR.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / ((1 << 20) / unit)


async def answer_verbs(
    program: Callable[[dict[str, Any]], AbstractAsyncContextManager[Verbs]],
) -> None:
    """Open the program for its job and run verbs until the input ends."""
    job = json.loads(await _next_line())
    async with program(job) as verbs:
        forget_peak()
        print(json.dumps({"peak_mib": peak_mib()}), flush=True)
        while verb := (await _next_line()).strip():
            forget_peak()
            wall, cpu = time.perf_counter(), cpu_seconds()
            done = await verbs[verb]()
            figures = {
                "wall": time.perf_counter() - wall,
                "cpu": cpu_seconds() - cpu,
                "peak_mib": peak_mib(),
            }
            print(json.dumps(figures | done), flush=True)


async def _next_line() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


def run(program: Callable[[dict[str, Any]], AbstractAsyncContextManager[Verbs]]) -> None:
    """Run a program as the command line runs the engine: the same event loop and collector."""
    run_program(answer_verbs, program)
