"""The folder tree and its changes."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import anyio
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.errors import ConsentError, GraphProtocolError, NoMailbox, SyncStateGone
from atlas_async.graph.folders import DEEPEST, DELTA_PAGE, DUMPSTER, MOST_SINGLES, WELL_KNOWN
from atlas_async.graph.tree import arrange
from tests.fakes.graph_server import USER, Answer, GraphServer, fault, reply, tenant_of

BASE = "/users/u-1/mailFolders"


def folder(key: str, parent: str = "root", children: int = 0, **more: Any) -> dict[str, Any]:
    """Return a raw folder named like its id."""
    return {
        "id": key,
        "displayName": key.upper(),
        "parentFolderId": parent,
        "childFolderCount": children,
        "totalItemCount": 3,
        "isHidden": False,
        **more,
    }


def children_of(key: str) -> str:
    """Return the path of a folder's children."""
    return f"{BASE}/{key}/childFolders"


def serve(
    server: GraphServer,
    top: list[dict[str, Any]],
    names: dict[str, str] | None = None,
    *,
    batch: Answer | None = None,
    root_items: int = 0,
) -> None:
    """Script a root with ``top`` below it, and the ids of well-known names."""
    server.on(f"{BASE}/delta", reply({"value": [], "@odata.deltaLink": "the link"}))
    server.on(f"{BASE}/msgfolderroot", reply(folder("root", "", totalItemCount=root_items)))
    server.on(BASE, reply({"value": top}))
    for name, key in (names or {}).items():
        server.on(f"{BASE}/{name}", reply({"id": key}))
    empty(server, *top)
    if batch:
        server.on("/$batch", batch)


def empty(server: GraphServer, *folders: dict[str, Any]) -> None:
    """Script folders without children."""
    for one in folders:
        server.on(children_of(one["id"]), reply({"value": []}))


async def test_the_tree_is_read_whole() -> None:
    """Nested, hidden and empty folders are listed parents first; search folders are counted."""
    search = folder("s") | {"@odata.type": "#microsoft.graph.mailSearchFolder"}
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(
            server,
            [folder("in", children=1), search, folder("h", isHidden=True, totalItemCount=0)],
            {"inbox": "in"},
        )
        server.on(children_of("in"), reply({"value": [folder("a", "in", 2)]}))
        deep = [folder("b", "a", displayName="X"), folder("c", "a", displayName="X")]
        server.on(children_of("a"), reply({"value": deep}))
        empty(server, *deep)
        listing = await tenant.mailbox(USER).list_folders(recoverable=False)

    assert [
        (f.id, f.path, f.well_known_name, f.hidden, f.total_items) for f in listing.folders
    ] == [
        ("in", ("IN",), "inbox", False, 3),
        ("h", ("H",), None, True, 0),
        ("a", ("IN", "A"), None, False, 3),
        ("b", ("IN", "A", "X"), None, False, 3),
        ("c", ("IN", "A", "X"), None, False, 3),
    ]
    assert (listing.root_id, listing.search_folders) == ("root", 1)
    listed = [seen for seen in server.seen if seen.path == BASE]
    assert listed[0].query["includeHiddenFolders"] == "true"


async def test_folders_that_claim_no_children_are_asked_too() -> None:
    """A hidden folder is found below a parent whose count leaves it out."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, [folder("a"), folder("b")])
        server.on(children_of("b"), reply({"value": [folder("h", "b", isHidden=True)]}))
        empty(server, folder("h"))
        listing = await tenant.mailbox(USER).list_folders(recoverable=False)

    assert [f.path for f in listing.folders] == [("A",), ("B",), ("B", "H")]


async def test_names_are_asked_once() -> None:
    """Ids of well-known folders are asked for once per mailbox, the tree every time."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, [folder("in")], {"inbox": "in"})
        mailbox = tenant.mailbox(USER)
        await mailbox.list_folders(recoverable=False)
        again = await mailbox.list_folders(recoverable=False)

    assert again.folders[0].well_known_name == "inbox"
    asked = Counter(server.paths())
    assert {asked[f"{BASE}/{name}"] for name in WELL_KNOWN} == {1}
    assert asked[BASE] == asked[children_of("in")] == 2


