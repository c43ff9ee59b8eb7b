"""The levels settings come from, read as text: configuration file, ``.env``, environment, flags.

Nothing is judged here beyond whether a source can be read at all; later levels win.
"""

from __future__ import annotations

import difflib
import io
import json
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dotenv.parser import parse_stream

from atlas_async.config.fields import (
    ALTERNATIVES,
    BY_NAME,
    BY_VARIABLE,
    CA_FALLBACKS,
    FIELDS,
    Field,
)

MOST_BYTES: Final = 1 << 20
"""A configuration file or ``.env`` beyond this is something else."""
MOST_STRANGERS: Final = 20
"""Unknown names of one file that are told; a file of thousands is another program's."""
LONGEST_NAME: Final = 80
"""Characters of an unknown name that are told."""
NEAR_ENOUGH: Final = 0.75
"""Similarity (0 to 1) from which a misspelt name is answered with a suggestion."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value as somebody wrote it.

    ``name`` is what they called it (variable, field or flag), ``source`` the level in words,
    ``base`` the directory that relative paths start from.
    """

    text: str
    name: str
    source: str
    base: Path


@dataclass(frozen=True, slots=True)
class Problem:
    """A sentence for the error, and whether only Graph access is concerned."""

    text: str
    graph: bool = False


@dataclass(slots=True)
class Layer:
    """What one level gave. ``readable`` is false when the level exists and cannot be read."""

    source: str
    values: dict[str, Given] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    readable: bool = True


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that ``name`` was probably meant to be, or an empty string."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=NEAR_ENOUGH)
    return found[0] if found else ""


def candidate_files(cwd: Path, home: Path) -> tuple[Path, ...]:
    """Return where a configuration file is looked for; the first that exists is used."""
    places = (
        cwd / "atlas.config.json",
        cwd / ".atlas" / "config.json",
        home / ".atlas" / "config.json",
        home / ".atlas" / "atlas.config.json",
        home / "atlas.config.json",
    )
    return tuple(dict.fromkeys(places))


def file_layer(cwd: Path, home: Path, chosen: Path | None) -> Layer | None:
    """Read the configuration file: ``chosen``, or the first candidate that exists."""
    if chosen is not None:
        return _json_layer(cwd / chosen)
    found = [path for path in candidate_files(cwd, home) if path.is_file()]
    if not found:
        return None
    layer = _json_layer(found[0])
    layer.notes += [f"{path} is not read: {found[0]} comes first" for path in found[1:]]
    return layer


def _json_layer(path: Path) -> Layer:
    layer = Layer(str(path))
    document = _parse(path, layer)
    if document is None:
        layer.readable = False
        return layer
    strangers = 0
    for key, value in document.items():
        if key == "$schema" or value is None or value == "":
            continue
        known = BY_NAME.get(key) or _by_alias(key)
        if known is None:
            strangers += 1
            if strangers <= MOST_STRANGERS:
                layer.problems.append(Problem(_unknown_key(key, path)))
        elif known.switch and isinstance(value, bool):
            text = "true" if value else "false"
            layer.values[known.name] = Given(text, f'"{key}"', str(path), path.parent)
        elif isinstance(value, bool) or not isinstance(value, (str, int)):
            kind = type(value).__name__
            text = f'"{key}" in {path} is of type {kind}: expected {known.expected}'
            layer.problems.append(Problem(text, known.graph))
        else:
            layer.values[known.name] = Given(str(value), f'"{key}"', str(path), path.parent)
    if strangers > MOST_STRANGERS:
        text = f"{path} holds {strangers - MOST_STRANGERS} more names that are no settings"
        layer.problems.append(Problem(text))
    if any(BY_NAME[name].secret for name in layer.values) and _readable_by_others(path):
        layer.notes.append(f"{path} holds secrets and others can read it: chmod 600 {path}")
    return layer


def _by_alias(key: str) -> Field | None:
    return BY_VARIABLE.get(f"ATLAS_{key.upper()}") if key == key.lower() else None


def _unknown_key(key: str, path: Path) -> str:
    meant = nearest(key[:LONGEST_NAME].lower(), BY_NAME)
    advice = f'did you mean "{meant}"?' if meant else "see docs/configuration.md for the names"
    return f'"{key[:LONGEST_NAME]}" in {path} is not a setting: {advice}'


