"""How programs run their loop: in a process of its own, because it changes the process."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import asyncio, ctypes, gc, json, resource, sys
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
from atlas_async import event_loop

calls = []

class Library:
    def mallopt(self, *arguments):
        calls.append(arguments)
        return 1

ctypes.CDLL = lambda name: Library()

async def main(number):
    return {
        "number": number,
        "threshold": gc.get_threshold(),
        "frozen": gc.get_freeze_count() > 0,
        "loop": type(asyncio.get_running_loop()).__module__,
        "mallopt": calls,
        "core": resource.getrlimit(resource.RLIMIT_CORE),
    }

print(json.dumps(event_loop.run_program(main, 7)))
"""


def test_a_program_gets_a_fast_loop_and_a_patient_collector() -> None:
    """The loop is uvloop's, young objects are looked through rarely, and arenas are few."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    told = json.loads(done.stdout)
    assert told["number"] == 7
    assert told["threshold"] == [50_000, 10, 10]
    assert told["frozen"]
    if sys.platform != "win32":
        assert told["loop"].startswith("uvloop")
    assert told["mallopt"] == ([[-8, 2]] if sys.platform.startswith("linux") else [])


def test_a_crash_of_a_program_leaves_no_dump() -> None:
    """The limit is one byte, which Linux takes for "neither write nor pipe"; 0 where 0 is most."""
    for hard in (-1, 0):
        limited = f"import resource; resource.setrlimit(resource.RLIMIT_CORE, ({hard}, {hard}))\n"
        program = (limited if hard == 0 else "") + PROGRAM
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
        )
        soft, most = json.loads(done.stdout)["core"]
        assert soft == (0 if most == 0 else 1)


def test_importing_the_package_changes_nothing() -> None:
    """An application that embeds the engine keeps its collector as it was."""
    program = "import gc, atlas_async.sdk; print(gc.get_threshold(), gc.get_freeze_count())"
    done = subprocess.run(
        [sys.executable, "-c", f"import gc; before = gc.get_threshold(); {program}; print(before)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    after, before = done.stdout.splitlines()
    assert after == f"{before} 0"
