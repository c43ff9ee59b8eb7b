"""What the commands of the key show: the state, the plan, what is enforced, what is amiss."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from atlas_async.cli.documents import (
    key_check_document,
    key_copy_document,
    key_plan_document,
    key_protection_document,
)
from atlas_async.cli.exits import CODES
from atlas_async.cli.terminal import Terminal
from atlas_async.cli.terminal_text import date, visible
from atlas_async.operations import key_policy
from atlas_async.operations.key_check import KeyCheck, Weight
from atlas_async.operations.key_copy import KeyCopy
from atlas_async.operations.key_plan import Kind, ProtectionPlan
from atlas_async.operations.key_protection import ProtectionReport
from atlas_async.store.protection import ObjectState, Unknown

NAMES = {
    Kind.POLICY: "bucket policy",
    Kind.RETENTION: "lock",
    Kind.LEGAL_HOLD: "legal hold",
    Kind.READ_ONLY: "file",
}


def show_plan(terminal: Terminal, plan: ProtectionPlan) -> None:
    """Write a plan as the result of a command."""
    if terminal.json:
        terminal.document(key_plan_document(plan))
    else:
        terminal.show(f"{plan.key} in {visible(plan.store)}", state_table(plan.state))
        terminal.show(*plan_lines(plan))


def remark_plan(terminal: Terminal, plan: ProtectionPlan) -> None:
    """Write a plan that is about to be done."""
    terminal.remark(f"{plan.key} in {visible(plan.store)}", state_table(plan.state))
    terminal.remark(*plan_lines(plan))


def show_protection(terminal: Terminal, plan: ProtectionPlan, report: ProtectionReport) -> None:
    """Write what is enforced now."""
    if terminal.json:
        terminal.document(key_protection_document(plan, report))
        return
    for result in report.results:
        if report.removed:
            how = "taken out" if result.done else "unchanged" if result.enforced else "FAILED"
        else:
            how = "enforced" if result.enforced else "NOT ENFORCED"
        terminal.show(f"{NAMES[result.kind]}: {how}: {visible(result.text)}")
    _show_code(terminal, report.exit_code)


def show_check(terminal: Terminal, found: KeyCheck) -> None:
    """Write what a check found."""
    if terminal.json:
        terminal.document(key_check_document(found))
        return
    if not terminal.quiet:
        proof = f"opens {visible(found.opened)}" if found.opened else "nothing to open yet"
        terminal.show(
            f"{found.key} in {visible(found.store)}: {found.size} bytes, "
            f"version {found.version}, opened with the passphrase; {proof}",
            state_table(found.state),
        )
    for finding in found.findings:
        if finding.weight is not Weight.NOTE or not terminal.quiet:
            terminal.show(f"{finding.weight.value}: {finding.about}: {visible(finding.text)}")
    _show_code(terminal, found.exit_code)


def show_copy(terminal: Terminal, made: KeyCopy, how: str) -> None:
    """Write what became of a copy."""
    if terminal.json:
        terminal.document(key_copy_document(made))
    elif made.changed:
        terminal.show(f"the key ({made.size} bytes) was {how} {visible(made.place)}")
        if made.note:
            terminal.show(f"  note: {visible(made.note)}")
    else:
        terminal.show("the bucket has this very key already; nothing was changed")


def plan_lines(plan: ProtectionPlan) -> list[str]:
    """Return what will be done, and what cannot be."""
    lines = []
    for step in plan.steps:
        mark = "to do" if step.todo else "as it is" if step.possible else "impossible"
        lines.append(f"{NAMES[step.kind]}: {mark}: {visible(step.text)}")
    if plan.irreversible:
        lines.append(f"this cannot be undone: {plan.irreversible}")
    return lines


def state_table(state: ObjectState) -> Table:
    """Return what protects the key, a line each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, text in state_rows(state):
        table.add_row(name, Text(visible(text)))
    return table


def state_rows(state: ObjectState) -> Iterable[tuple[str, str]]:
    """Yield names and values of what protects the key."""
    if state.permissions is not None:
        yield "file mode", f"{state.permissions:04o}"
    yield "versioning", _switch(state.versioning)
    newest = state.newest
    if newest is not None:
        what = "deleted" if newest.deletion else f"{newest.size} bytes"
        yield "newest version", f"{newest.version_id}, {date(newest.modified)}, {what}"
    yield "Object Lock", _switch(state.object_lock)
    if isinstance(state.retention, Unknown):
        yield "lock", _unknown(state.retention)
    elif state.retention is None:
        yield "lock", "none"
    else:
        yield "lock", f"{state.retention.mode.lower()} until {date(state.retention.until)}"
    yield "legal hold", _switch(state.legal_hold)
    if isinstance(state.policy, Unknown):
        yield "bucket policy", _unknown(state.policy)
    elif not state.policy:
        yield "bucket policy", "none"
    else:
        ours = "ours are in it" if key_policy.holds_any_of_ours(state.policy) else "none of ours"
        yield (
            "bucket policy",
            f"{key_policy.count_foreign(state.policy)} statements of others, {ours}",
        )
    if isinstance(state.expiry, Unknown):
        yield "lifecycle", _unknown(state.expiry)
    else:
        yield "lifecycle", "; ".join(state.expiry) or "no rule deletes it"


def _switch(value: bool | Unknown) -> str:
    if isinstance(value, Unknown):
        return _unknown(value)
    return "on" if value else "off"


def _unknown(value: Unknown) -> str:
    return value.reason if value.lacking else f"not known: {value.reason}"


def _show_code(terminal: Terminal, code: int) -> None:
    if code and not terminal.quiet:
        terminal.show(f"exit code {code}: {CODES.get(code, 'an error')}")
