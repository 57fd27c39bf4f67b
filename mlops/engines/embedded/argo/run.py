"""One workflow, run by Argo's rules: what starts when, with which values, how often, and what its end means.

Owns: DAGs and steps, loops, conditions, retries, memoisation, deadlines, exit handlers, and the values that tags take.
Deliberately not: the process of a step (`step`), what is remembered (`workflow`), requests (`workflows`, `api`).
"""

import asyncio
import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from mlops.engines.embedded.argo import expressions, fields, order, tags
from mlops.engines.embedded.argo.artifacts import Location
from mlops.engines.embedded.argo.cache import Cache
from mlops.engines.embedded.argo.expressions import ExpressionError
from mlops.engines.embedded.argo.step import Outputs, StepEndError, Steps
from mlops.engines.embedded.argo.workflow import FAILED, Node, Workflow
from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.scheduler import Place

Spec = Mapping[str, Any]
Template = Mapping[str, Any]
_CACHE_KEY = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]*")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_SECONDS = re.compile(r"\d+(\.\d+)?")


@dataclass
class Values:
    """What a template is called with, or gives back."""

    parameters: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, Location] = field(default_factory=dict)


@dataclass
class _Boundary:
    """A DAG or steps node that runs, and what its children need of it."""

    node: Node
    scope: str
    env: dict[str, Any]
    artifacts: dict[str, Location]
    kind: str
    slots: asyncio.Semaphore | None
    after: Mapping[str, int]
    """By name of a child: the steps on the longest way from its end to the workflow's."""


