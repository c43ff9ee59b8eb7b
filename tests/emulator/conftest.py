"""Emulators of a small tenant, plain and over TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from atlas_async.emulator import Corpus, CorpusOptions, Emulator
from tests.emulator.judge import judge, no_foreign_bundles
from tests.fakes.graph_probe import GraphProbe

__all__ = ["judge", "no_foreign_bundles"]

ADDRESS = "user0000@contoso.com"


@pytest.fixture
def corpus() -> Corpus:
    """A tenant with every kind of principal, folder and attachment."""
    return Corpus(
        CorpusOptions(
            mailboxes=2,
            messages=120,
            body_median=2_000,
            attachment_share=0.5,
            attachment_median=2_000,
            attachment_top=50_000,
            item_share=0.2,
            reference_share=0.2,
            smime_share=0.03,
        )
    )


@pytest.fixture
async def emulator(corpus: Corpus) -> AsyncIterator[Emulator]:
    """An emulator over plain http."""
    async with Emulator(corpus) as running:
        yield running


@pytest.fixture
async def probe(emulator: Emulator) -> AsyncIterator[GraphProbe]:
    """A client that is signed in."""
    async with GraphProbe(emulator) as client:
        yield client
