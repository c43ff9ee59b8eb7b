"""Protect the wrapped key: do what a plan says, look again, and say what is enforced now.

Without ``_meta/dek.enc`` nothing in the bucket can be read. What protects it differs from store to
store, so every step says what holds, what does not, and why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from atlas_async.catalog.layout import DATA_PREFIX, DEK_KEY
from atlas_async.errors import (
    AtlasError,
    ImmutabilityError,
    StoreError,
    StoreTransient,
    UsageError,
)
from atlas_async.operations import key_policy
from atlas_async.operations.key_plan import (
    Kind,
    ProtectionPlan,
    Step,
    in_words,
    ours,
    require_good_key,
)
from atlas_async.operations.tenant import Tenant
from atlas_async.store.protection import (
    LockMode,
    ObjectProtection,
    ObjectState,
    ObjectVersion,
    Unknown,
)

SLACK: Final = timedelta(seconds=5)
"""How much a server may round a date without falling short of what was asked."""
NO_EFFECT: Final = (
    "the statements are stored, but this server let these credentials delete below _meta/ all the "
    "same (tried on a key that does not exist): take s3:DeleteObject and s3:DeleteObjectVersion "
    "from the users themselves, or lock the key"
)

UNTRIED: Final = (
    "our statements are in it; these credentials may delete nothing anyway, so whether this server "
    "applies the policy to others was not tried"
)
PROVED: Final = (
    "nobody may delete below _meta/ or write the key (a trial deletion there was refused, and "
    "elsewhere it was not)"
)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step came to, as read back.

    ``enforced`` is whether it holds now; of a removal, whether our statements are gone.
    """

    kind: Kind
    asked: bool
    done: bool
    enforced: bool
    text: str


@dataclass(frozen=True, slots=True)
class ProtectionReport:
    """What is enforced now."""

    key: str
    store: str
    results: tuple[StepResult, ...]
    state: ObjectState
    removed: bool

    @property
    def exit_code(self) -> int:
        """15 when something asked for, or all of it, is not enforced; else 0.

        When our statements were to be taken out, 1 says that they are still there.
        """
        if self.removed:
            return 0 if all(result.enforced for result in self.results) else 1
        failed = any(result.asked and not result.enforced for result in self.results)
        nothing = not any(result.enforced for result in self.results)
        return ImmutabilityError.exit_code if failed or nothing else 0


async def protect(
    tenant: Tenant, protection: ObjectProtection, plan: ProtectionPlan, *, confirmed: bool
) -> ProtectionReport:
    """Do what a plan says and read it back.

    A step that the store refuses does not keep the others from being done.

    Args:
        tenant: Whose key.
        protection: Where to.
        plan: Made by ``plan_protection`` a moment ago.
        confirmed: Whether what nobody can undo may be done.

    Raises:
        UsageError: The plan is irreversible and that is not confirmed.
        StoreTransient: The store does not answer.
    """
    if plan.irreversible and not confirmed:
        raise UsageError(f"this cannot be undone: {plan.irreversible}", hint="confirm with --yes")
    refusals: dict[Kind, AtlasError] = {}
    # Locks before the policy: some servers apply its Deny to the setting of locks too.
    for step in sorted(plan.steps, key=lambda step: step.kind is Kind.POLICY):
        if not (step.todo and step.possible):
            continue
        try:
            await _act(protection, plan, step.kind)()
        except StoreTransient:
            raise
        except (StoreError, ImmutabilityError) as error:
            refusals[step.kind] = error
    after = await protection.look(DEK_KEY)
    results = [
        await _result(protection, plan, step, after, refusals.get(step.kind)) for step in plan.steps
    ]
    if not plan.wish.remove:
        await require_good_key(tenant)
    return ProtectionReport(plan.key, plan.store, tuple(results), after, plan.wish.remove)


