"""From a path to the function that answers it: collections, ids, key forms and casts."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import unquote

from atlas_async.emulator.calls import Call, Refusal, Reply
from atlas_async.emulator.ids import MalformedId
from atlas_async.emulator.records import NotHere
from atlas_async.emulator.world import World

Handler = Callable[[World, Call, tuple[str, ...]], Awaitable[Reply]]
Routes = Mapping[tuple[str, str], Handler]

_COLLECTIONS: Final = frozenset(
    {"users", "mailfolders", "childfolders", "messages", "attachments", "attachmentsessions"}
)
_FUNCTIONS: Final = frozenset({"delta", "$count", "createuploadsession"})
_KEY_FORM: Final = re.compile(r"([A-Za-z]+)\('(.*)'\)")
_CAST: Final = "microsoft.graph."
_NESTED: Final = "mailfolders/*/childfolders/*"


def split_path(path: str) -> tuple[str, tuple[str, ...]]:
    """Return the shape of a path below the version segment, and the ids in it.

    ``users('x')/mailFolders/y/messages/delta()`` becomes
    ``users/*/mailfolders/*/messages/delta`` with ids ``x`` and ``y``. Of nested child folders only
    the innermost id is kept, as folder ids are unique in the mailbox.
    """
    pieces: list[str] = []
    for raw in path.strip("/").split("/"):
        text = unquote(raw)
        match = _KEY_FORM.fullmatch(text)
        pieces.extend([match[1], match[2].replace("''", "'")] if match else [text])
    shape: list[str] = []
    ids: list[str] = []
    awaiting = False
    for piece in pieces:
        name = piece.removesuffix("()").lower().removeprefix(_CAST)
        if awaiting and name not in _FUNCTIONS:
            shape.append("*")
            ids.append(piece)
            awaiting = False
            continue
        shape.append(name)
        awaiting = name in _COLLECTIONS
    return _flattened("/".join(shape), ids)


def _flattened(shape: str, ids: list[str]) -> tuple[str, tuple[str, ...]]:
    while _NESTED in shape:
        at = shape[: shape.index(_NESTED)].count("*")
        del ids[at]
        shape = shape.replace(_NESTED, "mailfolders/*", 1)
    return shape, tuple(ids)


async def dispatch(routes: Routes, world: World, call: Call, path: str) -> Reply:
    """Answer a Graph call. Raises ``Refusal`` for every error Graph would answer with."""
    shape, ids = split_path(path)
    if shape == "me" or shape.startswith("me/"):
        raise Refusal(
            400, "BadRequest", "/me request is only valid with delegated authentication flow."
        )
    handler = routes.get((call.method, shape))
    if handler is None:
        if any(known == shape for _, known in routes):
            raise Refusal(
                405, "Request_BadRequest", "Specified HTTP method is not allowed for the request."
            )
        segment = path.rsplit("/", 1)[-1]
        raise Refusal(400, "BadRequest", f"Resource not found for the segment '{segment}'.")
    try:
        return await handler(world, call, ids)
    except NotHere as error:
        raise Refusal(
            404, "ErrorItemNotFound", "The specified object was not found in the store."
        ) from error
    except MalformedId as error:
        raise Refusal(400, "ErrorInvalidIdMalformed", "Id is malformed.") from error
