"""Secrets and mail are looked for wherever a run leaves anything behind (I7).

Plaintext and keys never reach a disk, a log, an exception text or a metric: not in a calm run, not
with faults, not when it is killed, aborted, or runs into a defect.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import json
import logging
import os
import pickle
import pprint
import resource
import signal
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from atlas_async.catalog.vault import Vault
from atlas_async.clock import SystemClock
from atlas_async.config.secret import MASK, Secret
from atlas_async.config.settings import (
    ClientCertificate,
    GraphSettings,
    Limits,
    S3Settings,
    Settings,
)
from atlas_async.config.sources import inspect_settings
from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.keyring import unwrap_dek
from atlas_async.crypto.spool import SpoolSealer
from atlas_async.errors import AtlasError, StoreError, discreet_traceback
from atlas_async.graph import GraphTenant
from atlas_async.graph.auth import Token, TokenSource
from atlas_async.model.report import Outcome
from atlas_async.operations.tenant import Tenant
from atlas_async.pipeline import settle
from atlas_async.sdk import Atlas
from atlas_async.store.memory import MemoryBucket, MemoryStore
from atlas_async.store.opening import open_store
from atlas_async.store.s3 import S3Store
from atlas_async.store.sigv4 import Credentials, Signer
from tests.badday.console import PASSPHRASE, ROOT, command
from tests.badday.office import LITTLE, PATIENCE, Office, open_office
from tests.fakes import s3_servers
from tests.fakes.raw_server import Peer, raw_server
from tests.fakes.rig import SMALL, USER, open_rig
from tests.torture.mutants import error_of

NEEDLE = "needle-in-the-mail"
FOLDER = "needle-folder"
FILE = f"{NEEDLE} of the attachment".encode()


def forms(secret: bytes) -> set[bytes]:
    """Return a secret as it stands, in hex, and in base64 of both alphabets."""
    plain = b64encode(secret).rstrip(b"=")
    return {
        secret,
        secret.hex().encode(),
        secret.hex().upper().encode(),
        plain,
        base64.urlsafe_b64encode(secret).rstrip(b"="),
        repr(secret)[2:-1].encode(),
    }


class Watch:
    """What must be found nowhere, and the searches for it."""

    def __init__(self, *secrets: str | bytes) -> None:
        self.needles: set[bytes] = set()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str | bytes) -> None:
        """Look for this one too, in every form."""
        self.needles |= forms(secret.encode() if isinstance(secret, str) else secret)

    def search(self, where: str, data: bytes | str) -> None:
        """Assert that nothing of it is in ``data``."""
        text = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        for needle in self.needles:
            assert needle not in text, (where, needle)

    def search_tree(self, place: Path, *, besides: tuple[Path, ...] = ()) -> int:
        """Assert the same of every file below ``place`` and of its name; return how many."""
        count = 0
        for path in place.rglob("*"):
            self.search("a name", str(path.relative_to(place)))
            if path.is_file() and path not in besides:
                self.search(str(path), path.read_bytes())
                count += 1
        return count

    def search_process(self, pid: int) -> None:
        """Assert the same of how a process was started and of the files that it holds open."""
        for name in ("cmdline", "environ"):
            self.search(f"{pid} {name}", Path(f"/proc/{pid}/{name}").read_bytes())
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                target = str(Path(entry.path).readlink())
                if target.startswith("/") and not target.startswith(("/dev/", "/proc/", "/sys/")):
                    self.search(f"{pid} {target}", Path(entry.path).read_bytes())
            except OSError:  # closed meanwhile
                continue


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    """Serve two mailboxes; one holds the needles."""
    with open_office(replace(LITTLE, mailboxes=2)) as opened:
        folder = opened.mutate(op="folder-create", parent="inbox", name=FOLDER)["id"]
        files = [{"name": f"{NEEDLE}.txt", "bytes": b64encode(FILE).decode()}]
        opened.mutate(
            op="create", folder=folder, subject=f"{NEEDLE} 1", body=f"{NEEDLE} 2", attachments=files
        )
        yield opened


class Scene:
    """A place to run the program in, with secrets in files and a real S3 server as its store."""

    def __init__(self, office: Office, place: Path, storage: S3Settings) -> None:
        assert storage.secret_key is not None
        self.office = office
        self.place = place
        self.bucket = f"atlas-{office.emulator.tenant.id}"
        self.watch = Watch(
            PASSPHRASE, office.emulator.tenant.client_secret, storage.secret_key.reveal(), NEEDLE
        )
        for name in ("tmp", "spool", "work", "home", "secrets"):
            (place / name).mkdir()
        office_settings = office.settings()
        given = {
            "ATLAS_CLIENT_SECRET": office_settings.pop("ATLAS_CLIENT_SECRET"),
            "ATLAS_ENCRYPTION_PASSPHRASE": PASSPHRASE,
            "ATLAS_S3_SECRET_KEY": storage.secret_key.reveal(),
        }
        for name, value in given.items():
            (place / "secrets" / name).write_text(value)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ATLAS_", "AWS_"))}
        self.environment = {
            **kept,
            **office_settings,
            **{f"{name}_FILE": str(place / "secrets" / name) for name in given},
            "ATLAS_S3_ENDPOINT": storage.endpoint or "",
            "ATLAS_S3_ACCESS_KEY": storage.access_key or "",
            "ATLAS_SPOOL_DIR": str(place / "spool"),
            "ATLAS_DEK_VERSION": "0",
            "TMPDIR": str(place / "tmp"),
            "HOME": str(place / "home"),
            "PYTHONPATH": str(ROOT),
        }

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        """Start the program with debug logs."""
        return subprocess.Popen(
            command(*arguments, "--debug"),
            cwd=self.place / "work",
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, **more: str) -> tuple[int, bytes, bytes]:
        """Run the program to its end and look through all that it left."""
        return self.judge(self.start(*arguments, **more))

    def judge(self, process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
        """Wait for the end and search streams, files, and the store with its names."""
        out, err = process.communicate(timeout=PATIENCE)
        self.learn()
        self.watch.search("standard output", out)
        self.watch.search("standard error", err)
        for name in ("tmp", "spool", "work", "home"):
            self.watch.search_tree(self.place / name)
        self.watch.search_tree(self.place / "rclone")
        self.watch.search("the server's log", (self.place / "rclone.log").read_bytes())
        return process.returncode, out, err

    def learn(self) -> None:
        """Look for tokens and, once there are any, for the keys of the tenant too."""
        for token in self.office.tokens():
            self.watch.add(token)
            self.watch.add(token.rsplit(".", 1)[1])
        wrapped = self.place / "rclone" / self.bucket / "_meta" / "dek.enc"
        if wrapped.exists():
            tenant = str(self.office.emulator.tenant.id)
            self.watch.add(unwrap_dek(wrapped.read_bytes(), Secret(PASSPHRASE), tenant))
            salt = tenant.encode()
            kek = hashlib.scrypt(
                PASSPHRASE.encode(), salt=salt, n=16384, r=8, p=1, maxmem=1 << 26, dklen=32
            )
            self.watch.add(kek)

    def workers(self, process: subprocess.Popen[bytes]) -> list[int]:
        """Return the process and those that it has started."""
        listing = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        return [process.pid, *map(int, listing.split())]


@pytest.fixture
def scene(office: Office, tmp_path: Path) -> Iterator[Scene]:
    """Return a scene over ``rclone serve s3``; faults are healed afterwards."""
    with s3_servers.rclone(tmp_path) as storage:
        yield Scene(office, tmp_path, storage)
    office.heal()


@pytest.mark.parametrize("processes", ["2"])
def test_runs_with_faults_of_many_kinds(scene: Scene, processes: str) -> None:
    """Debug logs of a backup in trouble, and of list and verify, hold neither secrets nor mail.

    The folder's name stands in the JSON of progress and of a list, which is what they are for.
    """
    for rule in (
        {"status": 429, "retry_after": "0"},
        {"status": 500},
        {"status": 401, "code": "InvalidAuthenticationToken"},
        {"action": "truncate"},
        {"action": "garbage"},
        {"action": "reset-mid"},
        {"action": "redirect", "location": f"http://127.0.0.1:1/?{NEEDLE}"},
        {"status": 403, "code": "ErrorAccessDenied"},
    ):
        scene.office.fault(path="/messages", after=1, count=2, **rule)
    code, out, err = scene.run("backup", "--processes", processes, "--log-level", "debug")
    assert code in {0, 3}
    assert b"DEBUG" in err
    assert FOLDER.encode() not in out
    scene.office.heal()
    assert scene.run("backup", "--json", "--full")[0] == 0
    assert scene.run("list", "-m", USER, "-s", "latest")[0] == 0
    assert scene.run("verify")[0] in {0, 3}  # older snapshots may lack what failed
    found = (scene.place / "rclone").rglob(f"{USER}")
    assert list(found), "nothing was stored: nothing was searched"


@pytest.mark.parametrize(
    ("how", "processes"), [(signal.SIGKILL, "2"), (signal.SIGABRT, "1"), (signal.SIGTERM, "2")]
)
def test_a_run_that_is_struck_down(scene: Scene, how: signal.Signals, processes: str) -> None:
    """Neither arguments, environment, open files nor what is left of a crash hold any of it.

    Core dumps are the system's to write; with its limit as it is none is left beside the run.
    """
    scene.office.stall("/messages/delta", after=2)
    process = scene.start("backup", "--processes", processes, PYTHONFAULTHANDLER="1")
    try:
        scene.office.wait_for_stalled()
        scene.learn()
        for pid in scene.workers(process):
            scene.watch.search_process(pid)
        process.send_signal(how)
    finally:
        scene.office.heal()
    code, _, err = scene.judge(process)
    assert code == (130 if how is signal.SIGTERM else -how)
    if how is signal.SIGABRT:
        assert b"Fatal Python error" in err
    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    assert soft or not list((scene.place / "work").iterdir())


DEFECT = """
import sys
from atlas_async.pipeline import settle

