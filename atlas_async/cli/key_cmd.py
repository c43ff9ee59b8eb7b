"""``atlas key``: what everything else in the bucket depends on, protected, checked and copied."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from atlas_async.cli import exits, options
from atlas_async.cli.session import Common, Session, run
from atlas_async.cli.typed_values import VerbCommand, VerbGroup
from atlas_async.errors import UsageError

if TYPE_CHECKING:
    from atlas_async.store.protection import LockMode

key = typer.Typer(
    cls=VerbGroup,
    rich_markup_mode=None,
    help="Protect, check and copy the tenant's key.",
    add_completion=False,
)

PROTECT_ENDING: Final = exits.ending(
    (
        "atlas key protect --dry-run                             what is there, what would be done",
        "atlas key protect                                       deny deletion by bucket policy",
        "atlas key protect --lock governance --retention-days 365  lock it, or extend its lock",
        "atlas key protect --remove                              take our policy statements out",
    ),
    (0, 1, 2, 10, 12, 13, 15, 16, 130),
)
CHECK_ENDING: Final = exits.ending(
    (
        "atlas key check                                  does it exist and open the backups?",
        "atlas key check --require lock --min-days 60     and is it locked for 60 days more?",
        "atlas key check --require policy --json          for a scheduler",
    ),
    (0, 1, 2, 3, 10, 12, 13, 15, 130),
)
EXPORT_ENDING: Final = exits.ending(
    ("atlas key export /media/safe/contoso-key.enc",), (0, 1, 2, 10, 12, 13, 130)
)
RESTORE_ENDING: Final = exits.ending(
    (
        "atlas key restore /media/safe/contoso-key.enc",
        "atlas key restore --version 3HL4kqtJlcpXroDTDmjVBH40Nrjfkd",
    ),
    (0, 1, 2, 10, 12, 13, 15, 130),
)


@key.command("protect", cls=VerbCommand, epilog=PROTECT_ENDING)
def protect(
    policy: Annotated[
        bool | None,
        typer.Option(
            "--policy/--no-policy",
            help="Deny everybody, in the bucket policy, to delete below _meta/ and to write the "
            "key. Without this option: where the store has policies.",
        ),
    ] = None,
    lock: Annotated[
        str | None,
        typer.Option(
            "--lock",
            metavar="MODE",
            help="Lock the key's newest version: governance (who may bypass it can lift it) or "
            "compliance (nobody can).",
        ),
    ] = None,
    retention_days: Annotated[
        str | None,
        typer.Option(
            "--retention-days",
            metavar="N",
            help="With --lock: for N days from now; a longer lock stays as it is.",
        ),
    ] = None,
    legal_hold: Annotated[
        bool, typer.Option("--legal-hold", help="Put the newest version under legal hold.")
    ] = False,
    remove: Annotated[
        bool,
        typer.Option("--remove", help="Take our statements out of the bucket policy. Locks stay."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what is there and would be done, and end.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before what nobody can undo.")
    ] = False,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Protect the key from deletion.

    Without it nothing in the bucket can be read. What is there is shown first, then what will be
    done; what the store enforces is read back. Nothing is ever weakened: a lock is only extended,
    the statements of others in a policy stay as they are.

    In a directory store the file is made read-only, which is all that a directory can do.
    """
    from atlas_async.operations.key_plan import ProtectionWish

    wish = ProtectionWish(
        policy=policy,
        mode=_mode(lock),
        retention_days=None
        if retention_days is None
        else _days("--retention-days", retention_days),
        legal_hold=legal_hold,
        remove=remove,
    )
    wish.check()
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli import key_output
        from atlas_async.cli.confirm import confirm
        from atlas_async.cli.interrupt import until_interrupted

        plan = await until_interrupted(lambda: session.engine.plan_key_protection(wish))
        if dry_run:
            key_output.show_plan(session.terminal, plan)
            return 0
        key_output.remark_plan(session.terminal, plan)
        if plan.irreversible and not yes:
            question = f"This cannot be undone: {plan.irreversible}. Lock the key so"
            await confirm(session.terminal, question, otherwise="confirm with --yes")
        report = await until_interrupted(lambda: session.engine.protect_key(plan, confirmed=True))
        key_output.show_protection(session.terminal, plan, report)
        return report.exit_code

    run(common, loaded, work)


@key.command("check", cls=VerbCommand, epilog=CHECK_ENDING)
def check(
    require: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            metavar="NAME",
            help="End with 3 where this is missing or running out, with 15 where the store "
            "cannot have it: policy, versioning or lock. Repeat for several.",
        ),
    ] = None,
    min_days: Annotated[
        str | None,
        typer.Option(
            "--min-days", metavar="N", help="A lock that ends in less than N days runs out; 30."
        ),
    ] = None,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Check the key, for a scheduler.

    It must be there, open with the passphrase, and open what the newest runs wrote. Where it is
    missing, older versions of it are named. What protects it is shown; it counts where --require
    asks for it.
    """
    from atlas_async.operations.key_check import MIN_DAYS, Protects

    wanted = []
    for name in require or ():
        if name not in list(Protects):
            text = f"--require takes {', '.join(Protects)}, not {name!r}"
            raise UsageError(text)
        wanted.append(Protects(name))
    days = MIN_DAYS if min_days is None else _days("--min-days", min_days)
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli import key_output
        from atlas_async.cli.interrupt import until_interrupted

        found = await until_interrupted(
            lambda: session.engine.check_key(require=wanted, min_days=days)
        )
        key_output.show_check(session.terminal, found)
        return found.exit_code

    run(common, loaded, work)


@key.command("export", cls=VerbCommand, epilog=EXPORT_ENDING)
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist.")],
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Copy the key to a file.

    The copy is what is in the bucket: sealed by the passphrase, and useless without it. Keep it
    apart from the bucket, and the passphrase apart from both.
    """
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli import key_output
        from atlas_async.cli.interrupt import until_interrupted

        made = await until_interrupted(lambda: session.engine.export_key(file))
        key_output.show_copy(session.terminal, made, "copied to")
        return 0

    run(common, loaded, work)


@key.command("restore", cls=VerbCommand, epilog=RESTORE_ENDING)
def restore(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="What 'atlas key export' wrote.")
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            "--version", metavar="ID", help="Instead of a file: an older version in the bucket."
        ),
    ] = None,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Put the key back where it is missing.

    Only into a bucket without one, and only when the copy opens with the passphrase and opens
    what is in the bucket.
    """
    if (file is None) == (version is None):
        raise UsageError("name either a FILE or a --version to restore the key from")
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli import key_output
        from atlas_async.cli.interrupt import until_interrupted

        made = await until_interrupted(lambda: session.engine.restore_key(file, version_id=version))
        key_output.show_copy(session.terminal, made, "restored from")
        return 0

    run(common, loaded, work)


def _mode(text: str | None) -> LockMode | None:
    from atlas_async.store.protection import LockMode

    if text is None:
        return None
    try:
        return LockMode(text.upper())
    except ValueError:
        raise UsageError(f"--lock takes governance or compliance, not {text!r}") from None


def _days(option: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):  # noqa: PLR2004 - the operation bounds it
        raise UsageError(f"{option} takes a whole number of days, not {text!r}")
    return int(text)
