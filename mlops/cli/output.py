"""How the command speaks: tables for people, JSON for programs, one line for an error.

Results go to standard output, progress and errors to standard error, so that `--json` can be piped while a run is
watched.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
Stack = Annotated[str, typer.Option("--stack", help="The stack whose engine and buckets to use.", show_default=True)]


class RefusalError(Exception):
    """Bad input: one line for people, exit code 2."""


def plain(value: Any) -> Any:
    """What `json.dumps` takes, of a result."""
    from pydantic import BaseModel  # here, as most of what the command says needs none of it

    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def print_json(value: Any) -> None:
    """A result as JSON on standard output."""
    typer.echo(json.dumps(plain(value), indent=2))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> None:
    """A table on standard output, whole even where it is wider than the terminal: ids must be copyable."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, no_wrap=True, overflow="ignore", justify="right" if column in right else "left")
    for row in rows:
        grid.add_row(*map(escape, row))
    # Not the terminal's width: it would cut ids short.
    Console(width=10_000, highlight=False).print(grid)


def when(moment: float | datetime | None) -> str:
    """A moment in the reader's own time zone, to the second."""
    if moment is None:
        return "-"
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, tz=UTC)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"
