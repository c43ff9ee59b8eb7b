"""The engine as a measured program: see ``measured`` for how it is told what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msal  # noqa: F401 -- loaded here, where nothing is measured: it is start-up, not mail

from atlas_async.config.sources import load_settings
from atlas_async.model.report import RunReport
from atlas_async.sdk import Atlas
from benchmarks.measured import Verbs, run

_SUMMED = (
    "messages",
    "stored",
    "deduplicated",
    "unchanged",
    "removed",
    "failed",
    "graph_requests",
    "store_requests",
    "bytes_uploaded",
    "throttled",
    "folders",
)


@asynccontextmanager
async def engine(job: dict[str, Any]) -> AsyncIterator[Verbs]:
    """Open the engine; bucket and key are made here, where nothing is measured yet."""
    settings = load_settings(
        cwd=Path("/nonexistent"),
        home=Path("/nonexistent"),
        environ=job["settings"],
        flags={},
    ).settings
    async with Atlas(settings) as atlas:
        await atlas.backup([])

        async def backup() -> dict[str, Any]:
            return _told(await atlas.backup(None if job.get("everybody") else job["mailboxes"]))

        async def verify() -> dict[str, Any]:
            report = await atlas.verify()
            error = f"verify ends with {report.exit_code}" if report.exit_code else ""
            return {
                "messages": report.messages,
                "attachments": report.attachments,
                "checked": report.ok,
                "error": error,
            }

        yield {"backup": backup, "verify": verify}


def _told(report: RunReport) -> dict[str, Any]:
    told: dict[str, Any] = {
        name: sum(getattr(result, name) for result in report.mailboxes) for name in _SUMMED
    }
    told["attachments"] = sum(
        result.attachments_stored + result.attachments_deduplicated for result in report.mailboxes
    )
    told["bytes"] = told.pop("bytes_uploaded")
    errors = [f"{r.mailbox_id}: {r.error} {r.not_stored[:2]}" for r in report.mailboxes if r.failed]
    errors += [f"{r.mailbox_id}: {r.error}" for r in report.mailboxes if r.error]
    told["error"] = "; ".join(errors) or (f"exit code {report.exit_code}" * bool(report.exit_code))
    return told


if __name__ == "__main__":
    run(engine)
