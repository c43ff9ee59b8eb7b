"""The options that several commands share, each with its one wording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Tenant = Annotated[
    str | None,
    typer.Option("--tenant", metavar="ID", help="Tenant id or domain, instead of ATLAS_TENANT_ID."),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Read this configuration file instead of looking for one."
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Write JSON for programs; docs/commands.md describes it.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Write results and errors only.")]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level", metavar="LEVEL", help="debug, info, warning (the default) or error."
    ),
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Log everything, and show tracebacks of errors.")
]
