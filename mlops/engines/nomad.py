"""Runs on Nomad, and on the embedded engine, which speaks the same API.

Transport is python-nomad. Two of its habits are set right here: it sends an idempotency token in the body, where Nomad
does not look (`parseIdempotencyToken` in Nomad's command/agent/http.go reads the query), and it does not verify TLS.
"""

import codecs
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import nomad
import requests
from nomad.api.exceptions import BaseNomadException

from mlops.engines.base import (
    EngineError,
    Execution,
    Run,
    Status,
    Step,
    refusal,
    total,
    unregistered,
    version_id,
    watch,
)

_REQUEST_SECONDS = 30
_CAUSES = frozenset(
    {
        "Disk Resources Exceeded",
        "Driver Failure",
        "Failed Artifact Download",
        "Failed Restoring Task",
        "Failed Validation",
        "Setup Failure",
        "Task hook failed",
        "Terminated",
    }
)
"""Events that say why an attempt of a task ended; those that follow tell only what Nomad then did."""
_WAIT = "2s"
"""How long a run's end may go unnoticed: the list of jobs does not change with an allocation's last tasks."""


class NomadEngine:
    """A Nomad API at `address`; token, CA and namespace come from Nomad's own environment variables."""

    def __init__(self, address: str) -> None:
        self._address = address
        # python-nomad hands `session` to every endpoint: one pool of connections for all.
        self._nomad = nomad.Nomad(
            address=address,
            timeout=_REQUEST_SECONDS,
            verify=_authority(),  # pyright: ignore[reportArgumentType] - it takes a path too
            session=requests.Session(),
        )

    def submit(self, pipeline: str, parameters: Mapping[str, str], token: str | None) -> str:
        """See Engine.submit."""
        try:
            return self._call(
                "post", pipeline, "dispatch", params={"idempotency_token": token}, json={"Meta": dict(parameters)}
            )["DispatchedJobID"]
        except EngineError as error:
            # Nomad answers 500 to both, as if it were its own trouble.
            if not re.search(r"parameterized job not found|Specified job .* is stopped", str(error)):
                raise
            jobs = self._call("get", endpoint=self._nomad.jobs)
            dispatchable = (job["ID"] for job in jobs if job.get("ParameterizedJob") and not job.get("Stop"))
            raise unregistered(pipeline, dispatchable, f"Nomad at {self._address}") from error

    def status(self, run_id: str) -> Run:
        """See Engine.status."""
        job = self._call("get", run_id)
        allocations = self._call("get", run_id, "allocations")
        parameters = job.get("Meta") or {}
        requested = {
            task["Name"]: task.get("Resources") or {}
            for group in job.get("TaskGroups") or []
            for task in group.get("Tasks") or []
        }
        stopped = bool(job.get("Stop"))
        executions = tuple(
            _execution(allocation, parameters, requested, stopped=stopped)
            for allocation in sorted(allocations, key=lambda a: a["Name"])
        )
        return Run(
            id=job["ID"],
            pipeline=job.get("ParentID") or job["ID"],
            status="stopped" if stopped and not executions else total(executions),
            parameters=parameters,
            created=_dispatched(job),
            executions=executions,
        )

    def runs(self) -> list[Run]:
        """See Engine.runs."""
        jobs = [job for job in self._call("get", endpoint=self._nomad.jobs, params={"meta": "true"}) if job["ParentID"]]
        jobs.sort(key=lambda job: job["CreateIndex"], reverse=True)
        return [
            Run(
                id=job["ID"],
                pipeline=job["ParentID"],
                status=_summarised(job),
                parameters=job.get("Meta") or {},
                created=_dispatched(job),
            )
            for job in jobs
        ]

    def logs(self, execution_id: str, step: str, stream: Literal["stdout", "stderr"], *, follow: bool) -> Iterator[str]:
        """See Engine.logs."""
        try:
            response = requests.get(
                f"{self._address}/v1/client/fs/logs/{quote(execution_id, safe='')}",
                params={"task": step, "type": stream, "plain": "true", "follow": str(follow).lower()},
                headers={"X-Nomad-Token": self._nomad.token} if self._nomad.token else {},
                verify=_authority(),
                stream=True,
                # A followed log is silent for as long as the task is.
                timeout=(_REQUEST_SECONDS, None if follow else _REQUEST_SECONDS),
            )
            if response.status_code == 404:  # the task never started, so it has no log
                return
            if not response.ok:
                raise refusal(response.status_code, response.text)
            yield from codecs.iterdecode(response.iter_content(chunk_size=None), "utf-8", errors="replace")
        except requests.RequestException as error:
            raise EngineError(self._unreachable(error)) from error

    def stop(self, run_id: str) -> None:
        """See Engine.stop."""
        self._call("delete", run_id)

    def wait(self, run_ids: Iterable[str]) -> Iterator[Run]:
        """See Engine.wait."""
        index: str | None = None

        def marks() -> dict[str, tuple[bool, object]]:
            nonlocal index
            # Of what has ended there may be thousands. Answered as soon as something is newer than the last answer.
            query = {"filter": 'Status != "dead"', "index": index, "wait": _WAIT}
            jobs, index = self._answer("get", endpoint=self._nomad.jobs, params=query)
            return {job["ID"]: (False, (job["ModifyIndex"], job.get("JobSummary"))) for job in jobs}

        return watch(self.status, marks, run_ids)

    def _call(self, method: str, *path: str, **more: Any) -> Any:
        return self._answer(method, *path, **more)[0]

    def _answer(
        self,
        method: str,
        *path: str,
        endpoint: Any = None,
        params: dict[str, str | None] | None = None,
        json: Any = None,
    ) -> tuple[Any, str | None]:
        """What Nomad says, and the index of the state that it says it of."""
        try:
            answer = (self._nomad.job if endpoint is None else endpoint).request(
                *(quote(part, safe="") for part in path), method=method, params=params, json=json
            )
            return answer.json(), answer.headers.get("X-Nomad-Index")
        except BaseNomadException as error:
            answer = error.nomad_resp
            if isinstance(answer, requests.Response):
                raise refusal(answer.status_code, answer.text) from error
            raise EngineError(self._unreachable(error)) from error
        except (requests.RequestException, ValueError) as error:
            raise EngineError(self._unreachable(error)) from error

    def _unreachable(self, error: Exception) -> str:
        return (
            f"Nomad at {self._address} does not answer ({type(error).__name__}), so nothing is known of the runs; "
            "start it, or check the address and NOMAD_CACERT or NOMAD_CAPATH"
        )


