"""`mlops-registry`: what a job's tasks do with a version, and the registry's commands where `mlops` is not installed.

Options of a job's tasks come from the environment, as the job sets it. Exit codes: 0 success, 2 bad input or a
definite no, 1 everything else; the last line of stderr is the message for people.
"""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from mlops_registry.text import printable

if TYPE_CHECKING:
    from .manifest import Record, Verification, VersionSummary
    from .registry import Registry

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="Model versions in a bucket.")

BucketOption = Annotated[
    str, typer.Option("--bucket", envvar="GCP_BUCKET_PATH", help="gs://<bucket>[/<prefix>] of the models.")
]
ModelOption = Annotated[str, typer.Option("--model", envvar="MODEL", help="The pipeline's name.")]
VersionOption = Annotated[
    str, typer.Option("--version-id", envvar="VERSION_ID", help="<name>_v<model version>_<run id>.")
]
RunOption = Annotated[str, typer.Option("--engine-run", envvar="ENGINE_RUN", help="The dispatched job or workflow.")]
AllocationOption = Annotated[str, typer.Option("--alloc-id", envvar="ALLOC_ID", help="The allocation or pod.")]
ReferenceArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="A version id or an alias, or <model>/<either>.")
]
RunDirOption = Annotated[Path, typer.Option(envvar="RUN_DIR", help="The training's directory.")]
VersionArgument = Annotated[
    str | None, typer.Argument(metavar="[VERSION]", help="Instead of --model and --version-id.")
]
OwnModelOption = Annotated[str | None, typer.Option("--model", envvar="MODEL", help="The pipeline's name.")]
OwnVersionOption = Annotated[
    str | None, typer.Option("--version-id", envvar="VERSION_ID", help="<name>_v<model version>_<run id>.")
]
RunnerOption = Annotated[
    str, typer.Option("--engine-run", envvar=["ENGINE_RUN", "NOMAD_JOB_ID"], help="For the record.")
]
PlaceOption = Annotated[str, typer.Option("--alloc-id", envvar=["ALLOC_ID", "NOMAD_ALLOC_ID"], help="For the record.")]
WaitOption = Annotated[
    float, typer.Option(min=0, max=86400, metavar="SECONDS", help="How long what is not there yet is waited for.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
_ended_by: list[int] = []
"""Signals by which this program was told to end: of the exception that says so, a library may make another one."""


@app.command()
def store(
    bucket: BucketOption,
    model: ModelOption,
    version_id: VersionOption,
    run_dir: RunDirOption,
    lane: Annotated[str, typer.Option(envvar="LANE", help="nomad or argo.")],
    engine_run: RunOption,
    alloc_id: AllocationOption,
    image: Annotated[
        list[str] | None, typer.Option(envvar="IMAGE", help="Image that ran, by content hash; repeatable.")
    ] = None,
    verify_in: Annotated[
        Path | None,
        typer.Option(
            "--verify-in",
            metavar="FOLDER",
            help="Then fetch to FOLDER/version, wait for what another task scores to FOLDER/scored, and record it.",
        ),
    ] = None,
    wait: WaitOption = 0,
) -> None:
    """Store a finished training as a version, then remove its directory. Safe to repeat."""
    from . import verification
    from .errors import BadInputError
    from .storing import Origin, give_up

    if lane not in ("nomad", "argo"):
        raise BadInputError(f"lane {lane!r} is neither nomad nor argo")
    if wait and verify_in is None:
        raise BadInputError("--wait is for what --verify-in waits for: give both or none")
    registry = _registry(bucket)
    try:
        manifest = registry.store(model, version_id, run_dir, Origin(lane, engine_run, alloc_id, tuple(image or ())))
    finally:
        if _ended_by:
            give_up(run_dir, version_id)
    version = f"{manifest.model}/{manifest.version_id}"
    print(f"stored {version}: {len(manifest.files)} files", flush=True)
    if run_dir.exists():
        print(f"{run_dir} is kept, as it does not bear the version's id", file=sys.stderr)
    if verify_in is not None:
        fetched, scored = verify_in / "version", verify_in / "scored"
        # One that waits is left alone: it may be loading what an earlier attempt of this task brought.
        there = verification.waits(fetched, manifest.model, manifest.version_id)
        if not there and registry.fetch(version, fetched).error is not None:
            verification.score(fetched, scored)  # there is nothing to load: it passes on what is wrong
        _tell(registry.record(version, scored, runner=_runner(engine_run, alloc_id), wait=wait))


@app.command()
def fetch(
    bucket: BucketOption,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Gets model/, rows.jsonl and, last, request.json.")],
    version: VersionArgument = None,
    model: OwnModelOption = None,
    version_id: OwnVersionOption = None,
) -> None:
    """First part of a verification: bring a version's model and its examples' inputs, each file checked.

    A file that is not what the manifest says is told in request.json, and `record` records it.
    """
    request = _registry(bucket).fetch(_named(version, model, version_id), output)
    if request.error is None:
        print(f"fetched {request.model}/{request.version_id}: {request.rows} rows to score")
    else:
        print(f"mlops-registry: {request.error}", file=sys.stderr)


@app.command()
def score(
    source: Annotated[Path, typer.Option("--input", metavar="FOLDER", help="What `fetch` wrote.")],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Gets predictions.jsonl and, last, score.json.")],
    wait: WaitOption = 0,
) -> None:
    """Second part: load the model, confined, and predict the rows. Needs no bucket, no identity and no network.

    Exit code 0 also where the model is bad, which `record` tells; 1 if it could not be tried.
    MLOPS_CONFINEMENT=container says that a container confines it; MLOPS_UNCONFINED=allow, that nothing has to.
    MLOPS_SCORER_SECONDS (900), MLOPS_SCORER_CPU_SECONDS (3600) and MLOPS_SCORER_MEMORY_MB (4096) are its limits.
    """
    from . import verification

    told = verification.score(source, output, wait=wait)
    if told.error is None:
        print(f"scored {told.model}/{told.version_id}: {told.predictions} rows")
    else:
        print(f"mlops-registry: {told.error}", file=sys.stderr)


@app.command()
def record(
    bucket: BucketOption,
    scored: Annotated[Path, typer.Option("--input", metavar="FOLDER", help="What `score` wrote.")],
    version: VersionArgument = None,
    model: OwnModelOption = None,
    version_id: OwnVersionOption = None,
    engine_run: RunnerOption = "",
    alloc_id: PlaceOption = "",
    wait: WaitOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Third part: compare the predictions with the recorded ones, and record the outcome. Exit code 1: it failed."""
    named, runner = _named(version, model, version_id), _runner(engine_run, alloc_id)
    _tell(_registry(bucket).record(named, scored, runner=runner, wait=wait), as_json)


@app.command()
def verify(
    bucket: BucketOption,
    version: VersionArgument = None,
    model: OwnModelOption = None,
    version_id: OwnVersionOption = None,
    engine_run: RunnerOption = "",
    alloc_id: PlaceOption = "",
    as_json: JsonOption = False,
) -> None:
    """All parts at once: load a version back, replay its examples, and record the outcome. Exit code 1: it failed."""
    named, runner = _named(version, model, version_id), _runner(engine_run, alloc_id)
    _tell(_registry(bucket).verify(named, runner=runner), as_json)


@app.command()
def clear(run_dir: RunDirOption, version_id: VersionOption) -> None:
    """Remove what a run left in its directory, unless that is a finished training which was not stored."""
    from .storing import clear as cleared

    print(cleared(run_dir, version_id) or f"nothing is left of {run_dir}")


@app.command("list")
def list_versions(
    bucket: BucketOption,
    model: Annotated[str | None, typer.Option(help="Of this model only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List versions."""
    versions = _registry(bucket).list(model)
    if as_json:
        _print_json(versions)
        return
    for one in versions:
        scores = ("-" if value is None else f"{value:.4f}" for value in (one.auc, one.baseline_auc))
        cells = [f"{one.model}/{one.version_id}", f"{one.created:%Y-%m-%dT%H:%M:%SZ}", *scores]
        print("  ".join([*cells, one.verified or "unverified", ",".join(one.aliases)]).rstrip())


@app.command()
def show(bucket: BucketOption, version: ReferenceArgument) -> None:
    """Show a version's manifest, verifications and aliases as JSON."""
    _print_json(_registry(bucket).show(version))


@app.command()
def promote(
    bucket: BucketOption,
    version: ReferenceArgument,
    alias: Annotated[str, typer.Argument(help="For example `production`.")],
) -> None:
    """Point an alias at a verified version."""
    record = _registry(bucket).promote(version, alias)
    print(f"{record.model}/{record.alias} is {record.version_id}")


@app.command()
def predict(
    bucket: BucketOption,
    version: ReferenceArgument,
    file: Annotated[Path, typer.Argument(help="Rows: .csv with a header, .json (a list) or .jsonl.")],
) -> None:
    """Score the rows of a file; one JSON object a row on stdout."""
    from . import rows

    for prediction in _registry(bucket).predict(version, rows.read(file)):
        print(f'{{"{rows.PREDICTION}": {prediction!r}}}')


def main() -> None:
    """Run the program; every error is one line on stderr."""
    logging.basicConfig(format="mlops-registry: %(message)s", level=logging.ERROR)
    logging.getLogger("mlops_registry").setLevel(logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    # As an exception, so that temporary directories and the scorer go with us.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        code = _say(error.format_message(), 2)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        code = _say(f"{error.filename or 'output'}: {error.strerror or error}", 1)
    except Exception as error:  # noqa: BLE001 (people get one line, whatever it is)
        from .errors import RegistryError

        if _ended_by:
            code = 128 + _ended_by[0]
        elif isinstance(error, RegistryError):
            code = _say(str(error), error.exit_code)
        else:
            code = _say(f"this is a defect of the program: {error!r}", 1)
    sys.exit(code or 0)


def _end(number: int, _: object) -> None:
    _ended_by.append(number)
    os.write(2, f"mlops-registry: ended by {signal.Signals(number).name}\n".encode())  # `print` may be at work
    sys.exit(128 + number)


def _say(message: str, code: int) -> int:
    print(f"mlops-registry: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


def _named(version: str | None, model: str | None, version_id: str | None) -> str:
    from . import names
    from .errors import BadInputError

    if version:
        return version
    if not (model and version_id):
        raise BadInputError("which version? Name it, or set MODEL and VERSION_ID")
    return f"{names.model_name(model)}/{names.version_id(version_id)}"


def _runner(engine_run: str, alloc_id: str) -> str:
    return " ".join(filter(None, (engine_run, alloc_id))) or "command"


def _tell(verification: "Verification", as_json: bool = False) -> None:
    """Say what became of a verification; a failed one ends the program with 1."""
    version = f"{verification.model}/{verification.version_id}"
    if as_json:
        _print_json(verification)
    elif verification.passed:
        largest = f"the largest difference is {verification.max_difference:.3g}"
        print(f"verified {version}: 0 of {verification.examples} examples differ, {largest}")
    if not verification.passed:
        print(f"mlops-registry: {version} failed its verification: {verification.message}", file=sys.stderr)
        raise typer.Exit(1)


def _registry(bucket: str) -> "Registry":
    from .registry import Registry

    return Registry(bucket)


def _print_json(records: "Record | list[VersionSummary]") -> None:
    """A result as JSON, in ASCII: what others wrote commands no terminal."""
    import json

    if isinstance(records, list):
        told: object = [record.model_dump(mode="json") for record in records]
    else:
        told = records.model_dump(mode="json", by_alias=True)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
