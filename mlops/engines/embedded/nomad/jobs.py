"""Registered jobs, their dispatches and the allocations of these: Nomad's server, as far as one machine needs it.

Owns: registration, the rules of dispatch, idempotency, stopping, what survives a restart. Deliberately not: HTTP, and
what happens inside an allocation. Runs that were not finished when the supervisor ended are `lost` at its next start;
they are never resumed.
"""

import asyncio
import contextlib
import logging
import secrets
import shutil
import time
import uuid
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from mlops.engines.embedded.errors import EmbeddedError, NotFoundError, StorageError
from mlops.engines.embedded.machine import Machine
from mlops.engines.embedded.nomad.allocation import Allocation
from mlops.engines.embedded.nomad.jobspec import DockerConfig, Group, Job, Task, parse
from mlops.engines.embedded.state import Document, Store

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0
_TOGETHER_SECONDS = 0.05


class _Run:
    """A dispatch while any of its allocations lives."""

    def __init__(self, body: Document) -> None:
        self.body = body
        self.allocations: list[Allocation] = []
        self.purge = False


class Jobs:
    """Nomad's jobs on this machine."""

    def __init__(self, machine: Machine, store: Store) -> None:
        self.index = 1
        self._machine = machine
        self._store = store
        self._specs: dict[str, tuple[Job, list[str]]] = {}
        self._runs: dict[str, _Run] = {}
        self._live: dict[str, Allocation] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._closing = False
        self._recover()

    def _recover(self) -> None:
        """Say of everything that was under way that it is lost."""
        for body in self._store.all("allocation", unfinished=True):
            _lose(body)
            self._store.put("allocation", body["ID"], body, unfinished=False)
            self.index = max(self.index, body["ModifyIndex"])
        for body in self._store.all("run", unfinished=True):
            states = [allocation["ClientStatus"] for allocation in self._store.all("allocation", parent=body["ID"])]
            _summarise(body, map(str.capitalize, states), finished=True)
            self._store.put("run", body["ID"], body, unfinished=False)
        for kind in ("job", "run", "allocation"):
            self.index = max(self.index, *(body["ModifyIndex"] for body in self._store.all(kind)), 1)

    # Change and waiting for it

    def _touch(self) -> int:
        self.index += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return self.index

    async def wait(self, index: int, seconds: float) -> None:
        """Wait until something is newer than `index`, as Nomad's blocking queries do, or the time is over."""
        if self.index <= index and not self._closing:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)
                # The end of a task is several changes, told in one answer.
                await asyncio.sleep(_TOGETHER_SECONDS)

    # Registration

    async def register(self, source: str, values: Mapping[str, str]) -> Document:
        """Register a job from its file; the same file and values again change nothing.

        Raises:
          EmbeddedError: The file holds a mistake, or something that is not executed.
        """
        job, notes = await asyncio.to_thread(parse, source, values)
        for group in job.group:
            self._machine.scheduler.check(group.amount, f'group "{group.name}"')
            for task in group.task:
                # What cannot be installed is found here, not by the first run. A name that only a run knows is its own.
                if isinstance(task.config, DockerConfig) and "${" not in task.config.image:
                    image = await self._machine.images.resolve(task.config.image)
                    log = self._machine.state / "images.log"
                    await self._machine.images.prepare(image, self._machine.processes, log, _log.info)
        old = self._store.get("job", job.id)
        same = old is not None and old["Source"] == source and old["VariableFlags"] == dict(values) and not old["Stop"]
        if old is None or not same:
            index = self._touch()
            body = {
                **_view(job, job.meta),
                "Status": "running",
                "Stop": False,
                "SubmitTime": time.time_ns(),
                "Version": old["Version"] + 1 if old else 0,
                "CreateIndex": old["CreateIndex"] if old else index,
                "ModifyIndex": index,
                "JobModifyIndex": index,
                "Source": source,
                "VariableFlags": dict(values),
            }
            self._store.put("job", job.id, body)
        else:
            index = old["JobModifyIndex"]
        self._specs[job.id] = (job, notes)
        return {
            "EvalID": "",
            "EvalCreateIndex": 0,
            "JobModifyIndex": index,
            "Warnings": "\n".join(notes),
            "JobID": job.id,
        }

    async def _spec(self, body: Document) -> tuple[Job, list[str]]:
        job_id = body["ID"]
        if job_id not in self._specs:
            self._specs[job_id] = await asyncio.to_thread(parse, body["Source"], body["VariableFlags"])
        return self._specs[job_id]

    # Dispatch

    async def dispatch(self, job_id: str, meta: Mapping[str, str], token: str | None, payload: str | None) -> Document:
        """Start a run of a registered job; a token that was used before gives the run it started.

        Raises:
          EmbeddedError: In Nomad's words where Nomad would refuse too.
        """
        body = self._store.get("job", job_id)
        if body is None:
            raise NotFoundError("parameterized job not found")
        if body["Stop"]:
            raise EmbeddedError(f'Specified job "{job_id}" is stopped')
        job, notes = await self._spec(body)
        # From here to the end nothing is awaited: two dispatches with one token cannot both pass.
        _validate(job, meta, payload)
        if token and (found := self._store.by_token("run", job_id, token)):
            return _dispatched(found, "", [])
        run_id = f"{job_id}/dispatch-{int(time.time())}-{secrets.token_hex(4)}"
        index = self._touch()
        run = _Run(
            {
                **_view(job, {**job.meta, **meta}),
                "ID": run_id,
                "Name": run_id,
                "ParentID": job_id,
                "Dispatched": True,
                "DispatchIdempotencyToken": token or "",
                "Status": "pending",
                "Stop": False,
                "SubmitTime": time.time_ns(),
                "Version": 0,
                "CreateIndex": index,
                "ModifyIndex": index,
                "JobModifyIndex": index,
                "JobSummary": {},
            }
        )
        for group in job.group:
            for number in range(group.count):
                allocation_id = str(uuid.uuid4())
                run.allocations.append(
                    Allocation(
                        self._machine,
                        job,
                        group,
                        number,
                        alloc_id=allocation_id,
                        run_id=run_id,
                        meta=run.body["Meta"],
                        changed=lambda allocation_id=allocation_id: self._allocation_changed(run, allocation_id),
                    )
                )
        _summarise(run.body, ["Queued"] * len(run.allocations), finished=False)
        with self._store.together():
            self._store.put("run", run_id, run.body, parent=job_id, token=token or None)
            for allocation in run.allocations:
                self._put(run, allocation)
        self._runs[run_id] = run
        self._live.update({allocation.id: allocation for allocation in run.allocations})
        for allocation in run.allocations:
            self._start(self._run(run, allocation))
        return _dispatched(run.body, str(uuid.uuid4()), notes)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _run(self, run: _Run, allocation: Allocation) -> None:
        await allocation.run()
        if not all(each.terminal for each in run.allocations):
            return
        while not self._written(run):  # noqa: ASYNC110 - no event tells of free space
            # The disk is full. Until the outcome is safe, memory is what knows it.
            await asyncio.sleep(_RETRY_SECONDS)
        self._runs.pop(run.body["ID"], None)
        for each in run.allocations:
            self._live.pop(each.id, None)
        if run.purge:
            self._purge(run.body["ID"])

    def _written(self, run: _Run) -> bool:
        try:
            with self._store.together():
                for allocation in run.allocations:
                    self._put(run, allocation)
                self._store.put("run", run.body["ID"], run.body, unfinished=False)
        except StorageError:
            return False
        return True

    def _put(self, run: _Run, allocation: Allocation) -> Document:
        body = {
            **allocation.report(),
            "CreateIndex": run.body["CreateIndex"],
            "ModifyIndex": self.index,
            "AllocModifyIndex": self.index,
        }
        self._store.put("allocation", allocation.id, body, parent=run.body["ID"], unfinished=not allocation.terminal)
        return body

    def _allocation_changed(self, run: _Run, allocation_id: str) -> None:
        if self._closing:  # what changes now is the end of the supervisor, not of the run
            return
        allocation = self._live[allocation_id]
        before = run.body["JobSummary"], run.body["Status"]
        run.body["ModifyIndex"] = self._touch()
        finished = all(each.terminal for each in run.allocations)
        _summarise(run.body, [each.counted_as() for each in run.allocations], finished=finished)
        try:
            self._put(run, allocation)
            if before != (run.body["JobSummary"], run.body["Status"]):
                self._store.put("run", run.body["ID"], run.body, parent=run.body["ParentID"], unfinished=not finished)
        except StorageError as error:
            # The run goes on; what could not be written now is written with its next change.
            _log.error("run %s: %s", run.body["ID"], error)

    # Stopping

    def stop(self, job_id: str, *, purge: bool) -> Document:
        """Stop a run, or close a job for further dispatches; with `purge` also forget it.

        Raises:
          NotFoundError: There is no such job or run.
        """
        if run := self._runs.get(job_id):
            # As Nomad, for which a stop is a submission of the job with Stop set.
            run.body.update(Stop=True, SubmitTime=time.time_ns())
            run.purge = purge
            for allocation in run.allocations:
                allocation.stop()
            self._store.put("run", job_id, run.body, parent=run.body["ParentID"])
        elif self._store.get("run", job_id):
            if purge:
                self._purge(job_id)
        elif body := self._store.get("job", job_id):
            if purge:
                self._store.delete("job", job_id)
                self._specs.pop(job_id, None)
            else:
                self._store.put("job", job_id, {**body, "Stop": True, "Status": "dead", "ModifyIndex": self._touch()})
        else:
            raise NotFoundError("job not found")
        index = self._touch()
        return {"EvalID": "", "EvalCreateIndex": 0, "JobModifyIndex": index}

    def _purge(self, run_id: str) -> None:
        for body in list(self._store.all("allocation", parent=run_id)):
            self._store.delete("allocation", body["ID"])
            shutil.rmtree(self._machine.state / "allocs" / body["ID"], ignore_errors=True)
        self._store.delete("run", run_id)

    async def close(self) -> None:
        """End without finishing: what is under way is lost. The processes must have been told to end."""
        self._closing = True
        self._changed.set()
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        for run in self._runs.values():
            for allocation in run.allocations:
                if not allocation.terminal:
                    body = {**allocation.report(), "CreateIndex": run.body["CreateIndex"], "ModifyIndex": self.index}
                    _lose(body)
                    self._store.put("allocation", allocation.id, body, unfinished=False)
            states = [body["ClientStatus"] for body in self._store.all("allocation", parent=run.body["ID"])]
            _summarise(run.body, map(str.capitalize, states), finished=True)
            self._store.put("run", run.body["ID"], run.body, unfinished=False)

    # Views

    def job(self, job_id: str) -> Document:
        """A job or a run."""
        if run := self._runs.get(job_id):
            return run.body
        body = self._store.get("run", job_id) or self._store.get("job", job_id)
        if body is None:
            raise NotFoundError("job not found")
        return body

    def list(self, prefix: str, *, dead: bool = True) -> list[Document]:
        """Jobs and runs, as Nomad's list shows them, in the order of their ids; only what is not dead, if asked."""
        kinds = ("job", "run") if dead else ("job",)
        bodies = {body["ID"]: body for kind in kinds for body in self._store.all(kind)}
        bodies.update({run_id: run.body for run_id, run in self._runs.items()})
        return [
            _stub(body)
            for job_id, body in sorted(bodies.items())
            if job_id.startswith(prefix) and (dead or body["Status"] != "dead")
        ]

    def allocation(self, allocation_id: str) -> Document:
        """One allocation with its job."""
        body = self._store.get("allocation", allocation_id)
        if live := self._live.get(allocation_id):
            body = {**(body or {}), **live.report()}
        if body is None:
            raise NotFoundError("alloc not found")
        return {**body, "Job": self.job(body["JobID"])}

    def allocations(self, job_id: str | None = None, prefix: str = "") -> Iterable[Document]:
        """Allocations of a run, of all runs of a job, or all."""
        if job_id is not None:
            self.job(job_id)
        parents: list[str | None] = [None]
        if job_id is not None:
            parents = [job_id, *(body["ID"] for body in self._store.all("run", parent=job_id))]
        for parent in parents:
            for body in self._store.all("allocation", parent=parent):
                if body["ID"].startswith(prefix):
                    live = self._live.get(body["ID"])
                    yield {**body, **live.report()} if live else body

    def alive(self, allocation_id: str, task: str) -> bool:
        """Whether a task may still write output."""
        live = self._live.get(allocation_id)
        return (
            live is not None and not live.terminal and live.report()["TaskStates"].get(task, {}).get("State") != "dead"
        )


