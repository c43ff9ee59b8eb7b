"""Is the wrapped key there, does it open, is it the right one, and what protects it?

Nothing is changed. What is wrong with the key itself is an error; what is amiss around it is a
finding, which counts when that protection is required.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from atlas_async.catalog.layout import DEK_KEY
from atlas_async.catalog.tenant_key import open_tenant_key
from atlas_async.crypto.keyring import wrapped_version
from atlas_async.errors import ImmutabilityError, KeyMaterialError, SnapshotNotFound
from atlas_async.operations import key_policy
from atlas_async.operations.key_material import prove, read_wrapped_key, unwrap
from atlas_async.operations.tenant import Tenant
from atlas_async.store.protection import ObjectProtection, ObjectState, ObjectVersion, Unknown

MIN_DAYS: Final = 30
"""A lock that ends sooner than in so many days is running out, unless told otherwise."""
DAY_SECONDS: Final = 86_400
INCOMPLETE: Final = 3
PERMISSION_BITS: Final = 0o222
NAMED_VERSIONS: Final = 3
"""Older versions of a missing key that are named."""


class Protects(StrEnum):
    """The protections that can be required."""

    POLICY = "policy"
    VERSIONING = "versioning"
    LOCK = "lock"


class Weight(StrEnum):
    """How much a finding counts."""

    NOTE = "note"
    MISSING = "missing"
    """A protection that is required is not there, is running out, or is not known."""
    IMPOSSIBLE = "impossible"
    """A protection that is required cannot be had in this store."""
    DANGER = "danger"
    """Something will take the key away."""


@dataclass(frozen=True, slots=True)
class KeyFinding:
    """Something amiss around the key."""

    about: str
    weight: Weight
    text: str


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """What a check found; the key itself is good.

    Args:
        key: Its object.
        store: Where.
        size: Bytes of the wrapped key.
        version: 0 or 1: of its format.
        opened: An object that it opened, or "" when the bucket has none.
        state: What protects it.
        policy: Whether our statements are in the bucket policy; None when that is not known.
        days_left: Whole days until its lock ends; None without one.
        findings: What is amiss.
    """

    key: str
    store: str
    size: int
    version: int
    opened: str
    state: ObjectState
    policy: bool | None
    days_left: int | None
    findings: tuple[KeyFinding, ...]

    @property
    def exit_code(self) -> int:
        """15 for what is required and impossible, 3 for what is missing or a danger, else 0."""
        weights = {finding.weight for finding in self.findings}
        if Weight.IMPOSSIBLE in weights:
            return ImmutabilityError.exit_code
        return INCOMPLETE if weights & {Weight.MISSING, Weight.DANGER} else 0


async def check_key(
    tenant: Tenant,
    protection: ObjectProtection,
    *,
    require: Collection[Protects] = (),
    min_days: int = MIN_DAYS,
) -> KeyCheck:
    """Check the key of a tenant.

    Args:
        tenant: Whose key.
        protection: Tells what protects it.
        require: Protections whose absence counts.
        min_days: A lock that ends sooner counts as running out.

    Raises:
        BucketNotFound, SnapshotNotFound: Nothing was ever backed up.
        KeyMaterialError: The key is missing beside data, damaged, does not open with the
            passphrase, or is not the one that the backups were sealed with.
        StoreError: The store cannot be asked.
    """
    await tenant.store.open_bucket(create=False)
    blob = await read_wrapped_key(tenant.store)
    if blob is None:
        raise await _missing(tenant, protection)
    try:
        sample = await prove(tenant, await unwrap(tenant, blob))
    except KeyMaterialError as error:
        state = await protection.look(DEK_KEY)
        raise _with_versions(error, state) from error
    state = await protection.look(DEK_KEY)
    days_left = _days_left(state, tenant.clock.now())
    policy = _policy_is_ours(protection, state)
    findings = [
        *(
            KeyFinding("sample", Weight.NOTE, f"{key} is damaged: run `atlas verify`")
            for key in sample.damaged
        ),
        *_findings(state, policy=policy, days_left=days_left, require=require, min_days=min_days),
    ]
    return KeyCheck(
        key=DEK_KEY,
        store=tenant.store.name,
        size=len(blob),
        version=wrapped_version(blob),
        opened=sample.opened,
        state=state,
        policy=policy,
        days_left=days_left,
        findings=tuple(findings),
    )


async def _missing(tenant: Tenant, protection: ObjectProtection) -> Exception:
    """Return the error for a bucket without a key."""
    state = await protection.look(DEK_KEY)
    try:
        settings = tenant.settings
        await open_tenant_key(tenant.store, settings.passphrase, settings.tenant_id)
    except KeyMaterialError as error:
        return _with_versions(error, state)
    older = _older(state)
    if older:
        msg = "the wrapped key _meta/dek.enc was deleted; older versions of it are there"
        return _with_versions(KeyMaterialError(msg, where=tenant.store.name), state)
    msg = "the bucket has no key: nothing was backed up into it yet"
    return SnapshotNotFound(msg, where=tenant.store.name, hint="run `atlas backup` first")


def _with_versions(error: KeyMaterialError, state: ObjectState) -> KeyMaterialError:
    """Return the error with a hint that names the versions there are to go back to."""
    older = _older(state)
    if not older:
        return error
    newest = state.newest
    gone = "it was deleted" if newest is not None and newest.deletion else "it has older versions"
    if newest is not None and newest.deletion and newest.modified is not None:
        gone += f" on {newest.modified:%Y-%m-%d %H:%M:%SZ}"
    named = ", ".join(_named(version) for version in older[:NAMED_VERSIONS])
    more = f" and {len(older) - NAMED_VERSIONS} more" if len(older) > NAMED_VERSIONS else ""
    hint = (
        f"{gone}: {named}{more}. Put one back with `atlas key restore --version "
        f"{older[0].version_id}`, which opens it first"
    )
    if newest is not None and not newest.deletion:
        hint += "; the object has to be deleted before, of which the bucket keeps this version"
    kept = f"{error.hint}; " if error.hint else ""
    return KeyMaterialError(error.message, hint=f"{kept}{hint}", where=error.where)


def _named(version: ObjectVersion) -> str:
    when = f" of {version.modified:%Y-%m-%d %H:%M:%SZ}" if version.modified else ""
    return f"version {version.version_id}{when} ({version.size} bytes)"


def _older(state: ObjectState) -> list[ObjectVersion]:
    known = () if isinstance(state.versions, Unknown) else state.versions
    return [version for version in known if not version.deletion and not version.latest]


def _policy_is_ours(protection: ObjectProtection, state: ObjectState) -> bool | None:
    if isinstance(state.policy, Unknown):
        return None
    keep, freeze = (protection.resource(pattern) for pattern in key_policy.patterns())
    return key_policy.has_ours(state.policy, key_policy.our_statements(keep, freeze))


def _days_left(state: ObjectState, now: datetime) -> int | None:
    if state.retention is None or isinstance(state.retention, Unknown):
        return None
    left = (state.retention.until - now).total_seconds()
    return int(left // DAY_SECONDS) if left > 0 else None


def _findings(
    state: ObjectState,
    *,
    policy: bool | None,
    days_left: int | None,
    require: Collection[Protects],
    min_days: int,
) -> Iterator[KeyFinding]:
    if policy is not True:
        absent = "our statements are not in the bucket policy: `atlas key protect`"
        yield _finding(Protects.POLICY, state.policy, absent, require)
    if state.versioning is not True:
        absent = "the bucket keeps no versions: what overwrites or deletes the key is final"
        yield _finding(Protects.VERSIONING, state.versioning, absent, require)
    if state.legal_hold is not True and (days_left is None or days_left < min_days):
        absent = "the key is not locked: `atlas key protect --lock`"
        if days_left is not None:
            absent = f"the lock ends in {days_left} days: extend it with `atlas key protect --lock`"
        elif state.object_lock is False:
            absent = "the bucket has no Object Lock, so the key cannot be locked"
        locked = state.object_lock
        if locked is True and isinstance(state.retention, Unknown):
            locked = state.retention
        yield _finding(Protects.LOCK, locked, absent, require)
    if isinstance(state.expiry, Unknown):
        yield KeyFinding("lifecycle", Weight.NOTE, f"rules are not known: {state.expiry.reason}")
    else:
        for rule in state.expiry:
            text = f"a lifecycle rule deletes the key: {rule}"
            yield KeyFinding("lifecycle", Weight.DANGER, text)
    if state.permissions is not None and state.permissions & PERMISSION_BITS:
        text = f"the file may be written to ({state.permissions:04o}): `atlas key protect`"
        yield KeyFinding("read_only", Weight.NOTE, text)


def _finding(
    about: Protects, value: object, absent: str, require: Collection[Protects]
) -> KeyFinding:
    text, weight = absent, Weight.MISSING
    if isinstance(value, Unknown):
        text = value.reason if value.lacking else f"not known: {value.reason}"
        weight = Weight.IMPOSSIBLE if value.lacking else Weight.MISSING
    elif about is Protects.LOCK and value is False:
        weight = Weight.IMPOSSIBLE
    return KeyFinding(about.value, weight if about in require else Weight.NOTE, text)
