"""`mlops review`: what a change does to running stacks, from the previews of Pulumi's own engine."""

from pathlib import Path
from typing import Annotated

import typer

from mlops.cli.output import Json, print_json


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(review)


def review(
    previews: Annotated[
        list[Path],
        typer.Argument(metavar="PREVIEW.json...", help="What `pulumi preview --json` printed, a file for each stack."),
    ],
    *,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="PLAN.json",
            help="What `pulumi preview --save-plan` wrote: is it what the preview of its stack shows?",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Print previews as one Markdown comment: what can hurt first, then counts by layer, then the rest folded away.

    A failed preview is shown as one, and is no error of this command's.
    """
    from mlops.changes.findings import review as judged
    from mlops.changes.findings import summary
    from mlops.changes.markdown import render
    from mlops.changes.preview import read_plan, read_preview

    found = judged([read_preview(file) for file in previews], read_plan(plan) if plan else None)
    if json:
        print_json(summary(found))
    else:
        typer.echo(render(found), nl=False)
