"""Settings gathered from every level: file, ``.env``, environment, command line; later wins.

The only module through which the program sees the process's environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atlas_async.config.assembly import Assembly, Origin
from atlas_async.config.layers import (
    Layer,
    Problem,
    ca_fallback_layer,
    dotenv_layer,
    environment_layer,
    file_layer,
    flag_layer,
    merge,
)
from atlas_async.config.settings import GraphSettings, Settings
from atlas_async.errors import ConfigError

HINT = "'atlas config show' tells where each value comes from; docs/configuration.md lists them all"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, where each came from, and remarks that stop nobody."""

    settings: Settings
    origins: tuple[Origin, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """The same with the problems as data; ``settings`` is None where there are any."""

    settings: Settings | None
    origins: tuple[Origin, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def load_settings(
    *,
    cwd: Path,
    home: Path,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    need_graph: bool = True,
    config_file: Path | None = None,
) -> Loaded:
    """Return the merged settings. Blocking: reads files and may run secret commands.

    Args:
        cwd: Where ``atlas.config.json``, ``.atlas/config.json`` and ``.env`` are looked for.
        home: Where ``.atlas/config.json`` is looked for next, and what ``~`` means.
        environ: The environment; never modified.
        flags: Field name to value, from the command line; None means not given.
        need_graph: Whether Microsoft Graph will be talked to. Without it the credential is
            neither required nor fetched, and ``settings.graph`` is None.
        config_file: Read this file instead of looking for one.

    Raises:
        ConfigError: settings are missing or malformed; it lists every one of them.
    """
    seen = inspect_settings(
        cwd=cwd,
        home=home,
        environ=environ,
        flags=flags,
        need_graph=need_graph,
        config_file=config_file,
    )
    if seen.settings is None:
        raise ConfigError(list(seen.problems), hint=HINT)
    return Loaded(seen.settings, seen.origins, seen.notes)


def inspect_settings(
    *,
    cwd: Path,
    home: Path,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    need_graph: bool = True,
    config_file: Path | None = None,
) -> Inspection:
    """Do what ``load_settings`` does, and hand over the problems instead of raising them."""
    dotenv = dotenv_layer(cwd)
    outer = environment_layer(environ, cwd)
    layers = [
        ca_fallback_layer(environ, cwd),
        *_present(file_layer(cwd, home, config_file)),
        *_present(dotenv),
        outer,
        flag_layer(flags, cwd),
    ]
    given, conflicts = merge(layers)
    problems = [problem for layer in layers for problem in layer.problems] + conflicts
    assembly = Assembly(
        given,
        home=home,
        cwd=cwd,
        environ=environ,
        need_graph=need_graph,
        complete=all(layer.readable for layer in layers),
    )
    settings = assembly.build()
    texts = _texts(problems + assembly.problems, need_graph=need_graph)
    notes = tuple(note for layer in layers for note in layer.notes)
    return Inspection(None if texts else settings, assembly.origins(), texts, notes)


def _present(layer: Layer | None) -> list[Layer]:
    return [] if layer is None else [layer]


def _texts(problems: list[Problem], *, need_graph: bool) -> tuple[str, ...]:
    concerned = [problem.text for problem in problems if need_graph or not problem.graph]
    return tuple(dict.fromkeys(concerned))


def load_from_process(
    flags: Mapping[str, object], *, need_graph: bool = True, config_file: Path | None = None
) -> Loaded:
    """Call ``load_settings`` with this process's directory, home and environment. Blocking."""
    return load_settings(
        cwd=Path.cwd(),
        home=_home(),
        environ=os.environ,
        flags=flags,
        need_graph=need_graph,
        config_file=config_file,
    )


def load_target(*, cwd: Path, home: Path, environ: Mapping[str, str], file: Path) -> GraphSettings:
    """Return how to reach another tenant, from a configuration file of its own. Blocking.

    Nothing of it comes from anywhere else: half of one tenant's credential and half of another's
    would lead to the wrong one. Storage and passphrase are the matter of the other settings.

    Raises:
        ConfigError: Something is missing or malformed; it lists all of it.
    """
    layer = _present(file_layer(cwd, home, file))
    given, conflicts = merge(layer)
    problems = [problem for level in layer for problem in level.problems] + conflicts
    assembly = Assembly(
        given, home=home, cwd=cwd, environ=environ, need_graph=True, complete=layer[0].readable
    )
    graph = assembly.build_target()
    texts = _texts(problems + assembly.problems, need_graph=True)
    if texts or graph is None:
        raise ConfigError(list(texts), hint=f"these belong into {file}")
    return graph


def load_target_from_process(file: Path) -> GraphSettings:
    """Call ``load_target`` with this process's directory, home and environment. Blocking."""
    return load_target(cwd=Path.cwd(), home=_home(), environ=os.environ, file=file)


def inspect_process(flags: Mapping[str, object], *, config_file: Path | None = None) -> Inspection:
    """Call ``inspect_settings`` with this process's directory, home and environment. Blocking."""
    return inspect_settings(
        cwd=Path.cwd(),
        home=_home(),
        environ=os.environ,
        flags=flags,
        config_file=config_file,
    )


def environment_without_settings() -> dict[str, str]:
    """Return this process's environment for a child that is handed its settings otherwise.

    Secrets may stand in these variables, and a process's environment can be read by others of the
    same user for as long as it lives. What belongs to other programs stays: proxies, AWS's chain.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("ATLAS_")}


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # no HOME and no passwd entry, as in bare containers
        return Path.cwd()
