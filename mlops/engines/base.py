"""One `Run` type and one `Engine` interface, whichever engine runs a pipeline.

Owns what the command knows of a run, and how runs are waited for. Deliberately knows no engine: `nomad.py` speaks
Nomad's API, `argo.py` Argo Server's, to the real ones and to the embedded engine alike.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Status = Literal["pending", "running", "complete", "failed", "lost", "stopped"]
FINISHED: frozenset[Status] = frozenset({"complete", "failed", "lost", "stopped"})
_POLL_SECONDS = 0.5
PATIENCE_SECONDS = 300.0
"""How long an engine may give no answer before nobody waits for it any more."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_ENDED_FROM_OUTSIDE = 137
"""The exit code of what SIGKILL ended: a container out of memory, for one."""


class EngineError(Exception):
    """The engine could not be reached, or failed; the message is one line that says what to do."""

    exit_code = 1


class RefusedError(EngineError):
    """The engine refused what it was asked; a repeat would be refused too."""

    exit_code = 2


@dataclass(frozen=True)
class Step:
    """One task of an execution: what it does, what it asked for and what it used (None where the engine does not say).

    Attributes:
        exit_code: Of the last attempt, None before it ended and where it never began.
        cpu_mhz: CPU asked for, in MHz as Nomad counts.
        memory_mb: Memory asked for, in MiB.
        peak_memory_mb: The most it held, in MiB.
        wall_seconds: Of all attempts, or of the last where the engine knows no other.
    """

    name: str
    state: Literal["pending", "running", "dead"]
    failed: bool
    restarts: int
    exit_code: int | None
    message: str
    cpu_mhz: int | None = None
    memory_mb: int | None = None
    peak_memory_mb: float | None = None
    cpu_seconds: float | None = None
    wall_seconds: float | None = None


@dataclass(frozen=True)
class Execution:
    """What makes one model version: a Nomad allocation, an Argo workflow. `id` ends the version id."""

    id: str
    status: Status
    steps: tuple[Step, ...]
    version_id: str | None


@dataclass(frozen=True)
class Run:
    """One submission of a pipeline with its parameters.

    Attributes:
        created: In seconds since 1970.
        message: What the engine says of the whole, where it says anything.
        notes: What of the pipeline means nothing where it ran.
    """

    id: str
    pipeline: str
    status: Status
    parameters: Mapping[str, str]
    created: float
    executions: tuple[Execution, ...] = field(default=())
    message: str = ""
    notes: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.status in FINISHED

    @property
    def failed_step(self) -> tuple[Execution, Step] | None:
        """The first step that failed, with its execution."""
        for execution in self.executions:
            for step in execution.steps:
                if step.failed:
                    return execution, step
        return None


class Engine(Protocol):
    """What the command needs of an engine. Every method raises EngineError."""

    def submit(self, pipeline: str, parameters: Mapping[str, str], token: str | None) -> str:
        """Start a run and give its id; the same token starts nothing twice and gives the same id."""
        ...

    def status(self, run_id: str) -> Run:
        """The run as it is now."""
        ...

    def runs(self) -> list[Run]:
        """All runs the engine remembers, newest first, without their executions."""
        ...

    def logs(self, execution_id: str, step: str, stream: Literal["stdout", "stderr"], *, follow: bool) -> Iterator[str]:
        """Pieces of a step's output; with `follow` until the step ends."""
        ...

    def stop(self, run_id: str) -> None:
        """Stop a run; what it stored stays."""
        ...

    def wait(self, run_ids: Iterable[str]) -> Iterator[Run]:
        """Each run whenever it changed, until all have finished."""
        ...


