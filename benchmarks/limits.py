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
from collections import Counter
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
STORM_AT, STORM_SECONDS, STORM_RETRY_AFTER = 10.0, 5.0, 2
STRUCK = "user0000@contoso.com"
"""The mailbox that is refused alone."""
COLUMNS = (
    "case",
    "granted",
    "requests",
    "optimum s",
    "slowest mailbox s",
    "slowest other s",
    "ratio",
    "refused %",
    "storm refused",
    "back after s",
    "pace then %",
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
    (
        f"storm: for {STORM_SECONDS:.0f} s, from {STORM_AT:.0f} s on, every request is refused "
        f"with Retry-After: {STORM_RETRY_AFTER}; each mailbox struck was refused at least once. "
        "What it costs is not in the optimum, so the ratio is of the mailboxes not struck."
    ),
    "back: from the storm's end to the first success of the mailbox that came back last.",
    (
        "pace then: successes in the second window after the storm's end, of the mailbox with the "
        "fewest that had as much left to ask, in percent of what the engine may ask in a window."
    ),
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
LONG = Case(
    "50 mailboxes, a little over five windows", 50, 170, granted=40, enforced=40, window=6.0
)
CASES = (
    CALM,
    LONG,
    replace(LONG, title="the same, one mailbox struck by a storm", storm="one"),
    replace(LONG, title="the same, all struck by a storm", storm="all"),
    Case("5 mailboxes, a little over ten windows", 5, 960, window=3.0),
    Case(
        "5 mailboxes, half of the documented limit", 5, 960, granted=1_000, enforced=500, window=8.0
    ),
    Case("5 mailboxes, 99.5 % of two windows", 5, 154, window=8.0),
)


@dataclass(frozen=True, slots=True)
class Storm:
    """What a storm did.

    Attributes:
        refused: Requests that it refused.
        back: Seconds from its end to the last mailbox's next success.
        pace: Fewest successes of a mailbox in the second window after its end, of those that had
            more to ask, in percent of what the engine may ask.
    """

    refused: int
    back: float
    pace: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run showed.

    Attributes:
        seconds: From the start to the end of each mailbox, by name.
        optimum: Of the mailbox that needed most.
        requests: Sent, all together.
        refused: Answered with 429, without those that the storm refused.
        storm: What the storm did, if there was one.
    """

    seconds: Mapping[str, float]
    optimum: float
    requests: int
    refused: int
    storm: Storm | None

    @property
    def slowest_other(self) -> float:
        """The time of the slowest mailbox that is never refused alone."""
        return max(seconds for name, seconds in self.seconds.items() if name != STRUCK)

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
            span = _strike(served.settings, case) if case.storm else None
            figures = finish(engine)
        log = ask_emulator(served.settings, "log")
    storm = None if span is None else told(case, log["served"], *span)
    mailboxes = figures["mailboxes"]
    needed = max(box["requests"] - box["throttled"] for box in mailboxes)
    return Outcome(
        seconds={box["name"]: box["seconds"] for box in mailboxes},
        optimum=optimum(needed, case.enforced, case.window),
        requests=sum(log["statuses"].values()),
        refused=log["statuses"].get("429", 0) - (storm.refused if storm else 0),
        storm=storm,
    )


def _strike(settings: Mapping[str, str], case: Case) -> tuple[int, float, float]:
    """Refuse requests for a while, once the engine is at work.

    Returns:
        How many were refused, and when it began and ended, by the monotonic clock of the machine.
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
    began = time.monotonic()
    ask_emulator(settings, "faults", "POST", rule)
    time.sleep(STORM_SECONDS)
    (struck,) = ask_emulator(settings, "faults")["faults"]
    ask_emulator(settings, "faults", "DELETE")
    return struck["fired"], began, time.monotonic()


def told(
    case: Case, served: Sequence[Mapping[str, Any]], refused: int, began: float, ended: float
) -> Storm:
    """Return what a storm did, by the requests the server remembers.

    Raises:
        RuntimeError: It did not strike whom it was to strike, or nothing was left to ask after it.
    """
    names = {request["mailbox"] for request in served} - {""}
    struck = {STRUCK} if case.storm == "one" else names
    hit = {
        request["mailbox"]
        for request in served
        if request["status"] == 429 and began <= request["finished"] <= ended
    }
    if not struck <= hit:
        raise RuntimeError(f"{len(struck - hit)} mailboxes were not struck by the storm")
    back: dict[str, float] = {}
    then: Counter[str] = Counter()
    later: Counter[str] = Counter()
    for request in served:
        after = request["finished"] - ended
        if after < 0 or request["status"] != 200 or request["mailbox"] not in struck:
            continue
        back.setdefault(request["mailbox"], after)
        then[request["mailbox"]] += case.window <= after < 2 * case.window
        later[request["mailbox"]] += after >= 2 * case.window
    asked = case.granted * Limits().window_requests // DOCUMENTED
    paces = [100 * then[name] / asked for name in struck if later[name] >= asked]
    if not paces:
        raise RuntimeError("no mailbox had enough left to ask after the storm")
    return Storm(refused, max(back.values()), min(paces))


def measure(options: Options) -> Table:
    """Run every case as often as asked for."""
    quick = [replace(CALM, mailboxes=2, window=2.0), replace(CASES[2], mailboxes=2)]
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
    storms = [outcome.storm for outcome in outcomes if outcome.storm is not None]
    slowest = [max(outcome.seconds.values()) for outcome in outcomes]
    counted = [outcome.slowest_other for outcome in outcomes] if case.storm else slowest
    ratios = [seconds / one.optimum for seconds, one in zip(counted, outcomes, strict=True)]
    return (
        case.title,
        f"{case.enforced:,} in {case.window:.0f} s",
        f"{statistics.median(outcome.requests for outcome in outcomes):,.0f}",
        median_spread([outcome.optimum for outcome in outcomes], 2),
        median_spread(slowest, 2),
        median_spread([outcome.slowest_other for outcome in outcomes], 2),
        "-" if case.storm == "all" else median_spread(ratios, 3),
        median_spread([outcome.refused_percent for outcome in outcomes], 2),
        median_spread([storm.refused for storm in storms], 0) if storms else "-",
        median_spread([storm.back for storm in storms], 2) if storms else "-",
        median_spread([storm.pace for storm in storms], 0) if storms else "-",
    )
