"""S3 servers as child processes on loopback: started for a test session, ended with it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

from atlas_async.config.secret import Secret
from atlas_async.config.settings import S3Settings

ACCESS_KEY = "atlas-test-access"
SECRET_KEY = "atlas-test-secret"
_START_SECONDS = 40.0


class ServerDied(Exception):
    """A server did not come up; holds its last words."""


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: list[str], port: int, log: Path, *, ready: str = "", **environment: str
) -> Iterator[S3Settings]:
    """Run ``command``; end it on leaving.

    Entered once it listens on ``port`` and, with ``ready``, once a GET of that path gives 200.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **environment}
        )
    try:
        _wait(process, port, log, ready)
        yield S3Settings(f"http://127.0.0.1:{port}", "us-east-1", ACCESS_KEY, Secret(SECRET_KEY))
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path, ready: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if _answers(port, ready):
            return
        time.sleep(0.05)
    raise ServerDied(log.read_text(errors="replace")[-2000:])


def _answers(port: int, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.connect()
        if not path:
            return True
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def moto(directory: Path) -> Iterator[S3Settings]:
    """Run moto's S3. It checks no signatures."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port, directory / "moto.log") as settings:
        yield settings


def _rclone() -> str:
    beside = Path(sys.executable).parent / "rclone"
    return str(beside) if beside.exists() else "rclone"


def rclone_copy(source: Path, target: S3Settings, bucket: str) -> None:
    """Copy a bucket's directory to an S3 server, as docs/stores.md tells operators to."""
    options = f"provider=Other,env_auth=false,access_key_id={target.access_key},endpoint='{target.endpoint}'"
    secret = target.secret_key.reveal() if target.secret_key else ""
    subprocess.run(
        [_rclone(), "copy", "--exclude", "/.atlas-*/**", str(source), f":s3,{options}:{bucket}"],
        check=True,
        env={**os.environ, "RCLONE_S3_SECRET_ACCESS_KEY": secret, "RCLONE_CONFIG": os.devnull},
    )


@contextmanager
def rclone(directory: Path) -> Iterator[S3Settings]:
    """Run ``rclone serve s3`` over a directory."""
    port = free_port()
    data = directory / "rclone"
    data.mkdir()
    command = [_rclone(), "serve", "s3", str(data)]
    command += ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
    command += ["--config", str(directory / "rclone.conf")]
    with running(command, port, directory / "rclone.log") as settings:
        yield settings


def _program(name: str, variable: str) -> str | None:
    given = os.environ.get(variable) or shutil.which(name)
    installed = Path.home() / "go" / "bin" / name
    return given or (str(installed) if installed.exists() else None)


def minio_path() -> str | None:
    """Return where MinIO is: ``ATLAS_TEST_MINIO``, on the PATH, or where Go installs."""
    return _program("minio", "ATLAS_TEST_MINIO")


def versitygw_path() -> str | None:
    """Return where Versity S3 Gateway is: ``ATLAS_TEST_VERSITYGW``, PATH, or where Go installs."""
    return _program("versitygw", "ATLAS_TEST_VERSITYGW")


@contextmanager
def versitygw(directory: Path) -> Iterator[S3Settings]:
    """Run Versity S3 Gateway over a directory."""
    port = free_port()
    data = directory / "data"
    data.mkdir()
    command = [versitygw_path() or "versitygw", "--port", f"127.0.0.1:{port}"]
    command += ["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--quiet"]
    command += ["posix", str(data)]
    with running(command, port, directory / "versitygw.log") as settings:
        yield settings


@contextmanager
def minio(directory: Path) -> Iterator[S3Settings]:
    """Run MinIO over a directory."""
    port = free_port()
    data = directory / "minio"
    data.mkdir()
    command = [minio_path() or "minio", "server", "--quiet", str(data)]
    command += ["--address", f"127.0.0.1:{port}", "--console-address", "127.0.0.1:0"]
    with running(
        command,
        port,
        directory / "minio.log",
        ready="/minio/health/cluster",
        MINIO_ROOT_USER=ACCESS_KEY,
        MINIO_ROOT_PASSWORD=SECRET_KEY,
        MINIO_BROWSER="off",
    ) as settings:
        yield settings
