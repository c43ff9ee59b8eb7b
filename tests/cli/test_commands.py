"""The commands over a fake engine: what they ask of it, what they print, how they end."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atlas_async import errors
from atlas_async.config.settings import DirectorySettings, FolderChoice
from atlas_async.model.events import (
    MailboxFinished,
    MailboxNotice,
    MailboxProgress,
    MailboxStarted,
    RunStarted,
    VerifyProgress,
)
from atlas_async.model.report import MailboxResult, NotStored, Outcome, RunReport
from atlas_async.operations.listing import MailboxSummary
from atlas_async.operations.reading import MessageContent
from atlas_async.operations.verification import Finding, VerifyReport
from tests.cli.conftest import TENANT, Atlas
from tests.fakes.engine import (
    FakeEngine,
    FakeView,
    attachment_row,
    folder_row,
    message_row,
    snapshot_row,
)

ROOT = Path(__file__).parents[2]
NOON = "2026-04-20T12:00:00.123Z"
ANN = "ann@contoso.com"
DONE = MailboxResult(ANN, Outcome.COMPLETE, snapshot_id="s1", stored=2, bytes_uploaded=2048)
LOST = NotStored("message", "MSG7", "F1", "ErrorCorruptData", "it is damaged", permanent=True)
PARTIAL = MailboxResult(
    "bob@contoso.com", Outcome.PARTIAL, "s2", failed=1, exit_code=3, not_stored=(LOST,)
)


def view(**changes: Any) -> FakeView:
    """Return a snapshot with two folders of one name and a message in each."""
    folders = [
        folder_row("F1", "Inbox", count=1, well_known_name="inbox"),
        folder_row("F2", "Inbox", "Projects", count=1),
        folder_row("F3", "Inbox", "Projects"),
    ]
    records = [message_row(), message_row(object_id="MSG2", folder_id="F2", subject="\x1b[2Jboo")]
    fields: dict[str, Any] = {"summary": snapshot_row(), "folders": folders, "records": records}
    return FakeView(**(fields | changes))


def test_backup_of_everything(atlas: Atlas, engine: FakeEngine) -> None:
    """Without options all mailboxes and folders are backed up, and the table says how."""
    engine.report = RunReport(TENANT, (DONE,), 1.0)
    ended = atlas("backup")
    assert ended.code == 0
    assert engine.calls[1] == (
        "backup",
        {"mailboxes": None, "folders": FolderChoice(), "full": False, "allow_replica": False},
    )
    assert "1 mailbox in 1.0s: 1 complete" in ended.out
    assert f"{ANN}: complete, 2 stored" in ended.err
    assert engine.closed


def test_backup_options_reach_the_engine(atlas: Atlas, engine: FakeEngine) -> None:
    """Mailboxes, folders, exclusions and limits arrive as given, addresses in lower case."""
    engine.report = RunReport("x.com", (), 1.0)
    ended = atlas(
        *("backup", "-m", "Ann@Contoso.com", "-m", "b@c.d", "-f", "Inbox/A", "--full"),
        *("--exclude-folder", "JunkEmail", "--recoverable", "--allow-replica"),
        *("--page-size", "50", "--concurrency", "3", "--processes", "2", "--tenant", "x.com"),
    )
    assert ended.code == 0
    settings = engine.calls[0][1]["settings"]
    assert (settings.limits.page_size, settings.limits.mailboxes) == (50, 3)
    assert settings.limits.processes == 2
    assert settings.tenant_id == "x.com"
    assert isinstance(settings.storage, DirectorySettings)
    assert engine.calls[1][1] == {
        "mailboxes": [ANN, "b@c.d"],
        "folders": FolderChoice(("Inbox/A",), frozenset({"junkemail"}), True),
        "full": True,
        "allow_replica": True,
    }


@pytest.mark.parametrize(("option", "chosen"), [("--mime", True), ("--no-mime", False)])
def test_backup_with_originals_or_without(
    atlas: Atlas, engine: FakeEngine, option: str, chosen: bool
) -> None:
    """The option decides over the setting; the report says how many there were."""
    done = replace(DONE, originals_stored=5, originals_refused=2) if chosen else DONE
    engine.report = RunReport(TENANT, (done,), 1.0)
    ended = atlas("backup", option)
    assert ended.code == 0
    assert engine.calls[0][1]["settings"].mime is chosen
    assert ("5 originals, 2 that Microsoft Graph does not give" in ended.out) is chosen
    assert ("original" in ended.out) is chosen


def test_backup_with_something_missing(atlas: Atlas, engine: FakeEngine) -> None:
    """A run with a ledger entry exits with 3 and says what is missing and why."""
    engine.report = RunReport(TENANT, (DONE, PARTIAL), 1.0)
    ended = atlas("backup", "--quiet")
    assert ended.code == 3
    assert "message MSG7: ErrorCorruptData: it is damaged (permanent, 1 attempt)" in ended.out
    assert ended.err == ""
    assert "exit code 3" in atlas("backup").out


def test_people_without_a_mailbox_are_one_line(atlas: Atlas, engine: FakeEngine) -> None:
    """Guests that discovery meets are named in one line; nothing is missing because of them."""
    guests = [
        MailboxResult(f"g{n}@x.y", Outcome.NO_MAILBOX, error="there is none", hint="h")
        for n in range(7)
    ]
    engine.report = RunReport(TENANT, (DONE, *guests), 1.0)
    ended = atlas("backup")
    assert ended.code == 0
    assert "without a mailbox: g0@x.y, g1@x.y, g2@x.y, g3@x.y, g4@x.y and 2 more" in ended.out
    assert "there is none" not in ended.out + ended.err
    named = MailboxResult("z@x.y", Outcome.NO_MAILBOX, error="there is none", exit_code=1)
    engine.report = RunReport(TENANT, (DONE, named), 1.0)
    ended = atlas("backup", "-m", "z@x.y")
    assert ended.code == 3
    assert "z@x.y: there is none" in ended.out


def test_backup_json_lines(atlas: Atlas, engine: FakeEngine) -> None:
    """Under --json each line is a document: status, one per mailbox, and the summary last."""
    progress = MailboxProgress(ANN, "Inbox", 1, 2, 1, 0, 0, 0, 0, 10, 0)
    engine.happenings = [RunStarted(2), MailboxStarted(ANN, 3, 2, False), progress]
    engine.report = RunReport(TENANT, (DONE, PARTIAL), 1.0)
    ended = atlas("backup", "--json")
    lines = ended.lines()
    kinds = [line["message_type"] for line in lines]
    assert kinds[-3:] == ["mailbox", "mailbox", "summary"]
    assert set(kinds[:-3]) <= {"status"}
    assert lines[-1]["exit_code"] == 3
    assert ended.err == ""


def test_each_mailbox_has_one_line_however_it_is_learnt_of(
    atlas: Atlas, engine: FakeEngine
) -> None:
    """Events and report together give each mailbox exactly one line."""
    engine.happenings = [MailboxFinished(DONE)]
    engine.report = RunReport(TENANT, (DONE, PARTIAL), 1.0)
    lines = [
        line for line in atlas("backup", "--json").lines() if line["message_type"] == "mailbox"
    ]
    assert [line["mailbox_id"] for line in lines] == [ANN, "bob@contoso.com"]


def test_log_lines_of_a_backup(atlas: Atlas, engine: FakeEngine) -> None:
    """Off a terminal progress is a line per event that matters, on standard error."""
    engine.happenings = [RunStarted(1), MailboxNotice(ANN, "folder Inbox is read anew\x1b[2J")]
    engine.report = RunReport(TENANT, (DONE,), 1.0)
    ended = atlas("backup")
    assert ended.err.splitlines()[0] == "1 mailbox to back up"
    assert "\x1b" not in ended.err
    assert "\x1b" not in ended.out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["backup", "-m", " "], "--mailbox needs a value"),
        (["backup", "-m", "a/b"], "not a mailbox address"),
        (["backup", "-m", "a\x1b@b"], "not a mailbox address"),
        (["backup", "--exclude-folder", "Junk Email"], "not a well-known folder name"),
        (["backup", "--page-size", "0"], "--page-size (ATLAS_PAGE_SIZE) from command line is '0'"),
        (["backup", "--concurrency", "x"], "--concurrency"),
        (["backup", "--processes", "0"], "--processes (ATLAS_PROCESSES) from command line is '0'"),
        (["backup", "--processes", "-1"], "expected a whole number of processes from 1 to 64"),
        (["backup", "--processes", "x"], "--processes"),
        (["backup", "--processes", "65"], "--processes"),
        (["backup", "--tenant", "UPPER.com"], "lower case (upper.com)"),
        (["backup", "--log-level", "loud"], "none of debug"),
        (["list", "--all"], "name it with -s"),
        (["list", "-f", "Inbox"], "name it with -s"),
        (["list", "-s", "x", "-f", "Inbox", "--all"], "use one of them"),
        (["list", "-m", ""], "-m needs a value"),
        (["read", " "], "must not be blank"),
        (["read"], "missing argument"),
        (["verify", "-s", ""], "-s needs a value"),
        (["replicate"], "no such command"),
        (["backup", "--nope"], "no such option"),
        (["backup", "--config", "absent.json"], "absent.json cannot be read"),
        (["demo", "--directory", "/dev/null/x"], "cannot be used"),
        (["emulator", "--port", "70000"], "--port"),
    ],
)
def test_wrong_calls_are_explained(atlas: Atlas, arguments: list[str], part: str) -> None:
    """A wrong command line ends with 2 and a sentence, without a traceback or an escape."""
    ended = atlas(*arguments)
    assert ended.code == 2, ended
    assert part in ended.err
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err
    assert "\x1b" not in ended.err
    assert ended.out == ""


@pytest.mark.parametrize("verb", [("backup",), ("list",), ("verify",), ("read", "x")])
def test_missing_settings_are_listed(
    atlas: Atlas, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    """Every command lists all missing settings at once, on one line each."""
    monkeypatch.delenv("ATLAS_TENANT_ID")
    monkeypatch.delenv("ATLAS_ENCRYPTION_PASSPHRASE")
    ended = atlas(*verb)
    assert ended.code == 2
    assert "2 settings need attention" in ended.err
    assert "  - ATLAS_TENANT_ID (tenant_id) is missing" in ended.err
    assert "  - ATLAS_ENCRYPTION_PASSPHRASE" in ended.err
    document = json.loads(atlas(*verb, "--json").err)
    assert (document["message_type"], document["code"]) == ("exit_error", 2)
    assert len(document["problems"]) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.AtlasError("x"), 1),
        (errors.KeyMaterialError("the passphrase does not open the key"), 12),
        (errors.ConsentError("no permission", hint="grant Mail.Read"), 13),
        (errors.StoreAuthError("x"), 13),
        (errors.BucketNotFound("x"), 10),
        (errors.LockedError("x"), 11),
        (errors.GraphThrottled("x", status=429), 14),
        (errors.ImmutabilityError("x"), 15),
        (errors.IntegrityError("x"), 16),
        (errors.ReplicaRefused("x"), 1),
        (errors.StoreFull("x"), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (MemoryError(), 1),
        (RuntimeError("mail text that must not be shown"), 1),
    ],
)
def test_errors_become_exit_codes(
    atlas: Atlas, engine: FakeEngine, error: BaseException, code: int
) -> None:
    """Every error of the engine ends the command with its code and a sentence."""
    engine.error = error
    for verb in (("list",), ("backup",)):
        ended = atlas(*verb)
        assert ended.code == code
        assert ended.err.count("error: ") == 1
        assert "Traceback" not in ended.err
        assert "mail text" not in ended.err
    document = json.loads(atlas("backup", "--json").err)
    assert (document["message_type"], document["code"]) == ("exit_error", code)


def test_debug_shows_the_traceback(atlas: Atlas, engine: FakeEngine) -> None:
    """--debug adds the traceback that is otherwise only hinted at."""
    engine.error = RuntimeError("details")
    assert "run with --debug" in atlas("list").err
    ended = atlas("list", "--debug")
    assert "Traceback" in ended.err
    assert ended.code == 1


def test_no_space_is_explained(atlas: Atlas, engine: FakeEngine) -> None:
    """A full disk is named as such."""
    engine.error = OSError(errno.ENOSPC, "No space left on device")
    assert "no space left" in atlas("backup").err


def test_list_mailboxes(atlas: Atlas, engine: FakeEngine) -> None:
    """Without options the mailboxes are listed, for a person and for a program."""
    assert "run 'atlas backup'" in atlas("list").err
    engine.mailboxes = [MailboxSummary(ANN, 2, snapshot_row(snapshot_id="s2"))]
    ended = atlas("list")
    assert ended.out.splitlines()[1].split() == [ANN, "2", "s2", "2026-04-20", "12:00:00Z"]
    assert atlas("list", "--json").lines()[0]["tenant_id"] == TENANT


def test_list_snapshots(atlas: Atlas, engine: FakeEngine) -> None:
    """With -m a mailbox's snapshots are listed, incomplete ones as such."""
    engine.snapshots = [
        snapshot_row(complete=False, size_bytes=1536, written_by="atlas"),
        snapshot_row(snapshot_id="s2"),
    ]
    ended = atlas("list", "-m", "ANN@contoso.com")
    assert engine.calls[1] == ("list_snapshots", {"mailbox": ANN})
    assert "1.5 KiB  no" in ended.out
    document = atlas("list", "-m", ANN, "--json").lines()[0]
    assert document["mailbox_id"] == ANN
    snapshots = document["snapshots"]
    assert isinstance(snapshots, list)
    assert [item["complete"] for item in snapshots] == [False, True]


