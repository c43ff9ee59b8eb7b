"""A disk that forgets: what a directory may look like after the power went at a chosen instant.

While the instrument is on, calls of the file system below one directory are carried out and noted
in order, down to single writes and syncs. ``image`` then says what a file system that keeps to
POSIX may have kept of them at any instant:

- bytes written since a file's last ``fsync`` are there, or not, or in part, or zeros;
- a name made, moved or removed since the last ``fsync`` of its directory is as before or as after;
- what both calls promised when they returned is there.

Two kinds of file systems are drawn: one that keeps the order of names (a journal: everything up to
some moment), and one that keeps each name by itself, which also may forget half of a rename.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import RLock
from typing import Any, Final

BLOCK: Final = 512
TOP: Final = 0


@dataclass(frozen=True, slots=True)
class Wrote:
    """Bytes were appended to a file."""

    file: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Synced:
    """A file's bytes, or a directory's names, are durable."""

    node: int


@dataclass(frozen=True, slots=True)
class Named:
    """A name in a directory leads to a node; None where it was removed."""

    directory: int
    name: str
    node: int | None


@dataclass(frozen=True, slots=True)
class Marked:
    """Something that the user of the disk noted."""

    what: Any


Step = tuple[Named, ...] | Wrote | Synced | Marked


class CrashDisk:
    """Notes what happens to the files below ``root``, from how they are when it is made.

    Args:
        root: An existing directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log: list[Step] = []
        self._lock = RLock()
        self._next = TOP
        self._names: dict[int, dict[str, int]] = {}
        self._first: dict[int, bytes] = {}
        self._open: dict[int, int] = {}
        self._scan(root)
        self._initial = {node: dict(names) for node, names in self._names.items()}

    @property
    def instants(self) -> int:
        """How many instants there are at which the power may go."""
        return len(self.log) + 1

    def mark(self, what: Any) -> int:
        """Note something between two calls; return the instant after it."""
        with self._lock:
            self.log.append(Marked(what))
            return len(self.log)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Note all calls made by this process while the block runs. Syncs are noted, not made."""
        replaced: dict[str, Callable[..., Any]] = {
            "open": self._open_file,
            "write": self._write,
            "fsync": self._sync,
            "close": self._close,
            "mkdir": self._mkdir,
            "link": self._link,
            "rename": self._rename,
            "replace": self._rename,
            "unlink": self._unlink,
            "remove": self._unlink,
        }
        kept = {name: getattr(os, name) for name in replaced}
        try:
            for name, call in replaced.items():
                setattr(os, name, self._through(kept[name], call))
            yield
        finally:
            for name, call in kept.items():
                setattr(os, name, call)

    def image(self, instant: int, dice: Random) -> dict[str, bytes | None]:
        """Return what is left of a power cut: files and their bytes, directories and None."""
        picture = _Picture(self._initial, self._first)
        for step in self.log[:instant]:
            picture.take(step)
        survival = dice.choice([0.0, 0.0, dice.random(), 1.0])
        names = picture.names(dice, survival, ordered=dice.random() < 0.4)
        files: dict[str, bytes | None] = {}
        bodies: dict[int, bytes] = {}

        def descend(directory: int, above: str) -> None:
            for name, node in sorted(names.get(directory, {}).items()):
                path = f"{above}{name}"
                if node not in self._first:
                    files[path] = None
                    descend(node, f"{path}/")
                    continue
                if node not in bodies:
                    bodies[node] = picture.body(node, dice, survival)
                files[path] = bodies[node]

        descend(TOP, "")
        return files

    def _scan(self, directory: Path) -> int:
        """Take what is there as durable."""
        node = self._new()
        self._names[node] = {}
        for entry in sorted(directory.iterdir()):
            if entry.is_dir():
                self._names[node][entry.name] = self._scan(entry)
            else:
                inner = self._new()
                self._first[inner] = entry.read_bytes()
                self._names[node][entry.name] = inner
        return node

    def _new(self) -> int:
        node = self._next
        self._next += 1
        return node

    def _through(self, real: Callable[..., Any], noted: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            with self._lock:
                return noted(real, *args, **options)

        return call

    def _parts(self, path: Any) -> tuple[str, ...] | None:
        """Return the path below the root as names; None for one that lies elsewhere."""
        if not isinstance(path, str | os.PathLike):
            return None
        text = os.fspath(path)
        top = f"{self.root}/"
        return tuple(text[len(top) :].split("/")) if str(text).startswith(top) else None

    def _place(self, parts: tuple[str, ...]) -> tuple[int, str]:
        """Return the directory that a path's last name is in."""
        node = TOP
        for name in parts[:-1]:
            node = self._names[node][name]
        return node, parts[-1]

    def _open_file(
        self, real: Callable[..., int], path: Any, flags: int, *rest: Any, **options: Any
    ) -> int:
        descriptor = real(path, flags, *rest, **options)
        parts = self._parts(path)
        if parts is None:
            if str(path) == str(self.root):
                self._open[descriptor] = TOP
            return descriptor
        directory, name = self._place(parts)
        if flags & os.O_CREAT and name not in self._names[directory]:
            node = self._new()
            self._first[node] = b""
            self._name((directory, name, node))
            self._open[descriptor] = node
        elif flags & (os.O_DIRECTORY | os.O_WRONLY | os.O_RDWR):
            self._open[descriptor] = self._names[directory][name]
        return descriptor

    def _write(self, real: Callable[..., int], descriptor: int, data: Any) -> int:
        written = real(descriptor, data)
        if descriptor in self._open:
            self.log.append(Wrote(self._open[descriptor], bytes(data[:written])))
        return written

    def _sync(self, real: Callable[..., None], descriptor: int) -> None:
        if descriptor in self._open:
            self.log.append(Synced(self._open[descriptor]))
        else:
            real(descriptor)

    def _close(self, real: Callable[..., None], descriptor: int) -> None:
        self._open.pop(descriptor, None)
        real(descriptor)

    def _mkdir(self, real: Callable[..., None], path: Any, *rest: Any, **options: Any) -> None:
        real(path, *rest, **options)
        parts = self._parts(path)
        if parts is not None:
            node = self._new()
            self._names[node] = {}
            self._name((*self._place(parts), node))

    def _link(self, real: Callable[..., None], source: Any, target: Any, **options: Any) -> None:
        real(source, target, **options)
        old, new = self._parts(source), self._parts(target)
        if old is not None and new is not None:
            directory, name = self._place(old)
            self._name((*self._place(new), self._names[directory][name]))

    def _rename(self, real: Callable[..., None], source: Any, target: Any, **options: Any) -> None:
        real(source, target, **options)
        old, new = self._parts(source), self._parts(target)
        if old is not None and new is not None:
            directory, name = self._place(old)
            node = self._names[directory][name]
            self._name((*self._place(new), node), (directory, name, None))

    def _unlink(self, real: Callable[..., None], path: Any, **options: Any) -> None:
        real(path, **options)
        parts = self._parts(path)
        if parts is not None:
            self._name((*self._place(parts), None))

    def _name(self, *changes: tuple[int, str, int | None]) -> None:
        for directory, name, node in changes:
            if node is None:
                del self._names[directory][name]
            else:
                self._names[directory][name] = node
        self.log.append(tuple(Named(*change) for change in changes))


