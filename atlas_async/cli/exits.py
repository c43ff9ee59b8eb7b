"""How the process ends: an error's message, its hint, its exit code. Never a traceback unasked."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from atlas_async.cli.terminal_text import visible
from atlas_async.errors import AtlasError, ConfigError, StoreFull

CODES: Final = {
    0: "all done",
    1: "an error",
    2: "the command line or the settings are wrong",
    3: "finished, with items or mailboxes missing; the report says which",
    10: "no such bucket, mailbox, snapshot or message",
    11: "the mailbox is locked by another run",
    12: "wrong passphrase, or a damaged key",
    13: "authentication or consent",
    14: "stopped by throttling or a time budget; run again to continue",
    15: "immutability cannot be enforced",
    16: "integrity failure: what was read is not what was written",
    130: "interrupted",
}
DEBUG_HINT: Final = "run with --debug for the traceback"


def ending(examples: Sequence[str], codes: Sequence[int]) -> str:
    """Return the end of a command's help: EXAMPLES and EXIT STATUS."""
    blocks = (
        ("EXAMPLES", examples),
        ("EXIT STATUS", [f"{code:>3}  {CODES[code]}" for code in codes]),
    )
    # A lone backspace tells the help formatter to leave the block's lines as they are.
    return "\n\n".join(
        "\n".join(("\b", title, *(f"  {line}" for line in lines))) for title, lines in blocks
    )


def lone(error: BaseException) -> BaseException:
    """Return the error that matters of a group: interruption, then ours, then the first one."""
    leaves = list(_leaves(error))
    for wanted in (KeyboardInterrupt, AtlasError):
        for leaf in leaves:
            if isinstance(leaf, wanted):
                return leaf
    return leaves[0]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def describe(error: BaseException) -> tuple[int, str, str]:
    """Return exit code, message and hint. Unexpected errors are named by their type alone."""
    if isinstance(error, AtlasError):
        return error.exit_code, str(error), error.hint
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted", ""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        # The store and the spool tell of themselves; what is left is where this writes to.
        text = f"no space left for the output or for temporary files: {error.strerror}"
        return StoreFull.exit_code, text, "free some space there and run again; backups are intact"
    if isinstance(error, MemoryError):
        return 1, "out of memory", "lower ATLAS_BYTE_BUDGET or ATLAS_CONCURRENCY"
    # An unknown error's text may quote whatever it was about, mail included; its type may not.
    return 1, f"unexpected error ({type(error).__name__})", DEBUG_HINT


def report(error: BaseException, *, json: bool) -> int:
    """Write the error to standard error and return the exit code."""
    error = lone(error)
    code, message, hint = describe(error)
    if json:
        from atlas_async.cli.documents import error_document
        from atlas_async.cli.progress_lines import json_line

        ours = error if isinstance(error, AtlasError) else None
        lines = [json_line(error_document(ours, code, message, hint))]
    elif isinstance(error, ConfigError) and len(error.problems) > 1:
        lines = [f"error: {len(error.problems)} settings need attention:"]
        lines += [f"  - {visible(problem)}" for problem in error.problems]
    else:
        lines = [f"error: {visible(message)}"]
    if hint and not json:
        lines.append(f"hint: {visible(hint)}")
    try:
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()
    except OSError:
        # Nobody can be told but by the exit code, which a second failure at the end would change.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    return code
