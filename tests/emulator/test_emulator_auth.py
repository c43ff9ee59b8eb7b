"""Entra: metadata, secrets, certificates, errors; tokens on Graph. msal is the judge."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio.to_thread
import msal
import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from atlas_async.emulator import Corpus, CorpusOptions, Emulator
from tests.fakes.graph_probe import GraphProbe


@pytest.fixture(scope="module")
def credential(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    """A self-signed certificate as PEM key, PEM certificate and PFX file."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "app")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain).decode()
    pfx = tmp_path_factory.mktemp("pfx") / "app.pfx"
    protection = serialization.BestAvailableEncryption(b"pass")
    pfx.write_bytes(pkcs12.serialize_key_and_certificates(b"a", key, certificate, None, protection))
    return private, certificate.public_bytes(pem).decode(), pfx


@pytest.fixture(autouse=True)
def no_foreign_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's CA bundle would win over the one that msal is given."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tiny() -> Corpus:
    """The smallest useful tenant."""
    return Corpus(CorpusOptions(mailboxes=1, messages=3, folders=0))


async def _acquire(emulator: Emulator, credential: Any) -> dict[str, Any]:
    def blocking() -> dict[str, Any]:
        app = msal.ConfidentialClientApplication(
            emulator.tenant.client_id,
            authority=f"{emulator.authority_url}/{emulator.tenant.id}",
            client_credential=credential,
            instance_discovery=False,
            verify=str(emulator.ca_file),
        )
        try:
            answer: dict[str, Any] = app.acquire_token_for_client(
                [f"{emulator.graph_url}/.default"]
            )
        finally:
            app.http_client.close()
        return answer

    return await anyio.to_thread.run_sync(blocking)


async def test_msal_signs_in_with_a_secret(tiny: Corpus) -> None:
    """Msal gets a token over TLS, and the token carries roles, audience and tenant."""
    async with Emulator(tiny, tls=True) as emulator:
        answer = await _acquire(emulator, emulator.tenant.client_secret)

        payload = answer["access_token"].split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        assert answer["expires_in"] == 3599
        assert set(claims["roles"]) >= {"Mail.Read", "User.Read.All"}
        assert claims["tid"] == str(emulator.tenant.id)
        assert claims["appid"] == emulator.tenant.client_id
        assert claims["aud"] == emulator.graph_url


@pytest.mark.parametrize("form", ["pem", "pfx", "thumbprint"])
async def test_msal_signs_in_with_a_certificate(
    tiny: Corpus, credential: tuple[str, str, Path], form: str
) -> None:
    """PS256 with SHA-256 and RS256 with SHA-1 thumbprints are both accepted."""
    private, public, pfx = credential
    sha1 = x509.load_pem_x509_certificate(public.encode()).fingerprint(hashes.SHA1())  # noqa: S303 - what old clients send
    forms: dict[str, Callable[[], dict[str, Any]]] = {
        "pem": lambda: {"private_key": private, "public_certificate": public},
        "pfx": lambda: {"private_key_pfx_path": str(pfx), "passphrase": "pass"},
        "thumbprint": lambda: {"private_key": private, "thumbprint": sha1.hex()},
    }
    async with Emulator(tiny, tls=True) as emulator:
        unknown = await _acquire(emulator, forms[form]())
        emulator.tenant.accept_certificate(public.encode())

        answer = await _acquire(emulator, forms[form]())

        assert unknown["error"] == "invalid_client"
        assert unknown["error_codes"] == [700027]
        assert "access_token" in answer, answer


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({"client_secret": "wrong"}, 401, 7000215),
        ({"client_id": "11111111-1111-1111-1111-111111111111"}, 400, 700016),
        ({"scope": "User.Read"}, 400, 1002012),
        ({"scope": "https://vault.azure.net/.default"}, 400, 500011),
        ({"grant_type": "password"}, 400, 70003),
        ({"client_assertion": "x", "client_assertion_type": "y"}, 400, 50027),
    ],
)
async def test_token_errors_have_entra_codes(
    probe: GraphProbe, form: dict[str, str], status: int, code: int
) -> None:
    """Refusals carry the AADSTS code, a description that starts with it, and tracing ids."""
    answer = await probe.sign_in(**form)

    assert answer.status == status
    assert answer.body["error_codes"] == [code]
    assert answer.body["error_description"].startswith(f"AADSTS{code}: ")
    assert answer.body["trace_id"]
    assert answer.body["correlation_id"]


async def test_unknown_tenant(emulator: Emulator, probe: GraphProbe) -> None:
    """Metadata and tokens of another tenant are refused with AADSTS90002."""
    metadata = await probe.raw(
        "GET", f"{emulator.url}/elsewhere.example/v2.0/.well-known/openid-configuration"
    )
    token = await probe.sign_in("elsewhere.example")

    assert metadata.body["error_codes"] == token.body["error_codes"] == [90002]


async def test_expired_secret_and_disabled_app(emulator: Emulator, probe: GraphProbe) -> None:
    """An expired secret is 7000222, a disabled application 7000112."""
    app = emulator.tenant.app
    app.secrets[0].expires = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    expired = await probe.sign_in()
    app.enabled = False
    disabled = await probe.sign_in()

    assert expired.body["error_codes"] == [7000222]
    assert disabled.body["error_codes"] == [7000112]


async def test_graph_needs_a_token(emulator: Emulator, probe: GraphProbe) -> None:
    """No token and a wrong one are 401 with a challenge; a revoked one stops working."""
    url = f"{emulator.graph_url}/v1.0/users"
    missing = await probe.raw("GET", url)
    wrong = await probe.raw("GET", url, headers={"Authorization": "Bearer x.y.z"})
    assert (await probe.get("users")).status == 200

    assert emulator.control.revoke_tokens() == 1

    revoked = await probe.get("users")
    for answer in (missing, wrong, revoked):
        assert (answer.status, answer.code) == (401, "InvalidAuthenticationToken")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    probe.token = (await probe.sign_in()).body["access_token"]
    assert (await probe.get("users")).status == 200


async def test_missing_permissions_are_403(emulator: Emulator, probe: GraphProbe) -> None:
    """Without roles mail answers ErrorAccessDenied and the directory its own code."""
    emulator.tenant.app.roles = ()
    probe.token = (await probe.sign_in()).body["access_token"]

    mail = await probe.get("users/user0000@contoso.com/messages")
    directory = await probe.get("users")

    assert (mail.status, mail.code) == (403, "ErrorAccessDenied")
    assert (directory.status, directory.code) == (403, "Authorization_RequestDenied")


async def test_reading_permission_does_not_write(emulator: Emulator, probe: GraphProbe) -> None:
    """Mail.Read allows reading and refuses changes."""
    emulator.tenant.app.roles = ("Mail.Read",)
    probe.token = (await probe.sign_in()).body["access_token"]
    path = "users/user0000@contoso.com/mailFolders"

    assert (await probe.get(path)).status == 200
    assert (await probe.send("POST", path, {"displayName": "x"})).status == 403
