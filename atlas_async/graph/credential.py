"""Turn the configured credential into the form msal takes. Blocking: call it in a worker thread."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from atlas_async.config.secret import Secret
from atlas_async.errors import AuthError

if TYPE_CHECKING:
    from atlas_async.config.settings import ClientCertificate

_KEY: Final = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL
)
_PUBLIC: Final = serialization.PublicFormat.SubjectPublicKeyInfo
_DER: Final = serialization.Encoding.DER
_PEM: Final = serialization.Encoding.PEM


def client_credential(credential: Secret | ClientCertificate) -> str | dict[str, Any]:
    """Return the secret, or key and certificate as msal's SHA-256 form wants them.

    Raises:
        AuthError: The file cannot be read, lacks the key or its certificate, or the password does
            not open it. The message holds nothing of the file's content.
    """
    if isinstance(credential, Secret):
        return credential.reveal()
    try:
        content = credential.path.read_bytes()
    except OSError as error:
        raise AuthError(
            f"The client certificate cannot be read: {error.strerror}",
            hint="Give the path of a PEM file with key and certificate, or of a PFX file.",
            where=str(credential.path),
        ) from error
    try:
        key, certificate = _open(content, credential.password)
    except (ValueError, TypeError):
        # The cause is dropped on purpose: parsers of key material may quote it.
        raise AuthError(
            "The client certificate cannot be opened: wrong password, or not a PEM or PFX file "
            "with a private key and the certificate that belongs to it",
            hint="Check the password, and that the file holds the key as well as the certificate.",
            where=str(credential.path),
        ) from None
    return {"private_key": key, "public_certificate": certificate}


def _open(content: bytes, password: Secret | None) -> tuple[str, str]:
    passphrase = password.reveal().encode() if password else None
    if b"-----BEGIN" in content:
        key, certificates = _open_pem(content, passphrase)
    else:
        key, leaf, further = pkcs12.load_key_and_certificates(content, passphrase)
        certificates = [certificate for certificate in (leaf, *further) if certificate]
    if key is None:
        raise ValueError("no private key")
    public = key.public_key().public_bytes(_DER, _PUBLIC)
    # Only the leaf is sent: some tenants refuse an assertion that carries the whole chain.
    for certificate in certificates:
        if certificate.public_key().public_bytes(_DER, _PUBLIC) == public:
            pem = key.private_bytes(
                _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            return pem.decode(), certificate.public_bytes(_PEM).decode()
    raise ValueError("no certificate belongs to the private key")


def _open_pem(content: bytes, passphrase: bytes | None) -> tuple[Any, list[x509.Certificate]]:
    block = _KEY.search(content)
    if block is None:
        raise ValueError("no private key")
    text = block.group(0)
    encrypted = b"ENCRYPTED" in text
    key = serialization.load_pem_private_key(text, passphrase if encrypted else None)
    return key, x509.load_pem_x509_certificates(content)