whole = settle.Settler._store

def broken(self, resource, plaintext, before, page):
    if "needle" not in str(resource["subject"]):
        return whole(self, resource, plaintext, before, page)
    kept = plaintext.data
    raise ValueError(f"cannot use {resource['subject']!r} and {kept!r}") from KeyError(str(kept))

settle.Settler._store = broken
from atlas_async.cli.app import main
sys.argv[:1] = ["atlas"]
main()
"""


@pytest.mark.parametrize("how", [[], ["--debug"]], ids=["plain", "debug"])
def test_a_defect_that_quotes_mail(scene: Scene, how: list[str]) -> None:
    """An unexpected error's text may quote a message: only its type and its place are told."""
    done = subprocess.run(
        [command()[0], "-c", DEFECT, "backup", "-m", USER, *how],
        cwd=scene.place / "work",
        env={**scene.environment, "PYTHONASYNCIODEBUG": "1"},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert b"internal error" in done.stderr
    assert b"settle.py" in done.stderr
    assert b"ValueError" in done.stderr
    assert b"KeyError" in done.stderr
    scene.watch.search("standard output", done.stdout)
    scene.watch.search("standard error", done.stderr)


async def test_a_defect_in_an_embedding_program(
    everything: Everything, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler of its own, which writes exceptions out, is told types and places, no texts."""
    whole = settle.Settler._store

    async def broken(self: settle.Settler, resource: Any, *rest: Any) -> Any:
        if NEEDLE in str(resource["subject"]):
            raise ValueError(f"cannot use {resource['subject']!r}")
        return await whole(self, resource, *rest)

    monkeypatch.setattr(settle.Settler, "_store", broken)
    async with open_rig(replace(SMALL, messages=3)) as rig:
        rig.mutate(op="create", folder="inbox", subject=NEEDLE)
        result = await rig.back_up_user()
    assert (result.exit_code, result.error) == (1, "internal error: ValueError")
    (told,) = [line for line in everything.lines if "internal error" in line]
    assert "settle.py" in told
    watch = Watch(NEEDLE)
    for line in everything.lines:
        watch.search("the program's log", line)


def test_a_traceback_tells_places_and_types() -> None:
    """Of chains and groups every part is there; of texts only ours and the system's."""
    told = ""
    try:
        try:
            try:
                dict[str, str]()[NEEDLE]
            except KeyError as error:
                raise StoreError("the store failed", where="bucket") from error
        except StoreError as error:
            parts = [ValueError(NEEDLE), OSError(2, "No such file")]
            raise ExceptionGroup(NEEDLE, parts) from error
    except ExceptionGroup as group:
        told = discreet_traceback(group)
    assert NEEDLE not in told.replace("{}[NEEDLE]", "").replace("NEEDLE", "")
    for part in ("KeyError", "StoreError: the store failed (bucket)", "ValueError", "No such file"):
        assert part in told
    assert told.count("Traceback") == 5
    assert "test_secrets.py" in told


# -- spools -----------------------------------------------------------------------------------


async def test_a_spool_holds_ciphertext(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in the spool's file before and after it is finished is no plaintext."""
    watch = Watch(NEEDLE)
    spooled: list[bytes] = []
    update = SpoolSealer.update

    def watched(self: SpoolSealer, piece: bytes) -> None:
        update(self, piece)
        spooled.append(os.pread(self._file.fileno(), 1 << 26, 0))

    monkeypatch.setattr(SpoolSealer, "update", watched)
    content = (NEEDLE.encode() * (1 << 17))[: 3 << 20]
    async with open_rig(SMALL, spool=tmp_path) as rig:
        attachment = {"name": "big", "bytes": b64encode(content).decode()}
        rig.mutate(op="create", folder="inbox", attachments=[attachment, attachment])
        rig.mutate(
            op="create",
            folder="inbox",
            attachments=[{"name": "more", "bytes": b64encode(content + b"x" * 9_000_000).decode()}],
        )
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        assert spooled
        for held in spooled:
            watch.search("the spool", held)
        assert watch.search_tree(tmp_path) == 0
        for key, stored in rig.bucket.objects.items():
            watch.search(key, stored.body)
            watch.search(key, json.dumps(dict(stored.info.metadata)))


# -- values -----------------------------------------------------------------------------------

WORDS = ("client-s3cret", "pass-phr4se", "s3-s3cret", "certificate-pw", "t0ken.of.entra", "s3ssion")


def secret_settings() -> Settings:
    """Return settings in which every secret is one of ``WORDS``."""
    graph = GraphSettings("tenant", "client", Secret(WORDS[0]), "http://127.0.0.1:1")
    graph = replace(graph, graph_url="http://127.0.0.1:1")
    storage = S3Settings("http://127.0.0.1:1", "us-east-1", "access", Secret(WORDS[2]))
    return Settings(graph, storage, "tenant", Secret(WORDS[1]))


async def test_no_value_shows_a_secret() -> None:
    """Printed, formatted, dumped, copied or pickled: settings and what holds keys show a mask."""
    watch = Watch(*WORDS, b"\x07" * 32, b"k" * 32)
    settings = secret_settings()
    assert settings.graph is not None
    sealer = Sealer(b"k" * 32)
    store = MemoryStore(MemoryBucket(exists=True))
    clock = SystemClock()
    credentials = Credentials("access", Secret(WORDS[2]), Secret(WORDS[5]))
    signer = Signer("us-east-1")
    headers = {"x-amz-date": "20260101T000000Z", "x-amz-content-sha256": "x", "host": "h"}
    signed = signer.authorization(credentials, "GET", "/", "", headers)
    things: list[Any] = [
        settings,
        settings.graph,
        settings.storage,
        Secret(WORDS[0]),
        ClientCertificate(Path("x.pem"), Secret(WORDS[3])),
        replace(settings, graph=replace(settings.graph, credential=Secret(WORDS[0]))),
        sealer,
        sealer.start_sealing(),
        Vault(store, sealer, "a@b.test"),
        Tenant(settings, store, clock, sealer),
        Token(Secret(WORDS[4]), 1, 0.0, 0.0),
        TokenSource(settings.graph, "scope", clock, retries=0, jitter=lambda: 0.5),
        GraphTenant(settings.graph, Limits(), clock=clock),
        S3Store(settings.storage, "bucket", connections=1, clock=clock),  # type: ignore[arg-type]
        credentials,
        signer,
        signed,
        Atlas(settings),
    ]
    for thing in things:
        for shown in (
            repr(thing), str(thing), f"{thing}", f"{thing!r:>10}", pprint.pformat(thing),
            repr([thing]), repr({"x": thing}),
        ):  # fmt: skip
            watch.search(type(thing).__name__, shown)
    watch.search("a copy", repr(copy.deepcopy(settings)))
    watch.search("asdict", repr(asdict(settings)))
    watch.search("asdict", json.dumps(asdict(settings), default=str))
    for thing in (settings, sealer, credentials, Secret("x")):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(thing)
    assert MASK in repr(settings)


# -- commands and files that yield secrets ----------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        "echo {w}; exit 3",
        "echo {w} >&2; exit 1",
        "printf '{w}\\377'",
        "printf '\\n{w}'",
        "kill -9 $$",
        "head -c 100000 /dev/zero | tr '\\0' a; echo {w}",
        "echo {w}",
    ],
)
def test_what_a_command_prints_is_never_repeated(
    script: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of a command that yields a secret neither output nor standard error is quoted anywhere."""
    program = tmp_path / "vault"
    program.write_text(f"#!/bin/sh\n{script.format(w=WORDS[1])}\n")
    program.chmod(0o700)
    environ = {
        "ATLAS_TENANT_ID": "tenant",
        "ATLAS_STORAGE_URL": tmp_path.as_uri(),
        "ATLAS_ENCRYPTION_PASSPHRASE_COMMAND": f"{program} {WORDS[0]}",
        "PATH": os.environ["PATH"],
    }
    seen = inspect_settings(
        cwd=tmp_path, home=tmp_path, environ=environ, flags={}, need_graph=False
    )
    watch = Watch(*WORDS)
    for shown in (repr(seen), *seen.problems, *seen.notes, repr(seen.origins)):
        watch.search("the settings", shown)
    watch.search("what was printed", "".join(capfd.readouterr()))
    assert (seen.settings is not None) is (script == "echo {w}")


# -- libraries --------------------------------------------------------------------------------


class Everything(logging.Handler):
    """Keeps every record of every library, formatted, with its arguments."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.lines.append(f"{record.name} {self.format(record)} {record.args!r}")


@pytest.fixture
def everything() -> Iterator[Everything]:
    """Turn all loggers up to DEBUG, as a program that uses the SDK may."""
    handler = Everything()
    root = logging.getLogger()
    # The package's own is set by every command that ran in this process.
    loggers = [root, logging.getLogger("atlas_async")]
    levels = [logger.level for logger in loggers]
    root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


async def test_libraries_that_are_turned_up_show_no_secret(
    everything: Everything, tmp_path: Path
) -> None:
    """With aiohttp, botocore, msal, urllib3 and asyncio at DEBUG: no secret, no token, no mail.

    botocore logs the headers it signs when a bucket is made: access key and signatures, of which
    none leads to the secret key.
    """
    asyncio.get_running_loop().set_debug(True)
    with s3_servers.rclone(tmp_path) as storage:
        async with open_rig(replace(SMALL, messages=8)) as rig:
            rig.mutate(op="create", folder="inbox", subject=NEEDLE, body=f"<p>{NEEDLE}</p>")
            assert storage.secret_key is not None
            watch = Watch(
                rig.emulator.tenant.client_secret,
                rig.settings.passphrase.reveal(),
                storage.secret_key.reveal(),
                NEEDLE,
            )
            async with Atlas(replace(rig.settings, storage=storage)) as atlas:
                report = await atlas.backup([USER])
                assert report.exit_code == 0
                await atlas.verify()
            parts = rig.emulator._parts
            assert parts is not None
            for token in parts.entra._desk._grants:
                watch.add(token)
    names = {line.split(" ", 1)[0].split(".")[0] for line in everything.lines}
    assert {"botocore", "urllib3", "atlas_async"} <= names
    for line in everything.lines:
        watch.search("a library's log", line)


@pytest.mark.parametrize("answer", ["407", "reset", "garbage"])
async def test_a_proxy_whose_url_holds_a_password(
    answer: str, everything: Everything, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither errors nor logs of any library quote the URL of a proxy that refuses or breaks."""
    told = {
        "407": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        "garbage": b"\x00\x01 no http\r\n\r\n",
        "reset": b"",
    }[answer]

    async def refuse(peer: Peer) -> None:
        await peer.head()
        await peer.send(told)

    watch = Watch("pr0xy-passw0rd", *WORDS)
    async with raw_server(refuse) as proxy:
        url = f"http://somebody:pr0xy-passw0rd@127.0.0.1:{proxy.port}"
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, url)
        for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        limits = Limits(retries=0, patience=1)
        errors: list[AtlasError | None] = []
        for scheme in ("http", "https"):
            storage = S3Settings(f"{scheme}://s3.test", "us-east-1", "access", Secret(WORDS[2]))
            async with open_store(storage, "bucket-x", limits=limits, clock=SystemClock()) as store:
                errors.append(await error_of(store.open_bucket(create=True)))
                errors.append(await error_of(store.head("key")))
        graph = GraphSettings("tenant", "client", Secret(WORDS[0]), "https://login.test")
        graph = replace(graph, graph_url="https://graph.test")
        async with GraphTenant(graph, limits, clock=SystemClock()) as tenant:
            errors.append(await error_of(tenant.check()))
    for error in errors:
        assert error is not None
        watch.search("an error", f"{error} {error.hint} {error!r} {discreet_traceback(error)}")
    for line in everything.lines:
        watch.search("a log", line)
