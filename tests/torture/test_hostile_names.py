"""Names that attack: on their way into keys, files, terminals, logs and JSON.

Whoever sends mail chooses subjects and names of files, whoever has a mailbox the names of folders,
and a directory's administrator addresses. None of them may leave the bucket, move a cursor, forge a
line, or cost another mailbox its backup.
"""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import unicodedata
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from atlas_async.catalog.layout import is_mailbox_id
from atlas_async.config.checks import Malformed, tenant_id
from atlas_async.graph.directory import told_apart
from atlas_async.model.report import Outcome
from atlas_async.store.file_names import decode_segment
from tests.badday.console import PASSPHRASE, ROOT, command
from tests.badday.office import Office, open_office
from tests.fakes import s3_servers
from tests.fakes.rig import SMALL, USER
from tests.fakes.yard import Yard, open_yard
from tests.torture.mutants import error_of

ESCAPES: Final = (
    "\x1b[2J\x1b[Hcleared",
    "\x1b]0;owned\x07",
    "\x1b]8;;http://evil.test\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x9b31mred\x9c",
    "\x1bPq#0\x1b\\",
    "\x1b[31mred",
    "line\r\nforged: line",
    "back\x08\x08\x08space",
    "bell\x07",
    "del\x7f",
    "nul\x00nul",
    "\u202egpj.exe",
    "\u2066isolated\u2069",
    "\u2028separated\u2029",
    "\ufeffmarked\u200b",
    "lone \ud800 surrogate",
    "\udc00\ud800",
)
"""What would act on a terminal, or make a text read as another."""
NAMES: Final = (
    *ESCAPES,
    "../../../etc/passwd",
    "..",
    ".",
    "a/b",
    "a\\b",
    "%2e%2e%2f",
    "CON",
    "nul.txt",
    "trailing. ",
    " leading",
    "",
    "x" * 10_000,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u00fc",
    "u\u0308",
    "\u0430nn",
    "[bold red]markup[/] :smile:",
    "{braces} %s %(x)s $(id) `id`",
    "-rf",
    "~",
    "\u0e01" * 300,
    "a" + "\u0301" * 200,
)
ADDRESSES: Final = (
    "user0000@contoso.com",
    "\u00fcnion@contoso.com",
    "u\u0308nion@contoso.com",
    "\u0430nn@contoso.com",
    "ann@contoso.com",
    "CON@contoso.com",
    "nul",
    "dot.@contoso.com",
    ".hidden@contoso.com",
    "a%2fb@contoso.com",
    "a%b@contoso.com",
    "a+b#c@contoso.com",
    "a?b&c=d@contoso.com",
    "a:b@contoso.com",
    "a*b|c<d>@contoso.com",
    "-m@contoso.com",
    "~@contoso.com",
    "$(id)@contoso.com",
    "o'brien@contoso.com",
    "\u0130stanbul@contoso.com",
    # Those below can be no part of a key.
    "a/b@contoso.com",
    "../x@contoso.com",
    "..",
    "a\\b@contoso.com",
    "a\x00b@contoso.com",
    "a\x1b]0;owned\x07@contoso.com",
    "\u202emoc@contoso.com",
    "\ud800@contoso.com",
    f"{'x' * 10_000}@contoso.com",
    "a\r\nb@contoso.com",
)
BARE = replace(SMALL, messages=1, folders=0, attachment_share=0.0, inline_share=0.0)
CROWD = replace(BARE, mailboxes=len(ADDRESSES), addresses=ADDRESSES)
STORABLE = sorted(a.lower() for a in ADDRESSES if is_mailbox_id(a.lower()))

ALLOWED = re.compile(r"\x1b\[(?:[0-9;]*m|[0-9]*A|2K|\?25[lh])")
"""What the live view sends: colours, up, erase a line, hide and show the cursor."""
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def assert_harmless(text: str, *, terminal: bool = False) -> None:
    """Assert that nothing in ``text`` acts on a terminal but what the program itself sends."""
    for escape in ESCAPES:
        if FORBIDDEN.search(escape) or "\x1b" in escape:
            assert escape not in text, ascii(escape)
    left = ALLOWED.sub("", text) if terminal else text
    found = FORBIDDEN.search(left)
    assert found is None, ascii(left[max(0, found.start() - 60) : found.end() + 20])


