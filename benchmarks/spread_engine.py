"""The engine as a measured program that also tells the CPU seconds of its worker processes."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.engine import engine
from benchmarks.measured import Verbs, run


def workers_cpu() -> float:
    """Return user and system seconds of the child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@asynccontextmanager
async def spread(job: dict[str, Any]) -> AsyncIterator[Verbs]:
    """Open the engine; ``ATLAS_PROCESSES`` says how many processes a backup takes."""
    async with engine(job) as verbs:

        async def backup() -> dict[str, Any]:
            before = workers_cpu()
            done = await verbs["backup"]()
            return done | {"workers_cpu": workers_cpu() - before}

        yield {"backup": backup}


if __name__ == "__main__":
    run(spread)
