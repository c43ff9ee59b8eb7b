"""``atlas config``: the settings as the other commands see them."""

from __future__ import annotations

from typing import Final

import typer

from atlas_async.cli import exits, options
from atlas_async.cli.session import Common
from atlas_async.cli.typed_values import VerbCommand, VerbGroup

config = typer.Typer(
    cls=VerbGroup, rich_markup_mode=None, help="Look at the settings.", add_completion=False
)


ENDING: Final = exits.ending(
    (
        "atlas config show",
        "atlas config show --json",
        "ATLAS_CONCURRENCY=2 atlas config show",
    ),
    (0, 2),
)


@config.command("show", cls=VerbCommand, epilog=ENDING)
def show(
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show settings and their origins.

    Every setting, its value (secrets masked), where it came from, and all problems.

    Commands that yield secrets are run, as they would be by a backup; what they print is not
    shown.
    """
    from atlas_async.cli.documents import config_document
    from atlas_async.cli.tables import origins_table

    common = Common(tenant, config, json, quiet, debug=debug)
    seen = common.inspect()
    terminal = common.terminal()
    if json:
        terminal.document(config_document(seen))
    else:
        terminal.show(origins_table(seen.origins))
        for note in seen.notes:
            terminal.remark(f"note: {note}")
        for problem in seen.problems:
            terminal.show(f"problem: {problem}")
    raise typer.Exit(2 if seen.problems else 0)
