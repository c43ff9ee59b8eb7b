"""Settings from files, .env, environment and flags: order, forms, and every complaint."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from atlas_async.config.secret import MASK, Secret
from atlas_async.config.settings import (
    MOST_PROCESSES,
    ClientCertificate,
    DirectorySettings,
    Limits,
    ObjectMetadata,
    S3Settings,
)
from atlas_async.config.sources import (
    Inspection,
    Loaded,
    environment_without_settings,
    inspect_settings,
    load_settings,
)
from atlas_async.errors import ConfigError

TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
SEED = {
    "ATLAS_TENANT_ID": TENANT,
    "ATLAS_CLIENT_ID": CLIENT,
    "ATLAS_CLIENT_SECRET": "s3cret~value",
    "ATLAS_S3_ENDPOINT": "http://localhost:9002",
    "ATLAS_S3_ACCESS_KEY": "access",
    "ATLAS_S3_SECRET_KEY": "s3-secret-key",
    "ATLAS_S3_REGION": "eu-central-1",
    "ATLAS_ENCRYPTION_PASSPHRASE": "correct horse battery staple",
}


class Place:
    """A working directory and a home in a temporary place."""

    def __init__(self, root: Path) -> None:
        self.cwd = root / "cwd"
        self.home = root / "home"
        self.cwd.mkdir()
        self.home.mkdir()

    def write(self, path: str, document: object) -> Path:
        target = (self.home if path.startswith("~") else self.cwd) / path.removeprefix("~/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(document if isinstance(document, str) else json.dumps(document))
        target.chmod(0o600)
        return target

    def load(self, environ: dict[str, str], **more: Any) -> Loaded:
        flags = more.pop("flags", {})
        return load_settings(cwd=self.cwd, home=self.home, environ=environ, flags=flags, **more)

    def inspect(self, environ: dict[str, str], **more: Any) -> Inspection:
        flags = more.pop("flags", {})
        return inspect_settings(cwd=self.cwd, home=self.home, environ=environ, flags=flags, **more)

    def problems(self, environ: dict[str, str], **more: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(environ, **more)
        return caught.value.problems


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Give each test its own directories."""
    return Place(tmp_path)


def source_of(loaded: Loaded | Inspection, field: str) -> str:
    """Return where a field came from."""
    return next(origin.source for origin in loaded.origins if origin.field == field)


def value_of(loaded: Loaded | Inspection, field: str) -> str | None:
    """Return a field's printable value."""
    return next(origin.value for origin in loaded.origins if origin.field == field)


def test_the_eight_variables(place: Place) -> None:
    """The seed's eight variables fill the settings they are named after."""
    settings = place.load(SEED).settings
    assert settings.tenant_id == TENANT
    assert settings.bucket == f"atlas-{TENANT}"
    assert settings.passphrase.reveal() == "correct horse battery staple"
    assert settings.graph is not None
    assert settings.graph.client_id == CLIENT
    assert settings.graph.credential == Secret("s3cret~value")
    assert settings.graph.graph_url == "https://graph.microsoft.com"
    assert settings.storage == S3Settings(
        "http://localhost:9002", "eu-central-1", "access", Secret("s3-secret-key")
    )
    assert settings.limits == Limits()


def test_the_same_eight_as_config_fields(place: Place) -> None:
    """A configuration file with the seed's field names gives the same settings."""
    place.write(
        "atlas.config.json", {name.removeprefix("ATLAS_").lower(): v for name, v in SEED.items()}
    )
    assert place.load({}).settings == place.load(SEED).settings


def test_later_levels_win_and_say_so(place: Place) -> None:
    """File, .env, environment and flags win over each other in that order."""
    path = place.write("atlas.config.json", {"concurrency": 2, "page_size": 20, "dek_version": 0})
    env_file = place.write(".env", "ATLAS_PAGE_SIZE=30\nATLAS_CONCURRENCY=3\nATLAS_S3_REGION=r1\n")
    loaded = place.load(
        SEED | {"ATLAS_CONCURRENCY": "4", "ATLAS_S3_REGION": "r2"}, flags={"concurrency": 5}
    )
    assert loaded.settings.limits.mailboxes == 5
    assert loaded.settings.limits.page_size == 30
    assert loaded.settings.dek_version == 0
    assert isinstance(loaded.settings.storage, S3Settings)
    assert loaded.settings.storage.region == "r2"
    assert source_of(loaded, "concurrency") == "command line (--concurrency)"
    assert source_of(loaded, "page_size") == f"{env_file} (ATLAS_PAGE_SIZE)"
    assert source_of(loaded, "dek_version") == str(path)
    assert source_of(loaded, "s3_region") == "environment (ATLAS_S3_REGION)"
    assert source_of(loaded, "byte_budget") == "default"


