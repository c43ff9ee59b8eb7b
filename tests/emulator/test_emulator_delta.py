"""Delta rounds: completeness, changes, moves, tokens."""

from __future__ import annotations

from typing import Any

import pytest

from atlas_async.emulator import Emulator
from tests.fakes.graph_probe import GraphProbe

ADDRESS = "user0000@contoso.com"
INBOX = f"users/{ADDRESS}/mailFolders/inbox/messages/delta"
PAGE = 'IdType="ImmutableId", odata.maxpagesize=17'


def _in(emulator: Emulator, known: str) -> set[str]:
    truth = emulator.control.mailbox_truth(ADDRESS, content=False)
    folder = next(f["id"] for f in truth["folders"] if f["wellKnownName"] == known)
    return {m["immutableId"] for m in truth["messages"] if m["folderId"] == folder}


def _split(items: list[Any]) -> tuple[list[str], list[str]]:
    shown = [item["id"] for item in items if "@removed" not in item]
    return shown, [item["id"] for item in items if "@removed" in item]


async def test_first_round_shows_every_message_once(emulator: Emulator, probe: GraphProbe) -> None:
    """The first round of a folder lists exactly what truth says, in pages of the asked size."""
    items, link = await probe.round(INBOX, prefer=PAGE)

    ids = [item["id"] for item in items]
    assert len(ids) == len(set(ids))
    assert set(ids) == _in(emulator, "inbox")
    assert "$deltatoken=" in link


async def test_quiet_round_is_empty_with_the_same_link(probe: GraphProbe) -> None:
    """Without changes a delta link answers nothing and names itself again."""
    _, link = await probe.round(INBOX, prefer=PAGE)

    assert await probe.round(link, prefer=PAGE) == ([], link)


