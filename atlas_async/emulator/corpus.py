"""The corpus: what the emulated tenant holds before anybody touches it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from atlas_async.emulator.dice import Dice
from atlas_async.emulator.enclosures import Enclosures, EnclosureShape
from atlas_async.emulator.letters import Letters, LetterShape
from atlas_async.emulator.people import Person, PersonKind, make_people
from atlas_async.emulator.text import Phrasebook
from atlas_async.emulator.tree import FolderPlan, plan_tree

_NAMESPACE = uuid.UUID("7c9e2f3a-52a1-4b0e-9a51-0f6f3c2d7b10")


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """How large and how odd the synthetic tenant is.

    Sizes are bytes, shares lie between 0 and 1. ``messages`` is per mailbox; ``message_counts``
    overrides it for the first mailboxes, ``messages_sigma`` spreads it log-normally.
    ``body_bytes`` fixes every body's size; 0 draws sizes around ``body_median``.
    The first ``huge_attachments`` inbox messages carry one file of ``huge_bytes`` each.
    ``addresses`` are the user principal names of the first users, for names as people have them.
    """

    seed: int = 1
    domain: str = "contoso.com"
    addresses: tuple[str, ...] = ()
    mailboxes: int = 3
    shared: int = 1
    rooms: int = 1
    equipment: int = 0
    guests: int = 1
    unlicensed: int = 1
    folders: int = 8
    depth: int = 3
    messages: int = 100
    messages_sigma: float = 0.0
    message_counts: tuple[int, ...] = ()
    recoverable_messages: int = 2
    languages: tuple[str, ...] = ("en",)
    body_bytes: int = 0
    body_median: float = 12_000
    body_sigma: float = 1.0
    text_share: float = 0.1
    odd_share: float = 0.05
    unread_every: int = 4
    attachment_share: float = 0.2
    attachments_most: int = 3
    attachment_median: float = 40_000
    attachment_sigma: float = 1.2
    attachment_top: int = 10_000_000
    inline_share: float = 0.1
    item_share: float = 0.1
    reference_share: float = 0.05
    duplicate_share: float = 0.2
    smime_share: float = 0.01
    huge_attachments: int = 0
    huge_bytes: int = 150_000_000

    @classmethod
    def plain(
        cls, *, mailboxes: int, messages: int, body_bytes: int = 12_000, seed: int = 1
    ) -> CorpusOptions:
        """Return options for measurements: users only, equal bodies, no attachments."""
        return cls(
            seed=seed,
            mailboxes=mailboxes,
            messages=messages,
            body_bytes=body_bytes,
            shared=0,
            rooms=0,
            guests=0,
            unlicensed=0,
            recoverable_messages=0,
            odd_share=0.0,
            text_share=0.0,
            attachment_share=0.0,
            inline_share=0.0,
            smime_share=0.0,
        )


@dataclass(slots=True)
class Corpus:
    """A tenant's directory and the rules by which its mail is generated on demand."""

    options: CorpusOptions = field(default_factory=CorpusOptions)
    tenant_id: uuid.UUID = field(init=False)
    people: list[Person] = field(init=False)
    _phrases: Phrasebook = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Generate the directory and the pool of text; mail is left for later."""
        options = self.options
        self.tenant_id = uuid.uuid5(_NAMESPACE, f"{options.domain}:{options.seed}")
        self._phrases = Phrasebook(options.seed)
        counts = {
            PersonKind.USER: options.mailboxes,
            PersonKind.SHARED: options.shared,
            PersonKind.ROOM: options.rooms,
            PersonKind.EQUIPMENT: options.equipment,
            PersonKind.GUEST: options.guests,
            PersonKind.UNLICENSED: options.unlicensed,
        }
        self.people = make_people(
            options.seed, options.domain, self.tenant_id, counts, options.addresses
        )

    def mailbox_uuid(self, person: Person) -> uuid.UUID:
        """Return the UUID that the mailbox's ids carry."""
        return uuid.uuid5(self.tenant_id, f"mailbox:{person.number}")

    def letters(self, person: Person) -> Letters:
        """Return the generator of a mailbox's messages."""
        options = self.options
        seed = Dice(options.seed, 0x3A, person.number).word()
        shape = LetterShape(
            body_bytes=options.body_bytes,
            body_median=options.body_median,
            body_sigma=options.body_sigma,
            odd_share=options.odd_share,
            text_share=options.text_share,
            unread_every=max(1, options.unread_every),
        )
        enclosures = EnclosureShape(
            share=options.attachment_share,
            most=max(1, options.attachments_most),
            median=options.attachment_median,
            sigma=options.attachment_sigma,
            top=options.attachment_top,
            inline_share=options.inline_share,
            item_share=options.item_share,
            reference_share=options.reference_share,
            duplicate_share=options.duplicate_share,
            smime_share=options.smime_share,
            huge=options.huge_attachments,
            huge_bytes=options.huge_bytes,
        )
        return Letters(
            seed, person, self._phrases, shape, Enclosures(seed, self._phrases, enclosures)
        )

    def tree(self, person: Person) -> list[FolderPlan]:
        """Return the mailbox's folders, parents first, with their message counts."""
        options = self.options
        dice = Dice(options.seed, 0x7B, person.number)
        return plan_tree(
            dice,
            folders=options.folders,
            depth=options.depth,
            messages=self._count(person, dice),
            recoverable=options.recoverable_messages,
            language=options.languages[person.number % len(options.languages)],
        )

    def _count(self, person: Person, dice: Dice) -> int:
        options = self.options
        if person.number < len(options.message_counts):
            return options.message_counts[person.number]
        if options.messages_sigma <= 0 or options.messages == 0:
            return options.messages
        return dice.log_normal(options.messages, options.messages_sigma, top=options.messages * 20)
