"""``$filter``: comparisons joined by and, or and not, over JSON resources."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from atlas_async.emulator.calls import Refusal
from atlas_async.emulator.properties import NATIVE, SINGLE, property_id

_TOKEN: Final = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<mark>[(),])|(?P<word>[^\s(),']+))")
_COMPARISONS: Final[dict[str, Callable[[int], bool]]] = {
    "eq": lambda order: order == 0,
    "ne": lambda order: order != 0,
    "gt": lambda order: order > 0,
    "ge": lambda order: order >= 0,
    "lt": lambda order: order < 0,
    "le": lambda order: order <= 0,
}
_FUNCTIONS: Final = frozenset({"startswith", "endswith", "contains"})
_MISSING: Final = object()
_ANY: Final = f"{SINGLE}/any".lower()
_VARIABLE: Final = re.compile(r"(\w+):(.*)")
_CASTS: Final[dict[str, Callable[[str], Any]]] = {
    "edm.boolean": lambda text: text.lower() == "true",
    "edm.datetimeoffset": str,
    "edm.double": float,
    "edm.int16": int,
    "edm.int32": int,
    "edm.int64": int,
    "edm.string": str,
}

Test = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter.

    ``equalities`` are the properties that must equal a text, when all of the filter is joined by
    ``and``; they allow a lookup instead of a scan, and so does ``sought``, an extended property
    and its value. ``extended`` are the ids of the extended properties that the test looks at; the
    resource must show them.
    """

    test: Test
    equalities: dict[str, str]
    extended: tuple[str, ...] = ()
    sought: tuple[str, str] | None = None


def parse_filter(text: str) -> Filter:
    """Return the filter. Raises ``Refusal`` (400) for what is not understood."""
    parser = _Parser(text)
    test = parser.alternatives()
    if parser.peek() is not None:
        raise _invalid(text)
    alone = not parser.disjoint
    return Filter(
        test,
        parser.equalities if alone else {},
        tuple(parser.extended),
        parser.sought if alone else None,
    )


