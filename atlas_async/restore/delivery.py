"""One message into one folder of the target: read, made into a letter, created, completed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from anyio import to_thread

from atlas_async.catalog.content import StoredMessage
from atlas_async.catalog.vault import Vault
from atlas_async.crypto.envelope import sha256_hex
from atlas_async.errors import GraphError, GraphTooLarge
from atlas_async.model.message import dump_json
from atlas_async.model.record import AttachmentRecord
from atlas_async.model.source import JsonObject
from atlas_async.restore.enclosures import (
    REQUEST_BYTES,
    Enclosed,
    Encloser,
    Within,
    fitting,
    is_refusal,
    line_of_file,
    note_name,
)
from atlas_async.restore.fingerprint import fingerprint_of_letter
from atlas_async.restore.letter import Letter, letter_of, plainer
from atlas_async.restore.ports import TargetMailbox
from atlas_async.restore.progress import Made

BODY_NAMES: Final = {"html": "message body.html", "text": "message body.txt"}
BODY_NOTE: Final = "The body of this message is attached: it is larger than Microsoft Graph takes."


@dataclass(frozen=True, slots=True)
class Body:
    """A body that is attached, as it is too large for the message itself."""

    name: str
    content_type: str
    data: bytes

    @property
    def line(self) -> str:
        """Its description as an attachment."""
        return line_of_file(self.name, sha256_hex(self.data))


@dataclass(frozen=True, slots=True)
class Posted:
    """A message as it is, or is to be, created."""

    target_id: str
    letter: Letter
    within: list[Within]
    body: Body | None


@dataclass(slots=True)
class Delivered:
    """A message that is in the target, and what is not as it was."""

    made: Made
    adjusted: list[str] = field(default_factory=list)
    enclosed: Enclosed = field(default_factory=Enclosed)


class Delivery:
    """Creates messages.

    Args:
        vault: The mailbox that is restored from.
        target: The mailbox that is restored to.
        begun: Told of a message that is there while attachments are still to be added.
    """

    def __init__(self, vault: Vault, target: TargetMailbox, begun: Callable[[Made], None]) -> None:
        self._target = target
        self._begun = begun
        self._encloser = Encloser(vault, target)

    @property
    def attachments_sent(self) -> int:
        """Attachments that are in the target."""
        return self._encloser.sent

    async def create(
        self, stored: StoredMessage, folder_id: str, *, mark: str, alone: bool, headers: str = ""
    ) -> Delivered:
        """Create a message with all its attachments.

        Args:
            stored: The message, checked.
            folder_id: Where.
            mark: Its mark.
            alone: No other message of the folder has its internet message id.
            headers: Its original header block, where that is stored.

        Raises:
            GraphNotFound: The folder is gone.
            GraphError: The message is refused, or more than it is concerned.
            AuthError, StoreError: As they come.
        """
        letter = letter_of(stored.resource, mark=mark, headers=headers)
        attachments = stored.record.get("attachments", [])
        size = len(dump_json(letter.body))
        within = await self._encloser.inline(fitting(attachments, REQUEST_BYTES - size))
        body: Body | None = None
        if size > REQUEST_BYTES:
            letter, body = _without_body(letter)
        posted = await self._post(
            folder_id, Posted("", letter, within, body), mark=mark, alone=alone
        )
        enclosed = Enclosed()
        names: Counter[str] = Counter()
        self._encloser.went_along(posted.within, names, enclosed)
        along = {id(item.attachment) for item in posted.within}
        left = [item for item in attachments if id(item) not in along]
        return await self._finish(posted, folder_id, mark, left, names, enclosed)

    async def resume(
        self, stored: StoredMessage, target_id: str, folder_id: str, *, mark: str
    ) -> Delivered:
        """Complete a message that an earlier run has created: add the attachments it lacks."""
        letter = letter_of(stored.resource, mark=mark)
        attachments = stored.record.get("attachments", [])
        body: Body | None = None
        too_large = len(dump_json(letter.body)) > REQUEST_BYTES
        if too_large or await self._says_attached(letter, target_id):
            letter, body = _without_body(letter)
        there: Counter[str] = Counter()
        if attachments or body is not None:
            there.update(await self._target.attachment_names(target_id))
        seen: Counter[str] = Counter()
        enclosed = Enclosed()
        missing = []
        for attachment in attachments:
            for name, line in await self._encloser.forms(attachment):
                if there[name] > seen[name]:
                    seen[name] += 1
                    enclosed.lines.append(line)
                    note_name(attachment, enclosed)
                    break
            else:
                missing.append(attachment)
        if body is not None and there[body.name] > seen[body.name]:
            enclosed.lines.append(body.line)
            body = None
        posted = Posted(target_id, letter, [], body)
        return await self._finish(posted, folder_id, mark, missing, there, enclosed)

    async def _says_attached(self, letter: Letter, target_id: str) -> bool:
        """Tell whether a message was created without its body: the server refused its size."""
        if _is_note(str((letter.body.get("body") or {}).get("content") or "")):
            return False
        return _is_note(await self._target.preview_of(target_id))

    async def _finish(
        self,
        posted: Posted,
        folder_id: str,
        mark: str,
        missing: Sequence[AttachmentRecord],
        names: Counter[str],
        enclosed: Enclosed,
    ) -> Delivered:
        """Add what did not go along, and say what was made."""
        made = Made(
            mark=mark,
            target_id=posted.target_id,
            folder_id=folder_id,
            fingerprint=await to_thread.run_sync(fingerprint_of_letter, posted.letter.body),
            enclosed=0,
            complete=False,
        )
        if missing or posted.body is not None:
            self._begun(made)
        for attachment in missing:
            await self._encloser.add(posted.target_id, attachment, names, enclosed)
        if posted.body is not None:
            body = posted.body
            await self._encloser.add_text(posted.target_id, body.name, body.content_type, body.data)
            enclosed.lines.append(body.line)
        made = replace(made, enclosed=enclosed.digest, complete=not enclosed.unsent)
        return Delivered(made, [*posted.letter.adjusted, *enclosed.adjusted], enclosed)

    async def _post(self, folder_id: str, wanted: Posted, *, mark: str, alone: bool) -> Posted:
        """Create the message; when it is refused, once more with less, as far as that helps."""
        letter = wanted.letter
        resource = dict(letter.body)
        if wanted.within:
            resource["attachments"] = [item.resource for item in wanted.within]
        try:
            created = await self._target.create_message(folder_id, resource, mark=mark, alone=alone)
        except GraphError as error:
            less = _with_less(wanted, error) if is_refusal(error) else None
            if less is None:
                raise
            return await self._post(folder_id, less, mark=mark, alone=alone)
        return replace(wanted, target_id=created)


def _with_less(wanted: Posted, error: GraphError) -> Posted | None:
    """Return what to try after a refusal, or None when nothing is left to leave out."""
    if wanted.within:
        # An attachment may be what is refused; by itself it costs only itself.
        return replace(wanted, within=[])
    if isinstance(error, GraphTooLarge) and wanted.body is None:
        letter, body = _without_body(wanted.letter)
        return replace(wanted, letter=letter, body=body)
    simpler = plainer(wanted.letter)
    return None if simpler.body == wanted.letter.body else replace(wanted, letter=simpler)


def _is_note(text: str) -> bool:
    return " ".join(text.split()).startswith(BODY_NOTE)


def _without_body(letter: Letter) -> tuple[Letter, Body]:
    """Return a letter whose body says that it is attached, and that body."""
    given = letter.body.get("body") or {}
    html = str(given.get("contentType")).lower() == "html"
    body = Body(
        name=BODY_NAMES["html" if html else "text"],
        content_type=f"text/{'html' if html else 'plain'}; charset=utf-8",
        data=str(given.get("content") or "").encode("utf-8", "replace"),
    )
    note: JsonObject = {"contentType": "text", "content": BODY_NOTE}
    adjusted = [*letter.adjusted, f"its body is attached as {body.name!r}"]
    return Letter({**letter.body, "body": note}, adjusted), body