class _Picture:
    """What is durable and what is not, after some steps."""

    def __init__(self, names: dict[int, dict[str, int]], bodies: dict[int, bytes]) -> None:
        self._durable = {node: dict(inside) for node, inside in names.items()}
        self._pending: list[Named] = []
        self._kept = dict(bodies)
        self._written: dict[int, list[bytes]] = {}

    def take(self, step: Step) -> None:
        """Go one step on."""
        match step:
            case tuple():
                self._pending.extend(step)
            case Wrote(file, data):
                self._written.setdefault(file, []).append(data)
            case Synced(node):
                if node in self._kept:
                    self._kept[node] += b"".join(self._written.pop(node, ()))
                    return
                for change in [c for c in self._pending if c.directory == node]:
                    self._apply(self._durable, change)
                    self._pending.remove(change)
            case Marked():
                pass

    def names(self, dice: Random, survival: float, *, ordered: bool) -> dict[int, dict[str, int]]:
        """Return the names in each directory, what is pending drawn.

        Args:
            dice: Draws.
            survival: How likely what is not durable is there nevertheless.
            ordered: The names of a journal: all changes up to some moment.
        """
        names = {node: dict(inside) for node, inside in self._durable.items()}
        if ordered:
            upto = sum(dice.random() < survival for _ in self._pending)
            chosen = self._pending[:upto]
        else:
            lost: set[tuple[int, str]] = set()
            chosen = []
            for change in self._pending:
                place = (change.directory, change.name)
                if place in lost or dice.random() >= survival:
                    lost.add(place)  # later changes of a name need the earlier ones
                else:
                    chosen.append(change)
        for change in chosen:
            self._apply(names, change)
        return names

    def body(self, node: int, dice: Random, survival: float) -> bytes:
        """Return a file's bytes, what was not synced drawn."""
        kept = self._kept[node]
        fresh = b"".join(self._written.get(node, ()))
        if not fresh or dice.random() < survival:
            return kept + fresh
        zeros = bytes(len(fresh))
        cut = dice.randrange(len(fresh))
        return kept + dice.choice(
            [
                b"",
                fresh[:cut],
                zeros,
                fresh[:cut] + zeros[cut:],
                b"".join(
                    (fresh if dice.random() < 0.5 else zeros)[at : at + BLOCK]
                    for at in range(0, len(fresh), BLOCK)
                ),
            ]
        )

    @staticmethod
    def _apply(names: dict[int, dict[str, int]], change: Named) -> None:
        inside = names.setdefault(change.directory, {})
        if change.node is None:
            inside.pop(change.name, None)
        else:
            inside[change.name] = change.node
