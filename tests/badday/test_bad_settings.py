"""Settings that are missing or malformed: all of them in one error, with 2."""

from __future__ import annotations

from pathlib import Path

from tests.badday.console import PASSPHRASE, Console


def test_a_configuration_file_with_a_syntax_error(console: Console, place: Path) -> None:
    """A file that is not JSON is named with line and column; its content is not repeated."""
    file = place / "atlas.config.json"
    file.write_text(f'{{"encryption_passphrase": "{PASSPHRASE}",\n "page_size": 5,,}}')
    for verb in ("backup", "list", "verify"):
        console.fails(2, verb, says=[f"{file} is not valid JSON: line 2, column 17"])
    ended = console.run("config", "show")
    assert ended.code == 2
    assert f"problem: {file} is not valid JSON" in ended.out
    file.unlink()
    console.assert_completes()


def test_a_configuration_file_of_another_kind(console: Console, place: Path) -> None:
    """A file that is absent, a list, not text, or has unknown names is refused with reasons."""
    file = place / "given.json"
    option = ("--config", str(file))
    console.fails(2, "backup", *option, says=[str(file), "cannot be read"])
    file.write_text("[]")
    console.fails(2, "backup", *option, says=["must hold one JSON object"])
    file.write_bytes(b"\xff\xfe{}")
    console.fails(2, "backup", *option, says=["is not UTF-8 text"])
    file.write_text('{"tennant_id": "x", "page_size": [1]}')
    ended = console.fails(2, "backup", *option, says=['did you mean "tenant_id"?', '"page_size"'])
    assert "2 settings need attention" in ended.err


def test_several_settings_are_missing_at_once(console: Console) -> None:
    """Every missing setting is listed by variable and field, with what it must be."""
    missing = ("ATLAS_TENANT_ID", "ATLAS_CLIENT_SECRET", "ATLAS_ENCRYPTION_PASSPHRASE")
    console.unset(*missing, "ATLAS_STORAGE_URL")
    ended = console.fails(2, "backup", says=[*missing, "ATLAS_S3_ENDPOINT"])
    assert "4 settings need attention" in ended.err
    assert all(f"  - {name} (" in ended.err for name in missing)
    document = console.run("backup", "--json").error()
    assert len(document["problems"]) == 4
    console.set(ATLAS_TENANT_ID="")
    console.fails(2, "backup", says=["ATLAS_TENANT_ID (tenant_id) is missing"])


def test_a_secret_that_cannot_be_had(console: Console, place: Path) -> None:
    """A secret's file that is absent, or a command that fails, is named; its output is not."""
    console.unset("ATLAS_ENCRYPTION_PASSPHRASE")
    console.set(ATLAS_ENCRYPTION_PASSPHRASE_FILE=str(place / "absent"))
    console.fails(2, "backup", says=["ATLAS_ENCRYPTION_PASSPHRASE_FILE", "cannot be read"])
    console.unset("ATLAS_ENCRYPTION_PASSPHRASE_FILE")
    console.set(ATLAS_ENCRYPTION_PASSPHRASE_COMMAND=f"sh -c 'echo {PASSPHRASE}; exit 3'")
    console.fails(2, "backup", says=["ended with exit code 3", "run it by hand"])
