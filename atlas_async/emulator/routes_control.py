"""The control interface over HTTP, below ``/_emulator/``; JSON in, JSON out, loopback only."""

from __future__ import annotations

from typing import Any, Final

import anyio.to_thread

from atlas_async.emulator.calls import Call, Refusal, Reply
from atlas_async.emulator.control import Control
from atlas_async.emulator.faults import FaultRule
from atlas_async.emulator.records import NotHere

PREFIX: Final = "/_emulator/"
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
TRUTH_TRIES: Final = 3
"""How often the truth is told in a thread before what changes it meanwhile has to wait."""


async def answer_control(control: Control, call: Call, peer: str) -> Reply:
    """Answer a control request. ``peer`` is the caller's address.

    Raises ``Refusal``: 403 for callers that are not local, 400 for wrong arguments, 404 for verbs
    that do not exist.
    """
    if peer not in _LOOPBACK:
        raise Refusal(403, "NotLocal", "The control interface answers local callers only.")
    verb = (call.method, call.path.removeprefix(PREFIX).strip("/"))
    try:
        return Reply.json(await _answer(control, call, verb))
    except (ValueError, TypeError) as error:
        raise Refusal(400, "BadRequest", str(error)) from error


async def _answer(control: Control, call: Call, verb: tuple[str, str]) -> Any:
    match verb:
        case ("GET", "truth"):
            return await _truth(control, call)
        case ("GET", "log"):
            return control.log()
        case ("DELETE", "log"):
            control.clear_log()
        case ("GET", "faults"):
            return {"faults": control.faults()}
        case ("DELETE", "faults"):
            control.clear_faults()
        case ("POST", name):
            return await _change(control, call, name)
        case _:
            raise Refusal(404, "NotFound", f"There is no {verb[0]} {PREFIX}{verb[1]}.")
    return {"ok": True}


async def _truth(control: Control, call: Call) -> Any:
    mailbox = call.query.get("mailbox")
    content = call.query.get("content", "true").lower() != "false"
    for _ in range(TRUTH_TRIES):
        before = control.changes(mailbox)
        try:
            told = await anyio.to_thread.run_sync(lambda: control.truth(mailbox, content=content))
        except (RuntimeError, LookupError, NotHere):
            if control.changes(mailbox) == before:
                raise
            continue
        if control.changes(mailbox) == before:
            return told
    # Somebody writes all the time: nobody can while this is told.
    return control.truth(mailbox, content=content)


async def _change(control: Control, call: Call, name: str) -> Any:
    values = await call.json() if call.headers.get("Content-Length", "0") != "0" else {}
    changes = values if isinstance(values, list) else [values]
    if not all(isinstance(change, dict) for change in changes):
        raise ValueError("a JSON object or a list of them is expected")
    first: dict[str, Any] = changes[0] if changes else {}
    match name:
        case "mutate":
            return {"results": control.mutate_all(changes)}
        case "faults":
            for change in changes:
                control.add_fault(FaultRule.from_json(change))
        case "expire-delta":
            control.expire_delta(first.get("mailbox"), first.get("folder"))
        case "over-quota":
            control.over_quota(str(first.get("mailbox")), on=bool(first.get("on", True)))
        case "revoke-tokens":
            return {"revoked": control.revoke_tokens()}
        case "settings":
            return control.configure(**first)
        case _:
            raise Refusal(404, "NotFound", f"There is no POST {PREFIX}{name}.")
    return {"ok": True}