@pytest.mark.parametrize(
    "path",
    [
        "atlas.config.json",
        ".atlas/config.json",
        "~/.atlas/config.json",
        "~/.atlas/atlas.config.json",
        "~/atlas.config.json",
    ],
)
def test_every_place_of_the_file(place: Place, path: str) -> None:
    """The file is found in the working directory and in the home directory."""
    written = place.write(path, {"concurrency": 7})
    loaded = place.load(SEED)
    assert loaded.settings.limits.mailboxes == 7
    assert source_of(loaded, "concurrency") == str(written)


def test_working_directory_before_home(place: Place) -> None:
    """Of two files the working directory's is read, and the other one is mentioned."""
    place.write("~/.atlas/config.json", {"concurrency": 7, "page_size": 9})
    place.write(".atlas/config.json", {"concurrency": 6})
    loaded = place.load(SEED)
    assert (loaded.settings.limits.mailboxes, loaded.settings.limits.page_size) == (6, 100)
    assert any("is not read" in note for note in loaded.notes)


def test_chosen_file_replaces_the_search(place: Place) -> None:
    """A file named on the command line is the only one read; a missing one is a problem."""
    place.write("atlas.config.json", {"concurrency": 7})
    place.write("other.json", {"page_size": 9})
    loaded = place.load(SEED, config_file=Path("other.json"))
    assert (loaded.settings.limits.mailboxes, loaded.settings.limits.page_size) == (8, 9)
    assert "cannot be read" in place.problems(SEED, config_file=Path("absent.json"))[0]


def test_dotenv_is_literal_and_leaves_the_environment_alone(place: Place) -> None:
    """.env values are not interpolated and never enter the process's environment."""
    place.write(".env", "ATLAS_ENCRYPTION_PASSPHRASE='pa${HOME}ss'\nATLAS_MARK=1\n")
    environ = {k: v for k, v in SEED.items() if k != "ATLAS_ENCRYPTION_PASSPHRASE"}
    assert place.load(environ).settings.passphrase.reveal() == "pa${HOME}ss"
    assert "ATLAS_MARK" not in os.environ


def test_empty_counts_as_missing(place: Place) -> None:
    """An empty value neither sets anything nor hides a lower level's value."""
    place.write(".env", "ATLAS_CONCURRENCY=3\n")
    place.write("atlas.config.json", {"page_size": None, "spool_dir": ""})
    loaded = place.load(SEED | {"ATLAS_CONCURRENCY": ""})
    assert loaded.settings.limits.mailboxes == 3
    assert (
        "ATLAS_TENANT_ID (tenant_id) is missing"
        in place.problems(SEED | {"ATLAS_TENANT_ID": ""})[0]
    )


def test_everything_missing_is_listed_at_once(place: Place) -> None:
    """With nothing configured, one error names each required variable and field."""
    problems = place.problems({})
    for name in ("tenant_id", "client_id", "client_secret", "s3_endpoint", "encryption_passphrase"):
        assert any(f"ATLAS_{name.upper()} ({name}) is missing" in text for text in problems), name
    assert len(problems) == 5
    assert all("expected" in text for text in problems)


