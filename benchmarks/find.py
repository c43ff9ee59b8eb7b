"""Searching: what the index of words costs to make and to keep, and what it spares."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from atlas_async.catalog.head import Head, write_head
from atlas_async.catalog.layout import index_prefix
from atlas_async.catalog.manifest import write_manifest
from atlas_async.catalog.snapshot import Snapshot
from atlas_async.catalog.state import write_run
from atlas_async.catalog.vault import Vault
from atlas_async.clock import SystemClock
from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, Settings
from atlas_async.crypto.envelope import Sealer
from atlas_async.model.message import message_plaintext, message_record
from atlas_async.model.record import Row, message_key
from atlas_async.operations.finding import find, update_index
from atlas_async.operations.found import IndexMode
from atlas_async.operations.tenant import Tenant
from atlas_async.search.query import Query
from atlas_async.store.base import StoredObject
from atlas_async.store.memory import MemoryBucket, MemoryStore
from benchmarks.report import Options, Table, median_spread

NAME = "find"
HELP = "atlas find: making the index of words of 5,000 messages of about 12 KB, searching with it"

MAILBOX = "user@contoso.com"
VOCABULARY = 60_000
"""Words that mail is made of, the n-th of them used in proportion to 1/n, as in languages."""
WORDS_PER_MESSAGE = 650
MARKUP = '<p class="MsoNormal" style="margin:0cm;font-size:11pt;font-family:Calibri">{}</p>\r\n'
WORDS_PER_PARAGRAPH = 8


class WatchedStore(MemoryStore):
    """A bucket in memory that counts what is read from it."""

    def __init__(self, bucket: MemoryBucket) -> None:
        super().__init__(bucket)
        self.reads = 0
        self.bytes_read = 0

    async def get(self, key: str, *, most: int | None = None) -> StoredObject:
        """Read an object, and count it."""
        stored = await super().get(key, most=most)
        self.reads += 1
        self.bytes_read += len(stored.body)
        return stored


def letters(count: int) -> list[dict[str, Any]]:
    """Return message resources as Graph gives them, of words as frequent as a language's."""
    dice = random.Random(7)
    vocabulary = [
        "".join(dice.choices("aeiourstnldcmp", k=dice.randint(2, 10))) for _ in range(VOCABULARY)
    ]
    weights = list(itertools.accumulate(1 / (n + 2) for n in range(VOCABULARY)))
    people = [
        {"emailAddress": {"name": f"{first} {last}", "address": f"{first}.{last}@contoso.com"}}
        for first, last in zip(vocabulary[100:400], vocabulary[500:800], strict=True)
    ]
    found = []
    for number in range(count):
        words = dice.choices(vocabulary, cum_weights=weights, k=WORDS_PER_MESSAGE)
        words[dice.randrange(len(words))] = f"INV{number:07}"
        paragraphs = (
            MARKUP.format(" ".join(words[start : start + WORDS_PER_PARAGRAPH]))
            for start in range(0, len(words), WORDS_PER_PARAGRAPH)
        )
        found.append(
            {
                "id": f"AAMkAD{number:040}=",
                "subject": " ".join(words[:5]),
                "body": {
                    "contentType": "html",
                    "content": f"<html><body>{''.join(paragraphs)}</body></html>",
                },
                "from": dice.choice(people),
                "toRecipients": dice.choices(people, k=2),
                "receivedDateTime": f"2026-{1 + number % 12:02}-{1 + number % 28:02}T08:00:00Z",
                "isRead": True,
            }
        )
    return found


async def bucket_of(resources: Sequence[dict[str, Any]]) -> tuple[MemoryBucket, Sealer, int]:
    """Return a bucket with one snapshot of the messages, its key, and the messages' bytes."""
    bucket = MemoryBucket(exists=True)
    sealer = Sealer(bytes(range(32)))
    vault = Vault(MemoryStore(bucket), sealer, MAILBOX)
    rows: list[Row] = []
    for resource in resources:
        plaintext = message_plaintext(resource)
        rows.append(message_record(resource, "F1", plaintext))
        await vault.put_plaintext(message_key(MAILBOX, plaintext.checksum), plaintext.data)
    at = "2026-11-20T12:00:00.000Z"
    snapshot = replace(
        Snapshot("0199-find", MAILBOX, at, at, complete=True),
        messages=len(rows),
        runs=(await write_run(vault, rows),),
    )

    async def own_rows() -> AsyncIterator[list[Row]]:
        yield rows

    await write_manifest(vault, snapshot, own_rows, len(rows), spool_directory=None)
    await write_head(vault, Head(snapshot))
    stored = sum(row["size_bytes"] for row in rows if "size_bytes" in row)
    return bucket, sealer, stored


