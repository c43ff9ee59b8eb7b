"""How near a restore comes to what Microsoft's limits allow, whichever of them binds.

Microsoft grants an application and mailbox four requests in flight, 10,000 requests in ten minutes
and 150 MB sent in five minutes. The emulator enforces all three and delays every request by
``LATENCY``. Windows are shortened, and what they grant is not, or in proportion: the ratio between
them is what a case is about. The engine is configured as by default: with 98 % of each window.

The optimum of a restore that sends R requests and B bytes is the largest of::

    R / 4 * LATENCY                                           four in flight
    k * W + (R - k * N) / 4 * LATENCY,  k = (R - 1) // N      N requests granted in W seconds
    (B - 1) // G * V                                          G bytes granted in V seconds
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from atlas_async import Atlas, DirectorySettings, GraphSettings, Secret, Settings
from atlas_async.config.settings import Limits
from atlas_async.emulator import CorpusOptions
from atlas_async.emulator.throttle import MAILBOX_WINDOW, UPLOAD_WINDOW
from atlas_async.model.restoring import Comparing, RestoreOptions, RestoreReport, Step
from atlas_async.operations.restore import RestoreWish
from atlas_async.operations.selection import Selection
from benchmarks.paced_engine import ask_emulator
from benchmarks.report import Options, Table, median_spread
from benchmarks.servers import Core, microsoft, pinning_works

NAME = "restore"
HELP = "restore: time against what Microsoft's limits allow, at 100 ms latency"

LATENCY = 0.1
IN_FLIGHT = 4
DOCUMENTED = 10_000
UPLOAD_BYTES = 150_000_000
MAILBOX = "user0000@contoso.com"
COLUMNS = (
    "case",
    "binds",
    "messages",
    "requests",
    "MB sent",
    "optimum s",
    "seconds",
    "% of the limit",
    "messages/min",
    "refused",
)
NOTES = (
    (
        f"optimum: what the limits allow at {LATENCY * 1000:.0f} ms latency, by the formula in "
        "benchmarks/restore.py; requests and bytes as they were sent."
    ),
    (
        "Only what is created counts: the folder tree is listed, made and read back outside of "
        "it, as its requests are few and follow each other."
    ),
    "Microsoft's own restore is said to reach 200 to 500 items a minute and mailbox.",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is tried.

    Attributes:
        title: What, in words.
        binds: Which limit is expected to.
        messages: How many.
        attached: Bytes of the one file attached to each.
        huge: How many carry a file of ``huge_bytes`` instead.
        granted: Requests per window of requests.
        window: Seconds of that window; that of the bytes is half as long, as Microsoft's is.
    """

    title: str
    binds: str
    messages: int
    attached: int = 0
    huge: int = 0
    huge_bytes: int = 20_000_000
    granted: int = DOCUMENTED
    window: float = MAILBOX_WINDOW


