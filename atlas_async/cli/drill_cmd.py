"""``atlas drill``: bring a sample back, compare it, and sign what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from atlas_async.cli import exits, options
from atlas_async.cli.session import Common, Session, run
from atlas_async.errors import UsageError

MOST_SAMPLE: Final = 1_000_000

ENDING: Final = exits.ending(
    (
        "atlas drill                                   25 messages of every mailbox, in memory",
        "atlas drill --sample 200 --report drill.json  more of them, and a signed report",
        "atlas drill -m ann@contoso.com --scratch drills@contoso.com",
        "atlas drill --check drill.json                is this report ours and unchanged?",
        "atlas drill --check drill.json --public-key 9f3c...   the same, without the backups",
    ),
    (0, 1, 2, 3, 10, 12, 13, 14, 16, 130),
)


def drill(
    mailbox: Annotated[
        list[str] | None,
        typer.Option(
            "--mailbox", "-m", metavar="ADDRESS", help="Only this mailbox. Repeat for several."
        ),
    ] = None,
    sample: Annotated[
        str,
        typer.Option(
            "--sample", metavar="N", help="Messages of each mailbox; all brings all back."
        ),
    ] = "25",
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
    if report is not None and report.exists():
        raise UsageError(f"{report} exists already", hint="give the name of a new file")
    wanted, chosen = _sample(sample), _seed(seed)
    loaded = common.load(need_graph=scratch is not None)
    target = common.load_target(target_config) if target_config is not None else None

    async def work(session: Session) -> int:
        from atlas_async.cli.drill_output import show_drill, write_report
        from atlas_async.cli.interrupt import watched
        from atlas_async.model.drill import DrillOptions

        how = DrillOptions(sample=wanted, seed=chosen, scratch=(scratch or "").strip())
        done = await watched(
            session.engine,
            session.reporter(),
            lambda stop: session.engine.drill(mailbox, how, target=target, stop=stop),
            settles=True,
        )
        if report is not None:
            await write_report(report, done)
        show_drill(session.terminal, done, report)
        return done.exit_code

    run(common, loaded, work)


def _check(common: Common, path: Path, public_key: str | None) -> None:
    from atlas_async.cli.drill_output import read_report, show_check

    document = read_report(path)
    if public_key is not None:
        raise typer.Exit(show_check(common.terminal(), path, document, public_key.strip()))
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import until_interrupted

        key = await until_interrupted(session.engine.report_key)
        return show_check(session.terminal, path, document, key)

    run(common, loaded, work)


def _sample(text: str) -> int:
    if text.strip().lower() == "all":
        return 0
    number = text.strip()
    if not (number.isascii() and number.isdecimal() and 0 < int(number) <= MOST_SAMPLE):
        raise UsageError(f"--sample {text[:40]!r} is not a number from 1 on", hint="or give: all")
    return int(number)


def _seed(text: str | None) -> int | None:
    if text is None:
        return None
    number = text.strip()
    if not (number.isascii() and number.isdecimal() and len(number) <= 20):  # noqa: PLR2004 -- 64 bits
        raise UsageError(f"--seed {text[:40]!r} is not a number from 0 on")
    return int(number)