def _authority() -> str | bool:
    """The file of the CA that Nomad's certificate is checked by; True for those of the system."""
    # In a folder `requests` finds certificates only under the names that OpenSSL gives them.
    folder = os.environ.get("NOMAD_CAPATH")
    found = sorted(Path(folder).glob("*.pem")) if folder else []
    return os.environ.get("NOMAD_CACERT") or (str(found[0]) if found else True)


def _dispatched(job: Mapping[str, Any]) -> float:
    """When a run began, in seconds since 1970, from its id: SubmitTime becomes the time of its stop."""
    found = re.search(r"-(\d+)-[0-9a-f]{8}$", job["ID"])
    return float(found[1]) if found else job["SubmitTime"] / 1e9


def _summarised(job: Mapping[str, Any]) -> Status:
    """A run's status from its allocations' numbers alone, as `NomadEngine.status` tells it from the allocations."""
    counts: dict[str, int] = {}
    for group in ((job.get("JobSummary") or {}).get("Summary") or {}).values():
        for state, number in group.items():
            counts[state] = counts.get(state, 0) + number
    ended = sum(counts.get(state, 0) for state in ("Complete", "Failed", "Lost", "Unknown"))
    if job.get("Stop"):
        # Nomad calls it dead at once; it is over when its tasks have ended and cleared up.
        if counts.get("Running") or counts.get("Starting"):
            return "running"
        return "lost" if counts.get("Lost") or counts.get("Unknown") else "stopped"
    if job["Status"] != "dead":
        if counts.get("Running"):
            return "running"
        if counts.get("Unknown") and not (counts.get("Queued") or counts.get("Starting")):
            return "failed" if counts.get("Failed") else "lost"  # out of reach, as in `_execution`
        return "running" if ended else "pending"
    return "failed" if counts.get("Failed") else "lost" if counts.get("Lost") else "complete"


def _execution(
    allocation: Mapping[str, Any],
    parameters: Mapping[str, str],
    requested: Mapping[str, Mapping[str, Any]],
    *,
    stopped: bool,
) -> Execution:
    status = allocation["ClientStatus"]
    if status == "unknown":  # the node is out of reach, and `disconnect` keeps Nomad from replacing the allocation
        status = "lost"
    states = allocation.get("TaskStates") or {}
    if status in {"complete", "failed"}:
        # An allocation is called failed while its poststop task is still at work.
        unfinished = any(state["State"] != "dead" for state in states.values())
        status = "running" if unfinished else "stopped" if stopped else status
    elif status == "pending" and stopped:  # its poststop task has yet to run
        status = "running"
    usage = allocation.get("TaskUsage") or {}
    return Execution(
        id=allocation["ID"],
        status=status,
        steps=tuple(
            _step(name, states[name], requested.get(name) or {}, usage.get(name) or {})
            for name in [*(n for n in requested if n in states), *(n for n in states if n not in requested)]
        ),
        version_id=version_id(parameters["save_path"], parameters["model_version"], allocation["ID"])
        if {"save_path", "model_version"} <= parameters.keys()
        else None,
    )


def _step(name: str, state: Mapping[str, Any], requested: Mapping[str, Any], used: Mapping[str, Any]) -> Step:
    exit_code, message, cause, killed = None, "", "", False
    for event in state.get("Events") or []:
        message = event.get("DisplayMessage") or message
        if event["Type"] == "Killing" and event.get("FailsTask"):  # a template that cannot be rendered, for one
            cause, killed = message, True
        if killed:
            continue
        if event["Type"] in _CAUSES:
            cause, exit_code = message, None
        if event["Type"] == "Terminated":
            exit_code = event.get("ExitCode")
            if exit_code is None:
                exit_code = int((event.get("Details") or {}).get("exit_code", 0))
    failed = bool(state.get("Failed"))
    if failed or (state["State"] == "pending" and state.get("Restarts")):
        message = cause or message
    peak = used.get("PeakMemoryBytes")
    return Step(
        name=name,
        state=state["State"],
        failed=failed,
        restarts=state.get("Restarts") or 0,
        exit_code=exit_code,
        message=message,
        cpu_mhz=requested.get("CPU"),
        memory_mb=requested.get("MemoryMB"),
        peak_memory_mb=peak / 2**20 if peak is not None else None,
        cpu_seconds=used.get("CpuSeconds"),
        wall_seconds=used.get("WallSeconds", _between(state.get("StartedAt"), state.get("FinishedAt"))),
    )


def _between(start: str | None, end: str | None) -> float | None:
    """Seconds between two of Nomad's times, if both have come: Go's zero time is in the year 1."""
    if not (start and end):
        return None
    began, ended = datetime.fromisoformat(start), datetime.fromisoformat(end)
    return (ended - began).total_seconds() if began.year > 1 and ended.year > 1 else None
