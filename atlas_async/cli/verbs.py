"""The commands' names and summaries, and where each is found. Modules load when they are wanted.

``atlas --help`` needs nothing but this table; a command's own module, with everything it imports,
is loaded when the command is run or its own help is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer._click import Command
from typer.main import get_command, get_group

from atlas_async.cli.typed_values import VerbCommand, VerbGroup


class Verb(NamedTuple):
    """A command and the attribute of a module of this package that holds it.

    The attribute is a function, with the end of its help as the module's ``ENDING``, or a
    ``Typer`` with commands of its own.
    """

    name: str
    module: str
    attribute: str
    summary: str


# New verbs are registered here, one file each. A summary is the first sentence of the verb's help.
VERBS: Final = (
    Verb("backup", "backup_cmd", "backup", "Back up mailboxes."),
    Verb("list", "list_cmd", "list_backups", "List mailboxes, snapshots or messages."),
    Verb("read", "read_cmd", "read", "Show one message."),
    Verb("find", "find_cmd", "find", "Find messages."),
    Verb("save", "save_cmd", "save", "Write mail as files."),
    Verb("restore", "restore_cmd", "restore", "Bring mail back into Microsoft 365."),
    Verb("verify", "verify_cmd", "verify", "Check every stored object."),
    Verb("drill", "drill_cmd", "drill", "Prove that backups can be restored."),
    Verb("ledger", "ledger_cmd", "ledger", "Look after what could not be stored."),
    Verb("key", "key_cmd", "key", "Protect, check and copy the tenant's key."),
    Verb("prune", "prune_cmd", "prune", "Remove what no snapshot names."),
    Verb("demo", "demo_cmd", "demo", "Try it out on an emulated tenant."),
    Verb("emulator", "emulator_cmd", "emulator", "Run an emulated Microsoft 365 tenant."),
    Verb("config", "config_cmd", "config", "Look at the settings."),
)


ALIASES: Final = {"export": "save"}
"""Other names of verbs, which no list shows."""


class DeferredCommand(VerbCommand):
    """Stands for a verb until somebody runs it."""

    def __init__(self, verb: Verb) -> None:
        super().__init__(verb.name, help=verb.summary)
        self._verb = verb

    def load(self) -> Command:
        """Import the verb's module and return the command that is in it."""
        module = import_module(f"atlas_async.cli.{self._verb.module}")
        found = getattr(module, self._verb.attribute)
        if isinstance(found, typer.Typer):
            return get_group(found)
        holder = typer.Typer(add_completion=False, rich_markup_mode=None)
        holder.command(self._verb.name, cls=VerbCommand, epilog=module.ENDING)(found)
        return get_command(holder)

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        """Begin the verb itself: its context leads to the loaded command, not to this one."""
        return self.load().make_context(*arguments, **settings)


class AllVerbs(VerbGroup):
    """The group that is ``atlas``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": [DeferredCommand(verb) for verb in VERBS]})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a verb by its name, or by another one that it goes by."""
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))
