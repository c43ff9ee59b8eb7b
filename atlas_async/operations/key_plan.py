"""What protecting the wrapped key would change: look, and say step by step what is to be done.

Nothing is ever weakened but on request: a lock is kept or extended, the statements of others in a
policy stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from atlas_async.catalog.layout import DEK_KEY
from atlas_async.errors import SnapshotNotFound, UsageError
from atlas_async.operations import key_policy
from atlas_async.operations.key_material import prove, read_wrapped_key, unwrap
from atlas_async.operations.tenant import Tenant
from atlas_async.store.protection import (
    LockMode,
    ObjectProtection,
    ObjectState,
    Retention,
    Unknown,
)

MOST_DAYS: Final = 36_500
"""A hundred years: what a slip of the hand must not exceed, as nobody can take it back."""


class Kind(StrEnum):
    """What a step is about."""

    POLICY = "policy"
    RETENTION = "retention"
    LEGAL_HOLD = "legal_hold"
    READ_ONLY = "read_only"


@dataclass(frozen=True, slots=True)
class ProtectionWish:
    """What is asked for.

    Args:
        policy: Our statements in the bucket policy; None: where the store has policies.
        mode: Lock the key's newest version so.
        retention_days: For so many days from now on.
        legal_hold: Put it under legal hold.
        remove: Take our statements out of the policy again; nothing else can be asked with it.
    """

    policy: bool | None = None
    mode: LockMode | None = None
    retention_days: int | None = None
    legal_hold: bool = False
    remove: bool = False

    def check(self) -> None:
        """Raise ``UsageError`` for a wish that contradicts itself."""
        if (self.mode is None) != (self.retention_days is None):
            raise UsageError("a lock needs both its mode and the days of its retention")
        if self.retention_days is not None and not 1 <= self.retention_days <= MOST_DAYS:
            raise UsageError(f"the days of a retention are from 1 to {MOST_DAYS}")
        others = self.policy is not None or self.mode is not None or self.legal_hold
        if self.remove and others:
            raise UsageError("taking our policy statements out goes with nothing else")
        if self.policy is False and self.mode is None and not self.legal_hold:
            raise UsageError(
                "nothing is asked for", hint="leave out --no-policy, or ask for a lock"
            )


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, or to leave.

    Args:
        kind: What it is about.
        asked: Whether it was asked for by name, so that failing it counts.
        todo: Whether anything has to be done.
        text: What is there or will be done; why not, where it cannot be.
        possible: Whether the store can do it.
    """

    kind: Kind
    asked: bool
    todo: bool
    text: str
    possible: bool = True


@dataclass(frozen=True, slots=True)
class ProtectionPlan:
    """What is there and what will be done. ``irreversible`` says what nobody can undo, or ""."""

    key: str
    store: str
    wish: ProtectionWish
    state: ObjectState
    steps: tuple[Step, ...]
    retention: Retention | None = None
    irreversible: str = ""

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        return any(step.todo and step.possible for step in self.steps)


async def plan_protection(
    tenant: Tenant, protection: ObjectProtection, wish: ProtectionWish
) -> ProtectionPlan:
    """Look at everything and say what will be done. Changes nothing.

    Raises:
        UsageError: The wish contradicts itself.
        SnapshotNotFound: The bucket has no key.
        KeyMaterialError: The key does not open, or is not the one that the backups were sealed
            with; such a key is not to be locked in place.
        StoreError: The store cannot be asked.
    """
    wish.check()
    await tenant.store.open_bucket(create=False)
    if not wish.remove:  # a key that is damaged has to be let go
        await require_good_key(tenant)
    state = await protection.look(DEK_KEY)
    if wish.remove:
        return ProtectionPlan(DEK_KEY, tenant.store.name, wish, state, (_removal(state),))
    steps: list[Step] = []
    if state.permissions is not None:
        steps.append(_read_only(state.permissions))
    if wish.policy or (wish.policy is None and state.permissions is None):
        steps.append(_policy(state, ours(protection), asked=wish.policy is True))
    target: Retention | None = None
    if wish.mode is not None and wish.retention_days is not None:
        until = tenant.clock.now() + timedelta(days=wish.retention_days)
        target, step = _retention(state, Retention(wish.mode, until), tenant.clock.now())
        steps.append(step)
    if wish.legal_hold:
        steps.append(_legal_hold(state))
    irreversible = ""
    if target is not None and target.mode is LockMode.COMPLIANCE:
        irreversible = (
            f"until {target.until:%Y-%m-%d %H:%M:%SZ} nobody can delete this version of the key or "
            "shorten its lock: not you, not the account's owner, not the provider"
        )
    return ProtectionPlan(
        DEK_KEY, tenant.store.name, wish, state, tuple(steps), target, irreversible
    )