def _lose(body: Document) -> None:
    body.update(ClientStatus="lost", ClientDescription="The platform ended while it ran", ModifyTime=time.time_ns())
    for state in body["TaskStates"].values():
        if state["State"] != "dead":
            state["State"] = "dead"


def _summarise(body: Document, states: Iterable[str], *, finished: bool) -> None:
    """Count a run's allocations by the names that a JobSummary has, and tell its status from them."""
    names = ("Queued", "Starting", "Running", "Complete", "Failed", "Lost", "Unknown")
    counts: dict[str, int] = dict.fromkeys(names, 0)
    for state in states:
        counts[state] += 1
    begun = sum(counts.values()) > counts["Queued"] + counts["Starting"]
    body["Status"] = "dead" if finished else "running" if begun else "pending"
    group = body["TaskGroups"][0]["Name"] if len(body["TaskGroups"]) == 1 else "all"
    body["JobSummary"] = {"JobID": body["ID"], "Namespace": "default", "Summary": {group: counts}}


def _validate(job: Job, meta: Mapping[str, str], payload: str | None) -> None:
    if payload:
        if job.parameterized.payload == "forbidden":
            raise EmbeddedError("Payload provided but forbidden by parameterized job")
        raise EmbeddedError("a payload is not executed by the embedded engine; pass values by meta")
    known = {*job.parameterized.meta_required, *job.parameterized.meta_optional}
    if unpermitted := [key for key in meta if key not in known]:
        raise EmbeddedError(f"Dispatch request included unpermitted metadata keys: [{' '.join(unpermitted)}]")
    if missing := [key for key in job.parameterized.meta_required if key not in meta]:
        raise EmbeddedError(f"Dispatch did not provide required meta keys: [{' '.join(missing)}]")


