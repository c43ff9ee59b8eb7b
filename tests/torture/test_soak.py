"""The long run in short: a few simulated weeks in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from atlas_async.emulator import Corpus, Emulator
from tests.torture.soak import CRITERIA, Director, Plan, verdict
from tests.torture.soak_audit import open_auditor
from tests.torture.soak_engine import Daemon, Job
from tests.torture.soak_tenant import Tenant, corpus

SHORT = Plan(mailboxes=2, messages=10, fault_rate=0.02, weeks=4, samples=1, spread=False)


@asynccontextmanager
async def opened(place: Path, leak: Callable[[], None] = lambda: None) -> AsyncIterator[Director]:
    """Give a director over an emulator and a daemon in this process."""
    for name in ("spool", "truths"):
        (place / name).mkdir()
    async with Emulator(Corpus(corpus(SHORT.mailboxes, SHORT.messages, SHORT.seed))) as emulator:
        tenant = emulator.tenant
        graph = {
            "tenant_id": str(tenant.id),
            "client_id": tenant.client_id,
            "client_secret": tenant.client_secret,
            "authority_url": emulator.authority_url,
            "graph_url": emulator.graph_url,
        }
        job = Job(graph, {"path": str(place / "store")}, str(place / "spool"))
        async with (
            Daemon(job, leak=leak) as daemon,
            open_auditor(job.settings(), place / "truths", SHORT.seed) as auditor,
        ):
            yield Director(SHORT, Tenant(graph["graph_url"]), daemon.ask, auditor, print)


NOT_HERE = {"rss_mib", "objects", "quiet_ms", "stored", "orphans", "children"}
"""The emulator lives in this process too and remembers what was, servers of other tests may be its
children, and four weeks are few."""
HERE = [criterion for criterion in CRITERIA if criterion.column not in NOT_HERE]


async def test_weeks_of_faulty_nights_leave_nothing_behind(tmp_path: Path) -> None:
    """Nights with faults, stops and cancelled runs leave only snapshots behind, exact ones.

    Descriptors, tasks, threads, files and the package's objects are those of the second week.
    """
    async with opened(tmp_path) as director:
        await director.run()
        held, lines = verdict(director.weeks, director.broken, HERE)
        assert held, "\n".join(lines)
        assert director.auditor.checked >= 2 * SHORT.weeks - 1
