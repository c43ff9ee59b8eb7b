"""Networks that are down, lie, or have somebody in between."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NoReturn

import pytest

from atlas_async.cli import session
from tests.badday.conftest import open_hasty
from tests.badday.console import Console
from tests.badday.office import Office, open_office
from tests.fakes.rig import USER
from tests.fakes.s3_servers import free_port


def test_no_network(console: Console, office: Office) -> None:
    """Where nothing answers, the host and the reason are named; nothing is lost."""
    first = str(console.backup()["snapshot_id"])
    files = console.files()
    nowhere = f"http://127.0.0.1:{free_port()}"
    console.set(ATLAS_AUTHORITY_URL=nowhere, ATLAS_GRAPH_URL=nowhere)
    console.fails(
        1,
        "backup",
        says=["Entra ID cannot be reached at 127.0.0.1: connection refused", "Check the network"],
    )
    assert console.files() == files
    console.set(**office.settings())
    console.assert_recovers(first)


def test_names_that_do_not_resolve(
    console: Console, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a name service the error says that the name cannot be resolved, and whose."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    console.set(
        ATLAS_AUTHORITY_URL="https://login.invalid", ATLAS_GRAPH_URL="https://graph.invalid"
    )
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", fail)
        console.fails(
            1, "backup", says=["login.invalid: its name cannot be resolved", "name service"]
        )
    console.set(**office.settings())
    console.assert_completes()


def test_graph_that_breaks_off(console: Console, office: Office) -> None:
    """Connections that Graph keeps closing fail the mailbox, not the data; so does the directory."""
    first = str(console.backup()["snapshot_id"])
    office.fault(action="reset", path="/mailFolders", count=-1)
    ended = console.run("backup")
    assert ended.code == 1
    assert f"{USER}: The connection to Microsoft Graph failed: the connection was" in ended.out
    assert "hint: Check the network" in ended.out
    office.heal()
    office.fault(action="reset", count=-1)
    console.fails(1, "backup", says=["The connection to Microsoft Graph failed", "run again"])
    named = console.run("backup", "-m", USER)
    assert named.code == 1
    assert "1 failed" in named.out
    office.heal()
    console.assert_recovers(first)


@pytest.mark.parametrize("proxy", ["http://", "http://[::1", "ftp://x:1", "http://a b"])
def test_a_proxy_that_is_no_url(console: Console, office: Office, proxy: str) -> None:
    """Garbage in https_proxy is said to be the proxy's fault, at once; the loopback needs none."""
    console.set(http_proxy=proxy, https_proxy=proxy)
    assert console.run("backup").code == 0
    console.set(
        ATLAS_AUTHORITY_URL="https://login.invalid", ATLAS_GRAPH_URL="https://graph.invalid"
    )
    console.fails(13, "backup", says=["the proxy's URL cannot be used", "http://HOST:PORT"])


def test_a_proxy_that_is_not_there(console: Console) -> None:
    """A proxy where nothing listens is named as what cannot be reached."""
    console.set(
        https_proxy=f"http://127.0.0.1:{free_port()}",
        ATLAS_AUTHORITY_URL="https://login.invalid",
        ATLAS_GRAPH_URL="https://graph.invalid",
    )
    console.fails(1, "backup", says=["the proxy cannot be reached", "proxy settings"])


def test_a_certificate_that_is_not_trusted(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without the CA's file the setting is named; a file that is none is refused with 2."""
    monkeypatch.setattr(session, "open_atlas", open_hasty)
    with open_office(tls=True) as office:
        console = Console(office, place / "store", monkeypatch, capfd)
        console.fails(
            13, "backup", says=["certificate of 127.0.0.1 is not trusted", "ATLAS_CA_FILE"]
        )
        junk = place / "junk.pem"
        junk.write_text("no certificate")
        console.set(ATLAS_CA_FILE=str(junk))
        console.fails(2, "backup", says=["the CA file", str(junk), "PEM file"])
        console.set(ATLAS_CA_FILE=str(office.emulator.ca_file))
        console.assert_completes()


def test_plain_http_is_for_this_machine_only(console: Console) -> None:
    """A secret is never sent over plain http to another machine."""
    console.set(ATLAS_AUTHORITY_URL="http://login.invalid", ATLAS_GRAPH_URL="http://graph.invalid")
    console.fails(13, "backup", says=["must be an https URL", "Plain http"])
    assert console.files() == {}
