"""Whether a message that could not be fetched is still in the mailbox."""

from __future__ import annotations

from atlas_async.errors import ConsentError, GraphError, GraphThrottled
from atlas_async.pipeline.ports import MailboxSource


async def has_left(source: MailboxSource, object_id: str) -> bool:
    """Tell whether a message has left the mailbox; False while Graph does not say so.

    Raises:
        AuthError, GraphThrottled: The mailbox as a whole is affected.
    """
    try:
        return await source.locate_message(object_id) is None
    except GraphThrottled:
        raise
    except (GraphError, ConsentError):
        return False