def test_missing_and_malformed_together(place: Place) -> None:
    """Problems of all levels and kinds appear in the same error."""
    place.write("atlas.config.json", {"page_size": 0, "colour": "red"})
    environ = dict(SEED, ATLAS_CONCURRENCY="many", ATLAS_BYTE_BUDGET="1KiB", ATLAS_CLOUD="mars")
    del environ["ATLAS_CLIENT_ID"]
    text = "\n".join(place.problems(environ))
    for part in ("page_size", '"colour"', "'many'", "'1KiB'", "'mars'", "ATLAS_CLIENT_ID"):
        assert part in text


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("ATLAS_TENANT_ID", "Contoso.com", "lower case (contoso.com)"),
        ("ATLAS_TENANT_ID", "con_toso.com", "hyphen and dot"),
        ("ATLAS_TENANT_ID", "a..b", "hyphen and dot"),
        ("ATLAS_TENANT_ID", "-a.b", "hyphen and dot"),
        ("ATLAS_TENANT_ID", "a-.b", "hyphen and dot"),
        ("ATLAS_TENANT_ID", "../../etc", "hyphen and dot"),
        ("ATLAS_TENANT_ID", "a." + "b" * 60, "at most 57"),
        ("ATLAS_TENANT_ID", "common", "one particular tenant"),
        ("ATLAS_TENANT_ID", "contoso", "neither a GUID nor a domain"),
        ("ATLAS_CLIENT_ID", "my app", "GUID"),
        ("ATLAS_S3_ENDPOINT", "localhost:9000", "http://"),
        ("ATLAS_S3_ENDPOINT", "http://", "http://"),
        ("ATLAS_S3_ENDPOINT", "http://[::1", "not a URL"),
        ("ATLAS_S3_ENDPOINT", "http://host:99999", "not a URL"),
        ("ATLAS_S3_ENDPOINT", "http://host/?a=b", "only scheme"),
        ("ATLAS_S3_REGION", "eu central", "region"),
        ("ATLAS_STORAGE_URL", "ftp://host/x", "file:///"),
        ("ATLAS_STORAGE_URL", "file://relative", "file:///"),
        ("ATLAS_CA_FILE", "/nowhere/ca.pem", "cannot be read"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "cannot be read"),
        ("ATLAS_SPOOL_DIR", "/nowhere", "not a directory"),
        ("ATLAS_DEK_VERSION", "2", "1, or 0"),
        ("ATLAS_OBJECT_METADATA", "some", "atlas, or none"),
        ("ATLAS_CONCURRENCY", "0", "1 to 256"),
        ("ATLAS_CONCURRENCY", "-1", "1 to 256"),
        ("ATLAS_PAGE_SIZE", "1000", "1 to 999"),
        ("ATLAS_PAGE_SIZE", "٣", "1 to 999"),
        ("ATLAS_BYTE_BUDGET", "12 parsecs", "256MiB"),
    ],
)
def test_malformed_values(place: Place, variable: str, value: str, part: str) -> None:
    """A malformed value names its variable, what it holds, and what is expected."""
    problems = place.problems(SEED | {variable: value})
    assert len(problems) == 1, problems
    assert variable in problems[0]
    assert part in problems[0]


def test_credentials_in_an_url_are_refused_and_not_shown(place: Place) -> None:
    """A password inside the endpoint URL is refused without being repeated."""
    environ = SEED | {"ATLAS_S3_ENDPOINT": "http://me:hunter2@host:9000"}
    seen = place.inspect(environ)
    assert "credentials do not belong" in seen.problems[0]
    assert "hunter2" not in repr(seen)


@pytest.mark.parametrize(
    ("text", "size"),
    [("256MiB", 256 << 20), ("1GiB", 1 << 30), ("64 mb", 64_000_000), ("16777216", 16 << 20)],
)
def test_byte_budget(place: Place, text: str, size: int) -> None:
    """Sizes take binary and decimal units."""
    loaded = place.load(SEED | {"ATLAS_BYTE_BUDGET": text})
    assert loaded.settings.limits.byte_budget == size


def test_unknown_field_gets_a_suggestion(place: Place) -> None:
    """A misspelt field of the file is a problem that names the field meant."""
    place.write("atlas.config.json", {"encryption_pasphrase": "x"})
    assert 'did you mean "encryption_passphrase"?' in place.problems(SEED)[0]


