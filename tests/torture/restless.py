"""Seeded changes to mailboxes: what people and their programs do while a backup runs."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from atlas_async.emulator.control import Control

LARGE: Final = 1_300_000
"""Bytes of an attachment that goes through a spool."""


class Restless:
    """Changes mailboxes, one drawn change after the other.

    Use it on the emulator's thread. The same seed makes the same changes of the same mailboxes.

    Args:
        control: Of the emulator.
        mailboxes: Which to change.
        dice: Draws.
        most: A mailbox that holds so many messages gets no more.

    ``touched`` are the messages that were changed, for whoever forgets them again.
    """

    def __init__(
        self, control: Control, mailboxes: list[str], dice: Random, *, most: int = 180
    ) -> None:
        self._control = control
        self._mailboxes = mailboxes
        self._dice = dice
        self._most = most
        self._number = 0
        self._gone: list[str] = []
        self.changes = 0
        self.touched: set[str] = set()

    def change(self, count: int) -> None:
        """Make ``count`` changes."""
        for _ in range(count):
            self._change_one()

    def _change_one(self) -> None:
        mailbox = self._dice.choice(self._mailboxes)
        truth = self._control.mailbox_truth(mailbox, content=False)
        folders = [
            folder
            for folder in truth["folders"]
            # The folder delta is silent of mail in the root itself: a listing finds it in a week.
            if folder["belowRoot"] and not folder["search"] and folder["id"] != truth["rootId"]
        ]
        ids = {folder["id"] for folder in folders}
        messages = [m for m in truth["messages"] if m["folderId"] in ids]
        makers: list[tuple[int, Callable[..., dict[str, Any] | None]]] = [
            (5 if len(messages) < self._most else 0, self._create),
            (3 if len(messages) < self._most else 0, self._create_some),
            (2, self._delete),
            (1, self._delete_some),
            (4, self._move),
            (2, self._move_some),
            (3, self._read_some),
            (3, self._update),
            (2, self._folder_create),
            (2, self._folder_rename),
            (1, self._folder_move),
            (1, self._folder_delete),
        ]
        weights = [weight for weight, _ in makers]
        make = self._dice.choices([maker for _, maker in makers], weights)[0]
        change = make(folders, messages)
        if change is None:
            return
        try:
            made = self._control.mutate(mailbox, change)
        except ValueError:
            return  # a folder cannot be moved below itself
        self.touched.update(m["immutableId"] for m in made.get("messages", [made]) if len(m) > 1)
        self.changes += 1

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _folder(self, folders: list[dict[str, Any]]) -> str:
        return str(self._dice.choice(folders)["id"])

    def _own(self, folders: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [folder for folder in folders if not folder["wellKnownName"]]

    def _create(self, folders: list[Any], messages: list[Any]) -> dict[str, Any]:
        number = self._next()
        sizes = [] if self._dice.random() < 0.6 else [self._dice.randint(1, 30_000)]
        if self._dice.random() < 0.04:
            sizes.append(LARGE)
        return {
            "op": "create",
            "folder": self._folder(folders),
            "subject": f"made {number}",
            "body": "x" * self._dice.randint(0, 3_000),
            "attachments": [
                {"name": f"file {number}.bin", "size": size, "seed": self._dice.randint(1, 9)}
                for size in sizes
            ],
        }

    def _create_some(self, folders: list[Any], messages: list[Any]) -> dict[str, Any]:
        return self._create(folders, messages) | {
            "op": "bulk-create",
            "count": self._dice.randint(2, 12),
        }

    def _delete(self, folders: list[Any], messages: list[Any]) -> dict[str, Any] | None:
        if not messages:
            return None
        message = self._dice.choice(messages)["immutableId"]
        return {"op": "delete", "message": message, "hard": self._dice.random() < 0.4}

    def _delete_some(self, folders: list[Any], messages: list[Any]) -> dict[str, Any]:
        return {
            "op": "bulk-delete",
            "folder": self._folder(folders),
            "count": self._dice.randint(1, 6),
            "hard": self._dice.random() < 0.5,
        }

    def _move(self, folders: list[Any], messages: list[Any]) -> dict[str, Any] | None:
        if not messages:
            return None
        message = self._dice.choice(messages)["immutableId"]
        return {"op": "move", "message": message, "folder": self._folder(folders)}

    def _move_some(self, folders: list[Any], messages: list[Any]) -> dict[str, Any]:
        return {
            "op": "bulk-move",
            "folder": self._folder(folders),
            "to": self._folder(folders),
            "count": self._dice.randint(1, 8),
        }

    def _read_some(self, folders: list[Any], messages: list[Any]) -> dict[str, Any]:
        return {
            "op": "bulk-read",
            "folder": self._folder(folders),
            "count": self._dice.randint(1, 15),
        }

    def _update(self, folders: list[Any], messages: list[Any]) -> dict[str, Any] | None:
        if not messages:
            return None
        number = self._next()
        # A body without "cid:" would hide the inline images of a message not backed up before:
        # Graph's flag is silent of them.
        body = f"changed {number}, images cid:{number}"
        patch: dict[str, Any] = self._dice.choice(
            [
                {"flag": {"flagStatus": self._dice.choice(["flagged", "complete"])}},
                {"categories": [f"category {number}"]},
                {"subject": f"changed {number}"},
                {"body": {"contentType": "text", "content": body}},
            ]
        )
        message = self._dice.choice(messages)["immutableId"]
        return {"op": "update", "message": message, "patch": patch}

    def _folder_create(self, folders: list[Any], messages: list[Any]) -> dict[str, Any]:
        # Every other time a name that somebody has just given up.
        known = self._gone and self._dice.random() < 0.5
        name = self._gone.pop() if known else f"folder {self._next()}"
        taken = {folder["displayName"] for folder in folders}
        if name in taken:
            name = f"folder {self._next()}"
        change = {"op": "folder-create", "name": name}
        if self._dice.random() < 0.5:
            change["parent"] = self._folder(folders)
        return change

    def _folder_rename(self, folders: list[Any], messages: list[Any]) -> dict[str, Any] | None:
        own = self._own(folders)
        if not own:
            return None
        chosen = self._dice.choice(own)
        self._gone.append(chosen["displayName"])
        return {"op": "folder-rename", "folder": chosen["id"], "name": f"folder {self._next()}"}

    def _folder_move(self, folders: list[Any], messages: list[Any]) -> dict[str, Any] | None:
        own = self._own(folders)
        if not own:
            return None
        return {
            "op": "folder-move",
            "folder": self._dice.choice(own)["id"],
            "to": self._folder(folders),
        }

    def _folder_delete(self, folders: list[Any], messages: list[Any]) -> dict[str, Any] | None:
        own = self._own(folders)
        if len(own) < 3:
            return None
        chosen = self._dice.choice(own)
        self._gone.append(chosen["displayName"])
        return {
            "op": "folder-delete",
            "folder": chosen["id"],
            "hard": self._dice.random() < 0.5,
        }
