"""A reader of the bucket format that shares nothing with the product: written from the format page.

Works on a bucket as plain files: ``root/atlas-{tenant_id}/{key}``.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Json = dict[str, Any]


@dataclass(frozen=True)
class Message:
    """A message as of a snapshot; attachments are records with bytes, None without content.

    ``original`` is its MIME, None where there is none.
    """

    record: Json
    plaintext: bytes
    resource: Json
    attachments: list[tuple[Json, bytes | None]]
    original: bytes | None


@dataclass(frozen=True)
class Snapshot:
    """A mailbox at one moment. ``folders`` maps ids to paths; Atlas stores none."""

    mailbox_id: str
    snapshot_id: str
    created_at: str
    complete: bool
    descriptor: Json | None
    folders: dict[str, list[str]]
    messages: dict[str, Message]
    ledger: list[Json]


def unseal(key: bytes, blob: bytes, associated: bytes = b"") -> bytes:
    """Open ``[IV 12][tag 16][ciphertext]``; raises ``InvalidTag``."""
    return AESGCM(key).decrypt(blob[:12], blob[28:] + blob[12:28], associated)


def unwrap(blob: bytes, passphrase: str, tenant_id: str) -> bytes:
    """Return the data key out of either generation of wrapped key."""
    tenant, n, r, p, salt, head = tenant_id.encode(), 16384, 8, 1, tenant_id.encode(), 0
    if blob[:2] == b"\x01\x01" and len(blob) == 102:
        size, n, r, p, own_salt = struct.unpack(">HIBB32s", blob[2:42])
        assert (size, n.bit_count(), 2**14 <= n <= 2**20) == (38, 1, True)
        salt, head = struct.pack(">H", len(tenant)) + tenant + own_salt, 42
    kek = hashlib.scrypt(passphrase.encode(), salt=salt, n=n, r=r, p=p, dklen=32, maxmem=2**31 - 1)
    return unseal(kek, blob[head:], blob[:head])


class Bucket:
    """One tenant's bucket and its data key."""

    def __init__(self, root: Path, passphrase: str, tenant_id: str) -> None:
        self.root = root / f"atlas-{tenant_id}"
        self.key = unwrap((self.root / "_meta/dek.enc").read_bytes(), passphrase, tenant_id)

    def plain(self, key: str, sha256: str = "") -> bytes:
        """Return an object's plaintext, checked against its hash where it has one."""
        plaintext = unseal(self.key, (self.root / key).read_bytes())
        assert not sha256 or hashlib.sha256(plaintext).hexdigest() == sha256, key
        return plaintext

    def document(self, key: str, kind: str, mailbox: str, sha256: str = "") -> Json:
        raw = self.plain(key, sha256)
        assert raw[:4] == b"AAC1", key
        found: Json = json.loads(zlib.decompress(raw[4:]))
        assert (found["format"], found["kind"], found["mailbox_id"]) == (1, kind, mailbox), key
        return found

    def rows(self, mailbox: str, reference: list[Any]) -> list[Json]:
        """Return the rows of a segment, in order."""
        sha256, count, first, last, sealed = reference
        raw = self.plain(f"catalog/{mailbox}/segments/{sha256}", sha256)
        assert (raw[:4], len(raw) + 28) == (b"AAS1", sealed)
        start = 8 + struct.unpack(">I", raw[4:8])[0]
        index = json.loads(zlib.decompress(raw[8:start]))
        assert (index["format"], index["kind"], index["mailbox_id"]) == (1, "segment", mailbox)
        rows: list[Json] = []
        for _, offset, length, size in index["blocks"]:
            block = zlib.decompress(raw[start + offset : start + offset + length]).split(b"\n")
            assert len(block) == size
            rows += [json.loads(line) for line in block]
        order = [(slot_of(row["object_id"]), row["object_id"]) for row in rows]
        assert (order, len(order)) == (sorted(order), count)
        assert (order[0][0], order[-1][0]) == (first, last)
        return rows

    def message(self, mailbox: str, record: Json) -> Message:
        """Return a message with its content and the state that the record gives it."""
        plaintext = self.plain(f"data/{mailbox}/{record['checksum']}", record["checksum"])
        assert len(plaintext) == record["size_bytes"]
        resource = json.loads(plaintext)
        if "is_read" in record:
            flag = record.get("flag_detail") or {"flagStatus": record["flag"]}
            resource |= {"isRead": record["is_read"], "flag": flag}
            resource |= {"categories": record["categories"]}
        resource |= {"parentFolderId": record["folder_id"]}
        parts: list[tuple[Json, bytes | None]] = []
        for part in record.get("attachments", []):
            sha256, key = part["checksum"], f"attachments/{mailbox}/{part['checksum']}"
            parts.append((part, self.plain(key, sha256) if sha256 else None))
        original = None
        if "original" in record:
            sha256 = record["original"]["checksum"]
            original = self.plain(f"catalog/{mailbox}/originals/{sha256}", sha256)
            assert len(original) == record["original"]["size_bytes"]
        return Message(record, plaintext, resource, parts, original)

    def snapshots(self, mailbox: str) -> list[Snapshot]:
        """Return a mailbox's snapshots, oldest first."""
        names = [path.name for path in (self.root / "manifests" / mailbox).iterdir()]
        manifests = [json.loads(self.plain(f"manifests/{mailbox}/{name}")) for name in names]
        seen: Json = {}
        found = []
        for manifest in sorted(manifests, key=lambda m: str(m["created_at"])):
            name, made_at = manifest["snapshot_id"], manifest["created_at"]
            descriptor, ledger, rows = None, [], seen
            if (self.root / f"catalog/{mailbox}/snapshots/{name}").exists():
                key = f"catalog/{mailbox}/snapshots/{name}"
                descriptor = self.document(key, "snapshot", mailbox)
                rows = {}
                for segment in (s for run in descriptor["runs"] for s in run):
                    rows |= {row["object_id"]: row for row in self.rows(mailbox, segment)}
                if descriptor["ledger"]:
                    key = f"catalog/{mailbox}/ledgers/{descriptor['ledger'][0]}"
                    ledger = self.document(key, "ledger", mailbox, key[-64:])["entries"]
            else:
                seen |= {entry["object_id"]: entry for entry in manifest["entries"]}
            folders = {f[0]: f[3] for f in descriptor["folders"]} if descriptor else {}
            full = {i: self.message(mailbox, r) for i, r in rows.items() if not r.get("gone")}
            done = descriptor["complete"] if descriptor else False
            found.append(Snapshot(mailbox, name, made_at, done, descriptor, folders, full, ledger))
        return found


def slot_of(object_id: str) -> str:
    """Return the slot that a message's id puts its row in."""
    return hashlib.sha256(object_id.encode()).digest()[:8].hex()


def read_bucket(root: Path, passphrase: str, tenant_id: str) -> dict[str, list[Snapshot]]:
    """Return every mailbox's snapshots, oldest first, everything decrypted and checked."""
    bucket = Bucket(root, passphrase, tenant_id)
    return {p.name: bucket.snapshots(p.name) for p in sorted((bucket.root / "manifests").iterdir())}
