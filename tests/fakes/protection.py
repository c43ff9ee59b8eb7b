"""A bucket's protection held in memory, which does what a test says servers do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from atlas_async.errors import AtlasError, ObjectNotFound
from atlas_async.store.protection import ObjectState, ObjectVersion, Retention

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NEWEST = ObjectVersion("v2", latest=True, deletion=False, modified=NOON, size=60)
OLDER = ObjectVersion("v1", latest=False, deletion=False, modified=NOON, size=60)
DELETION = ObjectVersion("m1", latest=True, deletion=True, modified=NOON)


def state(**changes: object) -> ObjectState:
    """Return the state of a key on a server that can do everything and does nothing yet."""
    bare = ObjectState(
        versioning=True,
        object_lock=True,
        policy="",
        versions=(NEWEST,),
        retention=None,
        legal_hold=False,
        expiry=(),
    )
    return replace(bare, **changes)  # type: ignore[arg-type]  # tests change single fields by name


@dataclass
class FakeProtection:
    """Keeps a state, and what it was asked to do.

    Args:
        state: What is there.
        enforces: Whether the policy binds whoever tries to delete.
        powerless: Whether the credentials may delete nothing at all.
        refusals: Errors raised by single methods.
        bodies: Versions that can be read.
        normalise: What the server makes of a policy.
    """

    state: ObjectState
    enforces: bool = True
    powerless: bool = False
    refusals: dict[str, AtlasError] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    normalise: Callable[[str], str] = str
    done: list[str] = field(default_factory=list)

    def resource(self, pattern: str) -> str:
        return f"arn:aws:s3:::bucket/{pattern}"

    async def look(self, key: str) -> ObjectState:
        return self.state

    async def put_policy(self, policy: str) -> None:
        self._do("put_policy")
        self.state = replace(self.state, policy=self.normalise(policy))

    async def retain(self, key: str, version_id: str, retention: Retention) -> None:
        self._do("retain")
        assert self.state.newest is not None
        assert version_id == self.state.newest.version_id
        self.state = replace(self.state, retention=retention)

    async def hold(self, key: str, version_id: str) -> None:
        self._do("hold")
        self.state = replace(self.state, legal_hold=True)

    async def make_read_only(self, key: str) -> None:
        self._do("make_read_only")
        self.state = replace(self.state, permissions=0o400)

    async def refuses_deletion(self, prefix: str) -> bool:
        self.done.append(f"trial {prefix}")
        return self.powerless or (prefix == "_meta/" and self.enforces)

    async def read_version(self, key: str, version_id: str, *, most: int) -> bytes:
        try:
            return self.bodies[version_id]
        except KeyError:
            raise ObjectNotFound("no such version") from None

    def _do(self, what: str) -> None:
        if what in self.refusals:
            raise self.refusals[what]
        self.done.append(what)
