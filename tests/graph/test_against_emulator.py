"""The source against the emulator: a real server, compared with what that server truly holds."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from atlas_async.config.secret import Secret
from atlas_async.config.settings import ClientCertificate, GraphSettings, Limits
from atlas_async.emulator import Behaviour, Corpus, CorpusOptions, Emulator, FaultRule
from atlas_async.errors import (
    AuthError,
    ConsentError,
    GraphItemError,
    GraphProtocolError,
    MailboxOverQuota,
    NoMailbox,
    SyncStateGone,
)
from atlas_async.graph import GraphMailbox, GraphTenant
from atlas_async.model.source import EnumerationMode, FolderListing
from tests.fakes.clock import FakeClock
from tests.fakes.graph_server import Ledger

OPTIONS = CorpusOptions(
    mailboxes=1,
    folders=6,
    messages=60,
    odd_share=0.5,
    attachment_share=0.5,
    inline_share=0.3,
    item_share=0.3,
    reference_share=0.3,
    attachment_median=4000,
    attachment_top=20_000,
    body_median=2000,
)


def settings_of(emulator: Emulator, *, tls: bool = False, **changes: Any) -> GraphSettings:
    """Return settings that lead to the emulator."""
    values: dict[str, Any] = {
        "tenant_id": str(emulator.tenant.id),
        "client_id": emulator.tenant.client_id,
        "credential": Secret(emulator.tenant.client_secret),
        "authority_url": emulator.authority_url,
        "graph_url": emulator.graph_url,
        "ca_file": emulator.ca_file if tls else None,
    }
    return GraphSettings(**(values | changes))


@asynccontextmanager
async def opened(
    behaviour: Behaviour | None = None, *, tls: bool = False, options: CorpusOptions = OPTIONS
) -> AsyncIterator[tuple[Emulator, GraphTenant]]:
    """Run an emulator and open a tenant on it."""
    corpus = await anyio.to_thread.run_sync(Corpus, options)
    async with (
        Emulator(corpus, tls=tls, behaviour=behaviour) as emulator,
        GraphTenant(
            settings_of(emulator, tls=tls),
            Limits(),
            clock=FakeClock(autojump=True),
            jitter=lambda: 0.5,
        ) as tenant,
    ):
        yield emulator, tenant


async def first_mailbox(tenant: GraphTenant) -> GraphMailbox:
    """Return the mailbox of the first user."""
    async for principal in tenant.discover():
        return tenant.mailbox(principal)
    raise AssertionError("nobody there")


async def round_of(
    mailbox: GraphMailbox,
    folder_id: str,
    link: str | None = None,
    *,
    mode: EnumerationMode = EnumerationMode.DELTA,
    size: int = 7,
) -> tuple[list[dict[str, Any]], list[str], str | None]:
    """Read one whole round of a folder."""
    items: list[dict[str, Any]] = []
    removed: list[str] = []
    while True:
        page = await mailbox.message_page(
            folder_id, mode=mode, link=link, page_size=size, lease=Ledger()
        )
        items += page.items
        removed += page.removed
        if page.next_link is None:
            return items, removed, page.delta_link
        link = page.next_link


def truth_of(emulator: Emulator, mailbox: GraphMailbox) -> dict[str, Any]:
    """Return what the emulator really holds of a mailbox."""
    return emulator.control.mailbox_truth(mailbox.mailbox_id)


async def test_the_folder_tree_is_the_true_one() -> None:
    """Every folder below the root is listed with its path, name and flags; none else is."""
    async with opened() as (emulator, tenant):
        mailbox = await first_mailbox(tenant)
        listing = await mailbox.list_folders(recoverable=False)
        truth = truth_of(emulator, mailbox)

    expected = {
        f["id"]: (tuple(f["path"]), f["wellKnownName"], f["hidden"], f["totalItemCount"])
        for f in truth["folders"]
        if f["belowRoot"] and not f["search"] and f["path"]
    }
    found = {f.id: (f.path, f.well_known_name, f.hidden, f.total_items) for f in listing.folders}
    assert found == expected
    assert listing.root_id == truth["rootId"]
    assert listing.search_folders == sum(f["search"] and f["belowRoot"] for f in truth["folders"])


async def test_recoverable_items_are_listed_when_asked() -> None:
    """The dumpster's folder comes in addition, by its well-known name."""
    async with opened() as (_, tenant):
        mailbox = await first_mailbox(tenant)
        listing = await mailbox.list_folders(recoverable=True)

    assert "recoverableitemsdeletions" in {f.well_known_name for f in listing.folders}


