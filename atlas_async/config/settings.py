"""Settings as frozen values. A layer receives its own part, never the whole.

Reading them from files, ``.env`` and the environment is ``config.sources``; nothing here does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from atlas_async.config.secret import Secret

MIB = 1 << 20
MOST_PROCESSES = 64
"""More than this is a slip of the hand: every process costs about 60 MiB and shares the limits."""


class Cloud(StrEnum):
    """The national clouds of Microsoft 365.

    Source: learn.microsoft.com/graph/deployments.
    """

    GLOBAL = "global"
    GCC_HIGH = "gcc-high"
    DOD = "dod"
    CHINA = "china"


CLOUD_URLS = {
    Cloud.GLOBAL: ("https://login.microsoftonline.com", "https://graph.microsoft.com"),
    Cloud.GCC_HIGH: ("https://login.microsoftonline.us", "https://graph.microsoft.us"),
    Cloud.DOD: ("https://login.microsoftonline.us", "https://dod-graph.microsoft.us"),
    Cloud.CHINA: (
        "https://login.partner.microsoftonline.cn",
        "https://microsoftgraph.chinacloudapi.cn",
    ),
}
"""Authority and Graph root per cloud."""


class ObjectMetadata(StrEnum):
    """What stands in the user metadata of objects, which the store sees in clear."""

    ATLAS = "atlas"
    """What Atlas writes: a message's Graph id and the SHA-256 of its plaintext."""
    NONE = "none"
    """Nothing."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate credential: a PEM file with key and certificate, or a PFX file.

    ``password`` opens an encrypted key.
    """

    path: Path
    password: Secret | None = None


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """How to reach Entra ID and Microsoft Graph for one tenant.

    ``graph_url`` is the root without version, ``authority_url`` the authority without tenant.
    ``ca_file`` replaces the system's trust store for both.
    """

    tenant_id: str
    client_id: str
    credential: Secret | ClientCertificate
    authority_url: str = CLOUD_URLS[Cloud.GLOBAL][0]
    graph_url: str = CLOUD_URLS[Cloud.GLOBAL][1]
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class S3Settings:
    """An S3-compatible endpoint. Without ``access_key`` AWS's default credential chain is used.

    ``endpoint`` None means AWS itself in ``region``.
    """

    endpoint: str | None
    region: str = "us-east-1"
    access_key: str | None = None
    secret_key: Secret | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """A local directory that holds one sub-directory per bucket."""

    path: Path


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is done at once.

    Args:
        mailboxes: Mailboxes in flight at once.
        processes: Processes a backup spreads its mailboxes over, 1 to ``MOST_PROCESSES``. The
            other limits hold for all of them together.
        page_size: Messages asked for per page (``Prefer: odata.maxpagesize``); shrinks by itself.
        requests_per_mailbox: Graph requests in flight per mailbox. Microsoft's limit is 4 per
            application and mailbox (learn.microsoft.com/graph/throttling-limits).
        window_requests: Requests per mailbox and ``window_seconds``; Microsoft's limit is 10,000
            in 10 minutes. The default stays 2 % below it, for other users of the application.
        window_seconds: Length of that window.
        upload_bytes: Bytes of requests sent to a mailbox within ``upload_seconds``; Microsoft's
            limit is 150 MB in 5 minutes (same page). The default stays 2 % below it.
        upload_seconds: Length of that window.
        uploads: PUTs in flight at once, over all mailboxes.
        byte_budget: Bytes of mail held in memory at once, over all mailboxes.
        retries: Further tries of a Graph or store request that failed in a passing way. Where a
            fifth of all requests fails, one in 50 million fails eleven times in a row.
        patience: Longest total time in seconds one request may spend being throttled or retried.
        lock_wait: Seconds a mailbox waits for another run that holds it and is alive.
    """

    mailboxes: int = 8
    processes: int = 1
    page_size: int = 100
    requests_per_mailbox: int = 4
    window_requests: int = 9_800
    window_seconds: float = 600.0
    upload_bytes: int = 147_000_000
    upload_seconds: float = 300.0
    uploads: int = 192
    byte_budget: int = 256 * MIB
    retries: int = 10
    patience: float = 1_800.0
    lock_wait: float = 0.0


@dataclass(frozen=True, slots=True)
class FolderChoice:
    """Which folders are read. By default every mail folder is, drafts and junk included."""

    only: tuple[str, ...] = ()
    exclude_well_known: frozenset[str] = frozenset()
    recoverable: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything one tenant needs.

    ``mime`` has backups store the original MIME of every message beside it.
    """

    graph: GraphSettings | None
    storage: S3Settings | DirectorySettings
    tenant_id: str
    passphrase: Secret
    limits: Limits = field(default_factory=Limits)
    dek_version: int = 1
    spool_directory: Path | None = None
    object_metadata: ObjectMetadata = ObjectMetadata.ATLAS
    mime: bool = False

    @property
    def bucket(self) -> str:
        """The tenant's bucket name, as Atlas names it."""
        return f"atlas-{self.tenant_id}"
