"""Running the emulator until it is cancelled, for a command line or a script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from atlas_async.emulator.behaviour import Behaviour
from atlas_async.emulator.corpus import Corpus, CorpusOptions
from atlas_async.emulator.server import CACHE_BYTES, Emulator


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Where to listen, what to hold, how to behave.

    ``client_secret`` replaces the generated one when it is not empty;
    ``certificate_pem`` is registered for certificate sign-in.
    """

    corpus: CorpusOptions = field(default_factory=CorpusOptions)
    behaviour: Behaviour = field(default_factory=Behaviour)
    host: str = "127.0.0.1"
    port: int = 0
    tls: bool = True
    cache_bytes: int = CACHE_BYTES
    client_secret: str = field(default="", repr=False)
    certificate_pem: bytes = b""


async def serve(options: ServeOptions, *, announce: Callable[[Emulator], None]) -> None:
    """Serve until cancelled; ``announce`` is called once the server listens."""
    corpus = await anyio.to_thread.run_sync(Corpus, options.corpus)
    emulator = Emulator(
        corpus,
        host=options.host,
        port=options.port,
        tls=options.tls,
        behaviour=options.behaviour,
        cache_bytes=options.cache_bytes,
    )
    if options.client_secret:
        emulator.tenant.app.secrets[0].value = options.client_secret
        emulator.tenant.client_secret = options.client_secret
    if options.certificate_pem:
        emulator.tenant.accept_certificate(options.certificate_pem)
    async with emulator:
        announce(emulator)
        await anyio.sleep_forever()
