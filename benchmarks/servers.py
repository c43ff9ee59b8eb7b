"""Server processes that a table starts and ends: the emulator, and stores.

Servers share one core and measured programs have another, where the system lets processes be
pinned and there are two: so neither takes time from the other.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import IO, Any

from atlas_async.emulator import CorpusOptions

ROOT = Path(__file__).parent.parent
START_SECONDS = 60.0
END_SECONDS = 10.0
KEYS = ("benchmark", "benchmark-secret")
CACHE_BYTES = 4 << 30
"""Rendered pages the emulator may keep: more than any table's, so that none is rendered twice."""


class Core(Enum):
    """Which of the cores available a process runs on: servers the first, programs the second."""

    SERVERS = 0
    PROGRAM = 1


class ChildEndedError(Exception):
    """A process that was needed has ended; the text is what it said last."""


def pinning_works() -> bool:
    """Tell whether servers and programs get a core each."""
    return hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1


@contextmanager
def _children_on(core: Core) -> Iterator[None]:
    """Let children that are started in the body run on one core; it is inherited."""
    if not pinning_works():
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[core.value]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Child:
    """A running process that talks in lines.

    Args:
        process: With pipes as standard input and output.
        errors: Where its standard error goes.
    """

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self.pid = process.pid
        self._process = process
        self._errors = errors

    @property
    def stdout(self) -> IO[str]:
        """Its standard output, for whoever reads it otherwise than line by line."""
        return _pipe(self._process.stdout)

    def tell(self, line: str) -> None:
        """Write one line to its standard input.

        Raises:
            ChildEndedError: It has ended.
        """
        try:
            _pipe(self._process.stdin).write(line + "\n")
            _pipe(self._process.stdin).flush()
        except BrokenPipeError as error:
            raise self._ended() from error

    def hear(self) -> str:
        """Return the next line of its standard output; waits for it.

        Raises:
            ChildEndedError: It has ended.
        """
        line = _pipe(self._process.stdout).readline()
        if not line:
            raise self._ended()
        return line

    def check(self) -> None:
        """Make sure that it still runs.

        Raises:
            ChildEndedError: It has ended.
        """
        if self._process.poll() is not None:
            raise self._ended()

    def _ended(self) -> ChildEndedError:
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read()[-4000:]
        command = " ".join(map(str, self._process.args[:4]))  # type: ignore[index]  # a list
        return ChildEndedError(f"{command}: ended with {self._process.returncode}\n{said}")


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise TypeError("the process was started without this pipe")
    return pipe


@contextmanager
def process(
    command: Sequence[str],
    environ: Mapping[str, str] | None = None,
    *,
    core: Core = Core.SERVERS,
) -> Iterator[Child]:
    """Run a program for the body of the ``with``; it is gone afterwards, however the body ends."""
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        with _children_on(core):
            started = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
                start_new_session=True,  # Ctrl-C reaches the caller alone, who ends all in order
            )
        try:
            yield Child(started, errors)
        finally:
            _end(started)


def _end(started: subprocess.Popen[str]) -> None:
    started.terminate()
    try:
        started.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()
    finally:
        for pipe in (started.stdin, started.stdout):
            try:
                _pipe(pipe).close()
            except BrokenPipeError:  # what was still to be written has no reader any more
                continue


class Microsoft:
    """A running emulator.

    Args:
        settings: The ``ATLAS_*`` settings that lead to it.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.settings = dict(settings)

    def control(self, verb: str, body: Any) -> Any:
        """POST to the control interface: ``mutate``, ``settings``, ``expire-delta``, ..."""
        return self._ask(f"/_emulator/{verb}", json.dumps(body).encode())

    def count_messages(self, mailbox: str) -> int:
        """Return how many messages lie below the mailbox's root; generates them all."""
        told = self._ask(f"/_emulator/truth?content=false&mailbox={mailbox}")
        (box,) = told["mailboxes"]
        below = {f["id"] for f in box["folders"] if f["belowRoot"] and not f["search"]}
        return sum(message["folderId"] in below for message in box["messages"])

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        url = self.settings["ATLAS_GRAPH_URL"] + path
        with urllib.request.urlopen(url, body, timeout=300) as answer:  # noqa: S310 -- loopback
            return json.load(answer)


@contextmanager
def microsoft(
    corpus: CorpusOptions,
    *,
    behaviour: Mapping[str, object] | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> Iterator[Microsoft]:
    """Serve a corpus by the emulator, with switches of its ``Behaviour`` by name."""
    options = {
        "corpus": asdict(corpus),
        "behaviour": dict(behaviour or {}),
        "cache_bytes": cache_bytes,
    }
    command = [sys.executable, "-m", "benchmarks.emulator_server", json.dumps(options)]
    with process(command) as server:
        told = json.loads(server.hear())
        yield Microsoft({f"ATLAS_{name.upper()}": value for name, value in told.items()})


@contextmanager
def emulator(**corpus: Any) -> Iterator[dict[str, str]]:
    """Serve a corpus; give the ``ATLAS_*`` settings that lead to it."""
    with microsoft(CorpusOptions(**corpus)) as served:
        yield served.settings


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_minio() -> str | None:
    """Return the MinIO program, from the path or from Go's own place for programs."""
    return shutil.which("minio") or shutil.which("minio", path=str(Path.home() / "go" / "bin"))


def _wait_for(url: str, server: Child) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        server.check()
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 -- loopback http
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    msg = f"nothing answers at {url}"
    raise TimeoutError(msg)


def _command(kind: str, port: int, data: str, latency_ms: float) -> list[str]:
    address = f"127.0.0.1:{port}"
    match kind:
        case "minio":
            binary = find_minio()
            if binary is None:
                raise FileNotFoundError("there is no `minio` program on the path or in ~/go/bin")
            return [binary, "server", "--quiet", "--address", address, data]
        case "rclone":
            rclone = shutil.which("rclone", path=str(Path(sys.executable).parent)) or "rclone"
            return [rclone, "serve", "s3", "--addr", address, "--auth-key", ",".join(KEYS), data]
        case "moto":
            return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        case "memory":
            return [sys.executable, "-m", "benchmarks.memory_s3", str(port), str(latency_ms)]
        case _:
            raise ValueError(f"no such store: {kind}")


@contextmanager
def store(kind: str, *, latency_ms: float = 0.0) -> Iterator[dict[str, str]]:
    """Start an empty store, of ``report.STORES``; give the ``ATLAS_*`` settings that lead to it.

    Args:
        kind: Which.
        latency_ms: Milliseconds added to every answer; only ``memory`` can.
    """
    if latency_ms and kind != "memory":
        raise ValueError("only the store in memory can be slowed down")
    with tempfile.TemporaryDirectory(prefix="atlas-benchmark-") as data:
        if kind == "directory":
            yield {"ATLAS_STORAGE_URL": Path(data).as_uri()}
            return
        port = free_port()
        environ = {"MINIO_ROOT_USER": KEYS[0], "MINIO_ROOT_PASSWORD": KEYS[1]}
        with process(_command(kind, port, data, latency_ms), environ) as server:
            _wait_for(f"http://127.0.0.1:{port}/", server)
            yield {
                "ATLAS_S3_ENDPOINT": f"http://127.0.0.1:{port}",
                "ATLAS_S3_ACCESS_KEY": KEYS[0],
                "ATLAS_S3_SECRET_KEY": KEYS[1],
            }
