"""Asking before something is done that a person may not have meant."""

from __future__ import annotations

import os
import sys
from typing import Final

import anyio
from anyio import to_thread

from atlas_async.cli.terminal import Terminal
from atlas_async.errors import UsageError

ANSWER_BYTES: Final = 1024


async def confirm(terminal: Terminal, question: str, *, otherwise: str) -> None:
    """Ask on the terminal and return when the answer is yes. May be cancelled while it waits.

    Args:
        terminal: Where the question goes: standard error.
        question: Without the question mark.
        otherwise: What to do where nobody can be asked, for the hint.

    Raises:
        UsageError: There is no terminal to ask on, or the answer was not yes.
    """
    if terminal.json or not sys.stdin.isatty():
        raise UsageError(f"not confirmed: {question}?", hint=otherwise)
    terminal.err.print(f"{question}? Type yes: ", end="", markup=False, highlight=False)
    # Not a thread that reads: one that waits for a line could not be ended by Ctrl-C.
    await anyio.wait_readable(sys.stdin)
    answer = await to_thread.run_sync(os.read, sys.stdin.fileno(), ANSWER_BYTES)
    if answer.decode(errors="replace").strip().casefold() not in {"y", "yes"}:
        raise UsageError("not confirmed: nothing was done")
