"""How long a command takes to start: fresh processes, one after the other."""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, GraphSettings, Settings
from atlas_async.emulator import Corpus, CorpusOptions, Emulator
from atlas_async.sdk import Atlas
from benchmarks.report import Options, Table, median_spread

NAME = "startup"
HELP = "start-up time of `atlas --help` and of `atlas list` on a directory"

RUNS, QUICK_RUNS = 20, 3
SHOWN_PACKAGES = 15
MESSAGES = 40
PASSPHRASE = "correct horse battery staple"
KEY = """
import hashlib
hashlib.scrypt(b"p" * 28, salt=b"s" * 32, n=1 << 16, r=8, p=1, maxmem=1 << 27, dklen=32)
"""
"""What deriving the key costs by itself, in an interpreter that does nothing else."""
TARGETS = {"atlas --help": 150, "atlas list": 400}
"""Milliseconds of wall time, on a core that does nothing else."""
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


@dataclass(frozen=True, slots=True)
class Timing:
    """What the processes of one command took, in milliseconds each."""

    wall: list[float]
    cpu: list[float]


def measure(options: Options) -> Table:
    """Start each command many times over and return the medians."""
    runs = QUICK_RUNS if options.quick else max(RUNS, options.repeat)
    rows, notes, data = [], [], {}
    with prepared() as environment:
        for name, arguments in commands().items():
            timing = timed(arguments, environment, runs)
            target = f"{TARGETS[name]}" if name in TARGETS else "-"
            rows.append([name, median_spread(timing.wall), median_spread(timing.cpu), target])
            data[name] = {
                "wall_ms": timing.wall,
                "cpu_ms": timing.cpu,
                "median_wall_ms": statistics.median(timing.wall),
                "median_cpu_ms": statistics.median(timing.cpu),
            }
            if name in TARGETS:
                split = imports(arguments, environment)
                notes.append(f"imports of {name}, ms: {described(split)}")
                data[name]["imports_us"] = dict(split)
    method = (
        f"{runs} fresh processes each, bytecode compiled before, as in an installation. Median "
        "(least - most)."
    )
    return Table(
        name=NAME,
        title="Start-up of a command",
        columns=["command", "wall ms", "CPU ms", "target wall ms"],
        rows=rows,
        notes=[method, *notes],
        data=data,
    )


def commands() -> dict[str, list[str]]:
    """Return the interpreter's arguments for each command."""
    return {
        "python -c pass": ["-c", "pass"],
        "deriving a key (scrypt, N=65536)": ["-c", KEY],
        "atlas --help": ["-m", "atlas_async", "--help"],
        "atlas list --help": ["-m", "atlas_async", "list", "--help"],
        "atlas list": ["-m", "atlas_async", "list"],
        "import Atlas": ["-c", "from atlas_async import Atlas"],
    }


@contextmanager
def prepared() -> Iterator[dict[str, str]]:
    """Give the environment of the commands: a directory with one small mailbox, settings for it."""
    with tempfile.TemporaryDirectory(prefix="atlas-startup-") as name:
        place = Path(name)
        tenant = asyncio.run(back_up(place / "store"))
        environment = {
            **os.environ,
            "HOME": name,
            "ATLAS_TENANT_ID": tenant,
            "ATLAS_STORAGE_URL": (place / "store").as_uri(),
            "ATLAS_ENCRYPTION_PASSPHRASE": PASSPHRASE,
            "PYTHONPYCACHEPREFIX": str(place / "bytecode"),
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        yield environment


async def back_up(store: Path) -> str:
    """Back a small emulated mailbox up into a directory and return the tenant's id."""
    corpus = CorpusOptions.plain(mailboxes=1, messages=MESSAGES)
    async with Emulator(Corpus(corpus)) as emulator:
        tenant = str(emulator.tenant.id)
        graph = GraphSettings(
            tenant_id=tenant,
            client_id=emulator.tenant.client_id,
            credential=Secret(emulator.tenant.client_secret),
            authority_url=emulator.authority_url,
            graph_url=emulator.graph_url,
        )
        settings = Settings(
            graph=graph,
            storage=DirectorySettings(store),
            tenant_id=tenant,
            passphrase=Secret(PASSPHRASE),
        )
        async with Atlas(settings) as atlas:
            report = await atlas.backup()
        if report.exit_code:
            raise RuntimeError(f"the mailbox to list could not be backed up: {report}")
    return tenant


def timed(arguments: Sequence[str], environment: Mapping[str, str], runs: int) -> Timing:
    """Run a command so often, once more before for its bytecode, and return what each took.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    timing = Timing([], [])
    for number in range(runs + 1):
        began = time.perf_counter()
        command = [sys.executable, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        if number:
            timing.wall.append(1e3 * took)
            timing.cpu.append(1e3 * (usage.ru_utime + usage.ru_stime))
    return timing


def imports(arguments: Sequence[str], environment: Mapping[str, str]) -> Counter[str]:
    """Return the microseconds that importing took, by top-level package."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    return split_of(done.stderr)


def split_of(report: str) -> Counter[str]:
    """Return what ``-X importtime`` reports, in microseconds by top-level package."""
    split: Counter[str] = Counter()
    for own, module in _IMPORT.findall(report):
        package = module.partition(".")[0]
        known = package not in sys.stdlib_module_names or package == "asyncio"
        split[package if known else "standard library"] += int(own)
    return split


def described(split: Counter[str]) -> str:
    """Return the packages that took longest, and all of it."""
    longest = split.most_common(SHOWN_PACKAGES)
    parts = [f"{package} {own / 1e3:.1f}" for package, own in longest]
    return f"{', '.join(parts)}; all {split.total() / 1e3:.1f}"