def test_list_folders_of_a_snapshot(atlas: Atlas, engine: FakeEngine) -> None:
    """With -s the folders are listed, and what the snapshot lacks."""
    engine.view = view(summary=snapshot_row(complete=False), lost=[LOST])
    ended = atlas("list", "-s", "s")
    assert "Inbox / Projects" in ended.out
    assert "1 item not stored" in ended.out
    assert "not complete" in ended.err
    document = atlas("list", "-s", "s", "--json").lines()[0]
    assert "messages" not in document


def test_list_everything_as_one_document(atlas: Atlas, engine: FakeEngine) -> None:
    """--all --json is one JSON document that has the whole mailbox."""
    many = [message_row(object_id=f"MSG{n}", subject="\ud83d half") for n in range(1203)]
    engine.view = view(records=many)
    ended = atlas("list", "-s", "s", "--all", "--json")
    document = json.loads(ended.out)
    assert [row["object_id"] for row in document["messages"]] == [r["object_id"] for r in many]
    assert list(document) == [
        *("snapshot_id", "mailbox_id", "created_at", "complete", "written_by", "folders"),
        *("not_stored", "messages"),
    ]
    engine.view = view(records=[])
    assert json.loads(atlas("list", "-s", "s", "--all", "--json").out)["messages"] == []


