"""The emulated tenant at run time: its mailboxes, switches, links and kept pages."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from atlas_async.clock import Clock
from atlas_async.emulator.behaviour import Behaviour
from atlas_async.emulator.calls import Call, Refusal, Reply
from atlas_async.emulator.corpus import Corpus
from atlas_async.emulator.cursors import CursorSeal
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.pages import PageCache
from atlas_async.emulator.people import Person
from atlas_async.emulator.uploads import UploadDesk


class World:
    """Everything the routes work on.

    Args:
        corpus: What the tenant holds at the start.
        behaviour: Switches; may be changed at any time.
        clock: Gives the time that tokens, throttling and new messages use.
        cache_bytes: Bound of the rendered pages that are kept.
    """

    def __init__(
        self, corpus: Corpus, behaviour: Behaviour, clock: Clock, *, cache_bytes: int
    ) -> None:
        self.corpus = corpus
        self.behaviour = behaviour
        self.clock = clock
        self.origin = ""
        self.upload_origin = ""
        self.seal = CursorSeal(corpus.tenant_id.bytes)
        self.pages = PageCache(cache_bytes)
        self.uploads = UploadDesk(clock)
        self._mailboxes: dict[int, Mailbox] = {}
        self._people: dict[str, Person] = {}
        for person in corpus.people:
            self._people[str(person.id)] = person
            self._people[person.upn.lower()] = person

    def person(self, text: str) -> Person | None:
        """Return the user with this object id or user principal name, or None."""
        return self._people.get(text.lower())

    def mailbox(self, text: str) -> Mailbox:
        """Return a user's mailbox. Raises ``Refusal`` when there is no user or no mailbox."""
        person = self.person(text)
        if person is None:
            raise Refusal(404, "ErrorInvalidUser", f"The requested user '{text}' is invalid.")
        if not person.kind.has_mailbox:
            raise Refusal(
                404,
                "MailboxNotEnabledForRESTAPI",
                "The mailbox is either inactive, soft-deleted, or is hosted on-premise.",
            )
        return self.open(person)

    def open(self, person: Person) -> Mailbox:
        """Return the mailbox of a person who has one; it is made when first asked for."""
        found = self._mailboxes.get(person.number)
        if found is None:
            found = self._mailboxes[person.number] = Mailbox(
                person,
                self.corpus.mailbox_uuid(person),
                self.corpus.letters(person),
                self.corpus.tree(person),
                self.clock.now,
            )
        return found

    def link(self, path: str, options: Mapping[str, str]) -> str:
        """Return an absolute Graph URL on this origin, or on the foreign host that was set."""
        base = self.behaviour.foreign_links or self.origin
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
        return f"{base}/v1.0/{path}" + (f"?{query}" if query else "")

    def context(self, what: str) -> str:
        """Return an ``@odata.context`` URL."""
        return f"{self.origin}/v1.0/$metadata#{what}"

    def kept(self, mailbox: Mailbox, call: Call) -> tuple[object, Reply | None]:
        """Return the key under which this answer is kept, and the answer when there is one."""
        key = (
            mailbox.person.number,
            mailbox.seq,
            call.path,
            call.raw_query,
            call.headers.get("Prefer", ""),
        )
        return key, self.pages.get(key)


def in_path(text: str) -> str:
    """Return an id as it stands in a link: percent-encoded as far as needed."""
    return quote(text, safe="=_-.@")