async def require_good_key(tenant: Tenant) -> None:
    """Raise unless the key is there, opens, and is the one of the backups."""
    blob = await read_wrapped_key(tenant.store)
    if blob is None:
        msg = "the bucket has no key to protect"
        hint = "`atlas backup` makes it; if it was there, `atlas key check` says what to restore"
        raise SnapshotNotFound(msg, where=tenant.store.name, hint=hint)
    await prove(tenant, await unwrap(tenant, blob))


def ours(protection: ObjectProtection) -> list[dict[str, Any]]:
    """Return our statements for the bucket."""
    keep, freeze = (protection.resource(pattern) for pattern in key_policy.patterns())
    return key_policy.our_statements(keep, freeze)


def _read_only(permissions: int) -> Step:
    if permissions & 0o222 == 0:
        return Step(Kind.READ_ONLY, False, False, f"nobody may write the file ({permissions:04o})")  # noqa: FBT003 -- the fields of a step
    text = f"take the right to write the file away: 0400, now {permissions:04o}"
    return Step(Kind.READ_ONLY, asked=False, todo=True, text=text)


def _policy(state: ObjectState, ours: list[dict[str, Any]], *, asked: bool) -> Step:
    if isinstance(state.policy, Unknown):
        text = f"cannot be set: {state.policy.reason}"
        return Step(Kind.POLICY, asked, todo=False, text=text, possible=False)
    if key_policy.has_ours(state.policy, ours):
        return Step(Kind.POLICY, asked, todo=False, text="our statements are in it")
    foreign = key_policy.count_foreign(state.policy)
    beside = f", beside {foreign} of others, which stay" if foreign else ""
    text = f"deny everybody to delete below _meta/ and to write {DEK_KEY}{beside}"
    return Step(Kind.POLICY, asked, todo=True, text=text)


def _removal(state: ObjectState) -> Step:
    if isinstance(state.policy, Unknown):
        text = f"cannot be read: {state.policy.reason}"
        possible = state.policy.lacking  # then there is nothing to take out
        return Step(Kind.POLICY, asked=True, todo=False, text=text, possible=possible)
    if not key_policy.holds_any_of_ours(state.policy):
        return Step(Kind.POLICY, asked=True, todo=False, text="our statements are not in it")
    foreign = key_policy.count_foreign(state.policy)
    rest = f"; {foreign} of others stay" if foreign else ""
    return Step(Kind.POLICY, asked=True, todo=True, text=f"take our statements out{rest}")


def _lockable(state: ObjectState) -> str:
    """Return why the newest version cannot be locked, or ""."""
    absent_lock = "the bucket has no Object Lock, which most servers give to new buckets only"
    for name, value, absent in (
        ("versioning", state.versioning, "the bucket keeps no versions, which locks need"),
        ("Object Lock", state.object_lock, absent_lock),
    ):
        if isinstance(value, Unknown):
            return value.reason if value.lacking else f"{name} is not known: {value.reason}"
        if not value:
            return absent
    if state.newest is None or state.newest.deletion:
        return "the newest version of the key is not known"
    return ""


def _retention(
    state: ObjectState, wanted: Retention, now: datetime
) -> tuple[Retention | None, Step]:
    """Return the lock to set, if any. It is never shorter, and never weaker, than what is there."""
    kind, there = Kind.RETENTION, state.retention
    problem = _lockable(state)
    if problem or isinstance(there, Unknown):
        reason = problem or (there.reason if isinstance(there, Unknown) else "")
        text = f"cannot be set: {reason}"
        return None, Step(kind, asked=True, todo=False, text=text, possible=False)
    if there is not None and there.until > now:
        strongest = max(there.mode, wanted.mode, key=list(LockMode).index)
        merged = Retention(strongest, max(there.until, wanted.until))
        if merged == there:
            return None, Step(kind, asked=True, todo=False, text=f"{in_words(there)} is there")
        text = f"{in_words(merged)}; now {in_words(there)}"
        return merged, Step(kind, asked=True, todo=True, text=text)
    return wanted, Step(kind, asked=True, todo=True, text=in_words(wanted))


def _legal_hold(state: ObjectState) -> Step:
    problem = _lockable(state)
    if problem or isinstance(state.legal_hold, Unknown):
        reason = problem or (
            state.legal_hold.reason if isinstance(state.legal_hold, Unknown) else ""
        )
        text = f"cannot be set: {reason}"
        return Step(Kind.LEGAL_HOLD, asked=True, todo=False, text=text, possible=False)
    if state.legal_hold:
        return Step(Kind.LEGAL_HOLD, asked=True, todo=False, text="is there")
    return Step(Kind.LEGAL_HOLD, asked=True, todo=True, text="put the newest version under it")


def in_words(retention: Retention) -> str:
    """Return a lock as a clause."""
    return f"{retention.mode.lower()} until {retention.until:%Y-%m-%d %H:%M:%SZ}"
