"""`mlops data`: raw data in the data bucket."""

from typing import Annotated

import typer

from mlops.cli.output import Json, Stack, err, out, print_json, table
from mlops.cli.session import Session

app = typer.Typer(help="Raw data in the data bucket: push.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `push` a command of its own: typer makes an only command the group's."""


@app.command()
def push(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|URL...",
            help="Files, or http(s) addresses of some; feed:NAME is one of the embedded platform's feed.",
            show_default=False,
        ),
    ],
    *,
    stack: Stack = "local",
    json: Json = False,
) -> None:
    """Bring files into the data bucket under their digest; a run names the folder. Safe to repeat."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

    from mlops import data

    session = Session(stack)
    platform = session.platform
    feed = data.Feed(platform.feed_url, platform.ca_file) if platform and platform.feed_url else None
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        tasks: dict[tuple[str, str], TaskID] = {}

        def progress(verb: str, name: str, done: int, total: int | None) -> None:
            if (verb, name) not in tasks:
                tasks[verb, name] = bars.add_task(f"{verb} {name}", total=total)
            bars.update(tasks[verb, name], completed=done)

        pushed = data.push(sources, session.settings.buckets.data, feed=feed, progress=progress)
    if json:
        print_json(pushed)
        return
    table(
        ["file", "bytes", "sha256"],
        ([file.name, str(file.size), file.sha256] for file in pushed.files),
        right=["bytes"],
    )
    out.print(f"\n{pushed.uri}", markup=False)
