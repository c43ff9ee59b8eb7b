"""Stores that refuse, are full, or are not there: nothing is lost, and the reason is said."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from tests.badday.console import Console
from tests.badday.mounts import SmallDisk, small_disk
from tests.badday.office import Office
from tests.fakes.rig import USER
from tests.fakes.s3_servers import free_port, running

READ_ONLY = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*",'
    ' "Action": ["s3:GetObject", "s3:ListBucket"]}]}'
)
EVERYTHING = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*", "Action": "*"}]}'
)


class Guarded:
    """An S3 server that checks signatures and permissions, with two users.

    Args:
        endpoint: Its URL.
        owner: Access key and secret of a user who may do everything.
        reader: The same of one who may only read.
    """

    def __init__(self, endpoint: str, owner: tuple[str, str], reader: tuple[str, str]) -> None:
        self.endpoint = endpoint
        self.owner = owner
        self.reader = reader

    def settings(self, keys: tuple[str, str]) -> dict[str, str]:
        """Return the variables that lead to it."""
        return {
            "ATLAS_STORAGE_URL": "s3",
            "ATLAS_S3_ENDPOINT": self.endpoint,
            "ATLAS_S3_ACCESS_KEY": keys[0],
            "ATLAS_S3_SECRET_KEY": keys[1],
        }


@contextmanager
def iam(endpoint: str) -> Iterator[Any]:
    """Open a client of the server's user administration."""
    session = botocore.session.Session()
    session.set_config_variable("region", "us-east-1")
    client = session.create_client(
        "iam",
        endpoint_url=endpoint,
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
    )
    try:
        yield client
    finally:
        client.close()


def make_user(client: Any, name: str, policy: str) -> tuple[str, str]:
    """Make a user with one policy and return its keys. Three requests."""
    client.create_user(UserName=name)
    client.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy)
    key = client.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Run moto with access control, which begins after the six requests that make the users."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    log = tmp_path_factory.mktemp("guarded") / "moto.log"
    with running(command, port, log, INITIAL_NO_AUTH_ACTION_COUNT="6") as server:
        assert server.endpoint is not None
        with iam(server.endpoint) as client:
            owner = make_user(client, "owner", EVERYTHING)
            reader = make_user(client, "reader", READ_ONLY)
        yield Guarded(server.endpoint, owner, reader)


@pytest.fixture
def bucket(console: Console, guarded: Guarded) -> str:
    """Back the user up into the guarded server and return the snapshot's id."""
    console.secrets += [guarded.owner[1], guarded.reader[1]]
    console.set(**guarded.settings(guarded.owner))
    # Another test of this session may have used the bucket: it is the same tenant's.
    return str(console.backup()["snapshot_id"] or console.snapshots()[-1]["snapshot_id"])


@pytest.mark.real_server
def test_wrong_s3_keys(console: Console, guarded: Guarded, bucket: str, office: Office) -> None:
    """A wrong secret or access key ends every command with 13 before anything else is done."""
    before = office.requests()
    for keys in ((guarded.owner[0], "wrong-s3-secret"), ("AKIAWRONG", guarded.owner[1])):
        console.secrets += [keys[1]]
        console.set(**guarded.settings(keys))
        for verb in ("backup", "list", "verify"):
            console.fails(13, verb, says=["ATLAS_S3_ACCESS_KEY"])
    assert office.requests() == before
    console.set(**guarded.settings(guarded.owner))
    console.assert_recovers(bucket)


@pytest.mark.real_server
def test_a_bucket_that_may_only_be_read(
    console: Console, guarded: Guarded, bucket: str, office: Office
) -> None:
    """Without s3:PutObject a backup fails with 13 and names it; what is there can be read."""
    office.mutate(op="create", folder="inbox", subject="new")
    console.set(**guarded.settings(guarded.reader))
    ended = console.run("backup")
    assert ended.code == 13
    assert "s3:PutObject" in ended.out
    assert "hint: grant s3:PutObject on bucket atlas-" in ended.out
    console.assert_kept(bucket)
    console.set(**guarded.settings(guarded.owner))
    console.assert_completes(bucket)


@pytest.mark.real_server
def test_a_bucket_that_may_not_be_made(console: Console, guarded: Guarded, office: Office) -> None:
    """Who may not create the bucket is told the permission; the server stays as it was."""
    tenant = office.emulator.tenant
    console.secrets += [guarded.reader[1]]
    console.set(**guarded.settings(guarded.reader), ATLAS_TENANT_ID=tenant.domain)
    console.fails(13, "backup", says=["s3:CreateBucket", f"atlas-{tenant.domain}"])
    console.set(**guarded.settings(guarded.owner))
    console.fails(10, "list", says=["does not exist"])


