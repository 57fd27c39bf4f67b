"""`mlops-registry`: a job's store and verify tasks, and the registry's commands where `mlops` is not installed.

Options of store and verify come from the environment, as the job sets it. Exit codes: 0 success, 2 bad input or a
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

if TYPE_CHECKING:
    from .manifest import Record, VersionSummary
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
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def store(
    bucket: BucketOption,
    model: ModelOption,
    version_id: VersionOption,
    run_dir: Annotated[Path, typer.Option(envvar="RUN_DIR", help="The finished training's directory.")],
    lane: Annotated[str, typer.Option(envvar="LANE", help="nomad or argo.")],
    engine_run: RunOption,
    alloc_id: AllocationOption,
    image: Annotated[
        list[str] | None, typer.Option(envvar="IMAGE", help="Image that ran, by content hash; repeatable.")
    ] = None,
) -> None:
    """Store a finished training as a version, then remove its directory. Safe to repeat."""
    from .errors import BadInputError
    from .storing import Origin

    if lane not in ("nomad", "argo"):
        raise BadInputError(f"lane {lane!r} is neither nomad nor argo")
    manifest = _registry(bucket).store(
        model, version_id, run_dir, Origin(lane, engine_run, alloc_id, tuple(image or ()))
    )
    print(f"stored {manifest.model}/{manifest.version_id}: {len(manifest.files)} files")
    if run_dir.exists():
        print(f"{run_dir} is kept, as it does not bear the version's id", file=sys.stderr)


@app.command()
def verify(
    bucket: BucketOption,
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="Instead of --model and --version-id.")
    ] = None,
    model: Annotated[str | None, typer.Option(envvar="MODEL", help="The pipeline's name.")] = None,
    version_id: Annotated[
        str | None, typer.Option(envvar="VERSION_ID", help="<name>_v<model version>_<run id>.")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(envvar="RUN_DIR", help="As a job's last task: remove what is left there.")
    ] = None,
    engine_run: Annotated[str, typer.Option(envvar=["ENGINE_RUN", "NOMAD_JOB_ID"], help="For the record.")] = "",
    alloc_id: Annotated[str, typer.Option(envvar=["ALLOC_ID", "NOMAD_ALLOC_ID"], help="For the record.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Load a version back, replay its examples, and record whether it reproduces them. Exit code 1: it does not."""
    from . import names
    from .errors import BadInputError, NoBucketError, NotFoundError
    from .storing import TRAINING, remove_run_dir

    if version:
        run_dir = None
    else:
        if not (model and version_id):
            raise BadInputError("which version? Name it, or set MODEL and VERSION_ID")
        version = f"{names.model_name(model)}/{names.version_id(version_id)}"
    runner = " ".join(filter(None, (engine_run, alloc_id))) or "command"
    try:
        verification = _registry(bucket).verify(version, runner=runner)
    except NotFoundError as error:
        if not (run_dir and version_id):
            raise
        if isinstance(error, NoBucketError):
            raise
        if (run_dir / TRAINING).is_file():
            # A bucket that was out of reach for longer than the store task's attempts must not cost the training.
            print(f"{run_dir} holds a finished training and is kept: `mlops-registry store` stores it", file=sys.stderr)
            raise typer.Exit(1) from None
        left = "" if remove_run_dir(run_dir, version_id) else f"; {run_dir} does not bear the version's id and is kept"
        print(f"nothing was stored as {version}, so there is nothing to verify{left}")
        return
    if as_json:
        _print_json(verification)
    elif verification.passed:
        largest = f"the largest difference is {verification.max_difference:.3g}"
        print(f"verified {version}: 0 of {verification.examples} examples differ, {largest}")
    if not verification.passed:
        print(f"mlops-registry: {version} failed its verification: {verification.message}", file=sys.stderr)
        raise typer.Exit(1)
    if run_dir and version_id:
        remove_run_dir(run_dir, version_id)


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
    sys.stdout.write(_registry(bucket).show(version).json_bytes().decode())


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
        print(f'{{"prediction": {prediction!r}}}')


def main() -> None:
    """Run the program; every error is one line on stderr."""
    logging.basicConfig(format="mlops-registry: %(message)s", level=logging.ERROR)
    logging.getLogger("mlops").setLevel(logging.WARNING)
    # As an exception, so that temporary directories and the scorer go with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        code = _say(error.format_message(), 2)
    except KeyboardInterrupt:
        code = _say("interrupted", 130)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        code = _say(f"{error.filename or 'output'}: {error.strerror or error}", 1)
    except Exception as error:  # noqa: BLE001 (people get one line, whatever it is)
        from .errors import RegistryError

        if isinstance(error, RegistryError):
            code = _say(str(error), error.exit_code)
        else:
            code = _say(f"this is a defect of the program: {error!r}", 1)
    sys.exit(code or 0)


def _say(message: str, code: int) -> int:
    print(f"mlops-registry: {' '.join(message.split())}", file=sys.stderr)
    return code


def _registry(bucket: str) -> "Registry":
    from .registry import Registry

    return Registry(bucket)


def _print_json(records: "Record | list[VersionSummary]") -> None:
    import json

    if isinstance(records, list):
        print(json.dumps([record.model_dump(mode="json") for record in records], indent=1))
    else:
        sys.stdout.write(records.json_bytes().decode())


if __name__ == "__main__":
    main()
