"""A command starts with what it needs: which modules are loaded for it, and which are not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from atlas_async.cli.verbs import VERBS, DeferredCommand, Verb
from atlas_async.config.settings import DirectorySettings
from atlas_async.sdk import Atlas
from tests.cli.conftest import Atlas as Invoke
from tests.fakes.engine import FakeEngine
from tests.fakes.rig import PASSPHRASE, USER, open_rig

ROOT = Path(__file__).parents[2]
NETWORK = {"aiohttp", "aiobotocore", "botocore", "msal", "requests", "urllib3"}
CONVERSION = {"pydantic", "pydantic_core", "importlib.metadata"}
ENGINE = {"asyncio", "anyio", "uvloop", "orjson", "cryptography", "rich", "tenacity"}


def modules_after(
    *arguments: str, code: int = 0, environment: dict[str, str] | None = None
) -> set[str]:
    """Run one command line in a process of its own and return the modules it has loaded."""
    program = (
        "import sys; from atlas_async.cli.app import run\n"
        f"code = run({list(arguments)!r})\n"
        f"assert code == {code}, code\n"
        "print('loaded:', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].removeprefix("loaded: ").split())


def ours(modules: set[str], package: str) -> set[str]:
    """Return the modules of one of our packages, without the package itself."""
    return {name for name in modules if name.startswith(f"atlas_async.{package}.")}


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_loads_no_command(arguments: tuple[str, ...]) -> None:
    """The list of commands is shown without loading one, nor anything that a command needs."""
    modules = modules_after(*arguments)
    assert not modules & (NETWORK | CONVERSION | ENGINE)
    assert not {name for name in ours(modules, "cli") if name.endswith("_cmd")}
    assert not any(ours(modules, package) for package in ("config", "model", "store", "graph"))


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_help_of_a_command_loads_that_command_alone(verb: str) -> None:
    """A command's help loads its module, no other command, and nothing it would run with."""
    modules = modules_after(verb, "--help")
    assert not modules & (NETWORK | {"cryptography", "rich", "uvloop", "asyncio", "tenacity"})
    assert {name for name in ours(modules, "cli") if name.endswith("_cmd")} == {
        f"atlas_async.cli.{verb}_cmd"
    }
    if verb != "emulator":  # its ports and counts are numbers within bounds, which Typer checks
        assert not modules & CONVERSION


async def test_listing_a_directory_loads_no_network_library(tmp_path: Path) -> None:
    """Whoever keeps backups in a directory waits for no HTTP client, no Graph, no emulator."""
    async with open_rig() as rig:
        storage = DirectorySettings(tmp_path)
        async with Atlas(replace(rig.settings, storage=storage)) as atlas:
            await atlas.backup([USER])
    environment = {
        "ATLAS_TENANT_ID": rig.settings.tenant_id,
        "ATLAS_STORAGE_URL": tmp_path.as_uri(),
        "ATLAS_ENCRYPTION_PASSPHRASE": PASSPHRASE.reveal(),
    }
    modules = modules_after("list", environment=environment)
    assert "atlas_async.store.directory" in modules
    assert not modules & (NETWORK | CONVERSION)
    assert not ours(modules, "graph")
    assert not ours(modules, "emulator")


@pytest.mark.parametrize("verb", VERBS, ids=[verb.name for verb in VERBS])
def test_summaries_are_the_commands_own(verb: Verb) -> None:
    """What the list of commands says of one is the first sentence of its own help."""
    deferred = DeferredCommand(verb)
    loaded = deferred.load()
    assert deferred.get_short_help_str(100) == loaded.get_short_help_str(100) == verb.summary


def test_values_arrive_as_typed(atlas: Invoke, engine: FakeEngine, place: Path) -> None:
    """Texts are not stripped or changed, a path need not exist to reach those who judge it."""
    assert atlas("list", "-m", " 0x10 ").code == 0
    assert engine.calls[-1] == ("list_snapshots", {"mailbox": " 0x10 "})
    ended = atlas("list", "--config", str(place / "absent.json"))
    assert ended.code == 2
    assert "absent.json" in ended.err


def test_values_of_another_kind_are_converted(atlas: Invoke) -> None:
    """Numbers within bounds are still checked where they are asked for."""
    ended = atlas("emulator", "--port", "70000")
    assert ended.code == 2
    assert "--port" in ended.err
