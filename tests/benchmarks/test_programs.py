"""Measured programs: what they copy is checked, what fails is told, nothing stays behind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from atlas_async.emulator import CorpusOptions
from benchmarks.comparison import Workload, opened_together, warmed
from benchmarks.programs import PROGRAMS, IncompleteError, program
from benchmarks.servers import ROOT, ChildEndedError, free_port, microsoft, process, store

CORPUS = CorpusOptions(
    mailboxes=2,
    shared=0,
    rooms=0,
    guests=0,
    unlicensed=0,
    messages=20,
    folders=3,
    body_median=800,
    attachment_share=0.5,
    attachment_median=2_000,
    attachment_top=20_000,
)


def test_programs_copy_the_same_mail_and_find_what_changed() -> None:
    """All three store every message and attachment, then only what is new, and verify it."""
    mail = Workload("tried", CORPUS, attachments=True)
    one, _ = mail.mailboxes()
    with warmed(mail) as (graph, counts), opened_together("memory", graph, mail) as programs:
        total = sum(counts.values())
        assert total == 2 * CORPUS.messages
        first = {
            name: it.run("backup", expected={"messages": total}) for name, it in programs.items()
        }
        assert len({run.done["attachments"] for run in first.values()}) == 1
        assert first["floor"].done["attachments"] > 0
        graph.control(
            "mutate", [{"mailbox": one, "op": "bulk-create", "folder": "inbox", "count": 3}]
        )
        for name in PROGRAMS:
            second = programs[name].run("backup")
            stored = second.done["stored" if name == "engine" else "messages"]
            assert stored == 3, name
        assert programs["floor"].run("verify").done["messages"] > total
        assert programs["engine"].run("verify").done["error"] == ""
        assert programs["naive"].run("verify").done["messages"] > total


def test_work_that_is_not_complete_is_no_measurement() -> None:
    """A program that did less than was to be done raises, whatever it took."""
    mail = Workload("tried", CORPUS)
    with (
        microsoft(CORPUS) as graph,
        store("memory") as place,
        program("floor", {**graph.settings, **place}, mail.mailboxes()) as it,
        pytest.raises(IncompleteError, match="floor read: 41 messages expected, 40 found"),
    ):
        it.run("read", expected={"messages": 41})


def test_what_a_program_said_last_is_told() -> None:
    """The error of a process that failed carries its own words."""
    with (
        process([sys.executable, "-c", "raise SystemExit('no such luck')"]) as child,
        pytest.raises(ChildEndedError, match=r"(?s)ended with 1.*no such luck"),
    ):
        child.hear()


def test_a_process_is_gone_after_its_block() -> None:
    """However the block ends, the process has ended and was waited for."""
    waits = [sys.executable, "-c", "print('up', flush=True); input()"]
    pid = 0
    with pytest.raises(KeyboardInterrupt), process(waits) as child:  # noqa: PT012 - the block ends it
        pid = child.pid
        assert child.hear() == "up\n"
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_only_the_store_in_memory_can_be_slowed_down() -> None:
    """A latency that would be ignored is refused."""
    with (
        pytest.raises(ValueError, match="only the store in memory"),
        store("directory", latency_ms=1),
    ):
        pass


def test_servers_end_with_their_caller() -> None:
    """Emulator and store in memory end when their caller is gone, even when it was killed."""
    corpus = '{"corpus": {"message_counts": [], "languages": ["en"]}, "behaviour": {}, '
    servers = [
        ["-m", "benchmarks.emulator_server", corpus + '"cache_bytes": 1000}'],
        ["-m", "benchmarks.memory_s3", str(free_port())],
    ]
    for server in servers:
        # The input of this one ends at once.
        done = subprocess.run(
            [sys.executable, *server], stdin=subprocess.DEVNULL, timeout=60, check=False, cwd=ROOT
        )
        assert done.returncode == 0
