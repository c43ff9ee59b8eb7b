"""A secret that does not print itself."""

from __future__ import annotations

from typing import Final, NoReturn

MASK: Final = "********"


class Secret:
    """Text that shows as a mask in ``repr``, ``str``, f-strings and dataclass dumps."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself; call it only where the secret is used."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    def __bool__(self) -> bool:
        """Tell whether the secret has any text."""
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        """Compare by text."""
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _: dict[int, object]) -> Secret:
        return self  # immutable; and ``dataclasses.asdict`` copies the values of settings

    def __reduce__(self) -> NoReturn:
        """Refuse: a pickle holds the text in clear, and pickles end up in caches and queues.

        Whoever must send a secret to another process says so, as ``shards.frames`` does.
        """
        msg = "a Secret is not pickled: hand over what reveal() returns, where that is safe"
        raise TypeError(msg)
