"""The control interface: truth, changes, faults and switches, in process or over HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from atlas_async.emulator.behaviour import PACE
from atlas_async.emulator.faults import FaultBook, FaultRule
from atlas_async.emulator.ids import MalformedId
from atlas_async.emulator.journal import Journal
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.mutations import apply_change, find_folder
from atlas_async.emulator.records import NotHere, Trouble
from atlas_async.emulator.tokens import TokenDesk
from atlas_async.emulator.truth import mailbox_truth
from atlas_async.emulator.world import World


class Control:
    """What a test or a demonstration may do to the emulated service.

    Mailboxes are named by user principal name or object id. Errors in the arguments raise
    ``ValueError``.
    """

    def __init__(self, world: World, desk: TokenDesk, faults: FaultBook, journal: Journal) -> None:
        self._world = world
        self._desk = desk
        self._faults = faults
        self._journal = journal

    def truth(self, mailbox: str | None = None, *, content: bool = True) -> dict[str, Any]:
        """Return the full state of one mailbox, or of all of them.

        Generates every message; with ``content`` False only ids, places and dates.
        """
        people = self._world.corpus.people
        boxes = (
            [self._mailbox(mailbox)]
            if mailbox is not None
            else [self._world.open(person) for person in people if person.kind.has_mailbox]
        )
        return {
            "tenant": str(self._world.corpus.tenant_id),
            "users": [person.resource() for person in people],
            "mailboxes": [mailbox_truth(box, content=content) for box in boxes],
        }

    def changes(self, mailbox: str | None = None) -> int:
        """Return how often one mailbox, or any, was changed: equal numbers mean one state."""
        people = self._world.corpus.people
        named = [self._mailbox(mailbox)] if mailbox is not None else None
        boxes = named or [self._world.open(p) for p in people if p.kind.has_mailbox]
        return sum(box.seq for box in boxes)

    def mailbox_truth(self, mailbox: str, *, content: bool = True) -> dict[str, Any]:
        """Return the full state of one mailbox: ``folders`` and ``messages``."""
        return mailbox_truth(self._mailbox(mailbox), content=content)

    def mutate(self, mailbox: str, change: dict[str, Any]) -> dict[str, Any]:
        """Apply one change (see ``mutations.apply_change``) and return the ids concerned."""
        box = self._mailbox(mailbox)
        try:
            return apply_change(box, change)
        except (NotHere, MalformedId) as error:
            raise ValueError(f"no such folder or message: {error}") from error

    def mutate_all(self, changes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Apply changes that name their mailbox in the field ``mailbox``, in order."""
        return [self.mutate(str(change.get("mailbox")), change) for change in changes]

    def add_fault(self, rule: FaultRule) -> None:
        """Put a fault rule in force."""
        self._faults.add(rule)

    def clear_faults(self) -> None:
        """Drop all fault rules."""
        self._faults.clear()

    def faults(self) -> list[dict[str, Any]]:
        """Return the rules and how often each has fired."""
        return self._faults.as_json()

    def expire_delta(self, mailbox: str | None = None, folder: Any = None) -> None:
        """Make delta tokens expire: of all mailboxes, of one, or of one folder of one."""
        if mailbox is None:
            for person in self._world.corpus.people:
                if person.kind.has_mailbox:
                    self._world.open(person).expire_delta()
            return
        box = self._mailbox(mailbox)
        try:
            number = None if folder is None else find_folder(box, folder).number
        except (NotHere, MalformedId) as error:
            raise ValueError(f"no such folder: {folder}") from error
        box.expire_delta(number)

    def over_quota(self, mailbox: str, *, on: bool = True) -> None:
        """Make delta requests of a mailbox and writes into it fail: it is over quota."""
        self._mailbox(mailbox).over_quota = on

    def trouble(
        self, mailbox: str, message: str, status: int, code: str, *, pages: bool = False
    ) -> None:
        """Make a message unreadable: what asks for it is answered so, until it is ``cured``.

        With ``pages`` every page that would hold it is, too; see ``records.Trouble``.
        """
        box = self._mailbox(mailbox)
        box.troubled[self._key(box, message)] = Trouble(status, code, pages)
        self._world.pages.clear()

    def cure(self, mailbox: str) -> None:
        """Make all messages of a mailbox readable again."""
        self._mailbox(mailbox).troubled.clear()
        self._world.pages.clear()

    @staticmethod
    def _key(box: Mailbox, message: str) -> int:
        try:
            return box.message(message)
        except (NotHere, MalformedId) as error:
            raise ValueError(f"no such message: {message}") from error

    def revoke_tokens(self) -> int:
        """Refuse every access token issued so far; returns how many there were."""
        return self._desk.revoke_all()

    def configure(self, **values: Any) -> dict[str, Any]:
        """Change switches of the behaviour by name and return all of them."""
        self._world.behaviour.change(values)
        if not values.keys() <= PACE:
            self._world.pages.clear()
        return self._world.behaviour.as_json()

    def log(self) -> dict[str, Any]:
        """Return the requests served and the counters."""
        return self._journal.as_json()

    def clear_log(self) -> None:
        """Forget the requests served and the counters."""
        self._journal.clear()

    def _mailbox(self, name: str) -> Mailbox:
        person = self._world.person(name)
        if person is None or not person.kind.has_mailbox:
            raise ValueError(f"no such mailbox: {name}")
        return self._world.open(person)
