"""Options taken as they were typed: flags, texts and paths, which need no conversion.

Typer converts every value, absent ones too, through pydantic. Loading that takes longer than all
that listing a small bucket does besides deriving its key, and the settings are checked elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from typer._coercion import RuntimeParam
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

_AS_TYPED: Final = (bool, str, Path, list[str])


class TypedValue(RuntimeParam):
    """Takes a value as it is; a path becomes a ``Path``, whether or not there is such a file."""

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ARG002 - Typer's
        return Path(value) if self.annotation is Path else value


class VerbCommand(TyperCommand):
    """A command whose plain options are taken as they were typed."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, the one for help included."""
        return [_as_typed(param) for param in super().get_params(ctx)]


class VerbGroup(TyperGroup):
    """A group whose plain options are taken as they were typed."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, the one for help included."""
        return [_as_typed(param) for param in super().get_params(ctx)]


def _as_typed(param: Any) -> Any:
    """Have a parameter skip the conversion, unless its kind of value needs one."""
    if isinstance(param, TyperOption | TyperArgument):
        kind = param.type_descriptor
        if kind.annotation in _AS_TYPED:
            param._runtime_param = TypedValue(kind.parameter_info, kind.annotation)  # noqa: SLF001 - Typer offers no other way
    return param
