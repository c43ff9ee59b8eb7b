"""The folder tree of a synthetic mailbox: well-known, nested, hidden, empty and search folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from atlas_async.emulator.dice import Dice
from atlas_async.emulator.vocabulary import FOLDER_NAMES, LOCALISED

STORE_ROOT: Final = 0
MAIL_ROOT: Final = 1
FIRST_USER_FOLDER: Final = 100
_EMPTY_EVERY: Final = 5
_TWIN_EVERY: Final = 7
_HIDDEN_EVERY: Final = 9


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """One folder of the tree as it is before anybody changes it."""

    number: int
    parent: int
    name: str
    well_known: str | None = None
    hidden: bool = False
    search: bool = False
    messages: int = 0


_WELL_KNOWN: Final = (
    # number, parent, name, well-known name, hidden, share of the messages
    (1, 0, "Top of Information Store", "msgfolderroot", False, 0.0),
    (2, 1, "Inbox", "inbox", False, 0.40),
    (3, 1, "Drafts", "drafts", False, 0.01),
    (4, 1, "Sent Items", "sentitems", False, 0.15),
    (5, 1, "Deleted Items", "deleteditems", False, 0.05),
    (6, 1, "Junk Email", "junkemail", False, 0.02),
    (7, 1, "Outbox", "outbox", False, 0.0),
    (8, 1, "Archive", "archive", False, 0.12),
    (9, 1, "Conversation History", "conversationhistory", True, 0.01),
    (10, 1, "Sync Issues", "syncissues", True, 0.0),
    (11, 10, "Conflicts", "conflicts", True, 0.0),
    (12, 10, "Local Failures", "localfailures", True, 0.0),
    (13, 10, "Server Failures", "serverfailures", True, 0.0),
    (14, 0, "Finder", "searchfolders", False, 0.0),
    (15, 0, "Recoverable Items", "recoverableitemsroot", True, 0.0),
    (16, 15, "Deletions", "recoverableitemsdeletions", True, 0.0),
    (17, 15, "Purges", "recoverableitemspurges", True, 0.0),
)
INBOX: Final = 2
DELETED_ITEMS: Final = 5
DELETIONS: Final = 16
PURGES: Final = 17
_SEARCH_FOLDER: Final = 60


def plan_tree(
    dice: Dice, *, folders: int, depth: int, messages: int, recoverable: int, language: str
) -> list[FolderPlan]:
    """Return the tree, parents first, with ``messages`` spread over it.

    Args:
        dice: The mailbox's own draws.
        folders: User folders beside the well-known ones.
        depth: Greatest nesting below the mail root.
        messages: Messages below the mail root.
        recoverable: Messages in ``recoverableitemsdeletions``, outside the mail root.
        language: Language of the well-known folders' display names.
    """
    drafts = _user_folders(dice, folders, depth)
    shares = [share for *_, share in _WELL_KNOWN]
    spare = max(0.0, 1.0 - sum(shares))
    weights = [
        1.0 / (rank + 1) if rank % _EMPTY_EVERY != _EMPTY_EVERY - 2 else 0.0
        for rank in range(folders)
    ]
    total = sum(weights)
    shares += [spare * weight / total if total else 0.0 for weight in weights]
    counts = _spread(messages, shares)
    names = LOCALISED.get(language, {})
    plans = [FolderPlan(0, -1, "Root", "root", hidden=True)]
    for (number, parent, name, known, hidden, _), count in zip(_WELL_KNOWN, counts, strict=False):
        held = recoverable if number == DELETIONS else count
        shown = names.get(known, name)
        plans.append(FolderPlan(number, parent, shown, known, hidden=hidden, messages=held))
    plans.append(FolderPlan(_SEARCH_FOLDER, MAIL_ROOT, "Unread or Flagged", search=True))
    for (number, parent, name, hidden), count in zip(
        drafts, counts[len(_WELL_KNOWN) :], strict=True
    ):
        plans.append(FolderPlan(number, parent, name, hidden=hidden, messages=count))
    return plans


def _user_folders(dice: Dice, folders: int, depth: int) -> list[tuple[int, int, str, bool]]:
    """Every seventh folder repeats its elder sibling's name, one in nine is hidden."""
    made: list[tuple[int, int, str, bool]] = []
    levels = {INBOX: 1, MAIL_ROOT: 0}
    for index in range(folders):
        number = FIRST_USER_FOLDER + index
        name = f"{dice.pick(FOLDER_NAMES)}{'' if index < len(FOLDER_NAMES) else f' {index}'}"
        parent = dice.pick([INBOX, MAIL_ROOT])
        if made and depth > 1:
            above = made[-1] if index % 2 else dice.pick(made)
            if levels[above[0]] < depth:
                parent = above[0]
        if made and index % _TWIN_EVERY == _TWIN_EVERY - 1:
            _, parent, name, _ = made[-1]
        made.append((number, parent, name, index % _HIDDEN_EVERY == _HIDDEN_EVERY - 1))
        levels[number] = levels[parent] + 1
    return made


def _spread(total: int, shares: Sequence[float]) -> list[int]:
    """Return whole numbers near ``total * share`` that add up to ``total``."""
    scale = sum(shares) or 1.0
    exact = [total * share / scale for share in shares]
    counts = [int(value) for value in exact]
    rest = sorted(range(len(shares)), key=lambda index: counts[index] - exact[index])
    for index in rest[: total - sum(counts)]:
        counts[index] += 1
    return counts