def test_misspelt_variable_is_mentioned_where_one_is_missing(place: Place) -> None:
    """A missing variable's complaint points at a similar name that is set."""
    environ = dict(SEED, ATLAS_TENNANT_ID=TENANT)
    del environ["ATLAS_TENANT_ID"]
    assert "ATLAS_TENNANT_ID is set" in place.problems(environ)[0]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"a": 1,\n "b" 2}', "line 2, column 6"),
        ("[]", "one JSON object"),
        ('{"page_size": 5, "page_size": 6}', '"page_size" appears twice'),
        ('{"page_size": true}', "of type bool"),
        ('{"page_size": [1]}', "of type list"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_broken_files(place: Place, text: str, part: str) -> None:
    """A file that is not the JSON asked for is explained by place and reason."""
    path = place.write("atlas.config.json", text)
    problems = place.problems(SEED)
    assert len(problems) == 1
    assert part in problems[0]
    assert str(path) in problems[0]


def test_unreadable_levels_do_not_cause_missing_complaints(place: Place) -> None:
    """What a broken file may have held is not complained of as missing."""
    place.write("atlas.config.json", "{")
    assert len(place.problems({})) == 1
    (place.cwd / "atlas.config.json").write_bytes(b"\xff\xfe{")
    assert "not UTF-8" in place.problems({})[0]
    (place.cwd / "atlas.config.json").unlink()
    (place.cwd / ".env").write_bytes(b"ATLAS_X=\xff")
    assert "not UTF-8" in place.problems({})[0]


def test_a_byte_order_mark_is_no_problem(place: Place) -> None:
    """Files saved by Windows editors are read."""
    (place.cwd / "atlas.config.json").write_bytes(b'\xef\xbb\xbf{"page_size": 5}')
    (place.cwd / ".env").write_bytes(b"\xef\xbb\xbfATLAS_CONCURRENCY=3\r\n")
    limits = place.load(SEED).settings.limits
    assert (limits.page_size, limits.mailboxes) == (5, 3)


def test_a_broken_line_of_dotenv_is_named(place: Place) -> None:
    """A .env line that concerns us and cannot be read is a problem; others' lines are not."""
    place.write(".env", "ATLAS_PAGE_SIZE='30\nOTHER 'x\n")
    problems = place.problems(SEED)
    assert "line 1" in problems[0]
    place.write(".env", "OTHER 'x\n")
    place.load(SEED)


def test_secret_from_a_file(place: Place) -> None:
    """A secret's file may end in one line break; it is read relative to where it was named."""
    place.write("pass.txt", "multi\nline \n")
    place.write("~/.atlas/config.json", {"client_secret_file": "~/app-secret"})
    place.write("~/app-secret", "abc\r\n")
    environ = dict(SEED, ATLAS_ENCRYPTION_PASSPHRASE_FILE="pass.txt")
    del environ["ATLAS_ENCRYPTION_PASSPHRASE"], environ["ATLAS_CLIENT_SECRET"]
    settings = place.load(environ).settings
    assert settings.passphrase.reveal() == "multi\nline "
    assert settings.graph is not None
    assert settings.graph.credential == Secret("abc")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff", "not UTF-8"),
        (b"x" * 70_000, "longer than"),
    ],
)
def test_secret_files_that_cannot_serve(place: Place, content: bytes | None, part: str) -> None:
    """A secret file that is absent, empty, huge or binary is explained."""
    if content is not None:
        (place.cwd / "f").write_bytes(content)
    environ = dict(SEED, ATLAS_S3_SECRET_KEY_FILE="f")
    del environ["ATLAS_S3_SECRET_KEY"]
    problems = place.problems(environ)
    assert len(problems) == 1
    assert "ATLAS_S3_SECRET_KEY_FILE (s3_secret_key_file) from environment" in problems[0]
    assert part in problems[0]


def command(code: str) -> str:
    """Return a command line that runs Python code."""
    return f'"{sys.executable}" -c "{code}"'


def test_secret_from_a_command(place: Place) -> None:
    """The first line a command prints is the secret; no shell takes part."""
    environ = dict(SEED, ATLAS_CLIENT_SECRET_COMMAND=command("print('$HOME;x'); print('more')"))
    del environ["ATLAS_CLIENT_SECRET"]
    loaded = place.load(environ)
    assert loaded.settings.graph is not None
    assert loaded.settings.graph.credential == Secret("$HOME;x")
    assert value_of(loaded, "client_secret_command") == MASK


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (command("import sys; print('leak'); sys.exit(3)"), "exit code 3"),
        (command("import os; os.kill(os.getpid(), 9)"), "signal 9"),
        (command("pass"), "prints nothing"),
        (command(r"import os; os.write(1, bytes([255]))"), "not UTF-8"),
        (command("print('leak' * 30000)"), "prints more than"),
        ("/nowhere/pass show atlas", "cannot be started: No such file"),
        ("pass 'unclosed", "unclosed quote"),
        ("  ", "is blank"),
    ],
)
def test_commands_that_fail(place: Place, text: str, part: str) -> None:
    """A failing command is explained, and its output is never repeated."""
    environ = dict(SEED, ATLAS_ENCRYPTION_PASSPHRASE_COMMAND=text)
    del environ["ATLAS_ENCRYPTION_PASSPHRASE"]
    problems = place.problems(environ)
    assert len(problems) == 1
    assert part in problems[0]
    assert "leak" not in problems[0].replace("print('leak", "")


