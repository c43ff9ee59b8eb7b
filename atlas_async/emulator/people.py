"""The directory of a synthetic tenant: users, shared and room mailboxes, guests, unlicensed."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from atlas_async.emulator.dice import Dice
from atlas_async.emulator.parts import graph_time
from atlas_async.emulator.vocabulary import FIRST_NAMES, LAST_NAMES

_EPOCH: Final = datetime(2019, 5, 2, 8, 30, tzinfo=UTC)


class PersonKind(StrEnum):
    """What stands behind a directory object; mailboxes report it as ``userPurpose``."""

    USER = "user"
    SHARED = "shared"
    ROOM = "room"
    EQUIPMENT = "equipment"
    GUEST = "guest"
    UNLICENSED = "unlicensed"

    @property
    def has_mailbox(self) -> bool:
        """Whether Graph can read a mailbox for it."""
        return self not in {PersonKind.GUEST, PersonKind.UNLICENSED}


@dataclass(frozen=True, slots=True)
class Person:
    """One user object of the directory. ``number`` is its place in the corpus."""

    number: int
    id: uuid.UUID
    upn: str
    mail: str | None
    display_name: str
    kind: PersonKind
    enabled: bool
    created: datetime

    def resource(self) -> dict[str, Any]:
        """Return every property of the user resource that the emulator knows."""
        guest = self.kind is PersonKind.GUEST
        licensed = self.kind is PersonKind.USER
        first, _, last = self.display_name.partition(" ")
        plan = {
            "assignedDateTime": graph_time(self.created),
            "capabilityStatus": "Enabled",
            "service": "exchange",
            "servicePlanId": "efb87545-963c-4e0d-99df-69c6916d9eb0",
        }
        return {
            "id": str(self.id),
            "businessPhones": [],
            "displayName": self.display_name,
            "givenName": first,
            "jobTitle": None,
            "mail": self.mail,
            "mobilePhone": None,
            "officeLocation": None,
            "preferredLanguage": None,
            "surname": last or None,
            "userPrincipalName": self.upn,
            "accountEnabled": self.enabled,
            "userType": "Guest" if guest else "Member",
            "createdDateTime": graph_time(self.created),
            "onPremisesSyncEnabled": None,
            "assignedPlans": [plan] if licensed else [],
        }


DEFAULT_PROPERTIES: Final = (
    "businessPhones",
    "displayName",
    "givenName",
    "jobTitle",
    "mail",
    "mobilePhone",
    "officeLocation",
    "preferredLanguage",
    "surname",
    "userPrincipalName",
    "id",
)
"""What a user answer holds when nothing is selected."""


def make_people(
    seed: int,
    domain: str,
    tenant_id: uuid.UUID,
    counts: dict[PersonKind, int],
    names: tuple[str, ...] = (),
) -> list[Person]:
    """Return the directory, mailboxes of users first, in an order that never changes.

    ``names`` are the user principal names of the first users; the others are numbered.
    """
    people: list[Person] = []
    prefix = domain.split(".", 1)[0]
    for kind, count in counts.items():
        for index in range(count):
            number = len(people)
            dice = Dice(seed, 0xD1, number)
            name = f"{dice.pick(FIRST_NAMES)} {dice.pick(LAST_NAMES)}"
            upn, mail, shown = _addresses(kind, index, name, domain, prefix)
            if kind is PersonKind.USER and index < len(names):
                upn = mail = names[index]
            people.append(
                Person(
                    number=number,
                    id=uuid.uuid5(tenant_id, f"user:{number}"),
                    upn=upn,
                    mail=mail,
                    display_name=shown,
                    kind=kind,
                    enabled=kind in {PersonKind.USER, PersonKind.GUEST, PersonKind.UNLICENSED},
                    created=_EPOCH + timedelta(hours=7 * number),
                )
            )
    return people


def _addresses(
    kind: PersonKind, index: int, name: str, domain: str, prefix: str
) -> tuple[str, str | None, str]:
    if kind is PersonKind.USER:
        address = f"user{index:04d}@{domain}"
        return address, address, name
    if kind is PersonKind.GUEST:
        mail = f"guest{index}@partner.example"
        return f"guest{index}_partner.example#EXT#@{prefix}.onmicrosoft.com", mail, name
    if kind is PersonKind.UNLICENSED:
        return f"unlicensed{index}@{domain}", None, name
    address = f"{kind.value}{index}@{domain}"
    return address, address, f"{kind.value.capitalize()} {index}"