CASES = (
    Case("small messages", "4 in flight", 3_000),
    Case("small messages, many", "requests", 1_000, granted=200, window=12.0),
    Case("files of 2 MB", "bytes", 200, attached=2_000_000, window=60.0),
    Case("files of 20 MB, in ranges", "bytes", 64, huge=64, window=60.0),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run showed."""

    seconds: float
    optimum: float
    messages: int
    requests: int
    sent: int
    refused: int


def optimum(case: Case, requests: int, sent: int) -> float:
    """Return the shortest time in which the limits allow so many requests and bytes."""
    full = (requests - 1) // case.granted
    by_requests = full * case.window + (requests - full * case.granted) / IN_FLIGHT * LATENCY
    scale = case.window / MAILBOX_WINDOW
    by_bytes = (sent - 1) // UPLOAD_BYTES * UPLOAD_WINDOW * scale
    return max(requests / IN_FLIGHT * LATENCY, by_requests, by_bytes)


async def run(case: Case) -> Outcome:
    """Back a mailbox up without limits, then restore it with them."""
    shape = CorpusOptions.plain(mailboxes=1, messages=case.messages, body_bytes=2_000)
    if case.attached or case.huge:
        shape = replace(
            shape,
            attachment_share=1.0 if case.attached else 0.0,
            attachments_most=1,
            attachment_median=case.attached or 1,
            attachment_sigma=0.0,
            duplicate_share=0.0,
            item_share=0.0,
            reference_share=0.0,
            folders=0,
            huge_attachments=case.huge,
            huge_bytes=case.huge_bytes,
        )
    scale = case.window / MAILBOX_WINDOW
    with microsoft(shape) as served, tempfile.TemporaryDirectory() as place, _own_core():
        settings = _settings(served.settings, Path(place), case, scale)
        async with Atlas(settings) as atlas:
            await atlas.backup([MAILBOX])
        ask_emulator(
            served.settings,
            "settings",
            "POST",
            {
                "latency": LATENCY,
                "throttle": True,
                "time_scale": scale,
                "mailbox_requests": case.granted,
                "mailbox_concurrent": IN_FLIGHT,
            },
        )
        async with Atlas(settings) as atlas:
            return await _restore(atlas, case, served.settings)


async def _restore(atlas: Atlas, case: Case, served: Mapping[str, str]) -> Outcome:
    wish = RestoreWish(Selection(mailbox=MAILBOX))
    made = RestoreOptions(comparing=Comparing.NONE)
    # The folders are made by a restore of nothing but them; what follows is what counts.
    nothing = Selection(mailbox=MAILBOX, received_from=datetime(2100, 1, 1, tzinfo=UTC))
    _checked((await atlas.restore([RestoreWish(nothing)], made))[0])
    if case.window < MAILBOX_WINDOW:
        # The server counts that too, and the next restore knows nothing of it.
        await anyio.sleep(case.window)
    ask_emulator(served, "log", "DELETE")
    report = _checked((await atlas.restore([wish], made))[0])
    log = ask_emulator(served, "log")
    writes = [one for one in log["served"] if one["method"] in {"POST", "PUT", "PATCH"}]
    began = min(one["started"] for one in writes)
    ended = max(one["finished"] for one in writes)
    # Looking at folders that hold something already is part of the work, and takes its turn.
    within = [one for one in log["served"] if began <= one["started"] <= ended]
    refused = sum(one["status"] == 429 for one in within)
    return Outcome(
        seconds=ended - began,
        optimum=optimum(case, len(within) - refused, report.bytes_sent),
        messages=report.total(Step.CREATE),
        requests=len(within),
        sent=report.bytes_sent,
        refused=refused,
    )


def _checked(report: RestoreReport) -> RestoreReport:
    if report.exit_code:
        raise RuntimeError(f"the restore ended with {report.exit_code}: {report.error}")
    return report


def _settings(served: Mapping[str, str], place: Path, case: Case, scale: float) -> Settings:
    share = Limits()
    return Settings(
        graph=GraphSettings(
            tenant_id=served["ATLAS_TENANT_ID"],
            client_id=served["ATLAS_CLIENT_ID"],
            credential=Secret(served["ATLAS_CLIENT_SECRET"]),
            authority_url=served["ATLAS_AUTHORITY_URL"],
            graph_url=served["ATLAS_GRAPH_URL"],
        ),
        storage=DirectorySettings(place),
        tenant_id=served["ATLAS_TENANT_ID"],
        passphrase=Secret("a passphrase of the benchmark"),
        limits=replace(
            share,
            window_requests=case.granted * share.window_requests // DOCUMENTED,
            window_seconds=case.window,
            upload_seconds=UPLOAD_WINDOW * scale,
        ),
    )


@contextmanager
def _own_core() -> Iterator[None]:
    """Keep this process off the core of the servers."""
    if not pinning_works():
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[Core.PROGRAM.value]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def measure(options: Options) -> Table:
    """Run every case as often as asked for."""
    quick = [replace(CASES[0], messages=400), replace(CASES[2], messages=5)]
    rows: list[Sequence[str]] = []
    data: list[dict[str, Any]] = []
    for case in quick if options.quick else CASES:
        outcomes = [await run(case) for _ in range(options.repeat)]
        rows.append(_row(case, outcomes))
        data.append({"case": asdict(case), "runs": [asdict(outcome) for outcome in outcomes]})
    return Table(
        name=NAME,
        title="Restore of one mailbox: time against what Microsoft's limits allow",
        columns=COLUMNS,
        rows=rows,
        notes=NOTES,
        data={"cases": data},
    )


def _row(case: Case, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    return (
        case.title,
        case.binds,
        f"{outcomes[0].messages:,}",
        f"{statistics.median(one.requests for one in outcomes):,.0f}",
        f"{statistics.median(one.sent for one in outcomes) / 1e6:,.1f}",
        median_spread([one.optimum for one in outcomes], 2),
        median_spread([one.seconds for one in outcomes], 2),
        median_spread([100 * one.optimum / one.seconds for one in outcomes], 1),
        f"{statistics.median(60 * one.messages / one.seconds for one in outcomes):,.0f}",
        f"{statistics.median(one.refused for one in outcomes):,.0f}",
    )