def test_subjects_are_hidden_unless_asked_for(atlas: Atlas, engine: FakeEngine) -> None:
    """Subjects appear with -S only, and then cannot control the terminal."""
    engine.view = view()
    hidden = atlas("list", "-s", "s", "--all")
    assert "Hello" not in hidden.out
    assert "MSG1" in hidden.out
    shown = atlas("list", "-s", "s", "--all", "-S")
    assert "Hello" in shown.out
    assert r"\x1b[2Jboo" in shown.out
    assert "\x1b" not in shown.out


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("INBOX", ["MSG1"]),
        ("F2", ["MSG2"]),
        ("inbox/projects", ["MSG2"]),
    ],
)
def test_messages_of_one_folder(
    atlas: Atlas, engine: FakeEngine, name: str, found: list[str]
) -> None:
    """-f takes a well-known name, an id or a path; folders of one name are taken together."""
    engine.view = view()
    document = json.loads(atlas("list", "-s", "s", "-f", name, "--json").out)
    assert [row["object_id"] for row in document["messages"]] == found


def test_unknown_folder_and_snapshot(atlas: Atlas, engine: FakeEngine) -> None:
    """An unknown snapshot ends with 10, an unknown folder with 2; both say what to do."""
    assert atlas("list", "-s", "zz").code == 10
    engine.view = view()
    ended = atlas("list", "-s", "s", "-f", "nowhere")
    assert ended.code == 2
    assert "no folder 'nowhere'" in ended.err


