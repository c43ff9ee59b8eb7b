"""The ``atlas`` command, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from atlas_async.cli import exits
from atlas_async.cli.terminal_text import visible
from atlas_async.cli.verbs import AllVerbs
from atlas_async.errors import AtlasError, UsageError, discreet_traceback

app = typer.Typer(
    name="atlas",
    cls=AllVerbs,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings: docs/configuration.md. Every command: docs/commands.md.",
)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("atlas-async")
    except PackageNotFoundError:
        return "(run from its sources, not installed)"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"atlas_async {_version()}")
        raise typer.Exit


@app.callback()
def atlas(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Back up Microsoft 365 mailboxes into encrypted, deduplicated, verified snapshots.

    Start with 'atlas demo': it needs no tenant, no bucket and no settings.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Errors are written to standard error."""
    json = "--json" in arguments
    try:
        code = app(list(arguments) or ["--help"], prog_name="atlas", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        return exits.report(_usage(error), json=json)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the outermost boundary
        if isinstance(exits.lone(error), BrokenPipeError):
            return _reader_gone()
        if "--debug" in arguments:
            sys.stderr.write(f"{visible(discreet_traceback(error), keep=chr(10))}\n")
        return exits.report(error, json=json)
    return code if isinstance(code, int) else 0


def _usage(error: TyperException) -> AtlasError:
    """Return what the option parser complains of as one of our errors, with where help is."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "atlas"
    message = error.format_message().rstrip(".")
    return UsageError(message[:1].lower() + message[1:], hint=f"'{command} --help' explains it")


def main() -> None:
    """Run the process's own command line and exit."""
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter gets its escape instead of a crash.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # real streams
    sys.exit(run(sys.argv[1:]))


def _replace_closed_streams() -> None:
    """Put the null device in place of standard streams that the caller closed.

    Otherwise the next file or socket would take a stream's number, and be written to as such.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - a descriptor, for the life of the process


def _reader_gone() -> int:
    """End quietly when ``atlas list | head`` has read enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
