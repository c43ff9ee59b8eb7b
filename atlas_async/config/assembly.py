"""From merged texts to ``Settings``: every value is judged, and every problem is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from atlas_async.config import checks
from atlas_async.config.checks import Malformed
from atlas_async.config.fields import BY_NAME, BY_VARIABLE, FIELDS, Field
from atlas_async.config.layers import Given, Problem, nearest
from atlas_async.config.secret import MASK, Secret
from atlas_async.config.secret_text import SecretUnavailable, read_secret_file, run_secret_command
from atlas_async.config.settings import (
    CLOUD_URLS,
    MOST_PROCESSES,
    ClientCertificate,
    Cloud,
    DirectorySettings,
    GraphSettings,
    Limits,
    ObjectMetadata,
    S3Settings,
    Settings,
)

T = TypeVar("T")

SHOWN_OF_KEY: Final = 4
"""Characters of an S3 access key that are shown; it is an identifier, yet half of a pair."""
LONGEST_ECHO: Final = 80
"""Characters of a malformed value that an error repeats."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one setting came from. ``value`` is safe to print: secrets are a mask."""

    field: str
    variable: str
    value: str | None
    source: str
    secret: bool


class Assembly:
    """One pass over merged values. ``build`` once, then read ``problems`` and ``origins``.

    Args:
        given: The merged values, by field name.
        home: What ``~`` means.
        cwd: Where secret commands run.
        environ: What secret commands see, and where misspelt names are looked for.
        need_graph: Whether the Graph settings are wanted.
        complete: Whether every level could be read; if not, missing values are not complained of.
    """

    def __init__(
        self,
        given: Mapping[str, Given],
        *,
        home: Path,
        cwd: Path,
        environ: Mapping[str, str],
        need_graph: bool,
        complete: bool,
    ) -> None:
        self._given = given
        self._home = home
        self._cwd = cwd
        self._environ = environ
        self._need_graph = need_graph
        self._complete = complete
        self.problems: list[Problem] = []

    def build(self) -> Settings | None:
        """Return the settings, or None when any of them is missing or malformed."""
        microsoft = self._need_graph and "authority_url" not in self._given
        tenant = self._required(
            "tenant_id", lambda text: checks.tenant_id(text, microsoft=microsoft)
        )
        graph = self._graph(tenant, microsoft=microsoft) if self._need_graph else None
        storage = self._storage()
        passphrase = self._secret("encryption_passphrase")
        if passphrase is None:
            self._missing("encryption_passphrase")
        limits = self._limits()
        dek_version = self._checked("dek_version", lambda text: checks.whole_number(text, 0, 1))
        spool = self._located("spool_dir", checks.directory_path)
        metadata = self._checked("object_metadata", _object_metadata)
        mime = self._checked("mime", checks.switch)
        if tenant is None or storage is None or passphrase is None or self.problems:
            return None
        return Settings(
            graph=graph,
            storage=storage,
            tenant_id=tenant,
            passphrase=passphrase,
            limits=limits,
            dek_version=1 if dek_version is None else dek_version,
            spool_directory=spool,
            object_metadata=metadata or ObjectMetadata.ATLAS,
            mime=bool(mime),
        )

    def build_target(self) -> GraphSettings | None:
        """Return how to reach a tenant, or None when any of it is missing or malformed.

        Settings that a tenant to restore to has no use for are a problem: they would be ignored.
        """
        for name in self._given:
            if name != "tenant_id" and not BY_NAME[name].graph and name != "ca_file":
                text = f'"{name}" is no matter of a tenant to restore to'
                self.problems.append(Problem(text))
        microsoft = "authority_url" not in self._given
        tenant = self._required(
            "tenant_id", lambda text: checks.tenant_id(text, microsoft=microsoft)
        )
        graph = self._graph(tenant, microsoft=microsoft)
        return None if self.problems else graph

    def origins(self) -> tuple[Origin, ...]:
        """Return one line per setting, in the order of the documentation."""
        return tuple(self._origin(field) for field in FIELDS)

    def _origin(self, field: Field) -> Origin:
        given = self._given.get(field.name)
        if given is None:
            default = field.default or None
            source = "default" if default else "not set"
            return Origin(field.name, field.variable, default, source, field.secret)
        value = given.text
        if field.secret:
            value = MASK
        elif field.name == "s3_access_key":
            value = given.text[:SHOWN_OF_KEY] + MASK if len(given.text) > 2 * SHOWN_OF_KEY else MASK
        elif "@" in value and "://" in value:
            value = MASK  # a URL with credentials in it, which is refused, but not printed either
        source = given.source
        if given.name not in {f'"{field.name}"', source}:
            source = f"{source} ({given.name})"
        return Origin(field.name, field.variable, value, source, field.secret)

    def _graph(self, tenant: str | None, *, microsoft: bool) -> GraphSettings | None:
        client = self._required(
            "client_id", lambda text: checks.client_id(text, microsoft=microsoft)
        )
        credential = self._credential()
        urls = self._urls()
        ca_file = self._located("ca_file", checks.file_path)
        if tenant is None or client is None or credential is None or urls is None:
            return None
        return GraphSettings(
            tenant_id=tenant,
            client_id=client,
            credential=credential,
            authority_url=urls[0],
            graph_url=urls[1],
            ca_file=ca_file,
        )

    def _credential(self) -> Secret | ClientCertificate | None:
        if "client_certificate" in self._given:
            path = self._located("client_certificate", checks.file_path)
            password = self._secret("client_certificate_password")
            return None if path is None else ClientCertificate(path, password)
        secret = self._secret("client_secret")
        if secret is None:
            self._missing("client_secret", "; or set ATLAS_CLIENT_CERTIFICATE instead")
        return secret

    def _urls(self) -> tuple[str, str] | None:
        names = ("authority_url", "graph_url")
        absent = [name for name in names if name not in self._given]
        if len(absent) == len(names):
            cloud = self._checked("cloud", _cloud)
            return CLOUD_URLS[cloud or Cloud.GLOBAL]
        for name in absent:
            self._missing(name, "; both URLs are given, or neither")
        authority = self._checked("authority_url", checks.web_url)
        graph = self._checked("graph_url", checks.web_url)
        return None if authority is None or graph is None else (authority, graph)

    def _storage(self) -> S3Settings | DirectorySettings | None:
        url = self._given.get("storage_url")
        if url is not None and url.text.rstrip(":/").lower() != "s3":
            path = self._checked("storage_url", checks.directory_url)
            return None if path is None else DirectorySettings(path)
        endpoint = self._checked("s3_endpoint", checks.web_url)
        region = self._checked("s3_region", checks.region)
        if "s3_endpoint" not in self._given and "s3_region" not in self._given:
            self._missing(
                "s3_endpoint",
                "; for AWS itself set ATLAS_S3_REGION instead, for a directory ATLAS_STORAGE_URL",
            )
        access_key = self._given.get("s3_access_key")
        if access_key is not None and not self._is_text("s3_access_key", access_key):
            return None
        secret_key = self._secret("s3_secret_key")
        if access_key is None and secret_key is not None:
            self._missing("s3_access_key", "; the secret key is set and goes with it")
        if access_key is not None and secret_key is None:
            self._missing("s3_secret_key", "; the access key is set and goes with it")
        return S3Settings(
            endpoint=endpoint,
            region=region or "us-east-1",
            access_key=access_key.text if access_key else None,
            secret_key=secret_key,
            ca_file=self._located("ca_file", checks.file_path),
        )

    def _limits(self) -> Limits:
        preset = Limits()
        mailboxes = self._checked("concurrency", lambda text: checks.whole_number(text, 1, 256))
        processes = self._checked(
            "processes", lambda text: checks.whole_number(text, 1, MOST_PROCESSES)
        )
        page_size = self._checked("page_size", lambda text: checks.whole_number(text, 1, 999))
        budget = self._checked("byte_budget", checks.byte_size)
        lock_wait = self._checked("lock_wait", checks.duration)
        return Limits(
            mailboxes=mailboxes or preset.mailboxes,
            processes=processes or preset.processes,
            page_size=page_size or preset.page_size,
            byte_budget=budget or preset.byte_budget,
            lock_wait=lock_wait or preset.lock_wait,
        )

    def _secret(self, name: str) -> Secret | None:
        """Return the secret in whichever form it was given; None when absent or unavailable."""
        direct = self._given.get(name)
        if direct is not None:
            return Secret(direct.text) if self._is_text(name, direct) else None
        for form in (f"{name}_file", f"{name}_command"):
            given = self._given.get(form)
            if given is not None:
                return self._fetched(form, given)
        return None

    def _is_text(self, name: str, given: Given) -> bool:
        """Note a problem where bytes that are no text were given; they are not repeated."""
        if checks.is_text(given.text):
            return True
        text = f"{_called(name, given)} is not UTF-8 text: expected {BY_NAME[name].expected}"
        self.problems.append(Problem(text, BY_NAME[name].graph))
        return False

    def _fetched(self, name: str, given: Given) -> Secret | None:
        try:
            if name.endswith("_command"):
                run = run_secret_command(given.text, environ=self._environ, cwd=self._cwd)
                return Secret(run)
            return Secret(read_secret_file(checks.rooted(given.text, given.base, self._home)))
        except (SecretUnavailable, Malformed) as error:
            text = f"{_called(name, given)} {error}"
            self.problems.append(Problem(text, BY_NAME[name].graph))
            return None

    def _required(self, name: str, check: Callable[[str], T]) -> T | None:
        if name not in self._given:
            self._missing(name)
        return self._checked(name, check)

    def _located(self, name: str, check: Callable[[str, Path, Path], Path]) -> Path | None:
        given = self._given.get(name)
        if given is None:
            return None
        return self._checked(name, lambda text: check(text, given.base, self._home))

    def _checked(self, name: str, check: Callable[[str], T]) -> T | None:
        given = self._given.get(name)
        if given is None:
            return None
        try:
            return check(given.text)
        except Malformed as error:
            field = BY_NAME[name]
            detail = f" ({error})" if str(error) else ""
            text = f"{_called(name, given)} is {_echo(given.text)}: expected {field.expected}"
            self.problems.append(Problem(text + detail, field.graph))
            return None

    def _missing(self, name: str, advice: str = "") -> None:
        forms = (name, f"{name}_file", f"{name}_command")
        if not self._complete or any(form in self._given for form in forms):
            return
        field = BY_NAME[name]
        text = f"{field.title} is missing: expected {field.expected}{advice}"
        misspelt = nearest(field.variable, self._strangers())
        if misspelt:
            text += f" ({misspelt} is set: is that name misspelt?)"
        self.problems.append(Problem(text, field.graph))

    def _strangers(self) -> list[str]:
        return sorted(
            name
            for name in self._environ
            if name.upper().startswith("ATLAS_") and name not in BY_VARIABLE
        )


def _cloud(text: str) -> Cloud:
    try:
        return Cloud(text.lower())
    except ValueError as error:
        raise Malformed("") from error


def _object_metadata(text: str) -> ObjectMetadata:
    try:
        return ObjectMetadata(text.lower())
    except ValueError as error:
        raise Malformed("") from error


def _called(name: str, given: Given) -> str:
    """Name a value as its author did, with the level and the other name beside it."""
    field = BY_NAME[name]
    other = field.name if given.name.startswith("ATLAS_") else field.variable
    return f"{given.name} ({other}) from {given.source}"


def _echo(text: str) -> str:
    if "@" in text and "://" in text:
        return MASK
    return repr(text if len(text) <= LONGEST_ECHO else text[:LONGEST_ECHO] + "...")
