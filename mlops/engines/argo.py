"""Runs on Argo Workflows through Argo Server's API, and on the embedded engine, which speaks the same.

Owns what a workflow's nodes mean as executions and steps. Deliberately registers nothing: the templates are there when
a run starts. A workflow is one execution; its uid ends the version id.
"""

import codecs
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

import requests

from mlops.engines.base import EngineError, Execution, RefusedError, Run, Status, Step, refusal, version_id, watch

PIPELINE_LABEL = "hybrid-mlops/pipeline"
_POD_NAMES = "workflows.argoproj.io/pod-name-format"
_FAILED = ("Failed", "Error")
_ENDED = ("Succeeded", *_FAILED, "Skipped", "Omitted")
_STOPPED = "Stopped with strategy"
_LOG = "main-logs"
"""What Argo calls the artifact that it keeps a pod's log as."""
_CAUSES = "causes"
"""Output parameter by which a step tells why others failed: JSON, {step: {"message", "exit_code"}}."""
_REQUEST_SECONDS = 30

Workflow = Mapping[str, Any]
Node = Mapping[str, Any]


class ArgoEngine:
    """An Argo Server.

    Args:
        address: Its base URL.
        namespace: Of the templates and the workflows.
        token: What `argo auth token` prints, or empty where nobody asks for one.
    """

    def __init__(self, address: str, namespace: str, token: str = "") -> None:
        self._address = address.rstrip("/")
        self._namespace = quote(namespace, safe="")
        self._workflows = f"{self._address}/api/v1/workflows/{self._namespace}"
        self._session = requests.Session()
        if token:
            self._session.headers["Authorization"] = token if " " in token else f"Bearer {token}"
        self._known: dict[str, Workflow] = {}

    def submit(self, pipeline: str, parameters: Mapping[str, str], token: str | None) -> str:
        """See Engine.submit."""
        metadata: dict[str, Any] = {"labels": {PIPELINE_LABEL: pipeline}}
        if token is None:
            metadata["generateName"] = f"{pipeline[:50]}-"
        else:
            # A name is used once, so the name is what makes a repeat start nothing.
            metadata["name"] = f"{pipeline[:50]}-{hashlib.sha256(f'{pipeline} {token}'.encode()).hexdigest()[:10]}"
        arguments = {"parameters": [{"name": name, "value": value} for name, value in parameters.items()]}
        spec = {"workflowTemplateRef": {"name": pipeline}, "arguments": arguments}
        answer = self._ask("post", "", json={"workflow": {"metadata": metadata, "spec": spec}}, taken=token is not None)
        return metadata["name"] if answer is None else answer["metadata"]["name"]

    def status(self, run_id: str) -> Run:
        """See Engine.status."""
        workflow = self._ask("get", f"/{quote(run_id, safe='')}")
        self._known[workflow["metadata"]["uid"]] = workflow
        return _run(workflow)

    def runs(self) -> list[Run]:
        """See Engine.runs."""
        # What makes a workflow large stays where it is; the embedded engine gives it all the same.
        fields = "items.metadata,items.spec,items.status.phase,items.status.message,items.status.conditions"
        items = self._ask("get", "", params={"fields": fields}).get("items") or []
        found = [_run(workflow, executions=False) for workflow in items if _pipeline(workflow)]
        return sorted(found, key=lambda run: (run.created, run.id), reverse=True)

    def logs(self, execution_id: str, step: str, stream: Literal["stdout", "stderr"], *, follow: bool) -> Iterator[str]:
        """See Engine.logs. Argo keeps one stream a pod: both are then given as stdout."""
        workflow = self._known.get(execution_id) or self._of_uid(execution_id)
        node = _steps(workflow).get(step)
        if node is None or node["type"] != "Pod":  # it never started, so it has no log
            return
        if node["phase"] in _ENDED and _archived(node):
            # The pod may be gone, and Argo Server then answers with nothing.
            if stream == "stdout":
                yield from self._archived(workflow, node)
            return
        parameters = {"podName": _pod(workflow, node), "logOptions.container": "main", "plain": "true"}
        parameters |= {"stream": stream, "logOptions.follow": str(follow).lower()}
        try:
            response = self._session.get(
                f"{self._workflows}/{quote(workflow['metadata']['name'], safe='')}/log",
                params=parameters,
                stream=True,
                # A followed log is silent for as long as the task is.
                timeout=(_REQUEST_SECONDS, None if follow else _REQUEST_SECONDS),
            )
            with response:
                if response.status_code == 404:
                    return
                if not response.ok:
                    raise _refusal(response)
                if response.headers.get("Content-Type", "").startswith("text/plain"):
                    yield from codecs.iterdecode(response.iter_content(chunk_size=None), "utf-8", errors="replace")
                elif stream == "stdout":
                    for line in response.iter_lines():
                        if line:
                            yield (json.loads(line).get("result") or {}).get("content", "") + "\n"
        except (requests.RequestException, ValueError) as error:
            raise EngineError(self._unreachable(error)) from error

    def _archived(self, workflow: Workflow, node: Node) -> Iterator[str]:
        """The log that Argo left in the artifact bucket."""
        name, identity = (quote(text, safe="") for text in (workflow["metadata"]["name"], node["id"]))
        path = f"{self._address}/artifacts/{self._namespace}/{name}/{identity}/{_LOG}"
        try:
            with self._session.get(path, stream=True, timeout=_REQUEST_SECONDS) as response:
                if not response.ok:
                    raise EngineError(
                        f"Argo Server cannot read the log of {node['displayName']} in the artifact bucket "
                        f"({_line(_said(response))}), and its pod may be gone; see what `argo-server` may read there"
                    )
                yield from codecs.iterdecode(response.iter_content(chunk_size=None), "utf-8", errors="replace")
        except requests.RequestException as error:
            raise EngineError(self._unreachable(error)) from error

    def stop(self, run_id: str) -> None:
        """See Engine.stop."""
        self._ask("put", f"/{quote(run_id, safe='')}/stop", json={})

    def wait(self, run_ids: Iterable[str]) -> Iterator[Run]:
        """See Engine.wait."""
        return watch(self.status, dict, run_ids)

    def _of_uid(self, uid: str) -> Workflow:
        for workflow in self._ask("get", "", params={"fields": "items.metadata"}).get("items") or []:
            if workflow["metadata"]["uid"] == uid:
                return self._ask("get", f"/{quote(workflow['metadata']['name'], safe='')}")
        raise RefusedError(f"there is no workflow with the uid {uid}; `mlops runs list` shows those there are")

    def _ask(
        self, method: str, path: str, *, params: dict[str, str] | None = None, json: Any = None, taken: bool = False
    ) -> Any:
        """The answer; with `taken` None where there is one of that name already."""
        try:
            response = self._session.request(
                method, self._workflows + path, params=params, json=json, timeout=_REQUEST_SECONDS
            )
            if response.status_code == 409 and taken:
                return None
            if not response.ok:
                raise _refusal(response)
            return response.json()
        except (requests.RequestException, ValueError) as error:
            raise EngineError(self._unreachable(error)) from error

    def _unreachable(self, error: Exception) -> str:
        return (
            f"Argo Server at {self._address} does not answer ({type(error).__name__}), so nothing is known of the "
            "runs; start it, or check ARGO_SERVER and ARGO_TOKEN"
        )


