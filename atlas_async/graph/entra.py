"""Entra ID's refusals, explained. Codes are those of Microsoft's AADSTS reference."""

from __future__ import annotations

import re
from typing import Any, Final

from atlas_async.errors import AuthError, ConsentError

_CODE: Final = re.compile(r"AADSTS(\d+)")
_SECOND_LINE: Final = re.compile(r"\s*(Trace ID|Correlation ID|Timestamp):.*", re.DOTALL)

PASSING_CODES: Final = frozenset({"90033", "90036", "50196"})
"""Entra asks to try again: temporarily unavailable, transient, a loop it detected."""

EXPLANATIONS: Final = {
    "700016": (
        "the tenant has no such application",
        "Check the client id and the tenant id; register the application in this tenant.",
    ),
    "90002": ("there is no such tenant", "Check the tenant id and the cloud."),
    "50020": ("the account belongs to another tenant", "Check the tenant id."),
    "7000215": (
        "the client secret is wrong",
        "Paste the secret's Value, not its Secret ID; create a new secret when the value is lost.",
    ),
    "7000222": (
        "the client secret has expired",
        (
            "Create a new client secret: Entra admin center, App registrations, Certificates & "
            "secrets. A certificate lasts longer."
        ),
    ),
    "700027": (
        "the certificate does not fit the application",
        "Upload the certificate of this private key to the application; mind its expiry.",
    ),
    "65001": (
        "no administrator has consented",
        "Grant admin consent to Mail.Read and User.Read.All (application permissions).",
    ),
    "7000112": (
        "the application is disabled",
        "Enable it: Entra admin center, Enterprise applications, Properties.",
    ),
    "700024": (
        "the signed assertion is outside its time window",
        "Set this machine's clock; it must agree with Microsoft's within five minutes.",
    ),
    "70021": ("no federated credential matches", "Check issuer and subject of the credential."),
    "700213": ("no federated credential matches", "Check issuer and subject of the credential."),
    "53003": (
        "a Conditional Access policy blocks it",
        "Exclude the workload identity from the policy, or run from an allowed location.",
    ),
    "500011": (
        "the tenant does not know this Microsoft Graph",
        "Check that the authority and the Graph URL belong to the same cloud.",
    ),
    "70011": ("the scope is not valid", "Check the Graph URL."),
}
"""Entra's codes that operators meet: what it means, and what to do."""


def is_passing(answer: dict[str, Any]) -> bool:
    """Tell whether a refusal may pass by itself."""
    code = _aadsts(str(answer.get("error_description", "")))
    return code in PASSING_CODES or answer.get("error") == "temporarily_unavailable"


def explain(answer: dict[str, Any], where: str) -> AuthError:
    """Return the error for a refusal of Entra ID, with what to do about it."""
    description = str(answer.get("error_description", ""))
    code = _aadsts(description)
    kind = ConsentError if code == "65001" else AuthError
    told = _SECOND_LINE.sub("", description) or str(answer.get("error", "no reason given"))
    meaning, hint = EXPLANATIONS.get(
        code, ("it refused the credential", "Look the code up in Microsoft's AADSTS reference.")
    )
    return kind(f"Entra ID gave no token: {meaning} [{told[:300]}]", hint=hint, where=where)


def _aadsts(description: str) -> str:
    found = _CODE.search(description)
    return found.group(1) if found else ""
