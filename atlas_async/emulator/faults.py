"""Faults on demand: rules that make matching requests fail in the ways Graph is known to."""

from __future__ import annotations

import random
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

ACTIONS: Final = frozenset(
    {
        "error",
        "reset",
        "reset-mid",
        "truncate",
        "garbage",
        "control",
        "stall",
        "silence",
        "redirect",
    }
)
COMMITS: Final = frozenset({"never", "before", "later"})


@dataclass(slots=True)
class FaultRule:
    """One rule. It fires for requests whose method, path and mailbox match.

    ``action`` is one of: ``error`` (``status``, ``code``, ``message``; no code gives an empty
    body), ``reset`` (connection closed before the answer), ``reset-mid`` (closed within the body),
    ``truncate`` (half the body, well-formed HTTP), ``garbage`` (not JSON), ``control`` (raw control
    characters in the JSON), ``stall`` (``delay`` seconds, then the plain answer), ``silence``
    (no answer until the client gives up) or ``redirect`` (to ``location``).

    ``commit`` says when the request of an ``error``, ``reset``, ``silence`` or ``redirect`` is
    carried out all the same: ``never``, ``before`` the answer, or ``later``, when the first
    request arrives ``commit_delay`` seconds after it. The other actions spoil a real answer, so
    their request is always carried out.

    ``method`` and ``path`` are regular expressions, searched in the decoded path; ``mailbox`` is a
    user principal name. The rule skips the first ``after`` matches, then fires ``count`` times
    (negative: always), each with ``probability`` drawn from ``seed``. ``retry_after`` is the
    header's value, ``date`` for a date two seconds ahead, or empty.
    """

    action: str = "error"
    method: str = ""
    path: str = ""
    mailbox: str = ""
    status: int = 503
    code: str = ""
    message: str = "The service is unavailable."
    retry_after: str = ""
    location: str = ""
    delay: float = 0.0
    commit: str = "never"
    commit_delay: float = 0.0
    after: int = 0
    count: int = 1
    probability: float = 1.0
    seed: int = 0
    fired: int = 0

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FaultRule:
        """Return a rule. Raises ``ValueError`` for unknown fields, actions or expressions."""
        known = {item.name for item in fields(cls)} - {"fired"}
        unknown = set(values) - known
        if unknown:
            raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}")
        rule = cls(**values)
        rule.check()
        return rule

    def check(self) -> None:
        """Raise ``ValueError`` when the rule makes no sense."""
        if self.action not in ACTIONS:
            raise ValueError(f"unknown action: {self.action}")
        if self.commit not in COMMITS:
            raise ValueError(f"unknown commit: {self.commit}")
        for pattern in (self.method, self.path):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"not a regular expression: {pattern}") from error


class FaultBook:
    """The rules in force, oldest first; the first that fires decides."""

    def __init__(self) -> None:
        self._rules: list[FaultRule] = []
        self._chance: dict[int, random.Random] = {}

    def add(self, rule: FaultRule) -> None:
        """Put a rule in force. Raises ``ValueError`` when it makes no sense."""
        rule.check()
        self._rules.append(rule)
        self._chance[id(rule)] = random.Random(rule.seed)

    def clear(self) -> None:
        """Drop all rules."""
        self._rules.clear()
        self._chance.clear()

    def as_json(self) -> list[dict[str, Any]]:
        """Return the rules with how often each has fired."""
        return [asdict(rule) for rule in self._rules]

    def fire(self, method: str, path: str, mailbox: str) -> FaultRule | None:
        """Return the rule that breaks this request, or None."""
        for rule in self._rules:
            if not _matches(rule, method, path, mailbox):
                continue
            if rule.after > 0:
                rule.after -= 1
                continue
            if 0 <= rule.count <= rule.fired:
                continue
            if self._chance[id(rule)].random() >= rule.probability:
                continue
            rule.fired += 1
            return rule
        return None


def _matches(rule: FaultRule, method: str, path: str, mailbox: str) -> bool:
    if rule.mailbox and rule.mailbox.lower() != mailbox.lower():
        return False
    if rule.method and re.fullmatch(rule.method, method) is None:
        return False
    return not rule.path or re.search(rule.path, path, re.IGNORECASE) is not None
