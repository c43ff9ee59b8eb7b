"""Secrets that live elsewhere: in a file, or in what a command prints. Never echoed."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

COMMAND_SECONDS: Final = 30.0
"""How long a command may take to print its secret."""
MAX_BYTES: Final = 64 * 1024
"""No secret is longer than this; the size of a certificate chain with room to spare."""


class SecretUnavailable(Exception):
    """The secret could not be had; the text says why and holds nothing of it."""


def read_secret_file(path: Path) -> str:
    """Return the file's text without its last line break. Blocking.

    Raises:
        SecretUnavailable: the file is absent, unreadable, too large, empty or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SecretUnavailable(f"names {path}, which cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SecretUnavailable("names a file that cannot exist") from error
    if len(data) > MAX_BYTES:
        raise SecretUnavailable(f"names {path}, which is longer than {MAX_BYTES} bytes")
    text = _decode(data, f"names {path}, which")
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SecretUnavailable(f"names {path}, which is empty")
    return text


def run_secret_command(command: str, *, environ: Mapping[str, str], cwd: Path) -> str:
    """Run ``command`` without a shell and return the first line it prints. Blocking.

    Args:
        command: Program and arguments, quoted as for a POSIX shell.
        environ: The environment the program gets.
        cwd: Where it runs.

    Raises:
        SecretUnavailable: it cannot be started, fails, takes longer than ``COMMAND_SECONDS``,
            or prints nothing.
    """
    program, output = _run(_split(command), environ, cwd)
    if len(output) > MAX_BYTES:
        raise SecretUnavailable(f"runs {program!r}, which prints more than {MAX_BYTES} bytes")
    text = _decode(output, f"runs {program!r}, whose output").split("\n", 1)[0].removesuffix("\r")
    if not text:
        raise SecretUnavailable(f"runs {program!r}, which prints nothing on its first line")
    return text


def _split(command: str) -> list[str]:
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise SecretUnavailable("has an unclosed quote") from error
    if not arguments:
        raise SecretUnavailable("is blank")
    return arguments


def _run(arguments: list[str], environ: Mapping[str, str], cwd: Path) -> tuple[str, bytes]:
    program = arguments[0]
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator configured this very command
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            cwd=cwd,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds a null character"
        raise SecretUnavailable(f"runs {program!r}, which cannot be started: {reason}") from error
    with process:
        try:
            output, _ = process.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired as error:
            process.kill()
            text = f"runs {program!r}, which took longer than {COMMAND_SECONDS:g} s"
            raise SecretUnavailable(text) from error
    if process.returncode:
        end = f"exit code {process.returncode}"
        if process.returncode < 0:
            end = f"signal {-process.returncode}"
        text = f"runs {program!r}, which ended with {end}; run it by hand to see why"
        raise SecretUnavailable(text)
    return program, output


def _decode(data: bytes, subject: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        # The codec's own error carries the bytes, so it must not stay in the chain.
        error.object = b""
        raise SecretUnavailable(f"{subject} is not UTF-8 text") from None
