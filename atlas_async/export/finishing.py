"""The end of an export: what was written is read back, and hashed for others to check."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from atlas_async.errors import IntegrityError
from atlas_async.export.container import Container
from atlas_async.export.forms import ExportForm, Written, is_zip
from atlas_async.export.manifest import Manifest
from atlas_async.export.tree_files import hashed_files
from atlas_async.export.workspace import Workspace, sha256_of_file, sum_line


def finish(
    workspace: Workspace,
    container: Container,
    manifest: Manifest,
    form: ExportForm,
    given_up: threading.Event,
    *,
    check: bool,
) -> None:
    """End an export: its container, the check of it, and its hashes. Blocking, and long.

    Args:
        workspace: Its files.
        container: Holds all entries.
        manifest: Lists them.
        form: How messages are written.
        given_up: Set when nobody waits any more: it ends soon.
        check: Read back what was written.

    Raises:
        IntegrityError: What lies on the disk is not what was written.
        UsageError, StoreFull: It cannot be written.
    """
    container.finish()
    manifest.mark()

    def written() -> Iterator[Written]:
        for entry in manifest.written():
            if given_up.is_set():
                raise InterruptedError
            yield entry

    for path in container.damaged(written()) if check else ():
        msg = "what was written cannot be read back as it was: is the disk sound?"
        hint = f"remove {workspace.partial} and what has its name and more, and begin anew"
        raise IntegrityError(msg, hint=hint, where=path)
    workspace.write_sums(_sums(workspace, form, written()))


def _sums(workspace: Workspace, form: ExportForm, written: Iterator[Written]) -> Iterator[str]:
    """Yield the lines of the file of hashes, whose paths begin at its own directory."""
    name = workspace.path.name
    if is_zip(workspace.path):
        yield sum_line(sha256_of_file(workspace.partial), name)
    else:
        yield from _tree_sums(workspace, form, written)
    yield sum_line(sha256_of_file(workspace.partial_manifest), workspace.manifest.name)


def _tree_sums(workspace: Workspace, form: ExportForm, written: Iterator[Written]) -> Iterator[str]:
    name = workspace.path.name
    if form in {ExportForm.EML, ExportForm.MAILDIR}:
        for entry in written:
            yield sum_line(entry.sha256, f"{name}/{entry.path}")
        return
    for path, sha256 in hashed_files(workspace.partial):
        yield sum_line(sha256, f"{name}/{path}")
