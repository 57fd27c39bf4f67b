"""`mlops runs`: what is running and what ran."""

from collections.abc import Iterable
from typing import Annotated, Literal

import typer

from mlops.cli.output import Json, RefusalError, Stack, err, number, out, print_json, print_log, table, when
from mlops.cli.session import Session
from mlops.engines.base import Engine, Execution, reason

app = typer.Typer(help="What is running and what ran: list, show, logs, stop.", invoke_without_command=True)

Stream = Literal["stdout", "stderr"]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the last characters of it.")]


@app.callback()
def _default(context: typer.Context, *, json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_runs(json=json)
    elif json:
        raise RefusalError(
            f"--json goes behind the command: mlops {context.info_name} {context.invoked_subcommand} --json"
        )


@app.command("list")
def list_runs(
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 20,
    stack: Stack = "local",
    json: Json = False,
) -> None:
    """List the runs that the engines remember, newest first."""
    # Each engine has them newest first; those of one second stay in its order.
    runs = (run for engine in Session(stack).engines for run in engine.runs())
    every = sorted(runs, key=lambda run: run.created, reverse=True)
    if json:
        print_json(every[:limit])
        return
    table(
        ["run", "version", "status", "started"],
        ([run.id, run.parameters.get("model_version", "-"), run.status, when(run.created)] for run in every[:limit]),
    )
    if len(every) > limit:
        err.print(f"{len(every) - limit} more; `mlops runs list -n {len(every)}` shows them all.")


@app.command()
def show(run: RunId, *, stack: Stack = "local", json: Json = False) -> None:
    """Show one run: parameters, versions, and what each task used beside what it asked for."""
    engine, run_id = _resolve(Session(stack), run)
    found = engine.status(run_id)
    if json:
        print_json(found)
        return
    table(
        ["run", found.id],
        [
            ["pipeline", found.pipeline],
            ["status", found.status],
            ["started", when(found.created)],
            *([["message", found.message]] if found.message else []),
            *(["note", note] for note in found.notes),
            *([f"-p {key}", value] for key, value in sorted(found.parameters.items()) if value),
        ],
    )
    for execution in found.executions:
        text = f"\nexecution {execution.id}: {execution.status}, version {execution.version_id or '-'}"
        out.print(text, markup=False)
        table(
            ["task", "state", "restarts", "wall s", "cpu s", "peak MiB", "asked MiB", "asked MHz", "what it said"],
            (
                [
                    step.name,
                    "failed" if step.failed else step.state,
                    str(step.restarts),
                    number(step.wall_seconds, 1),
                    number(step.cpu_seconds, 1),
                    number(step.peak_memory_mb, 0),
                    str(step.memory_mb or "-"),
                    str(step.cpu_mhz or "-"),
                    reason(engine, execution, step) if step.failed else step.message,
                ]
                for step in execution.steps
            ),
            right=["restarts", "wall s", "cpu s", "peak MiB", "asked MiB", "asked MHz"],
        )


@app.command()
def logs(
    run: RunId,
    *,
    task: Annotated[str | None, typer.Option(help="Only this task's output.")] = None,
    stream: Annotated[Stream | None, typer.Option(help="Only this stream.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task ends.")] = False,
    stack: Stack = "local",
    json: Json = False,
) -> None:
    """Print the output of a run's tasks, one after the other.

    On a terminal, colours are left out and other control characters are shown as escapes, since a task may print
    anything. A file or a pipe gets the output as it is.
    """
    engine, run_id = _resolve(Session(stack), run)
    found = engine.status(run_id)
    steps = [(execution, step.name) for execution in found.executions for step in execution.steps]
    if task is not None:
        steps = [(execution, name) for execution, name in steps if name == task]
        if not steps:
            raise RefusalError(f"{found.id} has no task {task!r}; `mlops runs show {run}` names its tasks")
    streams: tuple[Stream, ...] = ("stdout", "stderr") if stream is None else (stream,)
    if json:
        print_json(
            [
                {
                    "execution": execution.id,
                    "task": name,
                    "stream": kind,
                    "text": "".join(engine.logs(execution.id, name, kind, follow=follow)),
                }
                for execution, name in steps
                for kind in streams
            ]
        )
        return
    if follow and len(steps) > 1 and stream is None and task is None:
        streams = ("stdout",)  # two streams cannot be followed in turn
    for execution, name in steps:
        _print_logs(engine, execution, name, streams, follow=follow)


def _print_logs(engine: Engine, execution: Execution, task: str, streams: Iterable[Stream], *, follow: bool) -> None:
    for kind in streams:
        headed = False
        for piece in engine.logs(execution.id, task, kind, follow=follow):
            if not headed:
                err.print(f"--- {task} {kind} ({execution.id})", style="dim")
                headed = True
            print_log(piece)


@app.command()
def stop(run: RunId, *, stack: Stack = "local", json: Json = False) -> None:
    """Stop a run. What it stored stays; what it had not stored is removed."""
    engine, run_id = _resolve(Session(stack), run)
    found = engine.status(run_id)
    if found.finished:
        raise RefusalError(f"{run_id} has already ended ({found.status}), so there is nothing to stop")
    engine.stop(run_id)
    if json:
        print_json({"stopped": run_id})
    else:
        out.print(f"Stopping {run_id}.")


def _resolve(session: Session, text: str) -> tuple[Engine, str]:
    """The engine and the id of the run that a text means."""
    every = [(engine, run.id) for engine in session.engines for run in engine.runs()]
    matches = [one for one in every if one[1] == text] or [one for one in every if text and one[1].endswith(text)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = ", ".join(run_id for _, run_id in matches[:3])
        raise RefusalError(f"{text!r} is the end of {len(matches)} runs; give more of the id: {shown} ...")
    raise RefusalError(f"there is no run {text!r}; `mlops runs list` shows those there are")