async def test_levels_do_not_wait_for_names() -> None:
    """While names are being asked for, children are read, and four places at most are taken."""
    asked = anyio.Event()

    async def until_children_are_asked(_request: web.Request) -> web.StreamResponse:
        await asked.wait()
        return web.json_response({"id": "in"})

    async def children(_request: web.Request) -> web.StreamResponse:
        asked.set()
        return web.json_response({"value": []})

    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, [folder("in")])
        for name in WELL_KNOWN:
            server.on(f"{BASE}/{name}", until_children_are_asked)
        server.on(children_of("in"), children)
        await tenant.mailbox(USER).list_folders(recoverable=False)

    assert server.most_in_flight <= 4


@pytest.mark.parametrize(("siblings", "batches"), [(MOST_SINGLES, 0), (MOST_SINGLES + 9, 2)])
async def test_many_siblings_are_asked_together(siblings: int, batches: int) -> None:
    """A few folders are asked for their children side by side, many of them twenty at a time."""
    top = [folder(f"f{number}") for number in range(siblings)]
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, top)
        listing = await tenant.mailbox(USER).list_folders(recoverable=False)

    assert len(listing.folders) == siblings
    assert server.paths().count("/$batch") == batches
    singles = [path for path in server.paths() if path.endswith("/childFolders")]
    assert len(singles) == (0 if batches else siblings)


async def test_a_long_list_of_children_is_paged() -> None:
    """Children beyond the first page are asked for by their link."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, [folder("a"), folder("b")])
        link = f"{children_of('a')}?$skip=1"
        first = {
            "value": [folder("c", "a")],
            "@odata.nextLink": f"{server.url}/v1.0{link}",
        }
        server.on(children_of("a"), reply(first))
        server.on(link, reply({"value": [folder("d", "a")]}))
        empty(server, folder("c"), folder("d"))
        listing = await tenant.mailbox(USER).list_folders(recoverable=False)

    assert [f.id for f in listing.folders] == ["a", "b", "c", "d"]


async def test_parts_of_a_batch_count_and_carry_the_preference() -> None:
    """A batch counts as many requests as it has parts, and each asks for immutable ids."""
    top = [folder(f"f{number}") for number in range(MOST_SINGLES + 1)]
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, top)
        mailbox = tenant.mailbox(USER)
        await mailbox.list_folders(recoverable=False)

        assert mailbox.usage.requests == 3 + len(WELL_KNOWN) + len(top)
    (batch,) = (seen for seen in server.seen if seen.path == "/$batch")
    sent = json.loads(batch.body)["requests"]
    assert [part["id"] for part in sent] == [one["id"] for one in top]
    assert sent[0]["url"].startswith(f"{children_of('f0')}?includeHiddenFolders=true")
    assert sent[0]["headers"] == {"Prefer": 'IdType="ImmutableId"'}


@pytest.mark.parametrize(
    "batch",
    [
        fault(405, "MethodNotAllowed"),
        fault(403, "accessDenied"),
        reply({"responses": None}),
        reply({"responses": [{"id": f"f{n}", "status": 429} for n in range(17)]}, name="inner"),
    ],
)
async def test_folders_are_asked_one_by_one_where_a_batch_fails(batch: Answer) -> None:
    """A refused batch, or refused parts of it, are replaced by single requests."""
    top = [folder(f"f{number}") for number in range(MOST_SINGLES + 1)]
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, top, batch=batch)
        server.on(children_of("f3"), reply({"value": [folder("below", "f3")]}))
        empty(server, folder("below"))
        listing = await tenant.mailbox(USER).list_folders(recoverable=False)

    assert [f.path for f in listing.folders][-1] == ("F3", "BELOW")


async def test_the_link_is_from_before_the_listing() -> None:
    """No folder is listed before the delta's last page: what changes then, the link tells of."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, [folder("in")])
        more = f"{BASE}/delta?$skiptoken=1"
        first = {"value": [], "@odata.nextLink": f"{server.url}/v1.0{more}"}
        server.on(f"{BASE}/delta", reply(first))
        server.on(more, reply({"value": [], "@odata.deltaLink": "the end"}))
        listing = await tenant.mailbox(USER).list_folders(recoverable=False)

    assert listing.link == "the end"
    asked = server.paths()
    rounds = [place for place, path in enumerate(asked) if path == f"{BASE}/delta"]
    assert len(rounds) == 2
    assert max(rounds) < min(asked.index(BASE), asked.index(children_of("in")))