class Execution:
    """A workflow that is being run.

    Args:
      workflow: Where what happens is written down.
      specs: Specs of the WorkflowTemplates by name, as they were when it was submitted.
      entry: Which of them it is.
      steps: That runs what is no DAG.
      cache: Of memoised results.
    """

    def __init__(self, workflow: Workflow, specs: Mapping[str, Spec], entry: str, steps: Steps, cache: Cache) -> None:
        self._workflow = workflow
        self._specs = specs
        self._entry = entry
        self._steps = steps
        self._cache = cache
        self._arrival = steps.arrive()
        spec = specs[entry]
        self._arguments, self._globals = self._prepare(spec)
        parallelism = spec.get("parallelism")
        self._slots = asyncio.Semaphore(int(parallelism)) if parallelism else None
        # What a step prints is kept only if anything asks for it.
        self._results = any(".outputs.result" in text for text in tags.texts(dict(specs)))
        self._shutdown: str | None = None
        self._why = ""
        self._main: asyncio.Task[Node] | None = None
        self._exit: asyncio.Task[Node] | None = None

    def stop(self, *, terminate: bool = False) -> None:
        """End it: with its exit handler, or at once."""
        self._shutdown = "Terminate" if terminate else self._shutdown or "Stop"
        self._why = f"Stopped with strategy '{self._shutdown}'"
        if self._main is not None:
            self._main.cancel()
        if terminate and self._exit is not None:
            self._exit.cancel()

    async def run(self) -> None:
        """Run it to its end. What happens stands in the workflow; nothing is raised but cancellation."""
        workflow, spec = self._workflow, self._specs[self._entry]
        workflow.begin()
        node = await self._guarded(spec)
        phase = "Succeeded" if node["phase"] in ("Skipped", "Omitted") else node["phase"]
        message = self._why if phase in FAILED and self._why else node.get("message", "")
        handler = spec.get("onExit")
        if handler and self._shutdown != "Terminate":
            failures = [
                {
                    "displayName": each["displayName"],
                    "message": each.get("message", ""),
                    "templateName": each["templateName"],
                    "phase": each["phase"],
                    "podName": each["id"],
                    "finishedAt": each["finishedAt"],
                }
                for each in workflow.nodes.values()
                if each["phase"] in FAILED
            ]
            # Argo quotes the list once more, so that it stays one text wherever it is put.
            said = json.dumps(json.dumps(failures))
            self._globals |= {"workflow.status": phase, "workflow.failures": said}
            call = self._template(f"{workflow.name}.onExit", self._entry, handler, self._arguments, None)
            self._exit = asyncio.ensure_future(call)
            try:
                end = await self._exit
            except asyncio.CancelledError:
                if self._shutdown != "Terminate":
                    raise
                end = None
            if end is not None and end["phase"] in FAILED and phase == "Succeeded":
                phase, message = end["phase"], f"the exit handler failed: {end.get('message', '')}"
        workflow.end(phase, message)

    async def _guarded(self, spec: Spec) -> Node:
        """The entry template, under the workflow's deadline and until somebody stops it."""
        workflow = self._workflow
        entrypoint = workflow.body["spec"].get("entrypoint") or spec.get("entrypoint")
        call = self._template(workflow.name, self._entry, entrypoint, self._arguments, None)
        self._main = asyncio.ensure_future(call)
        seconds = spec.get("activeDeadlineSeconds")
        done, _ = await asyncio.wait({self._main}, timeout=float(seconds) if seconds else None)
        if not done:
            self._why = f"the workflow ran longer than its activeDeadlineSeconds ({seconds})"
            self._main.cancel()
        try:
            return await self._main
        except asyncio.CancelledError:
            if not self._why:
                raise
            for node in workflow.nodes.values():
                workflow.turn(node, "Failed", self._why)
            return workflow.nodes.get(workflow.name) or {"phase": "Failed", "message": self._why}

    def _prepare(self, spec: Spec) -> tuple[Values, dict[str, Any]]:
        body = self._workflow.body
        declared = spec.get("arguments") or {}
        given = {one["name"]: one["value"] for one in body["spec"]["arguments"].get("parameters", ())}
        parameters: dict[str, str] = {}
        for one in declared.get("parameters", ()):
            value = given.pop(one["name"], one.get("value", one.get("default")))
            if value is None:
                raise EmbeddedError(f"parameter {one['name']} of {self._entry} was not given")
            _among(one, value)
            parameters[one["name"]] = tags.text_of(value)
        parameters |= {name: tags.text_of(value) for name, value in given.items()}
        metadata = body["metadata"]
        known: dict[str, Any] = {
            "workflow.name": metadata["name"],
            "workflow.namespace": metadata["namespace"],
            "workflow.uid": metadata["uid"],
            "workflow.mainEntrypoint": spec.get("entrypoint") or "",
            "workflow.serviceAccountName": spec.get("serviceAccountName") or "default",
            "workflow.creationTimestamp": metadata["creationTimestamp"],
            "workflow.creationTimestamp.RFC3339": metadata["creationTimestamp"],
            "workflow.labels.json": expressions.to_json(metadata["labels"]),
            "workflow.annotations.json": "{}",
            "workflow.parameters.json": expressions.to_json([{"name": n, "value": v} for n, v in parameters.items()]),
            **{f"workflow.labels.{name}": value for name, value in metadata["labels"].items()},
            **{f"workflow.parameters.{name}": value for name, value in parameters.items()},
        }
        known["workflow.parameters"] = known["workflow.parameters.json"]
        artifacts = {
            one["name"]: one
            for one in tags.fill(
                [*declared.get("artifacts", ()), *body["spec"]["arguments"].get("artifacts", ())], known
            )
        }
        return Values(parameters, {name: _location(one) for name, one in artifacts.items()}), known

    def _find(self, scope: str, name: str | None) -> Template:
        for template in self._specs.get(scope, {}).get("templates", ()):
            if template["name"] == name:
                return template
        raise EmbeddedError(f"there is no template {name} in {scope}")

    async def _template(
        self,
        name: str,
        scope: str,
        template_name: str | None,
        given: Values,
        boundary: _Boundary | None,
        display: str = "",
        parent: str | None = None,
        after: int = 0,
    ) -> Node:
        """Run a template as a node; its failure is the node's phase, not an exception."""
        workflow = self._workflow
        node: Node | None = None
        try:
            template = self._find(scope, template_name)
            kind = next(kind for kind in fields.KINDS_OF_TEMPLATE if kind in template)
            node_type = {"dag": "DAG", "steps": "Steps"}.get(kind, "Pod")
            retried = template.get("retryStrategy") is not None
            above = boundary.node["id"] if boundary else None
            node = workflow.add(name, "Retry" if retried else node_type, template["name"], above, parent)
            if display:
                node["displayName"] = display
            inputs = self._inputs(template, given)
            node["inputs"] = _shown(inputs)
            env = {**self._globals, "node.name": name, **_of_inputs(inputs)}
            memo = self._memo(template, env)
            if memo is not None:
                cache, key, age = memo
                node["memoizationStatus"] = {"hit": False, "key": key, "cacheName": cache}
                if (entry := self._cache.load(cache, key, age)) is not None:
                    node["memoizationStatus"]["hit"] = True
                    node["type"] = node_type
                    node["outputs"] = entry["outputs"]
                    workflow.turn(node, "Succeeded", f"memoised: made by workflow {entry['workflow']}")
                    return node
            async with AsyncExitStack() as stack:
                if boundary is not None and boundary.slots is not None:
                    await stack.enter_async_context(boundary.slots)
                if retried:
                    await self._retried(node, template, scope, inputs, env, node_type, after)
                else:
                    await self._attempt(node, template, scope, inputs, env, after)
            if memo is not None and node["phase"] == "Succeeded":
                self._cache.save(memo[0], memo[1], node.get("outputs") or {}, workflow.name, node["id"])
        except asyncio.CancelledError:
            if node is not None:
                workflow.turn(node, "Failed", self._why or "stopped")
            raise
        except EmbeddedError as error:
            if node is None:
                node = workflow.add(
                    name, "Skipped", template_name or "", boundary.node["id"] if boundary else None, parent
                )
            workflow.turn(node, "Error", str(error))
        return node

    def _inputs(self, template: Template, given: Values) -> Values:
        declared = template.get("inputs") or {}
        found = Values()
        for one in declared.get("parameters", ()):
            value = given.parameters.get(one["name"], one.get("value", one.get("default")))
            if value is None:
                raise EmbeddedError(f"template {template['name']}: input parameter {one['name']} was not given")
            value = tags.text_of(value)
            _among(one, value)
            found.parameters[one["name"]] = (
                tags.fill(value, self._globals) if one["name"] not in given.parameters else value
            )
        env = {**self._globals, **{f"inputs.parameters.{name}": value for name, value in found.parameters.items()}}
        for one in declared.get("artifacts", ()):
            location = given.artifacts.get(one["name"]) or _location(tags.fill(one, env, later=lambda _: True))
            if location:
                found.artifacts[one["name"]] = location
            elif not one.get("optional"):
                raise EmbeddedError(f"template {template['name']}: input artifact {one['name']} was not given")
        return found

    def _memo(self, template: Template, env: Mapping[str, Any]) -> tuple[str, str, float | None] | None:
        memoize = template.get("memoize")
        if not memoize:
            return None
        key = tags.fill(memoize["key"], env)
        if not _CACHE_KEY.fullmatch(key):
            raise EmbeddedError(
                f"template {template['name']}: invalid cache key: {key!r} (letters, digits and dashes; use a hash)"
            )
        age = memoize.get("maxAge")
        return memoize["cache"]["configMap"]["name"], key, duration(age) if age else None

    async def _retried(
        self,
        node: Node,
        template: Template,
        scope: str,
        inputs: Values,
        env: dict[str, Any],
        node_type: str,
        after: int,
    ) -> None:
        """Attempts of one template, by its retryStrategy."""
        workflow, strategy = self._workflow, template["retryStrategy"]
        limit = int(tags.fill(str(strategy["limit"]), env)) if strategy.get("limit") is not None else None
        backoff = strategy.get("backoff") or {}
        began = time.monotonic()
        workflow.turn(node, "Running")
        last = {"exitCode": "0", "status": "", "duration": "0", "message": ""}
        attempt = 0
        while True:
            child = workflow.add(
                f"{node['name']}({attempt})", node_type, template["name"], node.get("boundaryID"), node["id"]
            )
            child["displayName"] = f"{node['displayName']}({attempt})"
            started = time.monotonic()
            local = {**env, "retries": str(attempt), **{f"lastRetry.{name}": value for name, value in last.items()}}
            try:
                await self._attempt(child, template, scope, inputs, local, after)
            except asyncio.CancelledError:
                workflow.turn(child, "Failed", self._why or "stopped")
                raise
            except EmbeddedError as error:
                workflow.turn(child, "Error", str(error))
            attempt += 1
            if child["phase"] not in FAILED:
                node["outputs"] = child.get("outputs")
                workflow.turn(node, "Succeeded", child.get("message", ""))
                return
            last = {
                "exitCode": str((child.get("outputs") or {}).get("exitCode", "-1")),
                "status": child["phase"],
                "duration": str(int(time.monotonic() - started)),
                "message": child.get("message", ""),
            }
            reason = _no_retry(strategy, limit, attempt, child["phase"], last)
            delay = 0.0
            if not reason and backoff:
                delay = duration(backoff["duration"]) * int(backoff.get("factor") or 1) ** (attempt - 1)
                if "cap" in backoff:
                    delay = min(delay, duration(backoff["cap"]))
                if "maxDuration" in backoff and time.monotonic() - began + delay > duration(backoff["maxDuration"]):
                    reason = "Backoff would exceed max duration limit"
            if reason:
                workflow.turn(node, child["phase"], f"{child.get('message', '')} ({reason})")
                return
            node["message"] = f"attempt {attempt} failed, trying again in {delay:g} s: {child.get('message', '')}"
            workflow.changed()
            await asyncio.sleep(delay)

    async def _attempt(
        self, node: Node, template: Template, scope: str, inputs: Values, env: dict[str, Any], after: int
    ) -> None:
        """One attempt of a template; the node has its phase afterwards."""
        workflow = self._workflow
        if "dag" in template or "steps" in template:
            workflow.turn(node, "Running")
            slots = asyncio.Semaphore(int(template["parallelism"])) if template.get("parallelism") else None
            artifacts = {f"inputs.artifacts.{name}": location for name, location in inputs.artifacts.items()}
            kind = "tasks" if "dag" in template else "steps"
            inside = {name: after + own for name, own in order.after(self._specs, scope, template).items()}
            boundary = _Boundary(node, scope, dict(env), artifacts, kind, slots, inside)
            run = self._dag if "dag" in template else self._groups
            phase, message = await run(boundary, template)
            if phase == "Succeeded":
                node["outputs"] = _boundary_outputs(template, boundary)
            workflow.turn(node, phase, message)
            return
        started = time.monotonic()

        def turn(phase: str, message: str = "") -> None:
            workflow.turn(node, phase, message)

        try:
            async with AsyncExitStack() as stack:
                if self._slots is not None:
                    await stack.enter_async_context(self._slots)
                place = Place(self._arrival, -after)
                outputs: Outputs = await self._steps.run(workflow, node, template, inputs, env, turn, place)
        except StepEndError as end:
            node["outputs"] = end.outputs
            workflow.turn(node, end.phase, str(end))
            return
        finally:
            node.setdefault("usage", {}).setdefault("wallSeconds", round(time.monotonic() - started, 3))
        if not self._results:
            outputs.pop("result", None)
        node["outputs"] = outputs
        workflow.turn(node, "Succeeded")

    async def _dag(self, boundary: _Boundary, template: Template) -> tuple[str, str]:
        """A DAG by Argo's rules: omitted tasks inherit their parents' phase, and the leaves decide."""
        tasks = {task["name"]: task for task in template["dag"].get("tasks", ())}
        waits = {name: fields.dependencies(task) for name, task in tasks.items()}
        leaves = set(tasks) - set().union(*waits.values()) if tasks else set()
        fail_fast = template["dag"].get("failFast", True)
        done: dict[str, Node] = {}
        running: dict[asyncio.Task[Node], str] = {}
        try:
            while True:
                doomed = fail_fast and self._dag_failure(tasks, leaves, done, waits) is not None
                progressed = False
                for name, task in tasks.items():
                    if name in done or name in running.values() or not waits[name] <= set(done):
                        continue
                    if not _execute(task, waits[name], tasks, done, self._workflow.nodes):
                        done[name] = self._skipped(
                            boundary, name, "Omitted", "omitted: depends condition not met", template=task
                        )
                        progressed = True
                    elif not doomed:
                        running[
                            asyncio.ensure_future(self._call(boundary, task, f"{boundary.node['name']}.{name}"))
                        ] = name
                if progressed:
                    continue
                if not running:
                    break
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for each in ended:
                    done[running.pop(each)] = each.result()
        except BaseException:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            raise
        failure = self._dag_failure(tasks, leaves, done, waits)
        return (failure, _first_failure(done.values())) if failure else ("Succeeded", "")

    @staticmethod
    def _dag_failure(
        tasks: Mapping[str, Any], leaves: set[str], done: Mapping[str, Node], waits: Mapping[str, set[str]]
    ) -> str | None:
        phases: dict[str, str] = {}
        for leaf in sorted(leaves):
            phase = _branch(leaf, done, waits, phases)
            if phase in FAILED and not _continues(tasks[leaf], done.get(leaf)):
                return phase
        return None

    async def _groups(self, boundary: _Boundary, template: Template) -> tuple[str, str]:
        """Steps: group after group, the steps of a group side by side."""
        workflow = self._workflow
        for index, group in enumerate(template["steps"]):
            name = f"{boundary.node['name']}[{index}]"
            node = workflow.add(name, "StepGroup", template["name"], boundary.node["id"])
            node["displayName"] = f"[{index}]"
            workflow.turn(node, "Running")
            calls = [
                asyncio.ensure_future(self._call(boundary, step, f"{name}.{step['name']}", node["id"]))
                for step in group
            ]
            try:
                ended = await asyncio.gather(*calls)
            except BaseException:
                for each in calls:
                    each.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
                workflow.turn(node, "Failed", self._why or "stopped")
                raise
            if failed := [
                n for step, n in zip(group, ended, strict=True) if n["phase"] in FAILED and not _continues(step, n)
            ]:
                workflow.turn(node, "Failed", _first_failure(failed))
                return "Failed", _first_failure(failed)
            workflow.turn(node, "Succeeded")
        return "Succeeded", ""

    async def _call(self, boundary: _Boundary, call: Mapping[str, Any], name: str, parent: str | None = None) -> Node:
        """A task or a step, with its loop if it has one; what it gives is known to the others afterwards."""
        try:
            if "when" in call and not _loops_in(call["when"]) and not self._when(call["when"], boundary.env):
                reason = f"when '{tags.fill(call['when'], boundary.env, later=lambda _: True)}' evaluated false"
                return self._skipped(boundary, call["name"], "Skipped", reason, name, parent, call)
            items = _items(call, boundary.env)
            if items is None:
                node = await self._one(boundary, call, name, boundary.env, parent, display=call["name"])
                self._tell(boundary, call["name"], node)
                return node
            if not items:
                return self._skipped(boundary, call["name"], "Skipped", "Skipped, empty params", name, parent, call)
        except EmbeddedError as error:
            return self._skipped(boundary, call["name"], "Error", str(error), name, parent, call)
        group = self._workflow.add(name, "TaskGroup", call.get("template") or "", boundary.node["id"], parent)
        group["displayName"] = call["name"]
        self._workflow.turn(group, "Running")
        runs = []
        for index, item in enumerate(items):
            env = {**boundary.env, **_of_item(item)}
            label = f"({index}:{_label(item)})"
            runs.append(
                asyncio.ensure_future(self._one(boundary, call, name + label, env, group["id"], call["name"] + label))
            )
        try:
            nodes = await asyncio.gather(*runs)
        except BaseException:
            for each in runs:
                each.cancel()
            await asyncio.gather(*runs, return_exceptions=True)
            self._workflow.turn(group, "Failed", self._why or "stopped")
            raise
        failed = [node for node in nodes if node["phase"] in FAILED]
        self._workflow.turn(group, failed[-1]["phase"] if failed else "Succeeded", _first_failure(failed))
        self._tell_group(boundary, call["name"], group, nodes)
        return group

    async def _one(
        self,
        boundary: _Boundary,
        call: Mapping[str, Any],
        name: str,
        env: dict[str, Any],
        parent: str | None,
        display: str,
    ) -> Node:
        try:
            if "when" in call and _loops_in(call["when"]) and not self._when(call["when"], env):
                reason = f"when '{tags.fill(call['when'], env)}' evaluated false"
                return self._skipped(boundary, display, "Skipped", reason, name, parent, call)
            scope, template = boundary.scope, call.get("template")
            if reference := call.get("templateRef"):
                scope, template = reference["name"], reference["template"]
            given = self._given(call, env, boundary, self._find(scope, template))
        except EmbeddedError as error:
            return self._skipped(boundary, display, "Error", str(error), name, parent, call)
        after = boundary.after[call["name"]]
        return await self._template(name, scope, template, given, boundary, display, parent, after)

    def _given(self, call: Mapping[str, Any], env: dict[str, Any], boundary: _Boundary, template: Template) -> Values:
        arguments, given = call.get("arguments") or {}, Values()
        declared = {one["name"]: one for one in (template.get("inputs") or {}).get("parameters", ())}
        for one in arguments.get("parameters", ()):
            value = tags.text_of(one.get("value", ""))
            lone = re.fullmatch(r"\{\{([^=}]+)\}\}", value.strip())
            own = declared.get(one["name"], {})
            if (
                lone
                and lone[1].strip() in env
                and env[lone[1].strip()] is None
                and ("value" in own or "default" in own)
            ):
                continue  # a skipped task's output: the input's own default stands
            given.parameters[one["name"]] = tags.fill(value, env)
        for one in arguments.get("artifacts", ()):
            if "from" in one:
                source = re.fullmatch(r"\{\{=?\s*(.*?)\s*\}\}", one["from"])
                location = boundary.artifacts.get(source[1] if source else one["from"])
                if location is None and not one.get("optional"):
                    raise EmbeddedError(f"artifact {one['name']}: {one['from']} is not there")
            else:
                location = _location(tags.fill(one, env))
            if location:
                given.artifacts[one["name"]] = location
        return given

    def _when(self, when: str, env: dict[str, Any]) -> bool:
        text = tags.fill(when, env)
        value = expressions.parse(text, bare_words=True).evaluate({})
        if isinstance(value, str) and value in ("true", "false"):
            return value == "true"
        if not isinstance(value, bool):
            raise ExpressionError(f"when '{text}' is neither true nor false")
        return value

    def _skipped(
        self,
        boundary: _Boundary,
        display: str,
        phase: str,
        reason: str,
        name: str | None = None,
        parent: str | None = None,
        template: Mapping[str, Any] | None = None,
    ) -> Node:
        call = template or {}
        full = name or f"{boundary.node['name']}.{display}"
        node = self._workflow.add(full, "Skipped", call.get("template") or "", boundary.node["id"], parent)
        node["displayName"] = display
        self._workflow.turn(node, phase, reason)
        self._tell(boundary, call.get("name", display), node, call)
        return node

    def _tell(self, boundary: _Boundary, name: str, node: Node, call: Mapping[str, Any] | None = None) -> None:
        """Let the other tasks know how one ended, and what it gives."""
        prefix = f"{boundary.kind}.{name}"
        outputs = node.get("outputs") or {}
        env = boundary.env
        env |= {f"{prefix}.{part}": node[part] for part in ("id", "startedAt", "finishedAt")}
        env[f"{prefix}.status"] = node["phase"]
        if "exitCode" in outputs:
            env[f"{prefix}.exitCode"] = outputs["exitCode"]
        if "result" in outputs:
            env[f"{prefix}.outputs.result"] = outputs["result"]
        for one in outputs.get("parameters", ()):
            env[f"{prefix}.outputs.parameters.{one['name']}"] = one["value"]
        for one in outputs.get("artifacts", ()):
            boundary.artifacts[f"{prefix}.outputs.artifacts.{one['name']}"] = _location(one)
        if call and node["phase"] in ("Skipped", "Omitted"):
            # Absent, unless the template says what to take instead.
            reference = call.get("templateRef") or {"name": boundary.scope, "template": call.get("template")}
            template = self._find(reference["name"], reference["template"])
            env[f"{prefix}.outputs.result"] = None
            for one in (template.get("outputs") or {}).get("parameters", ()):
                env[f"{prefix}.outputs.parameters.{one['name']}"] = (one.get("valueFrom") or {}).get("default")

    def _tell_group(self, boundary: _Boundary, name: str, group: Node, nodes: Sequence[Node]) -> None:
        """What a loop gives: lists of what its turns gave."""
        self._tell(boundary, name, group)
        prefix = f"{boundary.kind}.{name}.outputs"
        outputs = [node.get("outputs") or {} for node in nodes]
        maps = [{one["name"]: one["value"] for one in each.get("parameters", ())} for each in outputs if each]
        if any(maps):
            boundary.env[f"{prefix}.parameters"] = expressions.to_json(maps)
            for key in {key for each in maps for key in each}:
                boundary.env[f"{prefix}.parameters.{key}"] = expressions.to_json(
                    [each[key] for each in maps if key in each]
                )
        if any("result" in each for each in outputs):
            boundary.env[f"{prefix}.result"] = expressions.to_json(
                [each["result"] for each in outputs if "result" in each]
            )


