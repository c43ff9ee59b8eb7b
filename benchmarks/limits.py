"""How well Microsoft's limits per mailbox are kept, and how little time keeping them costs.

The emulator enforces the documented limits of one application and mailbox, 10,000 requests in a
sliding window of ten minutes and four in flight, scaled to ``GRANTED`` requests in
``WINDOW_SECONDS``; the engine is configured with the same part of them as by default.

The optimum of a mailbox that needs R requests, of which N are granted per window of W seconds, with
four in flight and a latency of L seconds::

    k = (R - 1) // N                    windows that must pass before the last requests may start
    optimum = max(k * W + (R - k * N) / 4 * L, R / 4 * L)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from atlas_async.config.settings import Limits
from atlas_async.emulator import CorpusOptions
from atlas_async.emulator.throttle import MAILBOX_WINDOW
from benchmarks.paced_engine import ask_emulator, finish, start
from benchmarks.report import Options, Table, median_spread
from benchmarks.servers import microsoft

NAME = "limits"
HELP = "Microsoft's limits per mailbox: time against the optimum, throttled requests, recovery"

DOCUMENTED = 10_000
"""Requests per application, mailbox and window that Microsoft documents."""
IN_FLIGHT = 4
WINDOW_SECONDS = 30.0
GRANTED = 100
LATENCY = 0.01
STORM_AT, STORM_SECONDS, STORM_RETRY_AFTER = 3.0, 5.0, 2
STRUCK = "user0000@contoso.com"
"""The mailbox that is refused alone."""
COLUMNS = (
    "case",
    "granted",
    "requests",
    "optimum s",
    "slowest mailbox s",
    "ratio",
    "slowest other s",
    "refused %",
    "recovered after s",
)
NOTES = (
    (
        "optimum: k = (R - 1) // N windows must pass before the last of a mailbox's R requests may "
        "start, so it is max(k * W + (R - k * N) / 4 * L, R / 4 * L), for N requests granted in W "
        f"seconds, four in flight and a latency L of {LATENCY * 1000:.0f} ms; R as counted."
    ),
    (
        "refused: answers 429 of the limits themselves, in percent of all requests; what the storm "
        "refused is not counted."
    ),
    "recovered: from the storm's end to the first success of the mailbox that came back last.",
    f"slowest other: the slowest mailbox but {STRUCK}, the one that is refused alone.",
    (
        "The engine is configured with 98 % of the documented limit in every case, as by default: "
        "what needs between 98 and 100 % of a number of windows takes one window more."
    ),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is tried.

    Attributes:
        title: What, in words.
        mailboxes: In flight at once.
        messages: Per mailbox; each is a request of its own.
        granted: Requests per window that the engine believes in, before its margin.
        enforced: Requests per window that the server grants.
        window: Seconds of a window.
        storm: Who is refused everything for a while: ``all``, ``one`` mailbox, or nobody.
    """

    title: str
    mailboxes: int
    messages: int
    granted: int = GRANTED
    enforced: int = GRANTED
    window: float = WINDOW_SECONDS
    storm: str = ""


