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
        "upload_bytes",
        "throttled_bytes",
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
    ``upload_bytes`` is what a mailbox takes in five minutes, ``throttled_bytes`` has refused
    writes count, too. ``split_uploads`` (before the start) serves upload URLs from a port of
    their own, ``upload_lifetime`` is how long they last, ``expired_upload`` the status afterwards,
    ``smallest_upload`` the smallest file a session is opened for, ``largest_range`` the most
    bytes of one range; ``resent_ranges`` takes ranges again that it has already.
    ``message_limit`` (0: off) is the largest message with its attachments, ``fresh_misses`` how
    often attachments to a message just created are answered 404. ``reference_writes`` lets links
    be attached, ``nested_attachments`` lets attached items have attachments,
    ``silent_mime`` (0: off) is the size above which posted MIME is answered 200 and forgotten.
    ``property_reads`` False refuses ``$expand`` in listings of messages, ``message_filters`` False
    refuses ``$filter`` there.
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
    upload_bytes: int = 150_000_000
    throttled_bytes: bool = True
    split_uploads: bool = False
    upload_lifetime: float = 3600.0
    expired_upload: int = 404
    smallest_upload: int = 3_000_000
    largest_range: int = 4 * 1024 * 1024
    resent_ranges: bool = False
    message_limit: int = 0
    fresh_misses: int = 0
    reference_writes: bool = False
    nested_attachments: bool = True
    silent_mime: int = 0
    property_reads: bool = True
    message_filters: bool = True

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