def tenant_of(bucket: MemoryBucket, sealer: Sealer) -> tuple[Tenant, WatchedStore]:
    """Return an opened tenant over the bucket, and the store that counts."""
    store = WatchedStore(bucket)
    settings = Settings(None, DirectorySettings(Path("unused")), "tenant", Secret("unused"))
    return Tenant(settings, store, SystemClock(), sealer), store


async def measure(options: Options) -> Table:
    """Measure making the index, and queries with it and without."""
    count = 200 if options.quick else 5_000
    resources = letters(count)
    bucket, sealer, stored = await bucket_of(resources)
    words = Counter(word for resource in resources for word in resource["subject"].split())
    ((frequent, _),) = words.most_common(1)
    in_a_row = " ".join(resources[3]["subject"].split()[1:4])
    queries = {
        "rows alone: --subject": Query(subject=(in_a_row,)),
        "one message: INV0000042": Query(words=("INV0000042",)),
        "three words in a row": Query(body=(in_a_row,)),
        "a frequent word": Query(body=(f'"{frequent}"',)),
        "no message": Query(words=("notthere",)),
    }
    rows: list[list[str]] = []
    data: dict[str, Any] = {"messages": count, "message_bytes": stored}
    made: list[dict[str, float]] = []
    for _ in range(options.repeat):
        fresh = MemoryBucket(dict(bucket.objects), exists=True)
        tenant, _ = tenant_of(fresh, sealer)
        wall, cpu = time.perf_counter(), time.process_time()
        report = await update_index(tenant, lambda _: None)
        made.append(
            {
                "seconds": time.perf_counter() - wall,
                "cpu": time.process_time() - cpu,
                "index_bytes": report.index.size,
            }
        )
        indexed = fresh
    index_bytes = made[-1]["index_bytes"]
    parts = sum(key.startswith(index_prefix(MAILBOX)) for key in indexed.objects)
    data["index"] = {"runs": made, "objects": parts}
    data["queries"] = {}
    for name, query in queries.items():
        told = {}
        for mode in (IndexMode.AUTO, IndexMode.NONE):
            runs = [await _asked(indexed, sealer, query, mode) for _ in range(options.repeat)]
            told[mode.name] = runs
            rows.append(
                [
                    name,
                    "index" if mode is IndexMode.AUTO else "none",
                    median_spread([run["seconds"] for run in runs], 3),
                    f"{runs[0]['matches']:,.0f}",
                    f"{runs[0]['opened']:,.0f}",
                    f"{runs[0]['reads']:,.0f}",
                    f"{runs[0]['bytes'] / 1_000:,.0f}",
                ]
            )
        data["queries"][name] = told
    seconds = statistics.median(run["seconds"] for run in made)
    notes = [
        (
            f"index made in {median_spread([run['seconds'] for run in made], 1)} s "
            f"({count / seconds:,.0f} messages/s), "
            f"{median_spread([run['cpu'] for run in made], 1)} CPU s: every message is opened once"
        ),
        (
            f"index: {index_bytes:,.0f} bytes in {parts} objects, {index_bytes / count:,.0f} bytes "
            f"a message, {index_bytes / stored:.1%} of the messages' {stored:,} bytes"
        ),
        (
            f"bodies: {WORDS_PER_MESSAGE} words of a vocabulary of {VOCABULARY:,}, the n-th used "
            "in proportion to 1/n, in the markup of Outlook"
        ),
        "the store is in memory; objects read are what a store elsewhere would be asked for",
    ]
    return Table(
        NAME,
        f"Searching one mailbox of {count:,} messages of about {stored // count // 1000} KB",
        ("query", "with", "seconds", "matches", "opened", "objects read", "KB read"),
        rows,
        notes,
        data,
    )


async def _asked(
    bucket: MemoryBucket, sealer: Sealer, query: Query, mode: IndexMode
) -> dict[str, float]:
    tenant, store = tenant_of(bucket, sealer)
    started = time.perf_counter()
    report = await find(tenant, lambda _: None, query, index=mode)
    return {
        "seconds": time.perf_counter() - started,
        "matches": report.found,
        "opened": report.opened,
        "reads": store.reads,
        "bytes": store.bytes_read,
    }
