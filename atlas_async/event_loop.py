"""How the programs of this package run their event loop. An application that embeds it has its own.

Three settings of the whole process are theirs alone to make.

The collector of cycles looks through all young objects after every 700 that are made, and mail is
made of many: it took a tenth of a backup's time. What is in flight holds few cycles, so it looks
after every 50,000, and never again at what was there before the program began.

The C library gives threads arenas of their own, up to eight per processor, and an arena keeps what
is freed in it. Worker threads here hash and compress a few pages at a time: two arenas do.

A crash leaves no dump of the memory: the key is in it, and mail.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import sys
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

T = TypeVar("T")

YOUNG_OBJECTS: Final = 50_000
GENERATIONS: Final = (10, 10)


_M_ARENA_MAX: Final = -8  # malloc.h of the GNU C library
ARENAS: Final = 2


def run_program(main: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run ``main`` on uvloop where it is installed and return what it returns. Blocking."""
    gc.set_threshold(YOUNG_OBJECTS, *GENERATIONS)
    gc.freeze()
    _bound_arenas()
    _forbid_core_dumps()
    uvloop = importlib.util.find_spec("uvloop") is not None
    return anyio.run(main, *args, backend_options={"use_uvloop": uvloop})


def _bound_arenas() -> None:
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:  # other C libraries have neither arenas nor the call
            mallopt(_M_ARENA_MAX, ARENAS)


def _forbid_core_dumps() -> None:
    """Keep mail, tokens and the key in memory out of core files and of crash reporters.

    The limit is one byte: Linux takes no notice of 0 where dumps are piped to a program, and
    refuses to pipe, as well as to write, with 1 (fs/coredump.c).
    """
    try:
        import resource  # noqa: PLC0415 -- there is none on Windows
    except ImportError:
        return
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0 if hard == 0 else 1, hard))
