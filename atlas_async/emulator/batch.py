"""``$batch``: up to twenty calls in one, each of them answered, counted and throttled by itself."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Any, Final

import anyio
import orjson
from multidict import CIMultiDict

from atlas_async.emulator.calls import Call, Refusal, Reply
from atlas_async.emulator.query import parse_query

MOST_STEPS: Final = 20
CONCURRENT: Final = 4
"""Graph forwards at most this many steps of a batch to Outlook at a time."""
Serve = Callable[[Call], AbstractAsyncContextManager[Reply]]


async def run_batch(call: Call, serve: Serve, version: str) -> Reply:
    """Answer ``POST /$batch``. Raises ``Refusal`` (400) when the batch itself is malformed.

    Steps run four at a time; when any depends on another, they run one by one in order, and a
    step whose dependency failed is answered with 424.
    """
    steps = _steps(await call.json_object())
    answers: dict[str, dict[str, Any]] = {}
    if any(step.get("dependsOn") for step in steps):
        for step in steps:
            failed = any(_failed(answers.get(str(n))) for n in step.get("dependsOn") or ())
            answers[str(step["id"])] = (
                _dependency_failed(step) if failed else await _run(call, step, serve, version)
            )
    else:
        limiter = anyio.CapacityLimiter(CONCURRENT)

        async def one(step: dict[str, Any]) -> None:
            async with limiter:
                answers[str(step["id"])] = await _run(call, step, serve, version)

        async with anyio.create_task_group() as group:
            for step in steps:
                group.start_soon(one, step)
    return Reply.json({"responses": list(answers.values())})


def _steps(body: dict[str, Any]) -> list[dict[str, Any]]:
    steps = body.get("requests")
    if not isinstance(steps, list) or not steps:
        raise Refusal(400, "BadRequest", "The batch has no requests.")
    if len(steps) > MOST_STEPS:
        raise Refusal(
            400,
            "BadRequest",
            f"Number of batch request steps exceeds the maximum value of {MOST_STEPS}.",
        )
    seen: set[str] = set()
    for step in steps:
        if not isinstance(step, dict) or not all(step.get(k) for k in ("id", "method", "url")):
            raise Refusal(400, "BadRequest", "Each request needs id, method and url.")
        if str(step["id"]) in seen:
            raise Refusal(400, "BadRequest", f"The request id '{step['id']}' is not unique.")
        missing = [n for n in step.get("dependsOn") or () if str(n) not in seen]
        if missing:
            raise Refusal(400, "BadRequest", f"'{missing[0]}' must come before its dependants.")
        seen.add(str(step["id"]))
    return steps


async def _run(outer: Call, step: dict[str, Any], serve: Serve, version: str) -> dict[str, Any]:
    path, _, raw_query = str(step["url"]).partition("?")
    if path.strip("/").lower() == "$batch":
        return _answer(step, 400, {"error": {"code": "BadRequest", "message": "Nested batch."}})
    body = step.get("body")
    raw = _raw_body(body)
    headers: CIMultiDict[str] = CIMultiDict(
        {str(name): str(value) for name, value in (step.get("headers") or {}).items()}
    )
    headers["Authorization"] = outer.headers.get("Authorization", "")
    headers["Content-Length"] = str(len(raw))

    async def read_body() -> bytes:
        return raw

    inner = Call(
        method=str(step["method"]).upper(),
        path=version + path.lstrip("/"),
        query=parse_query(raw_query),
        headers=headers,
        read_body=read_body,
        raw_query=raw_query,
        batched=True,
    )
    async with serve(inner) as reply:
        return _told(step, reply)


def _raw_body(body: Any) -> bytes:
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else orjson.dumps(body)


def _told(step: dict[str, Any], reply: Reply) -> dict[str, Any]:
    raw = reply.body if reply.stream is None else b"".join(reply.stream)
    headers = {k: v for k, v in reply.headers.items() if k not in {"Date", "request-id"}}
    told: dict[str, Any] = {"id": step["id"], "status": reply.status, "headers": headers}
    if raw and "json" in reply.headers.get("Content-Type", ""):
        told["body"] = orjson.Fragment(raw)
    elif raw:
        told["body"] = base64.b64encode(raw).decode("ascii")
    return told


def _answer(step: dict[str, Any], status: int, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    return {"id": step["id"], "status": status, "headers": headers, "body": body}


def _failed(answer: dict[str, Any] | None) -> bool:
    return answer is None or int(answer["status"]) >= HTTPStatus.BAD_REQUEST


def _dependency_failed(step: dict[str, Any]) -> dict[str, Any]:
    error = {"code": "FailedDependency", "message": "A request this one depends on failed."}
    return _answer(step, 424, {"error": error})
