"""The demo's story: two backups, a look, a restore, a check, and what comes next."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread
from rich.text import Text

from atlas_async.cli import session
from atlas_async.cli.demo_tenant import DemoTenant, open_tenant
from atlas_async.cli.documents import Document, summary_document, verify_document
from atlas_async.cli.engine import Engine
from atlas_async.cli.progress_lines import result_line
from atlas_async.cli.reporter import reporter_for
from atlas_async.cli.restore_output import restore_document
from atlas_async.cli.summary import not_stored_line
from atlas_async.cli.tables import findings_table, folders_table, mailboxes_table, snapshots_table
from atlas_async.cli.terminal import Terminal
from atlas_async.cli.terminal_text import visible
from atlas_async.clock import SystemClock
from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, Settings
from atlas_async.model.report import RunReport
from atlas_async.model.restoring import RestoreOptions, RestoreReport, Step
from atlas_async.operations.restore import RestoreWish
from atlas_async.operations.selection import Selection
from atlas_async.operations.verification import VerifyReport

SUBJECTS: Final = 8
"""Subjects shown as a taste, the oddest first."""
REAL_TENANT: Final = """\
For a real tenant, register an application in Entra ID with the application permissions Mail.Read
and User.Read.All, grant admin consent, and set:

  ATLAS_TENANT_ID              its directory id
  ATLAS_CLIENT_ID              the application's id
  ATLAS_CLIENT_SECRET          its secret (or ATLAS_CLIENT_CERTIFICATE)
  ATLAS_S3_ENDPOINT, ATLAS_S3_ACCESS_KEY, ATLAS_S3_SECRET_KEY
                               an S3 store (or ATLAS_STORAGE_URL=file:///a/directory)
  ATLAS_ENCRYPTION_PASSPHRASE  a passphrase; without it a backup cannot be read, by anybody

Then: atlas config show, atlas backup -m you@example.com, atlas backup.
docs/configuration.md lists every setting."""


async def tell(terminal: Terminal, place: Path) -> int:
    """Run the demo in ``place`` and return its exit code: the first that is not 0."""
    story = _Story(terminal, place)
    say = story.say
    await say("1. Starting Microsoft 365 as an emulator on this machine")
    async with open_tenant() as tenant:
        settings = story.settings(tenant)
        await to_thread.run_sync(write_configuration, place, settings)
        await say(f"   {tenant.graph.graph_url}, {tenant.description}", quiet=True)
        async with session.open_atlas(settings) as engine:
            await say("2. First backup: every folder, message and attachment, sealed and stored")
            first = await story.backup(engine)
            await say("3. Some mail changes")
            for change in tenant.change_mail():
                await say(f"   {change}", quiet=True)
            await say("4. Second backup: only what changed")
            second = await story.backup(engine)
            await say("5. What is in the bucket now")
            await story.look(engine)
            await say("6. Mail is deleted by mistake, and restored to where it was")
            mailbox, lost = tenant.lose_mail()
            await say(f"   {lost}", quiet=True)
            restored = await story.restore(engine, mailbox)
            await say("7. Verification: every object is read, decrypted and checked")
            checked = await story.verify(engine)
    await story.end(first, second, restored, checked)
    ended = (first, second, restored, checked)
    return next((report.exit_code for report in ended if report.exit_code), 0)


class _Story:
    """The telling: what is done and what is said about it."""

    def __init__(self, terminal: Terminal, place: Path) -> None:
        self._terminal = terminal
        self._place = place
        self._clock = SystemClock()

    def settings(self, tenant: DemoTenant) -> Settings:
        """Return settings for the emulated tenant and a directory store in the demo's place."""
        return Settings(
            graph=tenant.graph,
            storage=DirectorySettings(self._place / "store"),
            tenant_id=tenant.graph.tenant_id,
            passphrase=Secret(secrets.token_urlsafe(24)),
        )

    async def say(self, text: str, *, quiet: bool = False) -> None:
        """Write a line of the story; headings stand out."""
        line = Text(text, style="" if quiet else "bold")
        await to_thread.run_sync(self._terminal.remark, line)

    async def backup(self, engine: Engine) -> RunReport:
        """Back up all mailboxes under the usual progress display, and say how it went."""
        reporter = reporter_for(self._terminal, self._clock)
        async with anyio.create_task_group() as tasks, engine.events() as events:
            tasks.start_soon(reporter.follow, events)
            report = await engine.backup()
            tasks.cancel_scope.cancel()
        await reporter.finish(report)
        for result in report.mailboxes:
            for item in result.not_stored:
                await self.say(f"   {result_line(result)}: {not_stored_line(item)}", quiet=True)
        return report

    async def look(self, engine: Engine) -> None:
        """Show mailboxes, one mailbox's snapshots, its folders and some subjects."""
        if self._terminal.json or self._terminal.quiet:
            return
        mailboxes = await engine.list_mailboxes()
        await self._show("atlas list", lambda: self._terminal.show(mailboxes_table(mailboxes)))
        mailbox = max(mailboxes, key=lambda box: box.snapshots).mailbox_id
        snapshots = await engine.list_snapshots(mailbox)
        await self._show(
            f"atlas list -m {mailbox}", lambda: self._terminal.show(snapshots_table(snapshots))
        )
        newest = snapshots[-1].snapshot_id
        view = await engine.open_snapshot(newest, mailbox)
        await self._show(
            f"atlas list -s {newest}", lambda: self._terminal.show(folders_table(view.folders))
        )
        found = [record["subject"] async for record in view.messages()]
        odd = sorted(set(found), key=lambda text: (text.isascii(), text))[:SUBJECTS]
        lines = Text("\n".join(f"  {visible(subject)}" for subject in odd))
        await self._show(
            f"some subjects of atlas list -s {newest} --all -S",
            lambda: self._terminal.show(lines),
        )

    async def restore(self, engine: Engine, mailbox: str) -> RestoreReport:
        """Bring back what the inbox lacks, and say how it went."""
        wish = RestoreWish(Selection(mailbox=mailbox, folders=("inbox",), subtree=False))
        (report,) = await engine.restore([wish], RestoreOptions(in_place=True))
        read_back = report.comparison
        same = read_back is not None and read_back.equal
        await self.say(
            f"   {report.total(Step.CREATE)} created, {report.total(Step.SKIP)} there still; "
            f"read back and compared: {'all as they were' if same else 'not all as they were'}",
            quiet=True,
        )
        if report.error:
            await self.say(f"   {report.error}", quiet=True)
        return report

    async def verify(self, engine: Engine) -> VerifyReport:
        """Check the bucket and show what is wrong with it, if anything."""
        report = await engine.verify()
        for findings in (report.damaged, report.missing, report.foreign):
            if findings:
                await to_thread.run_sync(self._terminal.remark, findings_table(findings))
        await self.say(
            f"   {report.checked} objects checked: {report.ok} as written, "
            f"{len(report.damaged)} damaged, {len(report.missing)} missing, "
            f"{len(report.foreign)} foreign",
            quiet=True,
        )
        return report

    async def end(
        self,
        first: RunReport,
        second: RunReport,
        restored: RestoreReport,
        checked: VerifyReport,
    ) -> None:
        """Say where things are and what to set for a real tenant."""
        config = self._place / "atlas.config.json"
        if self._terminal.json:
            document: Document = {
                "directory": str(self._place),
                "config": str(config),
                "backups": [summary_document(first), summary_document(second)],
                "restore": restore_document(restored),
                "verify": verify_document(checked),
            }
            await to_thread.run_sync(self._terminal.document, document)
            return
        lines = (
            "",
            f"The backup stays in {self._place}; the emulator has stopped. Look around with:",
            f"  atlas list --config {config}",
            f"  atlas find plan --subjects --config {config}",
            f"  atlas save -o demo-mail --config {config}",
            f"  atlas verify --config {config}",
            "",
            REAL_TENANT,
        )
        await to_thread.run_sync(self._terminal.show, *lines)

    async def _show(self, title: str, show: Callable[[], None]) -> None:
        await self.say(f"   {title}", quiet=True)
        await to_thread.run_sync(show)


def write_configuration(place: Path, settings: Settings) -> None:
    """Write what ``--config`` needs to read the demo's backup: a configuration and a key file.

    Both are readable by their owner alone. Blocking.
    """
    passphrase = place / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text(settings.passphrase.reveal() + "\n", encoding="utf-8")
    config = place / "atlas.config.json"
    config.touch(mode=0o600)
    document = {
        "tenant_id": settings.tenant_id,
        "storage_url": (place / "store").as_uri(),
        "encryption_passphrase_file": str(passphrase),
    }
    config.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