def _of_inputs(inputs: Values) -> dict[str, Any]:
    return {
        **{f"inputs.parameters.{name}": value for name, value in inputs.parameters.items()},
        "inputs.parameters": expressions.to_json([{"name": n, "value": v} for n, v in inputs.parameters.items()]),
    }


def _shown(values: Values) -> dict[str, Any]:
    return {
        "parameters": [{"name": name, "value": value} for name, value in values.parameters.items()],
        "artifacts": [{"name": name, **location} for name, location in values.artifacts.items()],
    }


def _location(artifact: Mapping[str, Any]) -> Location:
    return {key: artifact[key] for key in ("gcs", "raw") if artifact.get(key)}


def _among(declared: Mapping[str, Any], value: Any) -> None:
    if "enum" in declared and value not in declared["enum"]:
        raise EmbeddedError(
            f"parameter {declared['name']}: {value!r} is not one of {', '.join(map(str, declared['enum']))}"
        )


def _boundary_outputs(template: Template, boundary: _Boundary) -> dict[str, Any]:
    declared, outputs = template.get("outputs") or {}, {"parameters": [], "artifacts": []}
    for one in declared.get("parameters", ()):
        source = one.get("valueFrom") or {}
        try:
            if "expression" in source:
                # As in Argo, tags in an expression are filled before it is read.
                text = tags.fill(source["expression"], boundary.env)
                value = expressions.parse(text).evaluate(boundary.env)
                if value is None:
                    raise ExpressionError(f"{source['expression']!r} has no value")
            elif "parameter" in source:
                value = tags.fill(source["parameter"], boundary.env)
            else:
                value = tags.fill(one.get("value", ""), boundary.env)
        except ExpressionError as error:
            if "default" not in source:
                raise EmbeddedError(f"output parameter {one['name']}: {error}") from None
            value = source["default"]
        outputs["parameters"].append({"name": one["name"], "value": tags.text_of(value)})
    for one in declared.get("artifacts", ()):
        source = re.fullmatch(r"\{\{=?\s*(.*?)\s*\}\}", one.get("from", ""))
        location = boundary.artifacts.get(source[1]) if source else None
        if location:
            outputs["artifacts"].append({"name": one["name"], **location})
        elif not one.get("optional"):
            raise EmbeddedError(f"output artifact {one['name']}: {one.get('from')} is not there")
    return {key: value for key, value in outputs.items() if value}