def content(html: str) -> MessageContent:
    """Return a message with an HTML body, two people and two attachments."""
    attachments = [attachment_row(), attachment_row(name="", checksum="", is_inline=True)]
    resource = {
        "from": {"emailAddress": {"name": "Bob", "address": "bob@contoso.com"}},
        "toRecipients": [{"emailAddress": {"name": ANN, "address": ANN}}, "broken"],
        "sentDateTime": "2026-04-20T11:29:58Z",
        "body": {"contentType": "html", "content": html},
    }
    return MessageContent(
        ANN, "s1", message_row(attachments=attachments), resource, b'{"id":\t"MSG1"}'
    )


def test_read_as_text(atlas: Atlas, engine: FakeEngine) -> None:
    """A message shows headers, its body as text, and its attachments."""
    engine.content = content("<style>x</style><p>Hi &amp; bye</p><p>\x1b[31mred</p>")
    ended = atlas("read", "MSG", "-s", "s1", "-m", "ANN@contoso.com")
    assert engine.calls[1][1] == {"object_id": "MSG", "snapshot": "s1", "mailbox": ANN}
    assert ended.out.splitlines() == [
        "Subject: Hello",
        "From: Bob <bob@contoso.com>",
        f"To: {ANN}",
        "Date: 2026-04-20 11:29:58Z",
        "Message-ID: <1@contoso.com>",
        "Categories: Blue",
        "",
        "Hi & bye",
        "",
        r"\x1b[31mred",
        "",
        "Attachments (2):",
        "  plan.pdf (file, 2.0 KiB)",
        "  (no name) (file, inline, 2.0 KiB, NOT STORED)",
    ]