@pytest.mark.parametrize("mode", list(EnumerationMode))
async def test_every_message_comes_once_with_its_body(mode: EnumerationMode) -> None:
    """Delta and listing yield each message of each folder exactly once, under immutable ids."""
    async with opened(Behaviour(empty_pages=2)) as (emulator, tenant):
        mailbox = await first_mailbox(tenant)
        listing = await mailbox.list_folders(recoverable=True)
        found = [
            (item["id"], folder.id, _sha(item))
            for folder in listing.folders
            for item in (await round_of(mailbox, folder.id, mode=mode))[0]
        ]
        truth = truth_of(emulator, mailbox)

    readable = {folder.id for folder in listing.folders}
    expected = [
        (m["immutableId"], m["folderId"], m["bodySha"])
        for m in truth["messages"]
        if m["folderId"] in readable
    ]
    assert sorted(found) == sorted(expected)
    assert len(expected) >= OPTIONS.messages


def _sha(item: dict[str, Any]) -> str:
    content = str((item.get("body") or {}).get("content") or "")
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


async def test_ids_are_those_of_the_pages() -> None:
    """The plain listing of ids names the same messages."""
    async with opened() as (emulator, tenant):
        mailbox = await first_mailbox(tenant)
        inbox = _inbox(await mailbox.list_folders(recoverable=False))
        ids = [key async for page in mailbox.message_ids(inbox) for key in page]
        truth = truth_of(emulator, mailbox)

    expected = [m["immutableId"] for m in truth["messages"] if m["folderId"] == inbox]
    assert sorted(ids) == sorted(expected)


def _inbox(listing: FolderListing) -> str:
    return next(f.id for f in listing.folders if f.well_known_name == "inbox")


async def test_changes_come_through_the_delta_link() -> None:
    """After a round only what was created, changed, moved away or deleted is told."""
    async with opened() as (emulator, tenant):
        mailbox = await first_mailbox(tenant)
        inbox = _inbox(await mailbox.list_folders(recoverable=False))
        items, _, link = await round_of(mailbox, inbox)
        deleted, read, moved = (item["id"] for item in items[:3])
        change = [
            {"op": "delete", "message": deleted, "hard": True},
            {"op": "update", "message": read, "patch": {"isRead": True}},
            {"op": "move", "message": moved, "folder": "archive"},
            {"op": "create", "folder": "inbox", "subject": "new"},
        ]
        made = [_mutate(emulator, mailbox, one) for one in change]
        changed, removed, _ = await round_of(mailbox, inbox, link)

        assert await mailbox.locate_message(moved) != inbox
        assert {item["id"] for item in changed} == {read, made[3]["immutableId"]}
        assert set(removed) == {deleted, moved}
        assert (await mailbox.get_message(read, lease=Ledger()))["isRead"] is True


def _mutate(emulator: Emulator, mailbox: GraphMailbox, change: dict[str, Any]) -> dict[str, Any]:
    return emulator.control.mutate(mailbox.mailbox_id, change)


async def test_attachments_have_their_true_bytes() -> None:
    """Listed or streamed, every file and item has the bytes the emulator holds."""
    async with opened(Behaviour(inline_limit=3000)) as (emulator, tenant):
        mailbox = await first_mailbox(tenant)
        truth = truth_of(emulator, mailbox)
        streamed = 0
        kinds: set[str] = set()
        for message in (m for m in truth["messages"] if m["attachments"]):
            listed = await mailbox.list_attachments(
                message["immutableId"], inline_limit=1 << 20, lease=Ledger()
            )
            assert [a["name"] for a in listed] == [a["name"] for a in message["attachments"]]
            for found, true in zip(listed, message["attachments"], strict=True):
                kinds.add(found["@odata.type"])
                if true["sha256"] is None:
                    continue
                if found.get("contentBytes") is not None:
                    content = base64.b64decode(found["contentBytes"])
                else:
                    content = await _content(mailbox, message["immutableId"], found["id"])
                    streamed += 1
                assert hashlib.sha256(content).hexdigest() == true["sha256"]
                assert found.get("contentId") == true["contentId"]

    assert len(kinds) == 3
    assert streamed > 0


async def _content(mailbox: GraphMailbox, message_id: str, attachment_id: str) -> bytes:
    async with mailbox.open_attachment(message_id, attachment_id) as stream:
        return b"".join([piece async for piece in stream])