async def test_names_do_not_wait_for_the_link() -> None:
    """Root and names are asked for beside the delta's second page, not after it."""
    named = anyio.Event()

    async def name(_request: web.Request) -> web.StreamResponse:
        named.set()
        return web.json_response({"id": "in"})

    async def last_page(_request: web.Request) -> web.StreamResponse:
        await named.wait()
        return web.json_response({"value": [], "@odata.deltaLink": "the end"})

    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, [folder("in")])
        more = f"{BASE}/delta?$skiptoken=1"
        first = {"value": [], "@odata.nextLink": f"{server.url}/v1.0{more}"}
        server.on(f"{BASE}/delta", reply(first))
        server.on(more, last_page)
        server.on(f"{BASE}/inbox", name)
        listing = await tenant.mailbox(USER).list_folders(recoverable=False)

    assert listing.folders[0].well_known_name == "inbox"


@pytest.mark.parametrize("answer", [fault(400, "ErrorInvalidRequest"), reply({"value": []})])
async def test_without_a_folder_delta_the_tree_is_still_listed(answer: Answer) -> None:
    """A delta that is refused, or ends without a link, costs the link and nothing else."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, [folder("in")])
        server.on(f"{BASE}/delta", answer)
        listing = await tenant.mailbox(USER).list_folders(recoverable=False)

    assert (listing.link, [f.id for f in listing.folders]) == (None, ["in"])


async def test_a_principal_without_a_mailbox_costs_one_request() -> None:
    """What answers that there is no mailbox is not asked for anything else."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, [folder("in")])
        server.on(f"{BASE}/delta", fault(404, "MailboxNotEnabledForRESTAPI"))
        with pytest.raises(NoMailbox):
            await tenant.mailbox(USER).list_folders(recoverable=False)

    assert server.paths() == [f"{BASE}/delta"]


async def test_recoverable_items_are_listed_on_request() -> None:
    """The dumpster stands outside the root; it and its children come only when asked for."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, [folder("in")], {DUMPSTER: "d"})
        server.on(f"{BASE}/{DUMPSTER}", reply(folder("d", "elsewhere", 1)))
        server.on(children_of("d"), reply({"value": [folder("e", "d")]}))
        empty(server, folder("e"))
        mailbox = tenant.mailbox(USER)
        without = await mailbox.list_folders(recoverable=False)
        listing = await mailbox.list_folders(recoverable=True)

    assert [f.id for f in without.folders] == ["in"]
    assert [(f.path, f.well_known_name) for f in listing.folders] == [
        (("IN",), None),
        (("D",), DUMPSTER),
        (("D", "E"), None),
    ]


async def test_the_root_is_a_folder_when_it_holds_items() -> None:
    """Messages directly in the root are not lost."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, [folder("in")], root_items=2)
        listing = await tenant.mailbox(USER).list_folders(recoverable=False)

    assert (listing.folders[0].id, listing.folders[0].path) == ("root", ())


async def test_a_folder_deleted_meanwhile_has_no_children() -> None:
    """A folder that vanished while the tree was read does not fail it."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, [folder("a", children=1), folder("b", children=1)])
        server.on(children_of("a"), fault(404, "ErrorItemNotFound"))
        server.on(children_of("b"), reply({"value": [folder("c", "b")]}))
        listing = await tenant.mailbox(USER).list_folders(recoverable=False)

    assert [f.id for f in listing.folders] == ["a", "b", "c"]


async def test_an_error_in_the_tree_is_the_error() -> None:
    """A failure among concurrent requests comes out as itself."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, [folder("a", children=1), folder("b", children=1)])
        server.on(children_of("a"), fault(403, "ErrorAccessDenied"))
        server.on(children_of("b"), fault(403, "ErrorAccessDenied"))
        with pytest.raises(ConsentError):
            await tenant.mailbox(USER).list_folders(recoverable=False)


