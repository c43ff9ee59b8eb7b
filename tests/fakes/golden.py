"""The bucket in ``tests/golden`` that Atlas 1.3.0 wrote, ready to be opened."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, GraphSettings, Settings
from atlas_async.store.base import ObjectInfo, StoredObject
from atlas_async.store.memory import MemoryBucket, MemoryStore

GOLDEN = Path(__file__).parent.parent / "golden" / "atlas-1.3.0"
DEK_KEY = "_meta/dek.enc"


def golden_metadata() -> dict[str, Any]:
    """Return what the bucket's author noted: tenant, passphrase, objects, plaintext hashes."""
    found: dict[str, Any] = json.loads((GOLDEN / "metadata.json").read_bytes())
    return found


def golden_objects(*, dek_version: int = 1) -> dict[str, bytes]:
    """Return the bodies by key, with the data key wrapped in either way."""
    root = GOLDEN / "objects"
    found = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    if dek_version == 0:
        found[DEK_KEY] = (GOLDEN / "dek-v0.enc").read_bytes()
    return found


def golden_store(*, dek_version: int = 1) -> MemoryStore:
    """Return a bucket in memory with the golden objects and their metadata."""
    noted = golden_metadata()["objects"]
    bucket = MemoryBucket(exists=True)
    for key, body in golden_objects(dek_version=dek_version).items():
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        info = ObjectInfo(key, len(body), etag, metadata=noted[key]["metadata"])
        bucket.objects[key] = StoredObject(info, body)
    return MemoryStore(bucket)


def golden_settings(
    *, graph: GraphSettings | None = None, passphrase: str | None = None
) -> Settings:
    """Return the golden tenant's settings; its store is always handed in."""
    noted = golden_metadata()
    return Settings(
        graph=graph,
        storage=DirectorySettings(Path("unused")),
        tenant_id=noted["tenant_id"],
        passphrase=Secret(noted["passphrase"] if passphrase is None else passphrase),
    )
