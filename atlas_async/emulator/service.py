"""Serving one Graph call: who asks, may they, is it throttled or broken on purpose, the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Final
from urllib.parse import unquote

from atlas_async.clock import Clock
from atlas_async.emulator.batch import run_batch
from atlas_async.emulator.breakage import Breakage
from atlas_async.emulator.calls import Call, Refusal, Reply, error_body
from atlas_async.emulator.faults import FaultBook
from atlas_async.emulator.journal import Journal, Served
from atlas_async.emulator.records import NotHere
from atlas_async.emulator.router import Routes, dispatch, split_path
from atlas_async.emulator.routes_attachment_writes import answer_upload
from atlas_async.emulator.tenant import Tenant
from atlas_async.emulator.throttle import Throttle
from atlas_async.emulator.tokens import TokenDesk
from atlas_async.emulator.uploads import UploadSession
from atlas_async.emulator.world import World

VERSION: Final = "/v1.0/"
_WRITES: Final = frozenset({"POST", "PATCH", "PUT"})
_MAIL_READ: Final = frozenset({"Mail.Read", "Mail.ReadWrite"})
_MAIL_WRITE: Final = frozenset({"Mail.ReadWrite"})
_DIRECTORY: Final = frozenset({"User.Read.All", "User.ReadWrite.All", "Directory.Read.All"})
_SETTINGS: Final = frozenset({"MailboxSettings.Read", "MailboxSettings.ReadWrite"})
_OUTLOOK: Final = ("users/*/mailfolders", "users/*/messages", "users/*/mailboxsettings")
_CHALLENGE: Final = (
    'Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/'
    'authorize", client_id="00000003-0000-0000-c000-000000000000"'
)


@dataclass(frozen=True, slots=True)
class Desk:
    """The parts that a service is made of."""

    world: World
    tokens: TokenDesk
    throttle: Throttle
    faults: FaultBook
    journal: Journal
    clock: Clock
    routes: Routes
    tenant: Tenant


class GraphService:
    """Answers Graph calls; the server and a batch both come through here."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._breakage = Breakage(desk.clock)

    @asynccontextmanager
    async def serving(self, call: Call) -> AsyncIterator[Reply]:
        """Answer a call; it counts as in flight until the context ends."""
        desk = self._desk
        await self._breakage.catch_up()
        shape, ids = split_path(call.path.removeprefix(VERSION))
        outlook = shape.startswith(_OUTLOOK)
        mailbox = self._mailbox_name(ids) if outlook else ""
        record = Served(
            call.method,
            unquote(call.path),
            mailbox,
            desk.clock.monotonic(),
            request_id=call.request_id,
            received=_told_length(call),
        )
        desk.journal.begin(record)
        self._identify(call)
        refusal = desk.throttle.enter(call.app_id, mailbox)
        try:
            reply = await self._answer(call, mailbox, refusal, shape)
            self._complete(call, reply)
            record.status = reply.status
            record.sent = reply.length or len(reply.body)
            yield reply
        finally:
            desk.throttle.leave(call.app_id, mailbox)
            desk.journal.end(record, desk.clock.monotonic())

    async def _answer(self, call: Call, mailbox: str, refusal: Refusal | None, shape: str) -> Reply:
        desk = self._desk
        try:
            if refusal is not None:
                if desk.world.behaviour.throttled_bytes:
                    await self._count_bytes(call, call.app_id, mailbox)
                raise refusal
            rule = desk.faults.fire(call.method, unquote(call.path), mailbox)
            if desk.world.behaviour.latency > 0:
                await desk.clock.sleep(desk.world.behaviour.latency)
            return await self._breakage.answer(
                rule, call, lambda: self._handled(call, mailbox, shape)
            )
        except Refusal as error:
            return self._refused(call, error)

    async def _handled(self, call: Call, mailbox: str, shape: str) -> Reply:
        self._authorise(call, shape, mailbox)
        if (call.method, shape) == ("POST", "$batch"):
            if not self._desk.world.behaviour.batch_allowed:
                raise Refusal(400, "BadRequest", "Batch requests are not available.")
            return await run_batch(call, self.serving, VERSION)
        refusal = await self._count_bytes(call, call.app_id, mailbox)
        if refusal is not None:
            raise refusal
        path = call.path.removeprefix(VERSION)
        return await dispatch(self._desk.routes, self._desk.world, call, path)

    @asynccontextmanager
    async def uploading(self, call: Call) -> AsyncIterator[Reply]:
        """Answer a call to an upload URL; the URL itself is the proof of permission."""
        desk = self._desk
        await self._breakage.catch_up()
        session = desk.world.uploads.find(call.query.get("authtoken", ""))
        mailbox = desk.world.corpus.people[session.mailbox].upn if session is not None else ""
        path = unquote(call.path)
        record = Served(
            call.method,
            path,
            mailbox,
            desk.clock.monotonic(),
            request_id=call.request_id,
            received=_told_length(call),
        )
        desk.journal.begin(record)
        try:
            try:
                rule = desk.faults.fire(call.method, path, mailbox)
                if desk.world.behaviour.latency > 0:
                    await desk.clock.sleep(desk.world.behaviour.latency)
                reply = await self._breakage.answer(
                    rule, call, lambda: self._uploaded(call, session, mailbox)
                )
            except Refusal as error:
                reply = self._refused(call, error)
            self._complete(call, reply)
            record.status = reply.status
            yield reply
        finally:
            desk.journal.end(record, desk.clock.monotonic())

    async def _uploaded(self, call: Call, session: UploadSession | None, mailbox: str) -> Reply:
        if "Authorization" in call.headers:
            raise Refusal(
                401,
                "InvalidAudienceForResource",
                "The audience claim value is invalid for current resource. Audience claim is "
                "'https://graph.microsoft.com/', request url is "
                f"'{self._desk.world.upload_origin}' and resource type is 'Exchange'.",
            )
        if session is None:
            status = self._desk.world.behaviour.expired_upload
            raise Refusal(status, "ErrorItemNotFound", "The upload session was not found.")
        refusal = await self._count_bytes(call, session.app_id, mailbox)
        if refusal is not None:
            raise refusal
        try:
            return await answer_upload(self._desk.world, call, session)
        except NotHere as error:
            raise Refusal(
                404, "ErrorItemNotFound", "The specified object was not found in the store."
            ) from error

    async def _count_bytes(self, call: Call, app: str, mailbox: str) -> Refusal | None:
        """Count the body of a write, however its length is told."""
        if call.method not in _WRITES or not self._desk.world.behaviour.throttle:
            return None
        size = _told_length(call) if "Content-Length" in call.headers else None
        if size is None:
            size = len(await call.keep_body())
        return self._desk.throttle.upload(app, mailbox, size)

    def _identify(self, call: Call) -> None:
        scheme, _, token = call.headers.get("Authorization", "").partition(" ")
        grant = self._desk.tokens.grant(token) if scheme.lower() == "bearer" else None
        if grant is not None:
            call.app_id, call.roles = grant.app_id, grant.roles

    def _authorise(self, call: Call, shape: str, mailbox: str) -> None:
        headers = {"WWW-Authenticate": _CHALLENGE}
        given = call.headers.get("Authorization", "")
        if not given:
            raise Refusal(
                401, "InvalidAuthenticationToken", "Access token is empty.", headers=headers
            )
        if not call.app_id:
            raise Refusal(
                401,
                "InvalidAuthenticationToken",
                "Lifetime validation failed, the token is expired.",
                headers={"WWW-Authenticate": _CHALLENGE + ', error="invalid_token"'},
            )
        if mailbox:
            call.roles = self._roles_in(call, mailbox)
        if shape.startswith("users/*/mailboxsettings"):
            needed = _SETTINGS
        elif shape.startswith(_OUTLOOK):
            needed = _MAIL_READ if call.method == "GET" else _MAIL_WRITE
        elif shape.startswith("users") and "/" not in shape.removeprefix("users/"):
            needed = _DIRECTORY
        else:
            return
        if call.roles & needed:
            return
        if needed is _DIRECTORY:
            raise Refusal(
                403,
                "Authorization_RequestDenied",
                "Insufficient privileges to complete the operation.",
            )
        raise Refusal(
            403, "ErrorAccessDenied", "Access is denied. Check credentials and try again."
        )

    def _roles_in(self, call: Call, mailbox: str) -> frozenset[str]:
        """Return what the application may do in a mailbox: by its token, and by role scopes."""
        app = self._desk.tenant.apps.get(call.app_id)
        if app is None:
            return call.roles
        name = mailbox.lower()
        if app.mailboxes is not None and name not in app.mailboxes:
            raise Refusal(
                403,
                "ErrorAccessDenied",
                "Access to OData is disabled: [RAOP] : Blocked by tenant configured AppOnly "
                "AccessPolicy settings.",
            )
        return call.roles | app.scoped.get(name, frozenset())

    def _refused(self, call: Call, refusal: Refusal) -> Reply:
        date = self._desk.clock.now().strftime("%Y-%m-%dT%H:%M:%S")
        client_id = call.headers.get("client-request-id") or call.request_id
        body = error_body(refusal, date=date, request_id=call.request_id, client_id=client_id)
        return Reply.json(
            body,
            status=refusal.status,
            headers={"Content-Type": "application/json", **refusal.headers},
        )

    def _complete(self, call: Call, reply: Reply) -> None:
        reply.headers["request-id"] = call.request_id
        reply.headers["client-request-id"] = (
            call.headers.get("client-request-id") or call.request_id
        )
        reply.headers.setdefault("Cache-Control", "no-cache")
        reply.headers["Date"] = format_datetime(self._desk.clock.now(), usegmt=True)

    def _mailbox_name(self, ids: tuple[str, ...]) -> str:
        if not ids:
            return ""
        person = self._desk.world.person(ids[0])
        return person.upn if person is not None else ids[0]


def _told_length(call: Call) -> int:
    told = call.headers.get("Content-Length", "")
    return int(told) if told.isdecimal() else 0
