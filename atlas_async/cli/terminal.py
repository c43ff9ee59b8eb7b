"""Where output goes: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Final, TextIO

from rich.console import Console, RenderableType

from atlas_async.cli.documents import Document
from atlas_async.cli.progress_lines import json_line

PIPE_COLUMNS: Final = 1_000
"""Width assumed where nobody looks: lines are then never folded or cut."""


class Terminal:
    """The two streams and how much is said on them. Writing may block.

    Args:
        out: Standard output, for results.
        err: Standard error, for progress, remarks and errors.
        json: Whether results are JSON.
        quiet: Whether only results and errors are written.
    """

    def __init__(self, out: TextIO, err: TextIO, *, json: bool, quiet: bool) -> None:
        self.out = _console(out)
        self.err = _console(err)
        self.json = json
        self.quiet = quiet
        self._broken = False

    @classmethod
    def standard(cls, *, json: bool, quiet: bool) -> Terminal:
        """Return the process's own streams."""
        return cls(sys.stdout, sys.stderr, json=json, quiet=quiet)

    def document(self, document: Document) -> None:
        """Write one JSON document on a line of its own."""
        self.raw(json_line(document) + "\n")

    def raw(self, text: str) -> None:
        """Write text to standard output exactly as it is."""
        self.out.file.write(text)
        self.out.file.flush()

    def bytes(self, data: bytes) -> None:
        """Write bytes to standard output exactly as they are."""
        self.out.file.flush()
        stream = getattr(self.out.file, "buffer", None)
        if stream is None:
            self.raw(data.decode("utf-8", "surrogateescape"))
        else:
            stream.write(data)
            stream.flush()

    def show(self, *renderables: RenderableType) -> None:
        """Write results for a person."""
        for renderable in renderables:
            self.out.print(renderable, highlight=False, markup=False)

    def remark(self, *renderables: RenderableType) -> None:
        """Write what accompanies a result, unless ``quiet`` or ``json``."""
        if self.quiet or self.json or self._broken:
            return
        try:
            for renderable in renderables:
                self.err.print(renderable, highlight=False, markup=False)
        except OSError:
            self._broken = True

    def progress(self, lines: list[str]) -> None:
        """Write progress lines: JSON to standard output, sentences to standard error.

        A reader that goes away, or a log on a full disk, ends the progress, not the work it is
        about.
        """
        if self._broken or not lines:
            return
        stream = self.out.file if self.json else self.err.file
        try:
            stream.write("".join(f"{line}\n" for line in lines))
            stream.flush()
        except OSError:
            self._broken = True

    def draw(self, drawing: Callable[[], None]) -> bool:
        """Draw on standard error, and tell whether anybody is still there to see it.

        A terminal that was closed under a program which ignores SIGHUP ends the picture alone.
        """
        try:
            drawing()
        except OSError:
            self._broken = True
        return not self._broken


class _Console(Console):
    """rich's console, which leaves it to the program what a reader that has left means."""

    def on_broken_pipe(self) -> None:
        """Raise an error of its own kind where rich would end the process from any thread."""
        raise BrokenPipeError(errno.EPIPE, "the reader has left")


def _console(stream: TextIO) -> Console:
    if stream.isatty():
        return _Console(file=stream, emoji=False)
    return _Console(file=stream, emoji=False, width=PIPE_COLUMNS, force_terminal=False)
