"""The documentation cannot rot: every command, option, exit code, setting and package is in it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from atlas_async.cli import exits
from atlas_async.cli.app import app
from atlas_async.cli.verbs import VERBS, DeferredCommand
from atlas_async.config.fields import CA_FALLBACKS, FIELDS

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    """Return a documentation page."""
    return (ROOT / name).read_text(encoding="utf-8")


def commands() -> dict[str, list[str]]:
    """Return every command's name with its options, sub-commands included."""
    found: dict[str, list[str]] = {}
    top = get_command(app)
    queue = [("", top)]
    while queue:
        prefix, command = queue.pop()
        if isinstance(command, DeferredCommand):
            command = command.load()
        inner = getattr(command, "commands", {})
        for name, child in inner.items():
            queue.append((f"{prefix} {name}".strip(), child))
        if not inner:
            found[prefix] = [option for param in command.params for option in param.opts]
    return found


def test_every_command_and_option_is_described() -> None:
    """Each command has a section, and each of its options stands in it or in the common table."""
    text = page("docs/commands.md")
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    common = sections["Options of every command"]
    for name, options in commands().items():
        assert f"`atlas {name}" in text
        section = sections[name]
        missing = [o for o in options if o.startswith("-") and f"`{o}" not in section + common]
        assert not missing, (name, missing)


def test_every_described_option_exists() -> None:
    """The page describes no option that the program does not have."""
    known = {option for options in commands().values() for option in options}
    known |= {"--version", "--help", "-h"}
    described = set(re.findall(r"`(--?[a-zA-Z][\w-]*)", page("docs/commands.md")))
    assert described - known == set()


def test_every_exit_code_is_described() -> None:
    """The table of exit codes is the program's own."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \|$", page("docs/commands.md"), re.MULTILINE)
    assert {int(code): text for code, text in rows} == exits.CODES


def test_every_setting_is_described() -> None:
    """Each field and variable stands in the configuration page, with what it expects."""
    text = page("docs/configuration.md")
    for field in FIELDS:
        assert f"`{field.name}`" in text, field.name
        assert f"`{field.variable}`" in text, field.variable
        if not field.companion:
            row = next(line for line in text.splitlines() if line.startswith(f"| `{field.name}` |"))
            assert field.expected in row
            assert (field.default or "-") in row
    assert all(f"`{name}`" in text for name in CA_FALLBACKS)
    described = set(re.findall(r"`(ATLAS_[A-Z0-9_]+)`", text))
    known = {field.variable for field in FIELDS} | {field.alias for field in FIELDS}
    assert described <= known


def test_every_dependency_has_a_reason() -> None:
    """Each package that is asked for stands in the page of reasons, and is pinned."""
    project = tomllib.loads(page("pyproject.toml"))["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in wanted}  # type: ignore[index]  # every requirement starts with a name
    reasons = page("docs/dependencies.md")
    pinned = {line.partition("==")[0].lower() for line in page("constraints.txt").splitlines()}
    assert {name for name in names if f"`{name}`" not in reasons} == set()
    assert {name for name in names if name.lower() not in pinned} == set()


def test_constraints_are_versions_only() -> None:
    """Constraints hold exact versions and nothing that names a place."""
    for line in page("constraints.txt").splitlines():
        assert re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line), line


@pytest.mark.parametrize("name", ["README.md", "docs/configuration.md", "docs/commands.md"])
def test_variables_in_the_pages_exist(name: str) -> None:
    """No page speaks of a variable that nobody reads."""
    known = {field.variable for field in FIELDS} | {field.alias for field in FIELDS}
    assert set(re.findall(r"\bATLAS_[A-Z0-9_]+", page(name))) <= known


def test_the_readme_commands_are_those_that_work() -> None:
    """The README names the demo and the test command."""
    text = page("README.md")
    assert "atlas demo" in text
    assert "python -m tests" in text
    for link in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (ROOT / link).exists() or link == "docs/design.md", link


def test_help_mentions_no_unknown_command() -> None:
    """Every command that an example starts with exists."""
    known = set(commands())
    for verb in VERBS:
        command = DeferredCommand(verb).load()
        text = (command.epilog or "") + (command.help or "")
        for first, second in re.findall(r"^ +atlas ([a-z]+)(?: ([a-z]+))?", text, re.MULTILINE):
            group = not second and any(name.startswith(f"{first} ") for name in known)
            assert group or known & {first, f"{first} {second}"}, (first, second)
