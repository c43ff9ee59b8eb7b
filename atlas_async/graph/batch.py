"""Several GETs in one request. A part that did not succeed is left to be asked for alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from atlas_async.errors import AuthError, GraphError, GraphThrottled, NoMailbox
from atlas_async.graph.client import IMMUTABLE, Call, GraphClient
from atlas_async.graph.codes import CROWDED, THROTTLE_STATUSES
from atlas_async.graph.lane import Lane
from atlas_async.model.source import JsonObject

MOST_PARTS: Final = 20
"""Requests in one batch (learn.microsoft.com/graph/json-batching)."""

_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Part:
    """The answer to one GET of a batch."""

    status: int
    body: JsonObject | None

    @property
    def found(self) -> JsonObject | None:
        """The body of a success, or None."""
        return self.body if self.status == _OK else None


async def fetch_batch(
    client: GraphClient, lane: Lane, paths: dict[str, str], *, where: str
) -> dict[str, Part]:
    """Ask for ``paths`` (by a name of the caller's, below the version) in one request.

    At most ``MOST_PARTS`` of them. Outlook runs four parts of a batch at a time and counts each
    one, so a batch goes alone in its lane and costs as many requests as it has parts. A part that
    is refused for throttling lets the lane rest as it asks. An empty result means that batches are
    not to be had here.

    Raises:
        AuthError: No token.
        GraphThrottled: Patience ran out.
    """
    headers = {"Prefer": IMMUTABLE}
    requests = [
        {"id": name, "method": "GET", "url": path, "headers": headers}
        for name, path in paths.items()
    ]
    url = client.root.url("$batch")
    call = Call(url, where, body={"requests": requests}, cost=len(requests))
    try:
        answer = await client.fetch(lane, call)
    except (GraphThrottled, NoMailbox):
        raise
    except (AuthError, GraphError):
        # Refused, or failing, as a whole; single requests say why, or succeed.
        return {}
    responses = answer.document.get("responses")
    answers = [r for r in responses if isinstance(r, dict)] if isinstance(responses, list) else []
    for refused in answers:
        if refused.get("status") in THROTTLE_STATUSES:
            # The batch as a whole succeeded, so nobody else sees that the mailbox is throttled.
            client.rest(
                lane, _headers(refused), crowded=CROWDED in str(refused.get("body")).lower()
            )
    return _parts(answers)


def _headers(response: JsonObject) -> dict[str, str]:
    found = response.get("headers")
    fields = found.items() if isinstance(found, dict) else ()
    return {str(name).lower(): str(value) for name, value in fields}


def _parts(responses: list[JsonObject]) -> dict[str, Part]:
    parts = {}
    for response in responses:
        if isinstance(response.get("status"), int):
            body = response.get("body")
            name = str(response.get("id"))
            parts[name] = Part(response["status"], body if isinstance(body, dict) else None)
    return parts
