"""How the command speaks: tables for people, JSON for programs, one line for an error.

Results go to standard output, progress and errors to standard error, so that `--json` can be piped while a run is
watched. What others wrote (a bucket, an engine, a file) cannot command the terminal: every text that is printed here
has its control characters as escapes, and its addresses without credentials.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from infra.credentials import MASK, without_address_credentials
from mlops_registry.text import printable


class Terminal(Console):
    """A console whose styles are its own alone: what is printed brings no control character with it."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Everything that is printed comes through here, as texts with a style."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text, keep="\n"), segment.style)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's, without credentials in addresses."""
        markup = options.get("markup", True)
        super().print(*(_masked(one, markup=markup) if isinstance(one, str) else one for one in objects), **options)

    def print_json(self, json: str | None = None, **options: Any) -> None:
        """As rich's, without credentials in addresses."""
        super().print_json(json and without_address_credentials(json), **options)


def _masked(text: str, *, markup: bool) -> str:
    masked = without_address_credentials(text)
    return masked.replace(MASK, escape(MASK)) if markup and masked != text else masked


out = Terminal(highlight=False, soft_wrap=True)
err = Terminal(stderr=True, highlight=False, soft_wrap=True)

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


def clean(text: str, keep: str = "") -> str:
    """Text of others for a terminal: without credentials in addresses, and with control characters as escapes."""
    return printable(without_address_credentials(text), keep)


def complain(text: str) -> None:
    """What is wrong, on standard error."""
    typer.echo(f"mlops: {clean(text, keep=chr(10))}", err=True)


def print_json(value: Any) -> None:
    """A result as JSON on standard output."""
    typer.echo(json.dumps(_without_credentials(plain(value)), indent=2))


def _without_credentials(value: Any) -> Any:
    # Names are not looked at: a program reads its own keys again, such as the id of a rule.
    if isinstance(value, dict):
        return {key: _without_credentials(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_credentials(item) for item in value]
    return without_address_credentials(value) if isinstance(value, str) else value


def print_log(piece: str) -> None:
    """A piece of a task's output: as it is, or on a terminal without colours and with control characters as escapes."""
    if sys.stdout.isatty():
        lines = re.sub(r"\x1b\[[0-9;]*m", "", piece).replace("\r\n", "\n").replace("\r", "\n")
        piece = printable(lines, keep="\n\t")
    # Not by click, which would leave escape sequences out of a file.
    sys.stdout.write(piece)
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> None:
    """A table on standard output, whole even where it is wider than the terminal: ids must be copyable."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, no_wrap=True, overflow="ignore", justify="right" if column in right else "left")
    for row in rows:
        grid.add_row(*(escape(clean(cell)) for cell in row))
    # Not the terminal's width: it would cut ids short.
    Terminal(width=10_000, highlight=False).print(grid)


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
