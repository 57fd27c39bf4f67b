"""`mlops run`: start runs of a pipeline, watch them, and show the versions they stored."""

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.core
from rich.markup import escape

from mlops.cli.output import Json, RefusalError, Stack, err, out, print_json, table
from mlops.cli.quality import QUALITY, quality
from mlops.cli.session import Session
from mlops.engines.base import PATIENCE_SECONDS, Engine, EngineError, Run, follow, reason
from mlops.paths import CHECKOUT

_MOST_RUNS = 10_000
_MOST_NAMED = 20
_BUCKET_SECONDS = 15.0
_EMBEDDED_PATIENCE_SECONDS = 10.0
"""The embedded platform that ended does not come back at the same address."""


class _RunCommand(typer.core.TyperCommand):
    """Help that ends with the pipelines and their parameters, read from `jobs/`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        from mlops import parameters

        super().format_help(ctx, formatter)
        jobs = Session("local").settings.jobs
        for name, file in parameters.files(CHECKOUT / "jobs").items():
            try:
                pipeline = parameters.load(file)
            except parameters.ParameterError as error:
                out.print(f"[bold]{name}[/bold]: {escape(str(error))}")
                continue
            set_by_stack = jobs[name].parameters if name in jobs else {}
            out.print(f"[bold]{name}[/bold]: {pipeline.description}")
            table(
                ["  -p", "type", "default on stack local", "what it is"],
                (
                    [
                        f"  {key}",
                        parameter.range_text,
                        set_by_stack.get(key) or parameter.default_text or ("required" if parameter.required else ""),
                        parameter.description,
                    ]
                    for key, parameter in pipeline.parameters.items()
                ),
            )
            out.print()


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(cls=_RunCommand)(run)


def run(
    pipeline: Annotated[str, typer.Argument(help="A pipeline's name, such as sales-close-prediction.")],
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="KEY=VALUE", help="A parameter of the run; repeat for more."),
    ] = None,
    runs: Annotated[
        int, typer.Option(min=1, max=_MOST_RUNS, help="How many runs of each version; every one is a version.")
    ] = 1,
    versions: Annotated[
        str | None, typer.Option(metavar="A..B", help="Run model versions A to B, both included, in one go.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start the runs and leave; follow with `mlops runs`.")
    ] = False,
    idempotency_token: Annotated[
        str | None,
        typer.Option(
            help="A repeat with the same token starts nothing twice but what was lost; it follows what it started."
        ),
    ] = None,
    stack: Stack = "local",
    json: Json = False,
) -> None:
    """Start runs of PIPELINE, watch them, and show the model versions they stored, if it stores any.

    Interrupting this command does not stop the runs.
    """
    from mlops import parameters

    files = parameters.files(CHECKOUT / "jobs")
    if pipeline not in files:
        near = difflib.get_close_matches(pipeline, files, 1)
        fix = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(files)}"
        raise RefusalError(f"there is no pipeline {pipeline!r}, so nothing was started; {fix}")
    declared = parameters.load(files[pipeline])
    given = parameters.assignments(parameter or [])
    if versions is None:
        each_version: list[dict[str, str]] = [given]
    elif "model_version" not in declared.parameters:
        raise RefusalError(
            f"--versions needs a parameter model_version, which {pipeline} does not have; give it with -p"
        )
    elif "model_version" in given:
        raise RefusalError(
            "--versions and -p model_version both name the version, so nothing was started; give one of them"
        )
    else:
        each_version = [given | {"model_version": str(version)} for version in _range(versions)]
    if len(each_version) * runs > _MOST_RUNS:
        raise RefusalError(f"{len(each_version) * runs} runs are more than {_MOST_RUNS}; start them in parts")

    # Given values are checked before anything is connected: a typing error needs no platform to be told.
    for values in each_version:
        declared.check(values)
    session = Session(stack)
    defaults = session.defaults(pipeline, declared.parameters)
    requests = [
        (values, f"{idempotency_token}/{values.get('model_version', '')}/{i}" if idempotency_token else None)
        for values in (declared.resolve(values, defaults) for values in each_version)
        for i in range(runs)
    ]
    engine = session.engine(pipeline)
    stores = "model_version" in declared.parameters
    if stores and not detach:
        _check_bucket(session)
    started: list[str] = []
    try:
        for values, token in requests:
            started.append(submit(engine, pipeline, values, token))
    except (KeyboardInterrupt, EngineError) as error:
        _tell_going_on(started, stack, json=json and isinstance(error, EngineError))
        raise
    if detach:
        _tell_detached(started, stack, json=json)
        return
    from mlops_registry.bucket import library

    library()  # the report's, loaded while the runs work
    finished = watch(session, engine, started, json=json)
    _report(session, pipeline, finished, stores=stores, json=json)
    end(finished)


def _check_bucket(session: Session) -> None:
    """Refuse to start what could not be reported; the embedded platform's bucket is there with it, and asks nobody."""
    if session.platform:
        return
    from mlops_registry import Registry, RegistryError

    try:
        Registry(session.models, deadline=_BUCKET_SECONDS).bucket.check()
    except RegistryError as error:
        raise type(error)(
            f"nothing was started, as the versions could not be shown: {error}; with --detach runs start all the same"
        ) from None


