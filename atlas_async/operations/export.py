"""Write mail out as files: an export of what selections mean, continued where one was cut short."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from atlas_async.clock import Clock
from atlas_async.errors import IntegrityError, UsageError
from atlas_async.export.container import Container
from atlas_async.export.destination import check_destination
from atlas_async.export.entries import folder_file
from atlas_async.export.finishing import finish
from atlas_async.export.forms import ExportForm, Target, check_form, is_zip
from atlas_async.export.manifest import Manifest
from atlas_async.export.report import (
    ExportedMailbox,
    ExportFailure,
    ExportReport,
    Tally,
)
from atlas_async.export.run import Checkpoints, ExportRun, Outlet
from atlas_async.export.tree_files import TreeContainer
from atlas_async.export.workspace import Workspace
from atlas_async.export.zip_file import ZipContainer
from atlas_async.model.events import Event
from atlas_async.model.report import NotStored
from atlas_async.model.source import JsonObject
from atlas_async.operations import export_outline, export_sources
from atlas_async.operations.export_sources import Sources
from atlas_async.operations.selection import Selection
from atlas_async.operations.tenant import Tenant
from atlas_async.pipeline.stop import StopSignal

WRITING: Final = "writing"
COMPLETE: Final = "complete"


class Export:
    """One export.

    Args:
        tenant: Where the mail is.
        emit: Takes events.
        stop: Ends it early, in order; the same call continues it later.
        form: How messages are written.
        originals: Take a message's original MIME where there is one.
        check: Read back what was written, before the export gets its name.
        checkpoints: How much may have to be done again after a kill.
    """

    def __init__(
        self,
        tenant: Tenant,
        emit: Callable[[Event], None],
        stop: StopSignal,
        *,
        form: ExportForm,
        originals: bool,
        check: bool,
        checkpoints: Checkpoints,
    ) -> None:
        self._tenant = tenant
        self._clock: Clock = tenant.clock
        self._emit = emit
        self._stop = stop
        self._form = form
        self._originals = originals
        self._check = check
        self._checkpoints = checkpoints

    async def run(self, selections: Sequence[Selection], path: Path | None) -> ExportReport:
        """Write everything, or go on with it.

        Args:
            selections: What; one without mailbox and snapshot means every mailbox.
            path: Where to; None makes a name of mailbox and date in the working directory.

        Raises: as ``sdk.Atlas.export``.
        """
        begun = None
        if path is not None:
            begun = await to_thread.run_sync(self._look, path)
        identity = export_sources.fingerprint(
            self._tenant.settings.tenant_id, selections, self._form, originals=self._originals
        )
        if begun is not None and begun.get("fingerprint") != identity:
            raise _other(path)
        sources = await self._sources(selections, begun)
        if path is None:
            path = export_outline.default_path(sources, self._form)
            begun = await to_thread.run_sync(self._look, path)
            if begun is not None:
                # Of the same name and perhaps of another time: as if it had been given.
                return await self.run(selections, path)
        return await self._write(Workspace(path), sources, identity, begun)

    async def dry_run(self, selections: Sequence[Selection], path: Path | None) -> ExportReport:
        """Count what an export would write; sizes are of what is stored. Raises: as ``run``."""
        if path is not None:
            await to_thread.run_sync(self._check_path, path)
        sources = await self._sources(selections, None)
        report = self._report(path or export_outline.default_path(sources, self._form), sources)
        report.dry_run = True
        tally = Tally()
        await export_outline.counted(sources, tally)
        report.take(tally)
        report.folders = export_outline.folders(sources, tally)
        await self._add_lacking(report, sources)
        return report

    def _check_path(self, path: Path) -> None:
        check_form(path, self._form)
        check_destination(path, self._tenant.settings)

    def _look(self, path: Path) -> JsonObject | None:
        """Check a place; return the state of the export that was begun there, or None."""
        self._check_path(path)
        return Workspace(path).load()

    async def _sources(self, selections: Sequence[Selection], begun: JsonObject | None) -> Sources:
        await self._tenant.open_for_reading()
        if begun is not None:
            pins = [export_sources.from_json(values) for values in begun["pinned"]]
            many = bool(begun["many"])
        else:
            pins = await export_sources.expanded(self._tenant, selections)
            every = any(one.mailbox is None and one.snapshot is None for one in selections)
            many = every or len({one.mailbox for one in pins}) > 1
        sources = await export_sources.resolve(
            self._tenant, pins, form=self._form, originals=self._originals, many=many
        )
        if begun is not None:
            now = [taken.snapshot_ids for taken in sources.taken]
            if now != begun["snapshots"]:
                msg = "the snapshots that the unfinished export was made of are not there as then"
                raise UsageError(msg, hint="remove what is left of it, or give another name")
        return sources

    def _report(self, path: Path, sources: Sources) -> ExportReport:
        boxes: dict[ExportedMailbox, None] = {}
        for taken in sources.taken:
            selected = taken.selected
            moment = selected.snapshot.created_at
            box = ExportedMailbox(
                selected.mailbox_id, tuple(taken.snapshot_ids), moment, selected.exact
            )
            boxes[box] = None  # once, however many selections are of it
        return ExportReport(path, self._form, mailboxes=list(boxes), notes=list(sources.notes))

    async def _write(
        self, workspace: Workspace, sources: Sources, identity: str, begun: JsonObject | None
    ) -> ExportReport:
        report = self._report(workspace.path, sources)
        report.resumed = begun is not None
        pins = [
            export_sources.to_json(export_sources.pinned(taken, self._clock.now()))
            for taken in sources.taken
        ]
        state: JsonObject = begun or {
            "fingerprint": identity,
            "pinned": pins,
            "many": sources.many,
            "snapshots": [taken.snapshot_ids for taken in sources.taken],
            "phase": WRITING,
            "rows": 0,
            "manifest": 0,
            "container": None,
            "tally": Tally().to_json(),
        }
        tally = Tally.from_json(state["tally"])
        whole = True
        if state["phase"] == WRITING:
            whole = await self._fill(workspace, sources, state, tally)
        if whole:
            await to_thread.run_sync(workspace.publish)
        report.interrupted = not whole
        report.take(tally)
        report.folders = export_outline.folders(sources, tally)
        await self._add_lacking(report, sources)
        return report

    async def _fill(
        self, workspace: Workspace, sources: Sources, state: JsonObject, tally: Tally
    ) -> bool:
        expected = await export_outline.counted(sources, Tally())
        container, manifest = await to_thread.run_sync(_open, workspace, state)
        try:
            if state["container"] is None:
                await to_thread.run_sync(self._make_folders, container, sources, tally)

            def save(rows: int) -> None:
                state["container"] = container.mark()
                state["manifest"] = manifest.mark()
                state["rows"], state["tally"] = rows, tally.to_json()
                workspace.save(state)

            run = ExportRun(
                Outlet(container, manifest, tally, save),
                emit=self._emit,
                stop=self._stop,
                clock=self._clock,
                checkpoints=self._checkpoints,
                expected=expected,
            )
            if not await run.run(sources.items, state["rows"]):
                return False
            await self._finish(workspace, container, manifest)
            state["phase"] = COMPLETE
            await to_thread.run_sync(workspace.save, state)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(_close, container, manifest)
        return True

    def _make_folders(self, container: Container, sources: Sources, tally: Tally) -> None:
        """Make every directory and file that a folder has, and note mailboxes left out."""
        for layout in sources.layouts.values():
            for directory in layout.directories():
                container.make_folder(directory)
                path = folder_file(self._form, directory)
                if path is not None:
                    container.begin(Target(path, append=True))
                    container.commit()
        for mailbox_id, error in sources.left_out:
            tally.fail(
                ExportFailure(mailbox_id, "", "snapshot", "", error.message, is_missing=False)
            )

    async def _finish(self, workspace: Workspace, container: Container, manifest: Manifest) -> None:
        """End the container, check it, and write the hashes.

        Raises:
            IntegrityError: What lies on the disk is not what was written.
        """
        given_up = threading.Event()
        work = partial(
            finish, workspace, container, manifest, self._form, given_up, check=self._check
        )
        try:
            await to_thread.run_sync(work, abandon_on_cancel=True)
        finally:
            given_up.set()

    async def _add_lacking(self, report: ExportReport, sources: Sources) -> None:
        """Add what was never stored, each once however many selections it belongs to."""
        never: dict[tuple[str, NotStored], None] = {}
        for taken in sources.taken:
            mailbox_id = taken.selected.mailbox_id
            try:
                items = await export_sources.lacking(taken)
            except IntegrityError as error:
                reason = f"its list of what was never stored cannot be read: {error.message}"
                failure = ExportFailure(mailbox_id, "", "snapshot", "", reason, is_missing=False)
                if failure not in report.failed:
                    report.failed_count += 1
                    report.failed.append(failure)
            else:
                never |= dict.fromkeys((mailbox_id, item) for item in items)
        report.not_stored += [item for _, item in never]


def _open(workspace: Workspace, state: JsonObject) -> tuple[Container, Manifest]:
    """Open the files of an export; the state is there before any of them. Blocking."""
    if state["container"] is None:
        workspace.save(state)
    try:
        manifest = Manifest(workspace.partial_manifest, state["manifest"])
    except BlockingIOError:
        msg = "another process is writing this export"
        raise UsageError(msg, where=str(workspace.path)) from None
    except ValueError:
        raise _cut_short(workspace) from None
    try:
        container: Container
        if is_zip(workspace.path):
            container = ZipContainer(workspace.partial, workspace.zip_directory, state["container"])
        else:
            container = TreeContainer(workspace.partial, state["container"])
    except ValueError:
        manifest.close()
        raise _cut_short(workspace) from None
    except BaseException:  # whatever it was, nobody else will close it
        manifest.close()
        raise
    return container, manifest


def _close(container: Container, manifest: Manifest) -> None:
    container.close()
    manifest.close()


def _cut_short(workspace: Workspace) -> UsageError:
    msg = "files of the unfinished export are shorter than they were"
    hint = f"remove {workspace.partial} and what has its name and more, and begin anew"
    return UsageError(msg, hint=hint, where=str(workspace.partial))


def _other(path: Path | None) -> UsageError:
    msg = "an unfinished export of something else is here"
    hint = "run the command that began it, or give another name with -o"
    return UsageError(msg, hint=hint, where=str(path))


__all__ = ["Checkpoints", "Export"]
