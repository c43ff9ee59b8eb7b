"""``atlas emulator``: Entra ID and Microsoft Graph on this machine, for trials and tests."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from atlas_async.cli import exits, options
from atlas_async.cli.session import Common, start_logging
from atlas_async.event_loop import run_program

ENDING: Final = exits.ending(
    (
        "atlas emulator                              three mailboxes, https, any free port",
        "atlas emulator --port 8443 --mailboxes 50   fifty mailboxes on a port of your choice",
        "atlas emulator --plain --throttle           plain http, with Microsoft's limits",
        "atlas emulator --json | head -1             the settings, for a program",
    ),
    (0, 1, 2),
)


def emulator(
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 0,
    plain: Annotated[
        bool, typer.Option("--plain", help="Plain http instead of https with a CA of its own.")
    ] = False,
    mailboxes: Annotated[
        int, typer.Option("--mailboxes", min=0, max=100_000, help="User mailboxes.")
    ] = 3,
    messages: Annotated[
        int, typer.Option("--messages", min=0, max=10_000_000, help="Messages per mailbox.")
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Makes the same mail again.")] = 1,
    latency: Annotated[
        float, typer.Option("--latency", min=0, max=600, help="Seconds added to each request.")
    ] = 0.0,
    throttle: Annotated[
        bool, typer.Option("--throttle", help="Enforce Microsoft's documented limits.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Run an emulated Microsoft 365 tenant.

    It serves tokens, users, mail folders, messages and attachments until Ctrl-C. Prints the
    settings that lead this program, or any other client of Graph, to it. All mail is synthetic.
    """
    common = Common(json=json, quiet=quiet, log_level=log_level, debug=debug)
    terminal = common.terminal()
    start_logging(common, terminal)

    async def main() -> int:
        from atlas_async.cli.emulated import EmulatorChoice, serve_until_interrupted

        choice = EmulatorChoice(host, port, not plain, mailboxes, messages, seed, latency, throttle)
        await serve_until_interrupted(choice, terminal)
        return 0

    raise typer.Exit(run_program(main))
