"""One command's frame: settings, streams, logging, the event loop, and the engine."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from atlas_async.cli.tasks import BACKUP, Task
from atlas_async.clock import SystemClock
from atlas_async.config.settings import GraphSettings, Settings
from atlas_async.config.sources import (
    Inspection,
    Loaded,
    inspect_process,
    load_from_process,
    load_target_from_process,
)
from atlas_async.errors import DiscreetFormatter
from atlas_async.event_loop import run_program

if TYPE_CHECKING:
    from atlas_async.cli.engine import Engine
    from atlas_async.cli.reporter import Reporter
    from atlas_async.cli.terminal import Terminal

LEVELS = ("debug", "info", "warning", "error")


def open_atlas(settings: Settings) -> AbstractAsyncContextManager[Engine]:
    """Return the SDK. The one seam between the commands and everything they command."""
    from atlas_async.sdk import Atlas

    return Atlas(settings)


@dataclass(frozen=True, slots=True)
class Common:
    """What every command accepts."""

    tenant: str | None = None
    config: Path | None = None
    json: bool = False
    quiet: bool = False
    log_level: str | None = None
    debug: bool = False

    def terminal(self) -> Terminal:
        """Return the process's streams as these options ask for them."""
        from atlas_async.cli.terminal import Terminal

        return Terminal.standard(json=self.json, quiet=self.quiet)

    def load(self, flags: Mapping[str, object] | None = None, *, need_graph: bool) -> Loaded:
        """Return the settings. Raises ``ConfigError``."""
        return load_from_process(
            {"tenant_id": self.tenant, **(flags or {})},
            need_graph=need_graph,
            config_file=self.config,
        )

    def load_target(self, config_file: Path) -> GraphSettings:
        """Return how to reach another tenant, from a file of its own. Raises ``ConfigError``."""
        return load_target_from_process(config_file)

    def inspect(self) -> Inspection:
        """Return the settings with their problems as data."""
        return inspect_process({"tenant_id": self.tenant}, config_file=self.config)


class Session:
    """A running command: its engine, its streams, its settings."""

    def __init__(self, engine: Engine, terminal: Terminal, settings: Settings) -> None:
        self.engine = engine
        self.terminal = terminal
        self.settings = settings
        self.clock = SystemClock()

    def reporter(self, task: Task = BACKUP) -> Reporter:
        """Return the progress display that suits the streams and the task."""
        from atlas_async.cli.reporter import reporter_for

        return reporter_for(self.terminal, self.clock, task)


def run(common: Common, loaded: Loaded, work: Callable[[Session], Awaitable[int]]) -> None:
    """Open the engine, do ``work`` on it, and end the command with the code it returns."""
    terminal = common.terminal()
    start_logging(common, terminal)

    async def main() -> int:
        async with open_atlas(loaded.settings) as engine:
            return await work(Session(engine, terminal, loaded.settings))

    raise typer.Exit(run_program(main))


def start_logging(common: Common, terminal: Terminal) -> None:
    """Send log records to standard error, below the live view if there is one."""
    level = "debug" if common.debug else common.log_level or "warning"
    if level not in LEVELS:
        raise typer.BadParameter(f"'{level}' is none of {', '.join(LEVELS)}")
    handler = _ConsoleHandler(terminal)
    handler.setFormatter(DiscreetFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    # Other libraries' debug records hold requests with their tokens, so only ours are turned up.
    logging.getLogger("atlas_async").setLevel(level.upper())


class _ConsoleHandler(logging.Handler):
    """Writes records through the console, which knows where the live view is."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        from atlas_async.cli.terminal_text import visible

        try:
            text = visible(self.format(record), keep="\n\t")
            self._terminal.err.print(text, markup=False, highlight=False)
        except (OSError, ValueError):  # nobody reads it any more
            self.handleError(record)