def _readable_by_others(path: Path) -> bool:
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _parse(path: Path, layer: Layer) -> dict[str, Any] | None:
    text = _read_text(path, layer)
    if text is None:
        return None
    repeated: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        met = Counter(name for name, _ in items)
        repeated.extend(sorted(name for name, times in met.items() if times > 1))
        return dict(items)

    try:
        document = json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        layer.problems.append(Problem(f"{path} is not valid JSON: {where}: {error.msg}"))
        return None
    except ValueError:  # of thousands of digits the parser makes no number
        layer.problems.append(Problem(f"{path} is not valid JSON: a number is too long"))
        return None
    except RecursionError:
        layer.problems.append(Problem(f"{path} is nested too deeply to be a configuration"))
        return None
    if not isinstance(document, dict):
        layer.problems.append(
            Problem(f"{path} must hold one JSON object, with a field per setting")
        )
        return None
    layer.problems += [
        Problem(f'"{name[:LONGEST_NAME]}" appears twice in {path}')
        for name in repeated[:MOST_STRANGERS]
    ]
    return document


def _read_text(path: Path, layer: Layer) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) <= MOST_BYTES:
            return data.decode("utf-8-sig")
        layer.problems.append(Problem(f"{path} is longer than {MOST_BYTES} bytes"))
    except UnicodeDecodeError:
        layer.problems.append(Problem(f"{path} is not UTF-8 text"))
    except OSError as error:
        layer.problems.append(Problem(f"{path} cannot be read: {error.strerror}"))
    except ValueError:
        layer.problems.append(Problem(f"{str(path)!a} can be no file's name"))
    return None


def dotenv_layer(cwd: Path) -> Layer | None:
    """Read ``.env`` in ``cwd``. Values are taken literally; the environment stays as it is."""
    path = cwd / ".env"
    if not path.is_file():
        return None
    layer = Layer(str(path))
    text = _read_text(path, layer)
    if text is None:
        layer.readable = False
        return layer
    pairs: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.key is not None:
            pairs[binding.key] = binding.value or ""
        if binding.error and "ATLAS_" in binding.original.string:
            line = binding.original.line
            layer.problems.append(Problem(f"{path} line {line} is not of the form NAME=value"))
    _take(layer, pairs, cwd)
    return layer


def environment_layer(environ: Mapping[str, str], cwd: Path) -> Layer:
    """Take the settings from the environment; empty values count as missing."""
    layer = Layer("environment")
    _take(layer, environ, cwd)
    return layer


def _take(layer: Layer, pairs: Mapping[str, str], base: Path) -> None:
    for known in FIELDS:
        named = [name for name in (known.variable, known.alias) if name and pairs.get(name)]
        if len({pairs[name] for name in named}) > 1:
            text = f"{' and '.join(named)} in {layer.source} differ: set one of them"
            layer.problems.append(Problem(text, known.graph))
        if named:
            layer.values[known.name] = Given(pairs[named[0]], named[0], layer.source, base)


def ca_fallback_layer(pairs: Mapping[str, str], base: Path) -> Layer:
    """Take the CA file other programs use; the weakest level of all."""
    layer = Layer("environment")
    for name in CA_FALLBACKS:
        if pairs.get(name):
            layer.values["ca_file"] = Given(pairs[name], name, layer.source, base)
            break
    return layer


def flag_layer(flags: Mapping[str, object], cwd: Path) -> Layer:
    """Take what the command line set; None and empty text count as not given."""
    layer = Layer("command line")
    for name, value in flags.items():
        if value is not None and str(value):
            shown = BY_NAME[name].flag or name
            layer.values[name] = Given(str(value), shown, layer.source, cwd)
    return layer


def merge(layers: Iterable[Layer]) -> tuple[dict[str, Given], list[Problem]]:
    """Lay the levels over each other, later ones winning, whole alternatives at a time."""
    merged: dict[str, Given] = {}
    problems: list[Problem] = []
    for layer in layers:
        for group in ALTERNATIVES:
            chosen = [form for form in group if form & layer.values.keys()]
            if not chosen:
                continue
            kept = frozenset().union(*chosen)
            for name in frozenset().union(*group) - kept:
                merged.pop(name, None)
            if len(chosen) > 1:
                problems.append(_conflict(layer, kept))
        merged |= layer.values
    return merged, problems


def _conflict(layer: Layer, names: frozenset[str]) -> Problem:
    given = [
        layer.values[known.name].name
        for known in FIELDS
        if known.name in names & layer.values.keys()
    ]
    graph = all(BY_NAME[name].graph for name in names)
    listed = f"{', '.join(given[:-1])} and {given[-1]}"
    return Problem(f"{listed} in {layer.source} exclude each other: keep one", graph)
