"""What an export looks like: one file a message, one a folder, a Maildir, or JSON."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from atlas_async.errors import UsageError


class ExportForm(StrEnum):
    """How messages are written.

    ``EML``: one file a message, in a zip or a directory. ``MBOX``: one file a folder (mboxrd).
    ``MAILDIR``: Maildir++ with its flags. ``JSON``: one file a folder with a line per message, and
    attachments beside, each once.
    """

    EML = "eml"
    MBOX = "mbox"
    MAILDIR = "maildir"
    JSON = "json"


def form_of(form: ExportForm | str | None) -> ExportForm:
    """Return a form by its name in whatever case; None means eml.

    Raises:
        UsageError: There is no such form.
    """
    try:
        return ExportForm(form.lower()) if form is not None else ExportForm.EML
    except (AttributeError, ValueError):
        msg = f"mail is not written as {form!r}"
        raise UsageError(msg, hint=f"the forms are {', '.join(ExportForm)}") from None


@dataclass(frozen=True, slots=True)
class Target:
    """Where an entry goes.

    Args:
        path: Relative, with slashes.
        append: To the end of a file that all entries of a folder share.
        modified: Unix time that the file shall have; None for the time of writing.
        once: Leave a file that is there: its name tells its content.
    """

    path: str
    append: bool = False
    modified: float | None = None
    once: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """An entry as it lies there: its hex SHA-256, and ``offset`` and ``size`` in its file."""

    path: str
    offset: int
    size: int
    sha256: str


def is_zip(path: Path) -> bool:
    """Tell whether an export to this path is one compressed file."""
    return path.name.lower().endswith(".zip")


def check_form(path: Path, form: ExportForm) -> None:
    """Raise ``UsageError`` where ``form`` cannot be written to ``path``."""
    if is_zip(path) and form is not ExportForm.EML:
        raise UsageError(
            f"a zip holds eml files, not {form.value}",
            hint="give the name of a directory, without .zip",
        )
