"""The engine as a process of its own, with limits of the caller's choice.

``start`` runs it and returns what it prints. The program, ``python -m benchmarks.paced_engine``,
reads one JSON object from standard input: ``settings`` (``ATLAS_*`` variables), ``limits`` (fields
of ``Limits`` to replace) and ``own_store`` (keep objects inside the process, when the store is not
what is measured). It backs up everybody in the directory once and prints one JSON line: seconds of
wall time and CPU, and what each mailbox did.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from atlas_async.config.sources import load_settings
from atlas_async.event_loop import run_program
from atlas_async.model.events import MailboxFinished
from atlas_async.sdk import Atlas
from atlas_async.store.memory import MemoryStore
from benchmarks.servers import Child, Core, process

PASSPHRASE = "benchmark"


@contextmanager
def start(
    settings: Mapping[str, str], limits: Mapping[str, object], *, own_store: bool
) -> Iterator[Child]:
    """Start the program on its job; ``hear`` the child for the one line it prints."""
    job = {"settings": dict(settings), "limits": dict(limits), "own_store": own_store}
    with process([sys.executable, "-m", "benchmarks.paced_engine"], core=Core.PROGRAM) as child:
        child.tell(json.dumps(job))
        yield child


def finish(child: Child) -> dict[str, Any]:
    """Return the figures of a started program.

    Raises:
        RuntimeError: A mailbox was not backed up completely.
    """
    figures: dict[str, Any] = json.loads(child.hear())
    for mailbox in figures["mailboxes"]:
        if mailbox["outcome"] != "complete":
            raise RuntimeError(f"a backup is not complete: {mailbox}")
    return figures


def ask_emulator(
    settings: Mapping[str, str], verb: str, method: str = "GET", body: object = None
) -> Any:
    """Send one request to the emulator's control interface and return the answer."""
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{settings['ATLAS_GRAPH_URL']}/_emulator/{verb}",
        None if body is None else json.dumps(body).encode(),
        method=method,
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - the same
        return json.load(answer)


async def run(job: dict[str, Any]) -> None:
    """Back up once, after a run over no mailboxes that makes bucket and key."""
    environ = {**job["settings"], "ATLAS_ENCRYPTION_PASSPHRASE": PASSPHRASE}
    if job["own_store"]:
        environ["ATLAS_STORAGE_URL"] = "file:///nonexistent"  # must be named, is not opened
    settings = load_settings(
        cwd=Path("/nonexistent"),
        home=Path("/nonexistent"),
        environ=environ,
        flags={},
    ).settings
    settings = replace(settings, limits=replace(settings.limits, **job["limits"]))
    store = MemoryStore() if job["own_store"] else None
    ended: dict[str, float] = {}
    async with Atlas(settings, store=store) as atlas:
        await atlas.backup([])
        cpu, began = time.process_time(), time.perf_counter()
        async with atlas.events() as events, anyio.create_task_group() as group:

            async def listen() -> None:
                async for event in events:
                    if isinstance(event, MailboxFinished):
                        ended[event.result.mailbox_id] = time.perf_counter() - began

            group.start_soon(listen)
            report = await atlas.backup()
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    figures = {
        "wall": wall,
        "cpu": cpu,
        "mailboxes": [
            {
                "name": result.mailbox_id,
                "outcome": result.outcome.value,
                "error": result.error,
                "messages": result.messages,
                "seconds": result.seconds,
                "ended": ended[result.mailbox_id],
                "requests": result.graph_requests,
                "throttled": result.throttled,
                "throttled_seconds": result.throttled_seconds,
                "store_requests": result.store_requests,
            }
            for result in report.mailboxes
        ],
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    run_program(run, json.loads(sys.stdin.readline()))