def test_a_command_that_hangs_is_ended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that does not answer in time is killed and explained."""
    monkeypatch.setattr("atlas_async.config.secret_text.COMMAND_SECONDS", 0.05)
    environ = dict(SEED, ATLAS_ENCRYPTION_PASSPHRASE_COMMAND=command("import time; time.sleep(60)"))
    del environ["ATLAS_ENCRYPTION_PASSPHRASE"]
    assert "took longer than" in place.problems(environ)[0]


def test_two_forms_of_one_secret_at_one_level(place: Place) -> None:
    """A value beside a _FILE at the same level is refused, naming both."""
    problems = place.problems(SEED | {"ATLAS_ENCRYPTION_PASSPHRASE_FILE": "f"})
    assert "ATLAS_ENCRYPTION_PASSPHRASE and ATLAS_ENCRYPTION_PASSPHRASE_FILE" in problems[0]
    assert "keep one" in problems[0]


def test_a_later_level_replaces_the_form(place: Place) -> None:
    """A secret in the environment replaces a file named in the configuration."""
    place.write("atlas.config.json", {"encryption_passphrase_file": "/nowhere"})
    loaded = place.load(SEED)
    assert loaded.settings.passphrase == Secret("correct horse battery staple")
    assert source_of(loaded, "encryption_passphrase_file") == "not set"


def test_certificate_instead_of_secret(place: Place) -> None:
    """A certificate with its password takes the secret's place; both at once are refused."""
    pem = place.write("app.pem", "pem")
    environ = dict(
        SEED, ATLAS_CLIENT_CERTIFICATE_PATH="app.pem", ATLAS_CLIENT_CERTIFICATE_PASSWORD="pw"
    )
    problems = place.problems(environ)
    assert "ATLAS_CLIENT_SECRET and ATLAS_CLIENT_CERTIFICATE_PATH" in problems[0]
    del environ["ATLAS_CLIENT_SECRET"]
    graph = place.load(environ).settings.graph
    assert graph is not None
    assert graph.credential == ClientCertificate(pem, Secret("pw"))


def test_alias_and_variable_may_agree_but_not_differ(place: Place) -> None:
    """Two names of one setting with different values are a problem."""
    place.write("a.pem", "pem")
    environ = {k: v for k, v in SEED.items() if k != "ATLAS_CLIENT_SECRET"}
    both = environ | {
        "ATLAS_CLIENT_CERTIFICATE": "a.pem",
        "ATLAS_CLIENT_CERTIFICATE_PATH": "a.pem",
    }
    place.load(both)
    assert "differ" in place.problems(both | {"ATLAS_CLIENT_CERTIFICATE_PATH": "b.pem"})[0]


@pytest.mark.parametrize(
    ("cloud", "graph_url"),
    [
        ("global", "https://graph.microsoft.com"),
        ("gcc-high", "https://graph.microsoft.us"),
        ("dod", "https://dod-graph.microsoft.us"),
        ("china", "https://microsoftgraph.chinacloudapi.cn"),
    ],
)
def test_clouds(place: Place, cloud: str, graph_url: str) -> None:
    """Each national cloud has its own Graph root."""
    graph = place.load(SEED | {"ATLAS_CLOUD": cloud}).settings.graph
    assert graph is not None
    assert graph.graph_url == graph_url


