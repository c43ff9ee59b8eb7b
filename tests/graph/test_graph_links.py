"""Links: a token reaches one origin only."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.errors import AtlasError, AuthError, GraphProtocolError
from atlas_async.graph.links import OFFICIAL_HOSTS, GraphRoot

GLOBAL = "https://graph.microsoft.com"


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        (GLOBAL, f"{GLOBAL}/v1.0/users"),
        (f"{GLOBAL}/", f"{GLOBAL}/v1.0/users"),
        (f"{GLOBAL}/v1.0", f"{GLOBAL}/v1.0/users"),
        (f"{GLOBAL}/beta/", f"{GLOBAL}/beta/users"),
        ("https://proxy.test:8443/graph", "https://proxy.test:8443/graph/v1.0/users"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1.0/users"),
        ("http://[::1]:8080/v1.0", "http://[::1]:8080/v1.0/users"),
    ],
)
def test_the_root_may_carry_its_version(root: str, expected: str) -> None:
    """With or without version, port or prefix, the same URLs come out."""
    assert GraphRoot(root).url("users") == expected


@pytest.mark.parametrize("root", ["http://graph.test", "ftp://127.0.0.1", "graph.test", "https://"])
def test_a_token_never_travels_in_the_clear(root: str) -> None:
    """Anything but https, or http to this machine, is refused."""
    with pytest.raises(AuthError, match="https"):
        GraphRoot(root)


def test_queries_keep_their_punctuation() -> None:
    """Commas and dollar signs stay, everything unsafe is encoded."""
    url = GraphRoot(GLOBAL).url("users", query={"$select": "id,mail", "$filter": "mail eq 'a&b'"})

    assert url == f"{GLOBAL}/v1.0/users?$select=id,mail&$filter=mail%20eq%20'a%26b'"


@given(st.text(min_size=1))
def test_a_segment_stays_one_segment(segment: str) -> None:
    """No identifier can change the path around it."""
    root = GraphRoot(GLOBAL)
    try:
        url = root.url("users", segment, "messages")
    except (GraphProtocolError, UnicodeEncodeError):
        assert segment in {".", ".."} or any("\ud800" <= c <= "\udfff" for c in segment)
        return
    parts = urlsplit(url)

    assert parts.netloc == "graph.microsoft.com"
    assert not parts.query
    assert not parts.fragment
    assert [unquote(part) for part in parts.path.split("/")] == [
        "", "v1.0", "users", segment, "messages",
    ]  # fmt: skip


def test_own_links_are_followed_as_they_are() -> None:
    """A link of the configured origin is opaque."""
    link = f"{GLOBAL}/v1.0/users('a%20b')/x?$skiptoken=%41%2f+~"

    assert GraphRoot(GLOBAL).adopt(link) == link
    assert GraphRoot(f"{GLOBAL}:443").adopt(link) == link


@pytest.mark.parametrize("host", sorted(OFFICIAL_HOSTS, key=str))
def test_official_links_move_to_the_configured_origin(host: str) -> None:
    """A bucket written against a Graph root goes on through a proxy."""
    adopted = GraphRoot("https://proxy.test/graph").adopt(f"https://{host}/v1.0/x?$deltatoken=a%2F")

    assert adopted == "https://proxy.test/graph/v1.0/x?$deltatoken=a%2F"


def test_loopback_links_survive_a_new_port() -> None:
    """A bucket written against a local server goes on when that listens elsewhere."""
    root = GraphRoot("http://127.0.0.1:2000")

    assert root.adopt("https://localhost:1000/v1.0/x") == "http://127.0.0.1:2000/v1.0/x"


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.test/v1.0/x",
        "https://graph.microsoft.com.evil.test/x",
        "https://graph.microsoft.com@evil.test/x",
        "https://graph.microsoft.com\\@evil.test/x",
        "https://graph.microsoft.com:8443/x",
        "http://graph.microsoft.com/x",
        "http://127.0.0.1/x",
        "https://graph.microsoft.com/v1.0/users//messages",
        "https://graph.microsoft.com/v1.0/x\r\nHost: evil.test",
        "https://graph.microsoft.com:99999/x",
        "https://[::1/x",
        "/v1.0/x",
        "",
    ],
)
def test_other_links_are_refused(link: str) -> None:
    """Links to other hosts, in the clear, or malformed are not followed."""
    with pytest.raises(GraphProtocolError):
        GraphRoot(GLOBAL).adopt(link)


@given(st.text() | st.from_regex(r"https?://[a-z.@:\\/%0-9]{1,30}", fullmatch=True))
def test_whatever_is_adopted_leads_home(link: str) -> None:
    """No text at all makes a URL of another origin."""
    root = GraphRoot("https://graph.test")
    try:
        adopted = root.adopt(link)
    except AtlasError:
        return

    assert urlsplit(adopted)[:2] == ("https", "graph.test")
