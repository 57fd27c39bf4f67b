"""One workflow, run by Argo's rules: what starts when, how often, and what its end means.

Owns: the order of events: DAGs and steps, turns of loops, attempts, memoisation, deadlines, exit handlers.
Deliberately not: the rules of each (`dag`, `loops`, `retries`), values (`values`), the process of a step (`pods`), what
is remembered (`record`), requests (`workflows`, `api`).
"""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from definitions.argo.models import Arguments, Dag, Spec, Step, Template, json_text
from definitions.typed import parse
from mlops.engines.embedded.argo import dag, expressions, loops, priority, tags, values
from mlops.engines.embedded.argo.cache import Cache
from mlops.engines.embedded.argo.expressions import ExpressionError
from mlops.engines.embedded.argo.pods import Pods, StepEndError
from mlops.engines.embedded.argo.record import FAILED, Node, Record
from mlops.engines.embedded.argo.retries import Retries, duration
from mlops.engines.embedded.argo.values import Boundary, Values
from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.scheduler import Place

_CACHE_KEY = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]*")


class Execution:
    """A workflow that is being run.

    Args:
      record: Where what happens is written down.
      specs: Specs of the WorkflowTemplates by name, as they were when it was submitted.
      entry: Which of them it is.
      pods: That runs what is no DAG.
      cache: Of memoised results.
    """

    def __init__(self, record: Record, specs: Mapping[str, Spec], entry: str, pods: Pods, cache: Cache) -> None:
        self._record = record
        self._specs = specs
        self._entry = entry
        self._spec = specs[entry]
        self._pods = pods
        self._cache = cache
        self._arrival = pods.arrive()
        self._arguments, self._globals = self._prepare()
        self._slots = _slots(self._spec.parallelism)
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
        """Run it to its end. What happens stands in the record; nothing is raised but cancellation."""
        record = self._record
        record.begin()
        node = await self._guarded()
        phase = "Succeeded" if node["phase"] in ("Skipped", "Omitted") else node["phase"]
        message = self._why if phase in FAILED and self._why else node.get("message", "")
        if self._spec.on_exit and self._shutdown != "Terminate":
            end = await self._handler(phase)
            if end is not None and end["phase"] in FAILED and phase == "Succeeded":
                phase, message = end["phase"], f"the exit handler failed: {end.get('message', '')}"
        record.end(phase, message)

    async def _guarded(self) -> Node:
        """Run the entry template until it ends, its deadline passes, or a user stops the workflow."""
        record = self._record
        entrypoint = record.body["spec"].get("entrypoint") or self._spec.entrypoint
        call = self._template(record.name, self._entry, entrypoint, self._arguments, None)
        self._main = asyncio.ensure_future(call)
        seconds = self._spec.active_deadline_seconds
        done, _ = await asyncio.wait({self._main}, timeout=seconds or None)
        if not done:
            self._why = f"the workflow ran longer than its activeDeadlineSeconds ({seconds})"
            self._main.cancel()
        try:
            return await self._main
        except asyncio.CancelledError:
            if not self._why:
                raise
            for node in record.nodes.values():
                record.turn(node, "Failed", self._why)
            return record.nodes.get(record.name) or {"phase": "Failed", "message": self._why}

    async def _handler(self, phase: str) -> Node | None:
        """The exit handler's node; None if it was terminated."""
        failures = [
            {
                "displayName": node["displayName"],
                "message": node.get("message", ""),
                "templateName": node["templateName"],
                "phase": node["phase"],
                "podName": node["id"],
                "finishedAt": node["finishedAt"],
            }
            for node in self._record.nodes.values()
            if node["phase"] in FAILED
        ]
        # Argo quotes the list once more, so that it stays one text wherever it is put.
        self._globals |= {"workflow.status": phase, "workflow.failures": json.dumps(json.dumps(failures))}
        name = f"{self._record.name}.onExit"
        call = self._template(name, self._entry, self._spec.on_exit, self._arguments, None)
        self._exit = asyncio.ensure_future(call)
        try:
            return await self._exit
        except asyncio.CancelledError:
            if self._shutdown != "Terminate":
                raise
            return None

    def _prepare(self) -> tuple[Values, dict[str, Any]]:
        spec, body, metadata = self._spec, self._record.body, self._record.body["metadata"]
        submitted = parse(Arguments, body["spec"]["arguments"], "arguments")
        given = {parameter.name: parameter.value or "" for parameter in submitted.parameters}
        whose = f"parameter {{}} of {self._entry}"
        parameters = values.arguments(spec.arguments.parameters, given, whose) | given
        listed = [{"name": name, "value": value} for name, value in parameters.items()]
        known: dict[str, Any] = {
            "workflow.name": metadata["name"],
            "workflow.namespace": metadata["namespace"],
            "workflow.uid": metadata["uid"],
            "workflow.mainEntrypoint": spec.entrypoint,
            "workflow.serviceAccountName": spec.service_account_name or "default",
            "workflow.creationTimestamp": metadata["creationTimestamp"],
            "workflow.creationTimestamp.RFC3339": metadata["creationTimestamp"],
            "workflow.labels.json": json_text(metadata["labels"]),
            "workflow.annotations.json": "{}",
            "workflow.parameters": json_text(listed),
            "workflow.parameters.json": json_text(listed),
            **{f"workflow.labels.{name}": value for name, value in metadata["labels"].items()},
            **{f"workflow.parameters.{name}": value for name, value in parameters.items()},
        }
        artifacts = tags.fill([*spec.arguments.artifacts, *submitted.artifacts], known)
        return Values(parameters, {each.name: values.location_of(each) for each in artifacts}), known

    def _find(self, scope: str, name: str) -> Template:
        template = self._specs[scope].template(name) if scope in self._specs else None
        if template is None:
            raise EmbeddedError(f"there is no template {name} in {scope}")
        return template

    def _called(self, call: Step, scope: str) -> tuple[str, Template]:
        """What a call runs, and the WorkflowTemplate that it is in."""
        if call.template_ref:
            scope = call.template_ref.name
        return scope, self._find(scope, call.template_ref.template if call.template_ref else call.template)

    async def _template(
        self,
        name: str,
        scope: str,
        template_name: str,
        given: Values,
        boundary: Boundary | None,
        display: str = "",
        parent: str | None = None,
        after: int = 0,
    ) -> Node:
        """Run a template as a node; its failure is the node's phase, not an exception."""
        record = self._record
        above = boundary.node["id"] if boundary else None
        node: Node | None = None
        try:
            template = self._find(scope, template_name)
            node_type = "DAG" if template.dag else "Pod" if template.steps is None else "Steps"
            node = record.add(name, "Retry" if template.retry_strategy else node_type, template.name, above, parent)
            if display:
                node["displayName"] = display
            inputs = values.inputs(template, given, self._globals)
            node["inputs"] = inputs.shown()
            env = {**self._globals, "node.name": name, **inputs.env()}
            key = self._key(template, env)
            if key and self._remembered(node, node_type, template, key):
                return node
            async with AsyncExitStack() as stack:
                if boundary is not None and boundary.slots is not None:
                    await stack.enter_async_context(boundary.slots)
                if template.retry_strategy:
                    await self._retried(node, template, scope, inputs, env, node_type, after)
                else:
                    await self._attempt(node, template, scope, inputs, env, after)
            if template.memoize and node["phase"] == "Succeeded":
                cache = template.memoize.cache.config_map.name
                self._cache.save(cache, key, node.get("outputs") or {}, record.name, node["id"])
        except asyncio.CancelledError:
            if node is not None:
                record.turn(node, "Failed", self._why or "stopped")
            raise
        except EmbeddedError as error:
            if node is None:
                node = record.add(name, "Skipped", template_name, above, parent)
            record.turn(node, "Error", str(error))
        return node

    def _key(self, template: Template, env: Mapping[str, Any]) -> str:
        """By what a memoised result is found again; empty if the template is not memoised."""
        if template.memoize is None:
            return ""
        key = tags.fill(template.memoize.key, env)
        if not _CACHE_KEY.fullmatch(key):
            raise EmbeddedError(
                f"template {template.name}: invalid cache key: {key!r} (letters, digits and dashes; use a hash)"
            )
        return key

    def _remembered(self, node: Node, node_type: str, template: Template, key: str) -> bool:
        """Whether an earlier result has become the node's."""
        assert template.memoize, "it has a key"  # noqa: S101
        cache, age = template.memoize.cache.config_map.name, template.memoize.max_age
        entry = self._cache.load(cache, key, duration(age) if age else None)
        node["memoizationStatus"] = {"hit": entry is not None, "key": key, "cacheName": cache}
        if entry is None:
            return False
        node |= {"type": node_type, "outputs": entry["outputs"]}
        self._record.turn(node, "Succeeded", f"memoised: made by workflow {entry['workflow']}")
        return True

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
        record = self._record
        assert template.retry_strategy, "it is retried"  # noqa: S101
        retries = Retries(template.retry_strategy, env)
        record.turn(node, "Running")
        while True:
            number = retries.attempts
            name = f"{node['name']}({number})"
            child = record.add(name, node_type, template.name, node.get("boundaryID"), node["id"])
            child["displayName"] = f"{node['displayName']}({number})"
            started = time.monotonic()
            last = {f"lastRetry.{part}": value for part, value in retries.last.items()}
            try:
                await self._attempt(child, template, scope, inputs, {**env, "retries": str(number), **last}, after)
            except asyncio.CancelledError:
                record.turn(child, "Failed", self._why or "stopped")
                raise
            except EmbeddedError as error:
                record.turn(child, "Error", str(error))
            message = child.get("message", "")
            if child["phase"] not in FAILED:
                node["outputs"] = child.get("outputs")
                record.turn(node, "Succeeded", message)
                return
            code = str((child.get("outputs") or {}).get("exitCode", "-1"))
            refusal, pause = retries.after(child["phase"], code, message, time.monotonic() - started)
            if refusal:
                record.turn(node, child["phase"], f"{message} ({refusal})")
                return
            node["message"] = f"attempt {retries.attempts} failed, trying again in {pause:g} s: {message}"
            record.changed()
            await asyncio.sleep(pause)

    async def _attempt(
        self, node: Node, template: Template, scope: str, inputs: Values, env: dict[str, Any], after: int
    ) -> None:
        """One attempt of a template; the node has its phase afterwards."""
        record = self._record
        if template.dag or template.steps is not None:
            record.turn(node, "Running")
            artifacts = {f"inputs.artifacts.{name}": location for name, location in inputs.artifacts.items()}
            ways = priority.steps_after(self._specs, scope, template)
            inside = {name: after + own for name, own in ways.items()}
            kind = "tasks" if template.dag else "steps"
            boundary = Boundary(node, scope, dict(env), artifacts, kind, _slots(template.parallelism), inside)
            run = self._dag(boundary, template.dag) if template.dag else self._groups(boundary, template)
            phase, message = await run
            if phase == "Succeeded":
                node["outputs"] = boundary.outputs(template)
            record.turn(node, phase, message)
            return
        started = time.monotonic()

        def turn(phase: str, message: str = "") -> None:
            record.turn(node, phase, message)

        try:
            async with AsyncExitStack() as stack:
                if self._slots is not None:
                    await stack.enter_async_context(self._slots)
                place = Place(self._arrival, -after)
                outputs = await self._pods.run(record, node, template, inputs, env, turn, place)
        except StepEndError as end:
            node["outputs"] = end.outputs
            record.turn(node, end.phase, str(end))
            return
        finally:
            node.setdefault("usage", {}).setdefault("wallSeconds", round(time.monotonic() - started, 3))
        if not self._results:
            outputs.pop("result", None)
        node["outputs"] = outputs
        record.turn(node, "Succeeded")

    async def _dag(self, boundary: Boundary, graph: Dag) -> tuple[str, str]:
        """The tasks of a DAG: each as soon as it may; none, after a failure, unless the DAG says so."""
        tasks = {task.name: task for task in graph.tasks}
        waits = {name: dag.dependencies(task) for name, task in tasks.items()}
        done: dict[str, Node] = {}
        running: dict[asyncio.Task[Node], str] = {}
        try:
            while True:
                doomed = graph.fail_fast and dag.failure(graph, waits, done) is not None
                progressed = False
                for name, task in tasks.items():
                    if name in done or name in running.values() or not waits[name] <= set(done):
                        continue
                    full = f"{boundary.node['name']}.{name}"
                    if not dag.may_start(task, tasks, done, self._record.nodes):
                        reason = "omitted: depends condition not met"
                        done[name] = self._skipped(boundary, name, "Omitted", reason, full, None, task)
                        progressed = True
                    elif not doomed:
                        running[asyncio.ensure_future(self._call(boundary, task, full))] = name
                if progressed:
                    continue
                if not running:
                    break
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for each in ended:
                    done[running.pop(each)] = each.result()
        except BaseException:
            await _cancelled(running)
            raise
        failure = dag.failure(graph, waits, done)
        return (failure, dag.first_failure(done.values())) if failure else ("Succeeded", "")

    async def _groups(self, boundary: Boundary, template: Template) -> tuple[str, str]:
        """Steps: group after group, the steps of a group side by side."""
        record = self._record
        for index, group in enumerate(template.steps or ()):
            name = f"{boundary.node['name']}[{index}]"
            node = record.add(name, "StepGroup", template.name, boundary.node["id"])
            node["displayName"] = f"[{index}]"
            record.turn(node, "Running")
            calls = [self._call(boundary, step, f"{name}.{step.name}", node["id"]) for step in group]
            ended = await self._together(calls, node)
            failed = [
                child
                for step, child in zip(group, ended, strict=True)
                if child["phase"] in FAILED and not dag.continues(step, child)
            ]
            if failed:
                record.turn(node, "Failed", dag.first_failure(failed))
                return "Failed", dag.first_failure(failed)
            record.turn(node, "Succeeded")
        return "Succeeded", ""

    async def _together(self, calls: Iterable[Awaitable[Node]], group: Node) -> list[Node]:
        """Nodes side by side; if this is cancelled, they have ended before the group's node is."""
        running = [asyncio.ensure_future(call) for call in calls]
        try:
            return await asyncio.gather(*running)
        except BaseException:
            await _cancelled(running)
            self._record.turn(group, "Failed", self._why or "stopped")
            raise

    async def _call(self, boundary: Boundary, call: Step, name: str, parent: str | None = None) -> Node:
        """A task or a step, with its loop if it has one; what it gives is known to the others afterwards."""
        try:
            if call.when and not loops.in_turn(call.when) and not _holds(call.when, boundary.env):
                reason = f"when '{tags.fill(call.when, boundary.env, later=lambda _: True)}' evaluated false"
                return self._skipped(boundary, call.name, "Skipped", reason, name, parent, call)
            items = loops.items(call, boundary.env)
            if items is None:
                node = await self._turn(boundary, call, name, boundary.env, parent, call.name)
                boundary.tell(call.name, node)
                return node
            if not items:
                return self._skipped(boundary, call.name, "Skipped", "Skipped, empty params", name, parent, call)
        except EmbeddedError as error:
            return self._skipped(boundary, call.name, "Error", str(error), name, parent, call)
        group = self._record.add(name, "TaskGroup", call.template, boundary.node["id"], parent)
        group["displayName"] = call.name
        self._record.turn(group, "Running")
        turns = []
        for index, item in enumerate(items):
            env, label = {**boundary.env, **loops.env_of(item)}, loops.label(index, item)
            turns.append(self._turn(boundary, call, name + label, env, group["id"], call.name + label))
        nodes = await self._together(turns, group)
        failed = [node for node in nodes if node["phase"] in FAILED]
        self._record.turn(group, failed[-1]["phase"] if failed else "Succeeded", dag.first_failure(failed))
        boundary.tell_turns(call.name, group, nodes)
        return group

    async def _turn(
        self,
        boundary: Boundary,
        call: Step,
        name: str,
        env: dict[str, Any],
        parent: str | None,
        display: str,
    ) -> Node:
        """One turn of a loop, or what is called without one."""
        try:
            if call.when and loops.in_turn(call.when) and not _holds(call.when, env):
                reason = f"when '{tags.fill(call.when, env)}' evaluated false"
                return self._skipped(boundary, display, "Skipped", reason, name, parent, call)
            scope, template = self._called(call, boundary.scope)
            given = boundary.given_to(call, env, template)
        except EmbeddedError as error:
            return self._skipped(boundary, display, "Error", str(error), name, parent, call)
        after = boundary.after[call.name]
        return await self._template(name, scope, template.name, given, boundary, display, parent, after)

    def _skipped(
        self, boundary: Boundary, display: str, phase: str, reason: str, name: str, parent: str | None, call: Step
    ) -> Node:
        node = self._record.add(name, "Skipped", call.template, boundary.node["id"], parent)
        node["displayName"] = display
        self._record.turn(node, phase, reason)
        absent = None if phase == "Error" else self._called(call, boundary.scope)[1]
        boundary.tell(call.name, node, absent)
        return node


def _slots(parallelism: int | None) -> asyncio.Semaphore | None:
    return asyncio.Semaphore(parallelism) if parallelism else None


async def _cancelled(running: Iterable[asyncio.Future[Node]]) -> None:
    running = list(running)
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _holds(when: str, env: Mapping[str, Any]) -> bool:
    text = tags.fill(when, env)
    value = expressions.parse(text, bare_words=True).evaluate({})
    if isinstance(value, str) and value in ("true", "false"):
        return value == "true"
    if not isinstance(value, bool):
        raise ExpressionError(f"when '{text}' is neither true nor false")
    return value
