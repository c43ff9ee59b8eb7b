"""Sealed documents of a bucket, opened and changed: what only a defect or a newer program does."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

from atlas_async.catalog.document import MAGIC, pack
from atlas_async.config.secret import Secret
from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.keyring import unwrap_dek
from tests.badday.console import PASSPHRASE, Console

Change = Callable[[dict[str, Any]], None]


def open_sealer(console: Console) -> Sealer:
    """Return what opens and seals the bucket's objects."""
    blob = (console.bucket / "_meta" / "dek.enc").read_bytes()
    tenant = str(console.office.emulator.tenant.id)
    return Sealer(unwrap_dek(blob, Secret(PASSPHRASE), tenant))


def rewrite(console: Console, pattern: str, kind: str, change: Change) -> None:
    """Change the catalog document that ``pattern`` names, and seal it again."""
    sealer = open_sealer(console)

    def edit(body: bytes) -> bytes:
        document = json.loads(zlib.decompress(sealer.open(body)[len(MAGIC) :]))
        assert document["kind"] == kind
        change(document)
        return sealer.seal(pack(document)).body

    console.damage(pattern, edit)


def rewrite_manifest(console: Console, change: Change) -> None:
    """Change the first manifest, and seal it again."""
    sealer = open_sealer(console)

    def edit(body: bytes) -> bytes:
        document = json.loads(sealer.open(body))
        change(document)
        return sealer.seal(json.dumps(document).encode()).body

    console.damage("manifests/*/*.json", edit)