@pytest.fixture(scope="module")
def hostile() -> Iterator[Office]:
    """Serve a mailbox full of hostile names, among mailboxes of hostile addresses."""
    with open_office(CROWD) as office:
        for number, name in enumerate(NAMES):
            folder = office.mutate(op="folder-create", parent="inbox", name=name)["id"]
            files = [{"name": name, "bytes": b64encode(f"{number}".encode()).decode()}]
            text = f"<p>body {name}</p><a href='http://x/{name}'>{name}</a>"
            office.mutate(op="create", folder=folder, subject=name, body=text, attachments=files)
        yield office


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty directory; the store is below it."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def settings(hostile: Office, home: Path) -> dict[str, str]:
    """Return the environment of a program that backs the office up into a directory."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ATLAS_", "AWS_"))}
    return {
        **kept,
        **hostile.settings(),
        "ATLAS_STORAGE_URL": (home / "store").as_uri(),
        "ATLAS_ENCRYPTION_PASSPHRASE": PASSPHRASE,
        "ATLAS_DEK_VERSION": "0",
        "TERM": "xterm-256color",
        "COLUMNS": "120",
        "HOME": str(home),
        "PYTHONIOENCODING": "utf-8",
    }


@pytest.fixture(scope="module")
def dashboard(settings: dict[str, str]) -> tuple[int, str]:
    """Back everything up on a terminal; return the exit code and what was shown."""
    return on_a_terminal(settings, "backup")


def in_pipes(settings: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Run the program with pipes; return its exit code and both streams."""
    done = subprocess.run(
        command(*arguments), cwd=ROOT, env=settings, capture_output=True, check=False, timeout=120
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def on_a_terminal(settings: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run the program on a terminal of its own; return its exit code and all it sent there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*arguments), cwd=ROOT, env=settings, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    sent = b""
    try:
        while piece := os.read(ours, 1 << 16):
            sent += piece
    except OSError:  # the other end is closed: the program has ended
        pass
    finally:
        os.close(ours)
        code = process.wait(timeout=60)
    return code, sent.decode()


def test_a_backup_shows_and_logs_names_harmlessly(
    settings: dict[str, str], dashboard: tuple[int, str]
) -> None:
    """Live view, report, debug log and JSON hold every name, and nothing of it acts."""
    code, shown = dashboard
    assert code == 3
    assert_harmless(shown, terminal=True)
    code, out, err = in_pipes(settings, "backup", "--json", "--debug", "--full")
    assert code == 3
    assert_harmless(out + err)
    assert "DEBUG" in err
    summary = json.loads(out.splitlines()[-1])
    stored = [m["mailbox_id"] for m in summary["mailboxes"] if m["outcome"] != "failed"]
    assert stored == STORABLE
    refused = [m for m in summary["mailboxes"] if m["outcome"] == "failed"]
    assert len(stored) + len(refused) == len(ADDRESSES)
    assert {m["exit_code"] for m in refused} == {3}
    assert all("not a mailbox address that can be stored" in m["error"] for m in refused)


def test_what_is_read_back_is_shown_harmlessly(
    settings: dict[str, str], dashboard: tuple[int, str]
) -> None:
    """List, read and verify give every name as it was, and nothing of it acts on a terminal."""
    assert dashboard[0] == 3
    everything = ["list", "-m", USER, "-s", "latest", "--all", "-S"]
    for arguments in (["list"], ["list", "-m", USER, "-s", "latest"], everything, ["verify"]):
        code, shown = on_a_terminal(settings, *arguments)
        assert code == 0, shown
        assert_harmless(shown, terminal=True)
    code, out, err = in_pipes(settings, *everything)
    assert_harmless(out + err)
    code, out, err = in_pipes(settings, *everything, "--json")
    assert_harmless(out + err)
    document = json.loads(out)
    messages = {m["subject"]: m for m in document["messages"]}
    names = {tuple(folder["path"])[1:] for folder in document["folders"]}
    for name in NAMES:
        assert [a["name"] for a in messages[name]["attachments"]] == [name]
        assert (name,) in names
    for name in ESCAPES[1:3]:
        for form in ([], ["--json"]):
            code, out, err = in_pipes(
                settings, "read", "-m", USER, messages[name]["object_id"], *form
            )
            assert (code, err) == (0, "")
            assert_harmless(out)


def test_no_name_leaves_the_bucket(home: Path, dashboard: tuple[int, str]) -> None:
    """Every file lies in the bucket's directory, below a name that leads to its key and back."""
    assert dashboard[0] == 3
    (bucket,) = (home / "store").iterdir()
    assert [p for p in home.rglob("*") if p.is_file() and bucket not in p.parents] == []
    mailboxes = set()
    for path in bucket.rglob("*"):
        assert bucket in path.resolve().parents
        parts = path.relative_to(bucket).parts
        assert all(part.isprintable() for part in parts)
        decoded = [decode_segment(part) for part in parts if not part.startswith(".atlas-")]
        assert None not in decoded
        if parts[0] == "manifests" and len(parts) > 1:
            mailboxes.add(decoded[1])
    assert sorted(filter(None, mailboxes)) == STORABLE


async def test_the_same_addresses_over_s3(tmp_path: Path) -> None:
    """An S3 server that keeps files keeps every mailbox apart, whatever is in its address.

    But rclone takes normal forms of one name for one: see the next test.
    """
    addresses = tuple(a for a in ADDRESSES if unicodedata.is_normalized("NFC", a))
    storable = sorted(a.lower() for a in addresses if is_mailbox_id(a.lower()))
    crowd = replace(CROWD, mailboxes=len(addresses), addresses=addresses)
    with s3_servers.rclone(tmp_path) as storage:
        async with open_yard(tmp_path / "unused", crowd, storage=storage) as yard:
            report = await yard.backup(None)
            done = [r.mailbox_id for r in report.mailboxes if r.outcome is Outcome.COMPLETE]
            assert done == storable
            async with yard.engine() as atlas:
                verified = await atlas.verify()
                assert (verified.exit_code, verified.foreign) == (0, [])
                assert [m.mailbox_id for m in await atlas.list_mailboxes()] == storable
                for address in addresses:
                    if address.lower() in storable:
                        await _assert_own(yard, atlas, address)


async def test_a_store_that_folds_normal_forms_is_found_out(tmp_path: Path) -> None:
    """Where a store takes two keys for one, nothing of one mailbox is shown as the other's."""
    forms = tuple(a for a in STORABLE if a.endswith("nion@contoso.com"))
    assert len({unicodedata.normalize("NFC", a) for a in forms}) == 1
    pair = replace(BARE, mailboxes=len(forms), addresses=forms)
    with s3_servers.rclone(tmp_path) as storage:
        async with open_yard(tmp_path / "unused", pair, storage=storage) as yard:
            for _ in range(2):
                await yard.backup(None)
            async with yard.engine() as atlas:
                verified = await atlas.verify()
                assert verified.exit_code == 16
                assert verified.foreign
                for address in forms:
                    if await error_of(atlas.open_snapshot(None, address)) is None:
                        await _assert_own(yard, atlas, address)


async def _assert_own(yard: Yard, atlas: Any, address: str) -> None:
    view = await atlas.open_snapshot(None, address.lower())
    shown = {record["object_id"] async for record in view.messages()}
    assert shown == yard.reachable(address)
    assert shown


# -- a directory that gives one address twice -------------------------------------------------


def person(number: int, upn: str, mail: str | None, kind: str = "Member") -> dict[str, Any]:
    """Return a user as the directory gives it."""
    return {"id": f"id-{number}", "userPrincipalName": upn, "mail": mail, "userType": kind}


@pytest.mark.parametrize("turned", [False, True])
def test_an_address_given_twice_costs_nobody_a_backup(turned: bool) -> None:
    """Each keeps an address of its own, the same in whatever order the directory lists them."""
    users = [
        person(1, "guest#EXT#@contoso.com", "Ann@contoso.com", "Guest"),
        person(2, "ann@contoso.com", None),
        person(3, "ann.other@contoso.com", "ANN@contoso.com"),
        person(4, "ben@contoso.com", "shared@contoso.com"),
        person(5, "carl@contoso.com", "shared@contoso.com", "Guest"),
        person(6, "shared2@contoso.com", "ben@contoso.com"),
    ]
    found = told_apart(reversed(users) if turned else users)
    assert {p.user_id: p.address for p in found} == {
        "id-1": "guest#ext#@contoso.com",
        "id-2": "ann@contoso.com",
        "id-3": "ann.other@contoso.com",
        "id-4": "shared@contoso.com",
        "id-5": "carl@contoso.com",
        "id-6": "ben@contoso.com",
    }


async def test_two_mailboxes_of_one_address_are_both_backed_up(tmp_path: Path) -> None:
    """With the emulated directory: nobody's mailbox is passed over in silence."""
    async with open_yard(tmp_path, replace(BARE, mailboxes=2)) as yard:
        people = yard.emulator.corpus.people
        people[1] = replace(people[1], mail=people[0].mail)
        report = await yard.backup(None)
        assert [(r.mailbox_id, r.outcome) for r in report.mailboxes] == [
            (person.upn, Outcome.COMPLETE) for person in people
        ]


# -- tenants ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "../x", "a/b", "..", ".", "-", "a\x00b", "\x1b[2J", "\u202ea", "\ud800", "x" * 10_000,
        "A", "a b", "a..b", "a.-b", ".a", "a.", "\u0430tlas.example", "common", "", "a%2fb", "a\n",
        "\u0661", "_meta",
    ],
    ids=ascii,
)  # fmt: skip
def test_a_tenant_that_can_name_no_bucket(text: str) -> None:
    """A tenant id is part of the bucket's name, and of a path: anything else is refused."""
    with pytest.raises(Malformed):
        tenant_id(text, microsoft=False)