def test_own_authority_and_graph(place: Place) -> None:
    """Both URLs together replace the cloud, and ids need not be Microsoft's there."""
    urls = {"ATLAS_AUTHORITY_URL": "https://localhost:1/", "ATLAS_GRAPH_URL": "https://localhost:1"}
    graph = place.load(SEED | urls | {"ATLAS_TENANT_ID": "demo"}).settings.graph
    assert graph is not None
    assert (graph.authority_url, graph.graph_url) == ("https://localhost:1", "https://localhost:1")
    del urls["ATLAS_GRAPH_URL"]
    assert "ATLAS_GRAPH_URL (graph_url) is missing" in place.problems(SEED | urls)[0]
    assert "exclude each other" in place.problems(SEED | urls | {"ATLAS_CLOUD": "dod"})[0]


def test_directory_store(place: Place, tmp_path: Path) -> None:
    """A file URL selects the directory store and needs no S3 settings."""
    environ = {k: v for k, v in SEED.items() if "_S3_" not in k}
    url = (tmp_path / "with space").as_uri()
    settings = place.load(environ | {"ATLAS_STORAGE_URL": url}).settings
    assert settings.storage == DirectorySettings(tmp_path / "with space")


def test_storage_url_can_return_to_s3(place: Place, tmp_path: Path) -> None:
    """The word s3 in a later level overrules a directory in an earlier one."""
    place.write("atlas.config.json", {"storage_url": tmp_path.as_uri()})
    assert isinstance(place.load(SEED).settings.storage, DirectorySettings)
    settings = place.load(SEED | {"ATLAS_STORAGE_URL": "s3"}).settings
    assert isinstance(settings.storage, S3Settings)


def test_aws_itself_with_its_credential_chain(place: Place) -> None:
    """A region alone means AWS, and no keys mean AWS's default credential chain."""
    environ = {k: v for k, v in SEED.items() if "_S3_" not in k}
    settings = place.load(environ | {"ATLAS_S3_REGION": "eu-west-1"}).settings
    assert settings.storage == S3Settings(None, "eu-west-1")


@pytest.mark.parametrize("half", ["ATLAS_S3_ACCESS_KEY", "ATLAS_S3_SECRET_KEY"])
def test_half_a_key_pair(place: Place, half: str) -> None:
    """One S3 key without the other is a problem that names the missing one."""
    environ = {k: v for k, v in SEED.items() if k != half}
    problems = place.problems(environ)
    assert problems[0].startswith(half)


