"""Size: many attachments, mail in mail, large files in many mailboxes, many messages, many guests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.size import (
    MIB,
    guests_among_users,
    large_at_once,
    many_attachments,
    many_messages,
    nested_mail,
)


@pytest.mark.parametrize("size", [3_000, 10_000], ids=["in one answer", "asked for singly"])
async def test_five_hundred_attachments_on_one_message(size: int) -> None:
    """All are stored, exact and in order; flags ask for none of them, one more for itself."""
    figures = dict((await many_attachments(500, size)).rows)
    assert figures["stored, each exact and in order"] == "500"


async def test_mail_in_mail_in_mail_is_stored_as_value_gives_it() -> None:
    """Item attachments nest as deep as they like; the bytes are those of ``$value``."""
    await nested_mail(6)


async def test_large_attachments_in_six_mailboxes_at_once_keep_to_the_budget(
    tmp_path: Path,
) -> None:
    """120 MB arrive at once: bytes leased stay within 16 MiB, and all are given back (I5)."""
    await large_at_once(6, 20_000_000, 16 * MIB, tmp_path)


async def test_rows_held_in_memory_do_not_follow_the_number_of_messages() -> None:
    """Rows go to segments at checkpoints, so memory holds two checkpoints' of them at most."""
    await many_messages(8_000, checkpoint=800)


async def test_guests_cost_one_request_each_and_no_exit_code() -> None:
    """31 guests among 8 mailboxes: 8 are backed up, 31 said to have none, once, exit code 0."""
    await guests_among_users(31, 8)