def _no_retry(
    strategy: Mapping[str, Any], limit: int | None, attempts: int, phase: str, last: Mapping[str, str]
) -> str:
    """Why there is no further attempt; empty if there is."""
    policy = strategy.get("retryPolicy") or ("Always" if strategy.get("expression") else "OnFailure")
    if policy == ("OnError" if phase == "Failed" else "OnFailure"):
        return f"retryPolicy {policy}"
    if limit is not None and attempts > limit:
        return "No more retries left"
    if strategy.get("expression"):
        scope = {f"lastRetry.{name}": value for name, value in last.items()}
        if expressions.parse(strategy["expression"]).evaluate(scope) is not True:
            return "retryStrategy.expression evaluated to false"
    return ""


def _execute(
    task: Mapping[str, Any],
    waits: set[str],
    tasks: Mapping[str, Any],
    done: Mapping[str, Node],
    nodes: Mapping[str, Node],
) -> bool:
    """Whether a task's dependencies ended as it needs them."""

    def fine(name: str) -> bool:
        node = done[name]
        return node["phase"] in ("Succeeded", "Skipped") or _continues(tasks[name], node)

    if "depends" not in task or not task["depends"]:
        return all(fine(name) for name in waits)
    scope: dict[str, Any] = {}
    for name in waits:
        node, key = done[name], name.replace("-", "__dash__")
        inner = [nodes[child]["phase"] for child in node["children"]] if node["type"] == "TaskGroup" else []
        scope |= {
            key: fine(name),
            f"{key}.Succeeded": node["phase"] == "Succeeded",
            f"{key}.Failed": node["phase"] == "Failed",
            f"{key}.Errored": node["phase"] == "Error",
            f"{key}.Skipped": node["phase"] == "Skipped",
            f"{key}.Omitted": node["phase"] == "Omitted",
            f"{key}.Daemoned": False,
            f"{key}.AnySucceeded": "Succeeded" in inner,
            f"{key}.AllFailed": bool(inner) and all(phase == "Failed" for phase in inner),
        }
    return fields.depends(task).evaluate(scope) is True