async def test_long_attachment_lists_come_without_content() -> None:
    """A list beyond the limit has every attachment, its content id, and no content."""
    async with opened() as (emulator, tenant):
        mailbox = await first_mailbox(tenant)
        truth = truth_of(emulator, mailbox)
        message = max(truth["messages"], key=lambda m: len(m["attachments"]))
        inline = next(m for m in truth["messages"] if any(a["isInline"] for a in m["attachments"]))
        for one in (message, inline):
            listed = await mailbox.list_attachments(
                one["immutableId"], inline_limit=100, lease=Ledger()
            )
            told = [(a["name"], a.get("contentId"), "contentBytes" in a) for a in listed]
            assert told == [(a["name"], a["contentId"], False) for a in one["attachments"]]


async def test_a_reference_has_no_content() -> None:
    """Opening a link to a file elsewhere concerns that attachment only."""
    async with opened() as (emulator, tenant):
        mailbox = await first_mailbox(tenant)
        message, reference = next(
            (m["immutableId"], a["id"])
            for m in truth_of(emulator, mailbox)["messages"]
            for a in m["attachments"]
            if a["type"].endswith("referenceAttachment")
        )
        with pytest.raises(GraphItemError):
            await _content(mailbox, message, reference)


async def test_folder_changes_follow_the_tree() -> None:
    """The folder delta tells a new folder, a new name and a removal."""
    async with opened() as (emulator, tenant):
        mailbox = await first_mailbox(tenant)
        first = await mailbox.folder_changes(None)
        made = _mutate(emulator, mailbox, {"op": "folder-create", "name": "Fresh"})
        second = await mailbox.folder_changes(first.link)
        _mutate(emulator, mailbox, {"op": "folder-delete", "folder": ["Fresh"], "hard": True})
        third = await mailbox.folder_changes(second.link)
        quiet = await mailbox.folder_changes(third.link)

    assert [f["displayName"] for f in second.changed] == ["Fresh"]
    assert made
    assert len(third.removed) == 1
    assert (quiet.changed, quiet.removed) == ((), ())


@pytest.mark.parametrize("code", ["SyncStateNotFound", "resyncRequired"])
async def test_expired_links_and_full_mailboxes_are_told_apart(code: str) -> None:
    """An expired delta link and a refused delta have errors of their own."""
    async with opened(Behaviour(expired_code=code)) as (emulator, tenant):
        mailbox = await first_mailbox(tenant)
        inbox = _inbox(await mailbox.list_folders(recoverable=False))
        _, _, link = await round_of(mailbox, inbox)
        emulator.control.expire_delta()
        with pytest.raises(SyncStateGone):
            await round_of(mailbox, inbox, link)
        emulator.control.over_quota(mailbox.mailbox_id)
        with pytest.raises(MailboxOverQuota):
            await round_of(mailbox, inbox)
        items, _, _ = await round_of(mailbox, inbox, mode=EnumerationMode.LISTING)

    assert items


@pytest.mark.parametrize(
    "rule",
    [
        FaultRule(status=503),
        FaultRule(status=500, count=3),
        FaultRule(status=429, code="ApplicationThrottled", retry_after="7"),
        FaultRule(status=429, code="ApplicationThrottled", retry_after="date"),
        FaultRule(status=404),
        FaultRule(action="reset"),
        FaultRule(action="reset-mid"),
        FaultRule(action="truncate"),
        FaultRule(action="garbage"),
        FaultRule(action="control", count=-1),
    ],
    ids=lambda rule: f"{rule.action} {rule.status} {rule.retry_after}",
)
async def test_a_round_survives_faults(rule: FaultRule) -> None:
    """Faults that pass cost tries, and no message."""
    async with opened() as (emulator, tenant):
        mailbox = await first_mailbox(tenant)
        inbox = _inbox(await mailbox.list_folders(recoverable=False))
        emulator.control.add_fault(replace(rule, path="delta", after=1))
        items, _, link = await round_of(mailbox, inbox)
        truth = truth_of(emulator, mailbox)

    expected = [m["immutableId"] for m in truth["messages"] if m["folderId"] == inbox]
    assert sorted(item["id"] for item in items) == sorted(expected)
    assert link


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour(repeat_links=True), Behaviour(foreign_links="https://evil.test")],
    ids=["repeated", "foreign"],
)
async def test_links_that_lead_astray_end_the_round(behaviour: Behaviour) -> None:
    """Circles and links to other hosts are errors, not endless loops or leaks."""
    async with opened(behaviour) as (_, tenant):
        principal = await tenant.principal(await _some_address(tenant))
        mailbox = tenant.mailbox(principal)
        with pytest.raises(GraphProtocolError):
            await round_of(mailbox, "inbox", size=1)


