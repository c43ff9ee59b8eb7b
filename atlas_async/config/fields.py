"""Every setting by name: its config field, its variables, its flag, and what it may hold.

The one table that reading, error texts, ``atlas config show`` and the documentation share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Field:
    """One setting.

    Args:
        name: Field in the configuration file.
        variable: Environment variable.
        expected: What a value must be, to follow the words "expected ".
        default: How the default reads, or an empty string when there is none.
        secret: Whether the value is never shown.
        graph: Whether only talking to Microsoft Graph needs it.
        flag: Command line option that sets it, or an empty string.
        alias: A second variable with the same meaning, or an empty string.
        companion: Whether this names a file or command for the secret of the same stem.
        switch: Whether it is on or off, which JSON has words of its own for.
    """

    name: str
    variable: str
    expected: str
    default: str = ""
    secret: bool = False
    graph: bool = False
    flag: str = ""
    alias: str = ""
    companion: bool = False
    switch: bool = False

    @property
    def title(self) -> str:
        """The setting as an error names it: variable and field."""
        return f"{self.variable} ({self.name})"


def _secret(name: str, expected: str, *, graph: bool = False) -> tuple[Field, Field, Field]:
    """Return a secret setting with its two indirect forms."""
    variable = f"ATLAS_{name.upper()}"
    return (
        Field(name, variable, expected, secret=True, graph=graph),
        Field(
            f"{name}_file",
            f"{variable}_FILE",
            f"a readable file that holds {expected}",
            graph=graph,
            companion=True,
        ),
        Field(
            f"{name}_command",
            f"{variable}_COMMAND",
            f"a command (no shell) whose first line of output is {expected}",
            secret=True,
            graph=graph,
            companion=True,
        ),
    )


FIELDS: Final[tuple[Field, ...]] = (
    Field(
        "tenant_id",
        "ATLAS_TENANT_ID",
        "the directory (tenant) id, a GUID, or a domain of the tenant, in lower case",
        flag="--tenant",
    ),
    Field(
        "client_id",
        "ATLAS_CLIENT_ID",
        "the application (client) id of the app registration, a GUID",
        graph=True,
    ),
    *_secret("client_secret", "the client secret's value (not its id)", graph=True),
    Field(
        "client_certificate",
        "ATLAS_CLIENT_CERTIFICATE",
        "a PEM file with certificate and private key, or a PFX file",
        graph=True,
        alias="ATLAS_CLIENT_CERTIFICATE_PATH",
    ),
    *_secret("client_certificate_password", "the password of the certificate's key", graph=True),
    Field("cloud", "ATLAS_CLOUD", "global, gcc-high, dod or china", default="global", graph=True),
    Field(
        "authority_url",
        "ATLAS_AUTHORITY_URL",
        "the https URL of the Entra ID authority, without tenant",
        default="by cloud",
        graph=True,
    ),
    Field(
        "graph_url",
        "ATLAS_GRAPH_URL",
        "the https URL of Microsoft Graph, without version",
        default="by cloud",
        graph=True,
    ),
    Field(
        "storage_url",
        "ATLAS_STORAGE_URL",
        "file:///absolute/path for a directory store, or s3 for the S3 settings",
        default="s3",
    ),
    Field(
        "s3_endpoint",
        "ATLAS_S3_ENDPOINT",
        "the URL of the S3 endpoint, such as http://localhost:9002",
        default="AWS, when a region is set",
    ),
    Field(
        "s3_access_key",
        "ATLAS_S3_ACCESS_KEY",
        "the S3 access key",
        default="AWS credential chain",
    ),
    *_secret("s3_secret_key", "the S3 secret key"),
    Field("s3_region", "ATLAS_S3_REGION", "the name of an S3 region", default="us-east-1"),
    *_secret("encryption_passphrase", "the master passphrase"),
    Field(
        "ca_file",
        "ATLAS_CA_FILE",
        "a PEM file with the trusted certificate authorities",
        default="SSL_CERT_FILE, REQUESTS_CA_BUNDLE, then the system's",
    ),
    Field(
        "concurrency",
        "ATLAS_CONCURRENCY",
        "a whole number of mailboxes from 1 to 256",
        default="8",
        flag="--concurrency",
    ),
    Field(
        "processes",
        "ATLAS_PROCESSES",
        "a whole number of processes from 1 to 64",
        default="1",
        flag="--processes",
    ),
    Field(
        "page_size",
        "ATLAS_PAGE_SIZE",
        "a whole number of messages from 1 to 999",
        default="100",
        flag="--page-size",
    ),
    Field(
        "mime",
        "ATLAS_MIME",
        "true to store the original MIME of every message too (one request each), or false",
        default="false",
        flag="--mime",
        switch=True,
    ),
    Field(
        "byte_budget",
        "ATLAS_BYTE_BUDGET",
        "a size from 16MiB, such as 256MiB or 1GiB",
        default="256MiB",
    ),
    Field(
        "lock_wait",
        "ATLAS_LOCK_WAIT",
        "a time such as 90s, 10m or 2h; 0 for not waiting",
        default="0",
        flag="--lock-wait",
    ),
    Field("spool_dir", "ATLAS_SPOOL_DIR", "an existing directory", default="the system's"),
    Field(
        "object_metadata",
        "ATLAS_OBJECT_METADATA",
        "atlas, or none to keep Graph ids and plaintext hashes out of object metadata",
        default="atlas",
    ),
    Field(
        "dek_version",
        "ATLAS_DEK_VERSION",
        "1, or 0 for a bucket shared with Atlas from before April 2026",
        default="1",
    ),
)

BY_NAME: Final = {field.name: field for field in FIELDS}
BY_VARIABLE: Final = {field.variable: field for field in FIELDS} | {
    field.alias: field for field in FIELDS if field.alias
}

CA_FALLBACKS: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
"""Variables of other programs that name a CA file, best first; used where ours is not set."""


def _forms(name: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset({f"{name}{suffix}"}) for suffix in ("", "_file", "_command"))


ALTERNATIVES: Final[tuple[tuple[frozenset[str], ...], ...]] = (
    (*_forms("client_secret"), frozenset({"client_certificate"})),
    _forms("client_certificate_password"),
    (frozenset({"cloud"}), frozenset({"authority_url", "graph_url"})),
    _forms("s3_secret_key"),
    _forms("encryption_passphrase"),
)
"""Settings that exclude each other: at one level only one may be given; a later level's wins."""
