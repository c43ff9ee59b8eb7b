"""Serving one Graph call: who asks, may they, is it throttled or broken on purpose, the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime
from typing import Final
from urllib.parse import unquote

from atlas_async.clock import Clock
from atlas_async.emulator.batch import run_batch
from atlas_async.emulator.calls import Call, Refusal, Reply, error_body
from atlas_async.emulator.faults import FaultBook, FaultRule
from atlas_async.emulator.journal import Journal, Served
from atlas_async.emulator.router import Routes, dispatch, split_path
from atlas_async.emulator.routes_attachment_writes import answer_upload
from atlas_async.emulator.throttle import Throttle
from atlas_async.emulator.tokens import TokenDesk
from atlas_async.emulator.world import World

VERSION: Final = "/v1.0/"
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


class GraphService:
    """Answers Graph calls; the server and a batch both come through here."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @asynccontextmanager
    async def serving(self, call: Call) -> AsyncIterator[Reply]:
        """Answer a call; it counts as in flight until the context ends."""
        desk = self._desk
        shape, ids = split_path(call.path.removeprefix(VERSION))
        outlook = shape.startswith(_OUTLOOK)
        mailbox = self._mailbox_name(ids) if outlook else ""
        record = Served(
            call.method,
            unquote(call.path),
            mailbox,
            desk.clock.monotonic(),
            request_id=call.request_id,
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
        behaviour = desk.world.behaviour
        try:
            if refusal is not None:
                raise refusal
            rule = desk.faults.fire(call.method, unquote(call.path), mailbox)
            wait = behaviour.latency + (rule.delay if rule is not None else 0.0)
            if wait > 0:
                await desk.clock.sleep(wait)
            broken = self._broken(rule)
            if broken is not None:
                return broken
            self._authorise(call, shape)
            reply = await self._handled(call, mailbox, shape)
        except Refusal as error:
            return self._refused(call, error)
        if rule is not None and rule.action not in {"stall", "error"}:
            return _spoiled(reply, rule.action)
        return reply

    async def _handled(self, call: Call, mailbox: str, shape: str) -> Reply:
        if (call.method, shape) == ("POST", "$batch"):
            if not self._desk.world.behaviour.batch_allowed:
                raise Refusal(400, "BadRequest", "Batch requests are not available.")
            return await run_batch(call, self.serving, VERSION)
        if call.method in {"POST", "PATCH", "PUT"}:
            refusal = self._desk.throttle.upload(call.app_id, mailbox, _length(call))
            if refusal is not None:
                raise refusal
        path = call.path.removeprefix(VERSION)
        return await dispatch(self._desk.routes, self._desk.world, call, path)

    @asynccontextmanager
    async def uploading(self, call: Call) -> AsyncIterator[Reply]:
        """Answer a call to an upload URL; the URL itself is the proof of permission."""
        desk = self._desk
        session = desk.world.uploads.find(call.query.get("authtoken", ""))
        mailbox = desk.world.corpus.people[session.mailbox].upn if session is not None else ""
        path = call.path.partition("/AttachmentSessions")[0]
        record = Served(call.method, unquote(path), mailbox, desk.clock.monotonic())
        desk.journal.begin(record)
        try:
            try:
                if session is None:
                    raise Refusal(404, "ErrorItemNotFound", "The upload session was not found.")
                refusal = desk.throttle.upload(session.app_id, mailbox, _length(call))
                if refusal is not None:
                    raise refusal
                rule = desk.faults.fire(call.method, unquote(call.path), mailbox)
                reply = self._broken(rule) or await answer_upload(desk.world, call, session)
            except Refusal as error:
                reply = self._refused(call, error)
            self._complete(call, reply)
            record.status = reply.status
            yield reply
        finally:
            desk.journal.end(record, desk.clock.monotonic())

    def _broken(self, rule: FaultRule | None) -> Reply | None:
        """Return the answer of a rule that replaces the real one, or None."""
        if rule is None:
            return None
        headers: dict[str, str] = {}
        if rule.retry_after == "date":
            moment = self._desk.clock.now() + timedelta(seconds=2)
            headers["Retry-After"] = format_datetime(moment, usegmt=True)
        elif rule.retry_after:
            headers["Retry-After"] = rule.retry_after
        if rule.action == "redirect":
            return Reply(302, {"Location": rule.location, **headers})
        if rule.action != "error":
            return None
        if not rule.code:
            return Reply(rule.status, headers)
        raise Refusal(rule.status, rule.code, rule.message, headers=headers)

    def _identify(self, call: Call) -> None:
        scheme, _, token = call.headers.get("Authorization", "").partition(" ")
        grant = self._desk.tokens.grant(token) if scheme.lower() == "bearer" else None
        if grant is not None:
            call.app_id, call.roles = grant.app_id, grant.roles

    def _authorise(self, call: Call, shape: str) -> None:
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


def _length(call: Call) -> int:
    text = call.headers.get("Content-Length", "0")
    return int(text) if text.isdecimal() else 0


def _spoiled(reply: Reply, action: str) -> Reply:
    """Return a copy to be broken while it is sent; a kept page must stay whole."""
    return Reply(
        reply.status, dict(reply.headers), reply.body, reply.stream, reply.length, spoil=action
    )
