"""The S3 store against real servers, where they differ or refuse; and the assembled stack."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from atlas_async.clock import SystemClock
from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, Limits, S3Settings
from atlas_async.errors import (
    ObjectExists,
    StoreAuthError,
    StoreMisconfigured,
    StoreTransient,
)
from atlas_async.store.opening import open_store
from atlas_async.store.s3 import S3Store
from atlas_async.store.s3_listing import parse_listing
from tests.fakes.bodies import md5_of
from tests.fakes.canned_s3 import answer, canned_s3, refusal
from tests.fakes.s3_servers import ACCESS_KEY, SECRET_KEY, free_port, rclone_copy
from tests.store.backends import new_bucket_name

real_server = pytest.mark.real_server


def s3_store(settings: S3Settings, bucket: str | None = None) -> S3Store:
    """Return a store over a new bucket."""
    return S3Store(settings, bucket or new_bucket_name(), connections=4, clock=SystemClock())


@real_server
@pytest.mark.parametrize("server", ["rclone", "minio", "versitygw"])
@pytest.mark.parametrize("wrong", ["access", "secret"])
async def test_wrong_keys_are_an_auth_error(
    server: str, wrong: str, request: pytest.FixtureRequest
) -> None:
    """A wrong access key or secret is told as such, by every request, without showing it."""
    settings: S3Settings = request.getfixturevalue(server)
    changed = (
        replace(settings, access_key="nobody")
        if wrong == "access"
        else replace(settings, secret_key=Secret("hush-hush-hush"))
    )
    store = s3_store(changed)
    with pytest.raises(StoreAuthError) as caught:
        await store.open_bucket(create=True)
    with pytest.raises(StoreAuthError):
        await store.put("a", b"body", md5=md5_of(b"body"))
    if server != "versitygw":  # answers HEAD with a bare 404, which says nothing of keys
        with pytest.raises(StoreAuthError):
            await store.head("a")
    assert caught.value.hint
    assert "hush" not in f"{caught.value}{caught.value.hint}"
    await store.aclose()


@real_server
async def test_a_server_that_ignores_conditions_is_found_out(rclone: S3Settings) -> None:
    """``rclone serve s3`` ignores If-None-Match: the store finds out and never overwrites."""
    store = s3_store(rclone)
    await store.open_bucket(create=True)
    await store.put("a", b"first", md5=md5_of(b"first"))
    with pytest.raises(ObjectExists):
        await store.put("a", b"second", md5=md5_of(b"second"), if_absent=True)
    await store.put("b", b"third", md5=md5_of(b"third"), if_absent=True)
    assert store.conditional_writes is False
    with pytest.raises(ObjectExists):
        await store.put("b", b"fourth", md5=md5_of(b"fourth"), if_absent=True)
    assert (await store.get("a")).body == b"first"
    assert (await store.get("b")).body == b"third"
    await store.aclose()


@real_server
async def test_a_bucket_is_created_in_its_region(moto: S3Settings) -> None:
    """Outside us-east-1 the region is named when the bucket is created."""
    store = s3_store(replace(moto, region="eu-west-3"))
    await store.open_bucket(create=True)
    await store.put("a", b"body", md5=md5_of(b"body"))
    await store.aclose()


@real_server
async def test_the_default_credential_chain_is_used(
    minio: S3Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without keys in the settings AWS's chain is asked: environment, profile, machine."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    keyless = S3Settings(minio.endpoint)
    store = s3_store(keyless)
    with pytest.raises(StoreAuthError) as caught:
        await store.open_bucket(create=True)
    assert "ATLAS_S3_ACCESS_KEY" in caught.value.hint
    await store.aclose()

    profile = f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    await anyio.Path(tmp_path / "credentials").write_text(profile)
    store = s3_store(keyless)
    await store.open_bucket(create=True)
    await store.put("a", b"body", md5=md5_of(b"body"))
    await store.aclose()


async def test_a_session_token_is_sent_and_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary credentials carry their token in every request."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "temporary")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    async with canned_s3(answer(404)) as server:
        store = s3_store(S3Settings(server.settings.endpoint))
        assert await store.head("a") is None
        await store.aclose()
    headers = server.asked[0].headers
    assert headers["x-amz-security-token"] == "token"
    assert "x-amz-security-token" in headers["authorization"]


async def test_somebody_elses_bucket_says_so() -> None:
    """A bucket name that another account owns is an access error that explains itself."""
    replies = (
        refusal(404, "NoSuchBucket"),
        refusal(409, "BucketAlreadyExists"),
        refusal(403, "AccessDenied"),
    )
    async with canned_s3(*replies) as server:
        store = s3_store(server.settings)
        with pytest.raises(StoreAuthError, match="somebody else"):
            await store.open_bucket(create=True)
        await store.aclose()


async def test_losing_the_race_for_a_bucket_is_winning_it() -> None:
    """A bucket of ours that exists by now is created, whatever the server calls it."""
    empty = answer(200, "<ListBucketResult/>")
    for replies in (
        (refusal(404, "NoSuchBucket"), refusal(409, "BucketAlreadyExists"), empty),
        (refusal(404, "NoSuchBucket"), refusal(409, "BucketAlreadyOwnedByYou")),
    ):
        async with canned_s3(*replies) as server:
            store = s3_store(server.settings)
            await store.open_bucket(create=True)
            await store.aclose()


async def test_creating_a_bucket_reports_what_fails() -> None:
    """Refused permission, a wrong region and an unreachable server keep their meaning."""
    absent = refusal(404, "NoSuchBucket")
    denied = refusal(403, "AccessDenied")
    async with canned_s3(absent, denied, denied) as server:
        store = s3_store(server.settings)
        with pytest.raises(StoreAuthError, match="s3:CreateBucket"):
            await store.open_bucket(create=True)
        await store.aclose()
    elsewhere = refusal(400, "IllegalLocationConstraintException")
    async with canned_s3(absent, elsewhere) as server:
        store = s3_store(server.settings)
        with pytest.raises(StoreMisconfigured, match="region"):
            await store.open_bucket(create=True)
        await store.aclose()
    store = s3_store(S3Settings(f"http://127.0.0.1:{free_port()}", "r", "a", Secret("s")))
    with pytest.raises(StoreTransient):
        await store.open_bucket(create=True)
    await store.aclose()


@real_server
async def test_the_whole_stack_retries_limits_and_closes(
    minio: S3Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """``open_store`` gives a working store for S3, logged when debugging."""
    caplog.set_level(logging.DEBUG, "atlas_async.store.logged")
    limits = Limits(uploads=2)
    async with open_store(minio, new_bucket_name(), limits=limits, clock=SystemClock()) as store:
        await store.open_bucket(create=True)
        async with anyio.create_task_group() as group:
            for number in range(10):
                body = b"%d" % number
                put = store.put
                group.start_soon(lambda b=body, p=put: p(f"a/{b.decode()}", b, md5=md5_of(b)))  # type: ignore[misc] # mypy cannot infer a lambda with defaults
        assert len((await store.list_page("a/")).objects) == 10
    assert caplog.messages.count("put ok") == 10


async def test_a_directory_is_opened_the_same_way(tmp_path: Path) -> None:
    """``open_store`` gives a working store for a directory."""
    settings, limits = DirectorySettings(tmp_path), Limits()
    async with open_store(settings, "atlas-x", limits=limits, clock=SystemClock()) as store:
        await store.open_bucket(create=True)
        await store.put("a", b"body", md5=md5_of(b"body"), if_absent=True)
        assert store.conditional_writes is True
        assert (await store.get("a")).body == b"body"


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><ListBucketResult><Name>&a;</Name></ListBucketResult>',
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<ListBucketResult><Contents><Size>many</Size></Contents></ListBucketResult>",
        b"<html>a proxy's page</html>",
        b"not xml",
        b"",
    ],
)
def test_a_listing_that_is_none_is_refused(body: bytes) -> None:
    """Entities are never expanded, and a page that cannot be right is an error, not an empty one."""
    with pytest.raises(Exception, match="listing"):
        parse_listing(body, "where")


@real_server
async def test_a_directory_copied_to_s3_is_the_same_bucket(
    rclone: S3Settings, minio: S3Settings, tmp_path: Path
) -> None:
    """The files of a directory store, sent to S3 under their names, are the same objects."""
    settings = DirectorySettings(tmp_path)
    keys = ["data/anne+tag@example.com/00", "data/with space/1", "_meta/dek.enc", "data/100%/x"]
    async with open_store(settings, "atlas-x", limits=Limits(), clock=SystemClock()) as store:
        await store.open_bucket(create=True)
        for key in keys:
            await store.put(key, key.encode(), md5=md5_of(key.encode()), metadata={"k": "v"})
    for server in (rclone, minio):
        copy = s3_store(server)
        await copy.open_bucket(create=True)
        await anyio.to_thread.run_sync(
            rclone_copy, tmp_path / "atlas-x", server, copy.name.rpartition("/")[2]
        )
        listed = (await copy.list_page("")).objects
        assert [info.key for info in listed] == sorted(keys)
        for key in keys:
            assert (await copy.get(key)).body == key.encode()
        await copy.aclose()
