"""The emulator as a process of its own: ``python -m benchmarks.emulator_server OPTIONS``.

The options are JSON: ``corpus`` (``CorpusOptions``), ``behaviour`` (``Behaviour``) and
``cache_bytes``. It prints one JSON line with the settings that lead to it, and serves until it is
terminated or its standard input ends.
"""

from __future__ import annotations

import json
import sys

import anyio
import anyio.to_thread

from atlas_async.emulator import Behaviour, CorpusOptions, Emulator, ServeOptions, serve


def announce(emulator: Emulator) -> None:
    """Print where the emulator is."""
    values = {
        "tenant_id": str(emulator.tenant.id),
        "client_id": emulator.tenant.client_id,
        "client_secret": emulator.tenant.client_secret,
        "authority_url": emulator.authority_url,
        "graph_url": emulator.graph_url,
    }
    print(json.dumps(values), flush=True)


async def serve_until_told(options: ServeOptions) -> None:
    """Serve until the standard input ends, as it does with the caller, however that one ends."""
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: serve(options, announce=announce))
        await anyio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)
        group.cancel_scope.cancel()


def main() -> None:
    """Serve what the first argument describes."""
    told = json.loads(sys.argv[1])
    corpus = told["corpus"] | {key: tuple(told["corpus"][key]) for key in _TUPLES}
    options = ServeOptions(
        corpus=CorpusOptions(**corpus),
        behaviour=Behaviour(**told["behaviour"]),
        cache_bytes=told["cache_bytes"],
        tls=False,
    )
    anyio.run(serve_until_told, options, backend_options={"use_uvloop": True})


_TUPLES = ("message_counts", "languages")

if __name__ == "__main__":
    main()
