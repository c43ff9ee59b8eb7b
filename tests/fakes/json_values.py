"""Strategies for JSON: any value, and damage done to a valid document."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st


def joined(text: str) -> str:
    """Join pairs of surrogates, as every JSON parser does; lone ones stay."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


TEXTS = st.text(st.characters(exclude_categories=()), max_size=20).map(joined)
"""Text with control characters and lone surrogates."""

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)

VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
"""Any JSON value."""

ODD_VALUES = VALUES | st.sampled_from(
    [float("inf"), float("-inf"), float("nan"), 10**400, -1, "", "x", "0", [], {}, [[]], True]
)
"""Values that parsers hand over, the tolerant one's infinities included."""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside ``value``."""
    found = [path]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found += places(inner, (*path, number))
    return found


@st.composite
def mutations(draw: st.DrawFn, document: Any) -> Any:
    """Draw ``document`` with one to three values replaced or taken out."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(changed)))
        if not path:
            changed = draw(ODD_VALUES)
            continue
        holder = changed
        for step in path[:-1]:
            holder = holder[step]
        if draw(st.booleans()):
            holder[path[-1]] = draw(ODD_VALUES)
        else:
            del holder[path[-1]]
    return changed
