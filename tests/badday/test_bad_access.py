"""Tenants, credentials and permissions that are not what they should be: explained, with 13."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from atlas_async.emulator import CorpusOptions
from tests.badday.console import Console
from tests.badday.office import Office, open_office
from tests.fakes.rig import USER

STRANGER = "99999999-2222-3333-4444-555555555555"


def test_an_unknown_mailbox(console: Console) -> None:
    """A mailbox that the directory does not know ends with 3; the others are backed up."""
    first = str(console.backup()["snapshot_id"])
    ended = console.run("backup", "-m", "nobody@contoso.com", "-m", USER)
    assert ended.code == 3
    assert "nobody@contoso.com: The directory has no user 'nobody@contoso.com'" in ended.out
    assert "hint: Check the spelling and the tenant" in ended.out
    assert "1 unchanged, 1 no_mailbox" in ended.out
    for verb in ("list", "verify"):
        console.fails(
            10,
            *(verb, "-m", "nobody@contoso.com"),
            says=["no snapshots of nobody@contoso.com", f"the bucket has: {USER}"],
        )
    console.fails(10, "read", "no-such-message", "-m", USER, says=["no-such-message", "list -s"])
    console.fails(10, "list", "-s", "ffffffff", says=["no snapshot ffffffff", "atlas list"])
    console.assert_recovers(first)


def test_nothing_backed_up_yet(console: Console) -> None:
    """Reading before the first backup says that there is nothing, and what makes something."""
    for verb in ("list", "verify"):
        console.fails(10, verb, says=["bucket"])
    console.run("backup", "-m", "nobody@contoso.com")
    console.fails(10, "list", "-m", USER, says=[f"no snapshots of {USER}", "atlas backup"])


def test_an_empty_tenant(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A tenant without mailboxes is backed up, which says that there was nothing to do."""
    options = CorpusOptions(mailboxes=0, shared=0, rooms=0, guests=2, unlicensed=1)
    with open_office(options) as office:
        console = Console(office, place / "store", monkeypatch, capfd)
        ended = console.run("backup")
        assert ended.code == 0, ended
        assert "without a mailbox: guest0@partner.example" in ended.out
        assert console.run("backup", "--json").documents()[-1]["exit_code"] == 0
        assert "run 'atlas backup'" in console.run("list").err
    with open_office(CorpusOptions(mailboxes=0, shared=0, rooms=0, guests=0, unlicensed=0)) as none:
        console = Console(none, place / "other", monkeypatch, capfd)
        ended = console.run("backup")
        assert ended.code == 0, ended
        assert "the tenant has none that can be backed up" in ended.out


def test_consent_to_read_mail_is_missing(console: Console, office: Office) -> None:
    """Without Mail.Read the permission, where to grant it and what the token has are named."""
    first = str(console.backup()["snapshot_id"])
    office.emulator.tenant.app.roles = ("User.Read.All",)
    for arguments in (["backup"], ["backup", "-m", USER]):
        ended = console.run(*arguments)
        assert ended.code == 13
        assert f"{USER}: Microsoft Graph denied access [ErrorAccessDenied" in ended.out
        assert "hint: Grant the application permission Mail.Read: Entra admin center" in ended.out
        assert "then Grant admin consent" in ended.out
        assert "The token now carries: User.Read.All." in ended.out
        document = console.run(*arguments, "--json").documents()[-1]
        assert document["exit_code"] == 13
        assert "Mail.Read" in document["mailboxes"][0]["hint"]
        assert console.run(*arguments, "--debug").code == 13
    office.emulator.tenant.app.roles = ("Mail.Read", "User.Read.All")
    console.assert_recovers(first)


def test_consent_to_list_users_is_missing(console: Console, office: Office) -> None:
    """Without User.Read.All a backup of all mailboxes names it; nothing is made for the tenant."""
    office.emulator.tenant.app.roles = ("Mail.Read",)
    console.fails(
        13,
        "backup",
        says=[
            "Authorization_RequestDenied",
            "Grant the application permission User.Read.All: Entra admin center",
            "The token now carries: Mail.Read.",
        ],
    )
    assert console.files() == {}
    office.emulator.tenant.app.roles = ("Mail.Read", "User.Read.All")
    console.assert_completes()


def test_a_wrong_secret(console: Console, office: Office) -> None:
    """A wrong, expired or disabled credential is explained beside Microsoft's own code."""
    first = str(console.backup()["snapshot_id"])
    files = console.files()
    console.secrets.append("wrong-secret-value")
    console.set(ATLAS_CLIENT_SECRET="wrong-secret-value")
    console.fails(
        13, "backup", says=["the client secret is wrong", "AADSTS7000215", "not its Secret ID"]
    )
    console.set(**office.settings())
    app = office.emulator.tenant.app
    app.secrets[0].expires = datetime.now(UTC) - timedelta(days=1)
    console.fails(13, "backup", says=["has expired", "AADSTS7000222", "Create a new client secret"])
    app.secrets[0].expires = None
    app.enabled = False
    console.fails(13, "backup", says=["is disabled", "AADSTS7000112", "Enable it"])
    app.enabled = True
    assert console.files() == files
    console.assert_recovers(first)


def test_a_wrong_tenant_or_application(console: Console, office: Office) -> None:
    """A tenant or client id of somebody else ends with 13 and leaves no bucket behind."""
    console.set(ATLAS_TENANT_ID=STRANGER)
    console.fails(13, "backup", says=["does not know this tenant", STRANGER, "Check the tenant id"])
    console.set(**office.settings())
    console.set(ATLAS_CLIENT_ID=STRANGER)
    console.fails(13, "backup", says=["AADSTS700016", "no such application", "client id"])
    assert console.files() == {}
    console.fails(2, "backup", "--tenant", "common", says=["'common'", "one particular tenant"])
    console.set(**office.settings())
    console.assert_completes()


def certificate(path: Path) -> None:
    """Write a new key and its certificate, which no application knows."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(pem))


def test_a_wrong_certificate(console: Console, place: Path) -> None:
    """A certificate that is none, is unknown, lacks its key or is absent is named as such."""
    path = place / "application.pem"
    console.unset("ATLAS_CLIENT_SECRET")
    console.set(ATLAS_CLIENT_CERTIFICATE=str(path))
    console.fails(2, "backup", says=["cannot be read: No such file", str(path)])
    certificate(path)
    whole = path.read_text()
    console.secrets += whole.splitlines()[1:20]
    console.fails(13, "backup", says=["AADSTS700027", "Upload the certificate"])
    end = "-----END PRIVATE KEY-----\n"
    key, public = whole.split(end)
    for wrong in ("not a certificate", key + end, public, whole[:400]):
        path.write_text(wrong)
        console.fails(13, "backup", says=["cannot be opened", str(path), "the key as well"])
    assert console.files() == {}
