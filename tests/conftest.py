"""Fixtures for all tests: the event loop is defended, the developer's environment is hidden."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

# Property tests draw the same examples every time, and no machine is too slow for them.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def no_blocking_calls(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """Fail a test in which a coroutine of the package blocks the event loop."""
    if "may_block" in request.keywords:
        yield None
        return
    with blockbuster_ctx("atlas_async") as blockbuster:
        for function in blockbuster.functions.values():
            # Code on a worker thread's own loop may block: that is what the thread is for.
            function.can_block_in("atlas_async/store/own_loop.py", {"_run_there"})
            # The measurement of coverage takes a lock of its own inside whatever it measures.
            function.can_block_in("coverage/collector.py", {"lock_data"})
        yield blockbuster


@pytest.fixture(autouse=True)
def no_ambient_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide settings of the machine the tests run on."""
    import os

    for name in list(os.environ):
        if name.startswith(("ATLAS_", "AWS_")) and not name.startswith("ATLAS_TEST_"):
            monkeypatch.delenv(name)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