def _dispatched(body: Document, evaluation: str, notes: list[str]) -> Document:
    index = body["CreateIndex"]
    return {
        "DispatchedJobID": body["ID"],
        "EvalID": evaluation,
        "EvalCreateIndex": index if evaluation else 0,
        "JobCreateIndex": index,
        "Index": index,
        "Warnings": "\n".join(notes),
    }


def _view(job: Job, meta: Mapping[str, str]) -> Document:
    return {
        "ID": job.id,
        "Name": job.name,
        "ParentID": "",
        "Namespace": "default",
        "Region": "global",
        "Datacenters": ["dc1"],
        "NodePool": "default",
        "Type": job.type,
        "Priority": 50,
        "Dispatched": False,
        "Meta": dict(meta),
        "ParameterizedJob": {
            "Payload": job.parameterized.payload,
            "MetaRequired": list(job.parameterized.meta_required),
            "MetaOptional": list(job.parameterized.meta_optional),
        },
        "StatusDescription": "",
        "TaskGroups": [_group_view(group) for group in job.group],
    }


def _group_view(group: Group) -> Document:
    return {
        "Name": group.name,
        "Count": group.count,
        "Meta": group.meta,
        "RestartPolicy": {
            "Attempts": group.restart.attempts,
            "Interval": int(group.restart.interval * 1e9),
            "Delay": int(group.restart.delay * 1e9),
            "Mode": group.restart.mode,
        },
        "Volumes": {
            volume.name: {"Name": volume.name, "Type": volume.type, "Source": volume.source} for volume in group.volume
        },
        "Tasks": [_task_view(task) for task in group.task],
    }


