"""``atlas drill``: bring a sample back, compare it, and sign what came of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from atlas_async.cli import exits, options, tasks
from atlas_async.cli.session import Common, Session, run
from atlas_async.errors import AtlasError, UsageError

if TYPE_CHECKING:
    from atlas_async.model.drill import DrillReport

DEFAULT_SAMPLE: Final = 25
MOST_SAMPLE: Final = 1_000_000

ENDING: Final = exits.ending(
    (
        "atlas drill                                   25 messages of every mailbox, in memory",
        "atlas drill --sample 200 --report drill.json  more of them, and a signed report",
        "atlas drill -m ann@contoso.com --scratch drills@contoso.com",
        "atlas drill --sample 200 --dry-run            how many messages that would be",
        "atlas drill --check drill.json                is this report ours and unchanged?",
        "atlas drill --check drill.json --public-key 9f3c...   the same, without the backups",
    ),
    (0, 1, 2, 3, 10, 11, 12, 13, 14, 16, 130),
)


def drill(
    mailbox: Annotated[
        list[str] | None,
        typer.Option(
            "--mailbox", "-m", metavar="ADDRESS", help="Only this mailbox. Repeat for several."
        ),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            "--sample",
            metavar="N",
            help="Messages of each mailbox, 25 otherwise; all brings all back.",
        ),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            "--seed", metavar="N", help="Choose the messages that this seed chose before."
        ),
    ] = None,
    scratch: Annotated[
        str | None,
        typer.Option(
            "--scratch",
            metavar="ADDRESS",
            help="Restore the sample into this mailbox, read it back and remove it again.",
        ),
    ] = None,
    target_config: Annotated[
        Path | None,
        typer.Option(
            "--target-config",
            metavar="FILE",
            help="That mailbox is in another tenant, whose settings stand in FILE.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write the signed report to this new file."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", help="Check the signature of a report instead."),
    ] = None,
    public_key: Annotated[
        str | None,
        typer.Option(
            "--public-key",
            metavar="HEX",
            help="With --check: the key to check with, so that no backup needs to be opened.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Say what would be tried; bring nothing back.")
    ] = False,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Prove that backups can be restored.

    Messages are chosen at random from each newest snapshot, brought back with all their
    attachments, and compared with what was stored. Run it by a scheduler, once a month.
    """
    common = Common(tenant, config, json, quiet, log_level, debug)
    if check is not None:
        others = (mailbox, sample, seed, scratch, target_config, report)
        if dry_run or any(value is not None for value in others):
            raise UsageError("--check goes with --public-key and no other option of a drill")
        _check(common, check, public_key)
        return
    if public_key is not None:
        raise UsageError("--public-key goes with --check")
    if any(not value.strip() for value in mailbox or []):
        raise UsageError("-m needs a value that is not blank")
    if scratch is not None and not scratch.strip():
        raise UsageError("--scratch needs an address")
    if target_config is not None and scratch is None:
        raise UsageError("--target-config goes with --scratch")
    if dry_run and report is not None:
        raise UsageError("--dry-run proves nothing, so that there is no --report of it")
    wanted, chosen = _sample(sample), _seed(seed)
    if report is not None:
        from atlas_async.cli.drill_output import check_place

        check_place(report)
    loaded = common.load(need_graph=scratch is not None)
    target = common.load_target(target_config) if target_config is not None else None

    async def work(session: Session) -> int:
        from atlas_async.cli.drill_output import show_drill
        from atlas_async.cli.interrupt import watched
        from atlas_async.model.drill import DrillOptions

        how = DrillOptions(wanted, chosen, (scratch or "").strip(), dry_run)
        done = await watched(
            session.engine,
            session.reporter(tasks.DRILL),
            lambda stop: session.engine.drill(mailbox, how, target=target, stop=stop),
            settles=True,
            task=tasks.DRILL,
        )
        unwritten = await _write(report, done) if report is not None else None
        show_drill(session.terminal, done, None if unwritten else report)
        if unwritten is None:
            return done.exit_code
        # What was found out about the backups counts more than that it could not be written.
        unwritten_code = exits.report(unwritten, json=common.json)
        return done.exit_code or unwritten_code

    run(common, loaded, work)


async def _write(path: Path, done: DrillReport) -> AtlasError | None:
    """Write the report; return the error that came of it, if one did."""
    from atlas_async.cli.drill_output import write_report

    try:
        await write_report(path, done)
    except AtlasError as error:
        return error
    return None


def _check(common: Common, path: Path, public_key: str | None) -> None:
    from atlas_async.cli.drill_output import read_report, show_check
    from atlas_async.crypto.signing import read_public_key

    key = None if public_key is None else read_public_key(public_key)
    document = read_report(path)
    if key is not None:
        raise typer.Exit(show_check(common.terminal(), path, document, key))
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import until_interrupted

        key = await until_interrupted(session.engine.report_key)
        return show_check(session.terminal, path, document, key)

    run(common, loaded, work)


def _sample(text: str | None) -> int:
    if text is None:
        return DEFAULT_SAMPLE
    if text.strip().lower() == "all":
        return 0
    number = _whole(text)
    if number is None or not 0 < number <= MOST_SAMPLE:
        told = f"--sample {text[:40]!r} is not a number from 1 to {MOST_SAMPLE}"
        raise UsageError(told, hint="or give: all")
    return number


def _seed(text: str | None) -> int | None:
    if text is None:
        return None
    from atlas_async.model.drill import LARGEST_SEED

    number = _whole(text)
    if number is None or number > LARGEST_SEED:
        raise UsageError(f"--seed {text[:40]!r} is not a number from 0 to {LARGEST_SEED}")
    return number


def _whole(text: str) -> int | None:
    found = re.fullmatch(r"[0-9]{1,18}", text.strip())
    return int(found[0]) if found else None