def submit(engine: Engine, pipeline: str, values: dict[str, str], token: str | None) -> str:
    """Start a run, and its successor where the token's run was lost; its id."""
    run_id = engine.submit(pipeline, values, token)
    while token and engine.status(run_id).status == "lost":
        # It will never store anything. Its successor's token follows from it, so that this too starts nothing twice.
        token = f"{token}/{run_id}"
        run_id = engine.submit(pipeline, values, token)
    return run_id


def _range(text: str) -> range:
    match = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", text)
    if not match or int(match[1]) > int(match[2]):
        raise RefusalError(
            f"--versions {text!r} is not a range, so nothing was started; write it as A..B, such as 1..50"
        )
    return range(int(match[1]), int(match[2]) + 1)


def _tell_detached(started: Sequence[str], stack: str, *, json: bool) -> None:
    if json:
        print_json({"runs": list(started)})
        return
    for run_id in started:
        out.print(run_id)
    option = _of(stack)
    err.print(f"Follow with `mlops runs list{option}`; the versions they store will be in `mlops models list{option}`.")


def _tell_going_on(run_ids: Sequence[str], stack: str, *, json: bool) -> None:
    """Name the runs that this command leaves, and how to come back to them."""
    if json:
        print_json({"runs": list(run_ids)})
    if not run_ids:
        return
    more = len(run_ids) - _MOST_NAMED
    named = ", ".join(run_ids[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    option = _of(stack)
    err.print(
        f"{len(run_ids)} run(s) go on without this command: {named}. `mlops runs list{option}` shows how they get on, "
        f"`mlops runs show RUN{option}` shows one, `mlops runs stop RUN{option}` stops one.",
        markup=False,
    )


def _of(stack: str) -> str:
    return "" if stack == "local" else f" --stack {stack}"


def watch(session: Session, engine: Engine, started: Sequence[str], *, json: bool = False) -> list[Run]:
    """Wait for the end of runs and show how they get on.

    Args:
        session: Whose runs they are.
        engine: Which runs them.
        started: Their ids.
        json: Also name on standard output, as JSON, those that go on when the engine is lost.
    """
    latest: dict[str, Run] = {}
    try:
        _watch(session, engine, started, latest)
    except (KeyboardInterrupt, EngineError) as error:
        left = [run_id for run_id in dict.fromkeys(started) if run_id not in latest or not latest[run_id].finished]
        _tell_going_on(left, session.stack, json=json and isinstance(error, EngineError))
        raise
    return [latest[run_id] for run_id in dict.fromkeys(started)]


def _watch(session: Session, engine: Engine, started: Sequence[str], latest: dict[str, Run]) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    patience = _EMBEDDED_PATIENCE_SECONDS if session.platform else PATIENCE_SECONDS
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
    ) as progress:
        bar = progress.add_task("starting", total=len(set(started)))
        told: set[str] = set()

        def troubled(error: EngineError) -> None:
            progress.console.print(f"{error}; asking again for {patience:.0f} s", markup=False)

        for run in follow(engine, started, troubled, patience=patience):
            for note in run.notes:
                if note not in told:
                    told.add(note)
                    progress.console.print(note, markup=False, style="dim")
            latest[run.id] = run
            counts = Counter(r.status for r in latest.values())
            doing = Counter(
                s.name for r in latest.values() for e in r.executions for s in e.steps if s.state == "running"
            )
            progress.update(
                bar,
                completed=sum(r.finished for r in latest.values()),
                description=", ".join(f"{n} {what}" for what, n in [*sorted(counts.items()), *sorted(doing.items())]),
            )
            if run.finished:
                progress.console.print(_ended(engine, run), markup=False)


def _ended(engine: Engine, run: Run) -> str:
    if run.status == "complete":
        return f"{run.id}: complete"
    failed = run.failed_step
    if failed is None:
        return f"{run.id}: {run.status}" + (f": {run.message}" if run.message else "")
    execution, step = failed
    return f"{run.id}: {run.status}: {step.name}: {reason(engine, execution, step)}"


def _report(session: Session, pipeline: str, finished: Sequence[Run], *, stores: bool, json: bool) -> None:
    from mlops_registry import RegistryError

    wanted = {e.version_id: run for run in finished for e in run.executions if e.version_id}
    models = {run.parameters.get("model") or pipeline for run in finished}
    try:
        stored = [v for model in sorted(models) for v in session.registry.list(model) if v.version_id in wanted]
    except RegistryError:
        if json:  # what is known
            print_json({"runs": list(finished), "versions": None})
        raise
    if json:
        print_json({"runs": list(finished), "versions": stored})
        return
    if stored:
        table(
            ["version", *QUALITY],
            ([v.version_id, *quality(v)] for v in stored),
            right=["auc", "baseline"],
        )
    elif stores and any(run.status == "complete" for run in finished):
        err.print("No model version was stored; `mlops runs logs RUN` shows what the tasks said.")


def end(finished: Sequence[Run]) -> None:
    """Leave with the exit code of runs, if one did not complete."""
    failed = [run for run in finished if run.status != "complete"]
    if not failed:
        return
    err.print(f"{len(failed)} of {len(finished)} run(s) did not complete; `mlops runs logs RUN` shows what they said.")
    # Exit code 2 where every failure is the input's: a step that ends with 2 says that repeating would say the same.
    codes = {found[1].exit_code if (found := run.failed_step) else None for run in failed}
    raise typer.Exit(2 if codes == {2} else 1)