def watch(
    status: Callable[[str], Run], marks: Callable[[], Mapping[str, tuple[bool, object]]], run_ids: Iterable[str]
) -> Iterator[Run]:
    """Each run whenever it changed, until all have finished.

    Args:
        status: Gives one run as it is now.
        marks: In one request, for all runs but those that have ended: whether it may have ended, and something that
            changes when it does. Only these are asked after one by one, so that watching many runs costs the engine no
            more than watching a few.
        run_ids: Which runs.
    """
    seen: dict[str, Run | None] = dict.fromkeys(run_ids)
    marked: dict[str, tuple[bool, object]] = {}
    open_runs = list(seen)
    while open_runs:
        now = marks()
        for run_id in open_runs:
            mark = now.get(run_id, (True, None))
            if seen[run_id] is not None and mark == marked.get(run_id) and not mark[0]:
                continue
            marked[run_id] = mark
            run = status(run_id)
            if run != seen[run_id]:
                seen[run_id] = run
                yield run
        open_runs = [run_id for run_id, run in seen.items() if run is None or not run.finished]
        if open_runs:
            time.sleep(max(_POLL_SECONDS, 0.002 * len(open_runs)))


def follow(
    engine: Engine,
    run_ids: Iterable[str],
    told: Callable[[EngineError], None],
    *,
    patience: float = PATIENCE_SECONDS,
    first_pause: float = _FIRST_PAUSE,
) -> Iterator[Run]:
    """What `Engine.wait` gives, also while the engine restarts or cannot be reached for some time.

    Args:
        engine: Whose runs they are.
        run_ids: Which runs.
        told: Is called with the error when the engine stops answering, once each time.
        patience: How many seconds it may give no answer.
        first_pause: In seconds; each next one is twice as long, up to a limit.

    Raises:
        EngineError: The engine refused, or did not answer for that long.
    """
    # Not a library's retries: those wrap one request. Here an answer ends the outage, and what is repeated is the
    # watching of those runs that have not ended.
    left = dict.fromkeys(run_ids)
    silent_since, pause = None, first_pause
    while left:
        try:
            for run in engine.wait(list(left)):
                silent_since, pause = None, first_pause
                if run.finished:
                    left.pop(run.id, None)
                yield run
            return
        except RefusedError:
            raise
        except EngineError as error:
            if silent_since is None:
                silent_since = time.monotonic()
                told(error)
            if time.monotonic() - silent_since >= patience:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def refusal(status: int, text: str) -> EngineError:
    """The error that an engine's answer means, by its HTTP status and what it says."""
    message = " ".join(text.split()) or "the engine refused without a reason"
    # A server that asks to slow down, or that waited too long for the request, takes the same request later.
    return RefusedError(message) if status < 500 and status not in (408, 429) else EngineError(message)


def unregistered(pipeline: str, registered: Iterable[str], where: str) -> RefusedError:
    """The refusal of a pipeline that the engine does not know, with what to do.

    Args:
        pipeline: Its name.
        registered: The pipelines that the engine does know.
        where: The engine, in the words of `on ...`.
    """
    known = ", ".join(sorted(registered))
    return RefusedError(
        f"{pipeline} is not registered on {where}, so nothing was started; registered there: {known or 'nothing'}. "
        "Register it with `mlops up`, or on a real engine with `pulumi up --stack STACK`"
    )


def reason(engine: Engine, execution: Execution, step: Step) -> str:
    """Why a step failed: the last line that it wrote for people, or else what the engine says."""
    # It never began, or was ended from outside: what it wrote is not why.
    if step.exit_code in (None, _ENDED_FROM_OUTSIDE) and step.message:
        return step.message
    try:
        lines = "".join(engine.logs(execution.id, step.name, "stderr", follow=False)).strip().splitlines()
    except EngineError:  # its node may be gone; the other runs are still to be watched
        lines = []
    return lines[-1] if lines else step.message


def version_id(name: str, model_version: str, execution_id: str) -> str:
    """The version id that an execution stores under; see the contract in docs/architecture.md."""
    return f"{name}_v{model_version}_{execution_id}"


def total(executions: Iterable[Execution]) -> Status:
    """A run's status from its executions: the worst that happened, running while any still runs."""
    states = [execution.status for execution in executions]
    if not states:
        return "pending"
    if any(state == "running" for state in states) or ("pending" in states and set(states) != {"pending"}):
        return "running"
    worst_first: tuple[Status, ...] = ("pending", "failed", "lost", "stopped", "complete")
    return next(state for state in worst_first if state in states)