@pytest.mark.parametrize(
    ("given", "winner"),
    [
        (("ATLAS_CA_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), "ATLAS_CA_FILE"),
        (("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), "SSL_CERT_FILE"),
        (("REQUESTS_CA_BUNDLE",), "REQUESTS_CA_BUNDLE"),
    ],
)
def test_ca_file_applies_to_graph_and_s3(place: Place, given: tuple[str, ...], winner: str) -> None:
    """The best of the three CA variables is used for Entra, Graph and S3."""
    paths = {name: str(place.write(name, "pem")) for name in given}
    settings = place.load(SEED | paths).settings
    assert settings.graph is not None
    assert isinstance(settings.storage, S3Settings)
    assert settings.graph.ca_file == settings.storage.ca_file == Path(paths[winner])


def test_our_ca_file_beats_others_variables_from_any_level(place: Place) -> None:
    """A ca_file in the configuration wins over SSL_CERT_FILE in the environment."""
    ours = place.write("ours.pem", "pem")
    place.write("atlas.config.json", {"ca_file": "ours.pem"})
    graph = place.load(SEED | {"SSL_CERT_FILE": "/nowhere"}).settings.graph
    assert graph is not None
    assert graph.ca_file == ours


def test_without_graph_nothing_of_it_is_needed(place: Place) -> None:
    """Reading a bucket needs neither credential nor Graph, nor runs the secret's command."""
    marker = place.cwd / "ran"
    environ = {k: v for k, v in SEED.items() if "CLIENT" not in k}
    environ |= {
        "ATLAS_CLIENT_SECRET_COMMAND": command(f"open('{marker}', 'w')"),
        "ATLAS_CLIENT_SECRET_FILE": "f",
    }
    assert place.load(environ, need_graph=False).settings.graph is None
    assert not marker.exists()


def test_secrets_are_masked_everywhere(place: Place) -> None:
    """Neither origins nor settings nor problems show a secret."""
    environ = SEED | {"ATLAS_S3_ACCESS_KEY": "AKIAEXAMPLE0", "ATLAS_PAGE_SIZE": "x"}
    seen = place.inspect(environ)
    shown = repr(seen) + repr(place.load(SEED))
    for name in ("ATLAS_CLIENT_SECRET", "ATLAS_S3_SECRET_KEY", "ATLAS_ENCRYPTION_PASSPHRASE"):
        assert SEED[name] not in shown
        assert value_of(seen, name.removeprefix("ATLAS_").lower()) == MASK
    assert value_of(seen, "s3_access_key") == f"AKIA{MASK}"


def test_a_readable_file_with_secrets_is_noted(place: Place) -> None:
    """A configuration file with secrets that others can read is remarked upon."""
    path = place.write("atlas.config.json", {"encryption_passphrase": "x"})
    assert not place.load(SEED).notes
    path.chmod(stat.S_IRUSR | stat.S_IROTH)
    assert "chmod 600" in place.load(SEED).notes[0]


def test_processes_from_every_level(place: Place) -> None:
    """The number of processes is one unless the file, the environment or the flag says more."""
    assert place.load(SEED).settings.limits.processes == 1
    place.write("atlas.config.json", {"processes": 2})
    assert place.load(SEED).settings.limits.processes == 2
    assert place.load(SEED | {"ATLAS_PROCESSES": "3"}).settings.limits.processes == 3
    loaded = place.load(SEED | {"ATLAS_PROCESSES": "3"}, flags={"processes": "64"})
    assert loaded.settings.limits.processes == MOST_PROCESSES == 64
    assert source_of(loaded, "processes") == "command line (--processes)"


@pytest.mark.parametrize("value", ["0", "-1", "x", "65", "1.5", "two"])
def test_a_wrong_number_of_processes_is_explained(place: Place, value: str) -> None:
    """Anything but a whole number from 1 to 64 is refused with what is expected."""
    with pytest.raises(ConfigError, match="from 1 to 64"):
        place.load(SEED | {"ATLAS_PROCESSES": value})


def test_a_child_is_not_handed_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment for worker processes lacks every setting and keeps what is not ours."""
    monkeypatch.setenv("ATLAS_CLIENT_SECRET", "s3cret")
    monkeypatch.setenv("AWS_PROFILE", "backup")
    given = environment_without_settings()
    assert given["AWS_PROFILE"] == "backup"
    assert not [name for name in given if name.startswith("ATLAS_")]


@pytest.mark.parametrize(
    ("text", "choice"),
    [("", ObjectMetadata.ATLAS), ("atlas", ObjectMetadata.ATLAS), ("None", ObjectMetadata.NONE)],
)
def test_object_metadata_are_atlas_unless_switched_off(
    text: str, choice: ObjectMetadata, place: Place
) -> None:
    """Written as Atlas does by default; the word counts in any case."""
    loaded = place.load({**SEED, "ATLAS_OBJECT_METADATA": text})
    assert loaded.settings.object_metadata is choice


@pytest.mark.parametrize(
    ("text", "chosen"),
    [("", False), ("true", True), ("True", True), ("1", True), ("false", False), ("0", False)],
)
def test_originals_are_stored_where_the_setting_is_on(
    text: str, chosen: bool, place: Place
) -> None:
    """One word in any case."""
    assert place.load({**SEED, "ATLAS_MIME": text}).settings.mime is chosen


@pytest.mark.parametrize(("flag", "chosen"), [(None, True), (True, True), (False, False)])
def test_a_switch_in_the_file_is_json_and_the_option_comes_first(
    flag: bool | None, chosen: bool, place: Place
) -> None:
    """JSON has words of its own for on and off, and they are taken for switches only."""
    place.write("atlas.config.json", {"mime": True})
    assert place.load(SEED, flags={"mime": flag}).settings.mime is chosen


def test_a_switch_that_is_neither_on_nor_off_is_told(place: Place) -> None:
    """With what it may be."""
    with pytest.raises(ConfigError) as caught:
        place.load({**SEED, "ATLAS_MIME": "yes please"})
    (problem,) = caught.value.problems
    assert "ATLAS_MIME" in problem
    assert "true to store" in problem
    place.write("atlas.config.json", {"page_size": True})
    with pytest.raises(ConfigError, match="of type bool"):
        place.load(SEED)