async def test_changes_come_back_with_full_properties(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """Created and updated messages are shown whole, deleted ones as removed."""
    items, link = await probe.round(INBOX, prefer=PAGE)
    first, second = items[0]["id"], items[1]["id"]
    control = emulator.control
    new = control.mutate(ADDRESS, {"op": "create", "folder": "inbox", "subject": "new"})
    control.mutate(ADDRESS, {"op": "update", "message": first, "patch": {"isRead": True}})
    control.mutate(ADDRESS, {"op": "delete", "message": second, "hard": True})

    changed, _ = await probe.round(link, prefer=PAGE)

    shown, removed = _split(changed)
    assert set(shown) == {first, new["immutableId"]}
    assert removed == [second]
    assert all("body" in item for item in changed if "@removed" not in item)
    assert next(i for i in changed if i["id"] == second)["@removed"] == {"reason": "deleted"}


async def test_select_is_encoded_in_the_links(probe: GraphProbe) -> None:
    """Selected properties hold for the whole round, and only they are sent."""
    items, _ = await probe.round(f"{INBOX}?$select=subject,isRead", prefer=PAGE)

    assert len(items) > 17
    assert all(
        set(item) == {"@odata.type", "@odata.etag", "id", "subject", "isRead"} for item in items
    )


async def test_move_is_a_removal_and_an_arrival(emulator: Emulator, probe: GraphProbe) -> None:
    """A moved message leaves one folder and appears in the other, under one immutable id."""
    archive = f"users/{ADDRESS}/mailFolders/archive/messages/delta"
    items, inbox_link = await probe.round(INBOX, prefer=PAGE)
    _, archive_link = await probe.round(archive, prefer=PAGE)
    moved = items[3]["id"]
    emulator.control.mutate(ADDRESS, {"op": "move", "message": moved, "folder": "archive"})

    left, _ = await probe.round(inbox_link, prefer=PAGE)
    arrived, _ = await probe.round(archive_link, prefer=PAGE)

    assert _split(left) == ([], [moved])
    assert left[0]["@removed"] == {"reason": "changed"}
    assert _split(arrived) == ([moved], [])


async def test_default_ids_change_when_a_message_moves(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """With default ids the removal names the old id, and only the new id answers afterwards."""
    items, link = await probe.round(INBOX, prefer="")
    old = items[0]["id"]
    moved = emulator.control.mutate(ADDRESS, {"op": "move", "message": old, "folder": "archive"})

    left, _ = await probe.round(link, prefer="")

    assert _split(left) == ([], [old])
    assert moved["defaultId"] != old
    assert (await probe.get(f"users/{ADDRESS}/messages/{old}")).status == 404
    for name in ("defaultId", "immutableId"):
        found = await probe.get(f"users/{ADDRESS}/messages/{moved[name]}")
        assert found.body["id"] == moved["immutableId"]


async def test_return_quirk_shows_only_the_removal(emulator: Emulator, probe: GraphProbe) -> None:
    """With the quirk on, a message that went and came back is reported as removed only."""
    items, link = await probe.round(INBOX, prefer=PAGE)
    moved = items[0]["id"]
    emulator.control.configure(return_quirk=True)
    for folder in ("archive", "inbox"):
        emulator.control.mutate(ADDRESS, {"op": "move", "message": moved, "folder": folder})

    changed, _ = await probe.round(link, prefer=PAGE)

    assert _split(changed) == ([], [moved])


async def test_changes_during_a_round_are_in_the_next(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """Nothing that happens between two pages is lost: the next round reports it."""
    first = (await probe.get(INBOX, prefer=PAGE)).body
    known = {item["id"] for item in first["value"]}
    early = first["value"][0]["id"]
    emulator.control.mutate(ADDRESS, {"op": "delete", "message": early, "hard": True})
    new = emulator.control.mutate(ADDRESS, {"op": "create", "folder": "inbox"})["immutableId"]

    rest, link = await probe.round(first["@odata.nextLink"], prefer=PAGE)
    later, _ = await probe.round(link, prefer=PAGE)

    known |= {item["id"] for item in rest}
    shown, removed = _split(later)
    assert (known | set(shown)) - set(removed) == _in(emulator, "inbox")
    assert new in known | set(shown)


@pytest.mark.parametrize("kind", ["created", "updated", "deleted"])
async def test_change_type_filters_later_rounds(
    emulator: Emulator, probe: GraphProbe, kind: str
) -> None:
    """ChangeType of the first request decides which changes later rounds report."""
    items, link = await probe.round(f"{INBOX}?changeType={kind}", prefer=PAGE)
    control = emulator.control
    new = control.mutate(ADDRESS, {"op": "create", "folder": "inbox"})["immutableId"]
    control.mutate(ADDRESS, {"op": "update", "message": items[0]["id"], "patch": {"isRead": True}})
    control.mutate(ADDRESS, {"op": "delete", "message": items[1]["id"]})

    changed, _ = await probe.round(link, prefer=PAGE)

    wanted = {"created": new, "updated": items[0]["id"], "deleted": items[1]["id"]}
    assert [item["id"] for item in changed] == [wanted[kind]]


async def test_top_caps_the_round(probe: GraphProbe) -> None:
    """$top on delta is a total: a full page, then an empty page with the delta link."""
    first = (await probe.get(f"{INBOX}?$top=5", prefer=PAGE)).body
    second = (await probe.get(first["@odata.nextLink"], prefer=PAGE)).body

    assert len(first["value"]) == 5
    assert second["value"] == []
    assert "@odata.deltaLink" in second


async def test_expired_token_is_gone(emulator: Emulator, probe: GraphProbe) -> None:
    """An expired token answers 410 with the documented code, for that folder alone."""
    _, inbox = await probe.round(INBOX, prefer=PAGE)
    _, archive = await probe.round(f"users/{ADDRESS}/mailFolders/archive/messages/delta")
    emulator.control.expire_delta(ADDRESS, "inbox")

    gone = await probe.get(inbox)

    assert (gone.status, gone.code) == (410, "SyncStateNotFound")
    assert gone.body["error"]["message"].startswith("The sync state generation is not found")
    assert (await probe.get(archive)).status == 200


async def test_token_of_another_place_is_refused(probe: GraphProbe) -> None:
    """Tokens are bound to folder and mailbox, and cannot be forged."""
    _, link = await probe.round(INBOX, prefer=PAGE)
    token = link.partition("?")[2]
    elsewhere = [
        f"users/{ADDRESS}/mailFolders/archive/messages/delta?{token}",
        f"users/user0001@contoso.com/mailFolders/inbox/messages/delta?{token}",
        f"{INBOX}?$deltatoken=forged",
    ]

    for path in elsewhere:
        answer = await probe.get(path)
        assert (answer.status, answer.code) == (400, "SyncStateInvalid")


async def test_strict_id_mode_refuses_the_other_format(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """With strict id modes a token made without the immutable header fails when it is sent."""
    _, link = await probe.round(INBOX, prefer="")
    emulator.control.configure(strict_id_mode=True)

    answer = await probe.get(link)

    assert answer.code == "SyncStateInvalid"


async def test_sparse_changes_replays_and_empty_pages(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """On demand: updates carry only what changed, items repeat, pages are empty."""
    emulator.control.configure(sparse_changes=True, replays=True, empty_pages=2)
    items, link = await probe.round(INBOX, prefer=PAGE)
    ids = [item["id"] for item in items]
    assert len(ids) > len(set(ids))
    assert set(ids) == _in(emulator, "inbox")
    emulator.control.mutate(ADDRESS, {"op": "update", "message": ids[0], "patch": {"isRead": True}})

    changed, _ = await probe.round(link, prefer=PAGE)

    assert [set(item) for item in changed] == [{"@odata.type", "@odata.etag", "id", "isRead"}]


async def test_over_quota_refuses_delta_but_lists(emulator: Emulator, probe: GraphProbe) -> None:
    """A mailbox over quota refuses delta and still answers plain listings."""
    emulator.control.over_quota(ADDRESS)

    refused = await probe.get(INBOX)

    assert refused.code == "ErrorQuotaExceeded"
    listing = await probe.get(f"users/{ADDRESS}/mailFolders/inbox/messages")
    assert listing.status == 200


async def test_repeated_and_foreign_links(emulator: Emulator, probe: GraphProbe) -> None:
    """On demand next links repeat for ever, or name another host."""
    emulator.control.configure(repeat_links=True)
    first = (await probe.get(INBOX, prefer=PAGE)).body["@odata.nextLink"]
    second = (await probe.get(first, prefer=PAGE)).body["@odata.nextLink"]
    assert first == second

    emulator.control.configure(foreign_links="https://evil.example")
    foreign = (await probe.get(INBOX, prefer=PAGE)).body["@odata.nextLink"]
    assert foreign.startswith("https://evil.example/v1.0/")


async def test_folder_delta_tells_adds_renames_and_removals(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """The folder delta lists the tree first, then only what changed in it."""
    path = f"users/{ADDRESS}/mailFolders/delta"
    items, link = await probe.round(path, prefer=PAGE)
    truth = emulator.control.mailbox_truth(ADDRESS, content=False)
    below = {
        f["id"]
        for f in truth["folders"]
        if f["belowRoot"] and not f["search"] and f["wellKnownName"] != "msgfolderroot"
    }
    assert {item["id"] for item in items} == below
    control = emulator.control
    made = control.mutate(ADDRESS, {"op": "folder-create", "name": "A"})["id"]
    gone = control.mutate(ADDRESS, {"op": "folder-create", "name": "B"})["id"]
    control.mutate(ADDRESS, {"op": "folder-rename", "folder": made, "name": "Ä"})
    control.mutate(ADDRESS, {"op": "folder-delete", "folder": gone, "hard": True})

    changed, after = await probe.round(link)

    assert {item["id"]: item.get("displayName") for item in changed} == {made: "Ä", gone: None}
    assert changed[-1]["@removed"] == {"reason": "deleted"}
    assert (await probe.round(after))[0] == []


async def test_a_round_can_end_without_its_delta_link(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """With ``lost_delta_links`` the last page has neither link; all before it lead on."""
    emulator.control.configure(lost_delta_links=True)

    items, link = await probe.round(INBOX, prefer=PAGE)

    assert {item["id"] for item in items} == _in(emulator, "inbox")
    assert link == ""


async def test_heavy_pages_time_out(emulator: Emulator, probe: GraphProbe) -> None:
    """A delta page asked for with more messages than ``heavy_page`` is an empty 503."""
    emulator.control.configure(heavy_page=16)

    heavy = await probe.get(INBOX, prefer=PAGE)
    items, link = await probe.round(INBOX, prefer=PAGE.replace("17", "16"))

    assert (heavy.status, heavy.raw) == (503, b"")
    assert {item["id"] for item in items} == _in(emulator, "inbox")
    assert link
