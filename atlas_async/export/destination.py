"""Where an export may go: a name that its files can have, and never the store it reads. Blocking.

What lies in a store's directory counts as an object there: ``atlas prune`` would remove an export,
and whoever copies the bucket would copy mail in clear with it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from atlas_async.config.settings import DirectorySettings, Settings
from atlas_async.errors import UsageError
from atlas_async.export.container import writing
from atlas_async.export.workspace import LONGEST_ENDING

_NAME_BYTES: Final = 255
"""What file systems take where they do not tell."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")


def check_destination(path: Path, settings: Settings) -> None:
    """Refuse what cannot become an export. Nothing is made.

    Args:
        path: Where to.
        settings: Tell where the mail comes from.

    Raises:
        UsageError: It is no name, one that is too long, or lies in the store; or the system does
            not let anybody look.
    """
    with writing(path):
        _check_name(path)
        if isinstance(settings.storage, DirectorySettings):
            root = settings.storage.path
            _check_outside(path, (root, root / settings.bucket))


def _check_name(path: Path) -> None:
    name = path.name
    if name in {"", ".."} or "\0" in str(path):
        msg = "an export needs a name of its own"
        hint = "name a directory or a .zip that is not there yet, such as -o mail or -o mail.zip"
        raise UsageError(msg, hint=hint, where=str(path))
    if _CONTROL.search(name):
        msg = "the name of an export may not hold line breaks or other control characters"
        hint = "give another name with -o: the file of hashes has it in every line"
        raise UsageError(msg, hint=hint, where=str(path))
    most = _longest_name(path.absolute().parent) - len(LONGEST_ENDING)
    if len(os.fsencode(name)) > most:
        msg = f"the name of an export has at most {most} bytes here"
        hint = f"give a shorter one with -o: endings such as {LONGEST_ENDING} are added to it"
        raise UsageError(msg, hint=hint, where=str(path.parent))


def _longest_name(directory: Path) -> int:
    """Return how many bytes a name in a directory may have."""
    try:
        return os.pathconf(directory, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # none on Windows, or no such directory
        return _NAME_BYTES


def _check_outside(path: Path, stores: Iterable[Path]) -> None:
    target = _lines_of_descent(path)
    for store in stores:
        own = _lines_of_descent(store)
        # Compared as files too: by letters one directory may look like two, or two like one.
        if own[0] in target or target[0] in own or any(_is_same(own[0], one) for one in target):
            msg = "an export cannot lie in the store that it is made from"
            hint = (
                "`atlas prune` would take its files for leftovers: give a place elsewhere with -o"
            )
            raise UsageError(msg, hint=hint, where=str(path))


def _lines_of_descent(path: Path) -> list[Path]:
    """Return a path without links, and every directory above it."""
    real = Path(os.path.realpath(path))
    return [real, *real.parents]


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False