@pytest.mark.parametrize(
    "answer", [reply(None, 404), fault(404, "ErrorItemNotFound"), fault(404, "ErrorInvalidUser")]
)
async def test_without_a_root_there_is_no_mailbox(answer: Answer) -> None:
    """Whatever code comes for a missing root, it means that there is no mailbox."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(f"{BASE}/msgfolderroot", answer)
        with pytest.raises(NoMailbox):
            await tenant.mailbox(USER).list_folders(recoverable=False)


async def test_a_tree_in_a_circle_ends() -> None:
    """A folder that is its own grandchild is listed once."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, [folder("a", children=1)])
        server.on(children_of("a"), reply({"value": [folder("b", "a", 1)]}))
        server.on(children_of("b"), reply({"value": [folder("a", "b", 1)]}))
        listing = await tenant.mailbox(USER).list_folders(recoverable=False)

    assert [f.id for f in listing.folders] == ["a", "b"]


async def test_a_tree_without_bottom_is_refused() -> None:
    """Endless nesting is an error after 300 levels."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        serve(server, [folder("f0", children=1)])
        for number in range(DEEPEST + 1):
            below = folder(f"f{number + 1}", f"f{number}", 1)
            server.on(children_of(f"f{number}"), reply({"value": [below]}))
        with pytest.raises(GraphProtocolError, match="nested"):
            await tenant.mailbox(USER).list_folders(recoverable=False)


async def test_changes_of_folders_run_to_the_end() -> None:
    """All pages of a round are one result; the last word on a folder counts."""
    delta = f"{BASE}/delta"
    async with GraphServer() as server, tenant_of(server) as tenant:
        first = {
            "value": [folder("a"), folder("b")],
            "@odata.nextLink": f"{server.url}/v1.0{delta}?$skiptoken=1",
        }
        gone = {"id": "b", "@removed": {"reason": "deleted"}}
        last = {"value": [gone, folder("a", displayName="New")], "@odata.deltaLink": "the end"}
        server.on(delta, reply(first))
        server.on(f"{delta}?$skiptoken=1", reply(last))
        changes = await tenant.mailbox(USER).folder_changes(None)

    sizes = {seen.headers["Prefer"].rpartition("=")[2] for seen in server.seen}
    assert sizes == {str(DELTA_PAGE)}
    assert [f["displayName"] for f in changes.changed] == ["New"]
    assert (changes.removed, changes.link) == (("b",), "the end")


async def test_an_expired_folder_link_says_so() -> None:
    """The caller lists the tree anew."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(f"{BASE}/delta?t=1", fault(410, "resyncRequired"))
        with pytest.raises(SyncStateGone):
            await tenant.mailbox(USER).folder_changes(f"{server.url}/v1.0{BASE}/delta?t=1")


async def test_a_round_without_a_link_keeps_the_old_one() -> None:
    """A delta link that Graph forgot is not replaced by nothing."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        link = f"{server.url}/v1.0{BASE}/delta?t=1"
        server.on(f"{BASE}/delta?t=1", reply({"value": []}))
        server.on(f"{BASE}/delta", reply({"value": []}))
        mailbox = tenant.mailbox(USER)

        assert (await mailbox.folder_changes(link)).link == link
        with pytest.raises(GraphProtocolError):
            await mailbox.folder_changes(None)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), max_size=20))
def test_any_set_of_parents_gives_paths(edges: list[tuple[int, int]]) -> None:
    """Circles, orphans and repeated folders all end, each folder listed once, parents first."""
    resources = [folder(str(key), str(parent)) for key, parent in edges]
    folders = arrange(resources, "root", {})

    assert sorted(f.id for f in folders) == sorted({str(key) for key, _ in edges})
    assert all(f.path and f.path[-1] == f.name for f in folders)
    assert [len(f.path) for f in folders] == sorted(len(f.path) for f in folders)
