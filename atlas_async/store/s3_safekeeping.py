"""What S3's answers about a bucket say of one object. Pure."""

from __future__ import annotations

from typing import Any

from atlas_async.config.settings import S3Settings
from atlas_async.store.protection import ObjectVersion


def partition_of(settings: S3Settings) -> str:
    """Return which AWS the bucket's ARN is of; China and the US government have their own."""
    if settings.endpoint and "amazonaws.com" not in settings.endpoint:
        return "aws"
    for start, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if settings.region.startswith(start):
            return partition
    return "aws"


def version_of(entry: Any, *, deletion: bool) -> ObjectVersion:
    """Return an entry of a listing of versions."""
    return ObjectVersion(
        version_id=str(entry.get("VersionId") or "null"),
        latest=bool(entry.get("IsLatest")),
        deletion=deletion,
        modified=entry.get("LastModified"),
        size=int(entry.get("Size") or 0),
    )


def newest_first(version: ObjectVersion) -> tuple[bool, float]:
    """Sort the newest first."""
    return not version.latest, -version.modified.timestamp() if version.modified else 0.0


def deletion_by(rule: Any, key: str) -> str:
    """Return what a lifecycle rule does to ``key``, or "" when it lets it be."""
    scope = rule.get("Filter") or {}
    both = scope.get("And") or {}
    prefix = rule.get("Prefix") or scope.get("Prefix") or both.get("Prefix") or ""
    tagged = bool(scope.get("Tag") or both.get("Tags"))  # our objects carry no tags
    expiration = rule.get("Expiration") or {}
    if rule.get("Status") != "Enabled" or tagged or not key.startswith(prefix):
        return ""
    if "Days" in expiration:
        when = f"{expiration['Days']} days after it was written"
    elif "Date" in expiration:
        when = f"on {expiration['Date']:%Y-%m-%d}"
    else:
        return ""
    return f"{rule.get('ID') or '(unnamed)'}: {when}"