def matches(wanted: Filter, resource: dict[str, Any]) -> bool:
    """Whether a resource passes the filter."""
    return wanted.test(resource)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[str] = []
        self._at = 0
        self.equalities: dict[str, str] = {}
        self.disjoint = False
        self.extended: dict[str, None] = {}
        self.sought: tuple[str, str] | None = None
        self._variable = ""
        self._asked: list[str] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise _invalid(text)
            self._tokens.append(match.group().strip())
            position = match.end()

    def peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def alternatives(self) -> Test:
        tests = [self._conjunction()]
        while (self.peek() or "").lower() == "or":
            self._next()
            self.disjoint = True
            tests.append(self._conjunction())
        return lambda resource: any(test(resource) for test in tests)

    def _conjunction(self) -> Test:
        tests = [self._term()]
        while (self.peek() or "").lower() == "and":
            self._next()
            tests.append(self._term())
        return lambda resource: all(test(resource) for test in tests)

    def _term(self) -> Test:
        first = self._next()
        lowered = first.lower()
        if lowered == "not":
            self.disjoint = True
            inner = self._term()
            return lambda resource: not inner(resource)
        if first == "(":
            inner = self.alternatives()
            self._expect(")")
            return inner
        if lowered in _FUNCTIONS:
            return self._function(lowered)
        if lowered == _ANY:
            return self._any()
        convert = self._cast() if lowered == "cast" else None
        field = f"{self._variable}/value" if convert is not None else first
        operator = self._next().lower()
        if operator not in _COMPARISONS:
            raise _invalid(self._text)
        if self._variable and field == f"{self._variable}/id":
            return self._identity(operator)
        value = _literal(self._next(), self._text)
        if convert is not None:
            return _comparison(field, _COMPARISONS[operator], value, convert)
        if operator == "eq" and isinstance(value, str):
            self.equalities[first] = value
        return _comparison(first, _COMPARISONS[operator], value)

    def _function(self, name: str) -> Test:
        self._expect("(")
        field = self._next()
        self._expect(",")
        value = _literal(self._next(), self._text)
        self._expect(")")
        wanted = str(value).lower()

        def test(resource: dict[str, Any]) -> bool:
            held = _value(resource, field)
            held_text = str(held).lower() if isinstance(held, str) else ""
            if name == "startswith":
                return held_text.startswith(wanted)
            return held_text.endswith(wanted) if name == "endswith" else wanted in held_text

        return test

    def _any(self) -> Test:
        """Parse ``(ep: <condition on ep/id and ep/value>)`` after ``.../Any``."""
        if self._variable:
            raise _invalid(self._text)
        self._expect("(")
        match = _VARIABLE.fullmatch(self._next())
        if match is None:
            raise _invalid(self._text)
        if match[2]:
            self._at -= 1
            self._tokens[self._at] = match[2]
        outer = self.equalities, self.disjoint
        self.equalities, self.disjoint, self._variable = {}, False, match[1]
        self._asked = []
        inner = self.alternatives()
        self._expect(")")
        variable, self._variable = self._variable, ""
        if not self._asked:
            raise _invalid(self._text)
        value = self.equalities.get(f"{variable}/value")
        name, alone = self._asked[0], len(self._asked) == 1 and not self.disjoint
        if alone and value is not None and name not in NATIVE:
            self.sought = name, value
        self.equalities, self.disjoint = outer
        return lambda resource: any(inner({variable: p}) for p in resource.get(SINGLE) or ())

    def _identity(self, operator: str) -> Test:
        """Parse the rest of ``ep/id eq '...'``; ids are compared in their normal form."""
        token = self._next()
        if operator != "eq" or not token.startswith("'"):
            raise _invalid(self._text)
        name, variable = property_id(str(_literal(token, self._text))), self._variable
        self.extended[name] = None
        self._asked.append(name)
        return lambda resource: bool(resource[variable]["id"] == name)

    def _cast(self) -> Callable[[str], Any]:
        """Parse the rest of ``cast(ep/value, Edm.Int32)``."""
        self._expect("(")
        field = self._next()
        self._expect(",")
        kind = self._next().lower()
        self._expect(")")
        if not self._variable or field != f"{self._variable}/value" or kind not in _CASTS:
            raise _invalid(self._text)
        return _CASTS[kind]

    def _next(self) -> str:
        token = self.peek()
        if token is None:
            raise _invalid(self._text)
        self._at += 1
        return token

    def _expect(self, mark: str) -> None:
        if self._next() != mark:
            raise _invalid(self._text)


def _comparison(
    field: str,
    accept: Callable[[int], bool],
    value: Any,
    convert: Callable[[str], Any] | None = None,
) -> Test:
    def test(resource: dict[str, Any]) -> bool:
        held = _value(resource, field)
        if held is _MISSING:
            raise _invalid(field)
        if convert is not None:
            try:
                held = convert(held)
            except ValueError:
                return False
        left, right = _comparable(held), _comparable(value)
        if left is None or right is None or type(left) is not type(right):
            return accept(0 if left == right else 1) if accept(0) != accept(1) else False
        return accept((left > right) - (left < right))

    return test


def _comparable(value: Any) -> Any:
    if isinstance(value, str):
        moment = _moment(value)
        return moment if moment is not None else value.lower()
    return value


def _moment(text: str) -> datetime | None:
    if len(text) < len("2000-01-01") or text[4:5] != "-" or not text[:4].isdigit():
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else datetime.fromisoformat(text + "T00:00:00Z")


def _value(resource: dict[str, Any], field: str) -> Any:
    value: Any = resource
    for name in field.split("/"):
        if not isinstance(value, dict) or name not in value:
            return _MISSING
        value = value[name]
    return value


def _literal(token: str, text: str) -> Any:
    if token.startswith("'"):
        return token[1:-1].replace("''", "'")
    words = {"true": True, "false": False, "null": None}
    if token.lower() in words:
        return words[token.lower()]
    if token.lstrip("-").isdecimal():
        return int(token)
    if _moment(token) is None:
        raise _invalid(text)
    return token


def _invalid(text: str) -> Refusal:
    return Refusal(400, "BadRequest", f"Invalid filter clause: {text}")
