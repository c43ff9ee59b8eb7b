"""Tokens: one request for many callers, replaced in time, renewed when refused, errors explained."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from atlas_async.config.secret import Secret
from atlas_async.config.settings import ClientCertificate, GraphSettings, Limits
from atlas_async.errors import AtlasError, AuthError, ConsentError, GraphTransient
from atlas_async.graph import GraphTenant
from atlas_async.graph.auth import TokenSource
from tests.fakes.clock import FakeClock
from tests.fakes.graph_server import SECRET, USER, GraphServer, Ledger, dropped, reply, tenant_of


@asynccontextmanager
async def token_source(
    server: GraphServer, clock: FakeClock, settings: GraphSettings | None = None
) -> AsyncIterator[TokenSource]:
    """Open a token source that talks to ``server``."""
    source = TokenSource(
        settings or server.settings(), "https://x/.default", clock, retries=2, jitter=lambda: 0.5
    )
    try:
        yield source
    finally:
        await source.aclose()


def refusal(code: str, status: int = 400) -> object:
    """Return a refusal in Entra's shape."""
    text = f"AADSTS{code}: something about {code}.\r\nTrace ID: t\r\nCorrelation ID: c"
    return reply({"error": "invalid_client", "error_description": text}, status)


async def test_many_callers_share_one_request() -> None:
    """Callers that arrive together wait for the same answer, later ones find it."""
    async with GraphServer() as server, token_source(server, FakeClock()) as source:
        found: list[int] = []

        async def ask() -> None:
            found.append((await source.token()).generation)

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(ask)
        await ask()

        assert found == [1] * 21
        assert len(server.token_requests) == 1
        assert server.token_requests[0]["client_secret"] == SECRET
        assert server.token_requests[0]["scope"] == "https://x/.default"


async def test_a_token_is_replaced_before_it_ends() -> None:
    """A short-lived token is replaced at half its life."""
    clock = FakeClock()
    async with GraphServer(expires_in=200) as server, token_source(server, clock) as source:
        await source.token()
        clock.jump(99.0)
        assert (await source.token()).generation == 1
        clock.jump(1.0)

        assert (await source.token()).generation == 2


async def test_a_good_token_outlives_an_outage() -> None:
    """While Entra ID cannot be reached the token is used until it really ends."""
    clock = FakeClock(autojump=True)
    async with GraphServer(expires_in=200) as server, token_source(server, clock) as source:
        await source.token()
        clock.jump(101.0)
        server.token_answers = [dropped] * 3
        assert (await source.token()).generation == 1
        clock.jump(100.0)
        server.token_answers = [dropped] * 3

        with pytest.raises(GraphTransient, match="cannot be reached"):
            await source.token()


async def test_a_refused_token_is_renewed_once() -> None:
    """Of many requests refused with one token the first fetches a new one."""
    async with GraphServer() as server, token_source(server, FakeClock()) as source:
        token = await source.token()
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(source.renew, token.generation)

        assert (await source.token()).generation == 2
        assert len(server.token_requests) == 2


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("7000215", AuthError, "not its Secret ID"),
        ("7000222", AuthError, "expired"),
        ("700016", AuthError, "client id"),
        ("65001", ConsentError, "consent"),
        ("53003", AuthError, "workload identity"),
        ("999999", AuthError, "reference"),
    ],
)
async def test_refusals_are_explained(code: str, kind: type[AuthError], words: str) -> None:
    """The error says what Entra ID said and what to do, and never the secret."""
    async with GraphServer() as server, token_source(server, FakeClock()) as source:
        server.token_answers = [refusal(code, 401)]  # type: ignore[list-item]  # an answer

        with pytest.raises(AuthError) as raised:
            await source.token()

    assert type(raised.value) is kind
    assert words in raised.value.message + raised.value.hint
    assert f"AADSTS{code}" in str(raised.value)
    assert "Trace ID" not in str(raised.value)
    assert SECRET not in repr(raised.value) + str(raised.value) + raised.value.hint


async def test_a_refusal_is_not_replayed() -> None:
    """A secret that is put right works at once in the same process."""
    async with GraphServer() as server, token_source(server, FakeClock()) as source:
        server.token_answers = [refusal("7000215")]  # type: ignore[list-item]  # an answer
        with pytest.raises(AuthError):
            await source.token()

        assert (await source.token()).generation == 1


async def test_waiters_share_a_refusal() -> None:
    """Those who waited for a refused request get its answer without asking again."""
    async with GraphServer() as server, token_source(server, FakeClock()) as source:
        server.token_answers = [refusal("7000215")]  # type: ignore[list-item]  # an answer
        errors: list[AtlasError] = []

        async def ask() -> None:
            try:
                await source.token()
            except AtlasError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(ask)

        assert len({id(error) for error in errors}) == 8
        assert len(server.token_requests) == 1


