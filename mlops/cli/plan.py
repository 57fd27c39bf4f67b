"""`mlops plan`: what a stack is, or what a change does to it, before anything is done."""

from typing import Annotated

import typer

from mlops.cli.output import Json, RefusalError, Terminal, err, out, print_json
from mlops.paths import CHECKOUT


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(plan)


def plan(
    *,
    stack: Annotated[str, typer.Option("--stack", help="The stack to plan.")] = "local",
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="REF", help="Show only what differs from this commit, such as origin/main."),
    ] = None,
    allow_unconfined: Annotated[
        bool,
        typer.Option(
            "--allow-unconfined",
            help="Where the kernel cannot confine the program, run it with your files and the network in reach.",
        ),
    ] = False,
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")] = False,
) -> None:
    """Show what a stack registers and what policies say of it, without credentials or a cloud.

    The program runs with no network and with nothing but its checkout to read. Where the kernel cannot confine it so,
    nothing is planned, unless you pass --allow-unconfined; the plan then says so.

    Exit code 1 if a mandatory rule of policy/ is broken, also by what is there already: nothing of the
    stack may be deployed then. 2 if there is nothing to plan: bad input, or a program that fails.
    """
    from mlops.changes import render, report
    from policy.checkout import judged

    if json and markdown:
        raise RefusalError("--json and --markdown are two forms of one answer; name one of them")
    with err.status(f"Planning stack {stack} ..."):
        found = report.plan(stack, CHECKOUT, base, judged, allow_unconfined=allow_unconfined)
    if json:
        print_json(found)
    elif markdown:
        typer.echo(render.markdown(found))
    elif out.is_terminal:
        out.print(render.terminal(found))
    else:
        # Not the width that a terminal is taken to have where there is none: lines are whole, to be searched.
        Terminal(width=10_000, highlight=False).print(render.terminal(found))
    if found.unconfined and json:
        err.print(f"mlops: {render.unconfined(found)}", markup=False)
    if found.policies and found.policies.broken:
        rules = ", ".join(sorted({one.rule for one in found.policies.broken}))
        err.print(
            f"mlops: stack {stack} breaks {rules}, so it may not be deployed; its plan says what to do", markup=False
        )
        raise typer.Exit(1)
