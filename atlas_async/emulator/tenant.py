"""The emulated tenant's app registrations: secrets, certificates and granted permissions."""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

DEFAULT_ROLES: Final = (
    "Mail.Read",
    "Mail.ReadWrite",
    "MailboxSettings.Read",
    "User.Read.All",
)


@dataclass(slots=True)
class AppSecret:
    """A client secret and when it ends, or None for never."""

    value: str = field(repr=False)
    expires: datetime | None = None


@dataclass(slots=True)
class Registration:
    """One application: how it may prove itself, and what it may do.

    ``keys`` maps certificate thumbprints (base64url, SHA-1 and SHA-256) to public keys. ``roles``
    go into its tokens and hold for every mailbox. ``scoped`` are roles that Exchange grants for
    single mailboxes (role-based access control); tokens do not show them. ``mailboxes``, when it
    is not None, are the only ones it may reach (an application access policy). Both name
    mailboxes by user principal name in lower case.
    """

    client_id: str
    secrets: list[AppSecret] = field(default_factory=list)
    keys: dict[str, rsa.RSAPublicKey] = field(default_factory=dict)
    roles: tuple[str, ...] = DEFAULT_ROLES
    scoped: dict[str, frozenset[str]] = field(default_factory=dict)
    mailboxes: frozenset[str] | None = None
    enabled: bool = True

    def accept_certificate(self, pem: bytes) -> str:
        """Register a certificate and return its SHA-256 thumbprint in upper-case hex.

        Raises ``ValueError`` when it is no certificate, ``TypeError`` when its key is not RSA.
        """
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise TypeError("the certificate's key must be RSA")
        digest = certificate.fingerprint(hashes.SHA256())
        # Entra knows certificates by their SHA-1 thumbprint too, and older clients send only that.
        old = certificate.fingerprint(hashes.SHA1())  # noqa: S303 - the protocol names SHA-1
        for print_ in (digest, old):
            self.keys[base64.urlsafe_b64encode(print_).decode("ascii").rstrip("=")] = key
        return digest.hex().upper()


@dataclass(slots=True)
class Tenant:
    """The tenant as its administrator sees it.

    ``client_id`` and ``client_secret`` belong to the application that exists from the start.
    """

    id: uuid.UUID
    domain: str
    apps: dict[str, Registration] = field(default_factory=dict)
    client_id: str = ""
    client_secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Register the first application."""
        self.client_id = self.client_id or str(uuid.uuid5(self.id, "app:atlas"))
        if not self.client_secret:
            self.client_secret = "emulator~" + uuid.uuid5(self.id, "secret:atlas").hex
        self.register(self.client_id, self.client_secret)

    @property
    def app(self) -> Registration:
        """The application that exists from the start."""
        return self.apps[self.client_id]

    def register(self, client_id: str, secret: str) -> Registration:
        """Add an application with one secret and the usual permissions."""
        app = Registration(client_id, [AppSecret(secret)])
        self.apps[client_id] = app
        return app

    def accept_certificate(self, pem: bytes) -> str:
        """Let the first application sign in with this certificate; returns its thumbprint."""
        return self.app.accept_certificate(pem)

    def answers_to(self, name: str) -> bool:
        """Whether ``name`` (id or domain) is this tenant."""
        return name.lower() in {str(self.id), self.domain.lower()}
