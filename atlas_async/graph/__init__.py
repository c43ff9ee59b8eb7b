"""Microsoft Graph and Entra ID as a source of mail."""

from atlas_async.graph.mailbox import GraphMailbox
from atlas_async.graph.tenant import GraphTenant

__all__ = ["GraphMailbox", "GraphTenant"]
