"""Back up Microsoft 365 mailboxes into encrypted, deduplicated, verified S3 snapshots.

::

    from atlas_async import Atlas, load_from_process

    async with Atlas(load_from_process({}).settings) as atlas:
        report = await atlas.backup(["user@contoso.com"])

Names are loaded when they are first used, so that the command line starts quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from atlas_async.catalog.reader import SnapshotSummary, SnapshotView
    from atlas_async.config.secret import Secret
    from atlas_async.config.settings import (
        ClientCertificate,
        DirectorySettings,
        FolderChoice,
        GraphSettings,
        Limits,
        S3Settings,
        Settings,
    )
    from atlas_async.config.sources import load_from_process
    from atlas_async.errors import AtlasError
    from atlas_async.export.forms import ExportForm
    from atlas_async.export.report import ExportReport
    from atlas_async.model.drill import DrillOptions, DrillReport
    from atlas_async.model.report import MailboxResult, NotStored, Outcome, RunReport
    from atlas_async.model.restoring import (
        Comparing,
        Conflict,
        RestoreJob,
        RestoreOptions,
        RestoreReport,
        UndoReport,
    )
    from atlas_async.operations.ledger import Forgetting, LedgerEntry
    from atlas_async.operations.reading import MessageContent
    from atlas_async.operations.restore import RestoreWish
    from atlas_async.operations.selection import Selection
    from atlas_async.operations.verification import Finding, VerifyReport
    from atlas_async.pipeline.stop import StopSignal
    from atlas_async.sdk import Atlas

_HOMES: Final = {
    "Atlas": "sdk",
    "AtlasError": "errors",
    "ClientCertificate": "config.settings",
    "Comparing": "model.restoring",
    "Conflict": "model.restoring",
    "DirectorySettings": "config.settings",
    "DrillOptions": "model.drill",
    "DrillReport": "model.drill",
    "ExportForm": "export.forms",
    "ExportReport": "export.report",
    "Finding": "operations.verification",
    "FolderChoice": "config.settings",
    "Forgetting": "operations.ledger",
    "GraphSettings": "config.settings",
    "LedgerEntry": "operations.ledger",
    "Limits": "config.settings",
    "MailboxResult": "model.report",
    "MessageContent": "operations.reading",
    "NotStored": "model.report",
    "Outcome": "model.report",
    "RestoreJob": "model.restoring",
    "RestoreOptions": "model.restoring",
    "RestoreReport": "model.restoring",
    "RestoreWish": "operations.restore",
    "RunReport": "model.report",
    "S3Settings": "config.settings",
    "Secret": "config.secret",
    "Selection": "operations.selection",
    "Settings": "config.settings",
    "SnapshotSummary": "catalog.reader",
    "SnapshotView": "catalog.reader",
    "StopSignal": "pipeline.stop",
    "UndoReport": "model.restoring",
    "VerifyReport": "operations.verification",
    "load_from_process": "config.sources",
}

__all__ = [
    "Atlas",
    "AtlasError",
    "ClientCertificate",
    "Comparing",
    "Conflict",
    "DirectorySettings",
    "DrillOptions",
    "DrillReport",
    "ExportForm",
    "ExportReport",
    "Finding",
    "FolderChoice",
    "Forgetting",
    "GraphSettings",
    "LedgerEntry",
    "Limits",
    "MailboxResult",
    "MessageContent",
    "NotStored",
    "Outcome",
    "RestoreJob",
    "RestoreOptions",
    "RestoreReport",
    "RestoreWish",
    "RunReport",
    "S3Settings",
    "Secret",
    "Selection",
    "Settings",
    "SnapshotSummary",
    "SnapshotView",
    "StopSignal",
    "UndoReport",
    "VerifyReport",
    "__version__",
    "load_from_process",
]


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    if name == "__version__":
        metadata = import_module("importlib.metadata")
        try:
            return metadata.version("atlas-async")
        except metadata.PackageNotFoundError:
            return "0+unknown"
    if name in _HOMES:
        return getattr(import_module(f"atlas_async.{_HOMES[name]}"), name)
    msg = f"module 'atlas_async' has no attribute {name!r}"
    raise AttributeError(msg)
