"""What the session to Graph takes from the machine."""

from __future__ import annotations

import pytest

from atlas_async.config.secret import Secret
from atlas_async.config.settings import GraphSettings
from atlas_async.graph.transport import _look_around


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("proxy.test:3128", "http://proxy.test:3128"),
        ("user:hush@[::1]:3128", "http://user:hush@[::1]:3128"),
        ("http://proxy.test:3128", "http://proxy.test:3128"),
        ("https://proxy.test", "https://proxy.test"),
    ],
)
def test_a_proxy_may_be_written_without_its_scheme(
    monkeypatch: pytest.MonkeyPatch, written: str, read: str
) -> None:
    """``HOST:PORT`` is read as curl does; a scheme is kept."""
    monkeypatch.setenv("https_proxy", written)
    monkeypatch.setenv("no_proxy", "")
    settings = GraphSettings("tenant", "client", Secret("s"), graph_url="https://graph.test")
    assert _look_around(settings).proxy == read