def _continues(call: Mapping[str, Any], node: Node | None) -> bool:
    wanted = call.get("continueOn") or {}
    phase = node["phase"] if node else ""
    return bool((phase == "Failed" and wanted.get("failed")) or (phase == "Error" and wanted.get("error")))


def _branch(name: str, done: Mapping[str, Node], waits: Mapping[str, set[str]], known: dict[str, str]) -> str:
    """A task's phase; that of its parents, failures first, if it was skipped or omitted; empty while that is open."""
    if name not in known:
        node = done.get(name)
        if node is None:
            known[name] = ""
        elif node["phase"] in ("Succeeded", "Failed", "Error"):
            known[name] = node["phase"]
        else:
            above = [_branch(parent, done, waits, known) for parent in sorted(waits[name])]
            known[name] = next((phase for phase in above if phase in FAILED), "Succeeded")
    return known[name]


def _first_failure(nodes: Any) -> str:
    for node in sorted((n for n in nodes if n["phase"] in FAILED), key=lambda n: n["finishedAt"] or ""):
        return f"{node['displayName']}: {node.get('message', node['phase'])}"
    return ""


def _loops_in(text: str) -> bool:
    return any(name == "item" or name.startswith("item.") for name in tags.names(text))


def _items(call: Mapping[str, Any], env: Mapping[str, Any]) -> list[Any] | None:
    if "withItems" in call:
        return tags.fill(call["withItems"], env)
    if "withParam" in call:
        text = tags.fill(tags.text_of(call["withParam"]), env)
        try:
            items = json.loads(text)
        except ValueError:
            items = None
        if not isinstance(items, list):
            raise EmbeddedError(f"withParam value could not be parsed as a JSON list: {text[:200]}")
        return items
    if "withSequence" in call:
        sequence = {key: tags.fill(str(value), env) for key, value in call["withSequence"].items()}
        try:
            start = int(sequence.get("start", "0"))
            stop = start + int(sequence["count"]) - 1 if "count" in sequence else int(sequence["end"])
        except (KeyError, ValueError):
            raise EmbeddedError(f"withSequence needs whole numbers, has {sequence}") from None
        if "count" in sequence and int(sequence["count"]) < 1:
            return []
        numbers = range(start, stop + 1) if stop >= start else range(start, stop - 1, -1)
        return [sequence.get("format", "%d") % number for number in numbers]
    return None


def _of_item(item: Any) -> dict[str, Any]:
    if isinstance(item, dict):
        return {
            "item": expressions.to_json(item),
            **{f"item.{name}": tags.text_of(value) for name, value in item.items()},
        }
    return {"item": tags.text_of(item)}


def _label(item: Any) -> str:
    if isinstance(item, dict):
        return ",".join(f"{name}:{tags.text_of(value)}" for name, value in sorted(item.items()))
    return tags.text_of(item)


def duration(text: str | int) -> float:
    """Seconds of a duration as Argo writes it: 10, 10s, 2m, 1h30m.

    Raises:
      EmbeddedError: It is none.
    """
    text = str(text)
    if _SECONDS.fullmatch(text):
        return float(text)
    match = _DURATION.fullmatch(text)
    if not text or not match:
        raise EmbeddedError(f"{text!r} is not a duration like 10s, 2m or 1h30m")
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds or 0)
