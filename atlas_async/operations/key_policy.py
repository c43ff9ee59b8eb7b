"""Our statements in a bucket policy: who else has statements there keeps them as they are. Pure.

Nobody may delete below ``_meta/``, whoever they are, or lift a governance lock there; and nobody
may write the wrapped key, which is never written again once it exists. A Deny outweighs every
Allow. Taking the statements out again is the one way round, which ``s3:PutBucketPolicy`` permits.
"""

from __future__ import annotations

import json
from typing import Any, Final

from atlas_async.catalog.layout import DEK_KEY

KEEP_PREFIX: Final = "_meta/"
KEEP_SID: Final = "AtlasKeepMeta"
FREEZE_SID: Final = "AtlasFreezeKey"
SIDS: Final = frozenset({KEEP_SID, FREEZE_SID})
_VERSION: Final = "2012-10-17"


def our_statements(keep: str, freeze: str) -> list[dict[str, Any]]:
    """Return our statements.

    Args:
        keep: The resource of all keys below ``_meta/``.
        freeze: The resource of the wrapped key.
    """
    deletions = ["s3:BypassGovernanceRetention", "s3:DeleteObject", "s3:DeleteObjectVersion"]
    return [
        _denial(KEEP_SID, deletions, keep),
        _denial(FREEZE_SID, ["s3:PutObject"], freeze),
    ]


def patterns() -> tuple[str, str]:
    """Return the keys that the two statements are about, as patterns."""
    return f"{KEEP_PREFIX}*", DEK_KEY


def has_ours(policy: str, ours: list[dict[str, Any]]) -> bool:
    """Tell whether the policy holds our statements, in whatever form the server gives them."""
    found = [_normal(statement) for statement in _statements(policy) if _is_ours(statement)]
    return sorted(found) == sorted(_normal(statement) for statement in ours)


def with_ours(policy: str, ours: list[dict[str, Any]]) -> str:
    """Return the policy with our statements last, those of others untouched."""
    document = json.loads(policy) if policy else {"Version": _VERSION}
    return json.dumps({**document, "Statement": [*_foreign(policy), *ours]})


def without_ours(policy: str) -> str:
    """Return the policy without our statements; "" when nothing else is in it."""
    foreign = _foreign(policy)
    return json.dumps({**json.loads(policy), "Statement": foreign}) if foreign else ""


def holds_any_of_ours(policy: str) -> bool:
    """Tell whether a statement bears one of our names, whatever it says."""
    return any(_is_ours(statement) for statement in _statements(policy))


def foreign_kept(before: str, after: str) -> bool:
    """Tell whether every statement of others is in both policies."""
    kept = [sorted(_normal(statement) for statement in _foreign(text)) for text in (before, after)]
    return kept[0] == kept[1]


def count_foreign(policy: str) -> int:
    """Return how many statements others have in the policy."""
    return len(_foreign(policy))


def _denial(sid: str, actions: list[str], resource: str) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": "*",
        "Action": actions,
        "Resource": resource,
    }


def _foreign(policy: str) -> list[Any]:
    return [statement for statement in _statements(policy) if not _is_ours(statement)]


def _is_ours(statement: Any) -> bool:
    return isinstance(statement, dict) and statement.get("Sid") in SIDS


def _statements(policy: str) -> list[Any]:
    """Return the statements; a lone one may stand without a list."""
    found = json.loads(policy).get("Statement", []) if policy else []
    return found if isinstance(found, list) else [found]


def _normal(statement: Any) -> str:
    """Return a statement as text that is the same for all ways to write it.

    Servers give lists sorted, single values as lists, and everybody as ``{"AWS": ["*"]}``.
    """
    if not isinstance(statement, dict):
        return json.dumps(statement)
    normal = dict(statement)
    for name in ("Action", "NotAction", "Resource", "NotResource"):
        if name in normal:
            normal[name] = _sorted(normal[name])
    for name in ("Principal", "NotPrincipal"):
        who = normal.get(name)
        if isinstance(who, dict):
            kinds = {kind: _sorted(names) for kind, names in who.items()}
            normal[name] = "*" if kinds == {"AWS": ["*"]} else kinds
    return json.dumps(normal, sort_keys=True)


def _sorted(value: Any) -> Any:
    if isinstance(value, list):
        return sorted(value, key=str)
    return [value]