async def test_passing_refusals_are_tried_again() -> None:
    """Entra ID being unavailable, by code or by status, is waited for."""
    clock = FakeClock(autojump=True)
    async with GraphServer() as server, token_source(server, clock) as source:
        server.token_answers = [refusal("90033"), reply(None, 503)]  # type: ignore[list-item]  # answers

        assert (await source.token()).generation == 1
        assert clock.slept == [0.5, 1.0]


async def test_an_unknown_tenant_is_explained() -> None:
    """An authority that knows no such tenant names tenant and cloud."""
    async with GraphServer() as server:
        lost = server.settings(authority_url=f"{server.url}/nothing")
        async with token_source(server, FakeClock(), lost) as source:
            with pytest.raises(AuthError) as raised:
                await source.token()

    assert "tenant id" in raised.value.hint


@pytest.mark.parametrize("field", ["authority_url", "graph_url"])
async def test_plain_http_is_for_the_loopback(field: str) -> None:
    """A secret or a token is never sent in the clear to another machine."""
    async with GraphServer() as server:
        with pytest.raises(AuthError, match="https"):
            GraphTenant(
                server.settings(**{field: "http://login.test"}), Limits(), clock=FakeClock()
            )


async def test_a_401_renews_the_token_and_goes_on() -> None:
    """A revoked token costs one refused request and no error."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on("/users/u-1/messages/m", reply({"id": "m"}))
        mailbox = tenant.mailbox(USER)
        await mailbox.get_message("m", lease=Ledger())
        server.refused_tokens.add(server.make_token(1))

        assert await mailbox.get_message("m", lease=Ledger()) == {"id": "m"}
        assert len(server.token_requests) == 2
        assert mailbox.usage.requests == 3


async def test_a_token_refused_for_good_is_an_auth_error() -> None:
    """After a handful of fresh tokens the error says so."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.refused_tokens |= {server.make_token(number) for number in range(1, 20)}

        with pytest.raises(AuthError, match="refused the token"):
            await tenant.mailbox(USER).get_message("m", lease=Ledger())
        assert len(server.token_requests) == 8


async def test_the_tokens_permissions_are_told() -> None:
    """``check`` proves the credential and returns the permissions in the token."""
    roles = ("Mail.Read", "User.Read.All")
    async with GraphServer(roles=roles) as server, tenant_of(server) as tenant:
        assert await tenant.check() == roles


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    """A private key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    """A self-signed certificate for ``key``."""
    return _certify(key)


def _certify(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "atlas")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


def _key_pem(key: rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


@pytest.mark.parametrize("form", ["pem", "encrypted pem", "reversed pem", "pfx"])
async def test_a_certificate_signs_an_assertion(
    form: str, key: rsa.RSAPrivateKey, certificate: x509.Certificate, tmp_path: Path
) -> None:
    """PEM in any order and PFX give an assertion that the public key verifies, by SHA-256."""
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    chain = _certify(stranger).public_bytes(serialization.Encoding.PEM)
    encryption = serialization.BestAvailableEncryption(b"open")
    content = {
        "pem": _key_pem(key) + pem + chain,
        "encrypted pem": _key_pem(key, b"open") + pem,
        "reversed pem": chain + pem + _key_pem(key),
        "pfx": pkcs12.serialize_key_and_certificates(b"n", key, certificate, None, encryption),
    }[form]
    path = tmp_path / "client.cert"
    path.write_bytes(content)
    credential = ClientCertificate(path, Secret("open"))
    async with GraphServer() as server:
        settings = replace(server.settings(), credential=credential)
        async with token_source(server, FakeClock(), settings) as source:
            await source.token()
        assertion = server.token_requests[0]["client_assertion"]

    header = jwt.get_unverified_header(assertion)
    claims = jwt.decode(
        assertion, key.public_key(), algorithms=["PS256"], options={"verify_aud": False}
    )
    assert claims["iss"] == settings.client_id
    assert "x5t#S256" in header
    assert len(header["x5c"]) == 1


@pytest.mark.parametrize("damage", ["missing", "password", "no key", "wrong key", "noise"])
async def test_a_useless_certificate_file_is_explained(
    damage: str, key: rsa.RSAPrivateKey, certificate: x509.Certificate, tmp_path: Path
) -> None:
    """Every damage is an auth error that names the file and nothing of its content."""
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    path = tmp_path / "client.pem"
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    content = {
        "password": _key_pem(key, b"open") + pem,
        "no key": pem,
        "wrong key": _key_pem(other) + pem,
        "noise": b"\x00\x01\x02",
    }
    if damage in content:
        path.write_bytes(content[damage])
    async with GraphServer() as server:
        settings = server.settings(credential=ClientCertificate(path, Secret("wrong")))
        async with token_source(server, FakeClock(), settings) as source:
            with pytest.raises(AuthError) as raised:
                await source.token()

    assert str(path) in str(raised.value)
    assert "BEGIN" not in str(raised.value)
