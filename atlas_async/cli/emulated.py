"""The emulator under the command line: started, announced, and ended by a signal."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

from atlas_async.cli.documents import Document
from atlas_async.cli.interrupt import until_interrupted
from atlas_async.cli.terminal import Terminal
from atlas_async.emulator import Behaviour, CorpusOptions, Emulator, ServeOptions, serve
from atlas_async.errors import Interrupted, UsageError

MOST_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class EmulatorChoice:
    """What the command line asked for. ``latency`` is in seconds."""

    host: str
    port: int
    tls: bool
    mailboxes: int
    messages: int
    seed: int
    latency: float
    throttle: bool


async def serve_until_interrupted(choice: EmulatorChoice, terminal: Terminal) -> None:
    """Run the emulator until Ctrl-C or SIGTERM, either of which is its regular end.

    Raises:
        UsageError: the address cannot be listened on.
    """
    options = ServeOptions(
        corpus=CorpusOptions(
            seed=choice.seed, mailboxes=choice.mailboxes, messages=choice.messages
        ),
        behaviour=Behaviour(latency=choice.latency, throttle=choice.throttle),
        host=choice.host,
        port=choice.port,
        tls=choice.tls,
    )

    async def serving() -> None:
        try:
            await serve(options, announce=lambda running: announce(running, choice, terminal))
        except OSError as error:
            text = f"cannot listen on {choice.host} port {choice.port}: {error.strerror}"
            raise UsageError(text, hint="choose another --port, or 0 for a free one") from error

    try:
        await until_interrupted(serving)
    except Interrupted:
        terminal.remark("the emulator has ended")


def announce(running: Emulator, choice: EmulatorChoice, terminal: Terminal) -> None:
    """Write the settings that lead a client to the emulator, ready for a shell."""
    variables = {
        "ATLAS_TENANT_ID": str(running.tenant.id),
        "ATLAS_CLIENT_ID": running.tenant.client_id,
        "ATLAS_CLIENT_SECRET": running.tenant.client_secret,
        "ATLAS_AUTHORITY_URL": running.authority_url,
        "ATLAS_GRAPH_URL": running.graph_url,
    }
    if choice.tls:
        variables["ATLAS_CA_FILE"] = str(running.ca_file)
    people = [p.mail or p.upn for p in running.corpus.people if p.kind.has_mailbox]
    if terminal.json:
        document: Document = {
            "url": running.url,
            "variables": variables,
            "mailboxes": people[: max(MOST_SHOWN, choice.mailboxes)],
        }
        terminal.document(document)
        return
    more = f" and {len(people) - MOST_SHOWN} more" if len(people) > MOST_SHOWN else ""
    terminal.remark(
        f"Entra ID and Microsoft Graph, emulated, at {running.url}; Ctrl-C ends it",
        f"mailboxes: {', '.join(people[:MOST_SHOWN])}{more}",
    )
    lines = (f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    terminal.raw("".join(lines))
