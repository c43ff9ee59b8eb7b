"""``atlas demo``: the whole thing in under a minute, without a tenant, a bucket or settings."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from atlas_async.cli import exits, options
from atlas_async.cli.session import Common, start_logging
from atlas_async.errors import UsageError
from atlas_async.event_loop import run_program

ENDING: Final = exits.ending(
    (
        "atlas demo",
        "atlas demo --directory ./demo",
    ),
    (0, 1, 2, 3, 13, 16, 130),
)


def demo(
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            "-d",
            metavar="DIR",
            help="Keep the backup here instead of in a new temporary directory; must not exist "
            "or be empty.",
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Try it out on an emulated tenant.

    Backs up three mailboxes, changes some mail, backs up again, lists, restores and verifies.

    Starts Microsoft 365 as an emulator on this machine, keeps the backup in a directory, and says
    what to set for a real tenant. Needs no network, takes less than a minute and leaves nothing
    running; the directory stays, to be looked at.
    """
    common = Common(json=json, quiet=quiet, log_level=log_level, debug=debug)
    terminal = common.terminal()
    start_logging(common, terminal)
    place = _place(directory)

    async def main() -> int:
        from atlas_async.cli.demo_story import tell
        from atlas_async.cli.interrupt import until_interrupted

        return await until_interrupted(lambda: tell(terminal, place))

    raise typer.Exit(run_program(main))


def _place(directory: Path | None) -> Path:
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="atlas-demo-"))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise UsageError(
                f"{directory} is not empty", hint="name a directory that does not exist"
            )
    except OSError as error:
        raise UsageError(f"{directory} cannot be used: {error.strerror}") from error
    return directory.resolve()
