"""Where the engine spends its time: samples by py-spy, folded into a text table by function."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

RATE = 500
"""Samples per second."""
PREFERRED_STORE = "memory"
"""Lets the engine wait least, so that most samples show it at work."""
SHOWN = 40
WAITING = frozenset({"Condition.wait (threading.py)", "_worker (futures/thread.py)"})
"""Functions in which a thread waits for work: samples that end there say nothing."""
_LINE = re.compile(r":\d+\)$")
_PLACE = re.compile(r"\((?:.*/)?([^)/]*/[^)/]*)\)$")


def store_to_profile(stores: Sequence[str]) -> str:
    """Return the store, of those asked for, over which to profile."""
    return PREFERRED_STORE if PREFERRED_STORE in stores else stores[0]


def find_sampler() -> str | None:
    """Return the py-spy program, from beside the interpreter or from the path."""
    beside = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    return beside or shutil.which("py-spy")


@contextmanager
def sampling(pid: int, name: str, results: Path) -> Iterator[None]:
    """Sample a process while the body runs; write ``profiles/NAME.txt`` below ``results``.

    Raises:
        FileNotFoundError: There is no py-spy.
        RuntimeError: py-spy may not look into the process, or saw nothing.
    """
    sampler = find_sampler()
    if sampler is None:
        raise FileNotFoundError("--profile needs py-spy: pip install py-spy")
    with tempfile.TemporaryDirectory(prefix="atlas-profile-") as folder:
        raw = Path(folder) / "raw"
        command = [sampler, "record", "-f", "raw", "-r", str(RATE), "-F", "-p", str(pid)]
        with subprocess.Popen(
            [*command, "-o", str(raw)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as started:
            try:
                said = _wait_until_sampling(started)
                yield
            finally:
                if started.poll() is None:
                    os.kill(started.pid, signal.SIGINT)  # makes it write what it has
                said += started.communicate()[0]
        if not raw.exists() or not (lines := raw.read_text().splitlines()):
            raise RuntimeError(f"py-spy recorded nothing:\n{said}")
    target = results / "profiles" / f"{name}.txt"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(folded(lines, name))


def _wait_until_sampling(started: subprocess.Popen[str]) -> str:
    said = ""
    for line in started.stdout or ():
        said += line
        if "Sampling process" in line:
            return said
    raise RuntimeError(f"py-spy does not sample:\n{said}")


def folded(lines: Sequence[str], name: str) -> str:
    """Return self and inclusive time per function of raw samples, as text.

    Args:
        lines: ``outermost;...;innermost COUNT``.
        name: What was sampled.
    """
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = [_short(frame) for frame in stack.split(";")]
        if frames[-1] in WAITING:
            continue
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    total = own.total()
    parts = [
        f"{name}: {total} samples at {RATE} a second",
        (
            "Threads that wait for work are left out; the event loop's own work and idleness is "
            "`Runner.run`; native code counts as its caller."
        ),
    ]
    for title, counts in (("Self time", own), ("With callees", whole)):
        parts.append(f"\n{title}, the first {SHOWN}\n")
        parts += [
            f"{count / total:7.1%} {count:8d}  {frame}"
            for frame, count in counts.most_common(SHOWN)
        ]
    return "\n".join(parts) + "\n"


def _short(frame: str) -> str:
    """Return a frame without line number and without the place of this machine."""
    return _PLACE.sub(r"(\1)", _LINE.sub(")", frame))
