"""`mlops models`: the versions in the bucket, whichever lane made them."""

import csv
import os
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Protocol
from urllib.parse import urlsplit

import typer
from rich.markup import escape

from mlops.cli.output import Json, RefusalError, Stack, err, out, print_json, table, when
from mlops.cli.quality import QUALITY, quality
from mlops.cli.session import Session
from mlops.paths import CHECKOUT
from mlops_registry.text import printable

if TYPE_CHECKING:
    from mlops_registry.rows import Row

app = typer.Typer(
    help="Model versions in the bucket: list, show, verify, promote, predict, reproduce.", invoke_without_command=True
)

Version = Annotated[
    str, typer.Argument(metavar="VERSION", help="A version id, or an alias as MODEL/ALIAS.", show_default=False)
]


_LOOPBACK = ("localhost", "127.0.0.1")
_AS_WRITTEN: Any = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}


@app.callback()
def _default(context: typer.Context, *, json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_versions(json=json)
    elif json:
        raise RefusalError(
            f"--json goes behind the command: mlops {context.info_name} {context.invoked_subcommand} --json"
        )


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
        ["version", "model", "lane", *QUALITY, "aliases", "stored"],
        (
            [
                version.version_id,
                version.model,
                version.lane,
                *quality(version),
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
    with err.status(f"Verifying {escape(version)} ..."):
        result = registry.verify(version)
    if json:
        print_json(result)
    else:
        verdict = "passed" if result.passed else "FAILED"
        out.print(
            f"{verdict}: {result.message or f'0 of {result.examples} examples differ'}, "
            f"largest difference {result.max_difference}",
            markup=False,
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
        out.print(f"{moved.model}/{moved.alias} is now {moved.version_id}.", markup=False)


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
    from mlops_registry import rows

    registry = Session(stack).registry
    read: deque[rows.Row] = deque()

    def reading() -> Iterator[rows.Row]:
        for row in rows.read(file):
            read.append(row)
            yield row

    with _target(output) as target:
        scored = ((read.popleft(), prediction) for prediction in registry.predict(version, reading()))
        count = (_write_json if json else _write_csv)(target, scored)
        if count == 0:
            raise RefusalError(f"{file} has no rows, so there is nothing to score; give it a header and rows")
    err.print(f"{count} row(s) scored by {version}.", markup=False)


@app.command()
def reproduce(
    version: Version,
    *,
    pipeline: Annotated[
        str | None,
        typer.Option(help="The pipeline that made it, where its model has another name.", show_default=False),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="KEY=VALUE", help="In place of what is recorded; repeat for more."),
    ] = None,
    stack: Stack = "local",
    json: Json = False,
) -> None:
    """Run a version's pipeline again with its parameters, seed and data: the model must be the same.

    What is compared is the canonical digest, which holds no times. The code and images are those of this checkout; that
    they, or the data, are others than they were is told. The run stores a version of its own.
    """
    from mlops import parameters
    from mlops.cli.run import end, submit, watch
    from mlops_registry import reproduction

    session = Session(stack)
    was = session.registry.show(version).manifest
    files = parameters.files(CHECKOUT / "jobs")
    name = pipeline or was.model
    if name not in files:
        raise RefusalError(
            f"there is no pipeline {name!r} here, so {was.version_id} was not made again; name the one that made it "
            f"with --pipeline: {', '.join(files)}"
        )
    declared = parameters.load(files[name])
    recorded = reproduction.request(was, declared.parameters)
    supplied = session.defaults(name, declared.parameters)
    if "data_url" in recorded:
        recorded["data_url"] = _where_now(recorded["data_url"], supplied.get("data_url"))
    values = declared.resolve(recorded | parameters.assignments(parameter or []), supplied)
    engine = session.engine(name)
    finished = watch(session, engine, [submit(engine, name, values, None)])
    end(finished)
    made = [execution.version_id for run in finished for execution in run.executions if execution.version_id]
    if not made:
        raise RefusalError(f"{name} stores no versions, so there is nothing to compare with {was.version_id}")
    now = session.registry.show(f"{was.model}/{made[0]}").manifest
    same, differing = was.model_digest == now.model_digest, list(reproduction.differences(was, now))
    if json:
        told = [one._asdict() for one in differing]
        print_json({"version": was.version_id, "made": now.version_id, "reproduced": same, "differences": told})
    else:
        table(
            ["", "was", "is now"],
            [
                ["version", was.version_id, now.version_id],
                ["model digest", was.model_digest[:16], now.model_digest[:16]],
                *map(list, differing),
            ],
        )
        others = f"; {len(differing)} thing(s) differ" if differing else "; nothing else differs"
        out.print(f"\n{'reproduced: the same model' if same else 'NOT reproduced: another model'}{others}")
    if not same:
        raise typer.Exit(1)


def _where_now(recorded: str, supplied: str | None) -> str:
    """An address on this machine's loopback, where it is now: the platform's feed has another port at each start."""
    old, new = urlsplit(recorded), urlsplit(supplied or "")
    if new.hostname in _LOOPBACK and old.hostname in _LOOPBACK:
        return old._replace(netloc=new.netloc).geturl()
    return recorded


class _Writable(Protocol):
    def write(self, text: str, /) -> int: ...


@contextmanager
def _target(output: Path | None) -> Iterator["_Writable"]:
    """Where the rows go, as UTF-8 whatever the terminal's language is."""
    if output is None:
        with open(sys.stdout.fileno(), "w", closefd=False, **_AS_WRITTEN) as file:
            yield _Screen(file) if file.isatty() else file
        return
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=output.parent, prefix=f".{output.name}.", delete=False, **_AS_WRITTEN
        ) as file:
            try:
                yield file
                file.flush()
                # What a temporary file is made with is for its owner alone.
                Path(file.name).chmod(0o666 & ~_umask())
                Path(file.name).replace(output)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise RefusalError(f"{output} cannot be written ({os.strerror(error.errno or 0)}), so nothing was") from error


class _Screen:
    """A terminal, which no row commands."""

    def __init__(self, terminal: IO[str]):
        self._terminal = terminal

    def write(self, text: str) -> int:
        return self._terminal.write(printable(text, keep="\t\r\n"))


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


def _write_csv(target: "_Writable", scored: Iterator[tuple["Row", float]]) -> int:
    """Write rows with a column more: lines of a CSV file as they are, others as cells."""
    from mlops_registry.rows import PREDICTION, with_column

    writer: csv.DictWriter[str] | None = None
    count = 0
    for count, (row, prediction) in enumerate(scored, 1):
        if row.line:
            if count == 1:
                target.write(with_column(row.header, PREDICTION))
            target.write(with_column(row.line, repr(prediction)))
            continue
        cells = row.cells_with(prediction)
        if writer is None:
            writer = csv.DictWriter(target, fieldnames=list(cells), lineterminator="\n")
            writer.writeheader()
        if (extra := next((name for name in cells if name not in writer.fieldnames), None)) is not None:
            raise RefusalError(f"row {count} has the column {extra!r}, which the first row has not; add --json")
        writer.writerow(cells)
    return count


def _write_json(target: "_Writable", scored: Iterator[tuple["Row", float]]) -> int:
    count = 0
    for count, (row, prediction) in enumerate(scored, 1):  # noqa: B007 - the count is the result
        target.write(row.json_with(prediction) + "\n")
    return count
