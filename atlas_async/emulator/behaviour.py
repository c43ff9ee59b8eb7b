"""What the emulator does beyond the plain path; everything here can be changed while it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final

PACE: Final = frozenset(
    {
        "latency",
        "bandwidth",
        "throttle",
        "time_scale",
        "mailbox_requests",
        "mailbox_concurrent",
        "retry_after",
    }
)
"""Switches for when an answer comes and how many do. What an answer holds is the same."""


@dataclass(slots=True)
class Behaviour:
    """Switches of the emulated service. Times are seconds, sizes bytes.

    ``latency`` is added to each Graph request, ``bandwidth`` (bytes per second, 0 = unlimited)
    drips long answers. ``compress`` allows gzip. ``inline_limit`` is the largest file whose
    contentBytes a listing carries. ``throttle`` turns the documented limits on; ``time_scale``
    shortens their windows (0.01 makes ten minutes six seconds), ``mailbox_requests`` and
    ``mailbox_concurrent`` are what a mailbox is granted per window and at once (set them before the
    first request that counts), ``retry_after`` is ``seconds``, ``date`` or ``none``.
    ``strict_id_mode`` refuses a delta token of the other id format, ``sparse_changes`` sends
    only id and changed properties for updates, ``return_quirk`` makes a message that went and came
    back within a round appear as removed only, ``silent_moves`` omits moved messages from the
    target, ``delta_top_total`` treats ``$top`` on delta as a total cap.
    ``replays`` repeats one item on the next page, ``empty_pages`` puts that many pages without
    items before each delta link, ``lost_delta_links`` ends rounds without that link,
    ``heavy_page`` (0: off) lets delta pages asked for with more messages time out with an empty
    503, ``repeat_links`` makes each next link point to its own page,
    ``foreign_links`` is an origin that links name instead of this one. ``expired_code`` and
    ``expired_status`` shape the answer to an expired token, ``batch_allowed`` False refuses
    ``$batch``, ``advanced_writes`` protects sent messages' content from plain Mail.ReadWrite.
    """

    latency: float = 0.0
    bandwidth: int = 0
    compress: bool = True
    inline_limit: int = 4 * 1024 * 1024
    token_lifetime: int = 3599
    throttle: bool = False
    time_scale: float = 1.0
    mailbox_requests: int = 10_000
    mailbox_concurrent: int = 4
    retry_after: str = "seconds"
    strict_id_mode: bool = False
    sparse_changes: bool = False
    return_quirk: bool = False
    silent_moves: bool = False
    delta_top_total: bool = True
    replays: bool = False
    empty_pages: int = 0
    lost_delta_links: bool = False
    heavy_page: int = 0
    repeat_links: bool = False
    foreign_links: str = ""
    expired_code: str = "SyncStateNotFound"
    expired_status: int = 410
    default_page: int = 10
    largest_page: int = 1000
    batch_allowed: bool = True
    advanced_writes: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return every switch by name."""
        return asdict(self)

    def change(self, values: dict[str, Any]) -> None:
        """Set switches by name. Raises ``ValueError`` for a name or type that is unknown."""
        known = {item.name: getattr(self, item.name) for item in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"unknown setting: {name}")
            wanted = type(known[name])
            if wanted is float and isinstance(value, int) and not isinstance(value, bool):
                setattr(self, name, float(value))
            elif type(value) is wanted:
                setattr(self, name, value)
            else:
                raise ValueError(f"{name} must be {wanted.__name__}")