def test_s3_that_cannot_be_reached(console: Console, office: Office) -> None:
    """Where nothing listens the endpoint is named, Graph is not asked, and the code is 1."""
    first = str(console.backup()["snapshot_id"])
    before = office.requests()
    secret = "an-s3-secret-key"
    console.secrets += [secret]
    endpoint = f"http://127.0.0.1:{free_port()}"
    storage = os.environ["ATLAS_STORAGE_URL"]
    console.set(
        ATLAS_STORAGE_URL="s3",
        ATLAS_S3_ENDPOINT=endpoint,
        ATLAS_S3_ACCESS_KEY="access",
        ATLAS_S3_SECRET_KEY=secret,
    )
    for verb in ("backup", "list", "verify"):
        console.fails(1, verb, says=["the store cannot be reached", endpoint, "ATLAS_S3_ENDPOINT"])
    assert office.requests() == before
    console.unset("ATLAS_S3_ENDPOINT", "ATLAS_S3_ACCESS_KEY", "ATLAS_S3_SECRET_KEY")
    console.set(ATLAS_STORAGE_URL=storage)
    console.assert_recovers(first)


def test_an_s3_host_whose_name_is_unknown(console: Console, office: Office) -> None:
    """A host name that does not resolve is named as the endpoint's fault."""
    secret = "an-s3-secret-key"
    console.secrets += [secret]
    console.set(
        ATLAS_STORAGE_URL="s3",
        ATLAS_S3_ENDPOINT="http://s3.invalid",
        ATLAS_S3_ACCESS_KEY="access",
        ATLAS_S3_SECRET_KEY=secret,
    )
    console.fails(1, "backup", says=["cannot be reached", "s3.invalid", "ATLAS_S3_ENDPOINT"])


@pytest.fixture
def disk(console: Console, tmp_path: Path) -> Iterator[SmallDisk]:
    """Put the store on a file system of 2 MiB."""
    with small_disk(console.store, "2m") as mounted:
        console.inside = mounted.inside
        yield mounted


def test_a_full_disk_under_the_store(console: Console, office: Office, disk: SmallDisk) -> None:
    """A full disk fails the mailbox with a sentence; with more room the next run completes it."""
    first = str(console.backup()["snapshot_id"])
    for _ in range(8):
        office.mutate(op="create", folder="inbox", subject="large", body="x" * 400_000)
    ended = console.run("backup")
    assert ended.code == 1
    assert "no space is left: No space left on device" in ended.out
    assert "hint: free space or raise the quota; what was stored is intact" in ended.out
    console.assert_kept(first)
    disk.remount("size=32m")
    console.assert_completes(first)


def test_a_full_disk_on_the_first_run(console: Console, disk: SmallDisk) -> None:
    """A disk without room for the key fails before anything; with room the run is complete."""
    disk.do(f"head -c 4m /dev/zero > '{disk.path}/filler' || true")
    ended = console.run("backup")
    assert ended.code == 1
    assert "no space is left" in ended.said
    disk.do(f"rm '{disk.path}/filler'")
    console.assert_completes()


def test_a_read_only_directory(console: Console, office: Office, disk: SmallDisk) -> None:
    """A store on a read-only disk can be read; a backup ends with 13 and says why."""
    first = str(console.backup()["snapshot_id"])
    temporary = f"{console.bucket}/.atlas-tmp"
    disk.do(f"mkdir -p {temporary} && touch -d '3 days ago' {temporary}/left-by-a-crash")
    disk.remount("ro")
    office.mutate(op="create", folder="inbox", subject="new")
    ended = console.run("backup")
    assert ended.code == 13
    assert "the storage directory is on a read-only file system" in ended.out
    assert "hint: remount it writable" in ended.out
    console.assert_kept(first)
    disk.remount("rw")
    console.assert_completes(first)


def test_a_full_disk_under_the_spool(console: Console, office: Office, tmp_path: Path) -> None:
    """A large attachment that does not fit into the spool says where room lacks; nothing is lost."""
    first = str(console.backup()["snapshot_id"])
    large = {"name": "large.bin", "size": 6_000_000, "seed": 7}
    office.mutate(op="create", folder="inbox", subject="large", attachments=[large])
    with small_disk(tmp_path / "spool", "1m") as spool:
        console.inside = spool.inside
        console.set(ATLAS_SPOOL_DIR=str(spool.path))
        ended = console.run("backup")
        assert ended.code == 1
        assert "cannot write the spool of a large attachment: No space left" in ended.out
        assert "ATLAS_SPOOL_DIR" in ended.out
        assert str(spool.path) in ended.out
        spool.remount("size=32m")
        assert console.run("backup").code == 0
    console.inside = []
    console.unset("ATLAS_SPOOL_DIR")
    console.assert_recovers(first)


def test_a_full_disk_under_the_output(console: Console) -> None:
    """Output that cannot be written ends with 1 and a sentence; the backup itself is made."""
    for arguments in (["backup"], ["list"], ["backup", "--json"]):
        ended = console.shell("atlas " + " ".join(arguments) + " > /dev/full")
        assert ended.code == 1, ended
        assert "no space left for the output" in ended.err
    assert console.snapshots()[-1]["complete"]


def test_a_full_disk_under_the_log(console: Console) -> None:
    """Progress and errors that cannot be written change neither the work nor the exit code."""
    ended = console.shell("atlas backup 2> /dev/full")
    assert ended.code == 0, ended
    assert "1 complete" in ended.out
    assert console.shell("atlas nonsense 2> /dev/full").code == 2
    assert console.shell("atlas list -m nobody@contoso.com --json 2> /dev/full").code == 10
    assert USER in console.shell("atlas list 2> /dev/full").out