def _act(
    protection: ObjectProtection, plan: ProtectionPlan, kind: Kind
) -> Callable[[], Awaitable[None]]:
    policy = "" if isinstance(plan.state.policy, Unknown) else plan.state.policy
    version = (plan.state.newest or ObjectVersion("", latest=True, deletion=False)).version_id
    match kind:
        case Kind.READ_ONLY:
            return lambda: protection.make_read_only(plan.key)
        case Kind.LEGAL_HOLD:
            return lambda: protection.hold(plan.key, version)
        case Kind.RETENTION:
            lock = plan.retention
            assert lock is not None  # noqa: S101 -- such a step has one
            return lambda: protection.retain(plan.key, version, lock)
        case Kind.POLICY:
            new = (
                key_policy.without_ours(policy)
                if plan.wish.remove
                else key_policy.with_ours(policy, ours(protection))
            )
            return lambda: protection.put_policy(new)


async def _result(
    protection: ObjectProtection,
    plan: ProtectionPlan,
    step: Step,
    after: ObjectState,
    refusal: AtlasError | None,
) -> StepResult:
    done = step.todo and step.possible and refusal is None
    if refusal is not None:
        hint = f"; {refusal.hint}" if refusal.hint else ""
        return StepResult(step.kind, step.asked, False, False, f"refused: {refusal.message}{hint}")  # noqa: FBT003 -- the fields of a result
    if not step.possible:
        return StepResult(step.kind, step.asked, False, False, step.text)  # noqa: FBT003 -- the same
    enforced, text = await _read_back(protection, plan, step.kind, after)
    return StepResult(step.kind, step.asked, done, enforced, text)


async def _read_back(
    protection: ObjectProtection, plan: ProtectionPlan, kind: Kind, after: ObjectState
) -> tuple[bool, str]:
    """Return whether a step holds now, and in what words."""
    match kind:
        case Kind.READ_ONLY:
            mode = after.permissions or 0
            return mode & 0o222 == 0, (
                f"nobody may write the file ({mode:04o}); whoever may write its directory can "
                "still remove or replace it, and root can do anything"
            )
        case Kind.LEGAL_HOLD:
            on = after.legal_hold is True
            return on, "the newest version is under legal hold" if on else "was not kept"
        case Kind.RETENTION:
            return _lock_holds(plan, after)
        case Kind.POLICY:
            return await _policy_holds(protection, plan, after)


def _lock_holds(plan: ProtectionPlan, after: ObjectState) -> tuple[bool, str]:
    there, before = after.retention, plan.state.retention
    wanted = plan.retention or (None if isinstance(before, Unknown) else before)
    if isinstance(there, Unknown) or there is None or wanted is None:
        return False, "was not kept by the server"
    order = list(LockMode).index
    holds = there.until >= wanted.until - SLACK and order(there.mode) >= order(wanted.mode)
    same = plan.state.newest == after.newest
    if not same:
        return False, "the key has a newer version than the one that was locked: run again"
    return holds, in_words(there) if holds else f"is only {in_words(there)}"


async def _policy_holds(
    protection: ObjectProtection, plan: ProtectionPlan, after: ObjectState
) -> tuple[bool, str]:
    if isinstance(after.policy, Unknown):
        gone = plan.wish.remove and after.policy.lacking
        return gone, f"cannot be read back: {after.policy.reason}"
    before = "" if isinstance(plan.state.policy, Unknown) else plan.state.policy
    changed = ""
    if not key_policy.foreign_kept(before, after.policy):
        changed = "; somebody else changed statements of their own meanwhile: look at them"
    if plan.wish.remove:
        gone = not key_policy.holds_any_of_ours(after.policy)
        return gone, ("our statements are not in it" if gone else "is still there") + changed
    if not key_policy.has_ours(after.policy, ours(protection)):
        return False, f"our statements were not kept by the server{changed}"
    if not await protection.refuses_deletion(key_policy.KEEP_PREFIX):
        return False, NO_EFFECT + changed
    if await protection.refuses_deletion(DATA_PREFIX):
        return True, UNTRIED + changed
    return True, PROVED + changed