def _task_view(task: Task) -> Document:
    config = task.config.model_dump(exclude_none=True)
    return {
        "Name": task.name,
        "Driver": task.driver,
        "Config": {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()},
        "Env": task.env,
        "Meta": task.meta,
        "Leader": task.leader,
        "Lifecycle": {"Hook": task.lifecycle.hook, "Sidecar": False} if task.lifecycle else None,
        "Resources": {"CPU": task.resources.cpu, "MemoryMB": task.resources.memory},
        "KillTimeout": int(task.kill_timeout * 1e9),
        "KillSignal": task.kill_signal or ("SIGTERM" if isinstance(task.config, DockerConfig) else "SIGINT"),
        "VolumeMounts": [{"Volume": mount.volume, "Destination": mount.destination} for mount in task.volume_mount],
    }


def _stub(body: Document) -> Document:
    keys = (
        "ID",
        "ParentID",
        "Name",
        "Namespace",
        "Datacenters",
        "Type",
        "Priority",
        "Stop",
        "Status",
        "StatusDescription",
    )
    return {
        **{key: body[key] for key in keys},
        "Periodic": False,
        "ParameterizedJob": not body["Dispatched"],
        "JobSummary": body.get("JobSummary"),
        "CreateIndex": body["CreateIndex"],
        "ModifyIndex": body["ModifyIndex"],
        "JobModifyIndex": body["JobModifyIndex"],
        "SubmitTime": body["SubmitTime"],
        "Meta": body["Meta"],
    }
