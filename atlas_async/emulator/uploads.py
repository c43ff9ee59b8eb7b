"""Upload sessions for large attachments: a pre-authenticated URL that takes ranges in order."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from atlas_async.clock import Clock


@dataclass(slots=True)
class UploadSession:
    """One attachment on its way in.

    ``name`` stands in the path of its URL, ``token`` is the secret in its query. ``item`` is the
    AttachmentItem of the request, ``message`` the id that the message then had.
    """

    name: str
    token: str
    mailbox: int
    message: str
    immutable: bool
    app_id: str
    item: dict[str, Any]
    size: int
    expires: datetime
    received: bytearray = field(default_factory=bytearray)


class UploadDesk:
    """Holds the open upload sessions."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[str, UploadSession] = {}

    def begin(
        self,
        mailbox: int,
        message: str,
        item: dict[str, Any],
        *,
        size: int,
        immutable: bool,
        app_id: str,
        lifetime: float,
    ) -> UploadSession:
        """Open a session that ends by itself after ``lifetime`` seconds, however much arrives."""
        session = UploadSession(
            name=secrets.token_hex(8),
            token=secrets.token_urlsafe(48),
            mailbox=mailbox,
            message=message,
            immutable=immutable,
            app_id=app_id,
            item=item,
            size=size,
            expires=self._clock.now() + timedelta(seconds=lifetime),
        )
        self._open[session.token] = session
        return session

    def find(self, token: str) -> UploadSession | None:
        """Return an open session that has not expired, or None."""
        session = self._open.get(token)
        if session is not None and session.expires <= self._clock.now():
            del self._open[token]
            return None
        return session

    def end(self, session: UploadSession) -> None:
        """Close a session; its bytes are dropped."""
        self._open.pop(session.token, None)
