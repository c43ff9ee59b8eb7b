"""Entra ID: metadata of the tenant, and tokens for applications that prove who they are."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from atlas_async.clock import Clock
from atlas_async.emulator.assertions import AssertionRefused, check_assertion, claimed_client
from atlas_async.emulator.behaviour import Behaviour
from atlas_async.emulator.calls import Call, Reply
from atlas_async.emulator.tenant import Registration, Tenant
from atlas_async.emulator.tokens import TokenDesk

_JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_OFFICIAL: Final = "https://graph.microsoft.com"


class _Denied(Exception):
    """An error of the token endpoint: OAuth error, AADSTS code, text."""

    def __init__(self, status: int, error: str, code: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.error = error
        self.code = code
        self.text = text


class Entra:
    """The authority of one tenant.

    Args:
        tenant: The tenant and its applications.
        desk: Issues the tokens.
        behaviour: Holds the token lifetime.
        clock: Dates errors and checks assertions.
    """

    def __init__(self, tenant: Tenant, desk: TokenDesk, behaviour: Behaviour, clock: Clock) -> None:
        self._tenant = tenant
        self._desk = desk
        self._behaviour = behaviour
        self._clock = clock
        self.origin = ""

    async def answer(self, call: Call) -> Reply | None:
        """Answer a request to the authority, or return None when the path is not its own."""
        pieces = [unquote(piece) for piece in call.path.strip("/").split("/")]
        rest = "/".join(pieces[1:]).lower()
        try:
            if rest in {
                "v2.0/.well-known/openid-configuration",
                ".well-known/openid-configuration",
            }:
                return Reply.json(self._metadata(pieces[0]), headers=_PLAIN)
            if rest == "discovery/instance":
                return Reply.json(self._instances(call), headers=_PLAIN)
            if rest == "discovery/v2.0/keys":
                return Reply.json({"keys": [self._desk.jwk()]}, headers=_PLAIN)
            if rest == "oauth2/v2.0/token" and call.method == "POST":
                form = parse_qs((await call.read_body()).decode("utf-8", "replace"))
                values = {name: found[-1] for name, found in form.items()}
                return Reply.json(self._token(pieces[0], values), headers=_PLAIN)
        except _Denied as denied:
            body = self._error(denied, call)
            return Reply.json(body, status=denied.status, headers=_PLAIN)
        return None

    def _metadata(self, name: str) -> dict[str, Any]:
        self._check_tenant(name)
        base = f"{self.origin}/{self._tenant.id}"
        return {
            "token_endpoint": f"{self.origin}/{name}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": [
                "client_secret_post",
                "private_key_jwt",
                "client_secret_basic",
            ],
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{self.origin}/{name}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{self.origin}/{name}/oauth2/v2.0/devicecode",
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
            "msgraph_host": urlsplit(self.origin).netloc,
        }

    def _instances(self, call: Call) -> dict[str, Any]:
        host = urlsplit(self.origin).netloc
        endpoint = call.query.get("authorization_endpoint", "")
        named = urlsplit(endpoint).path.strip("/").split("/", 1)[0] or "common"
        return {
            "tenant_discovery_endpoint": (
                f"{self.origin}/{named}/v2.0/.well-known/openid-configuration"
            ),
            "api-version": "1.1",
            "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
        }

    def _token(self, name: str, form: dict[str, str]) -> dict[str, Any]:
        self._check_tenant(name)
        grant_type = form.get("grant_type")
        if grant_type != "client_credentials":
            raise _Denied(
                400,
                "unsupported_grant_type",
                70003,
                f"The app requested an unsupported grant type '{grant_type}'.",
            )
        client_id = form.get("client_id") or claimed_client(form.get("client_assertion", ""))
        app = self._tenant.apps.get(client_id.lower())
        if app is None:
            raise _Denied(
                400,
                "unauthorized_client",
                700016,
                f"Application with identifier '{client_id}' was not found in the directory "
                f"'{self._tenant.domain}'.",
            )
        if not app.enabled:
            raise _Denied(
                401, "unauthorized_client", 7000112, f"Application '{client_id}' is disabled."
            )
        self._prove(app, name, form)
        audience = self._audience(form.get("scope", ""))
        lifetime = self._behaviour.token_lifetime
        token = self._desk.issue(
            tenant=str(self._tenant.id),
            app_id=app.client_id,
            roles=app.roles,
            audience=audience,
            issuer=f"{self.origin}/{self._tenant.id}/",
            lifetime=lifetime,
        )
        return {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": token,
        }

    def _prove(self, app: Registration, name: str, form: dict[str, str]) -> None:
        if "client_assertion" in form:
            if form.get("client_assertion_type") != _JWT_BEARER:
                raise _Denied(400, "invalid_request", 50027, "The assertion type is unknown.")
            paths = [f"/{name}/oauth2/v2.0/token", f"/{self._tenant.id}/oauth2/v2.0/token"]
            paths += [f"/{name}/v2.0", f"/{self._tenant.id}/v2.0"]
            audiences = frozenset(
                f"{scheme}://{urlsplit(self.origin).netloc}{path}".lower()
                for path in paths
                for scheme in ("https", "http")
            )
            try:
                check_assertion(form["client_assertion"], app, audiences, self._clock.now())
            except AssertionRefused as refused:
                raise _Denied(401, "invalid_client", refused.code, refused.message) from refused
            return
        secret = form.get("client_secret")
        if secret is None:
            raise _Denied(
                401,
                "invalid_client",
                7000218,
                "The request body must contain the following parameter: "
                "'client_assertion' or 'client_secret'.",
            )
        self._check_secret(app, secret)

    def _check_secret(self, app: Registration, secret: str) -> None:
        for known in app.secrets:
            if known.value == secret:
                if known.expires is not None and known.expires <= self._clock.now():
                    raise _Denied(
                        401,
                        "invalid_client",
                        7000222,
                        f"The provided client secret keys for app '{app.client_id}' are expired.",
                    )
                return
        raise _Denied(
            401,
            "invalid_client",
            7000215,
            "Invalid client secret provided. Ensure the secret being sent in the request is the "
            "client secret value, not the client secret ID, for a secret added to app "
            f"'{app.client_id}'.",
        )

    def _audience(self, scope: str) -> str:
        if not scope.endswith("/.default"):
            raise _Denied(
                400,
                "invalid_scope",
                1002012,
                f"The provided value for scope {scope} is not valid. Client credential flows must "
                "have a scope value with /.default suffixed to the resource identifier.",
            )
        resource = scope.removesuffix("/.default").rstrip("/")
        known = {self.origin, _OFFICIAL, self.origin.replace("http://", "https://")}
        if resource not in known:
            raise _Denied(
                400,
                "invalid_resource",
                500011,
                f"The resource principal named {resource} was not found in the tenant named "
                f"{self._tenant.domain}.",
            )
        return resource

    def _check_tenant(self, name: str) -> None:
        if not self._tenant.answers_to(name):
            raise _Denied(
                400,
                "invalid_tenant",
                90002,
                f"Tenant '{name}' not found. Check to make sure you have the correct tenant ID "
                "and are signing into the correct cloud.",
            )

    def _error(self, denied: _Denied, call: Call) -> dict[str, Any]:
        correlation = call.headers.get("client-request-id") or str(uuid.uuid4())
        trace = call.request_id
        stamp = _stamp(self._clock.now())
        return {
            "error": denied.error,
            "error_description": (
                f"AADSTS{denied.code}: {denied.text} Trace ID: {trace} "
                f"Correlation ID: {correlation} Timestamp: {stamp}"
            ),
            "error_codes": [denied.code],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"{self.origin}/error?code={denied.code}",
        }


_PLAIN: Final = {"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store"}


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")
