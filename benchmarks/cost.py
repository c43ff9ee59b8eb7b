"""What backups cost at scale: requests, dollars and hours, by arithmetic alone.

Nothing is measured and nothing is asked of a network: the same assumptions give the same table.
"""

from __future__ import annotations

from dataclasses import asdict

from atlas_async.catalog.layout import CATALOG_PREFIX
from benchmarks.cost_assumptions import (
    ATTACHMENTS,
    ATTACHMENTS_EACH,
    FOLDERS,
    KIB,
    LIMITS,
    MAILBOX_MESSAGES,
    MESSAGES,
    MIB,
    OTHER_DAYS,
    PACKING,
    PRICES_READ,
    PROVIDERS,
    REPEATED,
    REQUEST_SECONDS,
    WITH_ATTACHMENTS,
    WORKING_DAYS,
)
from benchmarks.cost_cases import Case, cases
from benchmarks.report import Options, Table

NAME = "cost"
HELP = "requests, dollars and hours at scale, for one object a message and for packs (simulated)"


def measure(_: Options) -> Table:
    """Return the table. Deterministic; nothing is asked of anybody."""
    found = cases()
    return Table(
        name=NAME,
        title=f"Cost at scale, simulated; US dollars at list prices read {PRICES_READ}",
        columns=["what", "layout", "PUT", "LIST", "GET+HEAD"]
        + [f"{provider.name} $" for provider in PROVIDERS]
        + ["Graph requests", "hours"],
        rows=[_row(case) for case in found],
        notes=_notes(),
        data={
            "prices": [asdict(provider) for provider in PROVIDERS],
            "prices_read": PRICES_READ,
            "cases": [
                asdict(case)
                | {"dollars": dict(zip((p.name for p in PROVIDERS), case.dollars(), strict=True))}
                for case in found
            ],
        },
    )


def _row(case: Case) -> list[str]:
    asked = case.asked
    counts = [f"{n:,.0f}" for n in (asked.put, asked.lists, asked.get + asked.head)]
    graph = f"{case.graph:,.0f}" if case.graph else "-"
    took = f"{case.hours:,.1f}" if case.graph else "-"
    counts = counts if any(asdict(case.asked).values()) else ["-"] * 3
    return [case.what, case.layout, *counts, *(f"{d:,.2f}" for d in case.dollars()), graph, took]


def _notes() -> list[str]:
    attached = WITH_ATTACHMENTS * ATTACHMENTS_EACH * ATTACHMENTS.mean
    weight, kept = MESSAGES.mean + attached, MESSAGES.mean + (1 - REPEATED) * attached
    mail = (
        f"Messages: log-normal, median {MESSAGES.median / KIB:.0f} KiB, sigma {MESSAGES.sigma}; "
        f"{WITH_ATTACHMENTS:.0%} have {ATTACHMENTS_EACH:.0f} attachments, median "
        f"{ATTACHMENTS.median / KIB:.0f} KiB, sigma {ATTACHMENTS.sigma}; {REPEATED:.0%} of these "
        f"are in the mailbox already. A message weighs {weight / KIB:.0f} KiB, of which "
        f"{kept / KIB:.0f} KiB are stored."
    )
    limits = (
        f"{MAILBOX_MESSAGES:,} messages and {FOLDERS} folders a mailbox; "
        f"{LIMITS.mailboxes} mailboxes at once, {LIMITS.requests_per_mailbox} requests each, "
        f"{REQUEST_SECONDS} s a request, {LIMITS.window_requests:,} in "
        f"{LIMITS.window_seconds / 60:.0f} minutes."
    )
    packs = (
        f"Packs: {PACKING.pack // MIB} MiB; objects of {PACKING.alone // MIB} MiB and more stay "
        f"alone; rewritten when less than {PACKING.rewritten_at:.0%} is in use. No such layout "
        "exists."
    )
    month = (
        f"A month: {WORKING_DAYS} working days and {OTHER_DAYS} quiet ones; storage of the "
        f"{MAILBOX_MESSAGES:,} messages that each mailbox began with."
    )
    state = (
        f"Objects below {CATALOG_PREFIX} count as requests and not as storage: they are a few "
        "hundred bytes a message."
    )
    return [
        mail,
        limits,
        packs,
        month,
        state,
        "No free allowances, no volume discounts, no transfer to the Internet.",
    ]
