"""Checkpoints, merges and blocks after a few messages, so that little mail goes through all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHECKPOINT_MESSAGES = 8
SMALL_RUNS = 3
BLOCK_ROWS = 8
SEGMENT_ROWS = 24


def _constants(checkpoint_messages: int) -> list[tuple[Any, str, int]]:
    from atlas_async.catalog import segment, state
    from atlas_async.pipeline import journal, rounds

    return [
        (journal, "CHECKPOINT_MESSAGES", checkpoint_messages),
        (journal, "SMALL_RUNS", SMALL_RUNS),
        (rounds, "WAITING_MESSAGES", checkpoint_messages),
        (segment, "BLOCK_ROWS", BLOCK_ROWS),
        (state, "BLOCK_ROWS", BLOCK_ROWS),
        (state, "SEGMENT_ROWS", SEGMENT_ROWS),
    ]


def take_small_steps(checkpoint_messages: int = CHECKPOINT_MESSAGES) -> list[tuple[Any, str, int]]:
    """Set the constants for the life of the process, and return what they were."""
    before = []
    for module, name, value in _constants(checkpoint_messages):
        before.append((module, name, getattr(module, name)))
        setattr(module, name, value)
    return before


@contextmanager
def small_steps() -> Iterator[None]:
    """Set the constants while the block runs."""
    before = take_small_steps()
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