def test_read_mime_writes_the_originals_bytes_and_nothing_else(
    atlas: Atlas, engine: FakeEngine
) -> None:
    """Piece by piece, of the message that was asked for."""
    engine.original = [b"Subject: x\r\n", b"\r\n", b"hello"]
    ended = atlas("read", "MSG", "--mime", "-m", "A@contoso.com", "-s", "0198")
    assert (ended.code, ended.out) == (0, "Subject: x\r\n\r\nhello")
    asked = {"object_id": "MSG", "snapshot": "0198", "mailbox": "a@contoso.com"}
    assert engine.calls[1:] == [("open_original", asked)]


def test_read_mime_without_an_original_ends_with_10(atlas: Atlas, engine: FakeEngine) -> None:
    """The error says what would store one."""
    engine.error = errors.SnapshotNotFound("no original", hint="'atlas backup --mime' stores them")
    ended = atlas("read", "MSG", "--mime")
    assert (ended.code, ended.out) == (10, "")
    assert "atlas backup --mime" in ended.err


def test_read_raw_and_json(atlas: Atlas, engine: FakeEngine) -> None:
    """--raw writes the stored bytes exactly; --json wraps record and message."""
    engine.content = content("x")
    assert atlas("read", "MSG", "--raw").out == '{"id":\t"MSG1"}'
    assert set(atlas("read", "MSG", "--json").lines()[0]) == {
        *("mailbox_id", "snapshot_id", "record", "message")
    }


