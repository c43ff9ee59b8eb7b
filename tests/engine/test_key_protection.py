"""Protecting the key: what is planned, done, read back and admitted not to hold."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from atlas_async.catalog.layout import DEK_KEY
from atlas_async.crypto.keyring import new_dek
from atlas_async.errors import (
    KeyMaterialError,
    SnapshotNotFound,
    StoreAuthError,
    StoreTransient,
    UsageError,
)
from atlas_async.operations.key_plan import Kind, ProtectionPlan, ProtectionWish
from atlas_async.operations.key_protection import ProtectionReport
from atlas_async.store.protection import LockMode, Retention, Unknown
from tests.fakes.keyed import Keyed, keyed, wrapped
from tests.fakes.protection import NOON, state

LACKING = Unknown("a directory has no such thing", lacking=True)
DENIED = Unknown("these credentials lack it", lacking=False)
NOW = datetime.now(UTC)
TRIALS = ["trial _meta/", "trial data/"]


async def plan(tenant: Keyed, **wish: Any) -> ProtectionPlan:
    """Return the plan for a wish."""
    async with tenant.engine() as atlas:
        return await atlas.plan_key_protection(ProtectionWish(**wish))


async def protect(tenant: Keyed, *, confirmed: bool = False, **wish: Any) -> ProtectionReport:
    """Do what a wish leads to."""
    async with tenant.engine() as atlas:
        made = await atlas.plan_key_protection(ProtectionWish(**wish))
        return await atlas.protect_key(made, confirmed=confirmed)


async def test_a_plan_changes_nothing() -> None:
    """Looking and planning sets nothing, whatever is asked for."""
    tenant = await keyed()
    made = await plan(
        tenant, policy=True, mode=LockMode.COMPLIANCE, retention_days=9, legal_hold=True
    )
    assert [step.kind for step in made.steps if step.todo] == [
        Kind.POLICY,
        Kind.RETENTION,
        Kind.LEGAL_HOLD,
    ]
    assert made.changes
    assert "nobody can delete" in made.irreversible
    assert tenant.protection.done == []


async def test_the_policy_is_set_and_proved() -> None:
    """By default our statements go into the policy; enforced is said after a refused deletion."""
    tenant = await keyed()
    report = await protect(tenant)
    assert tenant.protection.done == ["put_policy", *TRIALS]
    (result,) = report.results
    assert (result.done, result.enforced, report.exit_code) == (True, True, 0)
    again = await protect(tenant)
    assert tenant.protection.done == ["put_policy", *TRIALS, *TRIALS]
    assert (again.results[0].done, again.results[0].enforced) == (False, True)


async def test_a_policy_without_effect_is_not_called_enforced() -> None:
    """A server that stores the policy and lets these credentials delete has enforced nothing: 15."""
    tenant = await keyed()
    tenant.protection.enforces = False
    report = await protect(tenant)
    assert not report.results[0].enforced
    assert "let these credentials delete" in report.results[0].text
    assert report.exit_code == 15


async def test_credentials_that_may_delete_nothing_prove_nothing() -> None:
    """The trial is refused everywhere: the policy is there, and its effect was not tried."""
    tenant = await keyed()
    tenant.protection.powerless = True
    report = await protect(tenant, policy=True)
    assert "was not tried" in report.results[0].text
    assert report.exit_code == 0


async def test_a_policy_that_is_not_kept_is_noticed() -> None:
    """What counts is what is read back, not that the server took it."""
    tenant = await keyed()
    tenant.protection.normalise = lambda policy: ""
    report = await protect(tenant)
    assert (report.results[0].enforced, report.exit_code) == (False, 15)


async def test_statements_that_vanish_meanwhile_are_told() -> None:
    """When the statements of others read back differently, the operator is told to look."""
    tenant = await keyed()
    theirs = {"Statement": [{"Sid": "Theirs", "Effect": "Allow"}]}
    tenant.protection.state = state(policy=json.dumps(theirs))
    tenant.protection.normalise = lambda policy: policy.replace("Theirs", "Others")
    report = await protect(tenant)
    assert "somebody else changed" in report.results[0].text


async def test_a_lock_is_set_for_the_days_asked() -> None:
    """The newest version is locked from now on; governance needs no confirmation."""
    tenant = await keyed()
    report = await protect(tenant, policy=False, mode=LockMode.GOVERNANCE, retention_days=30)
    lock = tenant.protection.state.retention
    assert isinstance(lock, Retention)
    assert lock.mode is LockMode.GOVERNANCE
    assert timedelta(days=29.9) < lock.until - NOW < timedelta(days=30.1)
    assert (report.results[0].enforced, report.exit_code) == (True, 0)


@pytest.mark.parametrize(
    ("there", "asked", "days", "becomes"),
    [
        (("GOVERNANCE", 40), "GOVERNANCE", 30, None),
        (("COMPLIANCE", 40), "GOVERNANCE", 30, None),
        (("GOVERNANCE", 20), "GOVERNANCE", 30, ("GOVERNANCE", 30)),
        (("COMPLIANCE", 20), "GOVERNANCE", 30, ("COMPLIANCE", 30)),
        (("GOVERNANCE", 40), "COMPLIANCE", 30, ("COMPLIANCE", 40)),
        (("GOVERNANCE", -1), "GOVERNANCE", 30, ("GOVERNANCE", 30)),
        (("COMPLIANCE", -1), "GOVERNANCE", 30, ("GOVERNANCE", 30)),
    ],
)
async def test_a_lock_is_never_shorter_or_weaker(
    there: tuple[str, int], asked: str, days: int, becomes: tuple[str, int] | None
) -> None:
    """A lock that is there is extended or left; its mode is kept or made stronger."""
    tenant = await keyed()
    lock = Retention(LockMode(there[0]), NOW + timedelta(days=there[1]))
    tenant.protection.state = state(retention=lock)
    report = await protect(
        tenant, policy=False, mode=LockMode(asked), retention_days=days, confirmed=True
    )
    now = tenant.protection.state.retention
    assert isinstance(now, Retention)
    if becomes is None:
        assert now == lock
        assert tenant.protection.done == []
    else:
        assert now.mode == LockMode(becomes[0])
        assert abs(now.until - NOW - timedelta(days=becomes[1])) < timedelta(hours=1)
    assert report.exit_code == 0


@pytest.mark.parametrize("there", ["COMPLIANCE", ""])
async def test_what_cannot_be_undone_needs_a_word(there: str) -> None:
    """A compliance lock, new or extended, is set only when it was confirmed."""
    tenant = await keyed()
    if there:
        lock = Retention(LockMode.COMPLIANCE, NOW + timedelta(days=1))
        tenant.protection.state = state(retention=lock)
    asked = LockMode.GOVERNANCE if there else LockMode.COMPLIANCE
    with pytest.raises(UsageError, match="cannot be undone") as caught:
        await protect(tenant, mode=asked, retention_days=30)
    assert "--yes" in caught.value.hint
    assert tenant.protection.done == []
    assert (await protect(tenant, mode=asked, retention_days=30, confirmed=True)).exit_code == 0


async def test_locks_are_set_before_the_policy() -> None:
    """Some servers apply the policy's Deny to the setting of locks; so it comes last."""
    tenant = await keyed()
    await protect(tenant, policy=True, mode=LockMode.GOVERNANCE, retention_days=9, legal_hold=True)
    assert tenant.protection.done == ["retain", "hold", "put_policy", *TRIALS]


