"""`mlops models`: the versions in the bucket, whichever lane made them."""

import csv
import json as jsonlib
import os
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from mlops.cli.output import Json, RefusalError, Stack, err, number, out, print_json, table, when
from mlops.cli.session import Session

app = typer.Typer(
    help="Model versions in the bucket: list, show, verify, promote, predict, reproduce.", invoke_without_command=True
)

Version = Annotated[
    str, typer.Argument(metavar="VERSION", help="A version id, or an alias as MODEL/ALIAS.", show_default=False)
]


@app.callback()
def _default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_versions()


@app.command("list")
def list_versions(
    model: Annotated[str | None, typer.Argument(help="Only this model's versions.")] = None,
    *,
    stack: Stack = "local",
    json: Json = False,
) -> None:
    """List the versions with their AUC beside the baseline's, oldest first; from the bucket's listing alone."""
    versions = Session(stack).registry.list(model)
    if json:
        print_json(versions)
        return
    table(
        ["version", "model", "lane", "auc", "baseline", "verified", "aliases", "stored"],
        (
            [
                version.version_id,
                version.model,
                version.lane,
                number(version.auc),
                number(version.baseline_auc),
                version.verified or "-",
                ", ".join(version.aliases) or "-",
                when(version.created),
            ]
            for version in versions
        ),
        right=["auc", "baseline"],
    )


@app.command()
def show(version: Version, *, stack: Stack = "local", json: Json = False) -> None:
    """Show one version: where it came from, what it contains, how well it did, when it was verified."""
    found = Session(stack).registry.show(version)
    if json:
        print_json(found)
        return
    out.print_json(found.model_dump_json())


@app.command()
def verify(version: Version, *, stack: Stack = "local", json: Json = False) -> None:
    """Load a version as a user would: every checksum, then every recorded example must predict the same."""
    registry = Session(stack).registry
    with err.status(f"Verifying {version} ..."):
        result = registry.verify(version)
    if json:
        print_json(result)
    else:
        verdict = "passed" if result.passed else "FAILED"
        out.print(
            f"{verdict}: {result.examples} examples replayed, largest difference {result.max_difference}"
            + (f": {result.message}" if result.message else "")
        )
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def promote(
    version: Version,
    alias: Annotated[str, typer.Argument(help="The alias to move, such as production.")],
    *,
    stack: Stack = "local",
    json: Json = False,
) -> None:
    """Point an alias at a version whose newest verification passed."""
    moved = Session(stack).registry.promote(version, alias)
    if json:
        print_json(moved)
    else:
        out.print(f"{moved.model}/{moved.alias} is now {moved.version_id}.")


@app.command()
def predict(
    version: Version,
    file: Annotated[Path, typer.Argument(help="Rows to score: CSV with a header, a JSON array, or JSON Lines.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here, whole or not at all, instead of the terminal.")
    ] = None,
    stack: Stack = "local",
    json: Json = False,
) -> None:
    """Score a file: the same rows, in the same order, with a column `prediction` added."""
    registry = Session(stack).registry
    with _target(output) as target, _rows(file) as (rows, read):
        predictions = registry.predict(version, rows)
        write = _write_json if json else _write_csv
        count = write(target, _joined(read, predictions))
    err.print(f"{count} row(s) scored by {version}.")


@contextmanager
def _target(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        return
    try:
        with tempfile.NamedTemporaryFile("w", dir=output.parent, prefix=f".{output.name}.", delete=False) as file:
            try:
                yield file
                file.flush()
                Path(file.name).replace(output)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise RefusalError(f"{output} cannot be written ({os.strerror(error.errno or 0)}), so nothing was") from error


@contextmanager
def _rows(file: Path) -> Iterator[tuple[Iterator[dict[str, Any]], deque[dict[str, Any]]]]:
    """The file's rows, and beside them a queue of those that were read and are not yet written."""
    try:
        handle = file.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise RefusalError(f"{file} cannot be read ({os.strerror(error.errno or 0)}), so nothing was scored") from error
    with handle:
        read: deque[dict[str, Any]] = deque()

        def reading() -> Iterator[dict[str, Any]]:
            for row in _parse(file, handle):
                read.append(row)
                yield row

        yield reading(), read


def _parse(file: Path, handle: IO[str]) -> Iterator[dict[str, Any]]:
    number_of_row = 0
    try:
        if file.suffix.lower() in {".json", ".jsonl", ".ndjson"}:
            start = handle.read(1)
            handle.seek(0)
            rows: Iterable[Any] = (
                jsonlib.load(handle) if start == "[" else map(jsonlib.loads, filter(str.strip, handle))
            )
        else:
            rows = csv.DictReader(handle, strict=True)
        for row in rows:
            number_of_row += 1
            if not isinstance(row, dict) or None in row or None in row.values():
                raise RefusalError(
                    f"{file}: row {number_of_row} has not the columns that the header names, so scoring stopped"
                )
            yield row
    except (ValueError, csv.Error) as error:
        raise RefusalError(
            f"{file}: row {number_of_row + 1} is not to be read as {file.suffix or 'CSV'} ({error}), so scoring stopped"
        ) from error
    if number_of_row == 0:
        raise RefusalError(f"{file} has no rows, so there is nothing to score")


def _joined(read: deque[dict[str, Any]], predictions: Iterable[float]) -> Iterator[dict[str, Any]]:
    for prediction in predictions:
        yield read.popleft() | {"prediction": prediction}


def _write_csv(target: IO[str], rows: Iterator[dict[str, Any]]) -> int:
    writer: csv.DictWriter[str] | None = None
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - the count is the result
        if writer is None:
            writer = csv.DictWriter(target, fieldnames=list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    return count


def _write_json(target: IO[str], rows: Iterator[dict[str, Any]]) -> int:
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - the count is the result
        target.write(jsonlib.dumps(row) + "\n")
    return count