def test_verify(atlas: Atlas, engine: FakeEngine) -> None:
    """Findings are told apart by what is wrong, and decide the exit code."""
    engine.happenings = [VerifyProgress(ANN, 1, 3, 0, 0)]
    engine.verified = VerifyReport(checked=3, ok=3, not_stored=[LOST])
    ended = atlas("verify")
    assert ended.code == 3
    assert "3 objects checked: 3 as written" in ended.out
    assert "never stored, by the ledger: 1 item" in ended.out
    damaged = Finding(f"data/{ANN}/aa", "message", ANN, "s1", "the tag does not match")
    foreign = Finding("notes.txt", "unknown", "", "", "no snapshot names it")
    engine.verified = VerifyReport(checked=3, ok=1, damaged=[damaged], foreign=[foreign])
    ended = atlas("verify", "-m", ANN, "-s", "s1")
    assert ended.code == 16
    assert engine.calls[-1] == ("verify", {"snapshot": "s1", "mailbox": ANN})
    assert "damaged: 1" in ended.out
    assert "foreign: 1" in ended.out
    assert "missing: " not in ended.out
    document = atlas("verify", "--json").lines()[-1]
    assert document["exit_code"] == 16


def test_config_show(atlas: Atlas, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """The settings are printed: config show gives values and origins with secrets masked; problems end it with 2."""
    (place / ".env").write_text("ATLAS_PAGE_SIZE=7\n")
    ended = atlas("config", "show")
    assert ended.code == 0
    assert f"{place / '.env'} (ATLAS_PAGE_SIZE)" in ended.out
    for text in (ended.out, atlas("config", "show", "--json").out):
        assert "app-s3cret" not in text
        assert "correct horse" not in text
    monkeypatch.setenv("ATLAS_PAGE_SIZE", "many")
    ended = atlas("config", "show", "--json")
    document = json.loads(ended.out)
    assert ended.code == 2
    assert "'many'" in document["problems"][0]
    assert document["settings"]["client_secret"] == {
        "value": "********",
        "source": "environment (ATLAS_CLIENT_SECRET)",
        "variable": "ATLAS_CLIENT_SECRET",
        "secret": True,
    }


def test_version_and_help(atlas: Atlas) -> None:
    """--version and --help end with 0; each command's help has examples and exit codes."""
    assert atlas("--version").out.startswith("atlas_async ")
    assert "backup" in atlas().out
    for verb in (["backup"], ["list"], ["read"], ["verify"], ["config", "show"], ["demo"]):
        ended = atlas(*verb, "--help")
        assert ended.code == 0
        assert f"atlas {' '.join(verb)}" in ended.out
        assert "EXAMPLES" in ended.out
        assert "EXIT STATUS" in ended.out


def test_a_reader_that_leaves_ends_the_command_quietly(place: Path) -> None:
    """A pipe into head ends without a word when the reader has had enough."""
    command = f"{sys.executable} -m atlas_async config show | true"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_the_process_ends_with_the_exit_code(place: Path) -> None:
    """Running python -m atlas_async is the command, exit code and all."""
    done = subprocess.run(
        [sys.executable, "-m", "atlas_async", "list", "--all", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert json.loads(done.stderr)["code"] == 2


@pytest.mark.parametrize("other", ["--raw", "--json"])
def test_an_original_is_written_alone(atlas: Atlas, other: str) -> None:
    """Its bytes and something else at once are a usage error."""
    assert atlas("read", "x", "--mime", other).code == 2


def test_two_outputs_at_once_are_refused(atlas: Atlas) -> None:
    """Reading a message as raw bytes and as a document at once is a usage error."""
    ended = atlas("read", "x", "--raw", "--json")
    assert ended.code == 2
    assert "use one of them" in json.loads(ended.err)["message"]