async def test_a_legal_hold_is_set_once() -> None:
    """A hold that is there is left and counts as enforced."""
    tenant = await keyed()
    for _ in range(2):
        report = await protect(tenant, policy=False, legal_hold=True)
        assert (report.results[0].enforced, report.exit_code) == (True, 0)
    assert tenant.protection.done == ["hold"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"versioning": False}, "keeps no versions"),
        ({"object_lock": False}, "has no Object Lock"),
        ({"versioning": LACKING}, "a directory has no such thing"),
        ({"object_lock": DENIED}, "Object Lock is not known"),
        ({"versions": DENIED}, "newest version of the key is not known"),
        ({"retention": DENIED, "legal_hold": DENIED}, "these credentials lack it"),
    ],
)
async def test_what_cannot_be_locked_says_why(changes: dict[str, Any], says: str) -> None:
    """Without versions or Object Lock nothing is sent, the reason is given, and the end is 15."""
    tenant = await keyed()
    tenant.protection.state = state(**changes)
    report = await protect(
        tenant, mode=LockMode.GOVERNANCE, retention_days=9, legal_hold=True, policy=True
    )
    assert tenant.protection.done == ["put_policy", *TRIALS]
    policy, lock, hold = report.results
    assert policy.enforced
    for result in (lock, hold):
        assert (result.done, result.enforced) == (False, False)
        assert says in result.text
    assert report.exit_code == 15


async def test_a_refusal_does_not_keep_the_rest_from_being_done() -> None:
    """What the server refuses is told with its reason; the other steps are done all the same."""
    tenant = await keyed()
    tenant.protection.refusals["put_policy"] = StoreAuthError("no such right", hint="grant it")
    report = await protect(tenant, legal_hold=True)
    policy, hold = report.results
    assert (policy.enforced, policy.text) == (False, "refused: no such right; grant it")
    assert hold.enforced
    assert report.exit_code == 0  # the policy was not asked for by name
    assert (await protect(tenant, policy=True, legal_hold=True)).exit_code == 15
    tenant.protection.refusals["put_policy"] = StoreTransient("not now")
    with pytest.raises(StoreTransient):
        await protect(tenant)