async def _some_address(tenant: GraphTenant) -> str:
    return (await first_mailbox(tenant)).mailbox_id


async def test_discovery_finds_everybody_and_mailboxes_decide() -> None:
    """Guests and unlicensed users are candidates whose mailbox turns out not to exist."""
    async with opened() as (emulator, tenant):
        without: set[str] = set()
        people = [principal async for principal in tenant.discover()]
        for principal in people:
            try:
                await tenant.mailbox(principal).list_folders(recoverable=False)
            except NoMailbox:
                without.add(principal.user_id)

    expected = emulator.corpus.people
    assert {p.user_id for p in people} == {str(p.id) for p in expected}
    assert without == {str(p.id) for p in expected if not p.kind.has_mailbox}
    assert {p.user_type for p in people} >= {"Guest", "Member"}


async def test_the_documented_limits_are_never_met() -> None:
    """With Microsoft's limits in force a busy reader gets no 429 (I10)."""
    async with opened(Behaviour(throttle=True, latency=0.002)) as (emulator, tenant):
        mailbox = await first_mailbox(tenant)
        listing = await mailbox.list_folders(recoverable=True)
        async with anyio.create_task_group() as group:
            for folder in listing.folders:
                group.start_soon(round_of, mailbox, folder.id)

        assert emulator.log.statuses[429] == 0
        assert max(emulator.log.peaks.values()) <= 4
        assert mailbox.usage.throttled == 0


async def test_revoked_tokens_are_replaced() -> None:
    """Revocation in the middle of a round is not noticed by whoever reads."""
    async with opened() as (emulator, tenant):
        mailbox = await first_mailbox(tenant)
        emulator.control.revoke_tokens()

        assert (await mailbox.list_folders(recoverable=False)).folders


async def test_missing_permissions_are_named() -> None:
    """Without Mail.Read the mailbox says so, without User.Read.All the directory does."""
    async with opened() as (emulator, tenant):
        app = emulator.tenant.apps[emulator.tenant.client_id]
        principal = await tenant.principal(await _some_address(tenant))
        app.roles = ("Reports.Read.All",)
        emulator.control.revoke_tokens()
        with pytest.raises(ConsentError) as mail:
            await tenant.mailbox(principal).list_folders(recoverable=False)
        with pytest.raises(ConsentError) as users:
            await tenant.principal("nobody")

    assert "Mail.Read" in mail.value.hint
    assert "User.Read.All" in users.value.hint
    assert "Reports.Read.All" in users.value.hint


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with a key and its self-signed certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "atlas")])
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
    path = tmp_path_factory.mktemp("key") / "client.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
@pytest.mark.parametrize("kind", ["secret", "certificate"])
async def test_every_credential_works_over_both_transports(
    kind: str, tls: bool, certificate: Path
) -> None:
    """Secret and certificate get a token over TLS with the CA file and over loopback http."""
    async with Emulator(tls=tls) as emulator:
        emulator.tenant.apps[emulator.tenant.client_id].accept_certificate(certificate.read_bytes())
        changes = {"credential": ClientCertificate(certificate)} if kind == "certificate" else {}
        settings = settings_of(emulator, tls=tls, **changes)
        async with GraphTenant(settings, Limits(), clock=FakeClock()) as tenant:
            assert "Mail.Read" in await tenant.check()
            assert (await (await first_mailbox(tenant)).list_folders(recoverable=False)).folders


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: replace(s, credential=Secret("wrong")), "7000215"),
        (lambda s: replace(s, client_id="12345678-0000-0000-0000-000000000000"), "700016"),
        (lambda s: replace(s, tenant_id="12345678-0000-0000-0000-000000000000"), "tenant"),
        (lambda s: replace(s, ca_file=None), "certificate of 127.0.0.1 is not trusted"),
    ],
    ids=["secret", "client", "tenant", "trust"],
)
async def test_wrong_settings_are_explained(
    spoil: Callable[[GraphSettings], GraphSettings], words: str
) -> None:
    """Each mistake an operator makes ends in its own auth error."""
    async with Emulator(tls=True) as emulator:
        settings = spoil(settings_of(emulator, tls=True))
        async with GraphTenant(settings, Limits(), clock=FakeClock(autojump=True)) as tenant:
            with pytest.raises(AuthError, match=words):
                await tenant.check()