def _refusal(response: requests.Response) -> EngineError:
    return refusal(response.status_code, _said(response))


def _said(response: requests.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def _pipeline(workflow: Workflow) -> str:
    labels = workflow["metadata"].get("labels") or {}
    return labels.get(PIPELINE_LABEL) or (workflow["spec"].get("workflowTemplateRef") or {}).get("name", "")


def _run(workflow: Workflow, *, executions: bool = True) -> Run:
    metadata, status = workflow["metadata"], workflow.get("status") or {}
    parameters = _parameters(status.get("storedWorkflowTemplateSpec") or {}) | _parameters(workflow["spec"])
    phase = _status(workflow)
    version = None
    if {"model", "model_version"} <= parameters.keys():
        version = version_id(parameters["model"], parameters["model_version"], metadata["uid"])
    steps = tuple(_step(name, node, status.get("nodes") or {}) for name, node in _steps(workflow).items())
    return Run(
        id=metadata["name"],
        pipeline=_pipeline(workflow),
        status=phase,
        parameters=parameters,
        created=_time(metadata["creationTimestamp"]),
        executions=(Execution(metadata["uid"], phase, steps, version),) if executions else (),
        message=_line(status.get("message")),
        notes=tuple(one["message"] for one in status.get("conditions") or () if one.get("type") == "Ignored"),
    )


def _parameters(spec: Mapping[str, Any]) -> dict[str, str]:
    given = (spec.get("arguments") or {}).get("parameters") or ()
    return {one["name"]: str(one["value"]) for one in given if one.get("value") is not None}


def _status(workflow: Workflow) -> Status:
    status = workflow.get("status") or {}
    phase = status.get("phase") or "Pending"
    if phase not in _FAILED:
        return {"Pending": "pending", "Succeeded": "complete"}.get(phase, "running")  # pyright: ignore[reportReturnType]
    if any(one.get("type") == "Lost" for one in status.get("conditions") or ()):
        return "lost"
    return "stopped" if (status.get("message") or "").startswith(_STOPPED) else "failed"


def _steps(workflow: Workflow) -> Mapping[str, Node]:
    """The nodes that a person calls steps, by a name of their own, in the order in which they started.

    A step is a pod, of several attempts the last; what was memoised; and what failed before there was a pod.
    """
    nodes: Mapping[str, Node] = (workflow.get("status") or {}).get("nodes") or {}
    found: list[tuple[Node, Node]] = []
    attempts = {child for node in nodes.values() for child in _attempts(node)}
    for identity, node in nodes.items():
        if identity in attempts:
            continue
        tried = [nodes[child] for child in node.get("children") or () if child in nodes]
        if node["type"] == "Retry" and (not tried or tried[-1]["type"] == "Pod"):
            found.append((node, tried[-1] if tried else node))
        elif (
            node["type"] == "Pod"
            or (node.get("memoizationStatus") or {}).get("hit")
            or (node["phase"] in _FAILED and not tried)
        ):
            found.append((node, node))
    found.sort(key=lambda pair: pair[0].get("startedAt") or "")
    whole = workflow["metadata"]["name"]  # the only node is named as the workflow is: its template tells more
    names = [node["templateName"] if node["name"] == whole else node["displayName"] for node, _ in found]
    ended = (workflow.get("status") or {}).get("phase") in _ENDED
    causes = _causes(nodes.values())
    steps: dict[str, dict[str, Any]] = {}
    for name, (node, last) in zip(names, found, strict=True):
        # Two templates may each have a step of that name.
        unique = name if names.count(name) == 1 else node["name"].partition(".")[2] or node["name"]
        steps[unique] = {**last, "startedAt": node.get("startedAt"), **_state(node, last, ended=ended)}
        if steps[unique]["phase"] in _FAILED and name in causes:
            message, code = causes[name]
            steps[unique] |= {"message": message, "outputs": {**(last.get("outputs") or {}), "exitCode": code}}
    return steps


def _state(node: Node, last: Node, *, ended: bool) -> dict[str, str]:
    """Phase and message of a step: its last attempt's, unless there will be another one."""
    message = last.get("message") or node.get("message") or ""
    if not ended:
        if node is not last and last["phase"] in _FAILED and node["phase"] not in _ENDED:
            return {"phase": "Pending", "message": node.get("message") or message}
    elif last["phase"] not in _ENDED:
        # Argo leaves it as it was when the workflow was stopped.
        return {"phase": "Failed", "message": message or "it was ended with its workflow"}
    return {"phase": last["phase"], "message": message}


def _causes(nodes: Iterable[Node]) -> dict[str, tuple[str, Any]]:
    """What steps that look into others' ends tell of them: message and exit code."""
    found: dict[str, tuple[str, Any]] = {}
    for node in nodes:
        for one in (node.get("outputs") or {}).get("parameters") or ():
            if one["name"] != _CAUSES:
                continue
            try:
                told = json.loads(one.get("value") or "{}")
                found |= {step: (str(cause["message"]), cause.get("exit_code")) for step, cause in told.items()}
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # no cause is told; the step still says that it failed
    return found


def _archived(node: Node) -> bool:
    return any(one["name"] == _LOG for one in (node.get("outputs") or {}).get("artifacts") or ())


def _attempts(node: Node) -> list[str]:
    return list(node.get("children") or ()) if node["type"] == "Retry" else []


def _step(name: str, node: Node, nodes: Mapping[str, Node]) -> Step:
    phase = node["phase"]
    code = (node.get("outputs") or {}).get("exitCode")
    usage, requests_ = node.get("usage") or {}, node.get("requests") or {}
    wall = usage.get("wallSeconds")
    if wall is None and node.get("startedAt") and node.get("finishedAt"):
        wall = _time(node["finishedAt"]) - _time(node["startedAt"])
    peak = usage.get("peakMemoryBytes")
    retry = next((each for each in nodes.values() if node["id"] in _attempts(each)), None)
    return Step(
        name=name,
        state="pending" if phase == "Pending" else "dead" if phase in _ENDED else "running",
        failed=phase in _FAILED,
        restarts=len(_attempts(retry)) - 1 if retry else 0,
        exit_code=int(code) if code not in (None, "") else None,
        message=_line(node.get("message")),
        cpu_mhz=requests_.get("cpu"),
        memory_mb=requests_.get("memory"),
        peak_memory_mb=peak / 2**20 if peak is not None else None,
        cpu_seconds=usage.get("cpuSeconds"),
        wall_seconds=wall,
    )


def _pod(workflow: Workflow, node: Node) -> str:
    """The name of a node's pod: the node's id, or as Argo composes it where the workflow says so."""
    metadata = workflow["metadata"]
    if (metadata.get("annotations") or {}).get(_POD_NAMES) != "v2" or node["name"] == metadata["name"]:
        return node["id"]
    template = (node.get("templateRef") or {}).get("template") or node.get("templateName", "")
    return f"{metadata['name']}-{template}"[:242] + f"-{node['id'].rpartition('-')[2]}"


def _time(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
