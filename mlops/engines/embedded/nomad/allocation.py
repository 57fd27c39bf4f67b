"""One allocation: its tasks in Nomad's order, with Nomad's states and events.

Owns: the coordination of prestart, main and poststop tasks, the leader, restarts, stopping, and what is reported of
them. Deliberately not: what is remembered (`jobs`), how a process is run (`tasks`), who may start when (`scheduler`).
"""

import asyncio
import logging
import random
import shutil
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.machine import Machine
from mlops.engines.embedded.nomad import interpolate, templates
from mlops.engines.embedded.nomad.jobspec import FILE, DockerConfig, Group, Job, Restart, Task
from mlops.engines.embedded.tasks import Command, Exit, Process

_log = logging.getLogger(__name__)
_MAX_EVENTS = 10
_MAX_KILL_SECONDS = 30.0  # a Nomad client's own default limit
_JITTER = 0.25
_NEVER = "0001-01-01T00:00:00Z"

_T = TypeVar("_T")
State = Literal["pending", "running", "dead"]
Event = dict[str, Any]


def _event(type_: str, message: str, **fields: Any) -> Event:
    details = {
        "".join(f"_{c.lower()}" if c.isupper() else c for c in key).strip("_"): str(value)
        for key, value in fields.items()
    }
    return {
        "Type": type_,
        "Time": time.time_ns(),
        "DisplayMessage": message,
        "Message": message,
        "Details": details,
        **fields,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class _RestartTracker:
    """Whether a task that ended starts again, by Nomad's rules for batch jobs and mode "fail"."""

    def __init__(self, policy: Restart) -> None:
        self._policy = policy
        self._begin = time.monotonic()
        self._count = 0

    def after(self, code: int) -> tuple[float | None, str]:
        """The delay before the next attempt, or None, and the reason."""
        policy = self._policy
        if code == 0:
            return None, ""
        if policy.attempts == 0:
            return None, "Policy allows no restarts"
        if time.monotonic() - self._begin > policy.interval:
            self._count, self._begin = 0, time.monotonic()
        self._count += 1
        if self._count > policy.attempts:
            return (
                None,
                f'Exceeded allowed attempts {policy.attempts} in interval {_go(policy.interval)} and mode is "fail"',
            )
        spread = 1 + _JITTER * random.random()  # noqa: S311 - it only spreads restarts
        return policy.delay * spread, "Restart within policy"


def _go(seconds: float) -> str:
    """A duration as Go prints it."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    text = f"{rest:.9f}".rstrip("0").rstrip(".") + "s"
    return (f"{int(hours)}h{int(minutes)}m" if hours else f"{int(minutes)}m" if minutes else "") + text


class _TaskRunner:
    """One task of an allocation, from the first wait to the last attempt."""

    def __init__(self, allocation: "Allocation", task: Task) -> None:
        self.task = task
        self.state: State = "pending"
        self.failed = False
        self.restarts = 0
        self.started_at = self.finished_at = self.last_restart = _NEVER
        self.events: list[Event] = [_event("Received", "Task received by client")]
        self.usage: dict[str, float] = {}
        self.gate = asyncio.Event()
        self.killed = asyncio.Event()
        self.done = asyncio.Event()
        self._allocation = allocation
        self._tracker = _RestartTracker(task.restart or allocation.group.restart)

    def report(self) -> dict[str, Any]:
        return {
            "State": self.state,
            "Failed": self.failed,
            "Restarts": self.restarts,
            "LastRestart": self.last_restart,
            "StartedAt": self.started_at,
            "FinishedAt": self.finished_at,
            "Events": list(self.events),
        }

    def emit(self, event: Event, state: State | None = None) -> None:
        """Record an event, and a change of state with it."""
        self.events = [*self.events, event][-_MAX_EVENTS:]
        self.failed = self.failed or bool(event.get("FailsTask"))
        self.turn(state or self.state)

    def turn(self, state: State) -> None:
        if state == "running" != self.state:
            self.started_at = _now()
        if state == "dead" and self.finished_at == _NEVER:
            self.finished_at = _now()
        self.state = state
        self._allocation.task_changed()

    async def kill(self, event: Event | None) -> None:
        """End the task and wait until it has ended."""
        self.killed.set()
        if event is not None:
            self.emit(event)
        await self.done.wait()

    async def run(self) -> None:
        try:
            await self._attempts()
        except Exception as error:  # noqa: BLE001 - a defect here must end the task as failed, not hang the run
            _log.exception("task %s of allocation %s", self.task.name, self._allocation.id)
            self._give_up("Driver Failure", f"the engine failed: {type(error).__name__}; see the supervisor's log")
        finally:
            self.done.set()
            if self.state != "dead":
                self.turn("dead")

    def _give_up(self, type_: str, message: str) -> None:
        key = "SetupError" if type_ == "Setup Failure" else "DriverError"
        self.emit(_event(type_, message, **{key: message}))
        reason = "Error was unrecoverable"
        self.emit(_event("Not Restarting", reason, RestartReason=reason, FailsTask=True), "dead")

    async def _attempts(self) -> None:
        await self._unless_killed(self.gate.wait())
        if not self.killed.is_set():
            self.emit(_event("Task Setup", "Building Task Directory"))
        while not self.killed.is_set():
            try:
                command = await self._unless_killed(self._command())
                if command is None:
                    break
                process = await self._allocation.machine.processes.start(command)
            except EmbeddedError as error:
                self._give_up("Driver Failure", str(error))
                return
            except OSError as error:
                self._give_up("Setup Failure", f"cannot prepare the task: {error.strerror} ({error.filename})")
                return
            self.emit(_event("Started", "Task started by client"), "running")
            end = await self._end(process)
            self._account(end)
            text = f"Exit Code: {end.code}" + (f", Signal: {end.signal}" if end.signal else "")
            self.emit(_event("Terminated", text, ExitCode=end.code, Signal=end.signal))
            if self.killed.is_set():
                self.emit(_event("Killed", "Task successfully killed"))
                return
            delay, reason = self._tracker.after(end.code)
            if delay is None:
                if end.code:
                    self.emit(_event("Not Restarting", reason, RestartReason=reason, FailsTask=True), "dead")
                return
            self.restarts += 1
            self.last_restart = _now()
            self.emit(
                _event(
                    "Restarting", f"Task restarting in {_go(delay)}", RestartReason=reason, StartDelay=int(delay * 1e9)
                ),
                "pending",
            )
            await self._unless_killed(asyncio.sleep(delay))

    async def _unless_killed(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        job, kill = asyncio.ensure_future(work), asyncio.ensure_future(self.killed.wait())
        try:
            await asyncio.wait({job, kill}, return_when=asyncio.FIRST_COMPLETED)
            return job.result() if job.done() else None
        finally:
            kill.cancel()
            if not job.done():
                job.cancel()
                await asyncio.gather(job, return_exceptions=True)

    async def _end(self, process: Process) -> Exit:
        end = await self._unless_killed(process.wait())
        if end is not None:
            return end
        default = "SIGTERM" if self.task.driver == "docker" else "SIGINT"
        return await process.stop(
            signal.Signals[self.task.kill_signal or default], min(self.task.kill_timeout, _MAX_KILL_SECONDS)
        )

    def _account(self, end: Exit) -> None:
        used = self.usage
        self.usage = {
            "PeakMemoryBytes": max(used.get("PeakMemoryBytes", 0), end.peak_memory_bytes),
            "CpuSeconds": round(used.get("CpuSeconds", 0.0) + end.cpu_seconds, 3),
            "WallSeconds": round(used.get("WallSeconds", 0.0) + end.wall_seconds, 3),
        }

    async def _command(self) -> Command:
        """Everything that is to be run; what it needs is in place afterwards."""
        allocation, task, machine = self._allocation, self.task, self._allocation.machine
        home = allocation.folder / task.name
        for folder in (
            allocation.folder / "alloc" / "data",
            allocation.folder / "alloc" / "tmp",
            home / "local",
            home / "tmp",
        ):
            folder.mkdir(parents=True, exist_ok=True)
        (home / "secrets").mkdir(mode=0o700, exist_ok=True)
        stdout, stderr = allocation.log(task.name, "stdout"), allocation.log(task.name, "stderr")
        sources = {volume.name: machine.state / "volumes" / volume.source for volume in allocation.group.volume}
        mounts = [(mount.destination, sources[mount.volume]) for mount in task.volume_mount]
        for _, source in mounts:
            source.mkdir(parents=True, exist_ok=True)
        known = interpolate.nomad_variables(
            allocation.job, allocation.group, task,
            run_id=allocation.run_id, meta=allocation.meta,
            alloc_id=allocation.id, index=allocation.index, folder=allocation.folder,
        )  # fmt: skip

        def argument(value: str) -> str:
            return interpolate.hosted(interpolate.configured(value, known), mounts)

        config = task.config
        if isinstance(config, DockerConfig):
            image = await machine.images.resolve(interpolate.configured(config.image, known))
            await machine.images.prepare(
                image,
                machine.processes,
                stderr,
                lambda text: self.emit(_event("Driver", f"Preparing: {text}", DriverMessage=f"Preparing: {text}")),
            )
            entrypoint = image.entrypoint if config.entrypoint is None else tuple(map(argument, config.entrypoint))
            given = ([config.command] if config.command is not None else []) + list(config.args or ())
            # As in Docker, an overridden entrypoint takes the image's CMD with it.
            use_cmd = not given and config.args is None and config.entrypoint is None
            argv = [*entrypoint, *(image.cmd if use_cmd else map(argument, given))]
            cwd, path, image_env = image.folder, image.path, image.env
            if not argv:
                raise EmbeddedError(
                    f"images/{image.folder.name} names no program: its Dockerfile has no ENTRYPOINT or CMD, and the"
                    " task gives none"
                )
        else:
            argv = [argument(config.command), *map(argument, config.args or ())]
            cwd, path, image_env = home, (), {}
        secrets: dict[str, str] = {}
        variables = {f"nomad/jobs/{allocation.job.id}": machine.credentials} if machine.credentials else {}
        for template in task.template:
            if template.env:
                secrets.update(templates.rendered(template.data, variables))
            elif templates.text_of(template.data, variables).strip():
                raise EmbeddedError(FILE)
        own = {key: interpolate.hosted(value, mounts) for key, value in interpolate.environment(task, known).items()}
        environment = {
            **machine.environment(home, home / "tmp", path),
            **image_env,
            **await machine.code(),
            **known,
            **own,
            **secrets,
        }
        if any("\x00" in value for value in (*argv, *environment.values())):
            raise EmbeddedError("a value holds a NUL character, which neither arguments nor environment can carry")
        return Command(tuple(argv), environment, cwd, stdout, stderr, task.resources.amount.niceness)


class Allocation:
    """One execution of a group for one dispatch.

    Args:
      changed: Is called after every change of what `report` gives.
    """

    def __init__(
        self, machine: Machine, job: Job, group: Group, index: int, *,
        alloc_id: str, run_id: str, meta: Mapping[str, str], changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self.machine = machine
        self.job = job
        self.group = group
        self.index = index
        self.id = alloc_id
        self.run_id = run_id
        self.meta = meta
        self.folder = machine.state / "allocs" / alloc_id
        self.desired: Literal["run", "stop"] = "run"
        self.terminal = False
        self._changed = changed
        self._created = time.time_ns()
        self._placed = False
        self._killing: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self._runners = {task.name: _TaskRunner(self, task) for task in group.task}

    def log(self, task: str, stream: str) -> Path:
        """Where a task's output is."""
        return log_file(self.machine.state, self.id, task, stream)

    def report(self) -> dict[str, Any]:
        """The allocation as Nomad's API shows it, with TaskUsage added."""
        status, description = self.status()
        return {
            "ID": self.id,
            "Name": f"{self.run_id}.{self.group.name}[{self.index}]",
            "Namespace": "default",
            "EvalID": "",
            "NodeID": "",
            "NodeName": "embedded",
            "JobID": self.run_id,
            "JobType": "batch",
            "TaskGroup": self.group.name,
            "DesiredStatus": self.desired,
            "DesiredDescription": "run stopped by request" if self.desired == "stop" else "",
            "ClientStatus": status,
            "ClientDescription": description,
            "TaskStates": {name: runner.report() for name, runner in self._runners.items()},
            "TaskUsage": {name: runner.usage for name, runner in self._runners.items() if runner.usage},
            "CreateTime": self._created,
            "ModifyTime": time.time_ns(),
        }

    def status(self) -> tuple[str, str]:
        """ClientStatus and its description, by Nomad's rules."""
        runners = self._runners.values()
        if any(runner.state == "dead" and runner.failed for runner in runners):
            return "failed", "Failed tasks"
        if any(runner.state == "running" for runner in runners):
            return "running", "Tasks are running"
        if any(runner.state == "pending" for runner in runners):
            return "pending", "No tasks have started" if self._placed else "Waiting for cores and memory"
        return "complete", "All tasks have completed"

    def counted_as(self) -> str:
        """Under which name the summary of its job counts it."""
        status, _ = self.status()
        return status.capitalize() if status != "pending" else "Starting" if self._placed else "Queued"

    async def run(self) -> None:
        """Wait for the resources, run every task, and end as complete or failed."""
        stopped = asyncio.ensure_future(self._stopped.wait())
        working = asyncio.ensure_future(self._work())
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not self._placed:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
                for runner in self._runners.values():
                    runner.turn("dead")
            else:
                await working
        finally:
            stopped.cancel()
            working.cancel()
        self.terminal = True
        self._changed()

    async def _work(self) -> None:
        async with self.machine.scheduler.granted(self.group.amount):
            if self.desired == "stop":  # between the grant and now
                return
            self._placed = True
            self.task_changed()
            await asyncio.gather(*(runner.run() for runner in self._runners.values()))
            for name in self._runners:
                shutil.rmtree(self.folder / name / "tmp", ignore_errors=True)

    def task_changed(self) -> None:
        """Decide what a change of a task's state means for the others."""
        if not self._placed:
            return
        early = [runner for runner in self._runners.values() if runner.task.hook != "poststop"]
        alive = [runner for runner in early if runner.state != "dead"]
        if alive and self._killing is None and (event := self._reason_to_kill(early)):
            self._killing = asyncio.ensure_future(self._kill_all())
            for runner in alive:
                runner.emit(event)
        elif not alive:
            self._open("poststop")
        elif self._killing is None:
            self._open("prestart")
            if all(runner.state == "dead" and not runner.failed for runner in early if runner.task.hook == "prestart"):
                self._open("main")
        self._changed()

    def _open(self, hook: str) -> None:
        for runner in self._runners.values():
            if runner.task.hook == hook:
                runner.gate.set()

    @staticmethod
    def _reason_to_kill(early: list[_TaskRunner]) -> Event | None:
        for runner in early:
            if runner.state == "dead" and not runner.failed and runner.task.leader:
                return _event("Leader Task Dead", "Leader Task in Group dead")
        for runner in early:
            if runner.state == "dead" and runner.failed:
                name = runner.task.name
                return _event("Sibling Task Failed", f'Task\'s sibling "{name}" failed', FailedSibling=name)
        return None

    async def _kill_all(self) -> None:
        early = [runner for runner in self._runners.values() if runner.task.hook != "poststop"]

        def event(runner: _TaskRunner) -> Event | None:
            if runner.state == "dead":
                return None
            patience = min(runner.task.kill_timeout, _MAX_KILL_SECONDS)
            return _event(
                "Killing",
                f"Sent interrupt. Waiting {_go(patience)} before force killing",
                KillTimeout=int(patience * 1e9),
            )

        for leader in (runner for runner in early if runner.task.leader):
            await leader.kill(event(leader))
        await asyncio.gather(*(runner.kill(event(runner)) for runner in early if not runner.task.leader))

    def stop(self) -> None:
        """Stop by request: end what runs; poststop tasks still run, as in Nomad."""
        if self.terminal or self.desired == "stop":
            return
        self.desired = "stop"
        self._stopped.set()
        if self._placed and self._killing is None:
            self._killing = asyncio.ensure_future(self._kill_all())
        self._changed()


def log_file(state: Path, alloc_id: str, task: str, stream: str) -> Path:
    """Where a task's output is; the name ends in Nomad's file number."""
    return state / "allocs" / alloc_id / f"{task}.{stream}.0"