async def test_the_policy_is_taken_out_again() -> None:
    """``remove`` takes our statements out and nothing else; a second time there is nothing to do."""
    tenant = await keyed()
    theirs = {"Statement": [{"Sid": "Theirs", "Effect": "Allow"}]}
    tenant.protection.state = state(policy=json.dumps(theirs))
    await protect(tenant)
    report = await protect(tenant, remove=True)
    assert json.loads(str(tenant.protection.state.policy)) == theirs
    assert (report.results[0].done, report.exit_code) == (True, 0)
    tenant.protection.done.clear()
    assert not (await protect(tenant, remove=True)).results[0].done
    assert tenant.protection.done == []


async def test_a_removal_that_fails_is_not_called_done() -> None:
    """Refused, or not even to be read: 1; where there are no policies nothing is left: 0."""
    tenant = await keyed()
    await protect(tenant)
    tenant.protection.refusals["put_policy"] = StoreAuthError("no such right")
    report = await protect(tenant, remove=True)
    assert (report.results[0].text, report.exit_code) == ("refused: no such right", 1)
    tenant.protection.state = state(policy=DENIED)
    assert (await protect(tenant, remove=True)).exit_code == 1
    tenant.protection.state = state(policy=LACKING)
    assert (await protect(tenant, remove=True)).exit_code == 0


async def test_a_directory_gets_what_it_can_have() -> None:
    """The file is made read-only and that is not called more than it is; a policy asked for is 15."""
    tenant = await keyed()
    tenant.protection.state = state(
        versioning=LACKING, object_lock=LACKING, policy=LACKING, versions=LACKING,
        retention=LACKING, legal_hold=LACKING, permissions=0o600,
    )  # fmt: skip
    report = await protect(tenant)
    (result,) = report.results
    assert (result.kind, result.enforced, report.exit_code) == (Kind.READ_ONLY, True, 0)
    assert "remove or replace it" in result.text
    asked = await protect(tenant, policy=True)
    assert [r.enforced for r in asked.results] == [True, False]
    assert asked.exit_code == 15


async def test_a_key_that_is_not_good_is_not_locked_in_place() -> None:
    """Neither a key of another passphrase, nor one that opens nothing, nor an absent one."""
    tenant = await keyed()
    good = await tenant.take_key()
    with pytest.raises(SnapshotNotFound):
        await plan(tenant)
    await tenant.put(DEK_KEY, wrapped(new_dek()))
    with pytest.raises(KeyMaterialError, match="opens none of 1 objects"):
        await plan(tenant)
    await tenant.put(DEK_KEY, good[:-1] + b"\0")
    with pytest.raises(KeyMaterialError):
        await plan(tenant)
    assert (await plan(tenant, remove=True)).steps  # such a key must be possible to replace


@pytest.mark.parametrize(
    "wish",
    [
        {"mode": LockMode.GOVERNANCE},
        {"retention_days": 9},
        {"mode": LockMode.GOVERNANCE, "retention_days": 0},
        {"mode": LockMode.GOVERNANCE, "retention_days": 36_501},
        {"policy": False},
        {"remove": True, "legal_hold": True},
        {"remove": True, "policy": True},
    ],
)
def test_wishes_that_contradict_themselves(wish: dict[str, Any]) -> None:
    """They are refused before anything is asked of the store."""
    with pytest.raises(UsageError):
        ProtectionWish(**wish).check()


async def test_a_newer_version_than_the_locked_one_is_told() -> None:
    """When the key was written between the plan and the lock, the lock is on the older version."""
    tenant = await keyed()
    async with tenant.engine() as atlas:
        made = await atlas.plan_key_protection(
            ProtectionWish(policy=False, mode=LockMode.GOVERNANCE, retention_days=9)
        )
        assert made.state.newest is not None
        newer = type(made.state.newest)("v3", latest=True, deletion=False, modified=NOON)
        retain = tenant.protection.retain

        async def raced(key: str, version_id: str, retention: Retention) -> None:
            await retain(key, version_id, retention)
            lock = tenant.protection.state.retention
            tenant.protection.state = state(versions=(newer, made.state.newest), retention=lock)

        tenant.protection.retain = raced  # type: ignore[method-assign]
        report = await atlas.protect_key(made)
    assert "newer version" in report.results[0].text
    assert report.exit_code == 15
