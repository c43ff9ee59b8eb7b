"""Our statements among those of others, in every form in which servers give a policy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atlas_async.operations import key_policy

OURS = key_policy.our_statements("arn:aws:s3:::b/_meta/*", "arn:aws:s3:::b/_meta/dek.enc")
FOREIGN: dict[str, Any] = {
    "Sid": "ReadersOnly",
    "Effect": "Allow",
    "Principal": {"AWS": ["arn:aws:iam::1:user/a"]},
    "Action": "s3:GetObject",
    "Resource": ["arn:aws:s3:::b/*"],
    "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
}


def as_minio(policy: str) -> str:
    """Return a policy as MinIO gives it back: lists everywhere, sorted, everybody spelt out."""
    document = json.loads(policy)
    for statement in document["Statement"]:
        for name in ("Action", "Resource"):
            value = statement[name]
            statement[name] = sorted([value] if isinstance(value, str) else value)
        if statement["Principal"] == "*":
            statement["Principal"] = {"AWS": ["*"]}
    return json.dumps(document)


def test_deletion_and_overwriting_are_denied_to_everybody() -> None:
    """Below _meta/ nobody deletes, whatever else allows it; the key itself nobody writes."""
    policy = json.loads(key_policy.with_ours("", OURS))
    assert policy["Version"] == "2012-10-17"
    keep, freeze = policy["Statement"]
    assert (keep["Effect"], keep["Principal"]) == ("Deny", "*")
    assert {"s3:DeleteObject", "s3:DeleteObjectVersion"} <= set(keep["Action"])
    assert keep["Resource"] == "arn:aws:s3:::b/_meta/*"
    assert (freeze["Effect"], freeze["Action"]) == ("Deny", ["s3:PutObject"])
    assert freeze["Resource"] == "arn:aws:s3:::b/_meta/dek.enc"


@pytest.mark.parametrize("statement", [[FOREIGN], FOREIGN])
def test_foreign_statements_stay_as_they_are(statement: Any) -> None:
    """Statements of others, and whatever else stands in the policy, survive both ways."""
    before = json.dumps({"Version": "2008-10-17", "Id": "theirs", "Statement": statement})
    after = key_policy.with_ours(before, OURS)
    document = json.loads(after)
    assert (document["Version"], document["Id"]) == ("2008-10-17", "theirs")
    assert document["Statement"] == [FOREIGN, *OURS]
    assert key_policy.foreign_kept(before, after)
    assert not key_policy.foreign_kept(before, key_policy.with_ours("", OURS))
    without = json.loads(key_policy.without_ours(after))
    assert without == {"Version": "2008-10-17", "Id": "theirs", "Statement": [FOREIGN]}


def test_adding_twice_is_adding_once() -> None:
    """Ours replace ours, also what somebody changed in them; a policy of ours alone goes whole."""
    once = key_policy.with_ours("", OURS)
    assert key_policy.with_ours(once, OURS) == once
    changed = json.loads(once)
    changed["Statement"][0]["Effect"] = "Allow"
    assert not key_policy.has_ours(json.dumps(changed), OURS)
    assert key_policy.holds_any_of_ours(json.dumps(changed))
    assert key_policy.with_ours(json.dumps(changed), OURS) == once
    assert key_policy.without_ours(once) == ""


def test_ours_are_recognised_in_a_servers_form() -> None:
    """Sorted lists and a principal spelt out are the same statement; another bucket's is not."""
    given = as_minio(key_policy.with_ours(json.dumps({"Statement": FOREIGN}), OURS))
    assert key_policy.has_ours(given, OURS)
    assert key_policy.count_foreign(given) == 1
    elsewhere = key_policy.our_statements("arn:aws:s3:::c/_meta/*", "arn:aws:s3:::c/_meta/dek.enc")
    assert not key_policy.has_ours(given, elsewhere)
    assert not key_policy.has_ours("", OURS)