CALM = Case("50 mailboxes, a little over one window", 50, 60)
CASES = (
    CALM,
    replace(CALM, title="the same, one mailbox refused for 5 s", storm="one"),
    replace(CALM, title="the same, all refused for 5 s", storm="all"),
    Case("5 mailboxes, a little over ten windows", 5, 960, window=3.0),
    Case(
        "5 mailboxes, half of the documented limit", 5, 960, granted=1_000, enforced=500, window=8.0
    ),
    Case("5 mailboxes, 99.5 % of two windows", 5, 154, window=8.0),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run showed.

    Attributes:
        seconds: From the start to the end of each mailbox, by name.
        optimum: Of the mailbox that needed most.
        requests: Sent, all together.
        refused: Answered with 429, without those that the storm refused.
        recovered: Seconds from the end of the storm to the last mailbox's next success.
    """

    seconds: Mapping[str, float]
    optimum: float
    requests: int
    refused: int
    recovered: float | None

    @property
    def ratio(self) -> float:
        """The slowest mailbox's time against the optimum."""
        return max(self.seconds.values()) / self.optimum

    @property
    def refused_percent(self) -> float:
        """Requests refused, in percent of those sent."""
        return 100 * self.refused / self.requests


def optimum(requests: int, granted: int, window: float) -> float:
    """Return the shortest time in which the limits allow so many requests of one mailbox."""
    full = (requests - 1) // granted
    last = full * window + (requests - full * granted) / IN_FLIGHT * LATENCY
    return max(last, requests / IN_FLIGHT * LATENCY)


def run(case: Case) -> Outcome:
    """Run one case once."""
    corpus = CorpusOptions.plain(mailboxes=case.mailboxes, messages=case.messages, body_bytes=200)
    behaviour = {
        "latency": LATENCY,
        "throttle": True,
        "time_scale": case.window / MAILBOX_WINDOW,
        "mailbox_requests": case.enforced,
        "mailbox_concurrent": IN_FLIGHT,
    }
    limits = {
        "mailboxes": case.mailboxes,
        "page_size": 1,
        "window_requests": case.granted * Limits().window_requests // DOCUMENTED,
        "window_seconds": case.window,
    }
    with microsoft(corpus, behaviour=behaviour) as served:
        with start(served.settings, limits, own_store=True) as engine:
            refused, ended = _storm(served.settings, case) if case.storm else (0, None)
            figures = finish(engine)
        log = ask_emulator(served.settings, "log")
    mailboxes = figures["mailboxes"]
    needed = max(box["requests"] - box["throttled"] for box in mailboxes)
    return Outcome(
        seconds={box["name"]: box["seconds"] for box in mailboxes},
        optimum=optimum(needed, case.enforced, case.window),
        requests=sum(log["statuses"].values()),
        refused=log["statuses"].get("429", 0) - refused,
        recovered=None if ended is None else _recovered(log["served"], ended),
    )


def _storm(settings: Mapping[str, str], case: Case) -> tuple[int, float]:
    """Refuse requests for a while, once the engine is at work.

    Returns:
        How many were refused, and when it ended, by the monotonic clock of the machine.
    """
    while not ask_emulator(settings, "log")["served"]:
        time.sleep(0.1)
    time.sleep(STORM_AT)
    rule = {
        "status": 429,
        "code": "ApplicationThrottled",
        "retry_after": str(STORM_RETRY_AFTER),
        "mailbox": STRUCK if case.storm == "one" else "",
        "count": -1,
    }
    ask_emulator(settings, "faults", "POST", rule)
    time.sleep(STORM_SECONDS)
    (struck,) = ask_emulator(settings, "faults")["faults"]
    ask_emulator(settings, "faults", "DELETE")
    return struck["fired"], time.monotonic()


def _recovered(served: Sequence[Mapping[str, Any]], ended: float) -> float | None:
    """Return the seconds from ``ended`` to the latest of the mailboxes' first successes.

    None when all was done before the storm ended.
    """
    first: dict[str, float] = {}
    for request in served:
        if request["finished"] >= ended and request["status"] == 200:
            first.setdefault(request["mailbox"], request["finished"] - ended)
    return max(first.values(), default=None)


def measure(options: Options) -> Table:
    """Run every case as often as asked for."""
    quick = [replace(case, mailboxes=2, window=2.0) for case in (CALM, CASES[4])]
    cases = quick if options.quick else CASES
    rows, data = [], []
    for case in cases:
        outcomes = [run(case) for _ in range(options.repeat)]
        rows.append(_row(case, outcomes))
        data.append({"case": asdict(case), "runs": [asdict(outcome) for outcome in outcomes]})
    return Table(
        name=NAME,
        title="Limits per mailbox, enforced by the server: time against what they allow",
        columns=COLUMNS,
        rows=rows,
        notes=NOTES,
        data={"cases": data},
    )


def _row(case: Case, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    others = [
        max(seconds for name, seconds in outcome.seconds.items() if name != STRUCK)
        for outcome in outcomes
    ]
    recovered = [outcome.recovered for outcome in outcomes if outcome.recovered is not None]
    return (
        case.title,
        f"{case.enforced:,} in {case.window:.0f} s",
        f"{statistics.median(outcome.requests for outcome in outcomes):,.0f}",
        median_spread([outcome.optimum for outcome in outcomes], 2),
        median_spread([max(outcome.seconds.values()) for outcome in outcomes], 2),
        median_spread([outcome.ratio for outcome in outcomes], 3),
        median_spread(others, 2),
        median_spread([outcome.refused_percent for outcome in outcomes], 2),
        median_spread(recovered, 2) if recovered else "-",
    )
